#include "tools/efdoctor/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "efio/fail.h"
#include "efio/text.h"
#include "tools/common/cpus.h"
#include "tools/common/help.h"
#include "tools/efdoctor/checks.h"

namespace efio::doctor {

namespace {

struct Words {
  std::vector<std::string> devices;
  std::string cpus, frame, sampling, root, folder;
  std::string state, only, watch;
  std::vector<std::string> command;
  bool json = false, fix = false, undo = false, dry_run = false;
};

void add_options(CLI::App& app, Words& w) {
  app.add_option("DEVICE", w.devices, "Network devices to look at, beside the machine itself");
  app.add_option("--cpu", w.cpus, "The processors that the program is to run on: 2 or 2-5")->type_name("LIST");
  app.add_option("--frame", w.frame, "The longest frame, without FCS [1514]")->type_name("BYTES");
  app.add_option("--sample", w.sampling, "How long loads and drops are watched [500ms]; with --watch, how often [10ms]")
      ->type_name("TIME");
  app.add_option("--root", w.root, "Read a folder that `efdoctor capture` made, instead of this machine")
      ->type_name("FILE");
  app.add_option("--only", w.only, "Only these findings")->type_name("ID[,ID...]");
  auto* changing = app.add_option_group("Changing");
  changing->add_flag("--fix", w.fix, "Change what can be changed safely, and remember what it was");
  changing->add_flag("--undo", w.undo, "Put back all that --fix changed");
  changing->add_flag("--dry-run", w.dry_run, "With --fix or --undo: only say what would be changed");
  changing->add_option("--state", w.state, "Where --fix remembers [/run/efio/efdoctor.json]")->type_name("FILE");
  app.add_option("--watch", w.watch,
                 "Run the command behind `--`, and say what hit it: moves between processors, "
                 "frames lost on the way from this device")
      ->type_name("DEVICE");
  app.add_flag("--json", w.json, "One JSON object on standard output");
}

Result<Options> make_options(const Words& w) {
  Options options;
  options.request.devices = w.devices;
  options.root = w.root;
  options.capture = w.folder;
  options.json = w.json;
  if (w.fix && w.undo)
    return fail(Error::Kind::usage, "command line", "--fix and --undo at once").hint("one after the other");
  if (w.dry_run && !w.fix && !w.undo)
    return fail(Error::Kind::usage, "command line", "--dry-run of what?").hint("--fix or --undo");
  if ((w.fix || w.undo) && !w.folder.empty())
    return fail(Error::Kind::usage, "command line", "capture changes nothing").hint("without --fix and --undo");
  if (!w.watch.empty() && w.command.empty())
    return fail(Error::Kind::usage, "--watch " + w.watch, "no command to watch")
        .hint("`efdoctor --watch {} -- COMMAND`", w.watch);
  if (!w.command.empty() &&
      (w.watch.empty() || w.fix || w.undo || !w.folder.empty() || !w.devices.empty() || !w.root.empty()))
    return fail(Error::Kind::usage, "command line", "a command behind `--` is run by --watch alone")
        .hint("`efdoctor --watch eth0 -- COMMAND`");
  options.watch = w.watch;
  options.command = w.command;
  if (w.fix) options.task = Options::Task::fix;
  if (w.undo) options.task = Options::Task::undo;
  options.dry_run = w.dry_run;
  if (!w.state.empty()) options.state = w.state;
  for (std::size_t at = 0; at < w.only.size();) {
    const auto end = std::min(w.only.find(',', at), w.only.size());
    auto id = w.only.substr(at, end - at);
    if (!is_check(id))
      return fail(Error::Kind::usage, "--only " + w.only, "there is no finding {}", id)
          .hint("docs/efdoctor.md lists them");
    options.only.push_back(std::move(id));
    at = end + 1;
  }
  if (!w.cpus.empty()) {
    auto cpus = tools::parse_cpus(w.cpus);
    if (!cpus) return std::unexpected(std::move(cpus.error()));
    options.request.wishes.cpus = std::move(*cpus);
  }
  if (!w.frame.empty()) {
    const auto frame = parse_count(w.frame);
    if (!frame || *frame < 14 || *frame > 65'549)
      return fail(Error::Kind::usage, "--frame " + w.frame, "no frame's length").hint("14 to 65549, such as 1514");
    options.request.wishes.frame = static_cast<unsigned>(*frame);
  }
  if (!w.sampling.empty()) {
    const auto time = parse_duration(w.sampling);
    if (!time || *time > std::chrono::hours(1))
      return fail(Error::Kind::usage, "--sample " + w.sampling, "no time to sample for")
          .hint("such as 500ms, 10s; up to an hour");
    options.request.sampling = *time;
    options.watch_interval = std::max<std::chrono::nanoseconds>(*time, std::chrono::milliseconds(1));
  }
  return options;
}

}  // namespace

Result<std::optional<Options>> parse_options(int count, const char* const* arguments) {
  CLI::App app{
      "Say why packets are slow on this machine\n\nLooks at processors, interrupts, memory, privileges and the devices "
      "named, and says what "
      "costs speed, why, and what to do. Nothing is changed without --fix. docs/efdoctor.md explains each finding. "
      "Exit status 1: there is something "
      "to mend.",
      "efdoctor"};
  app.footer(
      "efdoctor\nefdoctor lo --cpu 0\nefdoctor --fix --dry-run\nefdoctor --undo\nefdoctor --watch lo -- sleep "
      "1\nefdoctor capture /tmp/this-machine && "
      "efdoctor --root /tmp/this-machine");
  tools::add_help(app);
  Words words;
  add_options(app, words);
  auto* capture = app.add_subcommand(
      "capture", "Save all that is read into a new folder, for --root: files as they are, what devices answer as JSON");
  capture->add_option("DIR", words.folder, "The folder")->required()->type_name("FILE");
  capture->add_option("DEVICE", words.devices, "Devices to ask");
  const auto* const end = arguments + count;
  const auto* const dashes =
      std::find_if(arguments, end, [](const char* word) { return std::string_view(word) == "--"; });
  if (dashes != end) {
    words.command.assign(dashes + 1, end);
    count = static_cast<int>(dashes - arguments);
    if (words.command.empty())
      return fail(Error::Kind::usage, "command line", "no command behind `--`")
          .hint("`efdoctor --watch eth0 -- COMMAND`");
  }
  // CLI11 2.1 never comes back from an empty word that no option takes.
  if (std::any_of(arguments, arguments + count, [](const char* word) { return *word == '\0'; }))
    return fail(Error::Kind::usage, "command line", "there is an empty word").hint("is a variable of the shell empty?");
  try {
    app.parse(count, arguments);
  } catch (const CLI::ParseError& ending) {
    if (ending.get_exit_code() == 0) {
      app.exit(ending);
      return std::nullopt;
    }
    return fail(Error::Kind::usage, "command line", "{}", ending.what()).hint("`efdoctor --help` lists the options");
  }
  auto options = make_options(words);
  if (!options) return std::unexpected(std::move(options.error()));
  return std::optional(std::move(*options));
}

}  // namespace efio::doctor
