#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "efio/export.h"

// The Internet checksum (RFC 1071) over bytes.
//
// A *partial* is a one's complement sum in progress: the bytes taken as 16-bit words in memory order, not yet
// folded. Its order is private to this file; partials are made by checksum_partial and checksum_word, added with +
// (2^30 of them cannot overflow), and become a number only in checksum_fold and checksum_finish, which return host
// order: what a big-endian store puts back on the wire.

namespace efio {

namespace checksum_detail {

template <class T>
inline std::uint64_t load(const std::byte* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

inline std::uint64_t add_carry(std::uint64_t a, std::uint64_t b) noexcept {
  a += b;
  return a + (a < b ? 1 : 0);
}

// One's complement sum folded to 32 bits: adding the halves crosswise brings the carry round by itself.
constexpr std::uint32_t fold32(std::uint64_t partial) noexcept {
  return static_cast<std::uint32_t>((partial + std::rotl(partial, 32)) >> 32);
}

// At most 127 bytes, summed in a tree of loads without a loop, so that a constant size leaves no branch behind.
[[gnu::always_inline]] inline std::uint64_t sum_short(const std::byte* at, std::size_t size) noexcept {
  if (size < 8) {
    std::uint64_t sum = 0;
    if (size & 4) {
      sum += load<std::uint32_t>(at);
      at += 4;
    }
    if (size & 2) {
      sum += load<std::uint16_t>(at);
      at += 2;
    }
    if (size & 1) {
      const std::uint64_t last = std::to_integer<std::uint64_t>(*at);
      sum += std::endian::native == std::endian::little ? last : last << 8;
    }
    return sum;
  }
  // The last size % 8 bytes: one load that ends with the buffer, with the bytes summed elsewhere shifted out. Two
  // shifts, because a shift by 64 is not defined.
  const auto rest = static_cast<unsigned>(size % 8);
  std::uint64_t sum = load<std::uint64_t>(at + size - 8);
  if constexpr (std::endian::native == std::endian::little) {
    sum = (sum >> 8) >> (56 - 8 * rest);
  } else {
    sum = rest == 0 ? 0 : sum << (64 - 8 * rest);
  }
  const auto two = [&](std::size_t offset) {
    return add_carry(load<std::uint64_t>(at + offset), load<std::uint64_t>(at + offset + 8));
  };
  if (size & 64) {
    sum = add_carry(sum, add_carry(add_carry(two(0), two(16)), add_carry(two(32), two(48))));
    at += 64;
  }
  if (size & 32) {
    sum = add_carry(sum, add_carry(two(0), two(16)));
    at += 32;
  }
  if (size & 16) {
    sum = add_carry(sum, two(0));
    at += 16;
  }
  if (size & 8) sum = add_carry(sum, load<std::uint64_t>(at));
  return (sum & 0xFFFF'FFFF) + (sum >> 32);
}

EFIO_EXPORT std::uint64_t sum_long(const std::byte* at, std::size_t size) noexcept;

}  // namespace checksum_detail

// Adds `bytes` to `initial`. All that `initial` covers must be of even length (else: checksum_combine). Up to 64
// bytes are summed in line; above that the best code for this cpu is called.
[[gnu::always_inline]] inline std::uint64_t checksum_partial(std::span<const std::byte> bytes,
                                                             std::uint64_t initial = 0) noexcept {
  if (bytes.size() <= 64) return initial + checksum_detail::sum_short(bytes.data(), bytes.size());
  return initial + checksum_detail::sum_long(bytes.data(), bytes.size());
}

// The partial of a field whose value is known in host order: what checksum_partial gives for its 2, 4 or 8 bytes on
// the wire.
constexpr std::uint64_t checksum_word(std::uint16_t value) noexcept {
  return std::endian::native == std::endian::little ? std::byteswap(value) : value;
}
constexpr std::uint64_t checksum_word(std::uint32_t value) noexcept {
  return std::endian::native == std::endian::little ? std::byteswap(value) : value;
}
constexpr std::uint64_t checksum_word(std::uint64_t value) noexcept {
  const std::uint64_t wire = std::endian::native == std::endian::little ? std::byteswap(value) : value;
  return (wire & 0xFFFF'FFFF) + (wire >> 32);
}

// The partial of `left` followed by `right`, where `left` covers `left_size` bytes: after an odd number of bytes the
// words of `right` lie across those of `left`, which one's complement sums mend by a byte swap (RFC 1071, 2(B)).
constexpr std::uint64_t checksum_combine(std::uint64_t left, std::size_t left_size, std::uint64_t right) noexcept {
  const std::uint64_t folded = checksum_detail::fold32(right);
  return left + (left_size % 2 == 0 ? folded : folded << 8);
}

// The sum of 16-bit words, in host order, not complemented: 0xFFFF over data that contain their right checksum.
constexpr std::uint16_t checksum_fold(std::uint64_t partial) noexcept {
  const std::uint32_t folded = checksum_detail::fold32(partial);
  const auto sum = static_cast<std::uint16_t>((folded + std::rotl(folded, 16)) >> 16);
  return std::endian::native == std::endian::little ? std::byteswap(sum) : sum;
}

// The checksum to be stored, in host order: the complement of the fold.
constexpr std::uint16_t checksum_finish(std::uint64_t partial) noexcept {
  return static_cast<std::uint16_t>(~checksum_fold(partial));
}

// The checksum of `bytes`, in host order. The checksum field, if it is among them, must hold 0.
[[gnu::always_inline]] inline std::uint16_t checksum(std::span<const std::byte> bytes) noexcept {
  return checksum_finish(checksum_partial(bytes));
}

// One way to sum more than 64 bytes. `partial` takes at most checksum_kernel_limit bytes.
struct ChecksumKernel {
  const char* name;
  std::uint64_t (*partial)(const std::byte* at, std::size_t size) noexcept;
};

inline constexpr std::size_t checksum_kernel_limit = std::size_t{256} * 1024;

// The kernels that this cpu can run, best first; the first is the one in use. For tests and benchmarks.
EFIO_EXPORT std::span<const ChecksumKernel> checksum_kernels() noexcept;

}  // namespace efio
