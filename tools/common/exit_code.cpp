#include "tools/common/exit_code.h"

#include <cerrno>
#include <cstdio>

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

}  // namespace efio::tools
