// What mbdg is asked to do: by a configuration file and by the command line, which goes before it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "efio/result.h"
#include "efnet/bridge/switch.h"
#include "efnet/wire/address.h"
#include "tools/common/rate.h"

namespace efio::mbdg {

// A plugin as efnet's load.h names it, and the line of the file that asks for it; empty: the command line does.
struct PluginText {
  std::string text;
  std::string where;

  friend bool operator==(const PluginText& a, const PluginText& b) { return a.text == b.text; }
};

struct StaticAddress {
  efnet::MacAddress address;
  std::uint16_t vlan = 0;

  // "02:00:00:00:00:01", "02:00:00:00:00:01@10"
  static std::optional<StaticAddress> parse(std::string_view text);
  friend bool operator==(const StaticAddress&, const StaticAddress&) = default;
};

struct PortSettings {
  std::string uri;
  std::string where;                                   // as PluginText's
  std::vector<PluginText> filters, ingates, outgates;  // filters come first
  std::vector<StaticAddress> statics;                  // behind it for good
  tools::Rate rate;                                    // of what it sends
  efnet::SwitchPortOptions bridging;
};

enum class Dump : std::uint8_t { passed, dropped };
enum class WhenFull : std::uint8_t { drop, wait };

struct Options {
  std::string config;  // the file; empty: none
  std::vector<PortSettings> ports;
  bool wire = false;  // two ports, and nothing asked for that only a switch can do
  std::optional<std::uint16_t> mirror;
  std::optional<bool> stp;  // whether to pass frames of one link; not said: as pass_reserved
  bool pass_reserved = false;
  WhenFull when_full = WhenFull::drop;
  std::size_t table_size = 65'536;
  std::chrono::seconds ageing{300};
  std::string dump;
  Dump dump_what = Dump::passed;
  std::vector<int> cpus;  // a thread each; empty: one thread, not bound
  std::size_t batch = 64;
  bool spin = false;
  std::chrono::nanoseconds duration{0};  // 0: until a signal
  std::uint64_t count = 0;               // frames that may come in; 0: any number
  bool json = false;
  bool say_ready = false;
};

constexpr std::chrono::hours longest_run{24 * 366};
constexpr std::chrono::seconds longest_ageing{1'000'000};  // 802.1Q, table 8-6
constexpr std::uint64_t most_addresses = std::uint64_t{1} << 26;
constexpr std::uint64_t most_flooded = 1'000'000'000;  // a second
constexpr std::uint64_t most_count = std::uint64_t{1} << 62;

// Nothing, and the text printed, for --help and its like. Reads the file that --config names. Errors: usage, those of the
// system for a file that cannot be read.
Result<std::optional<Options>> parse_options(int count, const char* const* arguments);

// The file alone. Errors: the same.
Result<Options> read_config(const std::string& path);

// `error` with the line that brought it about in front; empty: as it is.
Error placed(Error error, const std::string& where);

}  // namespace efio::mbdg
