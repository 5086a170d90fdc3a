#include <algorithm>
#include <array>

#include "efnet/tables/ipp_choice.h"

// IppPool with blocks: a subscriber's ports come out of blocks of its own, which are opened one after the other and
// closed when they are empty.

namespace efnet {

std::uint32_t IppPool::subscriber(std::uint64_t key, std::uint64_t hash) const noexcept {
  return subscriber_index_.find(subscriber_index_.place(hash),
                                [&](std::uint32_t number) { return subscribers_[number].key == key; });
}

// What acquire_from_blocks() will touch, as far as it can be told before the requests that come first: each of the
// three lines is named in the one before.
void IppPool::prefetch_blocks(std::span<const IppRequest> requests, std::span<const std::uint64_t> hashes,
                              std::span<const std::uint64_t> random_numbers) noexcept {
  std::array<std::uint32_t, 32> numbers;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    numbers[i] = subscriber_index_.first_candidate(subscriber_index_.place(hashes[i]));
    if (numbers[i] != none) __builtin_prefetch(&subscribers_[numbers[i]]);
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (numbers[i] == none) continue;
    numbers[i] = subscribers_[numbers[i]].first;
    if (numbers[i] != none) __builtin_prefetch(&blocks_[numbers[i]], 1);
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const int index = protocol_index(requests[i].protocol);
    std::uint32_t block = numbers[i];
    if (index < 0) continue;
    while (block != none && (blocks_[block].full >> index & 1) != 0) block = blocks_[block].next;
    if (block == none) continue;
    const Set& ports = set(block / blocks_per_address_, static_cast<unsigned>(index));
    const std::uint32_t first = block % blocks_per_address_ * options_.block_size;
    const std::uint32_t place = guess(random_numbers[i], requests[i].parity, first, first + options_.block_size - 1);
    __builtin_prefetch(&ports);
    ports.free.prefetch();
    ports.free.prefetch(place);
    __builtin_prefetch(&ports.taken[place / 64], 1);
  }
}

std::uint32_t IppPool::enter(std::uint64_t key, std::uint64_t hash) noexcept {
  const std::uint32_t number = free_subscriber_;
  if (number == none || !subscriber_index_.insert(subscriber_index_.place(hash), number)) return none;
  free_subscriber_ = subscribers_[number].next_free;
  subscribers_[number] = {key, none, 0, none};
  return number;
}

void IppPool::leave(std::uint32_t number) noexcept {
  subscriber_index_.erase(subscriber_index_.place(hash_(std::array{subscribers_[number].key})), number);
  subscribers_[number].next_free = free_subscriber_;
  free_subscriber_ = number;
}

bool IppPool::try_block(std::uint32_t block, const IppRequest& request, unsigned protocol, std::uint64_t epoch,
                        std::uint64_t random_number, IppAcquired& result) noexcept {
  const std::uint32_t address = block / blocks_per_address_;
  refresh(address, protocol, epoch);
  BlockRecord& record = blocks_[block];
  if ((record.full >> protocol & 1) != 0) return false;
  const std::uint32_t first = block % blocks_per_address_ * options_.block_size;
  const std::uint32_t place =
      pick(set(address, protocol), request, first, first + options_.block_size - 1, random_number);
  if (place == PortSet::none) {
    record.full = static_cast<std::uint8_t>(record.full | 1U << protocol);
    return false;
  }
  ++record.lent;
  lend(address, protocol, place, result);
  return true;
}

void IppPool::acquire_from_blocks(const IppRequest& request, std::uint64_t hash, std::uint32_t preferred,
                                  std::uint64_t epoch, std::uint64_t random_number, IppAcquired& result) noexcept {
  const int index = protocol_index(request.protocol);
  result = {index < 0 ? IppStatus::unknown : IppStatus::exhausted, {}, false};
  if (index < 0) return;
  const auto protocol = static_cast<unsigned>(index);
  std::uint32_t number = subscriber(request.subscriber, hash);
  if (number != none) {
    for (std::uint32_t block = subscribers_[number].first; block != none; block = blocks_[block].next)
      if (try_block(block, request, protocol, epoch, random_number, result)) return;
    if (subscribers_[number].blocks >= options_.blocks_each) {
      result.status = IppStatus::limited;
      return;
    }
    preferred = subscribers_[number].first / blocks_per_address_;
  }
  // A new block: of the same address if that has one, at random within an address. Blocks whose ports all rest, or are
  // none of the pool's, are passed over.
  const bool fresh = number == none;
  if (fresh) number = enter(request.subscriber, hash);
  if (number == none) return;
  for (std::uint32_t turn = 0, address = preferred; turn < address_count_; ++turn) {
    const auto start = static_cast<std::uint32_t>((random() >> 32) * blocks_per_address_ >> 32);
    const bool lendable = (lendable_[address / 64] >> address % 64 & 1) != 0;
    for (std::uint32_t i = 0; lendable && i < blocks_per_address_; ++i) {
      const std::uint32_t block = address * blocks_per_address_ + (start + i) % blocks_per_address_;
      if (blocks_[block].owner != none || blocks_[block].lent != 0) continue;
      if (!try_block(block, request, protocol, epoch, random_number, result)) continue;
      give_block(block, number);
      result.opened_block = true;
      return;
    }
    address = address + 1 == address_count_ ? 0 : address + 1;
  }
  if (fresh) leave(number);
}

void IppPool::give_block(std::uint32_t block, std::uint32_t number) noexcept {
  Subscriber& owner = subscribers_[number];
  blocks_[block].owner = number;
  blocks_[block].next = owner.first;
  owner.first = block;
  ++owner.blocks;
}

IppAcquired IppPool::take_for(std::uint64_t key, const IppBinding& binding, Time now) noexcept {
  IppAcquired result;
  const std::uint32_t address = number_of(binding.address);
  if (blocks_per_address_ == 0 || address == none) {
    if (take(binding, now)) result = {IppStatus::acquired, binding, false};
    return result;
  }
  const std::uint32_t block = address * blocks_per_address_ + binding.port / options_.block_size;
  const std::uint64_t hash = hash_(std::array{key});
  std::uint32_t number = subscriber(key, hash);
  const bool opens = blocks_[block].owner == none;
  if (!opens && blocks_[block].owner != number) return result;
  if (opens && number != none && subscribers_[number].blocks >= options_.blocks_each) {
    result.status = IppStatus::limited;
    return result;
  }
  if (opens && (blocks_[block].lent != 0 || (lendable_[address / 64] >> address % 64 & 1) == 0)) return result;
  if (!take(binding, now)) return result;
  if (opens) {
    if (number == none) number = enter(key, hash);
    if (number == none) {
      undo(binding);
      return result;
    }
    give_block(block, number);
  }
  return {IppStatus::acquired, binding, opens};
}

bool IppPool::close_block_if_empty(std::uint32_t block) noexcept {
  BlockRecord& record = blocks_[block];
  if (record.lent != 0 || record.owner == none) return false;
  Subscriber& owner = subscribers_[record.owner];
  std::uint32_t* link = &owner.first;
  while (*link != block) link = &blocks_[*link].next;
  *link = record.next;
  if (--owner.blocks == 0) leave(record.owner);
  record.owner = none;
  return true;
}

std::vector<IppPool::Block> IppPool::blocks_of(std::uint64_t key) const {
  std::vector<Block> all;
  if (blocks_per_address_ == 0) return all;
  const std::uint32_t number = subscriber(key, hash_(std::array{key}));
  if (number == none) return all;
  for (std::uint32_t block = subscribers_[number].first; block != none; block = blocks_[block].next) {
    const std::uint32_t first = block % blocks_per_address_ * options_.block_size;
    all.push_back({address_of(block / blocks_per_address_),
                   {static_cast<std::uint16_t>(first), static_cast<std::uint16_t>(first + options_.block_size - 1)},
                   blocks_[block].lent});
  }
  return all;
}

}  // namespace efnet
