// Opening ports with what io_gen needs to know about them.
#pragma once

#include <string>

#include "efio/port.h"
#include "tools/io_gen/generator.h"
#include "tools/io_gen/options.h"

namespace efio::io_gen {

struct Sending {
  Port port;
  Generator generator;
};

// MAC addresses that were not given become the device's own and the neighbour table's. Errors: as Port::open, and usage
// where the port has no room for the largest size.
Result<Sending> open_for_sending(const std::string& uri, const Options& options);

// The capture that `--write` names: a path, or a pcap: URI.
Result<Port> open_capture(const std::string& file);

}  // namespace efio::io_gen
