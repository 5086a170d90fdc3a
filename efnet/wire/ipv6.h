#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "efnet/wire/address.h"
#include "efnet/wire/bytes.h"
#include "efnet/wire/protocol.h"

namespace efnet {

// What comes after the fixed header and its extension headers.
struct Ipv6Chain {
  IpProtocol protocol = IpProtocol::ipv6_none;  // of what follows; for a later fragment, of what was fragmented
  std::uint16_t length = 0;                     // of all extension headers, in bytes
  bool fragmented = false;
  bool more_fragments = false;
  std::uint16_t fragment_offset = 0;  // in bytes
  std::uint32_t identification = 0;   // of the fragment header
  std::uint8_t segments_left = 0;     // of a routing header: if not 0, dst is not the final destination

  bool is_later_fragment() const noexcept { return fragment_offset != 0; }  // no transport header follows
};

inline constexpr std::size_t max_ipv6_extensions = 8;

// Whether walk_ipv6_extensions() walks over it.
constexpr bool is_ipv6_extension(IpProtocol protocol) noexcept {
  switch (protocol) {
    case IpProtocol::hop_by_hop:
    case IpProtocol::ipv6_route:
    case IpProtocol::ipv6_fragment:
    case IpProtocol::ah:
    case IpProtocol::ipv6_destination:
    case IpProtocol::mobility:
    case IpProtocol::hip:
    case IpProtocol::shim6:
      return true;
    default:
      return false;
  }
}

// Walks the extension headers (RFC 8200, 4) at the start of `payload`, the first of them named by `next`. Stops at an
// upper-layer protocol, at ESP, and after the fragment header of a later fragment. Refused: a header that is cut short,
// a hop-by-hop header that is not the first, a second fragment header, more than max_ipv6_extensions.
inline std::optional<Ipv6Chain> walk_ipv6_extensions(std::span<const std::byte> payload, IpProtocol next) noexcept {
  Ipv6Chain chain{.protocol = next};
  std::size_t at = 0;
  for (std::size_t count = 0;; ++count) {
    std::size_t length = 0;
    switch (chain.protocol) {
      case IpProtocol::hop_by_hop:
        if (count != 0) return std::nullopt;
        [[fallthrough]];
      case IpProtocol::ipv6_route:
      case IpProtocol::ipv6_destination:
      case IpProtocol::mobility:
      case IpProtocol::hip:
      case IpProtocol::shim6:
        if (payload.size() - at < 8) return std::nullopt;
        length = (load8(payload.data() + at + 1) + std::size_t{1}) * 8;
        if (chain.protocol == IpProtocol::ipv6_route) chain.segments_left = load8(payload.data() + at + 3);
        break;
      case IpProtocol::ah:  // RFC 4302, 2.2: in units of 4 bytes
        if (payload.size() - at < 8) return std::nullopt;
        length = (load8(payload.data() + at + 1) + std::size_t{2}) * 4;
        break;
      case IpProtocol::ipv6_fragment: {
        if (chain.fragmented || payload.size() - at < 8) return std::nullopt;
        length = 8;
        const std::uint16_t field = load16(payload.data() + at + 2);
        chain.fragmented = true;
        chain.more_fragments = (field & 1) != 0;
        chain.fragment_offset = field & 0xFFF8;
        chain.identification = load32(payload.data() + at + 4);
        break;
      }
      default:
        chain.length = static_cast<std::uint16_t>(at);
        return chain;
    }
    if (count == max_ipv6_extensions || length > payload.size() - at) return std::nullopt;
    chain.protocol = IpProtocol{load8(payload.data() + at)};
    at += length;
    if (chain.is_later_fragment()) {
      chain.length = static_cast<std::uint16_t>(at);
      return chain;
    }
  }
}

// An IPv6 packet (RFC 8200). Jumbograms (RFC 2675) are not understood: their payload seems empty. See ethernet.h for
// what views promise.
template <ByteLike Byte>
class BasicIpv6 {
 public:
  static constexpr std::size_t min_header = 40;

  // `bytes` begins with the header and may go on after the packet. Refused: another version, a payload length above
  // what is there.
  static std::optional<BasicIpv6> parse(std::span<Byte> bytes) noexcept { return checked(bytes, true); }

  // For a packet quoted in an ICMP error or cut by a capture: its fixed header must be whole.
  static std::optional<BasicIpv6> parse_truncated(std::span<Byte> bytes) noexcept { return checked(bytes, false); }

  std::uint8_t traffic_class() const noexcept { return static_cast<std::uint8_t>(load16(at_) >> 4); }
  std::uint32_t flow_label() const noexcept { return load32(at_) & 0xF'FFFF; }
  std::uint16_t payload_length() const noexcept { return payload_length_; }
  IpProtocol next_header() const noexcept { return IpProtocol{load8(at_ + 6)}; }
  std::uint8_t hop_limit() const noexcept { return load8(at_ + 7); }
  Ipv6Address src() const noexcept { return Ipv6Address::load(at_ + 8); }
  Ipv6Address dst() const noexcept { return Ipv6Address::load(at_ + 24); }

  std::span<Byte> header() const noexcept { return {at_, min_header}; }
  // Extension headers and what follows them, up to the payload length.
  std::span<Byte> payload() const noexcept { return {at_ + min_header, size_}; }
  std::span<Byte> bytes() const noexcept { return {at_, min_header + size_}; }
  bool is_truncated() const noexcept { return size_ < payload_length_; }

  // The upper layer begins at payload().subspan(chain.length).
  std::optional<Ipv6Chain> chain() const noexcept { return walk_ipv6_extensions(payload(), next_header()); }

  void set_traffic_class(std::uint8_t value) const noexcept requires MutableByte<Byte> {
    store16(at_, static_cast<std::uint16_t>((load16(at_) & 0xF00F) | value << 4));
  }
  void set_flow_label(std::uint32_t value) const noexcept requires MutableByte<Byte> {
    store32(at_, (load32(at_) & 0xFFF0'0000) | (value & 0xF'FFFF));
  }
  void set_next_header(IpProtocol value) const noexcept requires MutableByte<Byte> {
    store8(at_ + 6, static_cast<std::uint8_t>(value));
  }
  void set_hop_limit(std::uint8_t value) const noexcept requires MutableByte<Byte> { store8(at_ + 7, value); }
  void set_src(const Ipv6Address& value) const noexcept requires MutableByte<Byte> { value.store(at_ + 8); }
  void set_dst(const Ipv6Address& value) const noexcept requires MutableByte<Byte> { value.store(at_ + 24); }

  operator BasicIpv6<const std::byte>() const noexcept requires MutableByte<Byte> {
    return BasicIpv6<const std::byte>(at_, size_, payload_length_);
  }

 private:
  template <ByteLike>
  friend class BasicIpv6;

  [[gnu::always_inline]] static std::optional<BasicIpv6> checked(std::span<Byte> bytes, bool whole) noexcept {
    if (bytes.size() < min_header || load8(bytes.data()) >> 4 != 6) return std::nullopt;
    const std::uint16_t length = load16(bytes.data() + 4);
    const std::size_t there = bytes.size() - min_header;
    if (whole && there < length) return std::nullopt;
    return BasicIpv6(bytes.data(), length < there ? length : there, length);
  }

  BasicIpv6(Byte* at, std::size_t size, std::uint16_t payload_length) noexcept
      : at_(at), size_(static_cast<std::uint16_t>(size)), payload_length_(payload_length) {}

  Byte* at_;
  std::uint16_t size_;  // of the payload that is there
  std::uint16_t payload_length_;
};

using Ipv6View = BasicIpv6<const std::byte>;
using Ipv6Mut = BasicIpv6<std::byte>;

struct Ipv6Header {
  Ipv6Address src;
  Ipv6Address dst;
  IpProtocol next_header = IpProtocol::udp;
  std::size_t payload_length = 0;  // extension headers included
  std::uint8_t hop_limit = 64;
  std::uint8_t traffic_class = 0;
  std::uint32_t flow_label = 0;  // the low 20 bits

  static constexpr std::size_t size() noexcept { return Ipv6View::min_header; }

  // Returns size(), or 0, with nothing written, where `out` is shorter or the payload exceeds 65,535 bytes.
  std::size_t emit(std::span<std::byte> out) const noexcept {
    if (out.size() < size() || payload_length > 0xFFFF) return 0;
    std::byte* at = out.data();
    store32(at, 0x6000'0000 | std::uint32_t{traffic_class} << 20 | (flow_label & 0xF'FFFF));
    store16(at + 4, static_cast<std::uint16_t>(payload_length));
    store8(at + 6, static_cast<std::uint8_t>(next_header));
    store8(at + 7, hop_limit);
    src.store(at + 8);
    dst.store(at + 24);
    return size();
  }
};

}  // namespace efnet
