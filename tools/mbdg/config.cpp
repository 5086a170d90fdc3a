// The configuration file: what the options say, with a [[port]] for each port.
#include "efio/text.h"
#include "tools/common/cpus.h"
#include "tools/common/toml_file.h"
#include "tools/mbdg/options.h"

namespace efio::mbdg {

namespace {

using tools::TomlTable;
using Tagging = efnet::SwitchPortOptions::Tagging;

// A value that has a parser of its own, whose error becomes one of the file.
template <class T>
void take(TomlTable& table, std::string_view key, Result<T> parsed, T& into) {
  if (parsed)
    into = std::move(*parsed);
  else
    table.refuse(key, "is " + parsed.error().why, parsed.error().hint);
}

void read_vlans(TomlTable& table, efnet::SwitchPortOptions& bridging) {
  if (table.has("vlan")) {
    bridging.tagging = Tagging::access;
    bridging.vlan = static_cast<std::uint16_t>(table.integer("vlan", 1, 1, 4094));
  }
  if (!table.has("trunk")) return;
  if (bridging.tagging == Tagging::access) table.refuse("trunk", "stands beside vlan", "one of the two");
  bridging.tagging = Tagging::trunk;
  for (const auto id : table.integers("trunk", 1, 4094)) bridging.vlans[static_cast<std::size_t>(id)] = true;
  if (bridging.vlans.none()) table.refuse("trunk", "holds no VLAN", "trunk = [10, 20]");
}

std::vector<PluginText> read_plugins(TomlTable& table, std::string_view key) {
  std::vector<PluginText> plugins;
  for (auto& text : table.texts(key)) plugins.push_back({std::move(text), table.where(key)});
  return plugins;
}

PortSettings read_port(TomlTable& table) {
  PortSettings port;
  port.uri = table.need_text("uri", "\"packet:eth0\"");
  port.where = table.where("uri");
  read_vlans(table, port.bridging);
  port.bridging.isolated = table.flag("isolate", false);
  port.bridging.flood_rate = static_cast<double>(table.count("storm", 0, 1, most_flooded));
  port.filters = read_plugins(table, "filter");
  port.ingates = read_plugins(table, "ingate");
  port.outgates = read_plugins(table, "outgate");
  if (table.has("rate")) take(table, "rate", tools::Rate::parse(table.word("rate")), port.rate);
  const auto statics = table.texts("static");
  for (std::size_t i = 0; i < statics.size(); ++i) {
    if (const auto address = StaticAddress::parse(statics[i]))
      port.statics.push_back(*address);
    else
      table.refuse("static", "is no address of one station", "\"02:00:00:00:00:01\", in VLAN 10: \"02:00:00:00:00:01@10\"", i);
  }
  return port;
}

void read_ports(TomlTable& root, Options& options) {
  for (auto& table : root.tables("port")) {
    if (table.flag("mirror", false)) {
      if (options.mirror) table.refuse("mirror", "stands at another port already", "one mirror");
      options.mirror = static_cast<std::uint16_t>(options.ports.size());
    }
    options.ports.push_back(read_port(table));
  }
}

std::vector<int> read_cpus(TomlTable& root) {
  std::string list;
  for (const auto cpu : root.integers("cpu", 0, 1023)) list += (list.empty() ? "" : ",") + std::to_string(cpu);
  std::vector<int> cpus;
  if (!list.empty()) take(root, "cpu", tools::parse_cpus(list), cpus);
  return cpus;
}

}  // namespace

Result<Options> read_config(const std::string& path) {
  auto file = tools::TomlFile::read(path);
  if (!file) return std::unexpected(std::move(file.error()));
  auto root = file->root();
  Options options;
  options.config = path;
  read_ports(root, options);
  if (root.has("stp")) options.stp = root.choice("stp", {"drop", "pass"}) == "pass";
  if (root.choice("full", {"drop", "wait"}) == "wait") options.when_full = WhenFull::wait;
  options.table_size = root.count("table-size", options.table_size, 1, most_addresses);
  options.ageing = std::chrono::duration_cast<std::chrono::seconds>(
      root.duration("ageing", options.ageing, std::chrono::seconds(0), longest_ageing));
  options.dump = root.text("dump");
  if (root.choice("dump-what", {"passed", "dropped"}) == "dropped") options.dump_what = Dump::dropped;
  options.cpus = read_cpus(root);
  options.batch = root.count("batch", options.batch, 1, efnet::Switch::batch);
  options.spin = root.flag("spin", false);
  options.duration = root.duration("duration", options.duration, std::chrono::seconds(0), longest_run);
  options.count = root.count("count", options.count, 1, most_count);
  options.json = root.flag("json", false);
  options.say_ready = root.flag("say-ready", false);
  if (auto ok = file->finish(); !ok) return std::unexpected(std::move(ok.error()));
  return options;
}

Error placed(Error error, const std::string& where) {
  if (!where.empty()) error.attempted = error.attempted.empty() ? where : where + ": " + error.attempted;
  return error;
}

}  // namespace efio::mbdg
