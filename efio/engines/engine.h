// The contract between the library and an engine, in words. docs/writing-an-engine.md walks through one.
//
// An engine is one file and one row in engines.cpp. It derives from PortHandle, RxQueue and TxQueue.
//
// Receive queue. `ring_` holds `mask_ + 1` slots (a SlotRing, so that any run of them is contiguous). Slots in
// [head_, tail_) are received and may be lent: never touch them. refill() fills slots from tail_ on, at most vacant() of
// them, and calls admit(). Where frames are the queue's own (swaps_), every slot of the ring always owns one frame of
// `pool_`, also after swaps: refill() writes packets into the frame that it finds in the slot. Where they are the
// kernel's, refill() looks at head_ to see what has been finished and gives that back first; arm() does so too.
// Frames that were lost count as received and dropped (count_lost). refill() never sends and never blocks.
//
// Transmit queue. [settled_, flushed_) are with the device, [flushed_, tail_) wait for transmit(), slots before limit_
// may be claimed: limit_ is the position of the oldest slot still with the device, plus the ring's size. transmit()
// hands over everything up to tail_, now, and advances flushed_; a slot whose fate is known is settle()d in order, as
// sent or as dropped with a reason; what the device cannot take yet stays for the next transmit(). Check lengths before
// handing over: settle_dropped() with oversize or undersize. reclaim() only looks, it never sends.
//
// Waiting. wait_source() names a descriptor for this queue and direction alone. arm() prepares for sleep and returns
// true if there is work after all. A receive queue must not wake for transmit room, nor the other way round.
//
// Failure at run time: set_failed() once, with the device's name and what to try; calls return 0 from then on.
//
// Closing: close_device() is called once with nothing lent, after a drain; queues settle what is left as dropped
// (closed). Their counters stay readable. Frames go back to the pool in the destructor or here.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "efio/port.h"
#include "efio/slot_ring.h"
#include "efio/uri.h"

namespace efio {

class PortHandle {
 public:
  virtual ~PortHandle() = default;

  // Exact counters, all frames home, descriptors closed. Errors: a file that could not be completed.
  virtual Result<void> close_device() { return {}; }

  // Of an open port; any thread. An engine that has such options overrides this, and calls it for all others.
  virtual Result<void> set_option(std::string_view key, std::string_view value);

  // Any thread, also after closing.
  virtual std::uint64_t link_downs() const noexcept { return 0; }

  PortInfo info;
  Direction direction = Direction::both;
  std::vector<std::unique_ptr<RxQueue>> rx;
  std::vector<std::unique_ptr<TxQueue>> tx;
  bool closed = false;
};

using Opened = Result<std::unique_ptr<PortHandle>>;

// What an engine can do; the contract test derives its cases from this row.
struct Capabilities {
  bool rx = false, tx = false;
  bool link = false;          // has a carrier, an MTU, kernel counters
  bool queues = false;        // several
  bool rx_swaps = false, tx_swaps = false;
  bool reopen = false;        // the same name again, per direction or queue
  bool loops_back = false;    // two ends in this process are joined
  bool fragments = false;     // frames of several slots
  bool blocks = false;        // a full ring holds the sender back (no loss)
  bool waits = false;         // has something for the poller to watch
  bool silent_losses = false; // frames may be lost before they reach it, and nobody counts them
};

struct Engine {
  std::string_view scheme;
  std::string_view description;
  Capabilities can;
  Opened (*open)(Uri& uri, const PortOptions& options);  // null: not in this build
  Result<void> (*available)();                           // null: needs nothing
  std::string_view not_built;                            // why open is null
};

// All rows (efio/engines.cpp).
std::span<const Engine> engine_table() noexcept;
const Engine* find_engine(std::string_view scheme) noexcept;

// Opens the engine that the URI's scheme names; what Port::open and wrapping engines (sim:) call.
Opened open_engine(Uri& uri, const PortOptions& options);

// What `auto:` opens : the best engine for a device (efio/engines.cpp).
Opened open_auto(Uri& uri, const PortOptions& options);

// The frames and slots of a queue that owns its memory: a ring filled with frames of a pool, which go home at the end.
class OwnedRing {
 public:
  static Result<OwnedRing> create(std::size_t slots, std::shared_ptr<Pool> pool);
  OwnedRing() = default;
  OwnedRing(OwnedRing&&) noexcept = default;
  OwnedRing& operator=(OwnedRing&& other) noexcept {
    std::swap(slots_, other.slots_), std::swap(pool_, other.pool_);
    return *this;
  }
  ~OwnedRing();

  Slot* data() const noexcept { return slots_.data(); }
  std::size_t size() const noexcept { return slots_.size(); }
  std::uint32_t mask() const noexcept { return slots_.mask(); }
  const std::shared_ptr<Pool>& pool() const noexcept { return pool_; }
  std::size_t bytes() const noexcept { return slots_.bytes() + (pool_ ? slots_.size() * pool_->stride() : 0); }

 private:
  SlotRing slots_;
  std::shared_ptr<Pool> pool_;
};

// Copies a frame's data, time and metadata into a slot that has room for them; marks stay behind.
void copy_slot(const Slot& from, Slot& to) noexcept;

// Engines' open functions, one a file.
Opened open_pipe(Uri& uri, const PortOptions& options);
Opened open_packet(Uri& uri, const PortOptions& options);
Result<void> packet_available();
Opened open_tap(Uri& uri, const PortOptions& options);
Result<void> tap_available();
Opened open_host(Uri& uri, const PortOptions& options);
Opened open_xdp(Uri& uri, const PortOptions& options);
Result<void> xdp_available();
Opened open_pcap(Uri& uri, const PortOptions& options);
Opened open_netmap(Uri& uri, const PortOptions& options);
Result<void> netmap_available();
bool netmap_has(const std::string& device);  // whether this program has rings of it open
Opened open_pfring(Uri& uri, const PortOptions& options);
Result<void> pfring_available();
Opened open_sim(Uri& uri, const PortOptions& options);

}  // namespace efio
