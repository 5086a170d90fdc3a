// Opens a device by netmap and by PF_RING. Both are no part of a kernel, and nothing of them is needed to build this: where
// they are missing, the error says so, and how to get them.
//
//   netmap_and_pfring [DEVICE]
#include <cstdio>
#include <string>

#include "efio/port.h"

int main(int argc, char** argv) {
  const std::string device = argc > 1 ? argv[1] : "lo";
  for (const std::string scheme : {"netmap:", "pfring:"}) {
    auto port = efio::Port::open(scheme + device, {.direction = efio::Direction::rx});
    if (port) std::printf("%s%s: %s\n", scheme.c_str(), device.c_str(), port->info().mode.c_str());
    else std::printf("%s\n", port.error().message().c_str());
  }
  return 0;
}
