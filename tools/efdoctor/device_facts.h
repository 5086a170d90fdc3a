// What is known of a network device and its place in the machine.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tools/efdoctor/device_answers.h"
#include "tools/efdoctor/host.h"
#include "tools/efdoctor/host_facts.h"

namespace efio::doctor {

struct PcieLink {
  double speed = 0, speed_most = 0;    // GT/s a lane
  unsigned width = 0, width_most = 0;  // lanes
  // Gbit/s of payload and headers that the lanes carry, each way.
  static double gigabits(double speed, unsigned width) noexcept;
};

struct QueueInterrupt {
  unsigned number = 0;
  std::string name;
  std::vector<int> cpus;      // that really get it
  std::string affinity_text;  // of smp_affinity_list, as it stands there
};

struct DeviceFacts {
  DeviceAnswers answers;
  std::optional<PcieLink> pcie;
  int node = -1;                           // NUMA; -1: none, or not known
  std::vector<QueueInterrupt> interrupts;  // of its queues
  std::optional<ProgramHolder> holder;     // where an XDP program is attached
};

// Errors: device (there is none of that name).
Result<DeviceFacts> read_device(Host& host, const std::string& name);

}  // namespace efio::doctor
