#pragma once

#include "tools/efdoctor/options.h"

namespace efio::doctor {

// Looks, prints, and returns the exit code: 0 healthy, 1 something to mend, 3 could not look.
int run(const Options& options);

}  // namespace efio::doctor
