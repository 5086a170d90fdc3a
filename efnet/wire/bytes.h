#pragma once

#include <bit>
#include <cassert>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

// Numbers in network order, at any alignment. The pointer forms are for code that has checked its length already; the
// span forms require offset + width <= size, which debug builds assert.

namespace efnet {

// std::byte or const std::byte: what a view is made over. Over the former it has setters too.
template <class T>
concept ByteLike = std::same_as<std::remove_const_t<T>, std::byte>;

template <class T>
concept MutableByte = std::same_as<T, std::byte>;

namespace bytes_detail {

template <std::unsigned_integral T>
constexpr T swapped(T value) noexcept {
  if constexpr (std::endian::native == std::endian::little) return std::byteswap(value);
  return value;
}

template <std::unsigned_integral T>
inline T load(const std::byte* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof value);
  return swapped(value);
}

template <std::unsigned_integral T>
inline void store(std::byte* at, T value) noexcept {
  value = swapped(value);
  std::memcpy(at, &value, sizeof value);
}

}  // namespace bytes_detail

inline std::uint8_t load8(const std::byte* at) noexcept { return std::to_integer<std::uint8_t>(*at); }
inline std::uint16_t load16(const std::byte* at) noexcept { return bytes_detail::load<std::uint16_t>(at); }
inline std::uint32_t load32(const std::byte* at) noexcept { return bytes_detail::load<std::uint32_t>(at); }
inline std::uint64_t load64(const std::byte* at) noexcept { return bytes_detail::load<std::uint64_t>(at); }
inline std::uint64_t load48(const std::byte* at) noexcept { return std::uint64_t{load16(at)} << 32 | load32(at + 2); }

inline void store8(std::byte* at, std::uint8_t value) noexcept { *at = std::byte{value}; }
inline void store16(std::byte* at, std::uint16_t value) noexcept { bytes_detail::store(at, value); }
inline void store32(std::byte* at, std::uint32_t value) noexcept { bytes_detail::store(at, value); }
inline void store64(std::byte* at, std::uint64_t value) noexcept { bytes_detail::store(at, value); }
// The low 48 bits of `value`.
inline void store48(std::byte* at, std::uint64_t value) noexcept {
  store16(at, static_cast<std::uint16_t>(value >> 32));
  store32(at + 2, static_cast<std::uint32_t>(value));
}

inline std::uint16_t load16(std::span<const std::byte> bytes, std::size_t offset = 0) noexcept {
  assert(offset + 2 <= bytes.size());
  return load16(bytes.data() + offset);
}
inline std::uint32_t load32(std::span<const std::byte> bytes, std::size_t offset = 0) noexcept {
  assert(offset + 4 <= bytes.size());
  return load32(bytes.data() + offset);
}
inline std::uint64_t load48(std::span<const std::byte> bytes, std::size_t offset = 0) noexcept {
  assert(offset + 6 <= bytes.size());
  return load48(bytes.data() + offset);
}
inline std::uint64_t load64(std::span<const std::byte> bytes, std::size_t offset = 0) noexcept {
  assert(offset + 8 <= bytes.size());
  return load64(bytes.data() + offset);
}
inline void store16(std::span<std::byte> bytes, std::size_t offset, std::uint16_t value) noexcept {
  assert(offset + 2 <= bytes.size());
  store16(bytes.data() + offset, value);
}
inline void store32(std::span<std::byte> bytes, std::size_t offset, std::uint32_t value) noexcept {
  assert(offset + 4 <= bytes.size());
  store32(bytes.data() + offset, value);
}
inline void store48(std::span<std::byte> bytes, std::size_t offset, std::uint64_t value) noexcept {
  assert(offset + 6 <= bytes.size());
  store48(bytes.data() + offset, value);
}
inline void store64(std::span<std::byte> bytes, std::size_t offset, std::uint64_t value) noexcept {
  assert(offset + 8 <= bytes.size());
  store64(bytes.data() + offset, value);
}

}  // namespace efnet
