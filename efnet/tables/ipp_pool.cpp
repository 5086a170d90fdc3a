#include "efnet/tables/ipp_pool.h"

#include <algorithm>
#include <bit>

#include "efio/fail.h"

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
}

// ---- Lending ----

// A place in [low, high] out of the low 16 bits of `number`; its lowest bit is the parity, where none is wished.
[[gnu::always_inline]] inline std::uint32_t IppPool::guess(std::uint64_t number, PortParity parity, std::uint32_t low,
                                                           std::uint32_t high) noexcept {
  const std::uint32_t half = parity == PortParity::any ? number & 1 : parity == PortParity::odd ? 1 : 0;
  const std::uint32_t size = (high - low + 1) / 2;
  return half * PortSet::half_size + low / 2 + static_cast<std::uint32_t>((number & 0xFFFF) * size >> 16);
}

// `place` where it is free, else the first free one of four more guesses at its 63 neighbours in [begin, end), out of
// the upper bits of `number`; `place` where none is. One cache line, and no branch: which one it is cannot be foretold.
[[gnu::always_inline]] inline std::uint32_t IppPool::guess_near(const PortSet& free, std::uint32_t place,
                                                                std::uint32_t begin, std::uint32_t end,
                                                                std::uint64_t number) noexcept {
  const std::uint32_t base = place & ~63U;
  std::uint64_t word = free.word(place / 64);
  if (base < begin) word &= ~std::uint64_t{0} << begin % 64;
  if (base + 64 > end) word &= ~(~std::uint64_t{0} << end % 64);
  std::uint32_t found = place % 64;
  for (unsigned shift = 40; shift >= 22; shift -= 6) {
    const auto other = static_cast<std::uint32_t>(number >> shift & 63);
    const auto taken = static_cast<std::uint32_t>(word >> found & 1) - 1;  // all ones, or 0 where `found` is free
    found = (found & ~taken) | (other & taken);
  }
  return base + ((word >> found & 1) != 0 ? found : place % 64);
}

// The first free place of one parity from `offset` on among `size` that begin at port `low`, and round.
std::uint32_t IppPool::search(const PortSet& free, unsigned half, std::uint32_t low, std::uint32_t size,
                              std::uint32_t offset) noexcept {
  const std::uint32_t begin = half * PortSet::half_size + low / 2;
  return free.free(half) == 0 ? PortSet::none : free.next_round(begin + offset % size, begin, begin + size);
}

std::uint32_t IppPool::pick_next(const Set& ports, PortParity parity, std::uint32_t low, std::uint32_t high) noexcept {
  const std::uint32_t size = (high - low + 1) / 2;
  const std::uint32_t from = ports.cursor >= low && ports.cursor <= high ? ports.cursor : low;
  const std::uint32_t offset = (from - low) / 2;
  const unsigned odd = from & 1;
  const std::uint32_t same = search(ports.free, odd, low, size, offset);
  const std::uint32_t other = search(ports.free, odd ^ 1, low, size, offset + odd);
  if (same == PortSet::none || other == PortSet::none) return same == PortSet::none ? other : same;
  if (parity != PortParity::any) return (parity == PortParity::odd) == (odd == 1) ? same : other;
  const auto distance = [&](std::uint32_t place) { return (PortSet::port(place) - from) & 0xFFFF; };
  return distance(same) <= distance(other) ? same : other;
}

// A free place of [first_port, last_port], whose ends are an even and an odd port; none where there is none.
[[gnu::always_inline]] inline std::uint32_t IppPool::pick(const Set& ports, const IppRequest& request,
                                                          std::uint32_t first_port, std::uint32_t last_port,
                                                          std::uint64_t number) noexcept {
  const std::uint32_t low = std::max<std::uint32_t>(first_port, ports.low & ~1U);
  const std::uint32_t high = std::min<std::uint32_t>(last_port, ports.high | 1U);
  if (ports.free.free() == 0 || low > high) return PortSet::none;
  if (request.port >= low && request.port <= high && request.port != 0) {
    const std::uint32_t wished = PortSet::place(request.port);
    if (ports.free.is_free(wished)) return wished;
  }
  if (options_.sequential) return pick_next(ports, request.parity, low, high);

  // A few guesses first: the search alone would favour ports that come after a gap. In a set that is nearly full they
  // are in vain.
  const std::uint32_t size = (high - low + 1) / 2;  // of one parity
  const std::uint32_t place = guess(number, request.parity, low, high);
  const unsigned half = place / PortSet::half_size;
  const std::uint32_t begin = half * PortSet::half_size + low / 2;
  const bool roomy = ports.free.free(half) >= size / 8;
  const std::uint32_t near = roomy ? guess_near(ports.free, place, begin, begin + size, number) : place;
  if (ports.free.is_free(near)) return near;
  const std::uint32_t found = search(ports.free, half, low, size, place - begin);
  return found != PortSet::none ? found : search(ports.free, half ^ 1, low, size, place - begin);
}

// Into `result`, field by field: put together in a register, it would be read from memory before it has got there.
[[gnu::always_inline]] inline void IppPool::lend(std::uint32_t address, unsigned protocol, std::uint32_t place,
                                                 IppAcquired& result) noexcept {
  Set& ports = set(address, protocol);
  ports.free.remove(place);
  ports.taken[place / 64] |= std::uint64_t{1} << place % 64;
  ++ports.lent;
  const std::uint16_t port = PortSet::port(place);
  ports.cursor = std::uint32_t{port} + 1;
  result.status = IppStatus::acquired;
  result.binding.address = address_of(address);
  result.binding.port = port;
  result.binding.protocol = options_.protocols[protocol];
  result.opened_block = false;
}

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
      prefetch_blocks({requests.data() + done, these}, hashes);
      for (std::size_t i = 0; i < these; ++i)
        acquire_from_blocks(requests[done + i], hashes[i], preferred[i], at, results[done + i]);
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

// ---- Blocks ----

std::uint32_t IppPool::subscriber(std::uint64_t key, std::uint64_t hash) const noexcept {
  return subscriber_index_.find(subscriber_index_.place(hash),
                                [&](std::uint32_t number) { return subscribers_[number].key == key; });
}

// What acquire_from_blocks() will touch, as far as it can be told before the requests that come first: each of the
// three lines is named in the one before.
void IppPool::prefetch_blocks(std::span<const IppRequest> requests, std::span<const std::uint64_t> hashes) noexcept {
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
    if (numbers[i] == none) continue;
    const std::uint32_t address = numbers[i] / blocks_per_address_;
    const Set& ports = set(address, protocol_or_0(requests[i].protocol));
    const std::uint32_t first = numbers[i] % blocks_per_address_ * options_.block_size / 2;
    __builtin_prefetch(&ports);
    ports.free.prefetch();
    for (std::uint32_t half = 0; half < 2; ++half) {
      const std::uint32_t place = half * PortSet::half_size + first;
      ports.free.prefetch(place);
      __builtin_prefetch(&ports.taken[place / 64], 1);
    }
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
                        IppAcquired& result) noexcept {
  const std::uint32_t address = block / blocks_per_address_;
  refresh(address, protocol, epoch);
  const std::uint32_t first = block % blocks_per_address_ * options_.block_size;
  const std::uint32_t place =
      pick(set(address, protocol), request, first, first + options_.block_size - 1, options_.sequential ? 0 : random());
  if (place == PortSet::none) return false;
  ++blocks_[block].lent;
  lend(address, protocol, place, result);
  return true;
}

void IppPool::acquire_from_blocks(const IppRequest& request, std::uint64_t hash, std::uint32_t preferred,
                                  std::uint64_t epoch, IppAcquired& result) noexcept {
  const int index = protocol_index(request.protocol);
  result = {index < 0 ? IppStatus::unknown : IppStatus::exhausted, {}, false};
  if (index < 0) return;
  const auto protocol = static_cast<unsigned>(index);
  std::uint32_t number = subscriber(request.subscriber, hash);
  if (number != none) {
    for (std::uint32_t block = subscribers_[number].first; block != none; block = blocks_[block].next)
      if (try_block(block, request, protocol, epoch, result)) return;
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
      if (!try_block(block, request, protocol, epoch, result)) continue;
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
