// `efdoctor --watch DEVICE -- COMMAND`: runs a program and says afterwards what hit it.
#pragma once

#include "tools/common/port_report.h"
#include "tools/common/watch.h"
#include "tools/efdoctor/options.h"

namespace efio::doctor {

struct WatchedCommand {
  tools::WatchReport report;
  int exit_code = 0;  // of the command; 128 and the signal's number where one ended it
};

// Runs it to its end; Ctrl-C and SIGTERM are the command's. Errors: device (it cannot be run).
Result<WatchedCommand> watch_command(const Options& options);

std::string text(const WatchedCommand& watched);
tools::Json json(const WatchedCommand& watched);

}  // namespace efio::doctor
