// Receiving through AF_XDP. The kernel takes a frame from the fill ring, receives into it, and puts a descriptor into the
// ring of received frames:
//
//   fill ring: frame, frame, …   →   kernel   →   ring of descriptors {address, length}   →   slots   →   fill ring
//
// The ring of slots is as large as the ring of descriptors, and a place in the kernel's is given back only when the slot
// of the same position is finished. So what is lent and what waits in the kernel together never exceed one ring; with
// `xdp_surplus` frames more than that the kernel never lacks one, and losses for want of room count as ring_full.
//
// No descriptor is there while the kernel holds a frame, so for each frame a byte says whether it does: at close those
// are what is still posted, and what the kernel keeps to itself after it had no place for a descriptor.
//
// A socket's wake-up is paid by the sender's processor where that runs the receive path (a veth pair, RPS): waking for
// each frame makes the sender a third slower. Hence under load arm() sleeps by the clock instead, for as long as a
// part of the ring takes to fill, and is woken by nobody.
#include <linux/net_tstamp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "efio/engines/xdp.h"
#include "efio/engines/xdp_broker.h"
#include "efio/fail.h"

namespace efio {

namespace {

constexpr int prefer_busy_poll = 69;  // SO_PREFER_BUSY_POLL, Linux 5.11
constexpr int busy_poll_budget = 70;  // SO_BUSY_POLL_BUDGET

constexpr std::uint32_t frames_at_least = 64;  // a call of refill() is worth so many
constexpr std::uint64_t look_interval_ns = 5'000'000;
constexpr std::uint64_t down_interval_ns = 50'000'000;  // between looks at a link that is down

// A pace of 160,000 frames a second, seen over 16 frames, is worth a nap.
constexpr std::uint32_t pace_frames = 16;
constexpr std::uint64_t pace_ns = 6'250;
constexpr std::uint64_t longest_nap_ns = 50'000, shortest_nap_ns = 10'000;
constexpr std::uint64_t pace_window_ns = 400'000;

Result<void> prefer_polling(int socket, const XdpSetup& setup) {
  const int on = 1, microseconds = static_cast<int>(setup.busy.count()), frames = static_cast<int>(setup.budget);
  if (::setsockopt(socket, SOL_SOCKET, prefer_busy_poll, &on, sizeof on) == 0 &&
      ::setsockopt(socket, SOL_SOCKET, SO_BUSY_POLL, &microseconds, sizeof microseconds) == 0 &&
      ::setsockopt(socket, SOL_SOCKET, busy_poll_budget, &frames, sizeof frames) == 0)
    return {};
  return fail(errno, "{}: busy polling (Linux 5.11, CAP_NET_ADMIN)", setup.attempted).hint("busy=0");
}

}  // namespace

Result<std::unique_ptr<XdpRx>> XdpRx::create(XdpSetup& setup, unsigned number, std::string label, std::size_t index) {
  auto queue = std::make_unique<XdpRx>();
  queue->link_ = setup.link;
  queue->label_ = std::move(label);
  queue->index_ = index;
  queue->pool_ = setup.pool;
  queue->swaps_ = true;
  queue->headroom_ = xdp_kernel_headroom;
  queue->capacity_ = setup.rx_capacity();
  queue->shift_ = static_cast<unsigned>(std::countr_zero(setup.pool->stride()));
  auto slots = SlotRing::create(setup.rx_slots);
  if (!slots) return std::unexpected(slots.error());
  queue->slots_ = std::move(*slots);
  queue->ring_ = queue->slots_.data();
  queue->mask_ = queue->slots_.mask();
  queue->lent_.resize(setup.pool->frames());

  auto socket = XdpSocket::open(setup.wish(number, Direction::rx));
  if (!socket) return std::unexpected(socket.error());
  queue->socket_ = std::move(*socket);
  if (setup.busy.count() > 0)
    if (auto ok = prefer_polling(queue->socket_.fd(), setup); !ok) return std::unexpected(ok.error());
  queue->broker_ = setup.broker;
  queue->hardware_time_ = setup.hardware_time;
  queue->drives_ = setup.busy.count() > 0 || queue->socket_.zero_copy();

  // What an earlier opening posted is still there.
  queue->filled_ = queue->socket_.frames().produced();
  for (const auto frame : queue->socket_.left()) queue->lent_[frame] = 1;
  queue->frames_ = queue->socket_.left().size();
  queue->socket_.left().clear();
  const auto wanted = setup.rx_slots + xdp_surplus;
  if (queue->frames_ < wanted) {
    auto frames = setup.stock.take(wanted - queue->frames_);
    if (!frames) return std::unexpected(frames.error());
    for (const auto frame : *frames) {
      queue->socket_.frames().at(queue->filled_++) = frame << queue->shift_;
      queue->lent_[frame] = 1;
    }
    queue->frames_ = wanted;
  }
  queue->socket_.frames().produce(queue->filled_);
  queue->pace_since_ = Clock::monotonic();
  return queue;
}

void XdpRx::give_back() noexcept {
  const std::uint32_t n = head_ - returned_;
  if (n == 0) return;
  const Slot* const slots = &slot_at(returned_);
  std::uint8_t* const lent = lent_.data();
  const auto shift = shift_;
  socket_.frames().visit(filled_, n, [=](std::uint64_t* fill, std::uint32_t count, std::uint32_t before) {
#pragma GCC unroll 4
    for (const Slot* slot = slots + before; slot != slots + before + count; ++slot) {
      const auto frame = slot->frame;
      *fill++ = frame << shift;
      lent[frame] = 1;
    }
  });
  filled_ += n;
  returned_ = head_;
  socket_.frames().produce(filled_);
  socket_.descriptors.consume(head_);
}

void XdpRx::refill(std::size_t want) noexcept {
  if (!socket_) return;
  give_back();
  const auto there = socket_.descriptors.produced() - tail_;
  if (there == 0) {
    ask_driver();
    look_around();
    return;
  }
  auto n = std::min(there, std::max(static_cast<std::uint32_t>(want), frames_at_least));
  // A frame's descriptors are published together.
  while (n < there && (socket_.descriptors.at(tail_ + n - 1).options & xdp_more) != 0) ++n;
  const auto now = Clock::now();
  const auto first = tail_;
  const auto shift = shift_;
  const std::uint64_t chunk_mask = (std::uint64_t{1} << shift) - 1;
  std::byte* const base = pool_->base();
  std::uint8_t* const lent = lent_.data();
  Slot* const slots = &slot_at(first);
  std::uint32_t options = 0;
  socket_.descriptors.visit(first, n, [&, now](const xdp_desc* descriptor, std::uint32_t count, std::uint32_t before) {
    Slot* const end = slots + before + count;
    std::uint32_t any = 0;
#pragma GCC unroll 4
    for (Slot* slot = slots + before; slot != end; ++slot, ++descriptor) {
      const std::uint64_t address = descriptor->addr;
      const std::uint64_t offset = address & chunk_mask, frame = address >> shift;
      any |= descriptor->options;
      slot->buffer = base + (address - offset);
      const auto head = Slot::head(descriptor->len, static_cast<std::uint16_t>(offset), static_cast<std::uint16_t>(TimeSource::clock));
      __builtin_memcpy(reinterpret_cast<std::byte*>(slot) + Slot::head_at, &head, sizeof head);
      slot->time = now;
      slot->frame = frame;
      lent[frame] = 0;
    }
    options |= any;
  });
  const auto continued = options == 0 ? 0 : mark_fragments(first, n);
  if (hardware_time_) read_times(first, n);
  const bool wraps = ((first ^ (first + n)) & ~mask_) != 0;
  admit(n, n - continued);
  if (wraps) look_around();
}

// A frame's time stands before its first slot; without one it keeps the clock's.
void XdpRx::read_times(std::uint32_t first, std::uint32_t n) noexcept {
  Slot* const slots = &slot_at(first);
  bool begins = true;
  for (std::uint32_t i = 0; i < n; ++i) {
    Slot& slot = slots[i];
    if (const auto time = begins ? xdp_hardware_time(slot.bytes().data()) : 0; time != 0) slot.stamp(time, TimeSource::hardware);
    begins = !slot.has(Slot::more);
  }
}

// Descriptors with options. Returns how many frames go on in the next slot.
std::uint32_t XdpRx::mark_fragments(std::uint32_t first, std::uint32_t n) noexcept {
  std::uint32_t continued = 0;
  for (auto position = first; position != first + n; ++position) {
    if ((socket_.descriptors.at(position).options & xdp_more) == 0) continue;
    Slot& slot = slot_at(position);
    slot.flags = static_cast<std::uint16_t>(slot.flags | Slot::more);
    ++continued;
  }
  return continued;
}

// A driver with zero-copy may wait to be told that there are frames; with busy polling its work is done here.
void XdpRx::ask_driver() noexcept {
  if (drives_ && (!socket_.zero_copy() || socket_.frames().needs_wakeup()))
    ::recvfrom(socket_.fd(), nullptr, 0, MSG_DONTWAIT, nullptr, nullptr);
}

void XdpRx::look_around() noexcept {
  const auto now = Clock::monotonic();
  if (now < look_again_) return;
  look_again_ = now + look_interval_ns;
  sample();
  watch_link();
}

// Losses since the last time. What had no frame to go into is told from what was too long by the count of the one; the
// kernel has a single number for both.
void XdpRx::sample() noexcept {
  if (!socket_) return;
  xdp_statistics now{};
  socklen_t size = sizeof now;
  if (::getsockopt(socket_.fd(), SOL_XDP, XDP_STATISTICS, &now, &size) != 0) return;
  const auto dropped = now.rx_dropped - seen_.rx_dropped;
  const auto without_frame = std::min(dropped, now.rx_fill_ring_empty_descs - seen_.rx_fill_ring_empty_descs);
  counters_.begin();
  count_lost(DropReason::ring_full, now.rx_ring_full - seen_.rx_ring_full);
  count_lost(DropReason::invalid, now.rx_invalid_descs - seen_.rx_invalid_descs);
  count_lost(DropReason::no_buffer, without_frame);
  count_lost(DropReason::oversize, dropped - without_frame);
  counters_.set_sampled_at(Clock::now());
  counters_.end();
  seen_ = now;
}

void XdpRx::watch_link() noexcept {
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(socket_.fd(), SOL_SOCKET, SO_ERROR, &error, &size);  // told once; until then epoll wakes for it
  link_->check();
  const bool deserted = broker_ && !broker_->alive();
  if (!link_->gone() && !deserted) return;
  sample();
  if (has_work()) return;
  if (link_->gone()) set_failed(link_->gone_error(label_));
  else
    set_failed(fail(Error::Kind::device, "receive from " + label_, "the broker that opened it has ended")
                   .hint("start efio-broker, and open it again")
                   .error());
}

Queue::WaitSource XdpRx::wait_source() { return {.fd = socket_.fd(), .events = EPOLLIN, .only_asleep = true}; }

bool XdpRx::has_work() const { return tail_ != head_ || (socket_ && socket_.descriptors.produced() != tail_); }

// How long to sleep by the clock, 0: until a frame comes.
std::uint64_t XdpRx::nap(std::uint64_t now) noexcept {
  const std::uint64_t frames = tail_ - pace_from_, span = now - pace_since_;
  if (frames < pace_frames && span < pace_window_ns) return 0;  // not yet known
  pace_from_ = tail_;
  pace_since_ = now;
  if (frames < pace_frames || span > frames * pace_ns) return 0;
  const auto quarter = span * (ring_size() / 4) / frames;
  return quarter < shortest_nap_ns ? 0 : std::min(quarter, longest_nap_ns);
}

bool XdpRx::arm(std::uint64_t& deadline) {
  if (!socket_) return true;
  give_back();
  if (has_work()) return true;
  ask_driver();
  const auto now = Clock::monotonic();
  const auto length = nap(now);
  naps_ = length != 0;
  if (naps_) {
    deadline = std::min(deadline, now + length);
    look_around();
    return failed() || has_work();
  }
  watch_link();
  if (!link_->up()) deadline = std::min(deadline, now + down_interval_ns);
  return failed() || has_work();
}

Result<void> XdpRx::close() {
  if (!socket_) return {};
  sample();
  refill(ring_size());
  abandon();
  socket_.shut();
  // Now nothing moves. Slots that are not given back, descriptors that nobody saw, and what the kernel had.
  std::vector<std::uint64_t> home, left;
  for (; returned_ != tail_; ++returned_) home.push_back(slot_at(returned_).frame);
  for (auto unseen = tail_; unseen != socket_.descriptors.produced(); ++unseen) {
    const auto frame = socket_.descriptors.at(unseen).addr >> shift_;
    home.push_back(frame);
    lent_[frame] = 0;
  }
  for (std::size_t frame = 0; frame < lent_.size(); ++frame)
    if (lent_[frame] != 0) left.push_back(frame);
  pool_->release(home);
  socket_.close(left);
  home.insert(home.end(), left.begin(), left.end());
  return audit_frames(std::move(home), frames_, label_);
}

}  // namespace efio
