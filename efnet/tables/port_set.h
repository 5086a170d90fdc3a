#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace efnet {

// Which of the 65,536 ports of one address and protocol are free. Even and odd ports lie in halves of their own, under
// two levels of summary, so that the next free port of either parity is found in a few steps however full the set is.
class PortSet {
 public:
  static constexpr std::uint32_t none = 0xFFFF'FFFF;
  static constexpr std::uint32_t half_size = 32'768;

  // The place of a port: bit 15 is its parity.
  static constexpr std::uint32_t place(std::uint32_t port) noexcept { return (port & 1) << 15 | port >> 1; }
  static constexpr std::uint16_t port(std::uint32_t place) noexcept {
    return static_cast<std::uint16_t>((place & (half_size - 1)) << 1 | place >> 15);
  }

  std::uint32_t free(unsigned half) const noexcept { return count_[half]; }
  std::uint32_t free() const noexcept { return count_[0] + count_[1]; }
  bool is_free(std::uint32_t place) const noexcept { return (words_[place / 64] >> place % 64 & 1) != 0; }
  // Of 64 places from 64 * index on, a bit each.
  std::uint64_t word(std::uint32_t index) const noexcept { return words_[index]; }
  void prefetch() const noexcept {
    __builtin_prefetch(&top_);
    __builtin_prefetch(summary_.data());
  }
  void prefetch(std::uint32_t place) const noexcept { __builtin_prefetch(&words_[place / 64], 1); }

  void add(std::uint32_t place) noexcept {
    std::uint64_t& word = words_[place / 64];
    if ((word >> place % 64 & 1) != 0) return;
    ++count_[place / half_size];
    const std::uint64_t before = word;
    word |= bit(place);
    if (before != 0) return;  // the summaries know
    summary_[place / 4096] |= bit(place / 64);
    top_[place / half_size] = static_cast<std::uint8_t>(top_[place / half_size] | 1U << place / 4096 % 8);
  }
  // Adds those of 64 places from 64 * index on whose bits are set; none of them is free.
  void add_word(std::uint32_t index, std::uint64_t bits) noexcept {
    if (bits == 0) return;
    words_[index] |= bits;
    summary_[index / 64] |= bit(index);
    const std::uint32_t half = index / (half_size / 64);
    top_[half] = static_cast<std::uint8_t>(top_[half] | 1U << index / 64 % 8);
    count_[half] += static_cast<std::uint32_t>(std::popcount(bits));
  }
  // The place is free.
  void remove(std::uint32_t place) noexcept {
    std::uint64_t& word = words_[place / 64];
    word &= ~bit(place);
    --count_[place / half_size];
    if (word != 0) return;
    std::uint64_t& summary = summary_[place / 4096];
    summary &= ~bit(place / 64);
    if (summary == 0)
      top_[place / half_size] = static_cast<std::uint8_t>(top_[place / half_size] & ~(1U << place / 4096 % 8));
  }

  // The first free place in [from, end), which lie in one half; none where there is none.
  std::uint32_t next(std::uint32_t from, std::uint32_t end) const noexcept {
    const std::uint32_t found = next(from);
    return found < end ? found : none;
  }
  // The first free place from `start` on in [begin, end), going on at `begin` after the end.
  std::uint32_t next_round(std::uint32_t start, std::uint32_t begin, std::uint32_t end) const noexcept {
    const std::uint32_t found = next(start, end);
    return found != none ? found : next(begin, start);
  }

 private:
  static constexpr std::uint64_t bit(std::uint32_t at) noexcept { return std::uint64_t{1} << at % 64; }
  static constexpr std::uint32_t first(std::uint64_t bits) noexcept {
    return static_cast<std::uint32_t>(std::countr_zero(bits));
  }

  // To the end of the half.
  std::uint32_t next(std::uint32_t from) const noexcept {
    const std::uint64_t rest = words_[from / 64] >> from % 64;
    if (rest != 0) return from + first(rest);
    const std::uint32_t word = from / 64;
    const std::uint64_t words = word % 64 == 63 ? 0 : summary_[word / 64] >> (word % 64 + 1);
    if (words != 0) return in_word(word + 1 + first(words));
    const std::uint32_t half = from / half_size;
    const std::uint32_t part = word / 64 % 8;
    const std::uint64_t parts = part == 7 ? 0 : std::uint64_t{top_[half]} >> (part + 1);
    if (parts == 0) return none;
    const std::uint32_t summary = half * 8 + part + 1 + first(parts);
    return in_word(summary * 64 + first(summary_[summary]));
  }
  std::uint32_t in_word(std::uint32_t word) const noexcept { return word * 64 + first(words_[word]); }

  std::array<std::uint64_t, 16> summary_;  // of words that are not 0
  std::array<std::uint8_t, 2> top_;        // of summaries that are not 0
  std::array<std::uint32_t, 2> count_;
  std::array<std::uint64_t, 1024> words_;
};

}  // namespace efnet
