#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "efnet/nat44/verdict.h"
#include "efnet/wire/checksum.h"
#include "efnet/wire/flow.h"

// Step 1: what a packet is.

namespace efnet {

constexpr bool is_translated_protocol(IpProtocol protocol) noexcept {
  return protocol == IpProtocol::udp || protocol == IpProtocol::tcp || protocol == IpProtocol::icmp;
}

// Filled by classify(): an array of them costs next to nothing before.
struct NatPacket {
  std::span<std::byte> frame;
  std::uint16_t network;    // offset of the IPv4 header
  std::uint16_t transport;  // of what follows it
  std::uint16_t length;     // of the IPv4 packet
  std::uint16_t identification;
  FlowClass kind;
  std::uint8_t tcp_flags;  // of TCP
  bool fragmented;
  bool simple;  // whole, of a session's kind, with a right header and time to live: nothing but its session matters
  bool plain;   // simple, and UDP or TCP right behind 14 and 20 bytes
  NatVerdict refused;  // where it is not to be looked at: why; else `translated`

  Ipv4Mut ip() const noexcept { return *Ipv4Mut::parse(frame.subspan(network)); }
  std::span<std::byte> message() const noexcept {
    return frame.subspan(transport, std::size_t{length} - (transport - network));
  }
};

[[gnu::noinline]] inline void classify_any(std::span<std::byte> frame, NatPacket& packet, FlowKey4& key) noexcept {
  packet = {};
  packet.frame = frame;
  packet.refused = NatVerdict::malformed;
  key = {};
  Flow flow;
  const FlowClass kind = parse_flow(frame, flow);
  packet.kind = kind;
  if (flow.key.version != 4) {
    if (kind != FlowClass::malformed || flow.type == EtherType::ipv6) packet.refused = NatVerdict::not_ipv4;
    return;
  }
  if (kind == FlowClass::malformed) return;
  packet.network = flow.network;
  packet.transport = flow.transport;
  packet.length = static_cast<std::uint16_t>(flow.end - flow.network);
  packet.identification = static_cast<std::uint16_t>(flow.identification);
  packet.fragmented = flow.is_fragmented();
  const Ipv4View ip = packet.ip();
  if (!verify_header(ip)) [[unlikely]] {
    packet.refused = NatVerdict::header_checksum;
    return;
  }
  packet.refused = NatVerdict::translated;
  key = flow.key.key4();
  const bool of_session = kind == FlowClass::ports || kind == FlowClass::icmp_query;
  if (kind == FlowClass::ports && key.protocol == IpProtocol::tcp)
    packet.tcp_flags = load8(frame.data() + flow.transport + 13);
  packet.simple = of_session && !packet.fragmented && ip.ttl() > 1;
}

// Fills the packet and its key, which is all zeros, and so nobody's, where there is none. What nearly all packets are,
// UDP or TCP right behind 14 and 20 bytes, is seen here at once; of the others parse_flow() tells.
[[gnu::always_inline]] inline void classify(std::span<std::byte> frame, NatPacket& packet, FlowKey4& key) noexcept {
  constexpr std::size_t network = EthernetView::min_header;
  constexpr std::size_t transport = network + Ipv4View::min_header;
  const std::byte* const at = frame.data();
  if (frame.size() >= transport + UdpView::min_header &&
      load16(at + 12) == static_cast<std::uint16_t>(EtherType::ipv4) && load8(at + network) == 0x45) [[likely]] {
    const std::size_t length = load16(at + network + 2);
    const bool unfragmented = (load16(at + network + 6) & 0x3FFF) == 0;
    const IpProtocol protocol{load8(at + network + 9)};
    const bool is_udp = protocol == IpProtocol::udp;
    const std::size_t least = Ipv4View::min_header + (is_udp ? UdpView::min_header : TcpView::min_header);
    if ((is_udp || protocol == IpProtocol::tcp) && unfragmented && length >= least &&
        length <= frame.size() - network && load8(at + network + 8) > 1) [[likely]] {
      const std::size_t carried = length - Ipv4View::min_header;
      const std::size_t header =
          is_udp ? load16(at + transport + 4) : (load8(at + transport + 12) >> 4) * std::size_t{4};
      const std::size_t least_header = is_udp ? UdpView::min_header : TcpView::min_header;
      const auto sum = efio::checksum_partial(std::span<const std::byte, Ipv4View::min_header>(at + network, 20));
      if (header >= least_header && header <= carried && efio::checksum_fold(sum) == 0xFFFF) [[likely]] {
        packet = {.frame = frame,
                  .network = network,
                  .transport = transport,
                  .length = static_cast<std::uint16_t>(length),
                  .identification = 0,
                  .kind = FlowClass::ports,
                  .tcp_flags = is_udp ? std::uint8_t{0} : load8(at + transport + 13),
                  .fragmented = false,
                  .simple = true,
                  .plain = true,
                  .refused = NatVerdict::translated};
        key = {.src = Ipv4Address::load(at + network + 12),
               .dst = Ipv4Address::load(at + network + 16),
               .src_port = load16(at + transport),
               .dst_port = load16(at + transport + 2),
               .protocol = protocol};
        return;
      }
    }
  }
  classify_any(frame, packet, key);
}

}  // namespace efnet
