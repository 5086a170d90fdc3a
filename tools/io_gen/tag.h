// The tag that io_gen puts at the start of each payload: 18 bytes, all that a 64-byte UDP/IPv4 frame has room for.
//
//   0      2       4            10           18
//   magic  stream  sequence     time
//
// Network order. The sequence counts per stream; the time is the sender's, in ns since the Unix epoch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "efnet/wire/bytes.h"

namespace efio::io_gen {

struct Tag {
  static constexpr std::size_t size = 18;
  static constexpr std::uint16_t magic = 0xEF10;
  static constexpr std::uint64_t sequence_mask = (std::uint64_t{1} << 48) - 1;
  static constexpr std::size_t streams = 65536;

  // Stream and sequence as one number: the eight bytes behind the magic.
  static constexpr std::uint64_t name(std::uint16_t stream, std::uint64_t sequence) noexcept {
    return std::uint64_t{stream} << 48 | sequence;
  }

  std::uint16_t stream = 0;
  std::uint64_t sequence = 0;  // 48 bits
  std::uint64_t time = 0;

  // Both touch `size` bytes at `at`.
  static bool is_at(const std::byte* at) noexcept { return efnet::load16(at) == magic; }
  static Tag load(const std::byte* at) noexcept {
    return {efnet::load16(at + 2), efnet::load48(at + 4), efnet::load64(at + 10)};
  }
  void store(std::byte* at) const noexcept {
    efnet::store16(at, magic);
    efnet::store16(at + 2, stream);
    efnet::store48(at + 4, sequence);
    efnet::store64(at + 10, time);
  }
};

}  // namespace efio::io_gen
