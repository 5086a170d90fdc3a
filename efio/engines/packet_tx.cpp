// Sending with sendmmsg, which here is faster than PACKET_TX_RING (docs/ports.md has the figures): the kernel copies each
// frame into a buffer of its own, so that a slot is free again as soon as the call has returned.
//
// With PACKET_QDISC_BYPASS the frame goes straight to the driver, and its refusal comes back as an error of the call:
// ENOBUFS when the driver's queue is full, when a virtual peer has no room, or when there is no carrier. The kernel has
// then dropped its copy (and counted it in tx_dropped where it was not just a full queue); ours is still here and is
// sent again, unless the link is down. sendmmsg tells the error of a frame only when it is the first of a call.
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "efio/engines/packet.h"
#include "efio/engines/vnet.h"
#include "efio/fail.h"

namespace efio {

namespace {

constexpr std::uint32_t frames_a_call = 64;
constexpr int send_buffer = 16 << 20;  // bytes that may be under way, counted with the kernel's overhead
constexpr int most_refusals = 16;      // of one frame in one flush; then it stays pending
constexpr std::size_t most_parts = 64; // slots of one frame
constexpr std::uint64_t ask_interval_ns = 1'000'000;
constexpr std::uint64_t down_interval_ns = 50'000'000;

}  // namespace

Result<std::unique_ptr<PacketTx>> PacketTx::create(const PacketSetup& setup, std::string label, std::size_t index) {
  auto queue = std::make_unique<PacketTx>();
  auto socket = open_packet_socket(setup.attempted);
  if (!socket) return std::unexpected(socket.error());
  queue->socket_ = std::move(*socket);
  queue->link_ = setup.link;
  queue->offload_ = setup.offload;
  const int fd = queue->socket_.get();
  const int on = 1;
  if (setup.bypass && ::setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on) != 0)
    return fail(errno, "{}: PACKET_QDISC_BYPASS", setup.attempted).hint("bypass=off");
  if (setup.offload && ::setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) != 0)
    return fail(errno, "{}: PACKET_VNET_HDR", setup.attempted).hint("offload=off");
  // Above the system's limit where the privilege is there (CAP_NET_ADMIN), else as much as it allows.
  if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &send_buffer, sizeof send_buffer) != 0)
    ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
  if (auto ok = bind_packet_socket(queue->socket_, *setup.link, 0, setup.attempted); !ok) return std::unexpected(ok.error());

  auto owned = OwnedRing::create(setup.slots, setup.pool);
  if (!owned) return std::unexpected(owned.error());
  queue->owned_ = std::move(*owned);
  queue->ring_ = queue->owned_.data();
  queue->mask_ = queue->owned_.mask();
  queue->swaps_ = true;
  queue->pool_ = setup.pool;
  queue->headroom_ = static_cast<std::uint16_t>(setup.pool->headroom());
  queue->capacity_ = std::min(setup.capacity, setup.pool->frame_size() - setup.pool->headroom());
  queue->label_ = std::move(label);
  queue->index_ = index;

  const auto size = queue->owned_.size();
  queue->limit_ = static_cast<std::uint32_t>(size);
  queue->messages_.resize(size);
  queue->parts_.resize(2 * size);
  queue->headers_.resize(setup.offload ? size * vnet_header_size : 0);
  for (std::size_t i = 0; i < size; ++i) {
    auto& message = queue->messages_[i].msg_hdr;
    if (setup.offload) queue->parts_[2 * i] = {queue->headers_.data() + i * vnet_header_size, vnet_header_size};
    message.msg_iov = &queue->parts_[2 * i + (setup.offload ? 0 : 1)];
    message.msg_iovlen = setup.offload ? 2 : 1;
  }
  return queue;
}

// The messages of the next slots, up to one that cannot be sent with the others.
std::uint32_t PacketTx::prepare(std::uint32_t most) noexcept {
  const std::size_t first = flushed_ & mask_;
  for (std::uint32_t n = 0; n < most; ++n) {
    Slot& slot = ring_[first + n];
    if (slot.length < ETH_HLEN || slot.has(Slot::more)) [[unlikely]] return n;
    if (offload_) {
      std::byte* header = headers_.data() + (first + n) * vnet_header_size;
      if (slot.has(Slot::metadata)) write_vnet_header(header, read_metadata(slot));
      else clear_vnet_header(header);
    } else if (slot.has(Slot::metadata)) {
      const auto metadata = read_metadata(slot);
      if (metadata.checksum_needed != 0) complete_checksum(slot.bytes(), metadata.checksum_start, metadata.checksum_offset);
      slot.flags = static_cast<std::uint16_t>(slot.flags & ~Slot::metadata);  // done: it may be prepared again
    }
    parts_[2 * (first + n) + 1] = {slot.buffer + slot.offset, slot.length};
  }
  return most;
}

void PacketTx::transmit() noexcept {
  int refusals = 0;
  while (flushed_ != tail_) {
    const auto until_wrap = static_cast<std::uint32_t>(ring_size()) - (flushed_ & mask_);
    const auto n = prepare(std::min({tail_ - flushed_, until_wrap, frames_a_call}));
    std::uint32_t slots = 1;  // of the frame that is in question when nothing is sent
    int sent = 0;
    if (n > 0) {
      sent = ::sendmmsg(socket_.get(), &messages_[flushed_ & mask_], n, MSG_DONTWAIT);
    } else {
      slots = frame_slots();
      sent = send_alone(slots);
    }
    if (sent > 0) {
      slots = n > 0 ? static_cast<std::uint32_t>(sent) : slots;
      const auto bytes = summarize(&slot_at(flushed_), slots).bytes;
      flushed_ += slots;
      settle(slots, static_cast<std::uint64_t>(sent), bytes);
      refusals = 0;
      continue;
    }
    const auto verdict = judge(errno);
    if (verdict.stays) {
      if (verdict.wait || ++refusals >= most_refusals) break;
      continue;
    }
    flushed_ += slots;
    settle_dropped(slots, verdict.reason);
  }
  PacketTx::reclaim();
}

// Slots of the next frame.
std::uint32_t PacketTx::frame_slots() const noexcept {
  std::uint32_t slots = 1;
  while (slot_at(flushed_ + slots - 1).has(Slot::more)) ++slots;
  return slots;
}

// A frame of several slots, or one that is too short. As sendmmsg: 1, or -1 with errno.
int PacketTx::send_alone(std::uint32_t slots) noexcept {
  std::array<iovec, most_parts + 1> parts;
  std::array<std::byte, vnet_header_size> header;
  std::size_t n = 0, length = 0;
  if (slots > most_parts) {
    errno = EMSGSIZE;
    return -1;
  }
  const Slot& first = slot_at(flushed_);
  if (offload_) {
    if (first.has(Slot::metadata)) write_vnet_header(header.data(), read_metadata(first));
    else clear_vnet_header(header.data());
    parts[n++] = {header.data(), header.size()};
  }
  for (std::uint32_t i = 0; i < slots; ++i, ++n) {
    const Slot& slot = slot_at(flushed_ + i);
    parts[n] = {slot.buffer + slot.offset, slot.length};
    length += slot.length;
  }
  if (length < ETH_HLEN) {
    errno = too_short;
    return -1;
  }
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = n;
  return ::sendmsg(socket_.get(), &message, MSG_DONTWAIT) < 0 ? -1 : 1;
}

// What becomes of a frame that the kernel did not take.
PacketTx::Verdict PacketTx::judge(int error) noexcept {
  switch (error) {
    case EAGAIN:
      return {.stays = true, .wait = true};
    case EINTR:
      return {.stays = true};
    case ENOBUFS:
    case ENOMEM:
      if (link_is_down()) return {.reason = DropReason::link_down};
      return {.stays = true};
    case ENETDOWN:
      link_->check();
      if (!link_->gone()) return {.reason = DropReason::link_down};
      [[fallthrough]];
    case ENXIO:
    case ENODEV:
      set_failed(link_->gone_error(label_));
      return {.reason = DropReason::device_gone};
    case EMSGSIZE:
      return {.reason = DropReason::oversize};
    case too_short:
      return {.reason = DropReason::undersize};
    case EINVAL:
      return {.reason = DropReason::invalid};
    default:
      return {.reason = DropReason::refused};
  }
}

// Netlink may tell of a lost carrier a second later; asking costs some microseconds.
bool PacketTx::link_is_down() noexcept {
  const auto now = Clock::monotonic();
  if (now >= ask_link_again_) {
    ask_link_again_ = now + ask_interval_ns;
    link_->refresh();
  }
  return !link_->up();
}

// A slot is free when its fate is known; on a dead queue none is.
void PacketTx::reclaim() noexcept { limit_ = failed() ? tail_ : settled_ + static_cast<std::uint32_t>(ring_size()); }

Queue::WaitSource PacketTx::wait_source() { return {socket_.get(), EPOLLOUT, false}; }

bool PacketTx::arm(std::uint64_t& deadline) {
  link_->check();
  if (link_->gone()) set_failed(link_->gone_error(label_)), reclaim();
  else if (!link_->up()) deadline = std::min(deadline, Clock::monotonic() + down_interval_ns);
  return failed();
}

}  // namespace efio
