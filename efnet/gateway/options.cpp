#include "efnet/gateway/options.h"

#include "efnet/wire/format.h"

namespace efnet {

namespace {

bool is_host_of(const Ipv4Prefix& subnet, Ipv4Address address) noexcept {
  if (!subnet.contains(address) || address.is_multicast() || address.is_loopback()) return false;
  return subnet.length >= 31 || (address != subnet.first() && address != subnet.last());
}

}  // namespace

auto GatewayOptions::find_fault() const -> std::optional<Fault> {
  using At = Fault::At;
  const Ipv4Prefix& in = inside.address;
  const Ipv4Prefix& out = outside.address;
  for (const auto& [at, subnet] : {std::pair(At::inside, in), std::pair(At::outside, out)}) {
    if (subnet.length > 31) return Fault{at, 0, fmt::format("{} is a subnet without any other host", subnet)};
    if (!is_host_of(subnet, subnet.address))
      return Fault{at, 0, fmt::format("{} is no address that a host on its subnet can have", subnet)};
  }
  if (in.contains(out.address) || out.contains(in.address))
    return Fault{At::outside, 0, fmt::format("the subnets {} inside and {} outside overlap", in, out)};
  if (gateway && (!is_host_of(out, *gateway) || *gateway == out.address))
    return Fault{At::gateway, 0, fmt::format("{} is no other host on the outside subnet {}", *gateway, out)};
  for (std::size_t i = 0; i < routes.size(); ++i) {
    const Ipv4Address by = routes[i].gateway;
    if ((!is_host_of(in, by) && !is_host_of(out, by)) || by == in.address || by == out.address)
      return Fault{At::route, i, fmt::format("{} is no other host on a subnet of ours", by)};
    for (std::size_t before = 0; before < i; ++before)
      if (routes[before].prefix == routes[i].prefix)
        return Fault{At::route, i, fmt::format("there is a route to {} already", routes[i].prefix)};
  }
  for (std::size_t i = 0; i < nat.pool.ranges.size(); ++i) {
    const Ipv4Range& range = nat.pool.ranges[i].addresses;
    if (gateway && range.contains(*gateway))
      return Fault{At::pool, i, fmt::format("{} has the gateway's own address {}", range, *gateway)};
    if (range.contains(in.address))
      return Fault{At::pool, i, fmt::format("{} has the inside address {}", range, in.address)};
  }
  return std::nullopt;
}

}  // namespace efnet
