// Internal: what comes behind `netmap:`.
//
//   eth7      all rings of the NIC        eth7-2    ring 2 alone          eth7^     the host's rings   eth7^1  one of them
//   eth7*     the NIC's and the host's    vale0:a   a port of a switch    x{1, x}1  the ends of a pipe
//   …/r /t /rt /z   a monitor of what the port receives, sends, both; z: without copying
//   …@2             in memory region 2
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "efio/result.h"

namespace efio::netmap {

struct PortName {
  enum class Kind : std::uint8_t { nic, switch_port, pipe };

  std::string port;  // as the kernel wants it
  Kind kind = Kind::nic;
  bool nic_rings = true, host_rings = false;
  std::optional<std::uint16_t> ring;  // this one alone
  std::uint16_t memory = 0;           // 0: the port's own choice
  std::uint64_t monitor = 0;          // flags of a register request
};

// `is_interface` settles names such as br-2. Errors: usage.
Result<PortName> parse_name(const std::string& text, const std::function<bool(const std::string&)>& is_interface,
                            const std::string& attempted);

}  // namespace efio::netmap
