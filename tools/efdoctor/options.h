// The command line of efdoctor.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "efio/result.h"
#include "tools/efdoctor/examine.h"

namespace efio::doctor {

struct Options {
  Request request;
  std::string root;     // a captured folder; empty: this machine
  std::string capture;  // where to save one; empty: no
  enum class Task { look, fix, undo } task = Task::look;
  bool dry_run = false;           // only say what would be changed
  std::vector<std::string> only;  // findings; empty: all
  std::string state = "/run/efio/efdoctor.json";
  std::string watch;                 // a device, empty: none
  std::vector<std::string> command;  // to watch; empty: nothing is watched
  std::chrono::nanoseconds watch_interval = std::chrono::milliseconds(10);
  bool json = false;
};

// Nothing, and the text printed, for --help and its like. Errors: usage.
Result<std::optional<Options>> parse_options(int count, const char* const* arguments);

}  // namespace efio::doctor
