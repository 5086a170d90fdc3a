#include "efnet/wire/print.h"

#include <fmt/format.h>

#include <iterator>
#include <string_view>
#include <type_traits>
#include <utility>

#include "efnet/wire/arp.h"
#include "efnet/wire/ethernet.h"
#include "efnet/wire/format.h"
#include "efnet/wire/icmp.h"
#include "efnet/wire/ipv4.h"
#include "efnet/wire/ipv6.h"
#include "efnet/wire/tcp.h"
#include "efnet/wire/udp.h"

namespace efnet {
namespace {

class Line {
 public:
  template <class... Arguments>
  void add(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Arguments>(arguments)...);
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

std::string_view name_of(EtherType type) {
  switch (type) {
    case EtherType::ipv4:
      return "IPv4";
    case EtherType::ipv6:
      return "IPv6";
    case EtherType::arp:
      return "ARP";
    case EtherType::vlan:
      return "802.1Q";
    case EtherType::qinq:
      return "802.1Q-QinQ";
    case EtherType::lldp:
      return "LLDP";
  }
  return "Unknown";
}

void print_arp(Line& line, std::span<const std::byte> bytes) {
  const auto arp = ArpView::parse(bytes);
  if (!arp) return line.add("ARP [malformed]");
  switch (arp->operation()) {
    case ArpOperation::request:
      line.add("Request who-has {}", arp->target_ip());
      if (!arp->target_mac().is_zero()) line.add(" ({})", arp->target_mac());
      line.add(" tell {}", arp->sender_ip());
      break;
    case ArpOperation::reply:
      line.add("Reply {} is-at {}", arp->sender_ip(), arp->sender_mac());
      break;
    default:
      line.add("ARP operation {}", static_cast<unsigned>(arp->operation()));
  }
  line.add(", length {}", bytes.size());
}

void print_tcp_option(Line& line, const HeaderOption& option) {
  const auto data = option.data;
  if (option.kind == tcp_option::mss && data.size() == 2) return line.add("mss {}", load16(data));
  if (option.kind == tcp_option::window_scale && data.size() == 1) return line.add("wscale {}", load8(data.data()));
  if (option.kind == tcp_option::sack_permitted && data.empty()) return line.add("sackOK");
  if (option.kind == tcp_option::timestamps && data.size() == 8)
    return line.add("TS val {} ecr {}", load32(data), load32(data, 4));
  if (option.kind == tcp_option::sack && !data.empty() && data.size() % 8 == 0) {
    line.add("sack {}", data.size() / 8);
    for (std::size_t at = 0; at < data.size(); at += 8) line.add(" {{{}:{}}}", load32(data, at), load32(data, at + 4));
    return;
  }
  line.add("kind {}", option.kind);
}

void print_tcp_options(Line& line, std::span<const std::byte> left) {
  if (left.empty()) return;
  line.add(", options [");
  for (std::string_view comma; !left.empty();) {
    line.add("{}", std::exchange(comma, ","));
    if (load8(left.data()) == 0) {
      line.add("eol");
      break;
    }
    if (load8(left.data()) == 1) {  // which a walk passes over
      line.add("nop");
      left = left.subspan(1);
      continue;
    }
    const auto option = OptionWalk(left).next();
    if (!option) {
      line.add("malformed");
      break;
    }
    print_tcp_option(line, *option);
    left = left.subspan(2 + option->data.size());
  }
  line.add("]");
}

void print_tcp(Line& line, const TcpView& tcp) {
  constexpr std::pair<std::uint8_t, char> letters[] = {{tcp_flag::fin, 'F'}, {tcp_flag::syn, 'S'}, {tcp_flag::rst, 'R'},
                                                       {tcp_flag::psh, 'P'}, {tcp_flag::ack, '.'}, {tcp_flag::urg, 'U'},
                                                       {tcp_flag::ece, 'E'}, {tcp_flag::cwr, 'W'}};
  std::string flags;
  for (const auto& [flag, letter] : letters)
    if (tcp.has(flag)) flags += letter;
  const std::size_t length = tcp.payload().size();
  line.add("Flags [{}]", flags.empty() ? "none" : flags);
  if (length > 0) {
    line.add(", seq {}:{}", tcp.sequence(), tcp.sequence() + static_cast<std::uint32_t>(length));
  } else if ((tcp.flags() & (tcp_flag::syn | tcp_flag::fin | tcp_flag::rst)) != 0) {
    line.add(", seq {}", tcp.sequence());
  }
  if (tcp.has(tcp_flag::ack)) line.add(", ack {}", tcp.acknowledgment());
  line.add(", win {}", tcp.window());
  if (tcp.has(tcp_flag::urg)) line.add(", urg {}", tcp.urgent_pointer());
  print_tcp_options(line, tcp.options());
  line.add(", length {}", length);
}

void print_unreachable(Line& line, const IcmpView& icmp) {
  const auto quoted = Ipv4View::parse_truncated(icmp.payload());
  if (!quoted) return line.add("unreachable, code {}", icmp.code());
  const Ipv4Address dst = quoted->dst();
  const auto payload = quoted->payload();
  const bool has_ports = quoted->protocol() == IpProtocol::udp || quoted->protocol() == IpProtocol::tcp;
  switch (icmp.code()) {
    case 0:
      return line.add("net {} unreachable", dst);
    case 1:
      return line.add("host {} unreachable", dst);
    case 2:
      return line.add("{} protocol {} unreachable", dst, static_cast<unsigned>(quoted->protocol()));
    case 3:
      if (!has_ports || payload.size() < 4) break;
      return line.add("{} {} port {} unreachable", dst, quoted->protocol() == IpProtocol::udp ? "udp" : "tcp",
                      load16(payload, 2));
    case 4:
      return line.add("{} unreachable - need to frag (mtu {})", dst, icmp.mtu());
    default:
      break;
  }
  line.add("{} unreachable, code {}", dst, icmp.code());
}

// Without the addresses in front.
void print_icmp(Line& line, std::span<const std::byte> bytes) {
  const auto icmp = IcmpView::parse(bytes);
  if (!icmp) return line.add("ICMP [malformed]");
  line.add("ICMP ");
  switch (icmp->type()) {
    case IcmpType::echo_request:
    case IcmpType::echo_reply:
      line.add("echo {}, id {}, seq {}", icmp->type() == IcmpType::echo_request ? "request" : "reply",
               icmp->identifier(), icmp->sequence());
      break;
    case IcmpType::destination_unreachable:
      print_unreachable(line, *icmp);
      break;
    case IcmpType::time_exceeded:
      if (icmp->code() == 0)
        line.add("time exceeded in-transit");
      else
        line.add("ip reassembly time exceeded");
      break;
    case IcmpType::redirect:
      line.add("redirect, code {}", icmp->code());
      break;
    default:
      line.add("type {}, code {}", static_cast<unsigned>(icmp->type()), icmp->code());
  }
  line.add(", length {}", bytes.size());
}

void print_icmpv6(Line& line, std::span<const std::byte> bytes) {
  const auto icmp = Icmpv6View::parse(bytes);
  if (!icmp) return line.add("ICMP6 [malformed]");
  line.add("ICMP6, ");
  const auto target = icmp->payload();
  switch (icmp->type()) {
    case Icmpv6Type::echo_request:
    case Icmpv6Type::echo_reply:
      line.add("echo {}, id {}, seq {}", icmp->type() == Icmpv6Type::echo_request ? "request" : "reply",
               icmp->identifier(), icmp->sequence());
      break;
    case Icmpv6Type::packet_too_big:
      line.add("packet too big, mtu {}", icmp->mtu());
      break;
    case Icmpv6Type::destination_unreachable:
      line.add("destination unreachable, code {}", icmp->code());
      break;
    case Icmpv6Type::time_exceeded:
      line.add("time exceeded, code {}", icmp->code());
      break;
    case Icmpv6Type::neighbor_solicitation:
    case Icmpv6Type::neighbor_advertisement:
      line.add("neighbor {}",
               icmp->type() == Icmpv6Type::neighbor_solicitation ? "solicitation, who has" : "advertisement, tgt is");
      if (target.size() < Ipv6Address::size) {
        line.add(" [malformed]");
      } else {
        line.add(" {}", Ipv6Address::load(target.data()));
      }
      break;
    case Icmpv6Type::router_solicitation:
      line.add("router solicitation");
      break;
    case Icmpv6Type::router_advertisement:
      line.add("router advertisement");
      break;
    default:
      line.add("type {}, code {}", static_cast<unsigned>(icmp->type()), icmp->code());
  }
  line.add(", length {}", bytes.size());
}

// Addresses, ports where there are any, and what follows. `cut`: `bytes` may end before the packet does.
template <class Address>
void print_transport(Line& line, const Address& src, const Address& dst, IpProtocol protocol,
                     std::span<const std::byte> bytes, bool cut) {
  const auto with_ports = [&](std::uint16_t from, std::uint16_t to) {
    line.add("{}.{} > {}.{}: ", src, from, dst, to);
  };
  if (protocol == IpProtocol::udp) {
    const auto udp = cut ? UdpView::parse_truncated(bytes) : UdpView::parse(bytes);
    if (!udp) return line.add("{} > {}: UDP [malformed]", src, dst);
    with_ports(udp->src_port(), udp->dst_port());
    return line.add("UDP, length {}", udp->length() - UdpView::min_header);
  }
  if (protocol == IpProtocol::tcp) {
    const auto tcp = TcpView::parse(bytes);
    if (!tcp) return line.add("{} > {}: TCP [malformed]", src, dst);
    with_ports(tcp->src_port(), tcp->dst_port());
    return print_tcp(line, *tcp);
  }
  line.add("{} > {}: ", src, dst);
  if (protocol == IpProtocol::icmp && std::is_same_v<Address, Ipv4Address>) return print_icmp(line, bytes);
  if (protocol == IpProtocol::icmpv6 && std::is_same_v<Address, Ipv6Address>) return print_icmpv6(line, bytes);
  line.add("ip-proto-{}, length {}", static_cast<unsigned>(protocol), bytes.size());
}

void print_ipv4(Line& line, std::span<const std::byte> bytes) {
  const auto ip = Ipv4View::parse_truncated(bytes);
  if (!ip) return line.add("IP [malformed]");
  if (ip->is_later_fragment()) {
    line.add("{} > {}: ip-proto-{}", ip->src(), ip->dst(), static_cast<unsigned>(ip->protocol()));
  } else {
    print_transport(line, ip->src(), ip->dst(), ip->protocol(), ip->payload(), ip->is_fragment() || ip->is_truncated());
  }
  if (ip->is_fragment())
    line.add(" (frag {}:{}@{}{})", ip->identification(), ip->total_length() - ip->header_length(),
             ip->fragment_offset(), ip->more_fragments() ? "+" : "");
  if (ip->is_truncated()) line.add(" [truncated: {} of {} bytes of IP]", ip->bytes().size(), ip->total_length());
}

void print_ipv6(Line& line, std::span<const std::byte> bytes) {
  const auto ip = Ipv6View::parse_truncated(bytes);
  if (!ip) return line.add("IP6 [malformed]");
  const auto chain = ip->chain();
  if (!chain) {
    line.add("{} > {}: [malformed extension headers]", ip->src(), ip->dst());
  } else {
    const auto upper = ip->payload().subspan(chain->length);
    if (chain->is_later_fragment()) {
      line.add("{} > {}: ip-proto-{}", ip->src(), ip->dst(), static_cast<unsigned>(chain->protocol));
    } else {
      print_transport(line, ip->src(), ip->dst(), chain->protocol, upper, chain->fragmented || ip->is_truncated());
    }
    if (chain->fragmented)
      line.add(" (frag {:#010x}:{}@{}{})", chain->identification, upper.size(), chain->fragment_offset,
               chain->more_fragments ? "+" : "");
  }
  if (ip->is_truncated())
    line.add(" [truncated: {} of {} bytes of payload]", ip->payload().size(), ip->payload_length());
}

}  // namespace

std::string frame_text(std::span<const std::byte> frame) {
  Line line;
  const auto ethernet = EthernetView::parse(frame);
  if (!ethernet) {
    line.add("[malformed Ethernet header], length {}", frame.size());
    return line.take();
  }
  line.add("{} > {}, ", ethernet->src(), ethernet->dst());
  const auto ethertype = [&](EtherType type) {
    if (static_cast<std::uint16_t>(type) < 0x0600) {
      line.add("802.3");
    } else {
      line.add("ethertype {} ({:#06x})", name_of(type), static_cast<std::uint16_t>(type));
    }
  };
  ethertype(ethernet->tag_count() == 0 ? ethernet->type() : ethernet->tag(0)->tpid);
  line.add(", length {}: ", frame.size());
  for (std::size_t i = 0; const auto tag = ethernet->tag(i); ++i) {
    line.add("vlan {}, p {}{}, ", tag->id(), tag->priority(), tag->drop_eligible() ? ", DEI" : "");
    const auto inner = ethernet->tag(i + 1);
    ethertype(inner ? inner->tpid : ethernet->type());
    line.add(", ");
  }
  switch (ethernet->type()) {
    case EtherType::arp:
      print_arp(line, ethernet->payload());
      break;
    case EtherType::ipv4:
      print_ipv4(line, ethernet->payload());
      break;
    case EtherType::ipv6:
      print_ipv6(line, ethernet->payload());
      break;
    default:
      line.add("{} bytes", ethernet->payload().size());
  }
  return line.take();
}

}  // namespace efnet
