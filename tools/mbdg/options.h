// The command line of mbdg.
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

namespace efio::mbdg {

struct PortSettings {
  std::string uri;
  std::vector<std::string> ingates, outgates;  // plugins, as efnet's load.h names them; filters are among the ingates
  efnet::SwitchPortOptions bridging;
};

struct StaticEntry {
  efnet::MacAddress address;
  std::uint16_t port = 0;
  std::uint16_t vlan = 0;
};

enum class Dump : std::uint8_t { passed, dropped };
enum class WhenFull : std::uint8_t { drop, wait };

struct Options {
  std::vector<PortSettings> ports;
  bool wire = false;  // two ports, and nothing asked for that only a switch can do
  std::optional<std::uint16_t> mirror;
  bool pass_reserved = false;
  WhenFull when_full = WhenFull::drop;
  std::size_t table_size = 65'536;
  std::chrono::seconds ageing{300};
  std::vector<StaticEntry> entries;
  std::string dump;
  Dump dump_what = Dump::passed;
  std::vector<int> cpus;  // a thread each; empty: one thread, not bound
  std::size_t batch = 64;
  bool spin = false;
  std::chrono::nanoseconds duration{0};  // 0: until a signal
  bool json = false;
  bool say_ready = false;
};

// Nothing, and the text printed, for --help and its like. Errors: usage.
Result<std::optional<Options>> parse_options(int count, const char* const* arguments);

}  // namespace efio::mbdg
