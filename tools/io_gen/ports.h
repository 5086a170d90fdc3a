// Opening ports with what io_gen needs to know about them.
#pragma once

#include <string>

#include "efio/port.h"
#include "tools/io_gen/generator.h"
#include "tools/io_gen/options.h"

namespace efio::io_gen {

struct PortAndGenerator {
  Port port;
  Generator generator;
};

// MAC addresses that were not given become the device's own and the neighbour table's. Errors: as Port::open, and usage
// where the port has no room for the largest size.
Result<PortAndGenerator> open_for_sending(const std::string& uri, const Options& options);

// The capture that `--write` or `--from` names: a path, or a pcap: URI, to which `options` of such a one are added.
Result<Port> open_capture(const std::string& file, Direction direction, std::string_view options = "");

}  // namespace efio::io_gen
