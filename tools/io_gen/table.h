// The command `table`: rx only, tx only, both in one thread and both in two, by one flow and by many.
#pragma once

#include "tools/io_gen/options.h"

namespace efio::io_gen {

// Returns the exit code.
int run_table(const Options& options);

}  // namespace efio::io_gen
