// io_gen: sends, receives and measures.
#include "tools/common/exit_code.h"
#include "tools/io_gen/options.h"
#include "tools/io_gen/run.h"
#include "tools/io_gen/table.h"

int main(int count, char** arguments) {
  using namespace efio;
  return tools::run_program("io_gen", "a smaller run", [&]() -> int {
    const auto options = io_gen::parse_options(count, arguments);
    if (!options) return tools::complain("io_gen", options.error());
    if (!*options) return tools::exit_done;
    return (*options)->command == io_gen::Command::table ? io_gen::run_table(**options) : io_gen::run(**options);
  });
}
