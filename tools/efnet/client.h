// The commands that speak to a running gateway.
#pragma once

#include <string>

#include "tools/common/port_report.h"

namespace efio::gate {

// Sends the request to the gateway that listens at `path` and prints what it answers: a table for people, or with
// `json` its lines as they come. Returns the exit code.
int ask(const std::string& path, const tools::Json& request, bool json);

}  // namespace efio::gate
