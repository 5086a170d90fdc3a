// The rigs, one a file.
#pragma once

#include "tests/contract/rig.h"

namespace efio::test {

std::unique_ptr<Rig> make_pipe_rig();
std::unique_ptr<Rig> make_pcap_rig();
std::unique_ptr<Rig> make_packet_rig();
std::unique_ptr<Rig> make_tap_rig();
std::unique_ptr<Rig> make_host_rig();
std::unique_ptr<Rig> make_xdp_rig();
std::unique_ptr<Rig> make_xdp_generic_rig();
std::unique_ptr<Rig> make_xdp_queues_rig();
std::unique_ptr<Rig> make_xdp_shared_rig();
std::unique_ptr<Rig> make_sim_rig();
std::unique_ptr<Rig> make_pfring_rig();
std::unique_ptr<Rig> make_genuine_pfring_rig();
std::unique_ptr<Rig> make_netmap_rig();
std::unique_ptr<Rig> make_netmap_host_rig();
std::unique_ptr<Rig> make_netmap_switch_rig();
std::unique_ptr<Rig> make_netmap_pipe_rig();
std::unique_ptr<Rig> make_netmap_pair_rig();
std::unique_ptr<Rig> make_genuine_netmap_veth_rig();
std::unique_ptr<Rig> make_genuine_netmap_switch_rig();
std::unique_ptr<Rig> make_genuine_netmap_pipe_rig();

}  // namespace efio::test
