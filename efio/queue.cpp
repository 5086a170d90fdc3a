#include "efio/queue.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "efio/engines/engine.h"
#include "efio/fail.h"

namespace efio {

namespace {

std::uint32_t frames_in(const Slot* slots, std::size_t n) noexcept {
  std::uint32_t frames = 0;
  for (std::size_t i = 0; i < n; ++i) frames += slots[i].has(Slot::more) ? 0U : 1U;
  return frames;
}

// The longest prefix of whole frames.
std::size_t whole(const Slot* slots, std::size_t n) noexcept {
  while (n > 0 && slots[n - 1].has(Slot::more)) --n;
  return n;
}

}  // namespace

void copy_slot(const Slot& from, Slot& to) noexcept {
  std::memcpy(to.buffer + to.offset, from.buffer + from.offset, from.length);
  to.length = from.length;
  to.time = from.time;
  to.flags = static_cast<std::uint16_t>(from.flags & ~(Slot::metadata | Slot::marks | Slot::spent));
  if (from.has(Slot::metadata)) write_metadata(to, read_metadata(from));
}

// --- Queue ---

Queue::~Queue() { delete failure_.load(); }

Result<void> Queue::status() const {
  if (const Error* error = failure_.load(std::memory_order_acquire)) return std::unexpected(*error);
  return {};
}

void Queue::set_failed(Error error) noexcept {
  auto* first = new Error(std::move(error));
  const Error* none = nullptr;
  if (!failure_.compare_exchange_strong(none, first, std::memory_order_acq_rel)) delete first;
}

#ifdef EFIO_DEBUG
namespace {
std::uint64_t this_thread() noexcept {
  static thread_local const auto id = static_cast<std::uint64_t>(::syscall(SYS_gettid));
  return id;
}
}  // namespace

bool Queue::enter() noexcept {
  std::uint64_t nobody = 0;
  if (inside_.compare_exchange_strong(nobody, this_thread(), std::memory_order_acquire)) return true;
  set_failed(fail(Error::Kind::misuse, "use " + label_, "thread {} is inside while thread {} comes", nobody, this_thread())
                 .hint("one thread a queue at a time: open a queue for each")
                 .error());
  return false;
}
void Queue::leave() noexcept { inside_.store(0, std::memory_order_release); }
#else
bool Queue::enter() noexcept { return true; }
void Queue::leave() noexcept {}
#endif

// --- RxQueue ---

const std::atomic<std::uint32_t> RxQueue::no_one_waits_{0};

void RxQueue::admit(std::uint32_t slots, std::uint64_t frames, std::uint64_t made) noexcept {
  if (frames != slots) fragments_ = true;
  tail_ += slots;
  counters_.begin();
  counters_.add_in(leave_backlog(frames - made));
  if (made > 0) counters_.add_made(made);
  counters_.set_queued(all_waiting());
  counters_.end();
}

std::uint64_t RxQueue::waiting_frames() const noexcept {
  const std::size_t slots = tail_ - head_;
  return (fragments_ ? frames_in(ring_ + (head_ & mask_), slots) : slots) - given_up_ + backlog_;
}

void RxQueue::set_backlog(std::uint64_t frames) noexcept {
  counters_.add_in(frames - backlog_);  // modulo 2^64: it may shrink
  backlog_ = frames;
  counters_.set_queued(waiting_frames());
}

void RxQueue::abandon() noexcept {
  finish_marked();
  const auto left = waiting_frames();
  if (left == 0) return;
  head_ = tail_;
  backlog_ = 0;
  counters_.begin();
  counters_.add_dropped(DropReason::closed, left);
  counters_.set_queued(0);
  counters_.end();
}

void RxQueue::finish_marked() noexcept {
  if (marked_ == 0) return;
  Slot* const first = ring_ + (head_ & mask_);
  const auto last = std::stable_partition(first, first + (tail_ - head_),
                                          [](const Slot& slot) { return slot.has(Slot::moved | Slot::dropped); });
  finish_slowly(static_cast<std::size_t>(last - first));
}

std::size_t RxQueue::receive_slowly(std::size_t n) noexcept {
  n = std::min(n, ring_size());
  // What came before a failure is still lent.
  if (tail_ - head_ < n && !failed()) {
    if (!enter()) return 0;
    refill(n - (tail_ - head_));
    leave();
  }
  const std::size_t ready = std::min<std::size_t>(n, tail_ - head_);
  return fragments_ ? whole(ring_ + (head_ & mask_), ready) : ready;
}

std::size_t RxQueue::finish_slowly(std::size_t n) noexcept {
  Slot* first = ring_ + (head_ & mask_);
  n = whole(first, n);
  if (n == 0) return 0;
  std::uint64_t delivered = 0, bytes = 0, given_up = 0;
  std::uint32_t marked = 0;
  // Every slot a frame, as nearly always: without a branch, for which were dropped or have moved nobody can foresee.
  for (std::size_t i = 0; !fragments_ && i < n; ++i) {
    Slot& slot = first[i];
    const unsigned dropped = slot.has(Slot::dropped), gone = slot.has(Slot::dropped | Slot::moved);
    given_up += dropped;
    marked += gone;
    bytes += (dropped - 1) & slot.length;
    slot.flags = static_cast<std::uint16_t>((slot.flags & ~unsigned{Slot::marks}) | (gone * Slot::spent));
  }
  if (!fragments_) delivered = n - given_up;
  for (std::size_t i = 0; fragments_ && i < n; ++i) {
    Slot& slot = first[i];
    const bool last = !slot.has(Slot::more);
    if (slot.has(Slot::dropped)) {
      given_up += last ? 1 : 0;
      ++marked;
    } else {
      delivered += last ? 1 : 0;
      bytes += slot.length;
      marked += slot.has(Slot::moved) ? 1U : 0U;
    }
    const int spent = slot.has(Slot::dropped | Slot::moved) ? Slot::spent : 0;
    slot.flags = static_cast<std::uint16_t>((slot.flags & ~Slot::marks) | spent);
  }
  marked_ -= marked;
  given_up_ -= static_cast<std::uint32_t>(given_up);
  retire(static_cast<std::uint32_t>(n), delivered, bytes);
  return n;
}

void RxBatch::drop(std::size_t i, DropReason reason) noexcept {
  if (!is_frame_start(i) || !is_lent() || first_[i].has(Slot::dropped | Slot::moved)) return;
  for (std::size_t k = i; k < size_; ++k) {
    const bool last = !first_[k].has(Slot::more);
    first_[k].flags = static_cast<std::uint16_t>(first_[k].flags | Slot::dropped);
    ++queue_->marked_;
    if (last) break;
  }
  ++queue_->given_up_;
  auto& counters = queue_->counters_;
  counters.begin();
  counters.add_dropped(reason, 1);
  counters.set_queued(queue_->all_waiting());
  counters.end();
}

std::expected<Frame, DropReason> RxBatch::take(std::size_t i) noexcept {
  if (!is_frame_start(i) || !is_lent() || first_[i].has(Slot::dropped | Slot::moved | Slot::more))
    return std::unexpected(DropReason::refused);
  Slot& slot = first_[i];
  const auto& pool = queue_->swaps_ ? queue_->pool_ : queue_->spares_;
  if (!pool) return std::unexpected(DropReason::no_buffer);
  if (!queue_->swaps_ && slot.length + pool->headroom() > pool->frame_size()) return std::unexpected(DropReason::oversize);
  Frame frame = pool->acquire();
  if (!frame) return std::unexpected(DropReason::no_buffer);
  if (queue_->swaps_) std::swap(frame.slot_, slot);
  else copy_slot(slot, frame.slot_);
  slot.length = frame.slot_.length;  // what finish() counts
  slot.flags = Slot::moved;
  ++queue_->marked_;
  return frame;
}

// --- TxQueue ---

std::size_t TxQueue::claim_slowly(std::size_t n) noexcept {
  if (!failed()) {
    if (!enter()) return 0;
    if (limit_ - tail_ < std::min(n, ring_size())) reclaim();
    leave();
  }
  if (failed()) limit_ = tail_;
  return limit_ - tail_;
}

std::size_t TxQueue::commit_slowly(std::size_t n, bool made) noexcept {
  const Slot* first = ring_ + (tail_ & mask_);
  n = whole(first, n);
  if (n == 0) return 0;
  fragments_ = true;
  queue_up(static_cast<std::uint32_t>(n), frames_in(first, n), summarize(first, n).bytes, made);
  return n;
}

std::size_t TxQueue::transmit_checked() noexcept {
  if (failed() || !enter()) return 0;
  const auto before = counters_.out();
  transmit();
  leave();
  if (failed()) limit_ = tail_;  // nothing more to claim
  return counters_.out() - before;
}

bool TxQueue::drain(std::chrono::nanoseconds timeout) noexcept {
  const auto until = Clock::monotonic() + static_cast<std::uint64_t>(std::max<std::int64_t>(timeout.count(), 0));
  for (int round = 0;; ++round) {
    flush();
    if ((settled_ != tail_ || held_ != 0) && enter()) {
      reclaim();
      leave();
    }
    if (settled_ == tail_ && held_ == 0) return true;
    if (failed() || Clock::monotonic() >= until) return false;
    if (round > 10) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

bool TxQueue::send(std::span<const std::byte> frame) noexcept {
  if (frame.size() > capacity_) return false;
  auto batch = claim(1);
  if (batch.empty()) return false;
  std::memcpy(batch.space(0).data(), frame.data(), frame.size());
  batch[0].length = static_cast<std::uint32_t>(frame.size());
  return batch.commit() == 1;
}

bool TxQueue::put(Frame& frame) noexcept {
  const bool swap = swaps_ && frame.pool_ == pool_;
  if (!frame || (!swap && frame.slot_.length > capacity_)) return false;
  auto batch = claim(1);
  if (batch.empty()) return false;
  Slot& slot = batch[0];
  if (swap) std::swap(frame.slot_, slot);
  else copy_slot(frame.slot_, slot);
  batch.commit();
  frame = Frame();
  return true;
}

void TxQueue::drop(std::size_t frames, DropReason reason) noexcept {
  counters_.begin();
  counters_.add_in(frames);
  counters_.add_dropped(reason, frames);
  counters_.end();
}

void TxQueue::settle(std::uint32_t slots, std::uint64_t frames, std::uint64_t bytes) noexcept {
  settled_ += slots;
  counters_.begin();
  counters_.add_out(frames);
  counters_.add_bytes(bytes);
  counters_.set_queued(all_pending());
  counters_.end();
}

void TxQueue::settle_dropped(std::uint32_t slots, DropReason reason) noexcept {
  settled_ += slots;
  counters_.begin();
  counters_.add_dropped(reason, 1);
  counters_.set_queued(all_pending());
  counters_.end();
}

void TxQueue::abandon() noexcept {
  const auto left = pending_frames();
  if (left == 0) return;
  settled_ = flushed_ = tail_;
  limit_ = tail_;
  counters_.begin();
  counters_.add_dropped(DropReason::closed, left);
  counters_.set_queued(0);
  counters_.end();
}

std::uint64_t TxQueue::pending_frames() const noexcept { return frames_in(ring_ + (settled_ & mask_), tail_ - settled_); }

}  // namespace efio
