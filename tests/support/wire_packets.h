#pragma once

#include <span>

#include "efnet/wire/checksum.h"
#include "tests/support/wire_bytes.h"

// Whole packets for the tests of efnet, by its own emitters; transport checksums are still 0.

namespace wire_test {

using namespace efnet;

inline const Ipv4Address four_a(10, 0, 0, 1);
inline const Ipv4Address four_b(10, 0, 0, 2);
inline const Ipv6Address six_a = *Ipv6Address::parse("2001:db8::1");
inline const Ipv6Address six_b = *Ipv6Address::parse("2001:db8::2");

inline Bytes transport_of(IpProtocol protocol, std::size_t payload) {
  Bytes header(20);
  std::size_t size = 0;
  if (protocol == IpProtocol::udp)
    size = UdpHeader{.src_port = 1, .dst_port = 2, .payload_length = payload}.emit(header);
  if (protocol == IpProtocol::tcp) size = TcpHeader{.src_port = 1, .dst_port = 2, .sequence = 3}.emit(header);
  if (protocol == IpProtocol::icmp) size = IcmpHeader::echo(IcmpType::echo_request, 1, 2).emit(header);
  if (protocol == IpProtocol::icmpv6) size = Icmpv6Header::echo(Icmpv6Type::echo_request, 1, 2).emit(header);
  header.resize(size);
  return header + random_bytes(payload, static_cast<unsigned>(payload));
}

inline Bytes packet4(IpProtocol protocol, std::size_t payload, std::span<const std::byte> options = {}) {
  const Bytes transport = transport_of(protocol, payload);
  const Ipv4Header header{
      .src = four_a, .dst = four_b, .protocol = protocol, .payload_length = transport.size(), .options = options};
  Bytes bytes(header.size());
  header.emit(bytes);
  return bytes + transport;
}

inline Bytes packet6(IpProtocol protocol, std::size_t payload, const Bytes& extensions = {}) {
  const Bytes rest = extensions + transport_of(protocol, payload);
  const Ipv6Header header{.src = six_a,
                          .dst = six_b,
                          .next_header = extensions.empty() ? protocol : IpProtocol::ipv6_destination,
                          .payload_length = rest.size()};
  Bytes bytes(header.size());
  header.emit(bytes);
  return bytes + rest;
}

inline Bytes framed(EtherType type, const Bytes& packet) {
  const VlanTag tags[] = {VlanTag::make(5)};
  Bytes bytes(18);
  EthernetHeader{.type = type, .tags = tags}.emit(bytes);
  return bytes + packet;
}

}  // namespace wire_test
