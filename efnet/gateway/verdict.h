#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "efio/export.h"
#include "efio/stats.h"

namespace efnet {

// Why the gateway gave a frame up before the NAT saw it, with the frame's drop reason in efio's terms. A reason cannot
// exist without its name.
#define EFNET_GATEWAY_DROPS(X)                                                        \
  X(other_station, filtered, "to another station's MAC address")                      \
  X(broadcast, filtered, "an IPv4 packet to everybody or to a group: none is routed") \
  X(vlan, filtered, "tagged, and the port has no such VLAN")                          \
  X(own_address, filtered, "to an address of the gateway, where nobody listens")      \
  X(split, oversize, "longer than one slot")                                          \
  X(too_big, oversize, "longer than the next link takes")                             \
  X(turned_malformed, malformed, "to be routed back, and its headers do not parse")   \
  X(turned_ttl, no_route, "to be routed back, and its time to live has run out")

enum class GatewayDrop : std::uint8_t {
#define EFNET_X(name, reason, text) name,
  EFNET_GATEWAY_DROPS(EFNET_X)
#undef EFNET_X
      count_
};
inline constexpr std::size_t gateway_drops = static_cast<std::size_t>(GatewayDrop::count_);

// "other_station", and the sentence that goes with it.
EFIO_EXPORT std::string_view name(GatewayDrop drop) noexcept;
EFIO_EXPORT std::string_view describe(GatewayDrop drop) noexcept;
EFIO_EXPORT efio::DropReason drop_reason(GatewayDrop drop) noexcept;

}  // namespace efnet
