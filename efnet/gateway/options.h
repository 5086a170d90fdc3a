#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "efnet/nat44/options.h"
#include "efnet/nat44/verdict.h"
#include "efnet/tables/neighbour_table.h"
#include "efnet/wire/address.h"

namespace efnet {

struct GatewayPort {
  Ipv4Prefix address;      // ours, and the subnet that it is on
  std::uint16_t vlan = 0;  // our packets have this tag; 0: none
  std::uint16_t mtu = 0;   // of IP packets; 0: not looked at
};

// By way of a router on the subnet of one of the ports.
struct GatewayRoute {
  Ipv4Prefix prefix;
  Ipv4Address gateway;
};

struct GatewayOptions {
  GatewayPort inside, outside;
  std::optional<Ipv4Address> gateway;  // the router outside for what no route names
  std::vector<GatewayRoute> routes;
  // What the ports and routes say already is filled in: our addresses and the MTUs, and, where it names none, the
  // inside networks (that of the port, and those of routes that lead inside).
  Nat44Options nat;
  NeighbourOptions neighbours;  // of each side

  const GatewayPort& port(NatSide side) const noexcept { return side == NatSide::inside ? inside : outside; }
};

}  // namespace efnet
