// Sending through AF_XDP. transmit() publishes descriptors in the ring of frames to be sent and has the kernel take them
// from there by sendto(); a frame is sent when the kernel hands it back through the completion ring:
//
//   settled_ … matched_ … flushed_ … published_ … tail_
//            ^ came back  ^ taken    ^ in the ring ^ committed
//
// The kernel transmits whatever is published, also from within a poll() on the socket, so nothing is published before
// flush(), and nobody polls: a sender that waits for room looks at the completion ring now and then.
//
// In copy mode a call takes as many frames as its budget (32 unless set) and answers EAGAIN, which means "again" only if
// frames are left. EBUSY means that the last frame taken was dropped by the device: it comes back like one that was sent.
// The kernel may not publish yet that it has taken a frame when that was the first of its call. Frames mostly come back
// in order; where not, the slots exchange their frames, so that a slot always has one that is free.
#include <linux/if_ether.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "efio/checksum.h"
#include "efio/engines/vnet.h"
#include "efio/engines/xdp.h"
#include "efio/fail.h"

namespace efio {

namespace {

constexpr int send_buffer = 16 << 20;  // bytes that may be under way in copies, counted with the kernel's overhead
constexpr int most_stalls = 16;        // calls in one flush that take nothing
constexpr std::uint32_t most_parts = 17;  // slots of one frame: what fits into a kernel buffer
constexpr std::size_t tags = 8;        // two VLAN tags are not counted in an MTU
constexpr std::uint64_t ask_interval_ns = 1'000'000;
constexpr std::uint64_t down_interval_ns = 50'000'000;
constexpr std::uint64_t shortest_pause_ns = 20'000, longest_pause_ns = 1'000'000;

// Given up: never published, or taken by the kernel and dropped. The reason then stands in the slot's time.
constexpr std::uint16_t unpublished = Slot::moved, refused_mark = Slot::dropped;

}  // namespace

Result<std::unique_ptr<XdpTx>> XdpTx::create(XdpSetup& setup, unsigned number, std::string label, std::size_t index) {
  auto queue = std::make_unique<XdpTx>();
  queue->link_ = setup.link;
  queue->label_ = std::move(label);
  queue->index_ = index;
  queue->pool_ = setup.pool;
  queue->swaps_ = true;
  queue->headroom_ = static_cast<std::uint16_t>(setup.pool->headroom());
  queue->capacity_ = setup.tx_capacity();
  queue->shift_ = static_cast<unsigned>(std::countr_zero(setup.pool->stride()));
  queue->longest_ = setup.link->mtu() + ETH_HLEN + tags;
  auto slots = SlotRing::create(setup.tx_slots);
  if (!slots) return std::unexpected(slots.error());

  auto socket = XdpSocket::open(setup.wish(number, Direction::tx));
  if (!socket) return std::unexpected(socket.error());
  const int fd = socket->fd();
  // A call may take the whole ring where the kernel lets us say so; there may be as much under way as the system allows.
  const auto budget = static_cast<std::uint32_t>(slots->size());
  ::setsockopt(fd, SOL_XDP, xdp_send_budget, &budget, sizeof budget);
  if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &send_buffer, sizeof send_buffer) != 0)
    ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);

  auto frames = setup.stock.take(slots->size());
  if (!frames) return std::unexpected(frames.error());
  for (std::size_t i = 0; i < frames->size(); ++i) slots->data()[i] = setup.pool->slot((*frames)[i]);
  queue->slots_ = std::move(*slots);
  queue->ring_ = queue->slots_.data();
  queue->mask_ = queue->slots_.mask();
  queue->limit_ = static_cast<std::uint32_t>(queue->ring_size());
  queue->socket_ = std::move(*socket);
  queue->splits_ = queue->socket_.fragments();
  queue->completed_ = queue->socket_.frames().consumed();
  queue->pause_ = shortest_pause_ns;
  return queue;
}

void XdpTx::transmit() noexcept {
  if (!socket_) return;
  publish();
  kick();
  XdpTx::reclaim();
}

void XdpTx::publish() noexcept {
  while (published_ != tail_) {
    if (!down_) {
      const auto n = publish_plain(tail_ - published_);
      produced_ += n;
      published_ += n;
      if (published_ == tail_) break;
    }
    published_ += publish_frame();
  }
  socket_.descriptors.produce(produced_);
}

// Frames of one slot without anything special about them, up to the first that is no such. Returns how many.
std::uint32_t XdpTx::publish_plain(std::uint32_t most) noexcept {
  const std::byte* const base = pool_->base();
  const auto limit = static_cast<std::uint32_t>(longest_) - ETH_HLEN;
  const std::uint32_t chunk = 1U << shift_;
  const Slot* const first = &slot_at(published_);
  const Slot* slot = first;
  socket_.descriptors.visit(produced_, most, [=, &slot](xdp_desc* descriptor, std::uint32_t count, std::uint32_t before) {
    if (slot != first + before) return;  // the first run has ended early
    const Slot* at = slot;
#pragma GCC unroll 4
    for (const Slot* const end = at + count; at != end; ++at, ++descriptor) {
      const std::uint32_t length = at->length, offset = at->offset;
      // One comparison for too short and too long.
      if (length - ETH_HLEN > limit || offset + length > chunk || at->has(Slot::more | Slot::metadata)) [[unlikely]] break;
      const std::uint64_t filled[2] = {static_cast<std::uint64_t>(at->buffer - base) + offset, length};  // no options
      __builtin_memcpy(descriptor, filled, sizeof filled);
    }
    slot = at;
  });
  return static_cast<std::uint32_t>(slot - first);
}

// Slots of the frame that begins there.
std::uint32_t XdpTx::slots_of_frame(std::uint32_t position) const noexcept {
  std::uint32_t n = 1;
  while (slot_at(position + n - 1).has(Slot::more)) ++n;
  return n;
}

// The frame at published_, whatever it is. Returns its slots.
std::uint32_t XdpTx::publish_frame() noexcept {
  const auto n = slots_of_frame(published_);
  Slot* const slots = &slot_at(published_);
  if (const auto reason = objection(slots, n)) {
    for (std::uint32_t i = 0; i < n; ++i) slots[i].flags = static_cast<std::uint16_t>(slots[i].flags | unpublished);
    give_up(published_, *reason);
    return n;
  }
  for (std::uint32_t i = 0; i < n; ++i)
    socket_.descriptors.at(produced_++) = {static_cast<std::uint64_t>(slots[i].buffer - pool_->base()) + slots[i].offset,
                                           slots[i].length, i + 1 < n ? xdp_more : 0};
  return n;
}

// Why it cannot be sent. What can be done here about a checksum is done.
std::optional<DropReason> XdpTx::objection(const Slot* slots, std::uint32_t n) noexcept {
  if (down_ && link_is_down()) return DropReason::link_down;
  std::size_t length = 0;
  bool empty = false, outside = false;
  for (std::uint32_t i = 0; i < n; ++i) {
    length += slots[i].length;
    empty = empty || slots[i].length == 0;
    outside = outside || slots[i].offset + slots[i].length > pool_->stride();
  }
  if (length < ETH_HLEN) return DropReason::undersize;
  if (length > longest_ || outside || n > most_parts || (n > 1 && !socket_.fragments())) return DropReason::oversize;
  if (empty) return DropReason::invalid;
  if (slots[0].has(Slot::metadata)) {
    const auto metadata = read_metadata(slots[0]);
    if (metadata.segment_type != segment_none) return DropReason::oversize;
    if (metadata.checksum_needed != 0 &&
        (n > 1 || !complete_checksum(slots[0].bytes(), metadata.checksum_start, metadata.checksum_offset)))
      return DropReason::invalid;
  }
  return std::nullopt;
}

// The frame that begins there will not have been sent, whatever the kernel says.
void XdpTx::give_up(std::uint32_t position, DropReason reason) noexcept {
  Slot& first = slot_at(position);
  first.flags = static_cast<std::uint16_t>(first.flags | refused_mark);
  first.time = static_cast<std::uint64_t>(reason);
  ++marked_;
}

void XdpTx::kick() noexcept {
  int stalls = 0;
  while (consumed_ != produced_) {
    if (socket_.zero_copy() && !socket_.descriptors.needs_wakeup()) {
      advance(false);  // the driver is at work
      return;
    }
    const int error = ::sendto(socket_.fd(), nullptr, 0, MSG_DONTWAIT, nullptr, 0) < 0 ? errno : 0;
    const bool moved = advance(error == EBUSY && !socket_.zero_copy());
    complete();
    switch (error) {
      case EBUSY:
        break;
      case 0:
      case EAGAIN:
      case EINTR:
      case ENOBUFS:
      case ENOMEM:
        if (socket_.zero_copy() || (!moved && ++stalls >= most_stalls)) return;
        break;
      case ENETDOWN:
        link_->check();
        if (!link_->gone()) {
          down_ = true;
          return;
        }
        [[fallthrough]];
      default:
        link_->refresh();  // the kernel tells of a deleted interface after its sockets have noticed
        set_failed(link_->gone() ? link_->gone_error(label_) : fail(error, "send over {}", label_).error());
        return;
    }
  }
  // What was given up behind the last frame that was published.
  if (flushed_ != published_) flushed_ = published_;
  if (marked_ != 0) settle_in_turn();
}

// How far the kernel has taken what is published. Whether it has taken anything.
bool XdpTx::advance(bool refused) noexcept {
  auto n = static_cast<std::int32_t>(socket_.descriptors.consumed() - consumed_);
  if (n < 0) n = 0;  // we know better
  const auto skip_unpublished = [this] {
    while (marked_ != 0 && flushed_ != published_ && slot_at(flushed_).has(unpublished)) ++flushed_;
  };
  skip_unpublished();
  if (refused && n == 0) n = static_cast<std::int32_t>(slots_of_frame(flushed_));
  consumed_ += static_cast<std::uint32_t>(n);
  if (marked_ == 0) {
    flushed_ += static_cast<std::uint32_t>(n);
  } else {
    for (std::int32_t i = 0; i < n; ++i) {
      skip_unpublished();
      ++flushed_;
    }
  }
  if (refused && n > 0) {
    auto first = flushed_ - 1;
    while (fragments_ && first != settled_ && slot_at(first - 1).has(Slot::more)) --first;
    give_up(first, link_is_down() ? DropReason::link_down : DropReason::refused);
  }
  return n > 0;
}

void XdpTx::complete() noexcept {
  auto& ring = socket_.frames();
  const auto n = ring.produced() - completed_;
  if (n == 0) return;
  std::uint32_t in_order = 0;
  if (marked_ == 0) {
    const Slot* const first = &slot_at(matched_);
    const auto most = std::min(n, published_ - matched_);
    const Slot* slot = first;
    ring.visit(completed_, most, [shift = shift_, first, &slot](const std::uint64_t* address, std::uint32_t count, std::uint32_t before) {
      if (slot != first + before) return;
      const Slot* at = slot;
#pragma GCC unroll 4
      for (const Slot* const end = at + count; at != end; ++at, ++address)
        if (at->frame != *address >> shift) [[unlikely]] break;
      slot = at;
    });
    in_order = static_cast<std::uint32_t>(slot - first);
    matched_ += in_order;
  }
  for (std::uint32_t i = in_order; i < n; ++i) match(ring.at(completed_ + i) >> shift_);
  completed_ += n;
  ring.consume(completed_);
  if (static_cast<std::int32_t>(matched_ - flushed_) > 0) {  // the kernel has not said yet that it has taken them
    consumed_ += matched_ - flushed_;
    flushed_ = matched_;
  }
  if (marked_ != 0 || fragments_) return settle_in_turn();
  const auto slots = matched_ - settled_;
  if (slots != 0) settle(slots, slots, summarize(&slot_at(settled_), slots).bytes);
}

// A frame came back: the next slot gets it. False: it is of an earlier opening.
bool XdpTx::match(std::uint64_t frame) noexcept {
  while (matched_ != published_ && slot_at(matched_).has(unpublished)) ++matched_;
  for (auto position = matched_; position != published_; ++position) {
    Slot& slot = slot_at(position);
    if (slot.frame != frame || slot.has(unpublished)) continue;
    Slot& next = slot_at(matched_++);
    std::swap(next.frame, slot.frame);
    std::swap(next.buffer, slot.buffer);
    return true;
  }
  auto& left = socket_.left();
  if (const auto known = std::ranges::find(left, frame); known != left.end()) {
    left.erase(known);
    pool_->release({&frame, 1});
  }
  return false;
}

// Frame by frame, where some were given up or have several slots.
void XdpTx::settle_in_turn() noexcept {
  while (settled_ != published_) {
    Slot& first = slot_at(settled_);
    const auto n = slots_of_frame(settled_);
    if (first.has(unpublished)) {
      if (static_cast<std::int32_t>(settled_ + n - matched_) > 0) matched_ = settled_ + n;
    } else if (static_cast<std::int32_t>(settled_ + n - matched_) > 0) {
      break;
    }
    if (first.has(refused_mark)) {
      --marked_;
      settle_dropped(n, static_cast<DropReason>(first.time));
    } else {
      settle(n, 1, summarize(&first, n).bytes);
    }
    for (auto position = settled_ - n; position != settled_; ++position)
      slot_at(position).flags = static_cast<std::uint16_t>(slot_at(position).flags & ~Slot::marks);
  }
  if (static_cast<std::int32_t>(settled_ - flushed_) > 0) flushed_ = settled_;
}

// Netlink may tell of a lost carrier a second later; asking costs some microseconds.
bool XdpTx::link_is_down() noexcept {
  const auto now = Clock::monotonic();
  if (now >= ask_link_again_) {
    ask_link_again_ = now + ask_interval_ns;
    link_->refresh();
    if (link_->up()) down_ = false;
  }
  return !link_->up();
}

// A slot is free when its fate is known; on a dead queue none is.
void XdpTx::reclaim() noexcept {
  if (socket_) complete();
  limit_ = failed() ? tail_ : settled_ + static_cast<std::uint32_t>(ring_size());
}

bool XdpTx::has_work() const { return socket_ && socket_.frames().produced() != completed_; }

bool XdpTx::arm(std::uint64_t& deadline) {
  if (!socket_) return true;
  const auto before = settled_;
  if (consumed_ != produced_) kick();  // flushed before, and not taken then
  XdpTx::reclaim();
  if (failed() || limit_ != tail_) return true;
  link_->check();
  if (link_->gone()) set_failed(link_->gone_error(label_)), reclaim();
  pause_ = settled_ != before ? shortest_pause_ns : std::min(2 * pause_, longest_pause_ns);
  deadline = std::min(deadline, Clock::monotonic() + (link_->up() ? pause_ : down_interval_ns));
  return failed();
}

// What Port::close gives up; close() has to know what of it the kernel had taken.
void XdpTx::abandon() noexcept {
  taken_ = flushed_;
  TxQueue::abandon();
}

Result<void> XdpTx::close() {
  if (!socket_) return {};
  socket_.shut();
  std::vector<std::uint64_t> home, left;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const auto since = static_cast<std::uint32_t>(i) - matched_;  // modulo the ring
    const bool with_kernel = (since & mask_) < taken_ - matched_ && static_cast<std::int32_t>(taken_ - matched_) > 0 &&
                             !slots_.data()[i].has(unpublished);
    (with_kernel ? left : home).push_back(slots_.data()[i].frame);
  }
  pool_->release(home);
  socket_.close(left);
  home.insert(home.end(), left.begin(), left.end());
  return audit_frames(std::move(home), slots_.size(), label_);
}

}  // namespace efio
