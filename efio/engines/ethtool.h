// Internal: what drivers tell through the ethtool ioctl, in the network namespace of the calling thread. An interface that
// does not answer has none of it.
#pragma once

#include <cstdint>
#include <set>
#include <string>

namespace efio {

// Bits per second, 0: unknown.
std::uint64_t ethtool_speed(const std::string& interface);

// The features that are switched on, as `ethtool -k` and the kernel name them ("tx-tcp-segmentation").
std::set<std::string> ethtool_features(const std::string& interface);

// Queues that are in use now; one of each where the driver does not tell.
struct QueueCounts {
  std::uint32_t rx = 1, tx = 1;
};
QueueCounts ethtool_queues(const std::string& interface);

}  // namespace efio
