#include "tools/efdoctor/run.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "efio/clock.h"
#include "efio/fail.h"
#include "efio/version.h"
#include "tools/common/exit_code.h"
#include "tools/efdoctor/report.h"

namespace efio::doctor {

namespace {

constexpr std::string_view program = "efdoctor";

bool wants_colours() { return ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr; }

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

// The keys that all programs share; this one opens no ports.
tools::Json common_json(std::uint64_t start) {
  return {{"version", version()},
          {"elapsed_s", static_cast<double>(Clock::monotonic() - start) / 1e9},
          {"ports", tools::Json::array()}};
}

Result<std::unique_ptr<Host>> choose_host(const Options& options) {
  if (!options.root.empty()) return captured_host(options.root);
  return this_host();
}

Result<void> capture(std::unique_ptr<Host> host, const Options& options) {
  auto recorder = record(std::move(host), options.capture);
  if (!recorder) return std::unexpected(recorder.error());
  if (const auto report = examine(**recorder, options.request); !report) return std::unexpected(report.error());
  return (*recorder)->finish();
}

}  // namespace

int run(const Options& options) {
  const auto start = Clock::monotonic();
  auto host = choose_host(options);
  if (!host) return tools::complain(program, host.error());
  if (!options.capture.empty()) {
    if (const auto saved = capture(std::move(*host), options); !saved) return tools::complain(program, saved.error());
    tools::remark(program, "saved in " + options.capture);
    return tools::exit_done;
  }
  const auto report = examine(**host, options.request);
  if (!report) return tools::complain(program, report.error());
  if (options.json) {
    auto object = common_json(start);
    object.update(json(*report));
    print(object.dump(2) + "\n");
  } else {
    print(text(*report, wants_colours()));
  }
  if (const auto written = tools::finish_output(); !written) return tools::complain(program, written.error());
  return report->healthy() ? tools::exit_done : tools::exit_not_met;
}

}  // namespace efio::doctor
