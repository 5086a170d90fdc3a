// All frames of a bridge, added up: nothing is lost that is not counted.
//
//   received + made + copied = sent + pending + waiting + consumed + dropped
#pragma once

#include <cstdint>

#include "efio/stats.h"
#include "efnet/plugins/pipeline.h"

namespace efio::mbdg {

// Exact when no thread is at work.
struct Conservation {
  std::uint64_t received = 0;
  std::uint64_t made = 0;      // by plugins, or by sim: ports
  std::uint64_t copied = 0;    // by flooding
  std::uint64_t sent = 0;
  std::uint64_t pending = 0;   // in outgoing queues, or on their way from thread to thread
  std::uint64_t waiting = 0;   // in incoming queues
  std::uint64_t consumed = 0;  // by plugins: for themselves, or kept
  std::uint64_t dropped = 0;   // under any reason, at any port

  std::uint64_t in() const noexcept { return received + made + copied; }
  std::uint64_t out() const noexcept { return sent + pending + waiting + consumed + dropped; }

  void add(const PortStats& stats) noexcept {
    received += stats.rx.received;
    made += stats.rx.made + stats.tx.made;
    waiting += stats.rx.waiting;
    sent += stats.tx.sent;
    pending += stats.tx.pending;
    dropped += stats.rx.total_dropped() + stats.tx.total_dropped();
  }

  // Frames that a plugin took and has released or discarded since are in the counters of the port. What one plugin made
  // and another gave up was dropped or consumed, and never got as far as the port to be counted as made there.
  void add(const efnet::Pipeline& gates) {
    for (const auto& plugin : gates.stats()) {
      consumed += plugin.in.taken + plugin.out.taken - plugin.released - plugin.discarded;
      made += plugin.made;
    }
    made -= gates.made();
  }

  // Between threads: what came in at `entry` comes out at `end`.
  void add_relay(const TxStats& entry, const RxStats& end) noexcept {
    pending += entry.pending + end.waiting;
    dropped += entry.total_dropped() + end.total_dropped();
  }

  Conservation& operator+=(const Conservation& other) noexcept {
    received += other.received, made += other.made, copied += other.copied, sent += other.sent;
    pending += other.pending, waiting += other.waiting, consumed += other.consumed, dropped += other.dropped;
    return *this;
  }
};

}  // namespace efio::mbdg
