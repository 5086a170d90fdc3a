#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "efnet/wire/bytes.h"

namespace efnet {

// RFC 792 and 950, and what became of them. Any 8-bit value may be met.
enum class IcmpType : std::uint8_t {
  echo_reply = 0,
  destination_unreachable = 3,
  source_quench = 4,
  redirect = 5,
  echo_request = 8,
  time_exceeded = 11,
  parameter_problem = 12,
  timestamp_request = 13,
  timestamp_reply = 14,
  information_request = 15,
  information_reply = 16,
  mask_request = 17,
  mask_reply = 18,
};

// RFC 4443 and 4861. Any 8-bit value may be met.
enum class Icmpv6Type : std::uint8_t {
  destination_unreachable = 1,
  packet_too_big = 2,
  time_exceeded = 3,
  parameter_problem = 4,
  echo_request = 128,
  echo_reply = 129,
  router_solicitation = 133,
  router_advertisement = 134,
  neighbor_solicitation = 135,
  neighbor_advertisement = 136,
  redirect = 137,
};

// Carries an identifier that belongs to a conversation: echo, timestamp, information and mask.
constexpr bool is_query(IcmpType type) noexcept {
  const auto number = static_cast<unsigned>(type);
  return number == 0 || number == 8 || (number >= 13 && number <= 18);
}
constexpr bool is_query(Icmpv6Type type) noexcept {
  return type == Icmpv6Type::echo_request || type == Icmpv6Type::echo_reply;
}
// Quotes the packet that it is about.
constexpr bool is_error(IcmpType type) noexcept {
  const auto number = static_cast<unsigned>(type);
  return (number >= 3 && number <= 5) || number == 11 || number == 12;
}
constexpr bool is_error(Icmpv6Type type) noexcept { return static_cast<unsigned>(type) < 128; }

// An ICMP (RFC 792) or ICMPv6 (RFC 4443) message: the same eight bytes, with types of their own. See ethernet.h for
// what views promise.
template <ByteLike Byte, class Type>
class BasicIcmp {
 public:
  static constexpr std::size_t min_header = 8;

  // `bytes` is the whole message: ICMP has no length of its own. Refused: fewer than 8 bytes.
  static std::optional<BasicIcmp> parse(std::span<Byte> bytes) noexcept {
    if (bytes.size() < min_header) return std::nullopt;
    return BasicIcmp(bytes);
  }

  Type type() const noexcept { return Type{load8(bytes_.data())}; }
  std::uint8_t code() const noexcept { return load8(bytes_.data() + 1); }
  std::uint16_t checksum() const noexcept { return load16(bytes_.data() + 2); }
  std::uint32_t rest() const noexcept { return load32(bytes_.data() + 4); }        // the second four bytes, by type:
  std::uint16_t identifier() const noexcept { return load16(bytes_.data() + 4); }  // query
  std::uint16_t sequence() const noexcept { return load16(bytes_.data() + 6); }    // query
  // IPv4: next-hop MTU of "fragmentation needed" (RFC 1191). IPv6: MTU of "packet too big".
  std::uint32_t mtu() const noexcept {
    if constexpr (std::same_as<Type, IcmpType>) return load16(bytes_.data() + 6);
    return rest();
  }

  // Echo: the data. Error: the quoted packet, which its sender may have cut and may have lied about
  // (Ipv4View::parse_truncated), and extensions (RFC 4884) where there are any.
  std::span<Byte> payload() const noexcept { return bytes_.subspan(min_header); }
  std::span<Byte> bytes() const noexcept { return bytes_; }

  void set_type(Type value) const noexcept requires MutableByte<Byte> {
    store8(bytes_.data(), static_cast<std::uint8_t>(value));
  }
  void set_code(std::uint8_t value) const noexcept requires MutableByte<Byte> { store8(bytes_.data() + 1, value); }
  void set_checksum(std::uint16_t value) const noexcept requires MutableByte<Byte> {
    store16(bytes_.data() + 2, value);
  }
  void set_rest(std::uint32_t value) const noexcept requires MutableByte<Byte> { store32(bytes_.data() + 4, value); }
  void set_identifier(std::uint16_t value) const noexcept requires MutableByte<Byte> {
    store16(bytes_.data() + 4, value);
  }
  void set_sequence(std::uint16_t value) const noexcept requires MutableByte<Byte> {
    store16(bytes_.data() + 6, value);
  }

  operator BasicIcmp<const std::byte, Type>() const noexcept requires MutableByte<Byte> {
    return BasicIcmp<const std::byte, Type>(bytes_);
  }

 private:
  template <ByteLike, class>
  friend class BasicIcmp;

  explicit BasicIcmp(std::span<Byte> bytes) noexcept : bytes_(bytes) {}

  std::span<Byte> bytes_;
};

using IcmpView = BasicIcmp<const std::byte, IcmpType>;
using IcmpMut = BasicIcmp<std::byte, IcmpType>;
using Icmpv6View = BasicIcmp<const std::byte, Icmpv6Type>;
using Icmpv6Mut = BasicIcmp<std::byte, Icmpv6Type>;

template <class Type>
struct BasicIcmpHeader {
  Type type = Type::echo_request;
  std::uint8_t code = 0;
  std::uint32_t rest = 0;  // the second four bytes

  static constexpr BasicIcmpHeader echo(Type type, std::uint16_t identifier, std::uint16_t sequence) noexcept {
    return {type, 0, std::uint32_t{identifier} << 16 | sequence};
  }

  static constexpr std::size_t size() noexcept { return 8; }

  // Returns size(), with the checksum 0 (then: fill_transport, once the payload is there); or 0, with nothing written,
  // where `out` is shorter.
  std::size_t emit(std::span<std::byte> out) const noexcept {
    if (out.size() < size()) return 0;
    store8(out.data(), static_cast<std::uint8_t>(type));
    store8(out.data() + 1, code);
    store16(out.data() + 2, 0);
    store32(out.data() + 4, rest);
    return size();
  }
};

using IcmpHeader = BasicIcmpHeader<IcmpType>;
using Icmpv6Header = BasicIcmpHeader<Icmpv6Type>;

}  // namespace efnet
