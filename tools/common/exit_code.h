// How a program ends, and how it says why.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "efio/result.h"

namespace efio::tools {

enum ExitCode : int {
  exit_done = 0,
  exit_not_met = 1,  // the run did not meet what was asked of it
  exit_usage = 2,
  exit_device = 3,  // device, permission or environment
};

// The exit code that goes with an error.
int exit_code(const Error& error) noexcept;

// One line on standard error: "io_gen: open packet:eth7: no such interface; `ip link` lists them". Returns the code.
int complain(std::string_view program, const Error& error);

// A remark on standard error.
void remark(std::string_view program, std::string_view text);

// Flushes standard output; an error where it could not be written (a full disk, a closed pipe).
Result<void> finish_output();

// The end of a run: its report on standard output, then what was asked for and not met, a sentence each, and what failed,
// on standard error. Returns the exit code: that of the last error, else exit_not_met or exit_done.
int end_run(std::string_view program, std::string_view report, std::span<const std::string> not_met,
            std::span<const Error> errors);

// The whole of main(): what `run` returns, or what becomes of an exception (out of memory, of threads).
int run_program(std::string_view program, std::string_view hint, const std::function<int()>& run);

}  // namespace efio::tools
