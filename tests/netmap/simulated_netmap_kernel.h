// What the simulated kernel knows: regions, rings, ports, descriptors, interfaces.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstring>

#include "efio/descriptor.h"
#include "tests/netmap/simulated_netmap.h"

namespace efio::test {

inline constexpr std::size_t interface_size = 1024, interfaces = 256;

struct SimulatedNetmap::Region {
  std::uint16_t number = 0;
  Fd memory;
  std::byte* base = nullptr;  // the kernel's own mapping
  std::size_t size = 0, ring_size = 0, rings = 0, buffer_size = 2048;
  std::uint32_t most_slots = 0;
  std::uint64_t buffers_at = 0;
  std::vector<bool> interface_used, ring_used, buffer_used;

  ~Region();
  std::uint64_t take_interface();
  std::uint64_t take_ring();  // offset, 0: none left
  void drop_ring(std::uint64_t offset);
  std::uint32_t take_buffer();             // 0: none left
  bool drop_buffer(std::uint32_t index);  // false: it was free, or is none
  bool is_buffer(std::uint32_t index) const { return index >= 2 && index < buffer_used.size(); }
  std::byte* buffer(std::uint32_t index) const { return base + buffers_at + index * buffer_size; }
};

struct SimulatedNetmap::Kring {
  Adapter* port = nullptr;
  bool tx = false, host = false;
  std::size_t index = 0;
  std::uint32_t slots = 0;
  std::uint64_t ring_at = 0;  // in the region; 0: not made
  std::uint32_t hwcur = 0, hwtail = 0, rhead = 0, rcur = 0, rtail = 0;
  int users = 0;
  bool held_exclusively = false;
  std::atomic<bool> busy{false};
  std::uint32_t incomplete = 0, completed = 0;  // slots with a slow device
  std::deque<Bytes> queue;                      // frames that are not in the ring yet
  Kring* pipe = nullptr;
  bool fake = false;  // of a pipe: gets no buffers of its own
  std::uint32_t pipe_tail = 0;
  std::set<Opened*> bound;
  std::vector<Kring*> monitors;

  bool on() const { return users > 0; }
  netmap::Ring& ring() const;
  netmap::RingSlot& slot(std::uint32_t i) const { return reinterpret_cast<netmap::RingSlot*>(&ring() + 1)[i]; }
  std::uint32_t next(std::uint32_t i) const { return i + 1 == slots ? 0 : i + 1; }
  std::uint32_t prev(std::uint32_t i) const { return i == 0 ? slots - 1 : i - 1; }
  std::uint32_t distance(std::uint32_t from, std::uint32_t to) const { return (to + slots - from) % slots; }
};

// Slots that two threads may see at once are written through here.
inline void copy_ring_slot(const netmap::RingSlot& from, netmap::RingSlot& to) {
  to.buffer = from.buffer;
  to.length = from.length;
  to.pointer = from.pointer;
  __atomic_store_n(&to.flags, __atomic_load_n(&from.flags, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
}
inline void take_flags_off(netmap::RingSlot& slot, int flags) {
  __atomic_store_n(&slot.flags, static_cast<std::uint16_t>(slot.flags & ~flags), __ATOMIC_RELEASE);
}

struct SimulatedNetmap::Adapter {
  enum class Kind { nic, pair, switch_port, pipe, monitor };
  std::string name;
  Kind kind = Kind::nic;
  std::shared_ptr<Region> region;
  std::shared_ptr<Device> device;  // of a NIC
  std::vector<std::unique_ptr<Kring>> tx, rx;  // with the host's at the end where there are any
  std::size_t tx_rings = 1, rx_rings = 1;
  std::size_t host_rings = 0;
  int active = 0;
  std::atomic<bool> locked{false}, zombie{false};
  std::shared_ptr<Adapter> peer_made;  // of a pipe or pair: the other end lives as long as we do
  std::weak_ptr<Adapter> peer;
  std::shared_ptr<Adapter> parent;     // of a monitor

  void make_krings(std::uint32_t tx_slots, std::uint32_t rx_slots);
};

struct SimulatedNetmap::Opened {
  Fd rx_event, tx_event;  // readable when the direction is ready; the first is what the program has
  std::shared_ptr<Adapter> port;
  std::uint64_t interface_at = 0;
  std::size_t first[2] = {}, last[2] = {};  // [0] rx, [1] tx
  std::uint64_t flags = 0;
  bool forwards_down = false, closed = false;
  int mappings = 0;
  bool watched[2] = {};
};

struct SimulatedNetmap::Device {
  std::string name;
  NicOptions options;
  std::array<std::uint8_t, 6> mac{0x02, 0, 0, 0, 0, 0x77};
  std::atomic<bool> carrier{true}, admin{true}, gone{false};
  std::atomic<std::uint64_t> downs{0};
  std::string pair;  // the name of the other end
  int promiscuous = 0, offloads_off = 0;
  NicCounts counts;
  std::deque<Bytes> wire_out, host_in;
  std::condition_variable_any sent;
  std::atomic<std::int64_t> reset_until{0};  // of the steady clock, ns
  bool has_carrier() const {
    return carrier && std::chrono::steady_clock::now().time_since_epoch().count() >= reset_until;
  }
  bool up() const { return has_carrier() && admin && !gone; }
};

inline netmap::Ring& SimulatedNetmap::Kring::ring() const {
  return *reinterpret_cast<netmap::Ring*>(port->region->base + ring_at);
}

}  // namespace efio::test
