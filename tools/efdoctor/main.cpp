// efdoctor: why is this host slow.
#include <exception>

#include "tools/common/exit_code.h"
#include "tools/efdoctor/options.h"
#include "tools/efdoctor/run.h"

int main(int count, char** arguments) {
  using namespace efio;
  try {
    const auto options = doctor::parse_options(count, arguments);
    if (!options) return tools::complain("efdoctor", options.error());
    if (!*options) return tools::exit_done;
    return doctor::run(**options);
  } catch (const std::exception& error) {
    return tools::complain("efdoctor", {Error::Kind::memory, 0, "efdoctor", error.what(), ""});
  }
}
