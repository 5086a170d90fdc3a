#include "tools/mbdg/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bitset>
#include <charconv>
#include <ranges>

#include "efio/fail.h"
#include "efio/text.h"
#include "tools/common/command_line.h"
#include "tools/common/cpus.h"
#include "tools/common/help.h"

namespace efio::mbdg {

namespace {

using Tagging = efnet::SwitchPortOptions::Tagging;

// The words of the command line, before anything is made of them. Empty: not given.
struct Words {
  std::string config;
  std::vector<std::string> ports, vlans, trunks, storms, statics, filters, ingates, outgates, rates;
  std::string isolate, mirror, stp, full, table_size, ageing, dump, dump_what, cpus, batch, duration, count;
  bool spin = false, json = false, say_ready = false;
};

void add_options(CLI::App& app, Words& w) {
  app.add_option("PORT", w.ports, "Two or more: packet:eth0, xdp:eth1, tap:t0, pipe:x; they are numbered from 0");
  app.add_option("--config", w.config, "Read this file first; options given here go before it. SIGHUP reads it again")
      ->type_name("FILE");
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
  packets->add_option("--rate", w.rates, "What port NUMBER may send: 1M (frames/s), 2Gbit, 2GbitL1; more is dropped")
      ->type_name("NUMBER=RATE")
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
  app.add_option("--count", w.count, "Stop after so many frames have come in")->type_name("N");
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

  // Where a word was given.
  void count(std::string_view option, std::string_view word, std::uint64_t least, std::uint64_t most, auto& into) {
    if (word.empty()) return;
    const auto number = parse_count(word);
    if (!number || *number < least || *number > most)
      return refuse(option, word, number ? "out of range" : "not a number", fmt::format("{} to {}", least, most));
    into = static_cast<std::remove_reference_t<decltype(into)>>(*number);
  }

  std::optional<std::chrono::nanoseconds> time(std::string_view option, std::string_view word) {
    if (word.empty()) return std::nullopt;
    const auto found = parse_duration(word);
    if (found && *found <= longest_run) return *found;
    refuse(option, word, found ? "out of range" : "not a time", "up to a year: 10, 10s, 500ms, 2min");
    return std::nullopt;
  }

  template <class T>
  void take(Result<T>&& result, T& into) {
    if (result)
      into = std::move(*result);
    else if (!error_)
      error_ = std::move(result.error());
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

using Numbers = std::bitset<efnet::Switch::most_ports>;  // ports that the command line has said something of

// What the command line says of a port takes the place of what the file says of it.
bool is_first(Numbers& said, std::size_t port) {
  const bool first = !said[port];
  said[port] = true;
  return first;
}

void read_vlans(Reader& read, const Words& w, Options& options) {
  Numbers said;
  const auto take = [&](std::string_view option, const std::string& word, Tagging tagging) {
    const auto [port, rest] = read.for_port(option, word);
    if (read.error()) return;
    auto& bridging = options.ports[port].bridging;
    if (!is_first(said, port))
      return read.refuse(option, word, fmt::format("port {} has its VLANs already", port), "one --vlan or --trunk a port");
    bridging.tagging = tagging;
    bridging.vlans.reset();
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
    const auto address = StaticAddress::parse(std::string_view(word).substr(0, equals));
    if (equals == std::string::npos || !address) {
      read.refuse("--static", word, "not an address and a port", "02:00:00:00:00:01=0, in VLAN 10: 02:00:00:00:00:01@10=0");
      continue;
    }
    const auto port = read.port("--static", word, std::string_view(word).substr(equals + 1));
    if (read.error()) return;
    for (auto& other : options.ports) std::erase(other.statics, *address);
    options.ports[port].statics.push_back(*address);
  }
}

void read_plugins(Reader& read, std::string_view option, const std::vector<std::string>& words, Options& options,
                  std::vector<PluginText> PortSettings::*list) {
  Numbers said;
  for (const auto& word : words) {
    const auto [port, plugin] = read.for_port(option, word);
    if (read.error()) return;
    auto& plugins = options.ports[port].*list;
    if (is_first(said, port)) plugins.clear();
    plugins.push_back({std::string(plugin), {}});
  }
}

void read_port_options(Reader& read, const Words& w, Options& options) {
  read_vlans(read, w, options);
  if (!w.isolate.empty()) {
    for (auto& port : options.ports) port.bridging.isolated = false;
    for (const auto part : parts(w.isolate)) {
      const auto port = read.port("--isolate", w.isolate, part);
      if (!read.error()) options.ports[port].bridging.isolated = true;
    }
  }
  if (!w.mirror.empty()) options.mirror = read.port("--mirror", w.mirror, w.mirror);
  for (const auto& word : w.storms) {
    const auto [port, rate] = read.for_port("--storm", word);
    if (!read.error()) read.count("--storm", rate, 1, most_flooded, options.ports[port].bridging.flood_rate);
  }
  for (const auto& word : w.rates) {
    const auto [port, text] = read.for_port("--rate", word);
    if (read.error()) return;
    const auto rate = tools::Rate::parse(text);
    if (!rate) return read.refuse("--rate", word, rate.error().why, rate.error().hint);
    options.ports[port].rate = *rate;
  }
  read_statics(read, w, options);
  read_plugins(read, "--filter", w.filters, options, &PortSettings::filters);
  read_plugins(read, "--ingate", w.ingates, options, &PortSettings::ingates);
  read_plugins(read, "--outgate", w.outgates, options, &PortSettings::outgates);
}

void read_common_options(Reader& read, const Words& w, Options& options) {
  read.count("--table-size", w.table_size, 1, most_addresses, options.table_size);
  if (const auto time = read.time("--ageing", w.ageing))
    options.ageing =
        std::chrono::duration_cast<std::chrono::seconds>(std::min<std::chrono::nanoseconds>(*time, longest_ageing));
  if (!w.stp.empty()) options.stp = w.stp == "pass";
  if (!w.full.empty()) options.when_full = w.full == "wait" ? WhenFull::wait : WhenFull::drop;
  if (!w.dump.empty()) options.dump = w.dump;
  if (!w.dump_what.empty()) options.dump_what = w.dump_what == "dropped" ? Dump::dropped : Dump::passed;
  if (!w.cpus.empty()) read.take(tools::parse_cpus(w.cpus), options.cpus);
  read.count("--batch", w.batch, 1, efnet::Switch::batch, options.batch);
  read.count("--count", w.count, 1, most_count, options.count);
  if (const auto time = read.time("--duration", w.duration)) options.duration = *time;
  options.spin |= w.spin;
  options.json |= w.json;
  options.say_ready |= w.say_ready;
}

// What follows from all that was said, and what of it does not go together.
Result<void> complete(Options& options) {
  const auto& ports = options.ports;
  const auto is_aware = [](const PortSettings& port) { return port.bridging.tagging != Tagging::unaware; };
  const auto aware = std::ranges::find_if(ports, is_aware);
  for (std::size_t i = 0; i < ports.size() && aware != ports.end(); ++i)
    if (!is_aware(ports[i]) && options.mirror != i)
      return std::unexpected(placed(fail(Error::Kind::usage, fmt::format("port {}", i), "it is in no VLAN, and port {} is",
                                         aware - ports.begin())
                                        .hint("vlan or trunk, at every port but the mirror")
                                        .error(),
                                    ports[i].where));
  const bool switching = options.mirror || options.stp == false || std::ranges::any_of(ports, [&](const auto& port) {
                           return is_aware(port) || port.bridging.isolated || port.bridging.flood_rate > 0 ||
                                  !port.statics.empty();
                         });
  options.wire = ports.size() == 2 && !switching;
  options.pass_reserved = options.stp.value_or(options.wire);
  return {};
}

Result<Options> make_options(const Words& w) {
  Options options;
  if (!w.config.empty()) {
    auto file = read_config(w.config);
    if (!file) return file;
    options = std::move(*file);
  }
  if (!w.ports.empty()) {
    options.ports.clear();
    options.mirror.reset();
    for (const auto& uri : w.ports) options.ports.push_back({.uri = uri, .where = {}});
  }
  if (options.ports.size() < 2 || options.ports.size() > efnet::Switch::most_ports)
    return fail(Error::Kind::usage, w.ports.empty() && !w.config.empty() ? w.config : "command line",
                "too few ports, or too many: {}", options.ports.size())
        .hint("2 to {}, such as packet:eth0 packet:eth1", efnet::Switch::most_ports);
  Reader read(options.ports.size());
  read_port_options(read, w, options);
  read_common_options(read, w, options);
  if (read.error()) return std::unexpected(std::move(*read.error()));
  if (auto ok = complete(options); !ok) return std::unexpected(std::move(ok.error()));
  return options;
}

}  // namespace

std::optional<StaticAddress> StaticAddress::parse(std::string_view text) {
  const auto at = text.find('@');
  const auto address = efnet::MacAddress::parse(text.substr(0, at));
  if (!address || address->is_group()) return std::nullopt;
  if (at == std::string_view::npos) return StaticAddress{*address, 0};
  const auto vlan = parse_count(text.substr(at + 1));
  if (!vlan || *vlan < 1 || *vlan > 4094) return std::nullopt;
  return StaticAddress{*address, static_cast<std::uint16_t>(*vlan)};
}

Result<std::optional<Options>> parse_options(int count, const char* const* arguments) {
  CLI::App app{
      "Bridge any number of ports\n\nTwo ports are a wire, three or more a learning switch. PORT is "
      "scheme:name?key=value; docs/ports.md lists them, docs/mbdg.md says what becomes of a frame.",
      "mbdg"};
  app.footer("mbdg pipe:a pipe:b --duration 1\nmbdg packet:eth0 packet:eth1 tap:guest0 --stp drop");
  tools::add_help(app);
  Words words;
  add_options(app, words);
  const auto is_to_run = tools::parse(app, count, arguments, "`mbdg --help` lists the options");
  if (!is_to_run) return std::unexpected(is_to_run.error());
  if (!*is_to_run) return std::nullopt;
  auto options = make_options(words);
  if (!options) return std::unexpected(std::move(options.error()));
  return std::optional(std::move(*options));
}

}  // namespace efio::mbdg
