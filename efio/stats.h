// Counters that add up. For every queue and at every batch border:
//
//   rx: received + made = delivered + waiting + dropped        tx: offered + made = sent + pending + dropped
//
// Each queue has one CounterBlock, written by its owner under a sequence number, read by any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "efio/export.h"

namespace efio {

// Why a frame was not delivered or sent. A reason cannot exist without its name.
#define EFIO_DROP_REASONS(X)                                                        \
  X(ring_full, "the queue's own ring was full")                                     \
  X(kernel_full, "the kernel had no room in the socket's ring")                     \
  X(oversize, "longer than a slot, or than the device takes")                       \
  X(undersize, "shorter than an Ethernet header")                                   \
  X(truncated, "its tail was cut off before it came to us")                         \
  X(link_type, "its interface is not Ethernet")                                     \
  X(invalid, "refused by the kernel as malformed")                                  \
  X(refused, "the kernel or device refused it")                                     \
  X(link_down, "the link was down")                                                 \
  X(device_gone, "the device was deleted")                                          \
  X(no_buffer, "no memory was left for it")                                         \
  X(peer_invalid, "the peer handed over a bad descriptor")                          \
  X(peer_full, "the peer did not take it in time")                                  \
  X(closed, "it was still queued when the port was closed")                         \
  X(write_failed, "the file could not be written")                                  \
  X(lost, "taken by the simulated loss")                                            \
  X(queue_limit, "the simulated queue was full")                                    \
  X(not_forwarded, "the outgoing queue stayed full")                                \
  X(filtered, "a filter or policy said no")                                         \
  X(malformed, "its headers do not parse")                                          \
  X(checksum, "its checksum is wrong")                                              \
  X(rate_limit, "above the configured rate")                                        \
  X(unresolved, "no MAC address was found for its next hop")                        \
  X(no_route, "no route to its destination")                                        \
  X(program, "the program gave it up without a reason of its own")

enum class DropReason : std::uint8_t {
#define EFIO_X(name, text) name,
  EFIO_DROP_REASONS(EFIO_X)
#undef EFIO_X
      count_
};
inline constexpr std::size_t drop_reasons = static_cast<std::size_t>(DropReason::count_);

// "ring_full", and the sentence that goes with it.
EFIO_EXPORT std::string_view name(DropReason reason) noexcept;
EFIO_EXPORT std::string_view describe(DropReason reason) noexcept;

using DropCounts = std::array<std::uint64_t, drop_reasons>;

struct RxStats {
  std::uint64_t received = 0;    // frames that reached this queue, those it had to drop included
  std::uint64_t made = 0;        // originated here (a duplicate of `sim:`), not received
  std::uint64_t delivered = 0;   // finished by the program
  std::uint64_t waiting = 0;     // in the queue now, lent ones included
  std::uint64_t bytes = 0;       // of delivered frames, without FCS
  std::uint64_t sampled_at = 0;  // when the kernel's own drop counters were last read, ns since the epoch; 0: it has none
  DropCounts dropped{};

  EFIO_EXPORT std::uint64_t total_dropped() const noexcept;
  EFIO_EXPORT RxStats& operator+=(const RxStats& other) noexcept;
};

struct TxStats {
  std::uint64_t offered = 0;  // committed, or given up at this queue
  std::uint64_t made = 0;
  std::uint64_t sent = 0;     // in the sense of the engine's row (docs/ports.md)
  std::uint64_t pending = 0;  // committed, not yet sent
  std::uint64_t bytes = 0;    // of sent frames, without FCS
  std::uint64_t sampled_at = 0;
  DropCounts dropped{};

  EFIO_EXPORT std::uint64_t total_dropped() const noexcept;
  EFIO_EXPORT TxStats& operator+=(const TxStats& other) noexcept;
};

struct PortStats {
  RxStats rx;
  TxStats tx;
};

// The block behind one queue's statistics. One writer; any number of readers, which never make the writer wait.
// All fields are atomics written with release order inside an odd sequence number, so a reader that sees the same even
// number before and after has seen one border. On x86 every write here is a plain store.
class CounterBlock {
 public:
  struct Fields {
    std::uint64_t in = 0;      // rx: received; tx: offered
    std::uint64_t made = 0;
    std::uint64_t out = 0;     // rx: delivered; tx: sent
    std::uint64_t queued = 0;  // rx: waiting; tx: pending
    std::uint64_t bytes = 0;
    std::uint64_t sampled_at = 0;
    DropCounts dropped{};
  };

  void begin() noexcept { sequence_.store(sequence_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }
  void end() noexcept { sequence_.store(sequence_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

  void add_in(std::uint64_t n) noexcept { add(in_, n); }
  void add_made(std::uint64_t n) noexcept { add(made_, n); }
  void add_out(std::uint64_t n) noexcept { add(out_, n); }
  void add_bytes(std::uint64_t n) noexcept { add(bytes_, n); }
  void add_dropped(DropReason reason, std::uint64_t n) noexcept { add(dropped_[static_cast<std::size_t>(reason)], n); }
  void set_queued(std::uint64_t n) noexcept { queued_.store(n, std::memory_order_release); }
  void set_sampled_at(std::uint64_t ns) noexcept { sampled_at_.store(ns, std::memory_order_release); }

  // The owner's own reading.
  std::uint64_t out() const noexcept { return out_.load(std::memory_order_relaxed); }

  EFIO_EXPORT Fields snapshot() const noexcept;

 private:
  using Cell = std::atomic<std::uint64_t>;
  static void add(Cell& cell, std::uint64_t n) noexcept {
    cell.store(cell.load(std::memory_order_relaxed) + n, std::memory_order_release);
  }

  alignas(64) std::atomic<std::uint64_t> sequence_{0};
  Cell in_{0}, out_{0}, queued_{0}, bytes_{0}, made_{0}, sampled_at_{0};
  alignas(64) std::array<Cell, drop_reasons> dropped_{};
};

EFIO_EXPORT RxStats rx_stats(const CounterBlock::Fields& fields) noexcept;
EFIO_EXPORT TxStats tx_stats(const CounterBlock::Fields& fields) noexcept;

}  // namespace efio
