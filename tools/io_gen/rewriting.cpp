#include "tools/io_gen/rewriting.h"

#include "efio/fail.h"
#include "efnet/wire/arp.h"
#include "efnet/wire/ethernet.h"
#include "efnet/wire/flow.h"
#include "efnet/wire/rewrite.h"

namespace efio::io_gen {

namespace {

using efnet::Ipv4Address;
using efnet::Ipv6Address;
using efnet::Ipv6Range;

struct Side {
  bool ipv6;
  Ipv6Range range;
  std::uint64_t span() const noexcept { return range.last.low() - range.first.low(); }
};

std::optional<Side> side(std::string_view text) {
  if (const auto range = efnet::Ipv4Range::parse(text))
    return Side{false, {Ipv6Address::mapped(range->first), Ipv6Address::mapped(range->last)}};
  if (const auto range = Ipv6Range::parse(text)) return Side{true, *range};
  return std::nullopt;
}

Ipv4Address low_half(const Ipv6Address& mapped) noexcept {
  return Ipv4Address::from_number(static_cast<std::uint32_t>(mapped.low()));
}

// The ports, or a query's identifier, of the flow that answers a quoted packet.
void answer_ports(std::span<const std::byte> quoted, efnet::IpProtocol protocol, efnet::FlowKey& answer) {
  const bool query = protocol == efnet::IpProtocol::icmp || protocol == efnet::IpProtocol::icmpv6;
  if (query && quoted.size() >= 6) answer.src_port = answer.dst_port = efnet::load16(quoted.data() + 4);
  if (query || quoted.size() < 4) return;
  answer.src_port = efnet::load16(quoted.data() + 2);
  answer.dst_port = efnet::load16(quoted.data());
}

}  // namespace

Result<AddressMap> AddressMap::parse(std::string_view text) {
  const auto attempted = fmt::format("--map {}", text);
  constexpr const char* hint = "10.0.0.0/8=172.0.0.0/8: addresses, ranges or prefixes of one size";
  const auto middle = text.find('=');
  const auto from = side(text.substr(0, middle));
  const auto to = middle == std::string_view::npos ? std::nullopt : side(text.substr(middle + 1));
  if (!from || !to) return fail(Error::Kind::usage, attempted, "not FROM=TO").hint("{}", hint);
  if (from->ipv6 != to->ipv6)
    return fail(Error::Kind::usage, attempted, "one is IPv4 and the other IPv6").hint("{}", hint);
  if (from->range.first.high() != from->range.last.high() || to->range.first.high() != to->range.last.high())
    return fail(Error::Kind::usage, attempted, "more than the last 64 bits differ").hint("a /64 or less");
  if (from->span() != to->span()) return fail(Error::Kind::usage, attempted, "of different sizes").hint("{}", hint);
  return AddressMap{from->range, to->range};
}

bool Rewriting::map(Ipv6Address& address) const noexcept {
  for (const auto& map : maps) {
    if (!map.from.contains(address)) continue;
    address = map.to.first.advanced(address.low() - map.from.first.low());
    return true;
  }
  return false;
}

void Rewriting::map_arp(std::span<std::byte> packet) const noexcept {
  const auto arp = efnet::ArpMut::parse(packet);
  if (!arp) return;
  Ipv6Address sender = Ipv6Address::mapped(arp->sender_ip()), target = Ipv6Address::mapped(arp->target_ip());
  if (map(sender)) arp->set_sender_ip(low_half(sender));
  if (map(target)) arp->set_target_ip(low_half(target));
}

// rewrite() knows one address for the sender of an error and the host behind it; here each has its own.
void Rewriting::map_error4(std::span<std::byte> frame, const efnet::Flow& flow) const noexcept {
  const auto packet = efnet::Ipv4Mut::parse(frame.subspan(flow.network));
  const auto quoted = efnet::Ipv4View::parse_truncated(frame.subspan(flow.payload, flow.end - flow.payload));
  if (!packet || !quoted || quoted->src() != packet->dst()) return;
  efnet::FlowKey to = flow.key;
  to.src = Ipv6Address::mapped(quoted->dst()), to.dst = Ipv6Address::mapped(quoted->src());
  answer_ports(quoted->payload(), quoted->protocol(), to);
  Ipv6Address sender = flow.key.src;
  map(to.src), map(to.dst), map(sender);
  if (!efnet::rewrite(frame, to)) return;
  const auto address = low_half(sender);
  packet->set_checksum(efnet::update(packet->checksum(), efnet::checksum_delta(packet->src(), address)));
  packet->set_src(address);
}

void Rewriting::map_error6(std::span<std::byte> frame, const efnet::Flow& flow) const noexcept {
  const auto packet = efnet::Ipv6Mut::parse(frame.subspan(flow.network));
  const auto quoted = efnet::Ipv6View::parse_truncated(frame.subspan(flow.payload, flow.end - flow.payload));
  if (!packet || !quoted || quoted->src() != packet->dst()) return;
  const auto chain = quoted->chain();
  if (!chain) return;
  efnet::FlowKey to = flow.key;
  to.src = quoted->dst(), to.dst = quoted->src();
  answer_ports(quoted->payload().subspan(chain->length), chain->protocol, to);
  Ipv6Address sender = flow.key.src;
  map(to.src), map(to.dst), map(sender);
  if (!efnet::rewrite(frame, to)) return;
  const auto message = efnet::Icmpv6Mut::parse(frame.subspan(flow.transport, flow.end - flow.transport));
  if (!message) return;
  message->set_checksum(efnet::update(message->checksum(), efnet::checksum_delta(packet->src(), sender)));
  packet->set_src(sender);
}

void Rewriting::apply(std::span<std::byte> frame) const noexcept {
  if (const auto ethernet = efnet::EthernetMut::parse(frame)) {
    if (src_mac) ethernet->set_src(*src_mac);
    if (dst_mac) ethernet->set_dst(*dst_mac);
  }
  if (maps.empty()) return;
  const efnet::Flow flow = efnet::parse_flow(frame);
  if (flow.kind == efnet::FlowClass::arp) return map_arp(frame.subspan(flow.network));
  if (flow.key.version == 0) return;
  if (flow.kind == efnet::FlowClass::icmp_error)
    return flow.key.version == 4 ? map_error4(frame, flow) : map_error6(frame, flow);
  efnet::FlowKey to = flow.key;
  // Both, whatever the first says.
  const bool src = map(to.src), dst = map(to.dst);
  if (src || dst) efnet::rewrite(frame, to);
}

}  // namespace efio::io_gen
