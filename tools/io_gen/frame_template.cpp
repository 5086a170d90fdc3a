#include "tools/io_gen/frame_template.h"

#include "efio/checksum.h"
#include "efnet/wire/checksum.h"
#include "tools/io_gen/tag.h"

namespace efio::io_gen {

namespace {

efnet::IpProtocol protocol_of(Transport transport, bool ipv6) {
  switch (transport) {
    case Transport::udp:
      return efnet::IpProtocol::udp;
    case Transport::tcp:
      return efnet::IpProtocol::tcp;
    case Transport::icmp:
      break;
  }
  return ipv6 ? efnet::IpProtocol::icmpv6 : efnet::IpProtocol::icmp;
}

std::size_t emit_transport(Transport transport, bool ipv6, std::span<std::byte> out) {
  switch (transport) {
    case Transport::udp:
      return efnet::UdpHeader{}.emit(out);
    case Transport::tcp:
      return efnet::TcpHeader{}.emit(out);
    case Transport::icmp:
      break;
  }
  return ipv6 ? efnet::Icmpv6Header::echo(efnet::Icmpv6Type::echo_request, 0, 0).emit(out)
              : efnet::IcmpHeader::echo(efnet::IcmpType::echo_request, 0, 0).emit(out);
}

std::uint16_t checksum_offset(Transport transport) {
  switch (transport) {
    case Transport::udp:
      return 6;
    case Transport::tcp:
      return 16;
    case Transport::icmp:
      break;
  }
  return 2;
}

void clear(std::array<std::byte, FrameTemplate::room>& bytes, std::size_t at, std::size_t size) {
  std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), size, std::byte{0});
}

// Adds to an address the part of its sum that is the same for the whole range.
std::uint64_t constant_address_sum(const Addresses& addresses) {
  if (!addresses.ipv6) return 0;
  return efio::checksum_word(addresses.first.high()) +
         efio::checksum_word(static_cast<std::uint32_t>(addresses.first.low() >> 32));
}

}  // namespace

FrameTemplate FrameTemplate::of(const Traffic& traffic) {
  FrameTemplate frame;
  frame.ipv6_ = traffic.ipv6();
  frame.transport_ = traffic.transport;
  frame.headers = traffic.headers();
  const std::span<std::byte> out(frame.bytes);
  const auto shortest = traffic.sizes.smallest();

  std::vector<efnet::VlanTag> tags;
  for (std::size_t i = 0; i < traffic.vlans.size(); ++i)
    tags.push_back(efnet::VlanTag::make(
        traffic.vlans[i], 0, i + 1 < traffic.vlans.size() ? efnet::EtherType::qinq : efnet::EtherType::vlan));
  const auto type = frame.ipv6_ ? efnet::EtherType::ipv6 : efnet::EtherType::ipv4;
  const auto ip_at = efnet::EthernetHeader{traffic.dst_mac, traffic.src_mac, type, tags}.emit(out);
  const auto protocol = protocol_of(traffic.transport, frame.ipv6_);
  const auto ip = out.subspan(ip_at);
  const std::size_t ip_header =
      frame.ipv6_
          ? efnet::Ipv6Header{.src = traffic.src.first, .dst = traffic.dst.first, .next_header = protocol}.emit(ip)
          : efnet::Ipv4Header{.protocol = protocol, .dont_fragment = true}.emit(ip);
  const auto transport_at = ip_at + ip_header;
  emit_transport(traffic.transport, frame.ipv6_, out.subspan(transport_at));

  Layout& at = frame.layout;
  const auto offset = [](std::size_t value) { return static_cast<std::uint16_t>(value); };
  frame.ip_at_ = offset(ip_at);
  frame.transport_at_ = offset(transport_at);
  at.src = offset(ip_at + (frame.ipv6_ ? 20 : 12));
  at.dst = offset(ip_at + (frame.ipv6_ ? 36 : 16));
  at.ports = offset(transport_at + (traffic.transport == Transport::icmp ? 4 : 0));
  at.ip_checksum = frame.ipv6_ ? std::uint16_t{0} : offset(ip_at + 10);
  at.checksum = offset(transport_at + checksum_offset(traffic.transport));
  at.payload = offset(frame.headers);
  at.ip_length = offset(ip_at + (frame.ipv6_ ? 4 : 2));
  at.udp_length = traffic.transport == Transport::udp ? offset(transport_at + 4) : std::uint16_t{0};
  at.addresses_in_checksum = frame.ipv6_ || traffic.transport != Transport::icmp;

  // Sums of everything that stays, taken while the varying fields hold 0.
  clear(frame.bytes, at.src, 4);
  clear(frame.bytes, at.dst, 4);
  clear(frame.bytes, at.ports, 4);
  clear(frame.bytes, at.ip_length, 2);
  if (at.ip_checksum != 0) clear(frame.bytes, at.ip_checksum, 2);
  if (at.udp_length != 0) clear(frame.bytes, at.udp_length, 2);
  frame.constant_ip_sum_ = efio::checksum_partial(out.subspan(ip_at, ip_header));
  frame.constant_transport_sum_ = efio::checksum_partial(out.subspan(transport_at, frame.headers - transport_at));
  if (at.addresses_in_checksum)
    frame.constant_transport_sum_ += efio::checksum_word(static_cast<std::uint16_t>(protocol)) +
                                     constant_address_sum(traffic.src) + constant_address_sum(traffic.dst);
  if (traffic.tag) {
    efnet::store16(frame.bytes.data() + at.payload, Tag::magic);
    frame.constant_transport_sum_ += efio::checksum_word(Tag::magic);
  }

  efnet::store16(frame.bytes.data() + at.ip_length, frame.ip_length(shortest));
  if (at.udp_length != 0) efnet::store16(frame.bytes.data() + at.udp_length, frame.udp_length(shortest));
  return frame;
}

std::uint16_t FrameTemplate::ip_length(std::uint32_t length) const noexcept {
  return static_cast<std::uint16_t>(length - (ipv6_ ? transport_at_ : ip_at_));
}

std::uint16_t FrameTemplate::udp_length(std::uint32_t length) const noexcept {
  return static_cast<std::uint16_t>(length - transport_at_);
}

std::uint64_t FrameTemplate::ip_sum(std::uint32_t length) const noexcept {
  return constant_ip_sum_ + efio::checksum_word(ip_length(length));
}

std::uint64_t FrameTemplate::transport_sum(std::uint32_t length) const noexcept {
  const auto word = efio::checksum_word(udp_length(length));
  const unsigned times = (layout.addresses_in_checksum ? 1U : 0U) + (transport_ == Transport::udp ? 1U : 0U);
  return constant_transport_sum_ + times * word;
}

}  // namespace efio::io_gen
