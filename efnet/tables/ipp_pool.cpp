#include "efnet/tables/ipp_pool.h"

#include <algorithm>
#include <bit>

#include "efio/fail.h"
#include "efnet/tables/ipp_choice.h"

namespace efnet {

efio::Result<IppPool> IppPool::create(IppOptions options) {
  constexpr std::uint64_t most_addresses = std::uint64_t{1} << 20;
  const auto usage = [](std::string_view why) {
    return efio::fail(efio::Error::Kind::usage, "create a pool of addresses and ports", "{}", why);
  };
  if (options.ranges.empty()) return usage("no addresses");
  if (options.protocols.empty() || options.protocols.size() > 8) return usage("no protocol, or more than 8");
  for (std::size_t i = 0; i < options.protocols.size(); ++i)
    if (std::ranges::count(options.protocols, options.protocols[i]) != 1) return usage("a protocol is named twice");
  for (const IppRange& range : options.ranges)
    if (range.addresses.last < range.addresses.first || range.ports.last < range.ports.first)
      return usage("a range ends before it begins");
  if (options.block_size != 0 &&
      (!std::has_single_bit(options.block_size) || options.block_size < 64 || options.block_size > 32'768 ||
       options.blocks_each == 0 || options.subscribers == 0 || options.subscribers >= none))
    return usage("blocks are a power of two of ports, 64 to 32,768, and a subscriber may have one at least");
  if (options.hold_down < Time::zero()) return usage("a negative hold-down");

  IppPool pool;
  // Runs of addresses that do not overlap, in order.
  std::vector<Ipv4Range> runs;
  for (const IppRange& range : options.ranges) runs.push_back(range.addresses);
  std::ranges::sort(runs, {}, &Ipv4Range::first);
  std::uint64_t count = 0;
  for (const Ipv4Range& run : runs) {
    if (!pool.spans_.empty() && run.first <= pool.spans_.back().last) {
      if (pool.spans_.back().last < run.last) {
        count += pool.spans_.back().last.count_to(run.last) - 1;
        pool.spans_.back().last = run.last;
      }
    } else {
      if (count > most_addresses) break;
      pool.spans_.push_back({run.first, run.last, static_cast<std::uint32_t>(count)});
      count += run.size();
    }
  }
  if (count > most_addresses) return usage("more than 2^20 addresses");
  pool.address_count_ = static_cast<std::uint32_t>(count);
  pool.protocols_ = static_cast<unsigned>(options.protocols.size());
  pool.index_of_.fill(-1);
  for (std::size_t i = 0; i < options.protocols.size(); ++i)
    pool.index_of_[static_cast<std::size_t>(options.protocols[i])] = static_cast<std::int8_t>(i);
  pool.open_words_ = (count + 63) / 64;
  pool.open_.resize(pool.open_words_ * pool.protocols_);
  pool.lendable_.assign(pool.open_words_, ~std::uint64_t{0});
  if (count % 64 != 0) pool.lendable_.back() = (std::uint64_t{1} << count % 64) - 1;
  for (const IppRange& range : options.ranges)
    for (std::uint64_t i = 0; range.reserved && i < range.addresses.size(); ++i) {
      const std::uint32_t address = pool.number_of(range.addresses.at(i));
      pool.lendable_[address / 64] &= ~(std::uint64_t{1} << address % 64);
    }
  if (!options.seed) {
    auto seed = HashSeed::random();
    if (!seed) return std::unexpected(std::move(seed.error()));
    options.seed = *seed;
  }
  pool.hash_ = KeyedHash(*options.seed);
  HashSeed other = *options.seed;
  std::ranges::rotate(other.words, other.words.begin() + 5);
  pool.random_hash_ = KeyedHash(other);

  const std::size_t set_count = pool.address_count_ * std::size_t{pool.protocols_};
  auto sets = TableArray<Set>::create(set_count);
  if (!sets) return std::unexpected(std::move(sets.error()));
  pool.sets_ = std::move(*sets);
  if (options.hold_down > Time::zero()) {
    auto held = TableArray<Held>::create(set_count * held_sets);
    if (!held) return std::unexpected(std::move(held.error()));
    pool.held_ = std::move(*held);
  }
  for (const IppRange& range : options.ranges)
    for (std::uint64_t i = 0; i < range.addresses.size(); ++i) {
      const std::uint32_t address = pool.number_of(range.addresses.at(i));
      for (unsigned protocol = 0; protocol < pool.protocols_; ++protocol)
        pool.offer(pool.set(address, protocol), range.ports);
    }

  if (options.block_size != 0) {
    pool.blocks_per_address_ = 65'536 / options.block_size;
    auto blocks = TableArray<BlockRecord>::create(pool.address_count_ * std::size_t{pool.blocks_per_address_});
    if (!blocks) return std::unexpected(std::move(blocks.error()));
    auto subscribers = TableArray<Subscriber>::create(options.subscribers);
    if (!subscribers) return std::unexpected(std::move(subscribers.error()));
    auto index = TagIndex::create(options.subscribers);
    if (!index) return std::unexpected(std::move(index.error()));
    pool.blocks_ = std::move(*blocks);
    pool.subscribers_ = std::move(*subscribers);
    pool.subscriber_index_ = std::move(*index);
    for (BlockRecord& block : pool.blocks_) block.owner = none;
    for (std::size_t i = options.subscribers; i-- > 0;) {
      pool.subscribers_[i].next_free = pool.free_subscriber_;
      pool.free_subscriber_ = static_cast<std::uint32_t>(i);
    }
  }
  pool.options_ = std::move(options);
  return pool;
}

void IppPool::offer(Set& ports, PortRange range) noexcept {
  const bool first = ports.free.free() == 0;
  ports.low = first ? range.first : std::min(ports.low, range.first);
  ports.high = first ? range.last : std::max(ports.high, range.last);
  for (std::uint32_t port = range.first; port <= range.last; ++port) ports.free.add(PortSet::place(port));
}

// ---- Numbers ----

std::uint32_t IppPool::number_of(Ipv4Address address) const noexcept {
  for (const Span& span : spans_)
    if (span.first <= address && address <= span.last) return span.number + address.number() - span.first.number();
  return none;
}

Ipv4Address IppPool::address_of(std::uint32_t number) const noexcept {
  const Span* found = spans_.data();
  for (const Span& span : spans_)
    if (span.number <= number) found = &span;
  return found->first.advanced(number - found->number);
}

// Numbers that nobody can guess who saw the ones before: a counter under two keyed hashes, with AES eight rounds of it.
std::uint64_t IppPool::random() noexcept {
  if (random_left_ == 0) {
    for (std::uint64_t& number : random_) number = random_count_++;
    hash_.batch<1>(random_.data(), random_.size(), random_.data());
    random_hash_.batch<1>(random_.data(), random_.size(), random_.data());
    random_left_ = random_.size();
  }
  return random_[--random_left_];
}

// ---- Hold-down ----

// A port given back in an epoch is free once `ages` more epochs have passed entirely.
std::uint64_t IppPool::epoch(Time now) const noexcept {
  if (options_.hold_down == Time::zero()) return 0;
  const auto length = std::max<Time::rep>((options_.hold_down.count() + ages - 1) / ages, 1);
  return static_cast<std::uint64_t>(now.count()) / static_cast<std::uint64_t>(length);
}

void IppPool::free_held(std::uint32_t address, unsigned protocol, std::uint64_t epoch) noexcept {
  Set& ports = set(address, protocol);
  const std::size_t number = address * std::size_t{protocols_} + protocol;
  // Of the epochs that are over by now; the lists are used in turn, so no more than all of them matter.
  const std::uint64_t steps = std::min<std::uint64_t>(epoch - ports.epoch, held_sets);
  for (std::uint64_t step = 0; step < steps; ++step) {
    Held& held = held_[number * held_sets + (epoch - step) % held_sets];
    for (std::uint32_t i = 0; i < held.size(); ++i) ports.free.add_word(i, std::exchange(held[i], 0));
  }
  ports.epoch = epoch;
  for (std::uint32_t block = 0; block < blocks_per_address_; ++block)
    unmark_full(address * blocks_per_address_ + block, protocol);
}

// ---- Lending ----

void IppPool::acquire(std::span<const IppRequest> requests, Time now, std::span<IppAcquired> results) noexcept {
  constexpr std::size_t chunk = 32;
  const std::size_t count = std::min(requests.size(), results.size());
  const std::uint64_t at = epoch(now);
  for (std::size_t done = 0; done < count; done += chunk) {
    const std::size_t these = std::min(chunk, count - done);
    std::array<std::uint64_t, chunk> hashes;
    std::array<std::uint32_t, chunk> preferred;
    std::array<std::uint64_t, chunk> numbers;
    for (std::size_t i = 0; i < these; ++i) hashes[i] = requests[done + i].subscriber;
    hash_.batch<1>(hashes.data(), these, hashes.data());
    // The lines that are wanted first: of a set's summary, then of a port in it.
    for (std::size_t i = 0; i < these; ++i) {
      preferred[i] = static_cast<std::uint32_t>((hashes[i] >> 32) * address_count_ >> 32);
      if (blocks_per_address_ != 0) {
        subscriber_index_.prefetch(subscriber_index_.place(hashes[i]));
        numbers[i] = options_.sequential ? 0 : random();
        continue;
      }
      const Set& ports = sets_[preferred[i] * protocols_ + protocol_or_0(requests[done + i].protocol)];
      __builtin_prefetch(&ports);
      ports.free.prefetch();
      numbers[i] = options_.sequential ? 0 : random();
    }
    for (std::size_t i = 0; i < these && blocks_per_address_ == 0; ++i) {
      const IppRequest& request = requests[done + i];
      const Set& ports = sets_[preferred[i] * protocols_ + protocol_or_0(request.protocol)];
      const std::uint32_t place = options_.sequential
                                      ? PortSet::place(ports.cursor & 0xFFFF)
                                      : guess(numbers[i], request.parity, ports.low & ~1U, ports.high | 1U);
      ports.free.prefetch(place);
      __builtin_prefetch(&ports.taken[place / 64], 1);
    }
    if (blocks_per_address_ != 0) {
      prefetch_blocks({requests.data() + done, these}, hashes, numbers);
      for (std::size_t i = 0; i < these; ++i)
        acquire_from_blocks(requests[done + i], hashes[i], preferred[i], at, numbers[i], results[done + i]);
    } else {
      for (std::size_t i = 0; i < these; ++i)
        acquire_one(requests[done + i], preferred[i], at, numbers[i], results[done + i]);
    }
  }
}

void IppPool::acquire_one(const IppRequest& request, std::uint32_t preferred, std::uint64_t epoch, std::uint64_t number,
                          IppAcquired& result) noexcept {
  const int index = protocol_index(request.protocol);
  if (index < 0) {
    result = {IppStatus::unknown, {}, false};
    return;
  }
  const auto protocol = static_cast<unsigned>(index);
  const std::span open(&open_[protocol * open_words_], open_words_);
  if (open_epoch_[protocol] != epoch + 1) {
    open_epoch_[protocol] = epoch + 1;
    std::ranges::copy(lendable_, open.begin());
  }
  for (std::uint32_t address = preferred;;) {
    if ((open[address / 64] >> address % 64 & 1) == 0) address = next_open(protocol, address);
    if (address == none) {
      result = {};
      return;
    }
    refresh(address, protocol, epoch);
    const std::uint32_t place = pick(set(address, protocol), request, 0, 65'535, number);
    if (place != PortSet::none) return lend(address, protocol, place, result);
    open[address / 64] &= ~(std::uint64_t{1} << address % 64);
  }
}

// The first open address from `from` on, and round; none where there is none.
std::uint32_t IppPool::next_open(unsigned protocol, std::uint32_t from) const noexcept {
  const std::span open(&open_[protocol * open_words_], open_words_);
  std::uint64_t bits = open[from / 64] & ~std::uint64_t{0} << from % 64;
  for (std::size_t turn = 0, word = from / 64; turn <= open_words_; ++turn) {
    if (bits != 0) return static_cast<std::uint32_t>(word * 64 + static_cast<unsigned>(std::countr_zero(bits)));
    word = word + 1 == open_words_ ? 0 : word + 1;
    bits = open[word];
  }
  return none;
}

bool IppPool::take(const IppBinding& binding, Time now) noexcept {
  const int index = protocol_index(binding.protocol);
  const std::uint32_t address = number_of(binding.address);
  if (index < 0 || address == none) return false;
  const auto protocol = static_cast<unsigned>(index);
  refresh(address, protocol, epoch(now));
  const std::uint32_t place = PortSet::place(binding.port);
  if (!set(address, protocol).free.is_free(place)) return false;
  IppAcquired lent;
  lend_outside_blocks(address, protocol, place, lent);
  return true;
}

IppAcquired IppPool::acquire_from(Ipv4Address from, PortRange ports, const IppRequest& request, Time now) noexcept {
  IppAcquired result;
  const int index = protocol_index(request.protocol);
  const std::uint32_t address = number_of(from);
  if (index < 0) result.status = IppStatus::unknown;
  if (index < 0 || address == none) return result;
  const auto protocol = static_cast<unsigned>(index);
  refresh(address, protocol, epoch(now));
  const std::uint32_t place =
      pick(set(address, protocol), request, ports.first, ports.last, options_.sequential ? 0 : random());
  if (place != PortSet::none) lend_outside_blocks(address, protocol, place, result);
  return result;
}

void IppPool::lend_outside_blocks(std::uint32_t address, unsigned protocol, std::uint32_t place,
                                  IppAcquired& result) noexcept {
  lend(address, protocol, place, result);
  if (blocks_per_address_ != 0)
    ++blocks_[address * blocks_per_address_ + PortSet::port(place) / options_.block_size].lent;
}

template <bool rests>
[[gnu::always_inline]] inline IppReleased IppPool::release_one(const IppBinding& binding, std::uint32_t address,
                                                               std::uint64_t at) noexcept {
  const int index = protocol_index(binding.protocol);
  if (index < 0 || address == none) return {};
  const auto protocol = static_cast<unsigned>(index);
  Set& ports = set(address, protocol);
  const std::uint32_t place = PortSet::place(binding.port);
  const std::uint64_t bit = std::uint64_t{1} << place % 64;
  if ((ports.taken[place / 64] & bit) == 0) return {};
  ports.taken[place / 64] &= ~bit;
  --ports.lent;
  if (!rests || held_.size() == 0) {
    ports.free.add(place);
    open_[protocol * open_words_ + address / 64] |= lendable_[address / 64] & std::uint64_t{1} << address % 64;
  } else {
    refresh(address, protocol, at);
    const std::size_t number = address * std::size_t{protocols_} + protocol;
    held_[number * held_sets + std::max(at, ports.epoch) % held_sets][place / 64] |= bit;
  }
  IppReleased result{true, false};
  if (blocks_per_address_ != 0) {
    const std::uint32_t block = address * blocks_per_address_ + binding.port / options_.block_size;
    --blocks_[block].lent;
    unmark_full(block, protocol);
    result.closed_block = close_block_if_empty(block);
  }
  return result;
}

void IppPool::release(std::span<const IppBinding> bindings, Time now, std::span<IppReleased> results) noexcept {
  constexpr std::size_t chunk = 32;
  const std::size_t count = std::min(bindings.size(), results.size());
  const std::uint64_t at = epoch(now);
  for (std::size_t done = 0; done < count; done += chunk) {
    const std::size_t these = std::min(chunk, count - done);
    std::array<std::uint32_t, chunk> addresses;
    for (std::size_t i = 0; i < these; ++i) {
      const IppBinding& binding = bindings[done + i];
      addresses[i] = number_of(binding.address);
      if (addresses[i] == none) continue;
      const Set& ports = set(addresses[i], protocol_or_0(binding.protocol));
      const std::uint32_t place = PortSet::place(binding.port);
      __builtin_prefetch(&ports.taken[place / 64], 1);
      if (held_.size() == 0) ports.free.prefetch(place);
    }
    for (std::size_t i = 0; i < these; ++i) results[done + i] = release_one<true>(bindings[done + i], addresses[i], at);
  }
}

IppReleased IppPool::undo(const IppBinding& binding) noexcept {
  return release_one<false>(binding, number_of(binding.address), 0);
}

// ---- Reports ----

bool IppPool::contains(Ipv4Address address) const noexcept { return number_of(address) != none; }

std::size_t IppPool::lent(IpProtocol protocol) const noexcept {
  const int index = protocol_index(protocol);
  std::size_t count = 0;
  for (std::uint32_t address = 0; index >= 0 && address < address_count_; ++address)
    count += sets_[address * protocols_ + static_cast<unsigned>(index)].lent;
  return count;
}

std::size_t IppPool::free(IpProtocol protocol, Time now) noexcept {
  const int index = protocol_index(protocol);
  std::size_t count = 0;
  for (std::uint32_t address = 0; index >= 0 && address < address_count_; ++address) {
    refresh(address, static_cast<unsigned>(index), epoch(now));
    count += set(address, static_cast<unsigned>(index)).free.free();
  }
  return count;
}

}  // namespace efnet
