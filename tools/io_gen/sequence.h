// Sequence numbers, judged per stream: lost, duplicated, reordered. Bounded memory: eight bytes a stream, and a window
// of 1,024 numbers for each stream in which something was out of order lately.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "tools/io_gen/tag.h"

namespace efio::io_gen {

struct SequenceCounts {
  std::uint64_t lost = 0;        // numbers passed over that have not come since
  std::uint64_t duplicated = 0;  // came again
  std::uint64_t reordered = 0;   // came after a higher number
  std::uint64_t stale = 0;       // came more than a window late: lost before, or a duplicate, cannot be told
  std::uint64_t streams = 0;     // that have been seen
};

class Sequences {
 public:
  static constexpr std::uint64_t window = 1024;

  // What a stream begins with: 0, or the number that comes first (where the sender may have started earlier).
  enum class Start : std::uint8_t { zero, first_seen };
  explicit Sequences(Start start);

  // One frame arrived. `name`: the stream in the upper 16 bits, the sequence in the others, as in Tag::name.
  void see(std::uint64_t name) noexcept {
    std::uint64_t& next = next_[name >> 48];
    if (next == name) [[likely]]
      next = name + 1;  // after the last number of all: another stream's name, which see_slowly sets right
    else
      see_slowly(static_cast<std::uint16_t>(name >> 48), name & Tag::sequence_mask);
  }
  // Many, in the order in which they came. Neighbours of one stream are told by looking at each other, not at the table.
  void see_all(const std::uint64_t* names, std::size_t n) noexcept {
    for (std::size_t i = 0; i < n;) {
      const std::uint64_t first = names[i];
      std::uint64_t& next = next_[first >> 48];
      if (next != first) [[unlikely]] {
        see_slowly(static_cast<std::uint16_t>(first >> 48), first & Tag::sequence_mask);
        ++i;
        continue;
      }
      std::size_t run = 1;
      while (i + run < n && names[i + run] == first + run && (names[i + run] & Tag::sequence_mask) != 0) ++run;
      next = first + run;
      i += run;
    }
  }
  void see(std::uint16_t stream, std::uint64_t sequence) noexcept { see(Tag::name(stream, sequence)); }

  // The sender is known to have used every number of this stream below `end`: what is missing at the end is lost.
  void expect_until(std::uint16_t stream, std::uint64_t end) noexcept;

  SequenceCounts counts() const noexcept;

 private:
  // next_ holds the name expected next; or, where see_slowly has to look at every frame, one of another stream: the
  // stream was not seen yet, or the number is in its window. (Its first number is what a wrap leaves behind.)
  static constexpr std::uint64_t other(std::uint16_t stream) noexcept {
    return Tag::name(static_cast<std::uint16_t>(stream + 1), 0);
  }
  static constexpr std::uint64_t unseen(std::uint16_t stream) noexcept { return other(stream) + 1; }
  static constexpr std::uint64_t slow(std::uint16_t stream) noexcept { return other(stream) + 2; }

  // The bit of number s stands at s % window and covers [next - window, next). All zero at birth.
  struct Window {
    std::uint64_t next;
    std::uint64_t base;     // what the stream began with; numbers before it were never expected
    std::uint64_t missing;  // zero bits at and above base
    std::uint64_t seen[window / 64];
    bool has(std::uint64_t s) const noexcept { return (seen[s % window / 64] >> (s % 64) & 1) != 0; }
    void set(std::uint64_t s) noexcept { seen[s % window / 64] |= std::uint64_t{1} << (s % 64); }
    void clear(std::uint64_t s) noexcept { seen[s % window / 64] &= ~(std::uint64_t{1} << (s % 64)); }
  };
  struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }
  };

  void see_slowly(std::uint16_t stream, std::uint64_t sequence) noexcept;
  void open_window(Window& w, std::uint64_t next) noexcept;
  void advance(Window& w, std::uint64_t sequence) noexcept;

  Start start_;
  std::unique_ptr<std::uint64_t[]> next_;
  std::unique_ptr<Window[], Free> windows_;  // zero pages until touched
  SequenceCounts counts_;
};

}  // namespace efio::io_gen
