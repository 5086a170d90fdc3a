#include "efnet/plugins/icmp_echo.h"

#include <algorithm>
#include <cstring>

#include "efnet/plugins/arguments.h"
#include "efnet/wire/checksum.h"
#include "efnet/wire/flow.h"

namespace efnet {

using efio::DropReason;

namespace {

constexpr std::size_t shortest_frame = 60;  // without FCS
constexpr std::uint8_t reply_ttl = 64;

bool is_request(const Flow& flow, std::span<const std::byte> frame) noexcept {
  if (flow.kind != FlowClass::icmp_query || flow.is_fragmented()) return false;
  const auto type = load8(frame.data() + flow.transport);
  if (flow.key.version == 6) return Icmpv6Type{type} == Icmpv6Type::echo_request;
  const bool plain = flow.transport == flow.network + Ipv4View::min_header;
  return plain && IcmpType{type} == IcmpType::echo_request;
}

// `reply` is a copy of the request's frame.
void turn_round(std::span<std::byte> reply, const Flow& flow) noexcept {
  const auto ethernet = EthernetMut::parse(reply);
  const MacAddress asked = ethernet->dst();
  ethernet->set_dst(ethernet->src());
  ethernet->set_src(asked);
  const auto message = reply.subspan(flow.transport);
  if (flow.key.version == 4) {
    const auto ip = Ipv4Mut::parse(ethernet->payload());
    ip->set_src(flow.key.key4().dst);
    ip->set_dst(flow.key.key4().src);
    ip->set_ttl(reply_ttl);
    fill_header(*ip);
    store8(message.data(), static_cast<std::uint8_t>(IcmpType::echo_reply));
  } else {
    const auto ip = Ipv6Mut::parse(ethernet->payload());
    ip->set_src(flow.key.dst);
    ip->set_dst(flow.key.src);
    ip->set_hop_limit(reply_ttl);
    store8(message.data(), static_cast<std::uint8_t>(Icmpv6Type::echo_reply));
  }
  // Swapped addresses leave the pseudo-header's sum; only the type has changed.
  const bool six = flow.key.version == 6;
  const auto before = static_cast<std::uint16_t>(six ? 0x8000 : 0x0800);
  const auto after = static_cast<std::uint16_t>(six ? 0x8100 : 0x0000);
  store16(message.data() + 2, update16(load16(message.data() + 2), before, after));
}

}  // namespace

efio::Result<std::unique_ptr<IcmpEchoPlugin>> IcmpEchoPlugin::parse(std::string_view text) {
  const auto arguments = PluginArguments::parse("icmp_echo", text);
  if (!arguments) return std::unexpected(arguments.error());
  if (auto known = arguments->finish(); !known) return std::unexpected(std::move(known.error()));
  std::vector<Ipv4Address> four;
  std::vector<Ipv6Address> six;
  for (const auto part : split_list(arguments->argument())) {
    if (const auto address = Ipv4Address::parse(part))
      four.push_back(*address);
    else if (const auto address6 = Ipv6Address::parse(part))
      six.push_back(*address6);
    else
      return arguments->refuse("\"{}\" is no address", part).hint("as icmp_echo:10.0.0.1,2001:db8::1");
  }
  if (four.empty() && six.empty()) return arguments->refuse("no address").hint("as icmp_echo:10.0.0.1");
  return std::make_unique<IcmpEchoPlugin>(std::move(four), std::move(six));
}

void IcmpEchoPlugin::ingate(PacketBatch& packets, Gate& gate) noexcept {
  Flow flow;
  for (const std::size_t i : packets) {
    const auto frame = packets.bytes(i);
    parse_flow(frame, flow);
    if (!is_request(flow, frame) || MacAddress::load(frame.data()).is_group()) continue;
    const bool ours = flow.key.version == 4 ? std::ranges::find(four_, flow.key.key4().dst) != four_.end()
                                            : std::ranges::find(six_, flow.key.dst) != six_.end();
    if (!ours) continue;
    if (verify_frame(frame) != ChecksumState::right) {
      packets.drop(i, DropReason::checksum);
      continue;
    }
    const auto reply = gate.make(std::max<std::size_t>(flow.end, shortest_frame));
    if (reply.empty()) {
      packets.drop(i, DropReason::not_forwarded);
      continue;
    }
    std::memset(reply.data(), 0, std::min(reply.size(), shortest_frame));
    std::memcpy(reply.data(), frame.data(), flow.end);
    turn_round(reply, flow);
    packets.consume(i);
  }
}

}  // namespace efnet
