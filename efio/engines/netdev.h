// Internal: what the kernel's netdev family (generic netlink, Linux 6.3) tells of an interface, in the network namespace of the
// calling thread.
#pragma once

namespace efio {

// Whether its driver tells XDP programs when a frame came in. False too where the kernel knows no such question.
bool has_xdp_hardware_time(int interface);

}  // namespace efio
