#include "tools/common/command_line.h"

#include <algorithm>

#include "efio/fail.h"

namespace efio::tools {

Result<bool> parse(CLI::App& app, int count, const char* const* arguments, std::string_view hint) {
  // CLI11 2.1 never comes back from an empty word that no option takes.
  if (std::any_of(arguments, arguments + count, [](const char* word) { return *word == '\0'; }))
    return fail(Error::Kind::usage, "command line", "there is an empty word").hint("is a variable of the shell empty?");
  try {
    app.parse(count, arguments);
  } catch (const CLI::ParseError& end) {
    if (end.get_exit_code() == 0) {
      app.exit(end);
      return false;
    }
    return fail(Error::Kind::usage, "command line", "{}", end.what()).hint("{}", hint);
  }
  return true;
}

}  // namespace efio::tools
