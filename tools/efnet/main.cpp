// efnet: a gateway with NAT44, and what speaks to a running one.
#include <CLI/CLI.hpp>
#include <exception>

#include "efio/fail.h"
#include "efio/text.h"
#include "efnet/gateway/gateway.h"
#include "tools/common/cpus.h"
#include "tools/common/exit_code.h"
#include "tools/common/help.h"
#include "tools/efnet/client.h"
#include "tools/efnet/run.h"

namespace efio::gate {

namespace {

struct Words {
  std::string file, control, state, at, cpus, duration, what, address, on = "on", inside, outside, remote, protocol;
  std::optional<std::uint16_t> port;
  std::optional<std::uint64_t> limit;
  bool json = false, spin = false, say_ready = false;
};

constexpr const char* default_control = "/run/efnet/control";

Error wrong(std::string_view word, std::string_view why, std::string_view hint) {
  return fail(Error::Kind::usage, "command line", "{} {}", word, why).hint("{}", hint).error();
}

int run_gateway(const Words& words) {
  RunOptions options{.file = words.file,
                     .control = {},
                     .state = {},
                     .cpus = {},
                     .spin = words.spin,
                     .json = words.json,
                     .say_ready = words.say_ready};
  if (!words.control.empty()) options.control = words.control;
  if (!words.state.empty()) options.state = words.state;
  if (!words.cpus.empty()) {
    auto cpus = tools::parse_cpus(words.cpus);
    if (!cpus) return tools::complain("efnet", cpus.error());
    options.cpus = std::move(*cpus);
  }
  if (!words.duration.empty()) {
    const auto duration = parse_duration(words.duration);
    if (!duration || duration->count() == 0)
      return tools::complain("efnet", wrong("--duration " + words.duration, "is no time", "10, 10s, 5min"));
    options.duration = *duration;
  }
  return run(std::move(options));
}

// All that can be told without the ports: the file, and what the gateway makes of it.
int check(const Words& words) {
  auto config = read_config(words.file);
  if (!config) return tools::complain("efnet", config.error());
  if (auto gateway = efnet::Gateway::create(std::move(config->gateway)); !gateway) {
    gateway.error().attempted = words.file;
    return tools::complain("efnet", gateway.error());
  }
  fmt::print("{} is right\n", words.file);
  return tools::exit_done;
}

int send(const Words& words, const tools::Json& request) {
  return ask(words.control.empty() ? std::string(default_control) : words.control, request, words.json);
}

int show(const Words& words) {
  tools::Json request = {{"command", "show"}, {"what", words.what}};
  for (const auto& [key, text] : {std::pair("inside", &words.inside), std::pair("outside", &words.outside),
                                  std::pair("remote", &words.remote), std::pair("protocol", &words.protocol)})
    if (!text->empty()) request[key] = *text;
  if (words.port) request["port"] = *words.port;
  if (words.limit) request["limit"] = *words.limit;
  return send(words, request);
}

int explain(const Words& words) {
  const auto colon = words.address.find(':');
  const auto port = colon == std::string::npos ? std::nullopt : parse_count(words.address.substr(colon + 1));
  if (!port || *port > 65'535)
    return tools::complain("efnet", wrong(words.address, "is no address and port", "such as 198.51.100.2:1024"));
  tools::Json request = {{"command", "explain"}, {"address", words.address.substr(0, colon)}, {"port", *port}};
  if (!words.at.empty()) request["at"] = words.at.substr(words.at.starts_with('@') ? 1 : 0);
  return send(words, request);
}

int arp_flush(const Words& words) {
  tools::Json request = {{"command", "arp_flush"}};
  if (!words.address.empty()) request["address"] = words.address;
  return send(words, request);
}
int drain(const Words& words) { return send(words, {{"command", "drain"}, {"on", words.on == "on"}}); }
int flush(const Words& words) {
  tools::Json request = {{"command", "flush"}};
  if (!words.inside.empty()) request["inside"] = words.inside;
  return send(words, request);
}

int reload(const Words& words) { return send(words, {{"command", "reload"}}); }

}  // namespace

}  // namespace efio::gate

int main(int count, char** arguments) {
  using namespace efio;
  gate::Words words;
  CLI::App app{
      "A gateway with NAT44 between two ports\n\n`efnet run FILE` joins an inside and an outside port, of any engines, "
      "through "
      "ARP, routing and NAT. The other commands but `check` speak to a running one. docs/gateway.md has the file's "
      "keys.",
      "efnet"};
  app.footer("efnet check gateway.toml\nefnet run gateway.toml\nefnet show sessions --inside 10.0.0.5");
  app.require_subcommand(1);
  tools::add_help(app);
  int (*perform)(const gate::Words&) = nullptr;
  const auto command = [&](CLI::App& under, const char* name, const char* text, int (*performs)(const gate::Words&)) {
    auto* made = under.add_subcommand(name, text);
    if (performs != nullptr) made->callback([&perform, performs] { perform = performs; });
    return made;
  };
  const auto asking = [&](CLI::App& under, const char* name, const char* text, int (*performs)(const gate::Words&)) {
    auto* made = command(under, name, text, performs);
    made->add_option("--control", words.control, "The gateway's socket [/run/efnet/control]")->type_name("FILE");
    made->add_flag("--json", words.json, "An object a line");
    return made;
  };

  auto* run = command(app, "run", "Run a gateway until Ctrl-C", gate::run_gateway);
  run->add_option("FILE", words.file, "What the gateway is, in TOML")->required();
  run->add_option("--cpu", words.cpus, "The processor that packets are handled on [anyone]")->type_name("N");
  run->add_flag("--spin", words.spin, "Never sleep");
  run->add_option("--control", words.control, "Its socket, instead of the file's")->type_name("FILE");
  run->add_option("--state", words.state, "Sessions are kept here over a restart, instead of the file's")
      ->type_name("FILE");
  run->add_option("--duration", words.duration, "End after this time")->type_name("TIME");
  run->add_flag("--json", words.json, "One object at the end");
  run->add_flag("--say-ready", words.say_ready, "Say when packets pass, on standard error");

  command(app, "check", "Look whether a file is right", gate::check)
      ->add_option("FILE", words.file, "What the gateway is, in TOML")
      ->required();

  auto* show = asking(app, "show", "Show what a running gateway knows", gate::show);
  show->add_option("WHAT", words.what, "Of the gateway")
      ->required()
      ->check(CLI::IsMember({"sessions", "mappings", "pool", "arp", "routes", "counters", "ports"}));
  show->add_option("--inside", words.inside, "Only of this inside address or prefix")->type_name("ADDRESS");
  show->add_option("--outside", words.outside, "Only of this outside one")->type_name("ADDRESS");
  show->add_option("--remote", words.remote, "Only with this one")->type_name("ADDRESS");
  show->add_option("--protocol", words.protocol, "Only of this")->check(CLI::IsMember({"udp", "tcp", "icmp"}));
  show->add_option("--port", words.port, "Only with this port at any end")->type_name("PORT");
  show->add_option("--limit", words.limit, "So many rows at most")->type_name("N");

  auto* explain = asking(app, "explain", "Who has an outside address and port, or had it by the log", gate::explain);
  explain->add_option("ADDRESS:PORT", words.address, "Outside")->required();
  explain->add_option("@TIME", words.at, "Then: @2026-11-25T10:00:00Z, or @ and seconds since 1970");

  auto* arp = app.add_subcommand("arp", "Neighbours");
  arp->require_subcommand(1);
  asking(*arp, "flush", "Forget one neighbour, or all", gate::arp_flush)
      ->add_option("ADDRESS", words.address, "The one");

  asking(app, "drain", "Begin no new sessions; those that there are go on", gate::drain)
      ->add_option("STATE", words.on, "[on]")
      ->check(CLI::IsMember({"on", "off"}));
  asking(app, "flush", "End sessions: those of an inside address, or all", gate::flush)
      ->add_option("ADDRESS", words.inside, "Inside");

  asking(app, "reload", "Read the file again; sessions go on", gate::reload);

  // CLI11 2.1 never comes back from an empty word that no option takes.
  if (std::any_of(arguments, arguments + count, [](const char* word) { return *word == '\0'; }))
    return tools::complain("efnet", gate::wrong("an empty word", "stands there", "is a variable of the shell empty?"));
  try {
    app.parse(count, arguments);
  } catch (const CLI::ParseError& end) {
    if (end.get_exit_code() == 0) return app.exit(end);
    return tools::complain("efnet",
                           fail(Error::Kind::usage, "command line", "{}", end.what()).hint("`efnet --help`").error());
  }
  try {
    return perform(words);
  } catch (const std::exception& error) {  // out of memory, of threads
    return tools::complain("efnet", {Error::Kind::memory, 0, "efnet", error.what(), "a smaller table of sessions"});
  }
}
