// Reading a command line, as all programs do it.
#pragma once

#include <CLI/CLI.hpp>
#include <string_view>

#include "efio/result.h"

namespace efio::tools {

// False where help or a version was asked for, and printed. Errors: usage, with the hint.
Result<bool> parse(CLI::App& app, int count, const char* const* arguments, std::string_view hint);

}  // namespace efio::tools
