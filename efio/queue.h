// Receive and transmit queues: rings of slots that lend batches.
//
//   receive(n) → look at the slots → finish(n)        claim(n) → fill the slots → commit(n) → flush()
//
// One thread uses a queue at a time (C9); statistics may be read by any. Nothing here allocates, locks or logs; the
// virtual calls are `refill` when fewer than n slots are known, `reclaim` when fewer than n are free, and `transmit`.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>

#include "efio/clock.h"
#include "efio/export.h"
#include "efio/pool.h"
#include "efio/prefetch.h"
#include "efio/result.h"
#include "efio/slot.h"
#include "efio/stats.h"

namespace efio {

class RxQueue;
class TxQueue;
class Poller;

// What one pass over slots finds: their bytes, and the flags that any of them has.
struct SlotSum {
  std::uint64_t bytes = 0;
  std::uint16_t flags = 0;
};
SlotSum summarize(const Slot* slots, std::size_t n) noexcept;

// Received slots, lent until finished. Whatever is not finished stays queued and is lent again by the next receive();
// a batch is void once its queue has lent a newer one.
class EFIO_EXPORT RxBatch {
 public:
  RxBatch(RxBatch&& other) noexcept { *this = std::move(other); }
  RxBatch& operator=(RxBatch&& other) noexcept {
    std::swap(queue_, other.queue_), std::swap(first_, other.first_), std::swap(size_, other.size_);
    return *this;
  }

  Slot* begin() const noexcept { return first_; }
  Slot* end() const noexcept { return first_ + size_; }
  Slot& operator[](std::size_t i) const noexcept { return first_[i]; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  RxQueue& queue() const noexcept { return *queue_; }

  // Asks for the first line of each frame's data, all at once and without waiting.
  void prefetch() const noexcept;

  // Gives the first n slots back, rounded down to whole frames; the rest stay in the batch. Returns how many.
  std::size_t finish(std::size_t n) noexcept;
  std::size_t finish() noexcept { return finish(size_); }

  // Gives up frame i (its first slot's index) under a reason: counted now, finished with the others.
  void drop(std::size_t i, DropReason reason) noexcept;

  // Makes frame i the caller's: swapped against a spare of the pool, or copied into one. The slot is marked `moved` and
  // is finished with the others. Fails with no_buffer when the pool is out of spares, oversize when no frame of the
  // pool holds it, or refused for a frame of several slots; the frame then stays in the batch.
  std::expected<Frame, DropReason> take(std::size_t i) noexcept;

 private:
  friend class RxQueue;
  friend struct Forwarding;
  RxBatch(RxQueue* queue, Slot* first, std::size_t size) noexcept : queue_(queue), first_(first), size_(size) {}
  // False once the queue has finished these slots by another batch, or was closed.
  bool is_lent() const noexcept;
  bool is_frame_start(std::size_t i) const noexcept { return i < size_ && (i == 0 || !first_[i - 1].has(Slot::more)); }

  RxQueue* queue_ = nullptr;
  Slot* first_ = nullptr;
  std::size_t size_ = 0;
};

// Free slots, lent until committed. A fresh slot has no data (length 0), the queue's headroom, and the time of the
// claim. What is not committed is lent again by the next claim() and never sent.
class EFIO_EXPORT TxBatch {
 public:
  TxBatch(TxBatch&& other) noexcept { *this = std::move(other); }
  TxBatch& operator=(TxBatch&& other) noexcept {
    std::swap(queue_, other.queue_), std::swap(first_, other.first_), std::swap(size_, other.size_);
    return *this;
  }

  Slot* begin() const noexcept { return first_; }
  Slot* end() const noexcept { return first_ + size_; }
  Slot& operator[](std::size_t i) const noexcept { return first_[i]; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  TxQueue& queue() const noexcept { return *queue_; }

  // All the bytes that data may take in slot i, from its offset on.
  std::span<std::byte> space(std::size_t i) const noexcept;

  // Worth it where a thread on another processor reads what is written here (`pipe:`), a cost elsewhere: asks for the
  // first line of each frame's data, and for the slots that the next claim will lend, all at once and without waiting.
  void prefetch() const noexcept;

  // Queues the first n slots for the next flush, rounded down to whole frames; the rest stay in the batch.
  std::size_t commit(std::size_t n) noexcept;
  std::size_t commit() noexcept { return commit(size_); }
  // The same for frames that a plugin originated: counted as made instead of offered.
  std::size_t commit_made(std::size_t n) noexcept;

 private:
  friend class TxQueue;
  TxBatch(TxQueue* queue, Slot* first, std::size_t size) noexcept : queue_(queue), first_(first), size_(size) {}
  bool is_lent() const noexcept;

  TxQueue* queue_ = nullptr;
  Slot* first_ = nullptr;
  std::size_t size_ = 0;
};

// Bytes before and behind a slot's data.
struct Room {
  std::size_t before, behind;
};

// What the two kinds of queue have in common.
class EFIO_EXPORT Queue {
 public:
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;
  virtual ~Queue();

  std::size_t index() const noexcept { return index_; }              // within the port
  const std::string& label() const noexcept { return label_; }       // "packet:eth0 rx 0", for messages
  std::size_t ring_size() const noexcept { return std::size_t{mask_} + 1; }  // slots
  std::size_t capacity() const noexcept { return capacity_; }        // bytes a slot's data can have at the default offset
  std::size_t headroom() const noexcept { return headroom_; }        // bytes before the data of a fresh slot
  const std::shared_ptr<Pool>& pool() const noexcept { return pool_; }  // null: memory of the kernel's
  bool swaps() const noexcept { return swaps_; }                     // whether its slots can be exchanged for others of the pool
  Room room(const Slot& slot) const noexcept {
    return {slot.offset, packed_ ? 0 : headroom_ + capacity_ - slot.offset - slot.length};
  }

  // The first failure at run time, kept for good: the interface was deleted, the peer died. From then on nothing more is
  // received or can be claimed (what came before is still lent), and the poller reports the queue as ready. Any thread.
  Result<void> status() const;
  bool failed() const noexcept { return failure_.load(std::memory_order_acquire) != nullptr; }

 protected:
  Queue() = default;

  // --- for engines (efio/engines/engine.h tells how) ---
  struct WaitSource {
    int fd = -1;                 // what epoll watches; -1: nothing to watch
    std::uint32_t events = 0;    // EPOLLIN or EPOLLOUT
    bool always_ready = false;   // files: there is never anything to wait for
    bool only_asleep = false;    // each event costs its sender: not to be watched but while asleep
  };
  virtual WaitSource wait_source() { return {}; }
  // Prepares for sleep. True: do not sleep, there is work. `deadline` (Clock::monotonic ns) may be lowered.
  virtual bool arm(std::uint64_t& deadline) { (void)deadline; return false; }
  virtual void disarm() {}
  // Whether there certainly is something to receive, or room to claim, without asking the kernel.
  virtual bool has_work() const { return false; }

  // For an engine that wraps another (sim:): these of the queue inside. Its loans are public.
  static WaitSource wait_source_of(Queue& inner) { return inner.wait_source(); }
  static bool arm_inner(Queue& inner, std::uint64_t& deadline) { return inner.arm(deadline); }
  static void disarm_inner(Queue& inner) { inner.disarm(); }
  static bool inner_has_work(const RxQueue& inner);
  static bool inner_has_work(const TxQueue& inner);
  static void reclaim_inner(TxQueue& inner) noexcept;

  void set_failed(Error error) noexcept;
  bool enter() noexcept;  // false: another thread is inside (told through status() in debug builds)
  void leave() noexcept;

  Slot* ring_ = nullptr;  // `mask_ + 1` slots, followed by the same ones again
  std::uint32_t mask_ = 0;
  bool swaps_ = false;
  bool packed_ = false;     // frames lie close together: nothing may be written behind their ends
  bool fragments_ = false;  // a frame of several slots has passed: count frames the slow way
  bool naps_ = false;       // arm() has set a deadline to look again at: the descriptor is not to be watched until then
  std::uint16_t headroom_ = 0;
  std::size_t capacity_ = 0;
  std::shared_ptr<Pool> pool_;
  std::size_t index_ = 0;
  std::string label_;
  CounterBlock counters_;

 private:
  friend class Poller;
  friend class Port;
  friend struct Forwarding;
  std::atomic<const Error*> failure_{nullptr};
  std::atomic<std::uint64_t> inside_{0};
};

class EFIO_EXPORT RxQueue : public Queue {
 public:
  // Up to n received slots: n whenever n are there, never part of a frame. A short count means that no more are here
  // now. Receiving never sends anything and never waits.
  RxBatch receive(std::size_t n) noexcept {
    std::size_t ready = tail_ - head_;
    if (ready < n || fragments_ || failed()) [[unlikely]] ready = receive_slowly(n);
    return {this, ring_ + (head_ & mask_), std::min(n, ready)};
  }

  // Everything that came has been finished, and nothing more will ever come (the end of a file): an empty receive() is
  // final. The poller then reports the queue as ready. Any thread.
  bool exhausted() const noexcept { return exhausted_.load(std::memory_order_acquire); }

  RxStats stats() const noexcept { return rx_stats(counters_.snapshot()); }

  // A fresh reading of the kernel's drop counters, where there are any. The owner's call; otherwise they are read
  // whenever the queue runs empty, at drain() and at close.
  virtual void sample() noexcept {}

 protected:
  // Looks for more and admits what it finds behind tail_: at least `want` slots if they are there.
  virtual void refill(std::size_t want) noexcept = 0;
  // The peer sleeps for want of room; called after slots were given back.
  virtual void wake_peer() noexcept {}

  Slot& slot_at(std::uint32_t position) const noexcept { return ring_[position & mask_]; }
  std::size_t vacant() const noexcept { return ring_size() - (tail_ - head_); }
  // Slots [tail_, tail_ + slots) are filled: whole frames. They count as received, or as made.
  void admit(std::uint32_t slots, std::uint64_t frames, std::uint64_t made = 0) noexcept;
  // Frames that reached the queue and were lost before they could be lent. The caller is between begin() and end().
  void count_lost(DropReason reason, std::uint64_t n) noexcept {
    counters_.add_in(n);
    counters_.add_dropped(reason, n);
  }
  void count_lost_now(DropReason reason, std::uint64_t n) noexcept {
    counters_.begin();
    count_lost(reason, n);
    counters_.end();
  }
  std::uint64_t waiting_frames() const noexcept;
  // So many frames are known to wait where refill() has not looked yet (the kernel has counted them): they count as
  // received and as waiting from now on, and no second time when they are admitted. Between begin() and end().
  void set_backlog(std::uint64_t frames) noexcept;
  // Frames leave that place, by admit() or lost there: how many of them were not yet counted as received.
  std::uint64_t leave_backlog(std::uint64_t frames) noexcept {
    const auto known = std::min(frames, backlog_);
    backlog_ -= known;
    return frames - known;
  }
  std::uint64_t all_waiting() const noexcept {
    return fragments_ || marked_ != 0 ? waiting_frames() : tail_ - head_ + backlog_;
  }
  // At close, where what was not finished is lost: it counts as dropped (closed).
  void abandon() noexcept;
  // At close, where what was not finished stays for the next opening: finishes what was moved or dropped in between.
  void finish_marked() noexcept;

  std::uint32_t head_ = 0;  // oldest slot not finished
  std::uint32_t tail_ = 0;  // behind the newest slot
  std::uint32_t marked_ = 0;   // slots in between that are moved or dropped
  std::uint32_t given_up_ = 0; // frames in between that are dropped, already counted
  std::uint64_t backlog_ = 0;  // frames known to wait before the ring, or kept back (sim:)
  std::shared_ptr<Pool> spares_;  // what take() copies into where frames are not the pool's; reserve(0) fills it at open
  std::atomic<std::uint32_t>* published_head_ = &no_one_reads_;        // where a peer looks for head_
  const std::atomic<std::uint32_t>* peer_waits_ = &no_one_waits_;      // not 0: call wake_peer()
  std::atomic<bool> exhausted_{false};  // set once, when nothing is left in the queue

 private:
  friend class Queue;
  friend class RxBatch;
  friend class Poller;
  friend class Port;
  friend struct Forwarding;

  std::size_t receive_slowly(std::size_t n) noexcept;
  std::size_t finish_slowly(std::size_t n) noexcept;
  std::size_t finish(std::size_t n) noexcept {
    const SlotSum sum = summarize(ring_ + (head_ & mask_), n);
    if ((sum.flags & Slot::marks) != 0) [[unlikely]] return finish_slowly(n);
    retire(static_cast<std::uint32_t>(n), n, sum.bytes);
    return n;
  }
  void retire(std::uint32_t slots, std::uint64_t delivered, std::uint64_t bytes) noexcept {
    head_ += slots;
    published_head_->store(head_, std::memory_order_release);
    counters_.begin();
    counters_.add_out(delivered);
    counters_.add_bytes(bytes);
    counters_.set_queued(all_waiting());
    counters_.end();
    std::atomic_signal_fence(std::memory_order_seq_cst);  // the other half is the sleeper's membarrier
    if (peer_waits_->load(std::memory_order_relaxed) != 0) [[unlikely]] wake_peer();
  }

  std::atomic<std::uint32_t> no_one_reads_{0};
  static const std::atomic<std::uint32_t> no_one_waits_;
};

class EFIO_EXPORT TxQueue : public Queue {
 public:
  // Up to n free slots: n whenever n are free. A short count means that the ring is full, nothing else. Claiming never
  // sends and never touches what was received.
  TxBatch claim(std::size_t n) noexcept {
    std::size_t free = limit_ - tail_;
    if (free < n || failed()) [[unlikely]] free = claim_slowly(n);
    n = std::min(n, free);
    Slot* first = ring_ + (tail_ & mask_);
    if (n > 0) refresh(first, n, Clock::now());
    return {this, first, n};
  }

  // Hands every committed slot to the device, also when the ring is not full; the only call that sends. Returns the
  // frames that the device took now. What it does not take stays pending: flush again, or drain().
  std::size_t flush() noexcept { return tail_ == flushed_ && held_ == 0 ? 0 : transmit_checked(); }

  // Flushes, and waits until nothing is pending. False when the time is up or the queue has failed.
  bool drain(std::chrono::nanoseconds timeout) noexcept;

  // Copies one frame into a claimed slot and commits it. False if the ring is full or the frame longer than a slot.
  bool send(std::span<const std::byte> frame) noexcept;

  // Commits a frame that the caller owns: swapped where the pools are the same, else copied. False, and the frame stays
  // with the caller, if the ring is full or the frame does not fit.
  bool put(Frame& frame) noexcept;

  // Frames given up here, for want of room for instance: counted as offered and as dropped under the reason.
  void drop(std::size_t frames, DropReason reason) noexcept;

  TxStats stats() const noexcept { return tx_stats(counters_.snapshot()); }

 protected:
  // Hands [flushed_, tail_) to the device: advances flushed_, and settle()s what thereby counts as sent.
  virtual void transmit() noexcept = 0;
  // Looks for slots that came back from the device: advances limit_.
  virtual void reclaim() noexcept = 0;

  Slot& slot_at(std::uint32_t position) const noexcept { return ring_[position & mask_]; }
  // The next `slots` unsettled slots were sent: `frames` of them whole frames, `bytes` long.
  void settle(std::uint32_t slots, std::uint64_t frames, std::uint64_t bytes) noexcept;
  // The next `slots` unsettled slots, one frame, were not.
  void settle_dropped(std::uint32_t slots, DropReason reason) noexcept;
  std::uint64_t pending_frames() const noexcept;
  std::uint64_t all_pending() const noexcept { return (fragments_ ? pending_frames() : tail_ - settled_) + held_; }
  // At close: what is still pending counts as dropped (closed).
  virtual void abandon() noexcept;
  static void refresh_slot(Slot& slot, std::uint16_t headroom, std::uint64_t now) noexcept {
    // One store of what would be four.
    const std::uint64_t fresh[2] = {Slot::head(0, headroom, static_cast<std::uint16_t>(TimeSource::clock)), now};
    __builtin_memcpy(reinterpret_cast<std::byte*>(&slot) + Slot::head_at, fresh, sizeof fresh);
  }

  std::uint32_t tail_ = 0;     // behind the newest committed slot
  std::uint32_t flushed_ = 0;  // behind the newest slot that the device has been given
  std::uint32_t settled_ = 0;  // behind the newest slot whose fate is known
  std::uint32_t limit_ = 0;    // slots before it may be claimed
  std::uint64_t held_ = 0;     // frames that are pending outside of the ring (sim:)
  bool splits_ = false;        // sends frames of several slots: copy what is longer than one into as many as it takes
  std::uint64_t unsent_frames_ = 0, unsent_bytes_ = 0;  // of [flushed_, tail_), for engines that take all at once

 private:
  friend class Queue;
  friend class TxBatch;
  friend class Poller;
  friend class Port;
  friend struct Forwarding;

  void refresh(Slot* slots, std::size_t n, std::uint64_t now) const noexcept {
    for (std::size_t i = 0; i < n; ++i) refresh_slot(slots[i], headroom_, now);
  }
  std::size_t claim_slowly(std::size_t n) noexcept;
  std::size_t commit_slowly(std::size_t n, bool made) noexcept;
  std::size_t commit(std::size_t n, bool made = false) noexcept {
    const SlotSum sum = summarize(ring_ + (tail_ & mask_), n);
    if ((sum.flags & Slot::marks) != 0) [[unlikely]] return commit_slowly(n, made);
    queue_up(static_cast<std::uint32_t>(n), n, sum.bytes, made);
    return n;
  }
  void queue_up(std::uint32_t slots, std::uint64_t frames, std::uint64_t bytes, bool made) noexcept {
    tail_ += slots;
    unsent_frames_ += frames;
    unsent_bytes_ += bytes;
    counters_.begin();
    if (made) [[unlikely]] counters_.add_made(frames);
    else counters_.add_in(frames);
    counters_.set_queued(all_pending());
    counters_.end();
  }
  std::size_t transmit_checked() noexcept;
};

inline bool Queue::inner_has_work(const RxQueue& inner) {
  return inner.failed() || inner.exhausted() || inner.tail_ != inner.head_ || static_cast<const Queue&>(inner).has_work();
}

inline bool Queue::inner_has_work(const TxQueue& inner) {
  return inner.failed() || inner.limit_ != inner.tail_ || static_cast<const Queue&>(inner).has_work();
}

inline void TxBatch::prefetch() const noexcept {
  constexpr std::size_t slots_a_line = 64 / sizeof(Slot);
  for (std::size_t i = 0; i < size_; i += slots_a_line) prefetch_for_writing(first_ + size_ + i);
  for (std::size_t i = 0; i < size_; ++i) prefetch_for_writing(first_[i].buffer + first_[i].offset);
}

inline void RxBatch::prefetch() const noexcept {
  for (std::size_t i = 0; i < size_; ++i) prefetch_for_reading(first_[i].buffer + first_[i].offset);
}

inline void Queue::reclaim_inner(TxQueue& inner) noexcept {
  if (inner.failed() || !inner.enter()) return;
  inner.reclaim();
  inner.leave();
}

// --- what runs per packet ---

inline SlotSum summarize(const Slot* slots, std::size_t n) noexcept {
  // Length, offset and flags of a slot as one number; two sums, so that neither waits for the other.
  const auto head = [slots](std::size_t i) {
    std::uint64_t value;
    __builtin_memcpy(&value, reinterpret_cast<const std::byte*>(slots + i) + Slot::head_at, sizeof value);
    return value;
  };
  constexpr std::size_t most = 8192;  // of the longest frames: their lengths fill 32 bits
  if (n > most) [[unlikely]] {
    const SlotSum front = summarize(slots, most), back = summarize(slots + most, n - most);
    return {front.bytes + back.bytes, static_cast<std::uint16_t>(front.flags | back.flags)};
  }
  std::uint64_t sum[2] = {}, any[2] = {};
  std::size_t i = 0;
  for (; i + 2 <= n; i += 2) {
    const std::uint64_t first = head(i), second = head(i + 1);
    sum[0] += first, sum[1] += second;
    any[0] |= first, any[1] |= second;
  }
  if (i < n) sum[0] += head(i), any[0] |= head(i);
  if constexpr (std::endian::native == std::endian::little)
    return {(sum[0] + sum[1]) & UINT32_MAX, static_cast<std::uint16_t>((any[0] | any[1]) >> 48)};
  else
    return {(sum[0] + sum[1]) >> 32, static_cast<std::uint16_t>(any[0] | any[1])};
}

inline bool RxBatch::is_lent() const noexcept {
  // By position: a batch that lies across the wrap goes on in the ring's second mapping.
  const auto position = static_cast<std::uint32_t>(first_ - queue_->ring_);
  return ((position ^ queue_->head_) & queue_->mask_) == 0 && size_ <= queue_->tail_ - queue_->head_;
}

inline bool TxBatch::is_lent() const noexcept {
  const auto position = static_cast<std::uint32_t>(first_ - queue_->ring_);
  return ((position ^ queue_->tail_) & queue_->mask_) == 0 && size_ <= queue_->limit_ - queue_->tail_;
}

inline std::size_t RxBatch::finish(std::size_t n) noexcept {
  n = std::min(n, size_);
  if (n == 0 || !is_lent()) return 0;
  n = queue_->finish(n);
  first_ += n;
  size_ -= n;
  return n;
}

inline std::size_t TxBatch::commit(std::size_t n) noexcept {
  n = std::min(n, size_);
  if (n == 0 || !is_lent()) return 0;
  n = queue_->commit(n);
  first_ += n;
  size_ -= n;
  return n;
}

inline std::size_t TxBatch::commit_made(std::size_t n) noexcept {
  n = std::min(n, size_);
  if (n == 0 || !is_lent()) return 0;
  n = queue_->commit(n, true);
  first_ += n;
  size_ -= n;
  return n;
}

inline std::span<std::byte> TxBatch::space(std::size_t i) const noexcept {
  const Slot& slot = first_[i];
  return {slot.buffer + slot.offset, queue_->headroom() + queue_->capacity() - slot.offset};
}

}  // namespace efio
