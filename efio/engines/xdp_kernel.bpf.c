// The program that the kernel runs for every frame of a device that an xdp: port has: it hands a frame to the AF_XDP
// socket of the queue that it came in on, or leaves it to the host.
//
// Twice the same program: the kernel gives frames of several fragments only to one that is marked for them, and a driver
// may refuse that one.
#include <linux/types.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "efio/engines/xdp_kernel.h"

// The sockets by queue. The kernel takes a socket out when it is closed, so that a queue without one is the host's.
struct {
  __uint(type, BPF_MAP_TYPE_XSKMAP);
  __uint(max_entries, EFIO_XDP_QUEUES);
  __type(key, __u32);
  __type(value, __u32);
} efio_sockets SEC(".maps");

static __always_inline int take_or_pass(struct xdp_md* frame) {
  return (int)bpf_redirect_map(&efio_sockets, frame->rx_queue_index, XDP_PASS);
}

SEC("xdp")
int efio_xdp(struct xdp_md* frame) { return take_or_pass(frame); }

SEC("xdp.frags")
int efio_xdp_frags(struct xdp_md* frame) { return take_or_pass(frame); }

char efio_license[] SEC("license") = "Dual BSD/GPL";
