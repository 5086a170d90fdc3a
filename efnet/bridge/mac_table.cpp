#include "efnet/bridge/mac_table.h"

#include <algorithm>
#include <bit>

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)  // which takes a vector's load for one of a plain array
#include <immintrin.h>
#define EFNET_MAC_TABLE_AVX2
#endif

#include "efio/fail.h"

namespace efnet {

namespace {

std::uint64_t load(const std::uint64_t& word) noexcept { return __atomic_load_n(&word, __ATOMIC_ACQUIRE); }
void store(std::uint64_t& word, std::uint64_t value) noexcept { __atomic_store_n(&word, value, __ATOMIC_RELEASE); }
bool exchange(std::uint64_t& word, std::uint64_t from, std::uint64_t to) noexcept {
  return __atomic_compare_exchange_n(&word, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

constexpr std::size_t words_a_line = 8, ways_a_line = 4;

// Where the keys are in their first lines: the word's number among all of the table's. The number of a line's fifth word
// says that it is not there. Each word of a vector is read at once, by all processors that have these instructions.
using Locate = void (*)(const std::uint64_t* words, const std::uint64_t* keys, const std::uint32_t* lines, std::size_t n,
                        std::uint32_t* found) noexcept;

void locate_baseline(const std::uint64_t* words, const std::uint64_t* keys, const std::uint32_t* lines, std::size_t n,
                     std::uint32_t* found) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t first = lines[i] * words_a_line;
    unsigned match = 1U << ways_a_line;
#pragma GCC unroll 4
    for (unsigned way = 0; way < ways_a_line; ++way) match |= static_cast<unsigned>(load(words[first + way]) == keys[i]) << way;
    found[i] = first + static_cast<unsigned>(std::countr_zero(match));
  }
}

#if defined(EFNET_MAC_TABLE_AVX2)
[[gnu::target("avx2,bmi")]] void locate_avx2(const std::uint64_t* words, const std::uint64_t* keys, const std::uint32_t* lines,
                                             std::size_t n, std::uint32_t* found) noexcept {
#pragma GCC unroll 4
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t first = lines[i] * words_a_line;
    const __m256i held = _mm256_load_si256(reinterpret_cast<const __m256i*>(words + first));
    const __m256i wanted = _mm256_set1_epi64x(static_cast<long long>(keys[i]));
    const auto match = static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(held, wanted))));
    found[i] = first + _tzcnt_u32(match | 1U << ways_a_line);
  }
}
#endif

Locate choose_locate() noexcept {
#if defined(EFNET_MAC_TABLE_AVX2)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi")) return locate_avx2;
#endif
  return locate_baseline;
}

const Locate locate = choose_locate();

}  // namespace

efio::Result<MacTable> MacTable::create(const MacTableOptions& options) {
  constexpr std::size_t most = std::size_t{1} << 26;
  if (options.capacity == 0 || options.capacity > most)
    return efio::fail(efio::Error::Kind::usage, "a table of MAC addresses", "{} addresses", options.capacity)
        .hint("1 to {}", most);
  if (options.ageing.count() < 0 || options.ageing.count() > 1'000'000)
    return efio::fail(efio::Error::Kind::usage, "a table of MAC addresses", "ageing after {} s", options.ageing.count())
        .hint("0 (never) to 1000000 s (IEEE 802.1Q, table 8-6)");
  auto seed = options.seed ? efio::Result<HashSeed>(*options.seed) : HashSeed::random();
  if (!seed) return std::unexpected(std::move(seed.error()));
  auto lines = TableArray<Line>::create(std::max<std::size_t>(2, options.capacity * 2 / ways));
  if (!lines) return std::unexpected(std::move(lines.error()));
  return MacTable(KeyedHash(*seed), std::move(*lines), static_cast<std::uint32_t>(options.ageing.count()));
}

[[gnu::always_inline]] inline MacTable::Cell MacTable::cell_of(std::uint64_t key, std::uint64_t hash) const noexcept {
  for (std::size_t choice = 0; choice < choices; ++choice) {
    Line& line = lines_[line_of(hash, choice)];
    if (const unsigned found = match(line, key); found != 0) [[likely]] {
      const auto way = static_cast<unsigned>(std::countr_zero(found));
      return {&line.keys[way], &line.places[way]};
    }
    if (match(line, 0) != 0) break;  // whoever is in a later line found this one full
  }
  return {};
}

[[gnu::always_inline]] inline std::uint16_t MacTable::find_one(std::uint64_t key, std::uint64_t hash, std::uint32_t second) const noexcept {
  const Cell cell = cell_of(key, hash);
  if (cell.key == nullptr) return nowhere;
  const std::uint64_t place = load(*cell.place);
  if (load(*cell.key) != key || is_old(place, second)) return nowhere;
  return static_cast<std::uint16_t>(place);
}

// Into the first cell that may be taken. False: there is none.
bool MacTable::enter(std::uint64_t key, std::uint64_t hash, std::uint64_t place, std::uint32_t second, Whose whose) noexcept {
  for (std::size_t choice = 0; choice < choices; ++choice) {
    Line& line = lines_[line_of(hash, choice)];
    for (std::size_t way = 0; way < ways; ++way) {
      const std::uint64_t held = load(line.keys[way]);
      if (held == (used | hidden)) continue;  // being replaced
      if ((held & used) != 0) {
        const std::uint64_t there = load(line.places[way]);
        if (whose == Whose::nobodys || (there & fixed_bit) != 0 || (whose == Whose::aged && !is_old(there, second))) continue;
      }
      if (!exchange(line.keys[way], held, used | hidden)) continue;  // somebody else took it
      store(line.places[way], place);
      store(line.keys[way], key);
      return true;
    }
  }
  return false;
}

void MacTable::count_move(std::uint64_t key, std::uint64_t hash, std::uint16_t from, std::uint16_t to) noexcept {
  counts_->moves.fetch_add(1, std::memory_order_relaxed);
  Moving& moving = counts_->moving[hash % counts_->moving.size()];
  const bool is_known = moving.key.load(std::memory_order_relaxed) == key;
  const std::uint64_t before = is_known ? moving.last.load(std::memory_order_relaxed) >> 32 : 0;
  moving.key.store(key, std::memory_order_relaxed);
  moving.last.store((before + 1) << 32 | std::uint64_t{from} << 16 | to, std::memory_order_relaxed);
}

void MacTable::learn_one(std::uint64_t key, std::uint64_t hash, std::uint64_t here, std::uint32_t second) noexcept {
  const Cell known = cell_of(key, hash);
  if (known.key == nullptr) {
    if (!enter(key, hash, here, second, Whose::aged)) counts_->full.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const std::uint64_t before = load(*known.place);
  if (before == here || (before & fixed_bit) != 0) return;
  const auto from = static_cast<std::uint16_t>(before), to = static_cast<std::uint16_t>(here);
  if (from != to && !is_old(before, second)) [[unlikely]] count_move(key, hash, from, to);
  // Only if it is still what was looked at: an entry that has become another's meanwhile keeps what it has.
  if (load(*known.key) == key) exchange(*known.place, before, here);
}

void MacTable::learn(const std::uint64_t* keys, const std::uint64_t* hashes, std::size_t n, std::uint16_t port,
                     Time now) noexcept {
  const std::uint32_t second = seconds(now);
  for (std::size_t i = 0; i < n; ++i) learn_one(keys[i], hashes[i], place(port, second), second);
}

void MacTable::learn_and_find(const std::uint64_t* keys, std::size_t pairs, std::uint16_t port, Time now,
                              std::uint16_t* ports) noexcept {
  std::array<std::uint64_t, 2 * most_pairs> hashes;
  std::array<std::uint32_t, 2 * most_pairs> lines, found;
  const std::size_t n = 2 * std::min(pairs, most_pairs);
  hash(keys, n, hashes.data());
  for (std::size_t i = 0; i < n; ++i) {
    lines[i] = static_cast<std::uint32_t>(line_of(hashes[i], 0));
    efio::prefetch_for_reading(&lines_[lines[i]]);
  }
  const auto* const words = reinterpret_cast<const std::uint64_t*>(lines_.data());
  locate(words, keys, lines.data(), n, found.data());

  const std::uint32_t second = seconds(now);
  const std::uint64_t here = place(port, second);
  // Each cell may have become another address's since it was located, by this very batch.
  for (std::size_t i = 0; i < n; i += 2)
    if ((found[i] & ways) != 0 || load(words[found[i] + ways]) != here || load(words[found[i]]) != keys[i]) [[unlikely]]
      learn_one(keys[i], hashes[i], here, second);
  for (std::size_t i = 1; i < n; i += 2) {
    std::uint16_t& port_found = ports[i / 2];
    if ((found[i] & ways) == 0) [[likely]] {
      const std::uint64_t place = load(words[found[i] + ways]);
      if (load(words[found[i]]) == keys[i]) [[likely]] {
        port_found = is_old(place, second) ? nowhere : static_cast<std::uint16_t>(place);
        continue;
      }
    }
    port_found = find_one(keys[i], hashes[i], second);
  }
}

void MacTable::find(const std::uint64_t* keys, const std::uint64_t* hashes, std::size_t n, Time now,
                    std::uint16_t* ports) const noexcept {
  const std::uint32_t second = seconds(now);
  for (std::size_t i = 0; i < n; ++i) ports[i] = find_one(keys[i], hashes[i], second);
}

void MacTable::learn(std::uint64_t key, std::uint16_t port, Time now) noexcept {
  std::uint64_t hash = 0;
  this->hash(&key, 1, &hash);
  learn(&key, &hash, 1, port, now);
}

std::uint16_t MacTable::find(std::uint64_t key, Time now) const noexcept {
  std::uint64_t hash = 0;
  this->hash(&key, 1, &hash);
  return find_one(key, hash, seconds(now));
}

bool MacTable::add(std::uint64_t key, std::uint16_t port) noexcept {
  std::uint64_t hash = 0;
  this->hash(&key, 1, &hash);
  if (const Cell known = cell_of(key, hash); known.key != nullptr) {
    store(*known.place, fixed_bit | port);
    return true;
  }
  // Where nobody is, else where somebody was learned: it will be learned again.
  constexpr std::uint32_t never = 0;
  return enter(key, hash, fixed_bit | port, never, Whose::nobodys) || enter(key, hash, fixed_bit | port, never, Whose::learned);
}

bool MacTable::remove(std::uint64_t key) noexcept {
  std::uint64_t hash = 0;
  this->hash(&key, 1, &hash);
  const Cell known = cell_of(key, hash);
  return known.key != nullptr && exchange(*known.key, key, hidden);
}

std::size_t MacTable::flush(std::uint16_t port) noexcept {
  std::size_t forgotten = 0;
  for (Line& line : lines_)
    for (std::size_t way = 0; way < ways; ++way) {
      const std::uint64_t held = load(line.keys[way]);
      const std::uint64_t place = load(line.places[way]);
      if ((held & used) == 0 || (held & hidden) != 0 || (place & fixed_bit) != 0) continue;
      // Not 0: what is in a later line because this one was full must still be found.
      if (static_cast<std::uint16_t>(place) == port && exchange(line.keys[way], held, hidden)) ++forgotten;
    }
  return forgotten;
}

std::vector<MacTable::Entry> MacTable::entries(Time now) const {
  const std::uint32_t second = seconds(now);
  std::vector<Entry> found;
  for (const Line& line : lines_)
    for (std::size_t way = 0; way < ways; ++way) {
      const std::uint64_t held = load(line.keys[way]);
      const std::uint64_t place = load(line.places[way]);
      if ((held & used) == 0 || (held & hidden) != 0 || is_old(place, second)) continue;
      const bool fixed = (place & fixed_bit) != 0;
      found.push_back({MacAddress::from_number(held & 0xFFFF'FFFF'FFFF), static_cast<std::uint16_t>(held >> 48 & 0xFFF),
                       static_cast<std::uint16_t>(place), fixed,
                       std::chrono::seconds(fixed ? 0 : second - static_cast<std::uint32_t>(place >> 32))});
    }
  return found;
}

std::size_t MacTable::size(Time now) const noexcept {
  const std::uint32_t second = seconds(now);
  std::size_t size = 0;
  for (const Line& line : lines_)
    for (std::size_t way = 0; way < ways; ++way) {
      const std::uint64_t held = load(line.keys[way]);
      size += (held & used) != 0 && (held & hidden) == 0 && !is_old(load(line.places[way]), second) ? 1U : 0U;
    }
  return size;
}

std::optional<MacTable::Mover> MacTable::most_moved() noexcept {
  std::optional<Mover> most;
  for (Moving& moving : counts_->moving) {
    const std::uint64_t key = moving.key.load(std::memory_order_relaxed);
    const std::uint64_t last = moving.last.exchange(0, std::memory_order_relaxed);
    const auto moves = static_cast<std::uint32_t>(last >> 32);
    if (moves == 0 || (most && most->moves >= moves)) continue;
    most = {MacAddress::from_number(key & 0xFFFF'FFFF'FFFF), static_cast<std::uint16_t>(key >> 48 & 0xFFF), moves,
            static_cast<std::uint16_t>(last >> 16), static_cast<std::uint16_t>(last)};
  }
  return most;
}

}  // namespace efnet
