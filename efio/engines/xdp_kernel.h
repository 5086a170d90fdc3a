// What the XDP program (xdp_kernel.bpf.c, C) and the library agree on.
//
// Steering. The program writes down what it finds in a frame as a key of 32-bit words, and looks for the first rule that
// fits: all bits under the rule's mask equal, and the three numbers in their ranges. That rule says whether the frame is
// taken; a frame that no rule fits is the host's.
#pragma once

#include <linux/types.h>

enum {
  EFIO_XDP_QUEUES = 1024,  // of a device; those beyond are the host's
  EFIO_XDP_RULES = 64,     // of a queue
  EFIO_XDP_WORDS = 12,     // of a key
};

// The key's first word: what the frame is known to be.
enum {
  EFIO_XDP_IPV4 = 1,
  EFIO_XDP_IPV6 = 2,
  EFIO_XDP_ARP = 4,       // for IPv4 over Ethernet
  EFIO_XDP_TAGGED = 8,    // has a VLAN tag
  EFIO_XDP_FRAGMENT = 16, // of an IP datagram, also the first
  EFIO_XDP_PROTOCOL = 32, // the protocol above IP was found
  EFIO_XDP_PORTS = 64,    // and its ports
};

// The other words. Addresses are as they are on the wire, four words each, IPv4's in the first (ARP: sender and target).
enum {
  EFIO_XDP_IS = 0,
  EFIO_XDP_TYPE = 1,         // Ethernet type behind the tags << 16 | protocol above IP
  EFIO_XDP_MAC = 2,          // destination: its first four bytes, as on the wire
  EFIO_XDP_MAC_REST = 3,     // and the other two
  EFIO_XDP_SOURCE = 4,
  EFIO_XDP_DESTINATION = 8,
};

struct efio_xdp_range {
  __u16 low, high;  // both included
};

struct efio_xdp_rule {
  __u32 mask[EFIO_XDP_WORDS], value[EFIO_XDP_WORDS];
  struct efio_xdp_range vlan;         // of the outer tag, 0 without
  struct efio_xdp_range source_port;  // 0 without
  struct efio_xdp_range destination_port;
  __u32 take;  // 1, or 0: leave it to the host
};

struct efio_xdp_rules {
  __u32 count;
  struct efio_xdp_rule rules[EFIO_XDP_RULES];
  __u32 end;  // to which a pointer past the last rule may point
};

// What the program that reads hardware times puts right before the data of a frame that it gives to a socket.
struct efio_xdp_time {
  __u64 nanoseconds;  // the device's clock, 0: it gave none
  __u64 mark;         // EFIO_XDP_TIME_MARK, since the kernel does not say whether anything is there
};
#define EFIO_XDP_TIME_MARK 0x6566696f74696d65ULL
