// Sending. What is put into the ring before head leaves with TXSYNC, and head is written at flush only. The kernel moves
// tail as slots come back.
//
// TXSYNC answers 0 also when it did nothing, because another thread was in the ring or the link was about to change. So
// the newest slot is marked buffer_changed, a mark that every kind of port takes off as it takes the slot: until it is
// gone, or tail has passed, TXSYNC is called again.
//
// The far end of a pipe, or of a veth pair in native mode, lets tail move only when it receives. There a frame is sent when
// the kernel has taken it, since it stays readable for the peer whatever becomes of us. Elsewhere it is sent when tail has
// passed it.
//
// A ring keeps what an earlier user wrote into it and did not sync, and the next TXSYNC of anyone sends that. A head that
// is no index makes the kernel reset the ring to what it knows.
#include <sched.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "efio/engines/netmap.h"
#include "efio/fail.h"

namespace efio::netmap {

namespace {

constexpr int most_tries = 16;  // of one sync
constexpr std::size_t shortest = 14;
constexpr std::size_t addresses = 12, vlan_tag = 4;

}  // namespace

bool may_enter(Nic* nic, bool& gone) noexcept {
  if (nic == nullptr) return true;
  nic->check();
  gone = nic->gone();
  return nic->up() && !gone;
}

Error sync_error(const std::string& label, int error) {
  return fail(error, "use {}", label)
      .hint("{}", error == EIO || error == ENXIO ? "its device was deleted, or its driver removed: open it again when it is back"
                                                 : "`dmesg` may say more")
      .error();
}

Result<void> Waiter::create(const std::string& attempted) {
  epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return fail(errno, "{}: make an epoll instance", attempted);
  return {};
}

Result<std::unique_ptr<NetmapTx>> NetmapTx::create(const Setup& setup, Binding binding) {
  auto queue = std::make_unique<NetmapTx>();
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
  queue->longest_ = setup.longest;
  queue->tags_ = setup.tags;
  queue->fragments_allowed_ = setup.fragments;
  queue->published_ = setup.published;
  queue->swaps_ = true;
  queue->capacity_ = setup.pool->frame_size();
  queue->label_ = queue->bound_.label;
  queue->index_ = queue->bound_.index;
  queue->fate_.resize(queue->slots_.size());
  if (auto ok = queue->waiter_.create(setup.attempted); !ok) return std::unexpected(ok.error());
  return queue;
}

Result<void> NetmapTx::start() {
  nm_.set_flags(0);
  const bool clean = clean_ring();
  if (failed()) return status();
  if (!clean)
    return fail(Error::Kind::device, "open " + label_, "its ring is in use or damaged")
        .hint("close every program that sends on the port, and try again");
  first_loaned_ = behind_loaned_ = last_ = nm_.head();
  nm_.set(first_loaned_, first_loaned_);
  if (auto ok = fill_ring(); !ok) return ok;
  under_way_ = foreign_ = in_flight();
  const auto free = nm_.size() - 1 - under_way_;
  const auto size = static_cast<std::uint32_t>(ring_size());
  missing_ = size - std::min(size, free);
  for (; limit_ != size - missing_; ++limit_)
    if (!load(limit_)) return status();
  return {};
}

// A veth pair in native mode whose ends were opened one direction at a time may have got a ring without buffers.
Result<void> NetmapTx::fill_ring() {
  std::vector<std::uint32_t> empty;
  const auto tail = nm_.tail();
  for (auto i = first_loaned_; i != tail; i = nm_.next(i))
    if (!region_->is_buffer(nm_.slot(i).buffer)) empty.push_back(i);
  if (empty.empty()) return {};
  auto spares = pool_->reserve(empty.size());
  if (!spares)
    return fail(Error::Kind::memory, "open " + label_, "{} slots of its ring have no buffer, and there are not so many spare ones", empty.size())
        .hint("more spares=, or open both directions of both ends");
  for (std::size_t i = 0; i < empty.size(); ++i) {
    nm_.slot(empty[i]).buffer = static_cast<std::uint32_t>((*spares)[i]);
    nm_.slot(empty[i]).flags = buffer_changed;
  }
  return {};
}

// Brings head back to what the kernel has taken, unless the ring is as new.
bool NetmapTx::clean_ring() noexcept {
  const auto size = nm_.size();
  if (nm_.head() != 0 || nm_.tail() != size - 1) {
    nm_.set(size, size);
    for (int i = 0; i < most_tries && nm_.head() >= size && may_sync(); ++i) {
      if (bound_.descriptor.sync(txsync_request) != 0 && errno != EINTR) set_failed(sync_error(label_, errno));
      if (nm_.head() >= size) ::sched_yield();
    }
    if (nm_.head() >= size || failed()) return false;
    nm_.set(nm_.head(), nm_.head());
    bound_.descriptor.sync(txsync_request);  // tail as of now
  }
  return nm_.tail() < size;
}

bool NetmapTx::may_sync() noexcept {
  bool gone = false;
  const bool may = may_enter(nic_.get(), gone);
  if (gone) set_failed(nic_->gone_error(label_));
  return may && !failed();
}

// Gives the slot at `position` the buffer of the next free slot of the ring.
bool NetmapTx::load(std::uint32_t position) noexcept {
  const auto buffer = nm_.slot(behind_loaned_).buffer;
  if (!region_->is_buffer(buffer)) {
    set_failed(fail(Error::Kind::data, "use " + label_, "slot {} of its ring names buffer {}, which does not exist", behind_loaned_, buffer)
                   .hint("another user of the ring has damaged it: close all of them")
                   .error());
    return false;
  }
  Slot& slot = slot_at(position);
  slot = {pool_->address(buffer), 0, 0, 0, 0, buffer};
  behind_loaned_ = nm_.next(behind_loaned_);
  return true;
}

// Slots of the next frame.
std::uint32_t NetmapTx::frame_slots() const noexcept {
  std::uint32_t slots = 1;
  while (slot_at(flushed_ + slots - 1).has(Slot::more)) ++slots;
  return slots;
}

// How long a frame that begins like this may be.
std::size_t NetmapTx::allowed(const Slot& first) const noexcept {
  std::size_t most = longest_;
  const std::byte* type = first.buffer + first.offset + addresses;
  for (std::size_t at = addresses; tags_ && at < addresses + 2 * vlan_tag && at + 2 <= first.length; at += vlan_tag, type += vlan_tag) {
    const auto value = std::to_integer<unsigned>(type[0]) << 8 | std::to_integer<unsigned>(type[1]);
    if (value != 0x8100 && value != 0x88a8) break;
    most += vlan_tag;
  }
  return most;
}

void NetmapTx::put_in_ring(std::uint32_t position, bool more) noexcept {
  Slot& from = slot_at(position);
  if (from.offset != 0) std::memmove(from.buffer, from.buffer + from.offset, from.length);
  RingSlot& to = nm_.slot(first_loaned_);
  const int changed = to.buffer != from.frame ? buffer_changed : 0;
  to.buffer = static_cast<std::uint32_t>(from.frame);
  to.length = static_cast<std::uint16_t>(from.length);
  to.flags = static_cast<std::uint16_t>(changed | (more ? more_fragments : 0));
  fate_[position & mask_] = {.in_ring = true, .dropped = false, .reason = {}};
  last_ = first_loaned_;
  first_loaned_ = nm_.next(first_loaned_);
  ++under_way_;
}

// Why the next frame cannot be sent, if so; and its length.
std::optional<DropReason> NetmapTx::judge(std::uint32_t slots, std::size_t& length) const noexcept {
  bool fits = true;
  for (std::uint32_t i = 0; i < slots; ++i) {
    const Slot& slot = slot_at(flushed_ + i);
    if (!region_->is_buffer(slot.frame)) return DropReason::invalid;
    length += slot.length;
    fits = fits && slot.offset + std::size_t{slot.length} <= capacity_;
  }
  if (length < shortest) return DropReason::undersize;
  if (!fits || length > allowed(slot_at(flushed_))) return DropReason::oversize;
  if (length > capacity_ && (!fragments_allowed_ || slots > most_fragments)) return DropReason::oversize;
  return std::nullopt;
}

// A frame of several slots that fits into one: emulated ports would send its parts as frames.
void NetmapTx::put_together(std::uint32_t slots, std::size_t length) noexcept {
  Slot& first = slot_at(flushed_);
  std::memmove(first.buffer, first.buffer + first.offset, first.length);
  first.offset = 0;
  std::byte* at = first.buffer + first.length;
  for (std::uint32_t i = 1; i < slots; ++i) {
    const Slot& slot = slot_at(flushed_ + i);
    std::memcpy(at, slot.buffer + slot.offset, slot.length);
    at += slot.length;
  }
  const auto own = std::exchange(first.length, static_cast<std::uint32_t>(length));
  put_in_ring(flushed_, false);
  first.length = own;  // as the frame is counted
}

// The next frame goes into the ring, or is dropped: then its slots keep their buffers.
void NetmapTx::hand_over(std::uint32_t slots) noexcept {
  for (std::uint32_t i = 0; i < slots; ++i) fate_[(flushed_ + i) & mask_] = {};
  std::size_t length = 0;
  if (const auto reason = judge(slots, length))
    fate_[(flushed_ + slots - 1) & mask_] = {.in_ring = false, .dropped = true, .reason = *reason};
  else if (slots == 1)
    put_in_ring(flushed_, false);
  else if (length <= capacity_)
    put_together(slots, length);
  else
    for (std::uint32_t i = 0; i < slots; ++i) put_in_ring(flushed_ + i, i + 1 < slots);
  flushed_ += slots;
}

void NetmapTx::transmit() noexcept {
  if (!nm_) return;
  const bool up = may_sync();
  if (failed()) return;
  const auto before = first_loaned_;
  while (flushed_ != tail_) {
    const auto slots = frame_slots();
    if (up) {
      hand_over(slots);
      continue;
    }
    for (std::uint32_t i = 0; i < slots; ++i) fate_[(flushed_ + i) & mask_] = {};
    flushed_ += slots;
    fate_[(flushed_ - 1) & mask_] = {.in_ring = false, .dropped = true, .reason = DropReason::link_down};
  }
  handed_ = flushed_;
  if (first_loaned_ != before) {
    nm_.slot(last_).flags |= buffer_changed;
    nm_.set(first_loaned_, first_loaned_);
    waits_for_kernel_ = true;
  }
  if (up) push();
  collect();
}

bool NetmapTx::taken_by_kernel() const noexcept {
  return (__atomic_load_n(&nm_.slot(last_).flags, __ATOMIC_ACQUIRE) & buffer_changed) == 0 || in_flight() == 0;
}

// Syncs until the kernel has taken what is in the ring.
void NetmapTx::push() noexcept {
  for (int i = 0; i < most_tries && waits_for_kernel_; ++i) {
    if (i > 0) ::sched_yield();
    if (bound_.descriptor.sync(txsync_request) != 0 && errno != EINTR && errno != EAGAIN) return set_failed(sync_error(label_, errno));
    waits_for_kernel_ = !taken_by_kernel();
  }
}

// Looks at tail: slots that came back get the buffers of as many free ones.
void NetmapTx::collect() noexcept {
  if (!waits_for_kernel_) taken_ = flushed_;
  if (published_) settle_until(taken_);
  const auto tail = nm_.tail();
  if (tail < nm_.size() && in_flight() < under_way_) {
    completed_ += under_way_ - in_flight();
    under_way_ = in_flight();
  }
  const auto strangers = std::min(foreign_, completed_);
  foreign_ -= strangers;
  completed_ -= strangers;
  const auto size = static_cast<std::uint32_t>(ring_size());
  for (auto came = strangers; came > 0 && missing_ > 0 && load(reclaimed_ + size - missing_); --came) --missing_;

  const auto end = published_ ? settled_ : flushed_;
  while (reclaimed_ != end && reclaim_frame(end)) {
  }
  limit_ = failed() ? tail_ : reclaimed_ + size - missing_;
}

// The oldest frame is done when all its slots in the ring have come back.
bool NetmapTx::reclaim_frame(std::uint32_t end) noexcept {
  std::uint32_t slots = 0, in_ring = 0;
  for (bool more = true; more; ++slots) {
    if (reclaimed_ + slots == end) return false;
    in_ring += fate_[(reclaimed_ + slots) & mask_].in_ring ? 1U : 0U;
    more = slot_at(reclaimed_ + slots).has(Slot::more);
  }
  if (completed_ < in_ring) return false;
  if (!published_) settle_until(reclaimed_ + slots);
  for (; slots > 0; --slots, ++reclaimed_) {
    const auto free = reclaimed_ + static_cast<std::uint32_t>(ring_size()) - missing_;
    if (!fate_[reclaimed_ & mask_].in_ring) {
      slot_at(free) = slot_at(reclaimed_);
      continue;
    }
    if (!load(free)) return false;
    --completed_;
  }
  return true;
}

// Settles the whole frames before `end`.
void NetmapTx::settle_until(std::uint32_t end) noexcept {
  std::uint32_t slots = 0, run = 0;
  std::uint64_t frames = 0, bytes = 0, frame_bytes = 0;
  const auto settle_run = [&] {
    if (run > 0) settle(run, frames, bytes);
    run = 0, frames = 0, bytes = 0;
  };
  for (auto position = settled_; position != end; ++position) {
    const Slot& slot = slot_at(position);
    ++slots;
    frame_bytes += slot.length;
    if (slot.has(Slot::more)) continue;
    const Fate& verdict = fate_[position & mask_];
    if (verdict.dropped) {
      settle_run();
      settle_dropped(slots, verdict.reason);
    } else {
      run += slots, ++frames, bytes += frame_bytes;
    }
    slots = 0, frame_bytes = 0;
  }
  settle_run();
}

void NetmapTx::reclaim() noexcept {
  if (!nm_) return;
  collect();
  if (failed() || under_way_ == 0 || !may_sync()) return;
  if (waits_for_kernel_) push();
  else if (bound_.descriptor.sync(txsync_request) != 0 && errno != EINTR && errno != EAGAIN) set_failed(sync_error(label_, errno));
  collect();
}

Queue::WaitSource NetmapTx::wait_source() { return {waiter_.fd(), EPOLLIN, false}; }

bool NetmapTx::arm(std::uint64_t& deadline) {
  if (!nm_) return true;
  reclaim();
  if (failed() || limit_ != tail_) return true;
  if (!may_sync()) {
    deadline = std::min(deadline, Clock::monotonic() + down_interval_ns);
    return failed();
  }
  // Ready is what has room beyond cur; for us that is one slot more than now.
  nm_.set(first_loaned_, nm_.tail());
  deadline = std::min(deadline, Clock::monotonic() + longest_sleep_ns);
  waiter_.watch(bound_.descriptor, EPOLLOUT);
  return false;
}

void NetmapTx::close() {
  if (!nm_) return;
  // The buffers of slots that are not in the ring go back into the run that they were loaned from.
  const auto size = static_cast<std::uint32_t>(ring_size());
  auto index = first_loaned_;
  for (auto position = reclaimed_; position != reclaimed_ + size - missing_ && index != behind_loaned_; ++position) {
    const bool handed_over = static_cast<std::int32_t>(position - handed_) < 0;
    if (handed_over && fate_[position & mask_].in_ring) continue;
    RingSlot& to = nm_.slot(index);
    to.flags = to.buffer != slot_at(position).frame ? buffer_changed : to.flags;
    to.buffer = static_cast<std::uint32_t>(slot_at(position).frame);
    index = nm_.next(index);
  }
  nm_.set(first_loaned_, first_loaned_);
  nm_ = {};
  waiter_.close();
  bound_ = {};
}

}  // namespace efio::netmap
