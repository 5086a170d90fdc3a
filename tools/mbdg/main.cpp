// mbdg: a bridge over any number of ports.
#include "tools/common/exit_code.h"
#include "tools/mbdg/options.h"
#include "tools/mbdg/run.h"

int main(int count, char** arguments) {
  using namespace efio;
  return tools::run_program("mbdg", "fewer ports or a smaller table", [&]() -> int {
    auto options = mbdg::parse_options(count, arguments);
    if (!options) return tools::complain("mbdg", options.error());
    if (!*options) return tools::exit_done;
    mbdg::Run::Reread reread;
    if (!(*options)->config.empty())
      reread = [&]() -> Result<mbdg::Options> {
        auto again = mbdg::parse_options(count, arguments);
        if (!again) return std::unexpected(std::move(again.error()));
        return std::move(**again);
      };
    return mbdg::run(std::move(**options), reread);
  });
}
