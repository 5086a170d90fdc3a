#pragma once

#include <array>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "efio/export.h"
#include "efnet/wire/bytes.h"

// Addresses as values: the bytes as they are on the wire, compared as numbers. parse() takes the whole text or
// returns nothing; the caller knows what was being read and says so.

namespace efnet {

class MacAddress {
 public:
  static constexpr std::size_t size = 6;

  constexpr MacAddress() noexcept = default;
  constexpr explicit MacAddress(std::array<std::uint8_t, size> bytes) noexcept : bytes_(bytes) {}
  constexpr MacAddress(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d, std::uint8_t e,
                       std::uint8_t f) noexcept
      : bytes_{a, b, c, d, e, f} {}

  // The low 48 bits of `number`: 0x0200'0000'0001 is 02:00:00:00:00:01.
  static constexpr MacAddress from_number(std::uint64_t number) noexcept {
    MacAddress mac;
    for (std::size_t i = size; i-- > 0; number >>= 8) mac.bytes_[i] = static_cast<std::uint8_t>(number);
    return mac;
  }
  constexpr std::uint64_t number() const noexcept {
    std::uint64_t number = 0;
    for (const std::uint8_t byte : bytes_) number = number << 8 | byte;
    return number;
  }

  // 6 bytes at `at`.
  static MacAddress load(const std::byte* at) noexcept {
    MacAddress mac;
    std::memcpy(mac.bytes_.data(), at, size);
    return mac;
  }
  void store(std::byte* at) const noexcept { std::memcpy(at, bytes_.data(), size); }

  // Six pairs of hexadecimal digits with : or - between them.
  EFIO_EXPORT static std::optional<MacAddress> parse(std::string_view text) noexcept;

  static constexpr MacAddress broadcast() noexcept { return {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}; }

  constexpr const std::array<std::uint8_t, size>& bytes() const noexcept { return bytes_; }
  constexpr bool is_zero() const noexcept { return *this == MacAddress(); }
  constexpr bool is_group() const noexcept { return (bytes_[0] & 1) != 0; }  // multicast and broadcast
  constexpr bool is_broadcast() const noexcept { return *this == broadcast(); }
  constexpr bool is_local() const noexcept { return (bytes_[0] & 2) != 0; }  // administered locally

  constexpr MacAddress advanced(std::uint64_t by) const noexcept { return from_number(number() + by); }

  friend constexpr bool operator==(const MacAddress&, const MacAddress&) noexcept = default;
  friend constexpr auto operator<=>(const MacAddress& a, const MacAddress& b) noexcept {
    return a.number() <=> b.number();
  }

 private:
  std::array<std::uint8_t, size> bytes_{};
};

class Ipv4Address {
 public:
  static constexpr std::size_t size = 4;
  static constexpr unsigned bits = 32;

  constexpr Ipv4Address() noexcept = default;
  constexpr explicit Ipv4Address(std::array<std::uint8_t, size> bytes) noexcept : bytes_(bytes) {}
  constexpr Ipv4Address(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) noexcept : bytes_{a, b, c, d} {}

  // Host order: 0x0A000001 is 10.0.0.1.
  static constexpr Ipv4Address from_number(std::uint32_t number) noexcept {
    return Ipv4Address(std::bit_cast<std::array<std::uint8_t, size>>(bytes_detail::swapped(number)));
  }
  constexpr std::uint32_t number() const noexcept {
    return bytes_detail::swapped(std::bit_cast<std::uint32_t>(bytes_));
  }

  // 4 bytes at `at`.
  static Ipv4Address load(const std::byte* at) noexcept {
    Ipv4Address address;
    std::memcpy(address.bytes_.data(), at, size);
    return address;
  }
  void store(std::byte* at) const noexcept { std::memcpy(at, bytes_.data(), size); }

  // Four decimal numbers, none left out, no leading zeros.
  EFIO_EXPORT static std::optional<Ipv4Address> parse(std::string_view text) noexcept;

  static constexpr Ipv4Address broadcast() noexcept { return {255, 255, 255, 255}; }

  constexpr const std::array<std::uint8_t, size>& bytes() const noexcept { return bytes_; }
  constexpr bool is_unspecified() const noexcept { return number() == 0; }
  constexpr bool is_loopback() const noexcept { return bytes_[0] == 127; }
  constexpr bool is_multicast() const noexcept { return bytes_[0] >> 4 == 14; }
  constexpr bool is_broadcast() const noexcept { return *this == broadcast(); }
  constexpr bool is_link_local() const noexcept { return bytes_[0] == 169 && bytes_[1] == 254; }

  // `by` addresses on, wrapping after 255.255.255.255.
  constexpr Ipv4Address advanced(std::uint64_t by) const noexcept {
    return from_number(static_cast<std::uint32_t>(number() + by));
  }
  // With all but the first `length` bits cleared, or set.
  constexpr Ipv4Address first_of(unsigned length) const noexcept { return from_number(number() & mask(length)); }
  constexpr Ipv4Address last_of(unsigned length) const noexcept { return from_number(number() | ~mask(length)); }
  // How many addresses lie from this one to `last`, both counted; at most 2^64 - 1.
  constexpr std::uint64_t count_to(const Ipv4Address& last) const noexcept {
    return std::uint64_t{last.number()} - number() + 1;
  }

  friend constexpr bool operator==(const Ipv4Address& a, const Ipv4Address& b) noexcept {
    return a.number() == b.number();
  }
  friend constexpr auto operator<=>(const Ipv4Address& a, const Ipv4Address& b) noexcept {
    return a.number() <=> b.number();
  }

 private:
  static constexpr std::uint32_t mask(unsigned length) noexcept {
    return length == 0 ? 0 : ~std::uint32_t{0} << (length >= bits ? 0 : bits - length);
  }

  std::array<std::uint8_t, size> bytes_{};
};

class Ipv6Address {
 public:
  static constexpr std::size_t size = 16;
  static constexpr unsigned bits = 128;

  constexpr Ipv6Address() noexcept = default;
  constexpr explicit Ipv6Address(std::array<std::uint8_t, size> bytes) noexcept : bytes_(bytes) {}

  // Host order, the first and the last eight bytes: (0x2001'0db8'0000'0000, 1) is 2001:db8::1.
  static constexpr Ipv6Address from_numbers(std::uint64_t high, std::uint64_t low) noexcept {
    const std::array<std::uint64_t, 2> halves{bytes_detail::swapped(high), bytes_detail::swapped(low)};
    return Ipv6Address(std::bit_cast<std::array<std::uint8_t, size>>(halves));
  }
  // ::ffff:a.b.c.d (RFC 4291, 2.5.5.2)
  static constexpr Ipv6Address mapped(Ipv4Address address) noexcept {
    const std::array<std::uint32_t, 4> words{0, 0, bytes_detail::swapped(std::uint32_t{0xFFFF}),
                                             std::bit_cast<std::uint32_t>(address.bytes())};
    return Ipv6Address(std::bit_cast<std::array<std::uint8_t, size>>(words));
  }
  // Writes the last eight bytes of mapped(address) and leaves the first eight: over :: the same for half the stores.
  void set_mapped_low(Ipv4Address address) noexcept {
    const std::array<std::uint32_t, 2> words{bytes_detail::swapped(std::uint32_t{0xFFFF}),
                                             std::bit_cast<std::uint32_t>(address.bytes())};
    std::memcpy(bytes_.data() + 8, &words, 8);
  }
  constexpr std::uint64_t high() const noexcept { return half(0); }
  constexpr std::uint64_t low() const noexcept { return half(1); }

  // 16 bytes at `at`.
  static Ipv6Address load(const std::byte* at) noexcept {
    Ipv6Address address;
    std::memcpy(address.bytes_.data(), at, size);
    return address;
  }
  void store(std::byte* at) const noexcept { std::memcpy(at, bytes_.data(), size); }

  // The forms of RFC 4291, 2.2; no zone, no brackets.
  EFIO_EXPORT static std::optional<Ipv6Address> parse(std::string_view text) noexcept;

  constexpr const std::array<std::uint8_t, size>& bytes() const noexcept { return bytes_; }
  constexpr bool is_unspecified() const noexcept { return high() == 0 && low() == 0; }
  constexpr bool is_loopback() const noexcept { return high() == 0 && low() == 1; }
  constexpr bool is_multicast() const noexcept { return bytes_[0] == 0xFF; }
  constexpr bool is_link_local() const noexcept { return bytes_[0] == 0xFE && bytes_[1] >> 6 == 2; }
  constexpr bool is_mapped() const noexcept { return high() == 0 && low() >> 32 == 0xFFFF; }

  constexpr Ipv6Address advanced(std::uint64_t by) const noexcept {
    const std::uint64_t next = low() + by;
    return from_numbers(high() + (next < by ? 1 : 0), next);
  }
  constexpr Ipv6Address first_of(unsigned length) const noexcept {
    return from_numbers(high() & mask(length), low() & mask(length < 64 ? 0 : length - 64));
  }
  constexpr Ipv6Address last_of(unsigned length) const noexcept {
    return from_numbers(high() | ~mask(length), low() | ~mask(length < 64 ? 0 : length - 64));
  }
  constexpr std::uint64_t count_to(const Ipv6Address& last) const noexcept {
    const std::uint64_t distance = last.low() - low();
    const std::uint64_t above = last.high() - high() - (last.low() < low() ? 1 : 0);
    constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    return above != 0 || distance == most ? most : distance + 1;
  }

  friend constexpr bool operator==(const Ipv6Address& a, const Ipv6Address& b) noexcept {
    return ((a.high() ^ b.high()) | (a.low() ^ b.low())) == 0;
  }
  friend constexpr auto operator<=>(const Ipv6Address& a, const Ipv6Address& b) noexcept {
    const auto order = a.high() <=> b.high();
    return order != 0 ? order : a.low() <=> b.low();
  }

 private:
  static constexpr std::uint64_t mask(unsigned length) noexcept {
    return length == 0 ? 0 : ~std::uint64_t{0} << (length >= 64 ? 0 : 64 - length);
  }
  constexpr std::uint64_t half(std::size_t which) const noexcept {
    return bytes_detail::swapped(std::bit_cast<std::array<std::uint64_t, 2>>(bytes_)[which]);
  }

  std::array<std::uint8_t, size> bytes_{};
};

// An address and how many of its first bits name the network. The host bits are kept: the same text gives an
// interface's address and its network. A length above the address's bits counts as all of them.
template <class Address>
struct Prefix {
  Address address;
  std::uint8_t length = Address::bits;

  constexpr Address first() const noexcept { return address.first_of(length); }
  constexpr Address last() const noexcept { return address.last_of(length); }
  constexpr bool contains(const Address& other) const noexcept { return other.first_of(length) == first(); }

  // "10.0.0.1/24"; without a length, the address alone (/32, /128).
  EFIO_EXPORT static std::optional<Prefix> parse(std::string_view text) noexcept;

  friend constexpr bool operator==(const Prefix&, const Prefix&) noexcept = default;
};

using Ipv4Prefix = Prefix<Ipv4Address>;
using Ipv6Prefix = Prefix<Ipv6Address>;

// Addresses from `first` to `last`, both included; parse() sees to it that first <= last.
template <class Address>
struct AddressRange {
  Address first;
  Address last;

  constexpr bool contains(const Address& address) const noexcept { return first <= address && address <= last; }
  // At most 2^64 - 1.
  constexpr std::uint64_t size() const noexcept { return first.count_to(last); }
  // Address number index modulo size().
  constexpr Address at(std::uint64_t index) const noexcept {
    const std::uint64_t count = size();
    return first.advanced(count == 0 ? 0 : index % count);
  }

  // "10.0.0.1-10.0.0.99", "10.0.0.0/24" (all its addresses) or "10.0.0.1".
  EFIO_EXPORT static std::optional<AddressRange> parse(std::string_view text) noexcept;

  friend constexpr bool operator==(const AddressRange&, const AddressRange&) noexcept = default;
};

using Ipv4Range = AddressRange<Ipv4Address>;
using Ipv6Range = AddressRange<Ipv6Address>;

struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;

  constexpr bool contains(std::uint16_t port) const noexcept { return first <= port && port <= last; }
  constexpr std::uint32_t size() const noexcept { return std::uint32_t{last} - first + 1; }
  // Port number index modulo size().
  constexpr std::uint16_t at(std::uint64_t index) const noexcept {
    return static_cast<std::uint16_t>(first + (size() == 0 ? 0 : index % size()));
  }

  // "1024-65535" or "80".
  EFIO_EXPORT static std::optional<PortRange> parse(std::string_view text) noexcept;

  friend constexpr bool operator==(const PortRange&, const PortRange&) noexcept = default;
};

// 02:00:00:00:00:01, 10.0.0.1, 2001:db8::1 (RFC 5952), 10.0.0.0/8, 10.0.0.1-10.0.0.99, 1024-65535; a range of one is
// written as its only member. parse() reads back what these write. For fmt: efnet/wire/format.h.
EFIO_EXPORT std::string to_string(const MacAddress& address);
EFIO_EXPORT std::string to_string(const Ipv4Address& address);
EFIO_EXPORT std::string to_string(const Ipv6Address& address);
EFIO_EXPORT std::string to_string(const Ipv4Prefix& prefix);
EFIO_EXPORT std::string to_string(const Ipv6Prefix& prefix);
EFIO_EXPORT std::string to_string(const Ipv4Range& range);
EFIO_EXPORT std::string to_string(const Ipv6Range& range);
EFIO_EXPORT std::string to_string(const PortRange& range);

namespace address_detail {

// For tables that an attacker cannot fill: the mix has no secret.
constexpr std::size_t mix(std::uint64_t a, std::uint64_t b = 0) noexcept {
  std::uint64_t h = (a ^ std::rotl(b * 0x9E37'79B9'7F4A'7C15, 32)) * 0xD6E8'FEB8'6659'FD93;
  h ^= h >> 32;
  h *= 0xD6E8'FEB8'6659'FD93;
  return static_cast<std::size_t>(h ^ (h >> 32));
}

}  // namespace address_detail
}  // namespace efnet

template <>
struct std::hash<efnet::MacAddress> {
  std::size_t operator()(const efnet::MacAddress& address) const noexcept {
    return efnet::address_detail::mix(address.number());
  }
};
template <>
struct std::hash<efnet::Ipv4Address> {
  std::size_t operator()(const efnet::Ipv4Address& address) const noexcept {
    return efnet::address_detail::mix(address.number());
  }
};
template <>
struct std::hash<efnet::Ipv6Address> {
  std::size_t operator()(const efnet::Ipv6Address& address) const noexcept {
    return efnet::address_detail::mix(address.high(), address.low());
  }
};
