// The inner loops over the frames that io_gen sends by default, 60 bytes of UDP over IPv4 with a tag: a version
// for any processor, one for AVX2 and one for AVX-512, chosen at run time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "efio/slot.h"

namespace efio::io_gen {

// What a flow adds to the template, as it stands in the frame, and what its stream's next number is (low 32 bits; in
// the first 65,536 flows only: the others share those streams). 16 bytes, so that 65,536 of them lie in a megabyte.
struct FlowFields {
  std::uint32_t src, dst, ports;
  std::uint32_t next;
};

// What all frames of a batch share, as 64 bytes in words as they lie in memory; zeros where frames differ.
struct ShortTemplate {
  alignas(64) std::array<std::uint64_t, 8> words;
  std::uint64_t ip_sum, transport_sum;  // of it, as partials of efio/checksum.h
};

struct ShortKernel {
  const char* name;
  // Writes frame i with the addresses and ports of flows[chosen[i]], the stream and sequence names[i] and right
  // checksums, and sets the slot's length. 64 bytes of each slot are written.
  void (*fill)(const ShortTemplate& frame, Slot* slots, const FlowFields* flows, const std::uint32_t* chosen,
               const std::uint64_t* names, std::size_t n) noexcept;
  // How many slots from the first on hold such frames, each with the tag's magic and right checksums; their names.
  std::size_t (*check)(const Slot* slots, std::size_t n, std::uint64_t* names) noexcept;
};

// Those that this processor can run, best first. Little-endian machines only.
std::span<const ShortKernel> short_kernels() noexcept;

// The one to use: the best, or another of them that was chosen by its name, to compare, before any thread used it. False:
// this processor does not run it.
const ShortKernel& short_kernel() noexcept;
bool choose_short_kernel(std::string_view name) noexcept;

// The version for any processor; the others use it for what is left over.
void fill_short_frames(const ShortTemplate& frame, Slot* slots, const FlowFields* flows, const std::uint32_t* chosen,
                       const std::uint64_t* names, std::size_t n) noexcept;
std::size_t check_short_frames(const Slot* slots, std::size_t n, std::uint64_t* names) noexcept;

// False on other processors than x86-64, too.
bool runs_short_avx2() noexcept;
void fill_short_frames_avx2(const ShortTemplate& frame, Slot* slots, const FlowFields* flows,
                            const std::uint32_t* chosen, const std::uint64_t* names, std::size_t n) noexcept;
std::size_t check_short_frames_avx2(const Slot* slots, std::size_t n, std::uint64_t* names) noexcept;

bool runs_short_avx512() noexcept;
void fill_short_frames_avx512(const ShortTemplate& frame, Slot* slots, const FlowFields* flows,
                              const std::uint32_t* chosen, const std::uint64_t* names, std::size_t n) noexcept;
std::size_t check_short_frames_avx512(const Slot* slots, std::size_t n, std::uint64_t* names) noexcept;

// Which header fields make a frame one of these, and what they hold: 64 bytes, of which those with a 0 in the mask may
// be anything (addresses, type of service, identification, DF, time to live, checksums, tag).
struct ShortPattern {
  alignas(64) std::array<std::uint8_t, 64> mask, value;
};
inline constexpr ShortPattern short_pattern = [] {
  ShortPattern pattern{};
  const auto expect = [&](std::size_t at, std::uint8_t value, std::uint8_t mask = 0xFF) {
    pattern.mask[at] = mask;
    pattern.value[at] = value;
  };
  expect(12, 0x08), expect(13, 0x00);  // IPv4
  expect(14, 0x45);                    // without options
  expect(16, 0), expect(17, 46);       // its length
  expect(20, 0, 0x3F), expect(21, 0);  // no fragment
  expect(23, 17);                      // UDP
  expect(38, 0), expect(39, 26);       // its length
  expect(42, 0xEF), expect(43, 0x10);  // the tag's magic
  return pattern;
}();

}  // namespace efio::io_gen
