// The command line of efdoctor.
#pragma once

#include <optional>
#include <string>

#include "efio/result.h"
#include "tools/efdoctor/examine.h"

namespace efio::doctor {

struct Options {
  Request request;
  std::string root;     // a captured folder; empty: this machine
  std::string capture;  // where to save one; empty: no
  bool json = false;
};

// Nothing, and the text printed, for --help and its like. Errors: usage.
Result<std::optional<Options>> parse_options(int count, const char* const* arguments);

}  // namespace efio::doctor
