// The gateway's file; docs/gateway.md has every key.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "efio/result.h"
#include "efnet/gateway/options.h"
#include "tools/efnet/mapping_log.h"

namespace efio::gate {

struct PortConfig {
  std::string uri;                       // with what suits a gateway where it says nothing else
  std::optional<efnet::MacAddress> mac;  // the device's where none is given
  std::uint16_t mtu = 0;                 // 0: the device's
};

struct Config {
  PortConfig inside, outside;
  efnet::GatewayOptions gateway;               // MTUs are filled in when the ports are open
  std::string control = "/run/efnet/control";  // empty: none
  MappingLogOptions log;                       // who had which port; without a file: none
  std::string state;                           // sessions are kept here over a restart; empty: they are not
  std::chrono::nanoseconds state_every{};      // written so often besides; 0: at the end only
  std::vector<int> cpus;                       // where the worker runs; empty: anywhere
  bool spin = false;

  const PortConfig& port(efnet::NatSide side) const noexcept {
    return side == efnet::NatSide::inside ? inside : outside;
  }
};

// Errors: those of reading the file; usage, with FILE:LINE, what is wrong and what would be right.
Result<Config> read_config(const std::string& path);
Result<Config> parse_config(std::string_view text, std::string path);

}  // namespace efio::gate
