// mbdg: a bridge over any number of ports.
#include <exception>

#include "tools/common/exit_code.h"
#include "tools/mbdg/options.h"
#include "tools/mbdg/run.h"

int main(int count, char** arguments) {
  using namespace efio;
  try {
    const auto options = mbdg::parse_options(count, arguments);
    if (!options) return tools::complain("mbdg", options.error());
    if (!*options) return tools::exit_done;
    return mbdg::run(**options);
  } catch (const std::exception& error) {  // out of memory, of threads
    return tools::complain("mbdg", {Error::Kind::memory, 0, "mbdg", error.what(), "fewer ports or a smaller table"});
  }
}
