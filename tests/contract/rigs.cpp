#include "tests/contract/rig.h"

#include <unistd.h>

#include <array>
#include <atomic>

#include "tests/contract/rigs.h"

namespace efio::test {

namespace {
constexpr auto table = std::to_array<RigRow>({
    {"pipe", false, make_pipe_rig},
    {"pcap", false, make_pcap_rig},
    {"packet", true, make_packet_rig},
    {"tap", true, make_tap_rig},
    {"xdp", true, make_xdp_rig},
    {"host", true, make_host_rig},
    {"sim", false, make_sim_rig},
    {"netmap", false, make_netmap_rig},
});
}  // namespace

std::span<const RigRow> rig_table() { return table; }

std::string unique_name(std::string_view prefix) {
  static std::atomic<unsigned> serial{0};
  return std::string(prefix) + std::to_string(::getpid()) + "n" + std::to_string(serial.fetch_add(1));
}

}  // namespace efio::test
