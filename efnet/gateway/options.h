#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "efio/export.h"
#include "efnet/nat44/options.h"
#include "efnet/nat44/verdict.h"
#include "efnet/tables/neighbour_table.h"
#include "efnet/wire/address.h"

namespace efnet {

struct GatewayPort {
  Ipv4Prefix address;      // ours, and the subnet that it is on
  std::uint16_t vlan = 0;  // our packets have this tag; 0: none
  std::uint16_t mtu = 0;   // of IP packets; 0: not looked at
  bool offloads = false;   // frames may come with work left to a device (efio::Metadata), and leave with it
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

  // What is wrong with the addresses, if anything is: shared by create() and by who reads them from a file.
  struct Fault {
    enum class At : std::uint8_t { inside, outside, gateway, route, pool } at{};
    std::size_t index = 0;  // of the route, or of the pool's range
    std::string why;
  };
  EFIO_EXPORT std::optional<Fault> find_fault() const;

  const GatewayPort& port(NatSide side) const noexcept { return side == NatSide::inside ? inside : outside; }
};

}  // namespace efnet
