#include "tests/contract/rig.h"

#include <unistd.h>

#include <array>
#include <atomic>

#include "tests/contract/rigs.h"

namespace efio::test {

namespace {
// Of a rig that differs from another in how its engine is set up: what that touches.
constexpr std::string_view closely_related =
    "ForwardsToAPipe WakesForAFrame PollersOfTwoQueuesDoNotWakeEachOther CountersEqualThePeersAfterDrain "
    "CloseWithLoansOutReturnsEverything ReopenedReceiverSeesNoMarks";

constexpr auto table = std::to_array<RigRow>({
    {"pipe", false, make_pipe_rig},
    {"pcap", false, make_pcap_rig},
    {"packet", true, make_packet_rig},
    {"tap", true, make_tap_rig},
    {"xdp", true, make_xdp_rig},
    {"xdp", true, make_xdp_generic_rig, "generic", true, closely_related},
    {"xdp", true, make_xdp_queues_rig, "queues", true, closely_related},
    {"xdp", true, make_xdp_shared_rig, "shared", true, closely_related},
    {"host", true, make_host_rig},
    {"sim", false, make_sim_rig},
    {"pfring", true, make_pfring_rig},
    {"pfring", true, make_genuine_pfring_rig, "genuine", false},
    {"netmap", false, make_netmap_rig},
    {"netmap", false, make_netmap_host_rig, "host"},
    {"netmap", false, make_netmap_switch_rig, "switch"},
    {"netmap", false, make_netmap_pipe_rig, "pipe"},
    {"netmap", false, make_netmap_pair_rig, "pair"},
    {"netmap", true, make_genuine_netmap_veth_rig, "genuine_veth", false},
    {"netmap", true, make_genuine_netmap_switch_rig, "genuine_switch", false},
    {"netmap", true, make_genuine_netmap_pipe_rig, "genuine_pipe", false},
});
}  // namespace

std::span<const RigRow> rig_table() { return table; }

std::string unique_name(std::string_view prefix) {
  static std::atomic<unsigned> serial{0};
  return std::string(prefix) + std::to_string(::getpid()) + "n" + std::to_string(serial.fetch_add(1));
}

}  // namespace efio::test
