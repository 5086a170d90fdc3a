#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <type_traits>

#include "efnet/wire/address.h"
#include "efnet/wire/bytes.h"
#include "efnet/wire/ethernet.h"
#include "efnet/wire/icmp.h"
#include "efnet/wire/ipv4.h"
#include "efnet/wire/ipv6.h"
#include "efnet/wire/protocol.h"
#include "efnet/wire/tcp.h"
#include "efnet/wire/udp.h"

// From a frame to who speaks to whom, in one pass.

namespace efnet {

// A flow of IPv4 in 16 bytes. All of them count, so that keys may be compared and hashed as bytes.
struct FlowKey4 {
  Ipv4Address src;
  Ipv4Address dst;
  std::uint16_t src_port = 0;
  std::uint16_t dst_port = 0;
  IpProtocol protocol{};
  std::uint8_t reserved = 0;
  std::uint16_t domain = 0;

  constexpr FlowKey4 reversed() const noexcept { return {dst, src, dst_port, src_port, protocol, reserved, domain}; }

  friend constexpr bool operator==(const FlowKey4& a, const FlowKey4& b) noexcept { return a.words() == b.words(); }

  constexpr std::array<std::uint64_t, 2> words() const noexcept {
    return std::bit_cast<std::array<std::uint64_t, 2>>(*this);
  }
};
static_assert(sizeof(FlowKey4) == 16 && std::has_unique_object_representations_v<FlowKey4>);

// A flow of either family in 40 bytes; IPv4 addresses are mapped (::ffff:a.b.c.d). All bytes count.
struct FlowKey {
  Ipv6Address src;
  Ipv6Address dst;
  std::uint16_t src_port = 0;  // host order; the identifier, in both, of an ICMP query; else 0
  std::uint16_t dst_port = 0;
  IpProtocol protocol{};
  std::uint8_t version = 0;  // 4 or 6; 0 where there is no flow
  std::uint16_t domain = 0;  // the program's own, such as a VLAN: keys of different domains differ

  constexpr FlowKey reversed() const noexcept { return {dst, src, dst_port, src_port, protocol, version, domain}; }

  // Meaningful where version is 4.
  constexpr FlowKey4 key4() const noexcept {
    return {Ipv4Address::from_number(static_cast<std::uint32_t>(src.low())),
            Ipv4Address::from_number(static_cast<std::uint32_t>(dst.low())),
            src_port,
            dst_port,
            protocol,
            0,
            domain};
  }

  friend constexpr bool operator==(const FlowKey& a, const FlowKey& b) noexcept { return a.words() == b.words(); }

  constexpr std::array<std::uint64_t, 5> words() const noexcept {
    return std::bit_cast<std::array<std::uint64_t, 5>>(*this);
  }
};
static_assert(sizeof(FlowKey) == 40 && std::has_unique_object_representations_v<FlowKey>);

enum class FlowClass : std::uint8_t {
  malformed,   // no packet that can be trusted: fault says where
  other,       // neither IP nor ARP; offsets.network is where it begins
  arp,         //
  ports,       // TCP, UDP, UDP-Lite, SCTP: the key is complete
  icmp_query,  // echo and its like: the key has the identifier
  icmp_error,  // quotes a packet, at offsets.payload
  icmp_other,  // neighbour discovery and what else there is
  protocol,    // another protocol: addresses and protocol only
  fragment,    // not the first: addresses and protocol only, and fragment
};

// The header that could not be read.
enum class FlowFault : std::uint8_t { none, ethernet, ip, extension, transport };

// What parse_flow() finds. Offsets count from the start of the frame; those of headers that are not there, or were not
// reached, are 0.
struct Flow {
  FlowKey key;
  FlowClass kind = FlowClass::malformed;
  FlowFault fault = FlowFault::none;
  bool more_fragments = false;        // with kind other than fragment: the first of several
  std::uint16_t tci = 0;              // of the outermost tag
  EtherType type{};                   // after all tags
  std::uint16_t network = 0;          // the IP or ARP header
  std::uint16_t transport = 0;        // the header, or the fragment's bytes, after IP and its extensions
  std::uint16_t payload = 0;          // what TCP, UDP or ICMP carries
  std::uint16_t fragment_offset = 0;  // in bytes
  std::uint32_t end = 0;              // of the IP packet: what comes after it is padding
  std::uint32_t identification = 0;   // of fragments that belong together; 0 where there are none

  std::size_t tag_count() const noexcept {
    return network == 0 ? 0 : (network - EthernetView::min_header) / VlanTag::size;
  }
  bool is_fragmented() const noexcept { return more_fragments || fragment_offset != 0; }
};
static_assert(sizeof(Flow) == 64);

namespace flow_detail {

inline FlowClass refuse(Flow& flow, FlowFault fault) noexcept {
  flow.fault = fault;
  return FlowClass::malformed;
}

// Where the packet in a frame begins, and what it is. Nearly every frame has two tags at most, which are told without a
// loop. False where EthernetView::parse() says no.
struct Place {
  [[gnu::always_inline]] bool find(std::span<const std::byte> frame) noexcept {
    constexpr std::size_t most_tags = 2;
    if (frame.size() >= EthernetView::min_header + most_tags * VlanTag::size) [[likely]] {
#pragma GCC unroll 3
      for (std::size_t tags = 0; tags <= most_tags; ++tags) {
        network = EthernetView::min_header + tags * VlanTag::size;
        type = EtherType{load16(frame.data() + network - 2)};
        if (!is_vlan(type)) return true;
      }
    }
    const auto ethernet = EthernetView::parse(frame);
    if (!ethernet) return false;
    network = ethernet->header_length();
    type = ethernet->type();
    return true;
  }

  std::size_t network;
  EtherType type;
};

// What nearly every IPv4 packet is, told without a view in between: one without options, of UDP or TCP, and with room
// enough (as Ethernet's shortest frame has) for the headers of either. Converts to false for what must be looked at
// more closely.
struct Usual4 {
  // `room`: the packet and what follows it in the frame.
  [[gnu::always_inline]] explicit Usual4(std::span<const std::byte> room) noexcept {
    if (room.size() < Ipv4View::min_header + TcpView::min_header) return;
    const std::byte* const ip = room.data();
    const IpProtocol protocol{load8(ip + 9)};
    udp = protocol == IpProtocol::udp;
    if (load8(ip) != 0x45 || (!udp && protocol != IpProtocol::tcp)) return;
    total = load16(ip + 2);
    fragment_field = load16(ip + 6);
    const std::size_t least = Ipv4View::min_header + (udp ? UdpView::min_header : TcpView::min_header);
    is_usual = total >= least && total <= room.size();
  }
  explicit operator bool() const noexcept { return is_usual; }
  bool is_fragment() const noexcept { return (fragment_field & 0x3FFF) != 0; }
  bool is_later_fragment() const noexcept { return (fragment_field & 0x1FFF) != 0; }

  bool is_usual = false;
  bool udp = false;
  std::uint16_t fragment_field = 0;
  std::size_t total = 0;  // length of the packet
};

// The same for IPv6 without extension headers.
struct Usual6 {
  [[gnu::always_inline]] explicit Usual6(std::span<const std::byte> room) noexcept {
    if (room.size() < Ipv6View::min_header + UdpView::min_header) return;
    const std::byte* const ip = room.data();
    const IpProtocol protocol{load8(ip + 6)};
    udp = protocol == IpProtocol::udp;
    if (load8(ip) >> 4 != 6 || (!udp && protocol != IpProtocol::tcp)) return;
    const std::size_t carried = load16(ip + 4);
    is_usual =
        carried >= (udp ? UdpView::min_header : TcpView::min_header) && Ipv6View::min_header + carried <= room.size();
  }
  explicit operator bool() const noexcept { return is_usual; }

  bool is_usual = false;
  bool udp = false;
};

// The transport header, at flow.transport, in the `bytes` that IP carries.
[[gnu::always_inline]] inline FlowClass parse_transport(std::span<const std::byte> bytes, IpProtocol protocol,
                                                        bool ipv6, Flow& flow) noexcept {
  std::size_t header = 8;
  switch (protocol) {
    case IpProtocol::udp: {
      if (bytes.size() < UdpView::min_header) return refuse(flow, FlowFault::transport);
      const std::size_t length = load16(bytes.data() + 4);
      if (length < UdpView::min_header || (length > bytes.size() && !flow.more_fragments))
        return refuse(flow, FlowFault::transport);
      break;
    }
    case IpProtocol::tcp:
      if (bytes.size() < TcpView::min_header) return refuse(flow, FlowFault::transport);
      header = (load8(bytes.data() + 12) >> 4) * std::size_t{4};
      if (header < TcpView::min_header) return refuse(flow, FlowFault::transport);
      if (header > bytes.size()) {
        // Options may go on in the next fragment; what comes before them may not (RFC 1858).
        if (!flow.more_fragments) return refuse(flow, FlowFault::transport);
        header = bytes.size();
      }
      break;
    case IpProtocol::udp_lite:
      if (bytes.size() < header) return refuse(flow, FlowFault::transport);
      break;
    case IpProtocol::sctp:
      header = 12;
      if (bytes.size() < header) return refuse(flow, FlowFault::transport);
      break;
    case IpProtocol::icmp:
    case IpProtocol::icmpv6: {
      if (ipv6 != (protocol == IpProtocol::icmpv6)) return FlowClass::protocol;
      if (bytes.size() < header) return refuse(flow, FlowFault::transport);
      flow.payload = static_cast<std::uint16_t>(flow.transport + header);
      const std::uint8_t type = load8(bytes.data());
      if (ipv6 ? is_error(Icmpv6Type{type}) : is_error(IcmpType{type})) return FlowClass::icmp_error;
      if (ipv6 ? !is_query(Icmpv6Type{type}) : !is_query(IcmpType{type})) return FlowClass::icmp_other;
      flow.key.src_port = flow.key.dst_port = load16(bytes.data() + 4);
      return FlowClass::icmp_query;
    }
    default:
      return FlowClass::protocol;
  }
  flow.payload = static_cast<std::uint16_t>(flow.transport + header);
  flow.key.src_port = load16(bytes.data());
  flow.key.dst_port = load16(bytes.data() + 2);
  return FlowClass::ports;
}

// Into a flow that is all zeros, like the next one. Stores are what bounds the pass: nothing is written twice.
[[gnu::always_inline]] inline FlowClass parse_ipv4(std::span<const std::byte> bytes, std::size_t network,
                                                   Flow& flow) noexcept {
  const auto ip = Ipv4View::parse(bytes);
  if (!ip) return refuse(flow, FlowFault::ip);
  const IpProtocol protocol = ip->protocol();
  flow.key.src.set_mapped_low(ip->src());
  flow.key.dst.set_mapped_low(ip->dst());
  flow.key.protocol = protocol;
  flow.key.version = 4;
  flow.transport = static_cast<std::uint16_t>(network + ip->header_length());
  flow.end = static_cast<std::uint32_t>(network + ip->total_length());
  if (ip->is_fragment()) [[unlikely]] {
    flow.identification = ip->identification();
    flow.more_fragments = ip->more_fragments();
    flow.fragment_offset = ip->fragment_offset();
    if (flow.fragment_offset != 0) return FlowClass::fragment;
  }
  return parse_transport(ip->payload(), protocol, false, flow);
}

[[gnu::always_inline]] inline FlowClass parse_ipv6(std::span<const std::byte> bytes, std::size_t network,
                                                   Flow& flow) noexcept {
  const auto ip = Ipv6View::parse(bytes);
  if (!ip) return refuse(flow, FlowFault::ip);
  flow.key.src = ip->src();
  flow.key.dst = ip->dst();
  flow.key.version = 6;
  flow.end = static_cast<std::uint32_t>(network + ip->bytes().size());
  IpProtocol protocol = ip->next_header();
  std::size_t extensions = 0;
  if (is_ipv6_extension(protocol)) [[unlikely]] {
    const auto chain = ip->chain();
    if (!chain) return refuse(flow, FlowFault::extension);
    protocol = chain->protocol;
    extensions = chain->length;
    flow.identification = chain->identification;
    flow.more_fragments = chain->more_fragments;
    flow.fragment_offset = chain->fragment_offset;
  }
  flow.key.protocol = protocol;
  flow.transport = static_cast<std::uint16_t>(network + Ipv6View::min_header + extensions);
  if (flow.fragment_offset != 0) return FlowClass::fragment;
  return parse_transport(ip->payload().subspan(extensions), protocol, true, flow);
}

// parse_flow() of a usual packet. False, and nothing written, for the others and for what may be malformed.
[[gnu::always_inline]] inline bool parse_usual(std::span<const std::byte> frame, std::size_t network,
                                               Flow& flow) noexcept {
  const Usual4 usual(frame.subspan(network));
  if (!usual || usual.is_fragment()) return false;
  const std::byte* const ip = frame.data() + network;
  const std::byte* const transport = ip + Ipv4View::min_header;
  const std::size_t carried = usual.total - Ipv4View::min_header;
  std::size_t header = UdpView::min_header;
  if (usual.udp) {
    const std::size_t length = load16(transport + 4);
    if (length < UdpView::min_header || length > carried) return false;
  } else {
    header = (load8(transport + 12) >> 4) * std::size_t{4};
    if (header < TcpView::min_header || header > carried) return false;
  }
  flow = Flow{};
  flow.key.src.set_mapped_low(Ipv4Address::load(ip + 12));
  flow.key.dst.set_mapped_low(Ipv4Address::load(ip + 16));
  flow.key.src_port = load16(transport);
  flow.key.dst_port = load16(transport + 2);
  flow.key.protocol = usual.udp ? IpProtocol::udp : IpProtocol::tcp;
  flow.key.version = 4;
  flow.kind = FlowClass::ports;
  flow.type = EtherType::ipv4;
  flow.network = static_cast<std::uint16_t>(network);
  flow.transport = static_cast<std::uint16_t>(network + Ipv4View::min_header);
  flow.payload = static_cast<std::uint16_t>(flow.transport + header);
  flow.end = static_cast<std::uint32_t>(network + usual.total);
  if (network != EthernetView::min_header) flow.tci = load16(frame.data() + 14);
  return true;
}

}  // namespace flow_detail

// Reads a frame's headers into `flow`, all of which is overwritten, and returns flow.kind. Checksums are not looked at.
// A key of domain 0 comes out; of a malformed packet, what was read before the fault.
inline FlowClass parse_flow(std::span<const std::byte> frame, Flow& flow) noexcept {
  flow_detail::Place place;
  if (!place.find(frame)) [[unlikely]] {
    flow = Flow{};
    return flow_detail::refuse(flow, FlowFault::ethernet);
  }
  const auto [network, type] = place;
  if (type == EtherType::ipv4 && flow_detail::parse_usual(frame, network, flow)) [[likely]]
    return FlowClass::ports;
  flow = Flow{};
  flow.type = type;
  flow.network = static_cast<std::uint16_t>(network);
  if (network != EthernetView::min_header) flow.tci = load16(frame.data() + 14);
  FlowClass kind = type == EtherType::arp ? FlowClass::arp : FlowClass::other;
  if (type == EtherType::ipv4) kind = flow_detail::parse_ipv4(frame.subspan(network), network, flow);
  if (type == EtherType::ipv6) kind = flow_detail::parse_ipv6(frame.subspan(network), network, flow);
  flow.kind = kind;
  return kind;
}

inline Flow parse_flow(std::span<const std::byte> frame) noexcept {
  Flow flow;
  parse_flow(frame, flow);
  return flow;
}

// frames[i] into flows[i]; as many as the shorter of both has.
inline void parse_flows(std::span<const std::span<const std::byte>> frames, std::span<Flow> flows) noexcept {
  const std::size_t count = std::min(frames.size(), flows.size());
  for (std::size_t i = 0; i < count; ++i) parse_flow(frames[i], flows[i]);
}

}  // namespace efnet

// For tables that an attacker cannot fill: the hash has no secret.
template <>
struct std::hash<efnet::FlowKey4> {
  std::size_t operator()(const efnet::FlowKey4& key) const noexcept {
    const auto words = key.words();
    return efnet::address_detail::mix(words[0], words[1]);
  }
};
template <>
struct std::hash<efnet::FlowKey> {
  std::size_t operator()(const efnet::FlowKey& key) const noexcept {
    std::uint64_t mixed = 0;
    for (const std::uint64_t word : key.words()) mixed = efnet::address_detail::mix(word, mixed);
    return static_cast<std::size_t>(mixed);
  }
};
