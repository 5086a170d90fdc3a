// Receiving. The kernel fills a ring only during RXSYNC (or poll), and stamps it with the time; what it has put in stands
// in [head, tail). We lend those slots' buffers by number, and give each slot back with the buffer that lies in ours by
// then, in order: head moves over what is finished, cur over what has been read, so that poll() wakes for news only.
//
// Trouble: a peer on a pipe or a veth pair writes slots too, and the kernel copies them as they are. A slot with a bad
// number or length keeps its buffer and is passed over.
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "efio/engines/netmap.h"
#include "efio/fail.h"

namespace efio::netmap {

namespace {

constexpr std::size_t slots_at_least = 64;  // a call of refill() is worth so many
constexpr std::uint64_t look_interval_ns = 5'000'000;
constexpr std::uint64_t stale_reading_ns = 1'000'000;

// Frames' data lie at their buffers' beginning.
void to_buffer_start(Slot& slot) noexcept {
  if (slot.offset == 0) return;
  std::memmove(slot.buffer, slot.buffer + slot.offset, slot.length);
  slot.offset = 0;
}

}  // namespace

// --- losses ---

bool Losses::all_acknowledged() const noexcept {
  const auto epoch = epoch_.load(std::memory_order_relaxed);
  return std::ranges::all_of(acknowledged_, [&](const auto& a) { return a.load(std::memory_order_acquire) == epoch; });
}

void Losses::begin() noexcept {
  const std::scoped_lock lock(mutex_);
  const auto now = Clock::monotonic();
  if (epoch_ != 0 && !all_acknowledged() && now - begun_at_ < stale_reading_ns) return;
  begun_at_ = now;
  received_ = nic_.received();
  epoch_.fetch_add(1, std::memory_order_release);
}

std::uint64_t Losses::end() noexcept {
  const std::scoped_lock lock(mutex_);
  if (!all_acknowledged()) return 0;
  std::uint64_t found = seen_.load(std::memory_order_relaxed);
  for (const auto& waiting : waiting_) found += waiting.load(std::memory_order_relaxed);
  const auto counted = received_ - base_;
  if (received_ < base_ || counted <= found + told_) return 0;
  const auto lost = counted - found - told_;
  told_ += lost;
  return lost;
}

// --- the queue ---

Result<std::unique_ptr<NetmapRx>> NetmapRx::create(const Setup& setup, Binding binding, std::unique_ptr<PassDown> down,
                                                   bool pass) {
  auto queue = std::make_unique<NetmapRx>();
  queue->bound_ = std::move(binding);
  queue->nm_ = queue->bound_.ring;
  auto slots = SlotRing::create(std::bit_floor(std::size_t{queue->nm_.size()} - 1));
  if (!slots) return std::unexpected(slots.error());
  queue->slots_ = std::move(*slots);
  queue->ring_ = queue->slots_.data();
  queue->mask_ = queue->slots_.mask();
  queue->region_ = setup.region;
  queue->pool_ = setup.pool;
  queue->nic_ = setup.nic;
  queue->losses_ = setup.losses;
  queue->keeps_ = setup.keeps;
  queue->down_ = std::move(down);
  queue->pass_ = pass;
  queue->swaps_ = true;
  queue->capacity_ = setup.pool->frame_size();
  queue->label_ = queue->bound_.label;
  queue->index_ = queue->bound_.index;
  queue->kept_.resize(queue->nm_.size());
  if (auto ok = queue->waiter_.create(setup.attempted); !ok) return std::unexpected(ok.error());
  return queue;
}

Result<void> NetmapRx::start() {
  nm_.set_flags(ring_timestamp | (pass_ ? ring_forward : 0U));
  if (may_sync()) sync();
  const auto head = nm_.head();
  if (failed()) return status();
  if (head >= nm_.size() || nm_.tail() >= nm_.size())
    return fail(Error::Kind::device, "open " + label_, "its ring is damaged")
        .hint("close every program that has the port open, and try again");
  first_loaned_ = next_ = head;
  nm_.set(head, head);
  return {};
}

bool NetmapRx::may_sync() noexcept {
  bool gone = false;
  const bool may = may_enter(nic_.get(), gone);
  if (gone && !has_work()) set_failed(nic_->gone_error(label_));
  return may && !failed();
}

bool NetmapRx::sync() noexcept {
  const Descriptor& all = down_ ? down_->descriptor : bound_.descriptor;
  if (all.sync(rxsync_request) != 0) {
    const int error = errno;
    if (error != EINTR && error != EAGAIN && !has_work()) set_failed(sync_error(label_, error));
    return false;
  }
  if (down_) all.sync(txsync_request);  // what was passed down lies in the NIC's rings now
  if (losses_ && nm_.distance(first_loaned_, nm_.tail()) != nm_.size() - 1)
    losses_->acknowledge(index_, nm_.distance(next_, nm_.tail()));
  return true;
}

void NetmapRx::skip_kept() noexcept {
  while (first_loaned_ != next_ && kept_[first_loaned_] != 0) {
    kept_[first_loaned_] = 0;
    first_loaned_ = nm_.next(first_loaned_);
  }
}

// How many frames the NIC's rings can take that pass down from the host: what does not fit the kernel would drop.
std::uint32_t NetmapRx::room_below() noexcept {
  std::uint32_t room = 0;
  for (const auto& ring : down_->to) room += ring.distance(ring.head(), ring.tail());
  return room;
}

// Finished slots go back, each with the buffer that lies in it now. Where frames pass, those do that were neither given
// up nor have left: the kernel carries them to the other side at the next sync.
void NetmapRx::give_back() noexcept {
  std::uint32_t room = down_ ? room_below() : UINT32_MAX;
  if (down_ && room < head_ - released_ && may_sync() && down_->descriptor.sync(txsync_request) == 0) room = room_below();
  bool part_of_frame = false;
  for (; released_ != head_ && room > 0; ++released_) {
    skip_kept();
    Slot& from = slot_at(released_);
    RingSlot& to = nm_.slot(first_loaned_);
    const bool own = to.buffer == from.frame;
    const bool in_pieces = std::exchange(part_of_frame, (to.flags & more_fragments) != 0) || part_of_frame;
    std::uint16_t flags = own ? 0 : buffer_changed;
    if (pass_ && own && !in_pieces && !from.has(Slot::spent)) {
      to_buffer_start(from);
      to.length = static_cast<std::uint16_t>(from.length);
      flags |= forward;
      if (down_) --room;
    }
    to.buffer = static_cast<std::uint32_t>(from.frame);
    to.flags = flags;
    first_loaned_ = nm_.next(first_loaned_);
  }
  skip_kept();
  nm_.set(first_loaned_, next_);
}

// Slots of the frame at next_, 0 while its end has not come. `good`: it can be lent.
std::uint32_t NetmapRx::frame_slots(std::uint32_t tail, bool& good) const noexcept {
  std::uint32_t slots = 0;
  good = true;
  for (auto i = next_; i != tail; i = nm_.next(i)) {
    const RingSlot& slot = nm_.slot(i);
    good = good && slots < most_fragments && region_->is_buffer(slot.buffer) && slot.length > 0 && slot.length <= capacity_;
    ++slots;
    if ((slot.flags & more_fragments) == 0) return slots;
  }
  return 0;
}

std::uint32_t NetmapRx::take(std::size_t want) noexcept {
  const auto tail = nm_.tail();
  if (tail >= nm_.size() || tail == next_) return 0;
  const Ring& ring = nm_.ring();
  const bool stamped = ring.seconds > 0;
  const auto time = stamped ? static_cast<std::uint64_t>(ring.seconds) * 1'000'000'000 +
                                  static_cast<std::uint64_t>(ring.microseconds) * 1'000
                            : Clock::now();
  const auto source = static_cast<std::uint16_t>(stamped ? TimeSource::kernel : TimeSource::clock);
  const auto most = room();
  const auto goal = std::min(most, std::max(want, slots_at_least));
  std::uint32_t filled = 0;
  std::uint64_t frames = 0, invalid = 0;
  while (filled < goal) {
    bool good = true;
    const auto slots = frame_slots(tail, good);
    if (slots == 0 || (good && filled + slots > most)) break;
    for (std::uint32_t i = 0; i < slots; ++i, next_ = nm_.next(next_)) {
      const RingSlot& from = nm_.slot(next_);
      if (!good) {
        kept_[next_] = 1;
        continue;
      }
      Slot& to = slot_at(tail_ + filled++);
      to.buffer = pool_->address(from.buffer);
      to.length = from.length;
      to.offset = 0;
      to.flags = i + 1 < slots ? static_cast<std::uint16_t>(source | Slot::more) : source;
      to.time = time;
      to.frame = from.buffer;
    }
    (good ? frames : invalid) += 1;
  }
  if (losses_) losses_->add_seen(frames + invalid);
  if (filled > 0) admit(filled, frames);
  if (invalid > 0) count_lost_now(DropReason::peer_invalid, invalid);
  return filled;
}

void NetmapRx::refill(std::size_t want) noexcept {
  if (!nm_) return;
  give_back();
  const auto found = take(want);
  if (found >= want || room() == 0 || !may_sync() || !sync()) return;
  if (found + take(want - found) == 0) look_around();
}

void NetmapRx::look_around() noexcept {
  const auto now = Clock::monotonic();
  if (now < look_again_) return;
  look_again_ = now + look_interval_ns;
  sample();
}

void NetmapRx::sample() noexcept {
  if (!nm_ || !losses_ || failed()) return;
  losses_->begin();
  give_back();
  if (may_sync()) sync();
  const auto lost = losses_->end();
  counters_.begin();
  if (lost > 0) count_lost(DropReason::kernel_full, lost);
  counters_.set_sampled_at(Clock::now());
  counters_.end();
}

Queue::WaitSource NetmapRx::wait_source() { return {waiter_.fd(), EPOLLIN, false}; }

bool NetmapRx::arm(std::uint64_t& deadline) {
  if (!nm_) return true;
  give_back();
  if (has_work()) return true;
  if (!may_sync()) {
    deadline = std::min(deadline, Clock::monotonic() + down_interval_ns);
    return failed();
  }
  if (!sync() || has_work()) return has_work() || failed();
  deadline = std::min(deadline, Clock::monotonic() + longest_sleep_ns);
  waiter_.watch(bound_.descriptor, EPOLLIN);
  return false;
}

void NetmapRx::close() {
  if (!nm_) return;
  sample();
  finish_marked();
  give_back();
  // Unfinished frames go back as they came.
  for (auto index = first_loaned_; released_ != tail_; ++released_, index = nm_.next(index)) {
    while (kept_[index] != 0) index = nm_.next(index);
    Slot& from = slot_at(released_);
    RingSlot& to = nm_.slot(index);
    to_buffer_start(from);
    const int changed = to.buffer != from.frame ? buffer_changed : 0;
    to.buffer = static_cast<std::uint32_t>(from.frame);
    to.length = static_cast<std::uint16_t>(from.length);
    to.flags = static_cast<std::uint16_t>(changed | (from.has(Slot::more) ? more_fragments : 0));
  }
  nm_.set(first_loaned_, first_loaned_);
  if (!failed() && may_sync()) bound_.descriptor.sync(rxsync_request);
  if (!keeps_) {
    std::uint64_t left = 0;
    const auto tail = nm_.tail();
    for (auto i = next_; i != tail && tail < nm_.size(); i = nm_.next(i)) left += (nm_.slot(i).flags & more_fragments) == 0;
    if (left > 0) count_lost_now(DropReason::closed, left);
    abandon();
  }
  nm_ = {};
  waiter_.close();
  down_.reset();
  bound_ = {};
}

}  // namespace efio::netmap
