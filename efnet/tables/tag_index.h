#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/tables/table_memory.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace efnet {

// From a key's hash to numbers of records that may be the key's: a cuckoo hash table of cache lines. A line holds ten
// entries, each a tag of 16 bits out of the hash and the number; the key itself stays in the record, and the caller
// compares it there. An entry lies in its first line or, where that is full, in its other one, which follows from the
// line and the tag alone: entries are moved without reading their records. A line knows how many of its own lie
// elsewhere, so that most searches, found or not, read one line.
//
// The same number may stand under several hashes; the same pair of hash and number once only.
class TagIndex {
 public:
  static constexpr std::size_t ways = 10;
  static constexpr std::uint32_t none = 0xFFFF'FFFF;  // no number

  TagIndex() noexcept = default;
  // Room for `entries` and some more: the lines are 85 % full then, where an insertion practically always finds room.
  // Errors: memory.
  static efio::Result<TagIndex> create(std::size_t entries) {
    constexpr double fill = 0.85;
    const auto lines = static_cast<std::size_t>(static_cast<double>(entries) / (fill * ways)) + 2;
    auto memory = TableArray<Line>::create(lines);
    if (!memory) return std::unexpected(std::move(memory.error()));
    TagIndex index;
    index.lines_ = std::move(*memory);
    index.line_count_ = lines;
    return index;
  }

  std::size_t bytes() const noexcept { return lines_.bytes(); }

  // Where a key's search begins.
  struct Place {
    std::uint32_t line;
    std::uint16_t tag;
  };
  Place place(std::uint64_t hash) const noexcept {
    const auto tag = static_cast<std::uint16_t>(hash);
    return {scaled(hash), static_cast<std::uint16_t>(tag + (tag == 0))};  // tag 0 is a free entry
  }
  void prefetch(Place place) const noexcept { __builtin_prefetch(lines_.data() + place.line); }
  void prefetch_other(Place place) const noexcept { __builtin_prefetch(lines_.data() + other(place.line, place.tag)); }

  // A number that stands in the first line under this tag, else none; then, are there others? Most often it is the one.
  std::uint32_t first_candidate(Place place) const noexcept {
    const Line& line = lines_[place.line];
    const unsigned found = match(line, place.tag);
    return found != 0 ? line.number[static_cast<unsigned>(std::countr_zero(found))] : none;
  }
  // The same for the other line; none where nothing of the first line's lies elsewhere.
  bool overflows(Place place) const noexcept { return lines_[place.line].overflow != 0; }
  std::uint32_t other_candidate(Place place) const noexcept {
    return first_candidate({other(place.line, place.tag), place.tag});
  }

  // The first number that stands under the hash and of which `is_it(number)` is true; else none.
  template <class IsIt>
  std::uint32_t find(Place place, IsIt&& is_it) const noexcept {
    for (std::uint32_t at = place.line, turn = 0;; at = other(place.line, place.tag)) {
      const Line& line = lines_[at];
      for (unsigned found = match(line, place.tag); found != 0; found &= found - 1) {
        const std::uint32_t number = line.number[static_cast<unsigned>(std::countr_zero(found))];
        if (is_it(number)) return number;
      }
      if (turn++ != 0 || line.overflow == 0) return none;
    }
  }

  // False, and nothing done, where no room was found; the pair must not be there already.
  bool insert(Place place, std::uint32_t number) noexcept {
    if (put(place.line, place.tag, number, false)) [[likely]]
      return true;
    const std::uint32_t second = other(place.line, place.tag);
    if (second != place.line && put_displaced(place.line, second, place.tag, number)) return true;
    return make_room(place, second) &&
           (put(place.line, place.tag, number, false) || put_displaced(place.line, second, place.tag, number));
  }

  // False where the pair is not there.
  bool erase(Place place, std::uint32_t number) noexcept {
    if (take(place.line, place.tag, number)) [[likely]]
      return true;
    const std::uint32_t second = other(place.line, place.tag);
    if (!take(second, place.tag, number)) return false;
    --lines_[place.line].overflow;
    return true;
  }

  void clear() noexcept {
    for (Line& line : lines_) line = Line{};
  }

 private:
  struct alignas(64) Line {
    std::array<std::uint16_t, ways> tag;
    std::uint16_t overflow;   // how many entries of this line lie in their other one
    std::uint16_t displaced;  // which of the ten are such entries of other lines
    std::array<std::uint32_t, ways> number;
  };
  static_assert(sizeof(Line) == 64);
  static constexpr unsigned all = (1U << ways) - 1;

  std::uint32_t scaled(std::uint64_t hash) const noexcept {
    return static_cast<std::uint32_t>(((hash >> 32) * line_count_) >> 32);
  }

  // An involution: the other line of the other line is the first. The multiplier spreads neighbouring tags.
  std::uint32_t other(std::uint32_t line, std::uint16_t tag) const noexcept {
    const std::uint32_t sum = scaled(tag * 0x9E37'79B9'7F4A'7C15);
    return sum >= line ? sum - line : static_cast<std::uint32_t>(sum + line_count_ - line);
  }

  static unsigned match(const Line& line, std::uint16_t tag) noexcept {
#if defined(__x86_64__)
    const __m128i wanted = _mm_set1_epi16(static_cast<short>(tag));
    const auto* const at = reinterpret_cast<const __m128i*>(&line);
    const __m128i low = _mm_cmpeq_epi16(_mm_load_si128(at), wanted);
    const __m128i high = _mm_cmpeq_epi16(_mm_load_si128(at + 1), wanted);  // two tags, and what must be masked
    return static_cast<unsigned>(_mm_movemask_epi8(_mm_packs_epi16(low, high))) & all;
#else
    unsigned found = 0;
    for (unsigned i = 0; i < ways; ++i) found |= unsigned{line.tag[i] == tag} << i;
    return found;
#endif
  }

  bool put(std::uint32_t at, std::uint16_t tag, std::uint32_t number, bool displaced) noexcept {
    Line& line = lines_[at];
    const unsigned free = match(line, 0);
    if (free == 0) return false;
    const auto way = static_cast<unsigned>(std::countr_zero(free));
    line.tag[way] = tag;
    line.number[way] = number;
    if (displaced) line.displaced = static_cast<std::uint16_t>(line.displaced | 1U << way);
    return true;
  }
  bool put_displaced(std::uint32_t first, std::uint32_t second, std::uint16_t tag, std::uint32_t number) noexcept {
    if (!put(second, tag, number, true)) return false;
    ++lines_[first].overflow;
    return true;
  }

  bool take(std::uint32_t at, std::uint16_t tag, std::uint32_t number) noexcept {
    Line& line = lines_[at];
    for (unsigned found = match(line, tag); found != 0; found &= found - 1) {
      const auto way = static_cast<unsigned>(std::countr_zero(found));
      if (line.number[way] != number) continue;
      free_way(line, way);
      return true;
    }
    return false;
  }
  static void free_way(Line& line, unsigned way) noexcept {
    line.tag[way] = 0;
    line.displaced = static_cast<std::uint16_t>(line.displaced & ~(1U << way));
  }

  EFIO_EXPORT bool make_room(Place place, std::uint32_t second) noexcept;
  void move(std::uint32_t from, unsigned way, std::uint32_t to) noexcept;

  TableArray<Line> lines_;
  std::uint64_t line_count_ = 1;
};

}  // namespace efnet
