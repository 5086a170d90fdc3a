// Ports and their counters, as JSON (the keys that all programs share) and as text.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "efio/port.h"

namespace efio::tools {

using Json = nlohmann::ordered_json;

// {"uri", "engine", "mode", "rx": {"packets", "bytes", "received", "made", "waiting", "dropped": {reason: n}}, "tx":
// …}; a direction that the port was not opened for is left out.
// `before`: what an earlier opening of the same port counted.
Json port_json(const Port& port, const PortStats& before = {});

// The same for people, two lines or three.
std::string port_text(const Port& port, const PortStats& before = {});

// "dropped 1,234 (filtered 1,000, rate_limit 234)", all reasons that there are.
std::string dropped_line(const DropCounts& dropped);

// "1,234,567"
std::string grouped(std::uint64_t number);

}  // namespace efio::tools
