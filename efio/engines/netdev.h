// Internal: what the kernel's netdev family (generic netlink, Linux 6.3) tells of an interface, in the network namespace of the
// calling thread.
#pragma once

#include <cstdint>
#include <optional>

namespace efio {

// What its driver says of XDP.
struct XdpFeatures {
  std::uint64_t features = 0;  // NETDEV_XDP_ACT_*
  std::uint64_t rx_metadata = 0;
};
// Nothing where the kernel knows no such question, or the interface is gone.
std::optional<XdpFeatures> xdp_features(int interface);
constexpr std::uint64_t xdp_basic = 1, xdp_redirect = 2, xdp_zero_copy = 8, xdp_rx_fragments = 32;  // bits of `features`

// Whether its driver tells XDP programs when a frame came in. False too where the kernel knows no such question.
bool has_xdp_hardware_time(int interface);

}  // namespace efio
