// Internal: netmap's binary interface, version 14, in declarations of our own: what is read and written of its requests
// and of the memory that it shares. The kernel's side is fixed, so every offset and size is checked below.
//
// A program opens /dev/netmap, says REGISTER once for each descriptor, and maps the port's memory region: rings, and
// the buffers that their slots name by number. It owns the slots [head, tail) of a ring; what it puts into head reaches
// the kernel with the next NIOCTXSYNC or NIOCRXSYNC (or poll), and only then does the kernel move tail. poll() looks at
// cur: the port is ready when cur is not tail.
#pragma once

#include <cstddef>
#include <cstdint>

namespace efio::netmap {

inline constexpr const char* device_path = "/dev/netmap";

// ioctl requests.
inline constexpr unsigned long control_request = 0xc0586997;  // NIOCCTRL, a RequestHeader
inline constexpr unsigned long txsync_request = 0x6994;       // NIOCTXSYNC
inline constexpr unsigned long rxsync_request = 0x6995;       // NIOCRXSYNC

inline constexpr std::uint16_t api_version = 14;

// RequestHeader::type.
inline constexpr std::uint16_t register_port = 1;

// RegisterBody::mode: which rings a descriptor is bound to.
inline constexpr std::uint32_t all_nic_rings = 1, host_rings = 2, nic_and_host_rings = 3, one_nic_ring = 4, no_rings = 7,
                               one_host_ring = 8;

// RegisterBody::flags.
inline constexpr std::uint64_t monitor_tx = 0x100, monitor_rx = 0x200, monitor_zero_copy = 0x400, exclusive = 0x800,
                               rx_rings_only = 0x2000, tx_rings_only = 0x4000, no_tx_poll = 0x20000;

// RingSlot::flags. The kernel clears buffer_changed when it has taken the slot.
inline constexpr std::uint16_t buffer_changed = 0x01, report = 0x02, forward = 0x04, more_fragments = 0x20;

// Ring::flags.
inline constexpr std::uint32_t ring_timestamp = 0x02, ring_forward = 0x04;

inline constexpr std::uint32_t first_buffer = 2;  // 0 and 1 are the kernel's own
inline constexpr std::size_t longest_name = 63;
inline constexpr std::uint32_t most_fragments = 64;

struct RequestHeader {
  std::uint16_t version;
  std::uint16_t type;
  std::uint32_t reserved;  // 0
  char name[64];
  std::uint64_t options;  // address of the first of a list
  std::uint64_t body;     // address
};

struct RegisterBody {
  std::uint64_t offset;       // out: of the Interface within the region
  std::uint64_t memory_size;  // out: bytes of the region
  std::uint32_t tx_slots, rx_slots;  // wanted or 0; out: what there is
  std::uint16_t tx_rings, rx_rings;
  std::uint16_t host_tx_rings, host_rx_rings;
  std::uint16_t memory;  // the region's number, 0: the port's own
  std::uint16_t ring;    // for the one_… modes
  std::uint32_t mode;
  std::uint32_t extra_buffers;  // wanted; out: how many there were
  std::uint32_t padding;
  std::uint64_t flags;
};

struct RingSlot {
  std::uint32_t buffer;
  std::uint16_t length;
  std::uint16_t flags;
  std::uint64_t pointer;
};

// What follows it in memory are its slots.
struct Ring {
  std::int64_t buffers_offset;  // from the ring to buffer 0
  std::uint32_t slots;
  std::uint32_t buffer_size;
  std::uint16_t number;
  std::uint16_t direction;  // 1 transmit, 0 receive
  std::uint32_t head, cur;  // the program's
  std::uint32_t tail;       // the kernel's
  std::uint32_t flags;
  std::uint32_t padding;
  std::int64_t seconds, microseconds;  // of the last sync
  std::uint64_t offset_mask;
  std::uint64_t buffer_alignment;
  alignas(128) std::uint8_t semaphore[128];
};

// Followed by the offsets of its rings, from here, as std::int64_t: NIC transmit, host transmit, NIC receive, host
// receive; 0 for a ring that the descriptor is not bound to.
struct Interface {
  char name[16];
  std::uint32_t version;
  std::uint32_t flags;
  std::uint32_t tx_rings, rx_rings;
  std::uint32_t extra_buffers;  // the first of a chain through each buffer's first four bytes; 0 ends it
  std::uint32_t host_tx_rings, host_rx_rings;
  std::uint32_t spare[3];
};

static_assert(sizeof(RequestHeader) == 88 && offsetof(RequestHeader, type) == 2 && offsetof(RequestHeader, reserved) == 4 &&
              offsetof(RequestHeader, name) == 8 && offsetof(RequestHeader, options) == 72 &&
              offsetof(RequestHeader, body) == 80);
static_assert(sizeof(RegisterBody) == 56 && offsetof(RegisterBody, memory_size) == 8 &&
              offsetof(RegisterBody, tx_slots) == 16 && offsetof(RegisterBody, rx_slots) == 20 &&
              offsetof(RegisterBody, tx_rings) == 24 && offsetof(RegisterBody, rx_rings) == 26 &&
              offsetof(RegisterBody, host_tx_rings) == 28 && offsetof(RegisterBody, host_rx_rings) == 30 &&
              offsetof(RegisterBody, memory) == 32 && offsetof(RegisterBody, ring) == 34 &&
              offsetof(RegisterBody, mode) == 36 && offsetof(RegisterBody, extra_buffers) == 40 &&
              offsetof(RegisterBody, flags) == 48);
static_assert(sizeof(RingSlot) == 16 && offsetof(RingSlot, length) == 4 && offsetof(RingSlot, flags) == 6 &&
              offsetof(RingSlot, pointer) == 8);
static_assert(sizeof(Ring) == 256 && alignof(Ring) == 128 && offsetof(Ring, slots) == 8 && offsetof(Ring, buffer_size) == 12 &&
              offsetof(Ring, number) == 16 && offsetof(Ring, direction) == 18 && offsetof(Ring, head) == 20 &&
              offsetof(Ring, cur) == 24 && offsetof(Ring, tail) == 28 && offsetof(Ring, flags) == 32 &&
              offsetof(Ring, seconds) == 40 && offsetof(Ring, offset_mask) == 56 &&
              offsetof(Ring, buffer_alignment) == 64 && offsetof(Ring, semaphore) == 128);
static_assert(sizeof(Interface) == 56 && offsetof(Interface, version) == 16 && offsetof(Interface, flags) == 20 &&
              offsetof(Interface, tx_rings) == 24 && offsetof(Interface, rx_rings) == 28 &&
              offsetof(Interface, extra_buffers) == 32 && offsetof(Interface, host_tx_rings) == 36 &&
              offsetof(Interface, host_rx_rings) == 40 && offsetof(Interface, spare) == 44);

}  // namespace efio::netmap
