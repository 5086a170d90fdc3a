#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "efnet/nat44/verdict.h"
#include "efnet/wire/checksum.h"
#include "efnet/wire/flow.h"

// Step 1: what a packet is.

namespace efnet {

struct NatPacket {
  std::span<std::byte> frame;
  std::uint16_t network = 0;    // offset of the IPv4 header
  std::uint16_t transport = 0;  // of what follows it
  std::uint16_t length = 0;     // of the IPv4 packet
  std::uint16_t identification = 0;
  FlowClass kind = FlowClass::malformed;
  std::uint8_t tcp_flags = 0;  // of TCP
  bool fragmented = false;
  bool simple =
      false;  // whole, of a session's kind, with a right header and time to live: nothing but its session matters
  NatVerdict refused = NatVerdict::malformed;  // where it is not to be looked at: why; else `translated`

  Ipv4Mut ip() const noexcept { return *Ipv4Mut::parse(frame.subspan(network)); }
  std::span<std::byte> message() const noexcept {
    return frame.subspan(transport, std::size_t{length} - (transport - network));
  }
  bool is_tcp(FlowKey4 key) const noexcept { return key.protocol == IpProtocol::tcp && kind == FlowClass::ports; }
};

// Fills the packet and its key, which is all zeros, and so nobody's, where there is none.
inline void classify(std::span<std::byte> frame, NatPacket& packet, FlowKey4& key) noexcept {
  packet = NatPacket{.frame = frame};
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

}  // namespace efnet
