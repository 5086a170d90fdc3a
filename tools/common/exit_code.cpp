#include "tools/common/exit_code.h"

#include <cerrno>
#include <cstdio>
#include <exception>

#include "efio/fail.h"

namespace efio::tools {

int exit_code(const Error& error) noexcept { return error.kind == Error::Kind::usage ? exit_usage : exit_device; }

int complain(std::string_view program, const Error& error) {
  remark(program, error.message());
  return exit_code(error);
}

void remark(std::string_view program, std::string_view text) {
  const auto line = fmt::format("{}: {}\n", program, text);
  std::fwrite(line.data(), 1, line.size(), stderr);
}

Result<void> finish_output() {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return {};
  return fail(errno == 0 ? EIO : errno, "write to standard output").hint("the counts printed are not whole");
}

int end_run(std::string_view program, std::string_view report, std::span<const std::string> not_met,
            std::span<const Error> errors) {
  std::fwrite(report.data(), 1, report.size(), stdout);
  int code = exit_done;
  for (const auto& sentence : not_met) {
    remark(program, sentence);
    code = exit_not_met;
  }
  for (const auto& error : errors) code = complain(program, error);
  if (auto written = finish_output(); !written) code = complain(program, written.error());
  return code;
}

int run_program(std::string_view program, std::string_view hint, const std::function<int()>& run) {
  try {
    return run();
  } catch (const std::exception& error) {
    return complain(program, {Error::Kind::memory, 0, std::string(program), error.what(), std::string(hint)});
  }
}

}  // namespace efio::tools
