// `--cpu LIST`: which processors a program's threads run on.
#pragma once

#include <string_view>
#include <vector>

#include "efio/result.h"

namespace efio::tools {

// "0", "2,5", "0-3,8": in the order given. Errors: usage (not a list, a number above 1023, a number twice).
Result<std::vector<int>> parse_cpus(std::string_view text);

// Binds the calling thread to one processor. Errors: device (there is no such one, or it is not for this process).
Result<void> pin_thread(int cpu);

// Thread `index` of a program gets the processor of that place in the list, over again where the list is shorter; an
// empty list binds nothing.
Result<void> pin_thread(const std::vector<int>& cpus, std::size_t index);

// Errors as pin_thread's, for every processor of the list, without binding anything.
Result<void> check_cpus(const std::vector<int>& cpus);

}  // namespace efio::tools
