#include <fmt/format.h>

#include <charconv>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "efnet/wire/arp.h"
#include "efnet/wire/checksum.h"
#include "efnet/wire/flow.h"
#include "efnet/wire/format.h"
#include "efnet/wire/ndp.h"
#include "efnet/wire/print.h"
#include "efnet/wire/rewrite.h"

// What efnet/wire makes of frames, for a judge in another language: one command a line on standard input, one answer a
// line on standard output. Bytes are hexadecimal.

namespace {

using namespace efnet;
using Bytes = std::vector<std::byte>;

Bytes from_hex(std::string_view text) {
  Bytes bytes(text.size() / 2);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    unsigned value = 0;
    std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, value, 16);
    bytes[i] = static_cast<std::byte>(value);
  }
  return bytes;
}

std::string to_hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

std::string_view name_of(ChecksumState state) {
  constexpr std::string_view names[] = {"right", "wrong", "absent", "unknown"};
  return names[static_cast<std::size_t>(state)];
}

std::string_view name_of(FlowClass kind) {
  constexpr std::string_view names[] = {"malformed",  "other",      "arp",      "ports",   "icmp_query",
                                        "icmp_error", "icmp_other", "protocol", "fragment"};
  return names[static_cast<std::size_t>(kind)];
}

std::string flow_text(const Bytes& frame) {
  const Flow flow = parse_flow(frame);
  std::string text = fmt::format(
      "kind={} tags={} tci={} type={} network={} transport={} payload={} end={} fragment_offset={} more={} id={}",
      name_of(flow.kind), flow.tag_count(), flow.tci, static_cast<unsigned>(flow.type), flow.network, flow.transport,
      flow.payload, flow.end, flow.fragment_offset, int{flow.more_fragments}, flow.identification);
  if (flow.key.version == 4) text += fmt::format(" src={} dst={}", flow.key.key4().src, flow.key.key4().dst);
  if (flow.key.version == 6) text += fmt::format(" src={} dst={}", flow.key.src, flow.key.dst);
  if (flow.key.version != 0)
    text += fmt::format(" protocol={} sport={} dport={}", static_cast<unsigned>(flow.key.protocol), flow.key.src_port,
                        flow.key.dst_port);
  return text;
}

std::string options_text(std::span<const std::byte> options) {
  std::string text;
  OptionWalk walk(options);
  while (const auto option = walk.next()) text += fmt::format("{}:{},", option->kind, to_hex(option->data));
  return walk.malformed() ? "malformed" : text;
}

void transport_fields(std::string& text, IpProtocol protocol, std::span<const std::byte> bytes) {
  if (protocol == IpProtocol::udp)
    if (const auto udp = UdpView::parse(bytes))
      text += fmt::format(" sport={} dport={} len={} chksum={} load={}", udp->src_port(), udp->dst_port(),
                          udp->length(), udp->checksum(), to_hex(udp->payload()));
  if (protocol == IpProtocol::tcp)
    if (const auto tcp = TcpView::parse(bytes))
      text += fmt::format(" sport={} dport={} seq={} ack={} flags={} window={} chksum={} urgptr={} options={} load={}",
                          tcp->src_port(), tcp->dst_port(), tcp->sequence(), tcp->acknowledgment(), tcp->flags(),
                          tcp->window(), tcp->checksum(), tcp->urgent_pointer(), options_text(tcp->options()),
                          to_hex(tcp->payload()));
  if (protocol == IpProtocol::icmp || protocol == IpProtocol::icmpv6)
    if (const auto icmp = IcmpView::parse(bytes))
      text +=
          fmt::format(" type={} code={} chksum={} id={} seq={} load={}", static_cast<unsigned>(icmp->type()),
                      icmp->code(), icmp->checksum(), icmp->identifier(), icmp->sequence(), to_hex(icmp->payload()));
}

std::string fields_text(const Bytes& frame) {
  const auto ethernet = EthernetView::parse(frame);
  if (!ethernet) return "malformed";
  std::string text = fmt::format("eth.dst={} eth.src={} tags=", ethernet->dst(), ethernet->src());
  for (std::size_t i = 0; const auto tag = ethernet->tag(i); ++i)
    text += fmt::format("{:x}/{}/{}/{},", static_cast<unsigned>(tag->tpid), tag->id(), tag->priority(),
                        int{tag->drop_eligible()});
  if (ethernet->type() == EtherType::arp)
    if (const auto arp = ArpView::parse(ethernet->payload()))
      text += fmt::format(" op={} hwsrc={} psrc={} hwdst={} pdst={}", static_cast<unsigned>(arp->operation()),
                          arp->sender_mac(), arp->sender_ip(), arp->target_mac(), arp->target_ip());
  if (ethernet->type() == EtherType::ipv4)
    if (const auto ip = Ipv4View::parse(ethernet->payload())) {
      text += fmt::format(
          " ip.src={} ip.dst={} ip.tos={} ip.len={} ip.id={} ip.frag={} ip.ttl={} ip.proto={} ip.chksum={} "
          "ip.options={}",
          ip->src(), ip->dst(), ip->traffic_class(), ip->total_length(), ip->identification(), ip->fragment_field(),
          ip->ttl(), static_cast<unsigned>(ip->protocol()), ip->checksum(), options_text(ip->options()));
      if (!ip->is_later_fragment()) transport_fields(text, ip->protocol(), ip->payload());
    }
  if (ethernet->type() == EtherType::ipv6)
    if (const auto ip = Ipv6View::parse(ethernet->payload())) {
      text += fmt::format(" ip.src={} ip.dst={} ip.tc={} ip.fl={} ip.plen={} ip.nh={} ip.hlim={}", ip->src(), ip->dst(),
                          ip->traffic_class(), ip->flow_label(), ip->payload_length(),
                          static_cast<unsigned>(ip->next_header()), ip->hop_limit());
      const auto chain = ip->chain();
      if (chain && !chain->is_later_fragment())
        transport_fields(text, chain->protocol, ip->payload().subspan(chain->length));
    }
  return text;
}

// A frame by our emitters: ARP, or transport and IP version, with `size` bytes of payload.
Bytes emitted(const std::string& what, std::size_t size, const std::vector<VlanTag>& tags) {
  Bytes frame(2048);
  std::span<std::byte> left(frame);
  const auto emit = [&](const auto& header) { left = left.subspan(header.emit(left)); };
  const bool four = what.ends_with('4');
  const EtherType type = what == "arp" ? EtherType::arp : four ? EtherType::ipv4 : EtherType::ipv6;
  emit(EthernetHeader{.dst = {2, 0, 0, 0, 0, 2}, .src = {2, 0, 0, 0, 0, 1}, .type = type, .tags = tags});
  if (what == "arp") {
    emit(ArpPacket{.operation = ArpOperation::reply,
                   .sender_mac = {2, 0, 0, 0, 0, 1},
                   .sender_ip = {10, 0, 0, 1},
                   .target_mac = {2, 0, 0, 0, 0, 2},
                   .target_ip = {10, 0, 0, 2}});
  } else {
    const Bytes router_alert = from_hex("94040000");
    const Bytes tcp_options = from_hex("020405b40402080a000000010000000201030307");
    const UdpHeader udp{.src_port = 1024, .dst_port = 53, .payload_length = size};
    const TcpHeader tcp{.src_port = 1024,
                        .dst_port = 80,
                        .sequence = 0xFFFF'FFF0,
                        .acknowledgment = 7,
                        .flags = tcp_flag::syn | tcp_flag::ack | tcp_flag::ece,
                        .window = 4321,
                        .options = tcp_options};
    const bool is_udp = what.starts_with("udp");
    const bool is_tcp = what.starts_with("tcp");
    const std::size_t header = is_udp ? udp.size() : is_tcp ? tcp.size() : 8;
    const IpProtocol protocol = is_udp   ? IpProtocol::udp
                                : is_tcp ? IpProtocol::tcp
                                : four   ? IpProtocol::icmp
                                         : IpProtocol::icmpv6;
    if (four) {
      emit(Ipv4Header{.src = {10, 0, 0, 1},
                      .dst = {198, 51, 100, 2},
                      .protocol = protocol,
                      .payload_length = header + size,
                      .ttl = 33,
                      .traffic_class = 0xB8,
                      .identification = 4660,
                      .dont_fragment = true,
                      .options = is_tcp ? std::span<const std::byte>(router_alert) : std::span<const std::byte>()});
    } else {
      emit(Ipv6Header{.src = *Ipv6Address::parse("2001:db8::1"),
                      .dst = *Ipv6Address::parse("2001:db8::2"),
                      .next_header = protocol,
                      .payload_length = header + size,
                      .hop_limit = 33,
                      .traffic_class = 0xB8,
                      .flow_label = 0x12345});
    }
    if (is_udp) emit(udp);
    if (is_tcp) emit(tcp);
    if (what == "icmp4") emit(IcmpHeader::echo(IcmpType::echo_request, 4660, 7));
    if (what == "icmp6") emit(Icmpv6Header::echo(Icmpv6Type::echo_request, 4660, 7));
    for (std::size_t i = 0; i < size; ++i) left[i] = static_cast<std::byte>(i * 7 + 1);
    left = left.subspan(size);
  }
  frame.resize(static_cast<std::size_t>(left.data() - frame.data()));
  if (what != "arp" && !fill_frame(frame)) frame.clear();
  return frame;
}

// SRC DST SPORT DPORT FRAME: the frame with those, or "refused".
std::string rewritten(std::istream& words) {
  std::string src, dst, bytes;
  unsigned sport = 0, dport = 0;
  words >> src >> dst >> sport >> dport >> bytes;
  Bytes frame = from_hex(bytes);
  FlowKey to{.src_port = static_cast<std::uint16_t>(sport), .dst_port = static_cast<std::uint16_t>(dport)};
  if (const auto src4 = Ipv4Address::parse(src), dst4 = Ipv4Address::parse(dst); src4 && dst4) {
    to.src = Ipv6Address::mapped(*src4);
    to.dst = Ipv6Address::mapped(*dst4);
    to.version = 4;
  } else {
    to.src = Ipv6Address::parse(src).value_or(Ipv6Address());
    to.dst = Ipv6Address::parse(dst).value_or(Ipv6Address());
    to.version = 6;
  }
  return rewrite(std::span(frame), to) ? to_hex(frame) : "refused";
}

// What neighbor discovery says, in scapy's words.
std::string ndp_text(const Bytes& frame) {
  const auto ethernet = EthernetView::parse(frame);
  const auto ip = ethernet ? Ipv6View::parse(ethernet->payload()) : std::nullopt;
  if (!ip) return "no IPv6";
  std::string text = fmt::format("fault={}", static_cast<unsigned>(ndp_fault(*ip)));
  const auto message = ip->payload();
  std::span<const std::byte> options;
  if (const auto view = NdpNeighborView::parse(message)) {
    text += fmt::format(" tgt={}", view->target());
    if (!view->is_solicitation())
      text += fmt::format(" R={} S={} O={}", int{view->is_router()}, int{view->is_solicited()}, int{view->overrides()});
    options = view->options();
  } else if (const auto router = NdpRouterView::parse(message)) {
    text += fmt::format(" chlim={} M={} O={} routerlifetime={} reachabletime={} retranstimer={}", router->hop_limit(),
                        int{router->managed()}, int{router->other()}, router->lifetime(), router->reachable_ms(),
                        router->retransmit_ms());
    options = router->options();
  } else if (const auto redirect = NdpRedirectView::parse(message)) {
    text += fmt::format(" tgt={} dst={}", redirect->target(), redirect->destination());
    options = redirect->options();
  }
  NdpOptionWalk walk(options);
  while (const auto option = walk.next()) {
    if (const auto mac = option->link_address()) text += fmt::format(" lladdr={}", *mac);
    if (const auto mtu = option->mtu()) text += fmt::format(" mtu={}", *mtu);
    if (const auto prefix = NdpPrefix::parse(*option))
      text += fmt::format(" prefix={} L={} A={} validlifetime={} preferredlifetime={}", prefix->prefix,
                          int{prefix->on_link}, int{prefix->autonomous}, prefix->valid, prefix->preferred);
  }
  return text;
}

// TYPE FLAGS TARGET [MAC]: a neighbor message's frame from fe80::1 to fe80::2.
std::string neighbor_message(std::istream& words) {
  std::string type, flags, target, mac;
  words >> type >> flags >> target >> mac;
  const NdpNeighborMessage message{
      .type = type == "ns" ? Icmpv6Type::neighbor_solicitation : Icmpv6Type::neighbor_advertisement,
      .target = Ipv6Address::parse(target).value_or(Ipv6Address()),
      .link_address = MacAddress::parse(mac),
      .router = flags.find('R') != std::string::npos,
      .solicited = flags.find('S') != std::string::npos,
      .override = flags.find('O') != std::string::npos};
  Bytes frame(14 + 40 + message.size());
  std::span<std::byte> left(frame);
  left = left.subspan(
      EthernetHeader{.dst = {2, 0, 0, 0, 0, 2}, .src = {2, 0, 0, 0, 0, 1}, .type = EtherType::ipv6}.emit(left));
  left = left.subspan(Ipv6Header{.src = *Ipv6Address::parse("fe80::1"),
                                 .dst = *Ipv6Address::parse("fe80::2"),
                                 .next_header = IpProtocol::icmpv6,
                                 .payload_length = message.size(),
                                 .hop_limit = 255}
                          .emit(left));
  message.emit(left);
  fill_frame(frame);
  return to_hex(frame);
}

std::string answer(const std::string& line) {
  std::istringstream words(line);
  std::string command;
  std::string bytes;
  words >> command;
  if (command == "emit") {
    std::string what;
    std::size_t size = 0;
    words >> what >> size;
    std::vector<VlanTag> tags;
    for (unsigned tpid = 0, tci = 0; words >> std::hex >> tpid >> tci;)
      tags.push_back({static_cast<EtherType>(tpid), static_cast<std::uint16_t>(tci)});
    return to_hex(emitted(what, size, tags));
  }
  if (command == "neighbor") return neighbor_message(words);
  if (command == "rewrite") return rewritten(words);
  if (command == "insert") {
    unsigned tpid = 0;
    unsigned tci = 0;
    words >> std::hex >> tpid >> tci >> bytes;
    Bytes room = from_hex("00000000" + bytes);
    insert_vlan(room, {static_cast<EtherType>(tpid), static_cast<std::uint16_t>(tci)});
    return to_hex(room);
  }
  words >> bytes;
  Bytes frame = from_hex(bytes);
  if (command == "checksum") return fmt::format("{}", efio::checksum(frame));
  if (command == "verify") return std::string(name_of(verify_frame(frame)));
  if (command == "flow") return flow_text(frame);
  if (command == "fields") return fields_text(frame);
  if (command == "ndp") return ndp_text(frame);
  if (command == "text") return frame_text(frame);
  if (command == "fill") {
    fill_frame(frame);
    return to_hex(frame);
  }
  if (command == "strip") return strip_vlan(frame) ? to_hex(std::span(frame).subspan(4)) : "none";
  return "unknown command";
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) std::cout << answer(line) << std::endl;
}
