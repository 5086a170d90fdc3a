#include "efnet/tables/session_store.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace efnet {

// ---- IPv4 ----

efio::Result<SessionStore<FlowKey4>> SessionStore<FlowKey4>::create(std::size_t capacity, const KeyedHash& hash,
                                                                    bool baseline) {
  // Of three entries a line; fuller, and too many would lie in their second line.
  constexpr double fill = 0.785;
  SessionStore store;
  store.hash_ = hash;
  store.find_ = choose_find(baseline);
  store.line_count_ = static_cast<std::uint64_t>(static_cast<double>(capacity * 2) / (fill * ways)) + 2;
  auto lines = TableArray<Line>::create(store.line_count_);
  if (!lines) return std::unexpected(std::move(lines.error()));
  auto records = TableArray<Record>::create(capacity);
  if (!records) return std::unexpected(std::move(records.error()));
  auto overflowing = TableArray<std::uint64_t>::create(store.line_count_ / 32 + 1);
  if (!overflowing) return std::unexpected(std::move(overflowing.error()));
  store.lines_ = std::move(*lines);
  store.overflowing_ = std::move(*overflowing);
  store.clear();
  store.records_ = std::move(*records);
  return store;
}

namespace {

constexpr std::uint8_t free_mark = 0xFF;  // FlowKey4::reserved of a free entry, whose number is none

}  // namespace

template <bool fetch>
void SessionStore<FlowKey4>::find_plain(const SessionStore& store, const FlowKey4* keys, const Place* places,
                                        std::size_t count, std::uint32_t* numbers) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t number = none;
    for (const std::uint32_t at : {places[i].second, places[i].line}) {
      const Line& line = store.lines_[at];
      for (unsigned way = 0; way < ways; ++way) {
#if defined(__x86_64__)
        const __m128i same = _mm_cmpeq_epi8(_mm_load_si128(reinterpret_cast<const __m128i*>(&line.key[way])),
                                            _mm_loadu_si128(reinterpret_cast<const __m128i*>(keys + i)));
        const bool found = _mm_movemask_epi8(same) == 0xFFFF;
#else
        const bool found = line.key[way] == keys[i];
#endif
        number = found ? line.number[way] : number;
      }
    }
    numbers[i] = number;
    if constexpr (fetch) store.prefetch_state(number == none ? 0 : number >> 1);
  }
}

#if defined(__x86_64__)

// g++ 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for a mistake (GCC bug 105593).
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

// A whole line is compared by one instruction.
template <bool fetch>
[[gnu::target("avx512f,avx512dq,bmi")]] void SessionStore<FlowKey4>::find_avx512(const SessionStore& store,
                                                                                 const FlowKey4* keys,
                                                                                 const Place* places, std::size_t count,
                                                                                 std::uint32_t* numbers) noexcept {
  const Line* const lines = store.lines_.data();
  for (std::size_t i = 0; i < count; ++i) {
    const __m512i wanted = _mm512_broadcast_i64x2(_mm_loadu_si128(reinterpret_cast<const __m128i*>(keys + i)));
    const auto* const first = reinterpret_cast<const std::byte*>(lines + places[i].line);
    const auto* const second = reinterpret_cast<const std::byte*>(lines + places[i].second);
    // Bits 0, 2 and 4: both halves of way 0, 1 and 2 are those wanted. Bit 6 stops the search for a bit; what is read
    // there is not used.
    const unsigned halves = _cvtmask8_u32(_mm512_cmpeq_epi64_mask(_mm512_load_si512(first), wanted));
    const unsigned others = _cvtmask8_u32(_mm512_cmpeq_epi64_mask(_mm512_load_si512(second), wanted));
    const unsigned here = halves & halves >> 1 & 0x15;
    const unsigned there = others & others >> 1 & 0x15;
    std::uint32_t number_here;
    std::uint32_t number_there;
    __builtin_memcpy(&number_here, first + 48 + 2 * static_cast<std::size_t>(_tzcnt_u32(here | 0x40)), 4);
    __builtin_memcpy(&number_there, second + 48 + 2 * static_cast<std::size_t>(_tzcnt_u32(there | 0x40)), 4);
    std::uint32_t number = there != 0 ? number_there : none;
    number = here != 0 ? number_here : number;
    numbers[i] = number;
    if constexpr (fetch) store.prefetch_state(number == none ? 0 : number >> 1);
  }
}

#pragma GCC diagnostic pop

auto SessionStore<FlowKey4>::choose_find(bool baseline) noexcept -> std::array<Find, 2> {
  __builtin_cpu_init();
  // vbmi2 tells the cpus that do not lower their clock for 512-bit registers (Ice Lake, Zen 4 and later).
  const bool wide = __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vbmi2") != 0 &&
                    __builtin_cpu_supports("bmi") != 0;
  if (wide && !baseline) return {find_avx512<false>, find_avx512<true>};
  return {find_plain<false>, find_plain<true>};
}

#else

auto SessionStore<FlowKey4>::choose_find(bool) noexcept -> std::array<Find, 2> {
  return {find_plain<false>, find_plain<true>};
}

#endif

bool SessionStore<FlowKey4>::put(std::uint32_t at, const FlowKey4& key, std::uint32_t number, bool displaced) noexcept {
  Line& line = lines_[at];
  const unsigned free = ~unsigned{line.used} & all;
  if (free == 0) return false;
  const auto way = static_cast<unsigned>(std::countr_zero(free));
  line.key[way] = key;
  line.number[way] = number;
  line.used = static_cast<std::uint8_t>(line.used | 1U << way);
  if (displaced) line.displaced = static_cast<std::uint8_t>(line.displaced | 1U << way);
  records_[number >> 1].position[number & 1] = at * 4 + way;
  return true;
}

void SessionStore<FlowKey4>::free_way(Line& line, unsigned way) noexcept {
  line.key[way].reserved = free_mark;
  line.number[way] = none;
  line.used = static_cast<std::uint8_t>(line.used & ~(1U << way));
  line.displaced = static_cast<std::uint8_t>(line.displaced & ~(1U << way));
}

void SessionStore<FlowKey4>::add_overflow(std::uint32_t line, std::uint32_t second, int by) noexcept {
  std::uint8_t& count = lines_[line].overflow[second % 2];
  count = static_cast<std::uint8_t>(count + by);
  const std::uint64_t number = std::uint64_t{line} * 2 + second % 2;
  const std::uint64_t bit = std::uint64_t{1} << number % 64;
  std::uint64_t& word = overflowing_[number / 64];
  word = count != 0 ? word | bit : word & ~bit;
}

// The entry goes to its other line, which has room.
void SessionStore<FlowKey4>::move(std::uint32_t from, unsigned way, std::uint32_t to) noexcept {
  Line& line = lines_[from];
  const bool home = (line.displaced >> way & 1) != 0;
  put(to, line.key[way], line.number[way], !home);
  home ? add_overflow(to, from, -1) : add_overflow(from, to, 1);
  free_way(line, way);
}

// Frees an entry in one of both lines by moving entries to their other lines: the shortest chain of moves, found before
// anything is touched.
bool SessionStore<FlowKey4>::make_room(Place place) noexcept {
  struct Step {
    std::uint32_t line;
    std::uint16_t parent;
    std::uint16_t way;
  };
  constexpr std::size_t most = 256;
  std::array<Step, most> steps;
  std::size_t known = 0;
  steps[known++] = {place.line, 0, 0};
  if (place.second != place.line) steps[known++] = {place.second, 0, 0};
  const std::size_t roots = known;
  for (std::size_t at = 0; at < known; ++at) {
    const std::uint32_t from = steps[at].line;
    for (unsigned way = 0; way < ways; ++way) {
      const Place of_entry = place_of(lines_[from].key[way]);
      const std::uint32_t to = of_entry.line == from ? of_entry.second : of_entry.line;
      bool seen = to == from || (of_entry.line == from && !may_overflow(from, to));
      for (std::size_t i = 0; i < known && !seen; ++i) seen = steps[i].line == to;
      if (seen) continue;
      if ((lines_[to].used & all) == all) {
        if (known < most) steps[known++] = {to, static_cast<std::uint16_t>(at), static_cast<std::uint16_t>(way)};
        continue;
      }
      move(from, way, to);
      for (std::size_t step = at; step >= roots; step = steps[step].parent)
        move(steps[steps[step].parent].line, steps[step].way, steps[step].line);
      return true;
    }
  }
  return false;
}

bool SessionStore<FlowKey4>::insert_key(std::uint32_t number, const FlowKey4& key, Place place) noexcept {
  for (unsigned turn = 0; turn < 2; ++turn) {
    if (put(place.line, key, number, false)) return true;
    if (may_overflow(place.line, place.second) && put(place.second, key, number, true)) {
      add_overflow(place.line, place.second, 1);
      return true;
    }
    if (turn == 0 && !make_room(place)) break;
  }
  return false;
}

bool SessionStore<FlowKey4>::insert(std::uint32_t session, const FlowKey4& forward, Place place,
                                    const FlowKey4& backward, Place reverse_place) noexcept {
  if (!insert_key(session << 1, forward, place)) return false;
  if (insert_key(session << 1 | 1, backward, reverse_place)) return true;
  erase_key(session << 1);
  return false;
}

void SessionStore<FlowKey4>::erase_key(std::uint32_t number) noexcept {
  const std::uint32_t at = records_[number >> 1].position[number & 1];
  Line& line = lines_[at / 4];
  const std::uint32_t way = at % 4;
  if ((line.displaced >> way & 1) != 0) add_overflow(place_of(line.key[way]).line, at / 4, -1);
  free_way(line, way);
}

void SessionStore<FlowKey4>::find_homes(std::span<const std::uint32_t> sessions, Homes& homes) const noexcept {
  // Which keys lie in their second line cannot be foretold: all are copied, and those of the others overwritten.
  std::array<FlowKey4, 2 * most_erased + 1> keys;
  std::array<std::uint32_t, 2 * most_erased + 1> lines;
  std::size_t count = 0;
  for (const std::uint32_t session : sessions)
    for (const std::uint32_t at : records_[session].position) {
      const Line& line = lines_[at / 4];
      keys[count] = line.key[at % 4];
      lines[count] = at / 4;
      count += unsigned{line.displaced} >> at % 4 & 1;
    }
  std::array<std::uint64_t, 2 * most_erased> hashes;
  hash_.batch<2>(keys.data(), count, hashes.data());
  for (std::size_t i = 0; i < count; ++i) {
    homes.line[i] = place(hashes[i]).line;
    homes.second[i] = lines[i];
    __builtin_prefetch(lines_.data() + homes.line[i], 1);
  }
  homes.count = count;
}

void SessionStore<FlowKey4>::erase(std::span<const std::uint32_t> sessions, const Homes& homes) noexcept {
  for (std::size_t i = 0; i < homes.count; ++i) add_overflow(homes.line[i], homes.second[i], -1);
  for (const std::uint32_t session : sessions)
    for (const std::uint32_t at : records_[session].position) free_way(lines_[at / 4], at % 4);
}

void SessionStore<FlowKey4>::clear() noexcept {
  for (Line& line : lines_) {
    line.overflow = {};
    for (unsigned way = 0; way < ways; ++way) free_way(line, way);
  }
  for (std::uint64_t& word : overflowing_) word = 0;
}

template void SessionStore<FlowKey4>::find<false>(const FlowKey4*, const Place*, std::size_t,
                                                  std::uint32_t*) const noexcept;
template void SessionStore<FlowKey4>::find<true>(const FlowKey4*, const Place*, std::size_t,
                                                 std::uint32_t*) const noexcept;

// ---- Both families ----

efio::Result<SessionStore<FlowKey>> SessionStore<FlowKey>::create(std::size_t capacity, const KeyedHash& hash, bool) {
  SessionStore store;
  store.hash_ = hash;
  auto index = TagIndex::create(capacity * 2);
  if (!index) return std::unexpected(std::move(index.error()));
  auto records = TableArray<Record>::create(capacity);
  if (!records) return std::unexpected(std::move(records.error()));
  store.index_ = std::move(*index);
  store.records_ = std::move(*records);
  return store;
}

template <bool fetch>
void SessionStore<FlowKey>::find(const FlowKey* keys, const Place* places, std::size_t count,
                                 std::uint32_t* numbers) const noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t candidate = index_.first_candidate(places[i]);
    if (candidate == none && index_.overflows(places[i])) candidate = index_.other_candidate(places[i]);
    numbers[i] = candidate;
    if (candidate == none) continue;
    __builtin_prefetch(&key(candidate >> 1, (candidate & 1) != 0));
    if constexpr (fetch) __builtin_prefetch(&state(candidate >> 1));
  }
  for (std::size_t i = 0; i < count; ++i)
    if (numbers[i] != none && key(numbers[i] >> 1, (numbers[i] & 1) != 0) != keys[i]) [[unlikely]]
      numbers[i] = find(keys[i], places[i]);
}

bool SessionStore<FlowKey>::insert(std::uint32_t session, const FlowKey& forward, Place place, const FlowKey& backward,
                                   Place reverse_place) noexcept {
  if (!index_.insert(place, session << 1)) return false;
  if (!index_.insert(reverse_place, session << 1 | 1)) {
    index_.erase(place, session << 1);
    return false;
  }
  records_[session].forward = forward;
  records_[session].backward = backward;
  return true;
}

void SessionStore<FlowKey>::find_homes(std::span<const std::uint32_t> sessions, Homes& homes) const noexcept {
  std::array<FlowKey, 2 * most_erased> keys;
  std::array<std::uint64_t, 2 * most_erased> hashes;
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    keys[2 * i] = records_[sessions[i]].forward;
    keys[2 * i + 1] = records_[sessions[i]].backward;
  }
  hash_.batch<sizeof(FlowKey) / 8>(keys.data(), 2 * sessions.size(), hashes.data());
  for (std::size_t i = 0; i < 2 * sessions.size(); ++i) {
    homes.places[i] = place(hashes[i]);
    index_.prefetch(homes.places[i]);
  }
}

void SessionStore<FlowKey>::erase(std::span<const std::uint32_t> sessions, const Homes& homes) noexcept {
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    index_.erase(homes.places[2 * i], sessions[i] << 1);
    index_.erase(homes.places[2 * i + 1], sessions[i] << 1 | 1);
  }
}

void SessionStore<FlowKey>::clear() noexcept { index_.clear(); }

template void SessionStore<FlowKey>::find<false>(const FlowKey*, const Place*, std::size_t,
                                                 std::uint32_t*) const noexcept;
template void SessionStore<FlowKey>::find<true>(const FlowKey*, const Place*, std::size_t,
                                                std::uint32_t*) const noexcept;

}  // namespace efnet
