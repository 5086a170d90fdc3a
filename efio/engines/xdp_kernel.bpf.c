// The program that the kernel runs for every frame of a device that an xdp: port has: it hands a frame to the AF_XDP
// socket of the queue that it came in on, or leaves it to the host.
//
// Offsets into the frame that are not constant would ask for CAP_PERFMON, as would those into the stack: beyond the common
// headers, which are read in place, they are copied out by bpf_xdp_load_bytes, which takes any offset and also reads frames
// of several fragments.
//
// Twice the same program: the kernel gives frames of several fragments only to one that is marked for them, and a driver
// may refuse that one. Compiled once more with EFIO_XDP_TIME, both ask the driver when a frame came in, for which the kernel
// wants a program of the one device.
#include <linux/types.h>

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "efio/engines/xdp_kernel.h"

enum {
  ETHERTYPE_IPV4 = 0x0800,
  ETHERTYPE_ARP = 0x0806,
  ETHERTYPE_VLAN = 0x8100,
  ETHERTYPE_QINQ = 0x88a8,
  ETHERTYPE_IPV6 = 0x86dd,
  MOST_TAGS = 2,
  PORTS = 4,            // bytes of both
  MOST_EXTENSIONS = 6,  // IPv6 headers before the protocol; with more it stays unknown
};

// Protocols and IPv6 extension headers.
enum {
  HOP_BY_HOP = 0,
  TCP = 6,
  UDP = 17,
  DCCP = 33,
  ROUTING = 43,
  FRAGMENT = 44,
  AUTHENTICATION = 51,
  DESTINATION_OPTIONS = 60,
  SCTP = 132,
  UDP_LITE = 136,
};

// The sockets by queue. The kernel takes a socket out when it is closed, so that a queue without one is the host's.
struct {
  __uint(type, BPF_MAP_TYPE_XSKMAP);
  __uint(max_entries, EFIO_XDP_QUEUES);
  __type(key, __u32);
  __type(value, __u32);
} efio_sockets SEC(".maps");

// The rules by queue, replaced as a whole. A queue without takes everything.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, EFIO_XDP_QUEUES);
  __type(key, __u32);
  __array(
      values, struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, 1);
        __uint(key_size, sizeof(__u32));
        __uint(value_size, sizeof(struct efio_xdp_rules));
      });
} efio_rule_sets SEC(".maps");

struct found {
  __u32 key[EFIO_XDP_WORDS];
  __u16 vlan, source_port, destination_port;
};

struct ethernet {
  __u32 destination;
  __u16 destination_rest, source[3], type;
} __attribute__((packed));

struct tag {
  __be16 id, type;
};

struct arp {
  __be16 hardware, protocol;
  __u8 hardware_length, protocol_length;
  __be16 operation;
  __u8 sender_mac[6];
  __u32 sender;
  __u8 target_mac[6];
  __u32 target;
} __attribute__((packed));

struct ipv4 {
  __u8 version_and_words, tos;
  __be16 length, id, fragment;
  __u8 ttl, protocol;
  __u16 checksum;
  __u32 source, destination;
};

struct ipv6 {
  __u8 version, rest[3];
  __be16 length;
  __u8 next, hops;
  __u32 source[4], destination[4];
};

static __always_inline void note_ethernet(const struct ethernet* ethernet, struct found* found) {
  found->key[EFIO_XDP_MAC] = ethernet->destination;
  found->key[EFIO_XDP_MAC_REST] = ethernet->destination_rest;
}

static __always_inline void note_ipv4(const struct ipv4* ip, struct found* found) {
  found->key[EFIO_XDP_IS] |= EFIO_XDP_IPV4;
  found->key[EFIO_XDP_SOURCE] = ip->source;
  found->key[EFIO_XDP_DESTINATION] = ip->destination;
  if (ip->fragment & bpf_htons(0x3fff)) found->key[EFIO_XDP_IS] |= EFIO_XDP_FRAGMENT;
}

static __always_inline void note_ipv6(const struct ipv6* ip, struct found* found) {
  found->key[EFIO_XDP_IS] |= EFIO_XDP_IPV6;
  for (int i = 0; i < 4; ++i) {
    found->key[EFIO_XDP_SOURCE + i] = ip->source[i];
    found->key[EFIO_XDP_DESTINATION + i] = ip->destination[i];
  }
}

// Whether its ports are worth a look.
static __always_inline int note_protocol(__u8 protocol, struct found* found) {
  found->key[EFIO_XDP_IS] |= EFIO_XDP_PROTOCOL;
  found->key[EFIO_XDP_TYPE] |= protocol;
  return (protocol == TCP || protocol == UDP || protocol == DCCP || protocol == SCTP || protocol == UDP_LITE) &&
         !(found->key[EFIO_XDP_IS] & EFIO_XDP_FRAGMENT);
}

static __always_inline void note_ports(__be32 both, struct found* found) {
  const __u32 ports = bpf_ntohl(both);
  found->key[EFIO_XDP_IS] |= EFIO_XDP_PORTS;
  found->source_port = ports >> 16;
  found->destination_port = (__u16)ports;
}

// In assembler, since the compiler reads what two branches read by one instruction, with an offset that is not constant.
#define PORTS_AT(data, offset)                                                                 \
  ({                                                                                           \
    __u64 ports_;                                                                              \
    asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(ports_) : "r"(data), "i"(offset) : "memory"); \
    (__be32) ports_;                                                                           \
  })

static __always_inline int is_extension(__u8 next) {
  return next == HOP_BY_HOP || next == ROUTING || next == FRAGMENT || next == AUTHENTICATION || next == DESTINATION_OPTIONS;
}

// What follows are two functions for the verifier too, which else follows each of their paths through all rules.

// Most frames: no tag, no options, not cut off. They are read in place, which is much faster. False: look again.
__attribute__((noinline)) int efio_see_common(struct xdp_md* frame, struct found* found) {
  const void* const data = (void*)(long)frame->data;
  const void* const end = (void*)(long)frame->data_end;
  const struct ethernet* ethernet = data;
  const void* const network = ethernet + 1;
  const struct ipv4* ip = network;
  if (!found || network + sizeof *ip + PORTS > end) return 0;
  if (ethernet->type == bpf_htons(ETHERTYPE_IPV4)) {
    if (ip->version_and_words != 0x45) return 0;
    note_ethernet(ethernet, found);
    found->key[EFIO_XDP_TYPE] = ETHERTYPE_IPV4 << 16;
    note_ipv4(ip, found);
    if (note_protocol(ip->protocol, found)) note_ports(PORTS_AT(data, sizeof *ethernet + sizeof *ip), found);
    return 1;
  }
  const struct ipv6* ip6 = network;
  if (ethernet->type != bpf_htons(ETHERTYPE_IPV6) || network + sizeof *ip6 + PORTS > end) return 0;
  if (ip6->version >> 4 != 6 || is_extension(ip6->next)) return 0;
  note_ethernet(ethernet, found);
  found->key[EFIO_XDP_TYPE] = (__u32)ETHERTYPE_IPV6 << 16;
  note_ipv6(ip6, found);
  if (note_protocol(ip6->next, found)) note_ports(PORTS_AT(data, sizeof *ethernet + sizeof *ip6), found);
  return 1;
}

static __always_inline void see_arp(struct xdp_md* frame, __u32 at, struct found* found) {
  struct arp arp;
  if (bpf_xdp_load_bytes(frame, at, &arp, sizeof arp) != 0) return;
  if (arp.hardware != bpf_htons(1) || arp.protocol != bpf_htons(ETHERTYPE_IPV4) || arp.hardware_length != 6 ||
      arp.protocol_length != 4)
    return;
  found->key[EFIO_XDP_IS] |= EFIO_XDP_ARP;
  found->key[EFIO_XDP_SOURCE] = arp.sender;
  found->key[EFIO_XDP_DESTINATION] = arp.target;
}

// The two of IP tell the protocol above it, or -1, and move `at` to its header.
static __always_inline int see_ipv4(struct xdp_md* frame, __u32* at, struct found* found) {
  struct ipv4 ip;
  if (bpf_xdp_load_bytes(frame, *at, &ip, sizeof ip) != 0) return -1;
  const __u32 words = ip.version_and_words & 15;
  if (ip.version_and_words >> 4 != 4 || words < 5) return -1;
  note_ipv4(&ip, found);
  *at += words * 4;
  return ip.protocol;
}

static __always_inline int see_ipv6(struct xdp_md* frame, __u32* at, struct found* found) {
  struct ipv6 ip;
  if (bpf_xdp_load_bytes(frame, *at, &ip, sizeof ip) != 0 || ip.version >> 4 != 6) return -1;
  note_ipv6(&ip, found);
  __u8 next = ip.next;
  *at += sizeof ip;
  for (int i = 0; i < MOST_EXTENSIONS; ++i) {
    struct {
      __u8 next, length;
      __be16 fragment;
    } extension;
    if (!is_extension(next)) return next;
    if (bpf_xdp_load_bytes(frame, *at, &extension, sizeof extension) != 0) return -1;
    if (next == FRAGMENT) {
      *at += 8;
      // One that begins at 0 and has no more after it is whole (RFC 6946).
      if (extension.fragment & bpf_htons(0xfff9)) found->key[EFIO_XDP_IS] |= EFIO_XDP_FRAGMENT;
      // In a later fragment it is not the header it names that follows.
      if (extension.fragment & bpf_htons(0xfff8)) return extension.next;
    } else if (next == AUTHENTICATION) {
      *at += (extension.length + 2) * 4;
    } else {
      *at += (extension.length + 1) * 8;
    }
    next = extension.next;
  }
  return is_extension(next) ? -1 : next;
}

// All other frames.
__attribute__((noinline)) int efio_see(struct xdp_md* frame, struct found* found) {
  struct ethernet ethernet;
  if (!found || bpf_xdp_load_bytes(frame, 0, &ethernet, sizeof ethernet) != 0) return -1;
  note_ethernet(&ethernet, found);
  __u16 type = bpf_ntohs(ethernet.type);
  __u32 at = sizeof ethernet;
  for (int i = 0; i < MOST_TAGS; ++i) {
    struct tag tag;
    if (type != ETHERTYPE_VLAN && type != ETHERTYPE_QINQ) break;
    if (bpf_xdp_load_bytes(frame, at, &tag, sizeof tag) != 0) return -1;
    if (i == 0) {
      found->key[EFIO_XDP_IS] = EFIO_XDP_TAGGED;
      found->vlan = bpf_ntohs(tag.id) & 0xfff;
    }
    type = bpf_ntohs(tag.type);
    at += sizeof tag;
  }
  found->key[EFIO_XDP_TYPE] = (__u32)type << 16;
  int protocol = -1;
  if (type == ETHERTYPE_IPV4) protocol = see_ipv4(frame, &at, found);
  if (type == ETHERTYPE_IPV6) protocol = see_ipv6(frame, &at, found);
  if (type == ETHERTYPE_ARP) see_arp(frame, at, found);
  __be32 ports;
  if (protocol >= 0 && note_protocol((__u8)protocol, found) && bpf_xdp_load_bytes(frame, at, &ports, sizeof ports) == 0)
    note_ports(ports, found);
  return 0;
}

static __always_inline int in(const struct efio_xdp_range* range, __u16 number) {
  return number >= range->low && number <= range->high;
}

static __always_inline int taken(struct xdp_md* frame, const struct efio_xdp_rules* set) {
  struct found found;
  __builtin_memset(&found, 0, sizeof found);
  if (!efio_see_common(frame, &found) && efio_see(frame, &found) != 0) return 0;
  const struct efio_xdp_rule* rule = set->rules;
  for (__u32 i = 0; i < EFIO_XDP_RULES; ++i, ++rule) {
    __u32 differs = 0;
    if (i >= set->count) break;
    for (int word = 0; word < EFIO_XDP_WORDS; ++word) differs |= (found.key[word] & rule->mask[word]) ^ rule->value[word];
    if (differs == 0 && in(&rule->vlan, found.vlan) && in(&rule->source_port, found.source_port) &&
        in(&rule->destination_port, found.destination_port))
      return (int)rule->take;
    // The pointer is moved by a constant: an index times a size would be an unknown offset.
    asm volatile("" : "+r"(rule));
  }
  return 0;
}

#ifdef EFIO_XDP_TIME
// Linux 6.3. The address is 0 where the kernel has no such function.
extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md* frame, __u64* timestamp) __ksym __weak;

static __always_inline void write_time(struct xdp_md* frame) {
  __u64 nanoseconds = 0;
  if (!bpf_xdp_metadata_rx_timestamp || bpf_xdp_metadata_rx_timestamp(frame, &nanoseconds) != 0) nanoseconds = 0;
  if (bpf_xdp_adjust_meta(frame, -(int)sizeof(struct efio_xdp_time)) != 0) return;
  struct efio_xdp_time* time = (void*)(long)frame->data_meta;
  if ((void*)(time + 1) > (void*)(long)frame->data) return;
  time->nanoseconds = nanoseconds;
  time->mark = EFIO_XDP_TIME_MARK;
}
#else
static __always_inline void write_time(struct xdp_md* frame) { (void)frame; }
#endif

static __always_inline int take_or_pass(struct xdp_md* frame) {
  const __u32 queue = frame->rx_queue_index, only = 0;
  void* map = bpf_map_lookup_elem(&efio_rule_sets, &queue);
  if (map) {
    const struct efio_xdp_rules* set = bpf_map_lookup_elem(map, &only);
    if (!set || !taken(frame, set)) return XDP_PASS;
  }
  write_time(frame);
  return (int)bpf_redirect_map(&efio_sockets, queue, XDP_PASS);
}

SEC("xdp")
int efio_xdp(struct xdp_md* frame) { return take_or_pass(frame); }

SEC("xdp.frags")
int efio_xdp_frags(struct xdp_md* frame) { return take_or_pass(frame); }

char efio_license[] SEC("license") = "Dual BSD/GPL";
