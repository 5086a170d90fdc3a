// Internal: what `sim:` does to the frames of one queue in one direction.
//
// Every decision is a function of the seed, the direction, the queue, the kind of impairment and the number of the
// frame: the same frames meet the same fate, whatever the timing, and one option does not shift the choices of another.
// A frame passes, in this order: outage, loss, truncation, corruption, duplication, reordering, rate, delay.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "efio/clock.h"
#include "efio/engines/engine.h"
#include "efio/stats.h"

namespace efio {

// Something happens to a frame with a probability, or to every Nth frame.
struct Chance {
  double probability = 0;
  std::uint64_t every = 0;
  explicit operator bool() const noexcept { return probability > 0 || every > 0; }
};

// The options of a sim: URI.
struct Impairments {
  std::uint64_t seed = 1;
  bool on_rx = true, on_tx = true, virtual_time = false;
  Chance loss, duplicate, reorder, corrupt, truncate;
  std::uint64_t reorder_distance = 1;  // frames that overtake
  std::uint64_t truncate_to = 0;       // bytes; 0: anything from an Ethernet header up
  std::uint64_t delay = 0, jitter = 0, down_after = 0, down_for = 0;  // ns
  std::uint64_t rate_bits = 0, rate_frames = 0;  // per second; 0: no limit
  std::size_t limit = 1000;            // frames held at once by rate and delay

  bool delays() const noexcept { return delay > 0 || jitter > 0 || rate_bits > 0 || rate_frames > 0; }

  // Reads and finishes the URI's options. Errors: usage.
  static Result<Impairments> read(Uri& uri);
  std::string describe() const;  // "loss, delay"
};

// ns since the port was opened: real, or as told by sim_advance().
class SimClock {
 public:
  explicit SimClock(bool is_virtual) : virtual_(is_virtual), opened_(Clock::monotonic()) {}
  std::uint64_t now() const noexcept {
    return virtual_ ? told_.load(std::memory_order_acquire) : Clock::monotonic() - opened_;
  }
  bool is_virtual() const noexcept { return virtual_; }
  void advance(std::uint64_t ns) noexcept { told_.fetch_add(ns, std::memory_order_acq_rel); }
  // The latest moment, of Clock::monotonic, to look again for what is due at `due`.
  std::uint64_t look_again(std::uint64_t due) const noexcept;

 private:
  const bool virtual_;
  const std::uint64_t opened_;
  std::atomic<std::uint64_t> told_{0};
};

// A queue's frames on their way. Frames change places by exchanging slots with spare ones of the same pool; `out(slot)`,
// given by the queue, takes a frame away by exchange or copy, or returns false for want of room.
class ImpairedPath {
 public:
  // Errors: memory.
  static Result<std::unique_ptr<ImpairedPath>> create(const Impairments& what, const SimClock& clock, Direction direction,
                                                      std::size_t queue, std::shared_ptr<Pool> pool);
  ~ImpairedPath();
  ImpairedPath(const ImpairedPath&) = delete;
  ImpairedPath& operator=(const ImpairedPath&) = delete;

  // A frame of `slots` slots as one slot of this path's pool: itself where `own` says that it is, else copied together
  // into a scratch slot. Null, and counted, when it is too long for one.
  Slot* whole(Slot* first, std::size_t slots, bool own) noexcept;

  // One frame comes. Afterwards the slot holds a free frame, or the same one when it was lost.
  template <class Out>
  void arrive(Slot& frame, std::uint64_t now, Out&& out);
  // What is due by now goes, as far as `out` has room.
  template <class Out>
  void release(std::uint64_t now, Out&& out);

  std::size_t held() const noexcept { return line_.size() + (held_back_ ? 1 : 0); }
  std::uint64_t next_due() const noexcept;  // ns of the SimClock; UINT64_MAX: nothing is held
  bool is_due() const noexcept { return held() > 0 && next_due() <= clock_.now(); }
  void drop(DropReason reason, std::uint64_t n = 1) noexcept { drops_[static_cast<std::size_t>(reason)] += n; }
  // Gives up what is held, under `closed`.
  void close() noexcept;

  // Counted since the last call, for the queue's counters; the caller is between begin() and end().
  void count_into(CounterBlock& counters) noexcept;
  std::uint64_t take_made() noexcept { return std::exchange(made_, 0); }

 private:
  struct Waiting {
    std::uint64_t due, order, arrived;
    Slot slot;
    bool operator<(const Waiting& other) const noexcept {  // a heap's top is its largest: the one due first
      return due != other.due ? due > other.due : order > other.order;
    }
  };
  // A frame that waits to be overtaken waits no longer than this, ns.
  static constexpr std::uint64_t longest_held_back = 100'000'000;
  struct HeldBack {
    Slot slot;
    std::uint64_t overtakers, until, arrived;
  };
  struct Fate {
    std::optional<DropReason> drop;
    bool duplicate = false, hold_back = false;
    std::uint32_t length = 0;  // bytes that are left
    std::optional<std::uint64_t> flipped_bit;
  };

  ImpairedPath(const Impairments& what, const SimClock& clock) : what_(what), clock_(clock) {}
  std::uint64_t draw(unsigned kind) const noexcept;
  bool happens(const Chance& chance, unsigned kind) const noexcept;
  Fate decide(const Slot& frame, std::uint64_t now) const noexcept;
  // When a frame that is ready now leaves; nothing when the rate's queue is full.
  std::optional<std::uint64_t> departure(std::uint32_t length, std::uint64_t now) noexcept;
  void keep(Slot& frame, std::uint64_t due, std::uint64_t arrived) noexcept;
  std::size_t capacity() const noexcept { return pool_->frame_size() - pool_->headroom(); }
  // Hands a frame out, its time `later_by` ns later than that of its arrival. False for want of room.
  template <class Out>
  bool leave(Slot& frame, std::uint64_t later_by, Out&& out);
  template <class Out>
  void go_on(Slot& frame, std::uint64_t now, std::uint64_t arrived, Out&& out);

  const Impairments what_;
  const SimClock& clock_;
  std::uint64_t stream_ = 0;   // of the random numbers
  std::uint64_t number_ = 0;   // of the frame that arrives, from 1
  std::uint64_t line_free_ = 0;  // when the rate's line has sent what it has
  double fraction_ = 0;  // ns that line_free_ lacks
  std::uint64_t last_time_ = 0;
  std::uint64_t order_ = 0, made_ = 0;
  std::size_t room_ = 0;       // frames that line_ may hold
  DropCounts drops_{};
  std::shared_ptr<Pool> pool_;
  std::vector<Slot> spares_;   // free frames
  std::vector<Waiting> line_;  // a heap
  std::optional<HeldBack> held_back_;
  Slot scratch_{};
};

template <class Out>
void ImpairedPath::arrive(Slot& frame, std::uint64_t now, Out&& out) {
  ++number_;
  const Fate fate = decide(frame, now);
  if (fate.drop) return drop(*fate.drop);
  frame.length = fate.length;
  if (fate.flipped_bit) frame.bytes()[*fate.flipped_bit / 8] ^= std::byte{1} << (*fate.flipped_bit % 8);
  if (fate.duplicate) {
    ++made_;
    if (spares_.empty()) {
      drop(DropReason::queue_limit);
    } else if (frame.length > capacity()) {
      drop(DropReason::oversize);
    } else {
      Slot copy = spares_.back();
      spares_.pop_back();
      copy_slot(frame, copy);
      go_on(copy, now, now, out);
      spares_.push_back(pool_->slot(copy.frame));
    }
  }
  if (fate.hold_back && !held_back_ && !spares_.empty()) {
    held_back_ = HeldBack{spares_.back(), what_.reorder_distance, now + longest_held_back, now};
    spares_.pop_back();
    std::swap(held_back_->slot, frame);
    return;
  }
  go_on(frame, now, now, out);
  if (held_back_ && --held_back_->overtakers == 0) held_back_->until = 0;
  if (held_back_ && held_back_->until == 0) release(now, out);
}

template <class Out>
void ImpairedPath::release(std::uint64_t now, Out&& out) {
  while (!line_.empty() && line_.front().due <= now) {
    Waiting& first = line_.front();
    if (!leave(first.slot, first.due - first.arrived, out)) break;
    std::pop_heap(line_.begin(), line_.end());
    spares_.push_back(pool_->slot(line_.back().slot.frame));
    line_.pop_back();
  }
  if (held_back_ && held_back_->until <= now) {
    HeldBack held = *held_back_;
    held_back_.reset();
    go_on(held.slot, now, held.arrived, out);
    spares_.push_back(pool_->slot(held.slot.frame));
  }
}

template <class Out>
void ImpairedPath::go_on(Slot& frame, std::uint64_t now, std::uint64_t arrived, Out&& out) {
  const auto due = departure(frame.length, now);
  if (!due) return drop(DropReason::queue_limit);
  const bool others_first = !line_.empty() && line_.front().due <= now;
  if (*due <= now && !others_first && leave(frame, now - arrived, out)) return;
  keep(frame, *due, arrived);
}

template <class Out>
bool ImpairedPath::leave(Slot& frame, std::uint64_t later_by, Out&& out) {
  const auto before = frame.time, last = last_time_;
  if (later_by > 0 || last > 0) {  // a queue's time does not run backwards
    frame.time = std::max(frame.time + later_by, last);
    last_time_ = frame.time;
  }
  if (out(frame)) return true;
  frame.time = before;
  last_time_ = last;
  return false;
}

}  // namespace efio
