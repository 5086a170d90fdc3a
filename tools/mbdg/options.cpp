#include "tools/mbdg/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <ranges>

#include "efio/fail.h"
#include "efio/text.h"
#include "tools/common/cpus.h"
#include "tools/common/help.h"

namespace efio::mbdg {

namespace {

using Tagging = efnet::SwitchPortOptions::Tagging;

// The words of the command line, before anything is made of them. Empty: not given.
struct Words {
  std::vector<std::string> ports, vlans, trunks, storms, statics, filters, ingates, outgates;
  std::string isolate, mirror, stp, full = "drop", table_size, ageing, dump, dump_what = "passed", cpus, batch, duration;
  bool spin = false, json = false, say_ready = false;
};

void add_options(CLI::App& app, Words& w) {
  app.add_option("PORT", w.ports, "Two or more: packet:eth0, xdp:eth1, tap:t0, pipe:x; they are numbered from 0")
      ->required();
  auto* bridging = app.add_option_group("Bridging");
  bridging->add_option("--vlan", w.vlans, "Port NUMBER is an access port of VLAN ID")
      ->type_name("NUMBER=ID")
      ->allow_extra_args(false);
  bridging->add_option("--trunk", w.trunks, "Port NUMBER carries these VLANs, tagged")->type_name("NUMBER=ID[,ID...]")
      ->allow_extra_args(false);
  bridging->add_option("--isolate", w.isolate, "These ports exchange nothing with each other")
      ->type_name("NUMBER[,NUMBER...]");
  bridging->add_option("--mirror", w.mirror, "Port NUMBER gets a copy of all that is forwarded, and nothing else")
      ->type_name("NUMBER");
  bridging->add_option("--storm", w.storms, "Frames a second that port NUMBER may have flooded")
      ->type_name("NUMBER=RATE")
      ->allow_extra_args(false);
  bridging->add_option("--static", w.statics, "The address is behind port NUMBER, for good")
      ->type_name("MAC[@VLAN]=NUMBER")
      ->allow_extra_args(false);
  bridging->add_option("--table-size", w.table_size, "Addresses that can be known at a time [64Ki]")->type_name("N");
  bridging->add_option("--ageing", w.ageing, "Forget an address after so long; 0: never [300s]")->type_name("TIME");
  bridging->add_option("--stp", w.stp, "Spanning tree and other frames of one link (01:80:c2:00:00:00 to 0f) [pass between "
                                       "two ports, else drop]")
      ->check(CLI::IsMember({"pass", "drop"}));
  auto* packets = app.add_option_group("Frames");
  packets->add_option("--filter", w.filters, "What may come in by port NUMBER, as tcpdump's expressions")
      ->type_name("NUMBER=EXPRESSION")
      ->allow_extra_args(false);
  packets->add_option("--ingate", w.ingates, "A plugin for what comes in by port NUMBER")->type_name("NUMBER=PLUGIN")
      ->allow_extra_args(false);
  packets->add_option("--outgate", w.outgates, "A plugin for what goes out by port NUMBER")->type_name("NUMBER=PLUGIN")
      ->allow_extra_args(false);
  packets->add_option("--full", w.full, "What a full port means: drop there, or receive no more [drop]")
      ->check(CLI::IsMember({"drop", "wait"}));
  packets->add_option("--dump", w.dump, "Write frames to this pcapng file")->type_name("FILE");
  packets->add_option("--dump-what", w.dump_what, "Those that passed, or those that the bridge dropped, each with its "
                                                  "reason as a comment [passed]")
      ->check(CLI::IsMember({"passed", "dropped"}));
  app.add_option("--cpu", w.cpus, "A thread on each of these processors: 0 or 0,1 [one thread, anywhere]")
      ->type_name("LIST");
  app.add_option("--batch", w.batch, "Frames moved at a time [64]")->type_name("N");
  app.add_flag("--spin", w.spin, "Never sleep");
  app.add_option("--duration", w.duration, "Stop after this time: 10, 10s, 500ms, 2min")->type_name("TIME");
  app.add_flag("--say-ready", w.say_ready, "Say on standard error when the ports are open, for scripts");
  app.add_flag("--json", w.json, "One JSON object on standard output, at the end");
}

// Reads words one after the other and keeps the first mistake.
class Reader {
 public:
  explicit Reader(std::size_t ports) : ports_(ports) {}

  void refuse(std::string_view option, std::string_view word, std::string_view why, std::string_view hint) {
    if (!error_)
      error_ = fail(Error::Kind::usage, fmt::format("{} {}", option, word), "{}", why).hint("{}", hint).error();
  }

  std::uint16_t port(std::string_view option, std::string_view word, std::string_view text) {
    std::uint16_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc() && end == text.data() + text.size() && number < ports_) return number;
    refuse(option, word, fmt::format("there is no port {}", text), fmt::format("0 to {}", ports_ - 1));
    return 0;
  }

  // NUMBER=REST
  std::pair<std::uint16_t, std::string_view> for_port(std::string_view option, const std::string& word) {
    const auto at = word.find('=');
    if (at == std::string::npos || at + 1 == word.size()) {
      refuse(option, word, "which port, and what?", "0=…, with the port's number");
      return {0, {}};
    }
    return {port(option, word, std::string_view(word).substr(0, at)), std::string_view(word).substr(at + 1)};
  }

  std::uint16_t vlan(std::string_view option, std::string_view word, std::string_view text) {
    std::uint16_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error == std::errc() && end == text.data() + text.size() && id >= 1 && id <= 4094) return id;
    refuse(option, word, fmt::format("{} is no VLAN", text), "1 to 4094");
    return 1;
  }

  std::uint64_t count(std::string_view option, std::string_view word, std::uint64_t least, std::uint64_t most) {
    const auto number = parse_count(word);
    if (number && *number >= least && *number <= most) return *number;
    refuse(option, word, number ? "out of range" : "not a number", fmt::format("{} to {}", least, most));
    return least;
  }

  std::chrono::nanoseconds time(std::string_view option, std::string_view word) {
    const auto found = parse_duration(word);
    if (found && *found <= std::chrono::hours(24 * 366)) return *found;
    refuse(option, word, found ? "out of range" : "not a time", "up to a year: 10, 10s, 500ms, 2min");
    return {};
  }

  std::optional<Error>& error() noexcept { return error_; }

 private:
  std::size_t ports_;
  std::optional<Error> error_;
};

auto parts(std::string_view text) {
  return text | std::views::split(',') | std::views::transform([](auto&& part) {
           return std::string_view(part.begin(), part.end());
         });
}

void read_vlans(Reader& read, const Words& w, Options& options) {
  const auto take = [&](std::string_view option, const std::string& word, Tagging tagging) {
    const auto [port, rest] = read.for_port(option, word);
    auto& bridging = options.ports[port].bridging;
    if (bridging.tagging != Tagging::unaware)
      read.refuse(option, word, fmt::format("port {} has its VLANs already", port), "one --vlan or --trunk a port");
    bridging.tagging = tagging;
    for (const auto part : parts(rest)) {
      const auto id = read.vlan(option, word, part);
      if (tagging == Tagging::access)
        bridging.vlan = id;
      else
        bridging.vlans[id] = true;
    }
  };
  for (const auto& word : w.vlans) take("--vlan", word, Tagging::access);
  for (const auto& word : w.trunks) take("--trunk", word, Tagging::trunk);
}

void read_statics(Reader& read, const Words& w, Options& options) {
  for (const auto& word : w.statics) {
    const auto equals = word.find('=');
    const auto text = std::string_view(word).substr(0, equals);
    const auto at = text.find('@');
    const auto address = efnet::MacAddress::parse(text.substr(0, at));
    if (equals == std::string::npos || !address || address->is_group()) {
      read.refuse("--static", word, "not an address and a port", "02:00:00:00:00:01=0, in VLAN 10: 02:00:00:00:00:01@10=0");
      continue;
    }
    options.entries.push_back(
        {*address, read.port("--static", word, std::string_view(word).substr(equals + 1)),
         at == std::string_view::npos ? std::uint16_t{0} : read.vlan("--static", word, text.substr(at + 1))});
  }
}

void read_gates(Reader& read, const Words& w, Options& options) {
  for (const auto& word : w.filters) {
    const auto [port, expression] = read.for_port("--filter", word);
    options.ports[port].ingates.push_back(fmt::format("filter:{}", expression));
  }
  for (const auto& word : w.ingates) {
    const auto [port, plugin] = read.for_port("--ingate", word);
    options.ports[port].ingates.emplace_back(plugin);
  }
  for (const auto& word : w.outgates) {
    const auto [port, plugin] = read.for_port("--outgate", word);
    options.ports[port].outgates.emplace_back(plugin);
  }
}

Result<Options> make_options(const Words& w) {
  Options options;
  if (w.ports.size() < 2 || w.ports.size() > efnet::Switch::most_ports)
    return fail(Error::Kind::usage, "command line", "too few ports, or too many: {}", w.ports.size())
        .hint("2 to {}, such as packet:eth0 packet:eth1", efnet::Switch::most_ports);
  for (const auto& uri : w.ports) options.ports.push_back({.uri = uri, .ingates = {}, .outgates = {}, .bridging = {}});
  Reader read(w.ports.size());
  read_vlans(read, w, options);
  if (!w.isolate.empty())
    for (const auto part : parts(w.isolate)) options.ports[read.port("--isolate", w.isolate, part)].bridging.isolated = true;
  if (!w.mirror.empty()) options.mirror = read.port("--mirror", w.mirror, w.mirror);
  for (const auto& word : w.storms) {
    const auto [port, rate] = read.for_port("--storm", word);
    options.ports[port].bridging.flood_rate = static_cast<double>(read.count("--storm", rate, 1, 1'000'000'000));
  }
  read_statics(read, w, options);
  read_gates(read, w, options);
  if (!w.table_size.empty()) options.table_size = read.count("--table-size", w.table_size, 1, std::uint64_t{1} << 26);
  if (!w.ageing.empty())
    options.ageing = std::chrono::duration_cast<std::chrono::seconds>(std::min<std::chrono::nanoseconds>(
        read.time("--ageing", w.ageing), std::chrono::seconds(1'000'000)));
  const bool switching = !w.vlans.empty() || !w.trunks.empty() || !w.isolate.empty() || options.mirror ||
                         !w.storms.empty() || !w.statics.empty() || w.stp == "drop";
  options.wire = w.ports.size() == 2 && !switching;
  options.pass_reserved = w.stp.empty() ? options.wire : w.stp == "pass";
  options.when_full = w.full == "wait" ? WhenFull::wait : WhenFull::drop;
  options.dump = w.dump;
  options.dump_what = w.dump_what == "dropped" ? Dump::dropped : Dump::passed;
  if (!w.cpus.empty()) {
    auto cpus = tools::parse_cpus(w.cpus);
    if (!cpus) return std::unexpected(std::move(cpus.error()));
    options.cpus = std::move(*cpus);
  }
  if (!w.batch.empty()) options.batch = read.count("--batch", w.batch, 1, efnet::Switch::batch);
  options.spin = w.spin;
  if (!w.duration.empty()) options.duration = read.time("--duration", w.duration);
  options.json = w.json;
  options.say_ready = w.say_ready;
  if (read.error()) return std::unexpected(std::move(*read.error()));
  return options;
}

}  // namespace

Result<std::optional<Options>> parse_options(int count, const char* const* arguments) {
  CLI::App app{
      "Bridge any number of ports\n\nTwo ports are a wire, three or more a learning switch. PORT is "
      "scheme:name?key=value; docs/ports.md lists them, docs/mbdg.md says what becomes of a frame.",
      "mbdg"};
  app.footer("mbdg pipe:a pipe:b --duration 1\nmbdg packet:eth0 packet:eth1 tap:guest0 --stp drop");
  tools::add_help(app);
  Words words;
  add_options(app, words);
  // CLI11 2.1 never comes back from an empty word that no option takes.
  if (std::any_of(arguments, arguments + count, [](const char* word) { return *word == '\0'; }))
    return fail(Error::Kind::usage, "command line", "there is an empty word").hint("is a variable of the shell empty?");
  try {
    app.parse(count, arguments);
  } catch (const CLI::ParseError& end) {
    if (end.get_exit_code() == 0) {
      app.exit(end);
      return std::nullopt;
    }
    return fail(Error::Kind::usage, "command line", "{}", end.what()).hint("`mbdg --help` lists the options");
  }
  auto options = make_options(words);
  if (!options) return std::unexpected(std::move(options.error()));
  return std::optional(std::move(*options));
}

}  // namespace efio::mbdg
