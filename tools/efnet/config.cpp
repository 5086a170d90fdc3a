#include "tools/efnet/config.h"

#include "efio/fail.h"
#include "efio/uri.h"
#include "efnet/wire/format.h"
#include "tools/common/cpus.h"
#include "tools/common/toml_file.h"

namespace efio::gate {

namespace {

using namespace std::chrono_literals;
using efnet::Ipv4Address;
using efnet::Ipv4Prefix;
using efnet::Ipv4Range;
using efnet::PortRange;
using tools::TomlFile;
using tools::TomlTable;

constexpr std::size_t most_forwards = 65'536;

// Text that T::parse() understands.
template <class T>
T need(TomlTable& table, std::string_view key, std::string_view example) {
  const std::string text = table.need_text(key, fmt::format("\"{}\"", example));
  if (const auto value = T::parse(text)) return *value;
  if (table.has(key)) table.refuse(key, fmt::format("is \"{}\"", text), fmt::format("such as \"{}\"", example));
  return {};
}
template <class T>
std::optional<T> wish(TomlTable& table, std::string_view key, std::string_view example) {
  if (!table.has(key)) return std::nullopt;
  return need<T>(table, key, example);
}
template <class T>
std::vector<T> list(TomlTable& table, std::string_view key, std::string_view example) {
  std::vector<T> values;
  const auto texts = table.texts(key);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (const auto value = T::parse(texts[i]))
      values.push_back(*value);
    else
      table.refuse(key, fmt::format("holds \"{}\"", texts[i]), fmt::format("such as \"{}\"", example), i);
  }
  return values;
}

void read_port(TomlTable table, PortConfig& port, efnet::GatewayPort& gateway) {
  port.uri = table.need_text("port", "\"packet:eth0\"");
  if (auto uri = Uri::parse(port.uri); !uri && !port.uri.empty()) {
    table.refuse("port", uri.error().why, "such as \"packet:eth0\"");
  } else if (uri) {
    // A TCP sender's burst of some hundred packets is no reason to lose any (512 slots halve what a connection gets).
    if (uri->scheme() == "xdp" && !uri->has("ring")) port.uri += uri->options().empty() ? "?ring=2048" : "&ring=2048";
    gateway.offloads = (uri->scheme() == "packet" || uri->scheme() == "tap") && uri->text_option("offload") == "on";
  }
  gateway.address = need<Ipv4Prefix>(table, "address", "10.0.0.1/24");
  port.mac = wish<efnet::MacAddress>(table, "mac", "02:00:00:00:00:01");
  if (port.mac && (port.mac->is_group() || port.mac->is_zero()))
    table.refuse("mac", "is no station's address", "such as \"02:00:00:00:00:01\"");
  port.mtu = static_cast<std::uint16_t>(table.integer("mtu", 0, 68, 65'535));
  gateway.vlan = static_cast<std::uint16_t>(table.integer("vlan", 0, 1, 4094));
  if (gateway.vlan != 0 && gateway.offloads)
    table.refuse("vlan", "is not to be had with offload=on", "one of the two; or a port of the VLAN's own device");
}

// "198.51.100.16-198.51.100.31:1024-65535"; the ports may be left out.
void read_pool(TomlTable& nat, efnet::GatewayOptions& options) {
  const auto texts = nat.texts("pool");
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::string_view text = texts[i];
    const auto colon = text.find(':');
    const auto addresses = Ipv4Range::parse(text.substr(0, colon));
    efnet::IppRange range;
    std::optional<PortRange> ports = range.ports;
    if (colon != std::string_view::npos) ports = PortRange::parse(text.substr(colon + 1));
    if (!addresses || !ports || ports->first == 0) {
      nat.refuse("pool", fmt::format("holds \"{}\"", text), "such as \"198.51.100.16-198.51.100.31:1024-65535\"", i);
      continue;
    }
    options.nat.pool.ranges.push_back({*addresses, *ports});
  }
  // The outside address serves for all where no other is named.
  const Ipv4Address own = options.outside.address.address;
  if (texts.empty()) options.nat.pool.ranges = {{Ipv4Range{own, own}}};
}

void read_timeouts(TomlTable table, efnet::Nat44Options& nat) {
  for (auto& row : nat.timeouts) row.timeout = table.duration(row.name, row.timeout, 1s, 24h * 24);
}

void read_nat(TomlTable nat, efnet::GatewayOptions& options) {
  auto& to = options.nat;
  read_pool(nat, options);
  to.inside = list<Ipv4Prefix>(nat, "inside", "10.0.0.0/8");
  to.bypass = list<Ipv4Prefix>(nat, "bypass", "192.0.2.0/24");
  const std::string filtering =
      nat.choice("filtering", {"endpoint-independent", "address-dependent", "address-and-port-dependent"});
  to.filtering = filtering == "endpoint-independent" ? efnet::NatFiltering::endpoint_independent
                 : filtering == "address-dependent"  ? efnet::NatFiltering::address_dependent
                                                     : efnet::NatFiltering::address_and_port_dependent;
  to.pool.sequential = nat.choice("ports", {"random", "sequential"}) == "sequential";
  to.preserve_port = nat.flag("preserve_port", false);
  to.preserve_parity = nat.flag("preserve_parity", false);
  to.pool.hold_down = nat.duration("hold_down", to.pool.hold_down, 0s, 24h);
  to.pool.block_size = static_cast<std::uint32_t>(nat.integer("block_size", 0, 0, 32'768));
  if (const auto size = to.pool.block_size; size != 0 && (size < 64 || (size & (size - 1)) != 0))
    nat.refuse("block_size", fmt::format("is {}", size), "0, or a power of two from 64 on");
  to.pool.blocks_each = static_cast<std::uint32_t>(nat.integer("blocks_each", 4, 1, 1024));
  to.sessions = nat.count("sessions", 262'144, 1, std::size_t{1} << 28);
  to.sessions_each = static_cast<std::uint32_t>(nat.count("sessions_each", 0, 0, 1U << 28));
  to.mappings_each = static_cast<std::uint32_t>(nat.count("mappings_each", 0, 0, 65'536));
  to.errors_per_second = nat.number("errors_per_second", to.errors_per_second, 1, 1e6);
  read_timeouts(nat.table("timeouts"), to);
}

// "198.51.100.2:8000-8010"
struct End {
  Ipv4Address address;
  PortRange ports;

  static std::optional<End> parse(std::string_view text) {
    const auto colon = text.find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    const auto address = Ipv4Address::parse(text.substr(0, colon));
    const auto ports = PortRange::parse(text.substr(colon + 1));
    if (!address || !ports || ports->first == 0) return std::nullopt;
    return End{*address, *ports};
  }
};

void read_forward(TomlTable table, efnet::Nat44Options& nat) {
  const std::string protocol = table.choice("protocol", {"tcp", "udp", "both"});
  const auto outside = need<End>(table, "outside", "198.51.100.2:443");
  const auto inside = need<End>(table, "inside", "10.0.0.5:443");
  const unsigned count = outside.ports.last - outside.ports.first + 1U;
  if (inside.ports.last - inside.ports.first + 1U != count)
    return table.refuse("inside", fmt::format("has not the {} ports that the outside has", count),
                        "as many ports on either side");
  if (nat.forwards.size() + 2 * std::size_t{count} > most_forwards)
    return table.refuse("outside", "is one port too many", fmt::format("{} ports in all", most_forwards));
  for (const auto of : {efnet::IpProtocol::tcp, efnet::IpProtocol::udp}) {
    if (protocol != "both" && (protocol == "tcp") != (of == efnet::IpProtocol::tcp)) continue;
    for (unsigned i = 0; i < count; ++i) {
      const auto port = static_cast<std::uint16_t>(outside.ports.first + i);
      for (const auto& other : nat.forwards)
        if (other.protocol == of && other.outside == outside.address && other.outside_port == port)
          return table.refuse("outside", fmt::format("has port {}, which is forwarded already", port),
                              "each port once");
      nat.forwards.push_back({.protocol = of,
                              .outside = outside.address,
                              .outside_port = port,
                              .inside = inside.address,
                              .inside_port = static_cast<std::uint16_t>(inside.ports.first + i)});
    }
  }
}

void read_pair(TomlTable table, efnet::Nat44Options& nat) {
  const auto outside = need<Ipv4Address>(table, "outside", "198.51.100.3");
  const auto inside = need<Ipv4Address>(table, "inside", "10.0.0.5");
  for (const auto& range : nat.pool.ranges)
    if (range.addresses.contains(outside))
      return table.refuse("outside", fmt::format("is {}, which the pool lends", outside),
                          "an address outside of the pool");
  for (const auto& pair : nat.pairs)
    if (pair.outside == outside || pair.inside == inside)
      return table.refuse("", "one of the two addresses has a pair already", "each address once");
  nat.pairs.push_back({outside, inside});
}

void read_deterministic(TomlTable table, efnet::GatewayOptions& options) {
  const auto inside = need<Ipv4Prefix>(table, "inside", "10.0.0.0/24");
  const auto outside = need<Ipv4Range>(table, "outside", "198.51.100.32-198.51.100.39");
  const auto ports = wish<PortRange>(table, "ports", "1024-65535");
  efnet::NatDeterministic entry{.inside = inside, .outside = outside};
  if (ports) entry.ports = *ports;
  if (options.gateway && outside.contains(*options.gateway))
    table.refuse("outside", fmt::format("has the gateway's own address {}", *options.gateway),
                 "addresses that nobody else has");
  options.nat.deterministic.push_back(entry);
}

void read_log(TomlTable table, MappingLogOptions& log) {
  log.file = table.text("file");
  log.rotate = table.count("rotate", 0, 65'536, std::uint64_t{1} << 40);
  log.keep = table.count("keep", 5, 0, 1000);
}

void place_fault(const efnet::GatewayOptions::Fault& fault, TomlTable& inside, TomlTable& outside, TomlTable& nat,
                 std::vector<TomlTable>& routes) {
  using At = efnet::GatewayOptions::Fault::At;
  switch (fault.at) {
    case At::inside:
      return inside.refuse("address", "is wrong: " + fault.why, "such as \"10.0.0.1/24\"");
    case At::outside:
      return outside.refuse("address", "is wrong: " + fault.why, "such as \"198.51.100.2/24\", apart from the inside");
    case At::gateway:
      return outside.refuse("gateway", "is wrong: " + fault.why, "the address of the next router outside");
    case At::route:
      return routes[fault.index].refuse("by", "is wrong: " + fault.why, "a router on the inside or the outside subnet");
    case At::pool:
      return nat.refuse("pool", "is wrong: " + fault.why, "addresses that nobody else has", fault.index);
  }
}

Result<Config> read(const TomlFile& file) {
  Config config;
  auto root = file.root();
  auto& options = config.gateway;
  auto inside = root.need_table("inside");
  auto outside = root.need_table("outside");
  auto nat = root.table("nat");
  auto routes = root.tables("route");
  read_port(inside, config.inside, options.inside);
  read_port(outside, config.outside, options.outside);
  options.gateway = wish<Ipv4Address>(outside, "gateway", "198.51.100.1");
  for (auto& table : routes)
    options.routes.push_back(
        {need<Ipv4Prefix>(table, "to", "10.9.0.0/16"), need<Ipv4Address>(table, "by", "10.0.0.9")});
  read_nat(nat, options);
  for (auto& table : root.tables("forward")) read_forward(table, options.nat);
  for (auto& table : root.tables("pair")) read_pair(table, options.nat);
  for (auto& table : root.tables("deterministic")) read_deterministic(table, options);
  read_log(root.table("log"), config.log);
  auto neighbours = root.table("arp");
  options.neighbours.capacity = neighbours.count("entries", 4096, 16, 1U << 20);
  options.neighbours.reachable = neighbours.duration("reachable", 30s, 1s, 24h);
  options.neighbours.waiting_each = neighbours.count("waiting_each", 3, 1, 64);
  auto run = root.table("run");
  config.control = run.text("control", config.control);
  config.state = run.text("state");
  config.state_every = run.duration("state_every", 60s, 0s, 24h);
  config.spin = run.flag("spin", false);
  if (run.has("cpu")) {
    if (auto cpus = tools::parse_cpus(run.text("cpu")); cpus)
      config.cpus = std::move(*cpus);
    else
      run.refuse("cpu", cpus.error().why, "such as \"1\"");
  }
  if (options.inside.offloads != options.outside.offloads)
    (options.inside.offloads ? outside : inside)
        .refuse("port", "has not offload=on, which the other port has", "both, or neither");
  if (inside.has("address") && outside.has("address"))
    if (const auto fault = options.find_fault()) place_fault(*fault, inside, outside, nat, routes);
  if (auto ok = file.finish(); !ok) return std::unexpected(std::move(ok.error()));
  return config;
}

}  // namespace

Result<Config> read_config(const std::string& path) {
  auto file = TomlFile::read(path);
  if (!file) return std::unexpected(std::move(file.error()));
  return read(*file);
}

Result<Config> parse_config(std::string_view text, std::string path) {
  auto file = TomlFile::parse(text, std::move(path));
  if (!file) return std::unexpected(std::move(file.error()));
  return read(*file);
}

}  // namespace efio::gate
