#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "efio/export.h"
#include "efnet/wire/checksum.h"
#include "efnet/wire/flow.h"

// New addresses and ports for a packet, and every checksum that covers them mended, in one call.
//
// `to` is the flow that the packet belongs to afterwards, in the packet's own direction; its protocol and domain count
// for nothing. What is written depends on the packet:
//
//   UDP, UDP-Lite, TCP     addresses and ports; the header's checksum (IPv4) and the transport's. A UDP checksum of 0
//   over
//                          IPv4 stays 0; a computed 0 becomes 0xFFFF.
//   ICMP queries           addresses, and to.src_port as the identifier, which a FlowKey has in both ports
//   ICMP errors            to.dst as the destination. The packet that they quote went the other way: it becomes
//                          to.reversed(), with its own checksums as far as it is there. The source becomes to.src if
//                          the quoted destination changes thereby, and stays where it does not: then the error comes
//                          from a router behind that destination, which keeps its address (RFC 5508, REQ-4 and REQ-5).
//   first fragments        as the whole packet, whose transport checksum is in them
//   later fragments        addresses
//   other protocols        addresses; SCTP, whose checksum is a CRC over its ports, only if these stay as they are
//
// A checksum that was wrong stays wrong. False, and nothing changed, where that cannot be done: a transport header that
// is not all there, SCTP as above, an error that quotes no packet of the family, an IPv6 routing header that is still
// to be followed (its destination is not the one that checksums cover).

namespace efnet {
namespace rewrite_detail {

EFIO_EXPORT bool rewrite_error(Ipv4Mut packet, const FlowKey4& to) noexcept;
EFIO_EXPORT bool rewrite_error(Ipv6Mut packet, std::span<std::byte> message, const FlowKey& to) noexcept;

constexpr std::uint32_t ports_of(std::uint16_t src, std::uint16_t dst) noexcept {
  return std::uint32_t{src} << 16 | dst;
}

// Ports at the start of `at` and a checksum at `field` that covers them and the addresses.
[[gnu::always_inline]] inline void mend_ports(std::byte* at, std::size_t field, std::uint32_t ports,
                                              ChecksumDelta addresses, bool udp) noexcept {
  const ChecksumDelta delta = addresses + checksum_delta(load32(at), ports);
  const std::uint16_t before = load16(at + field);
  store32(at, ports);
  store16(at + field, udp ? update_udp(before, delta) : update(before, delta));
}

// The transport header in `bytes`, of a packet whose addresses change by `addresses`. False, and nothing changed, where
// rewrite() must refuse. ICMP errors are not for here.
template <bool ipv6>
[[gnu::always_inline]] inline bool mend_transport(std::span<std::byte> bytes, IpProtocol protocol, std::uint32_t ports,
                                                  ChecksumDelta addresses) noexcept {
  std::byte* at = bytes.data();
  switch (protocol) {
    case IpProtocol::udp:
    case IpProtocol::udp_lite:
      if (bytes.size() < UdpView::min_header) return false;
      mend_ports(at, 6, ports, addresses, true);
      return true;
    case IpProtocol::tcp:
      if (bytes.size() < TcpView::min_header) return false;
      mend_ports(at, 16, ports, addresses, false);
      return true;
    case IpProtocol::sctp:
      return bytes.size() >= 12 && load32(at) == ports;
    case IpProtocol::icmp:
    case IpProtocol::icmpv6: {
      if (ipv6 != (protocol == IpProtocol::icmpv6)) return true;
      if (bytes.size() < IcmpView::min_header) return false;
      ChecksumDelta delta = ipv6 ? addresses : ChecksumDelta();  // ICMP has no pseudo-header
      const std::uint8_t type = load8(at);
      if (ipv6 ? is_query(Icmpv6Type{type}) : is_query(IcmpType{type})) {
        const auto identifier = static_cast<std::uint16_t>(ports >> 16);
        delta += checksum_delta(load16(at + 4), identifier);
        store16(at + 4, identifier);
      }
      store16(at + 2, update(load16(at + 2), delta));
      return true;
    }
    default:
      return true;
  }
}

inline bool is_error_message(std::span<const std::byte> bytes, IpProtocol protocol, bool ipv6) noexcept {
  if (protocol != (ipv6 ? IpProtocol::icmpv6 : IpProtocol::icmp) || bytes.empty()) return false;
  return ipv6 ? is_error(Icmpv6Type{load8(bytes.data())}) : is_error(IcmpType{load8(bytes.data())});
}

[[gnu::always_inline]] inline void set_addresses(Ipv4Mut packet, Ipv4Address src, Ipv4Address dst,
                                                 ChecksumDelta delta) noexcept {
  packet.set_src(src);
  packet.set_dst(dst);
  packet.set_checksum(update(packet.checksum(), delta));
}

}  // namespace rewrite_detail

// In line: a view handed over in registers is put together in memory first, which costs more than the rewrite.
[[gnu::always_inline]] inline bool rewrite(Ipv4Mut packet, const FlowKey4& to) noexcept {
  namespace detail = rewrite_detail;
  const ChecksumDelta addresses = checksum_delta(packet.src(), to.src) + checksum_delta(packet.dst(), to.dst);
  if (!packet.is_later_fragment()) [[likely]] {
    const IpProtocol protocol = packet.protocol();
    if (detail::is_error_message(packet.payload(), protocol, false)) [[unlikely]]
      return detail::rewrite_error(packet, to);
    const std::uint32_t ports = detail::ports_of(to.src_port, to.dst_port);
    if (!detail::mend_transport<false>(packet.payload(), protocol, ports, addresses)) [[unlikely]]
      return false;
  }
  detail::set_addresses(packet, to.src, to.dst, addresses);
  return true;
}

[[gnu::always_inline]] inline bool rewrite(Ipv6Mut packet, const FlowKey& to) noexcept {
  namespace detail = rewrite_detail;
  const auto chain = packet.chain();
  if (!chain || chain->segments_left != 0) return false;
  if (!chain->is_later_fragment()) {
    const auto upper = packet.payload().subspan(chain->length);
    if (detail::is_error_message(upper, chain->protocol, true)) [[unlikely]]
      return detail::rewrite_error(packet, upper, to);
    const ChecksumDelta addresses = checksum_delta(packet.src(), to.src) + checksum_delta(packet.dst(), to.dst);
    const std::uint32_t ports = detail::ports_of(to.src_port, to.dst_port);
    if (!detail::mend_transport<true>(upper, chain->protocol, ports, addresses)) return false;
  }
  packet.set_src(to.src);
  packet.set_dst(to.dst);
  return true;
}

namespace rewrite_detail {

// rewrite() of what nearly every packet is, with what follows it. False, and nothing changed, for the others.
[[gnu::always_inline]] inline bool rewrite_usual(std::span<std::byte> room, const FlowKey4& to) noexcept {
  const flow_detail::Usual4 usual(room);
  if (!usual || usual.is_later_fragment()) return false;
  std::byte* const ip = room.data();
  const std::uint64_t addresses = std::uint64_t{to.src.number()} << 32 | to.dst.number();
  const ChecksumDelta delta = checksum_delta(load64(ip + 12), addresses);
  mend_ports(ip + Ipv4View::min_header, usual.udp ? 6 : 16, ports_of(to.src_port, to.dst_port), delta, usual.udp);
  store64(ip + 12, addresses);
  store16(ip + 10, update(load16(ip + 10), delta));
  return true;
}

// The addresses lie side by side, there and in a FlowKey: both pairs are summed as bytes.
[[gnu::always_inline]] inline bool rewrite_usual(std::span<std::byte> room, const FlowKey& to) noexcept {
  constexpr std::size_t both = 2 * Ipv6Address::size;
  const flow_detail::Usual6 usual(room);
  if (!usual) return false;
  std::byte* const ip = room.data();
  const auto before = efio::checksum_partial(std::span(ip + 8, both).first<both>());
  const auto after = efio::checksum_partial(std::as_bytes(std::span(&to, 1)).first<both>());
  const ChecksumDelta delta = checksum_delta(efio::checksum_fold(before), efio::checksum_fold(after));
  mend_ports(ip + Ipv6View::min_header, usual.udp ? 6 : 16, ports_of(to.src_port, to.dst_port), delta, usual.udp);
  to.src.store(ip + 8);
  to.dst.store(ip + 24);
  return true;
}

}  // namespace rewrite_detail

// The same for the IP packet in an Ethernet frame, behind any tags. Also false where there is none of to's version.
inline bool rewrite(std::span<std::byte> frame, const FlowKey4& to) noexcept {
  flow_detail::Place place;
  if (!place.find(frame) || place.type != EtherType::ipv4) return false;
  const auto room = frame.subspan(place.network);
  if (rewrite_detail::rewrite_usual(room, to)) [[likely]]
    return true;
  const auto packet = Ipv4Mut::parse(room);
  return packet && rewrite(*packet, to);
}
inline bool rewrite(std::span<std::byte> frame, const FlowKey& to) noexcept {
  if (to.version == 4) return rewrite(frame, to.key4());
  flow_detail::Place place;
  if (!place.find(frame) || place.type != EtherType::ipv6) return false;
  const auto room = frame.subspan(place.network);
  if (rewrite_detail::rewrite_usual(room, to)) [[likely]]
    return true;
  const auto packet = Ipv6Mut::parse(room);
  return packet && rewrite(*packet, to);
}

}  // namespace efnet
