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
    switch ((*options)->command) {
      case io_gen::Command::table:
        return io_gen::run_table(**options);
      case io_gen::Command::rfc2544:
        return io_gen::run_rfc2544(**options);
      default:
        return io_gen::run(**options);
    }
  });
}
