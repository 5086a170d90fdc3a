#include "tools/efnet/state.h"

#include <array>

#include "efnet/wire/format.h"

namespace efio::gate {

namespace {

using efnet::Gateway;
using efnet::IpProtocol;
using efnet::Ipv4Address;
using efnet::NatSide;
using efnet::Time;

constexpr std::array sides{NatSide::inside, NatSide::outside};
constexpr std::array protocols{IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmp};

double seconds(Time time) { return std::chrono::duration<double>(time).count(); }

std::string end_text(Ipv4Address address, std::uint16_t port) { return fmt::format("{}:{}", address, port); }

Json named(std::string_view name, std::uint64_t n) { return {{std::string(name), n}}; }

// Only what happened.
template <class Names>
Json nonzero(const std::uint64_t* counts, std::size_t size, Names&& names) {
  Json json = Json::object();
  for (std::size_t i = 0; i < size; ++i)
    if (counts[i] != 0) json.update(named(names(i), counts[i]));
  return json;
}

std::string_view tcp_name(efnet::TcpState state) {
  using enum efnet::TcpState;
  switch (state) {
    case closed:
      return "";
    default:
      return efnet::to_string(state);
  }
}

}  // namespace

std::string_view name(NatSide side) noexcept { return side == NatSide::inside ? "inside" : "outside"; }

std::string name(IpProtocol protocol) {
  switch (protocol) {
    case IpProtocol::udp:
      return "udp";
    case IpProtocol::tcp:
      return "tcp";
    case IpProtocol::icmp:
      return "icmp";
    default:
      return std::to_string(static_cast<unsigned>(protocol));
  }
}

std::optional<IpProtocol> parse_protocol(std::string_view text) noexcept {
  for (const IpProtocol protocol : protocols)
    if (name(protocol) == text) return protocol;
  return std::nullopt;
}

Json counters_json(const Gateway& gateway) {
  Json json = {{"gateway", Json::object()}, {"nat", Json::object()}, {"arp_and_ping", Json::object()}};
  const auto counters = gateway.counters();
  const auto nat = gateway.nat_counters();
  for (const NatSide side : sides) {
    const std::string which(name(side));
    const auto& of = counters.of(side);
    json["gateway"][which] = {{"received", of.received},
                              {"turned", of.turned},
                              {"made", of.made},
                              {"no_room", of.no_room},
                              {"dropped", nonzero(of.dropped.data(), of.dropped.size(), [](std::size_t i) {
                                 return efnet::name(static_cast<efnet::GatewayDrop>(i));
                               })}};
    const auto& verdicts = nat.verdicts[static_cast<std::size_t>(side)];
    json["nat"][which] = nonzero(verdicts.data(), verdicts.size(),
                                 [](std::size_t i) { return efnet::name(static_cast<efnet::NatVerdict>(i)); });
    Json& plugins = json["arp_and_ping"][which] = Json::object();
    for (const auto& plugin : gateway.plugin_stats(side))
      plugins[plugin.name] = {{"taken", plugin.in.taken + plugin.out.taken},
                              {"dropped", plugin.in.total_dropped() + plugin.out.total_dropped()},
                              {"dropped_in", plugin.in.total_dropped()},
                              {"taken_in", plugin.in.taken},
                              {"made", plugin.made},
                              {"kept", plugin.kept},
                              {"released", plugin.released},
                              {"discarded", plugin.discarded}};
  }
  const auto& own = gateway.router_errors();
  json["nat"].update({{"sessions", gateway.nat().sessions().size()},
                      {"sessions_made", nat.sessions_made},
                      {"sessions_ended", nat.sessions_ended},
                      {"mappings", gateway.nat().mappings().table().size()},
                      {"mappings_made", nat.mappings_made},
                      {"mappings_ended", nat.mappings_ended},
                      {"errors_sent", nat.errors_sent + own.errors_sent},
                      {"errors_suppressed", nat.errors_suppressed + own.errors_suppressed},
                      {"outbox_full", nat.outbox_full + own.outbox_full},
                      {"fragments_released", nat.fragments_released},
                      {"fragments_given_up", nat.fragments_given_up},
                      {"syns_answered", nat.syns_answered},
                      {"syns_forgotten", nat.syns_forgotten},
                      {"bytes", gateway.nat().bytes()}});
  return json;
}

std::optional<std::uint32_t> session_rows(const Gateway& gateway, const Filter& filter, std::uint32_t from,
                                          std::size_t most, Time now, Rows& rows) {
  const auto& table = gateway.nat().sessions();
  const std::uint64_t tick = efnet::table_time::ticks(now);
  const auto since = [&](std::uint32_t low) {
    return seconds(efnet::table_time::from_ticks(tick - efnet::table_time::widened(low, tick)));
  };
  const std::uint32_t next = table.scan(from, most, [&](std::uint32_t number, const efnet::SessionState& state) {
    const efnet::FlowKey4& forward = table.key(number, false);
    const efnet::FlowKey4& reverse = table.key(number, true);
    if ((filter.protocol && forward.protocol != *filter.protocol) ||
        (filter.inside && !filter.inside->contains(forward.src)) ||
        (filter.remote && !filter.remote->contains(forward.dst)) ||
        (filter.outside && !filter.outside->contains(reverse.dst)) ||
        (filter.port && forward.src_port != *filter.port && forward.dst_port != *filter.port &&
         reverse.dst_port != *filter.port))
      return;
    const auto& row = table.options().classes[state.timeout_class];
    rows.push_back({{"protocol", name(forward.protocol)},
                    {"inside", end_text(forward.src, forward.src_port)},
                    {"outside", end_text(reverse.dst, reverse.dst_port)},
                    {"remote", end_text(forward.dst, forward.dst_port)},
                    {"class", row.name},
                    {"tcp", forward.protocol == IpProtocol::tcp ? tcp_name(state.tcp) : ""},
                    {"age_s", since(state.made)},
                    {"idle_s", since(state.seen)},
                    {"left_s", std::max(0.0, seconds(row.timeout) - since(state.seen))}});
  });
  return next < table.capacity() ? std::optional(next) : std::nullopt;
}

std::optional<std::uint32_t> mapping_rows(const Gateway& gateway, const Filter& filter, std::uint32_t from,
                                          std::size_t most, Rows& rows) {
  const auto& mappings = gateway.nat().mappings();
  const auto& table = mappings.table();
  const std::uint32_t next = table.scan(from, most, [&](std::uint32_t number, const efnet::SessionState& state) {
    const efnet::NatMapping mapping = mappings.mapping(number);
    const IpProtocol protocol = table.key(number, false).protocol;
    if ((filter.protocol && protocol != *filter.protocol) ||
        (filter.inside && !filter.inside->contains(mapping.inside)) ||
        (filter.outside && !filter.outside->contains(mapping.outside)) ||
        (filter.port && mapping.inside_port != *filter.port && mapping.outside_port != *filter.port))
      return;
    rows.push_back({{"protocol", name(protocol)},
                    {"inside", end_text(mapping.inside, mapping.inside_port)},
                    {"outside", end_text(mapping.outside, mapping.outside_port)},
                    {"sessions", state.value & 0xFFFF'FFFF},
                    {"open", mapping.open}});
  });
  return next < table.capacity() ? std::optional(next) : std::nullopt;
}

Rows pool_rows(Gateway& gateway, Time now) {
  Rows rows;
  auto& pool = gateway.nat().pool();
  for (const IpProtocol protocol : protocols)
    rows.push_back({{"protocol", name(protocol)},
                    {"addresses", pool.addresses()},
                    {"lent", pool.lent(protocol)},
                    {"free", pool.free(protocol, now)}});
  return rows;
}

Rows arp_rows(Gateway& gateway, Time now) {
  Rows rows;
  for (const NatSide side : sides) {
    const auto* arp = gateway.arp(side);
    if (arp == nullptr) continue;
    for (const auto& own : arp->locals())
      rows.push_back({{"side", name(side)},
                      {"address", to_string(own.local.prefix.address)},
                      {"mac", to_string(own.local.mac)},
                      {"state", fmt::format("own, {}", to_string(own.state))},
                      {"idle_s", 0},
                      {"waiting", 0}});
    for (std::size_t i = 0; i < arp->neighbours().capacity(); ++i)
      if (const auto entry = arp->neighbours().entry(i, now))
        rows.push_back({{"side", name(side)},
                        {"address", to_string(entry->key.address)},
                        {"mac", to_string(entry->neighbour.mac)},
                        {"state", to_string(entry->neighbour.state)},
                        {"idle_s", seconds(entry->idle)},
                        {"waiting", entry->waiting}});
  }
  return rows;
}

Rows route_rows(const Gateway& gateway) {
  Rows rows;
  const auto& options = gateway.options();
  const auto row = [&](const efnet::Ipv4Prefix& to, NatSide side, std::string by) {
    rows.push_back({{"to", to_string(to)}, {"side", name(side)}, {"by", std::move(by)}});
  };
  for (const NatSide side : sides) {
    const auto& subnet = options.port(side).address;
    row({subnet.first(), subnet.length}, side, "itself");
  }
  for (const auto& route : options.routes)
    row(route.prefix, options.inside.address.contains(route.gateway) ? NatSide::inside : NatSide::outside,
        to_string(route.gateway));
  if (options.gateway) row({Ipv4Address(), 0}, NatSide::outside, to_string(*options.gateway));
  return rows;
}

Rows owner_rows(const Gateway& gateway, Ipv4Address address, std::uint16_t port) {
  Rows rows;
  const auto& mappings = gateway.nat().mappings();
  for (const IpProtocol protocol : protocols)
    if (const auto mapping = mappings.find_outside(protocol, address, port))
      rows.push_back({{"protocol", name(protocol)},
                      {"outside", end_text(address, port)},
                      {"inside", end_text(mapping->inside, mapping->inside_port)},
                      {"open", mapping->open}});
  if (const auto owner = mappings.fixed_owner(address, port))
    rows.push_back(
        {{"protocol", "all"}, {"outside", end_text(address, port)}, {"inside", to_string(*owner)}, {"open", false}});
  return rows;
}

}  // namespace efio::gate
