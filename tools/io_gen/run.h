// The commands tx, rx and both: ports opened, threads run, counts told.
#pragma once

#include "tools/io_gen/options.h"

namespace efio::io_gen {

// Returns the exit code (tools/common/exit_code.h).
int run(const Options& options);

}  // namespace efio::io_gen
