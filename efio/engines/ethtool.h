// Internal: what drivers tell through the ethtool ioctl, in the network namespace of the calling thread. An interface that
// does not answer has none of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "efio/descriptor.h"

namespace efio {

// Bits per second, 0: unknown.
std::uint64_t ethtool_speed(const std::string& interface);

// The features that are switched on, as `ethtool -k` and the kernel name them ("tx-tcp-segmentation").
std::set<std::string> ethtool_features(const std::string& interface);

// All features, in the kernel's order. `fixed`: cannot be changed.
struct EthtoolFeature {
  std::string name;
  bool on = false, fixed = false;
};
std::vector<EthtoolFeature> ethtool_feature_list(const std::string& interface);

// Whether the feature is so afterwards. One that goes off may take others with it, which come back with it.
bool ethtool_set_feature(const std::string& interface, const std::string& name, bool on);

// Queues that are in use now; one of each where the driver does not tell.
struct QueueCounts {
  std::uint32_t rx = 1, tx = 1;
};
QueueCounts ethtool_queues(const std::string& interface);

// While it lives, the interface neither cuts nor merges frames, keeps their VLAN tags and fills their checksums in, as far
// as its driver lets one choose. At its end all is as it was, whatever the namespace of the thread is by then.
class OffloadsOff {
 public:
  explicit OffloadsOff(std::string interface);
  ~OffloadsOff();
  OffloadsOff(const OffloadsOff&) = delete;
  OffloadsOff& operator=(const OffloadsOff&) = delete;

 private:
  std::string interface_;
  Fd socket_;
  std::size_t feature_count_ = 0;
  std::vector<std::uint32_t> switched_off_;  // their numbers
};

}  // namespace efio
