#include "tools/efdoctor/run.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "efio/clock.h"
#include "efio/fail.h"
#include "efio/version.h"
#include "tools/common/exit_code.h"
#include "tools/efdoctor/fixer.h"
#include "tools/efdoctor/report.h"
#include "tools/efdoctor/watch_command.h"

namespace efio::doctor {

namespace {

constexpr std::string_view program = "efdoctor";

bool wants_colours() { return ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr; }

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

// The keys that all programs share; this one opens no ports. The time is put in when all is done.
tools::Json common_json() { return {{"version", version()}, {"elapsed_s", 0.0}, {"ports", tools::Json::array()}}; }

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

void keep_only(Report& report, const std::vector<std::string>& only) {
  if (only.empty()) return;
  std::erase_if(report.findings,
                [&](const Finding& finding) { return std::ranges::find(only, finding.id) == only.end(); });
}

Result<Report> look(Host& host, const Options& options) {
  auto report = examine(host, options.request);
  if (report) keep_only(*report, options.only);
  return report;
}

// What is printed as it happens, and kept for --json.
class Account {
 public:
  explicit Account(bool as_json) : as_json_(as_json) {}

  void say(const std::string& text) const {
    if (!as_json_) print(text);
  }
  // All that is about to be changed; flushed, so that it is seen even if the machine does not survive it.
  void announce(const std::vector<Change>& changes, bool dry_run) {
    for (const auto& change : changes) {
      say(fmt::format("{}: {}\n", dry_run ? "would change" : "to change", line(change)));
      if (dry_run) changes_.push_back(json(change));
    }
    std::fflush(stdout);
  }
  void tell(const std::vector<Outcome>& outcomes) {
    for (const auto& outcome : outcomes) {
      say(line(outcome) + "\n");
      changes_.push_back(json(outcome));
    }
  }
  tools::Json& changes() { return changes_; }

 private:
  bool as_json_;
  tools::Json changes_ = tools::Json::array();
};

// The exit code of a good ending, or why not.
Result<int> finish(tools::Json object, const Options& options, int code, std::uint64_t start) {
  object["elapsed_s"] = static_cast<double>(Clock::monotonic() - start) / 1e9;
  if (options.json) print(pretty(object));
  if (const auto written = tools::finish_output(); !written) return std::unexpected(written.error());
  return code;
}

Result<int> undo(Host& host, const Options& options, std::uint64_t start) {
  auto object = common_json();
  auto fixer = Fixer::open(host, options.state);
  if (!fixer) return std::unexpected(fixer.error());
  Account account(options.json);
  const auto planned = fixer->recorded();
  if (planned.empty()) tools::remark(program, "nothing to undo");
  account.announce(planned, options.dry_run);
  bool whole = true;
  if (!options.dry_run) {
    const auto outcomes = fixer->undo();
    if (!outcomes) return std::unexpected(outcomes.error());
    account.tell(*outcomes);
    whole = std::ranges::all_of(*outcomes, [](const Outcome& outcome) {
      return outcome.kind == Outcome::Kind::done || outcome.kind == Outcome::Kind::already ||
             outcome.kind == Outcome::Kind::gone;
    });
  }
  object["changes"] = std::move(account.changes());
  return finish(std::move(object), options, whole ? tools::exit_done : tools::exit_device, start);
}

Result<int> look_and_fix(Host& host, const Options& options, std::uint64_t start) {
  auto object = common_json();
  auto report = look(host, options);
  if (!report) return std::unexpected(report.error());
  Account account(options.json);
  account.say(text(*report, wants_colours()));
  object.update(json(*report));
  bool healthy = report->healthy();
  if (options.task == Options::Task::fix) {
    std::vector<Change> changes;
    for (auto& finding : report->findings) std::ranges::move(finding.changes, std::back_inserter(changes));
    account.announce(changes, options.dry_run);
    if (!options.dry_run && !changes.empty()) {
      auto fixer = Fixer::open(host, options.state);
      if (!fixer) return std::unexpected(fixer.error());
      const auto outcomes = fixer->apply(changes);
      if (!outcomes) return std::unexpected(outcomes.error());
      account.tell(*outcomes);
      const auto after = look(host, options);
      if (!after) return std::unexpected(after.error());
      healthy = after->healthy();
      object["left"] = json(*after)["findings"];
      account.say(fmt::format("{} finding(s) are left; `efdoctor --undo` puts back what was changed\n",
                              after->findings.size()));
    }
    object["changes"] = std::move(account.changes());
  }
  return finish(std::move(object), options, healthy ? tools::exit_done : tools::exit_not_met, start);
}

Result<int> watch(const Options& options, std::uint64_t start) {
  const auto watched = watch_command(options);
  if (!watched) return std::unexpected(watched.error());
  auto object = common_json();
  object["watch"] = json(*watched);
  // The command's own output is on standard output.
  if (!options.json) std::fputs(text(*watched).c_str(), stderr);
  const bool unhurt = watched->report.moves() == 0 && watched->report.dropped() == 0;
  return finish(std::move(object), options, unhurt ? tools::exit_done : tools::exit_not_met, start);
}

}  // namespace

int run(const Options& options) {
  const auto start = Clock::monotonic();
  if (!options.command.empty()) {
    const auto code = watch(options, start);
    return code ? *code : tools::complain(program, code.error());
  }
  auto host = choose_host(options);
  if (!host) return tools::complain(program, host.error());
  if (!options.capture.empty()) {
    if (const auto saved = capture(std::move(*host), options); !saved) return tools::complain(program, saved.error());
    tools::remark(program, "saved in " + options.capture);
    return tools::exit_done;
  }
  const auto code =
      options.task == Options::Task::undo ? undo(**host, options, start) : look_and_fix(**host, options, start);
  if (!code) return tools::complain(program, code.error());
  return *code;
}

}  // namespace efio::doctor
