// tap: one read() receives a frame, one write() sends one; there is no call for several. Frames are read into the slots'
// own memory and written from it.
//
// With offload=on a virtio_net_hdr goes before each frame, in the headroom right before the data; Metadata, at the start of
// the headroom, says the same.
//
//   frame's memory: Metadata (32) | … | virtio_net_hdr (10) | data
//                                                            ^ Slot::offset
#include <linux/capability.h>
#include <linux/if_ether.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>

#include "efio/engines/engine.h"
#include "efio/engines/link.h"
#include "efio/engines/tap_device.h"
#include "efio/engines/vnet.h"
#include "efio/fail.h"

namespace efio {

namespace {

constexpr std::size_t most_queues = 256;                  // of the kernel's driver
constexpr std::size_t default_ring = 1024;
constexpr std::size_t default_frame = 1920;               // fills a frame of the pool that pipes share
constexpr std::size_t offload_frame = 65536 + 64;         // the largest segment, its Ethernet header and tags
constexpr std::size_t largest_frame = 256 * 1024 - 128;
constexpr std::size_t headers = 14 + 8;                   // beside the MTU: Ethernet and two VLAN tags
constexpr std::size_t most_ring_bytes = 16 << 20;         // of a queue's frames, unless ring= asks for more
constexpr std::size_t least_mtu = 68, most_mtu = 65521;   // of the kernel's driver
constexpr std::size_t offload_headroom = sizeof(Metadata) + vnet_header_size;
constexpr std::size_t most_parts = 64;                    // slots of one frame
constexpr std::size_t most_losses = 256;                  // in one look for more
constexpr std::uint64_t look_interval_ns = 10'000'000;    // between looks at the kernel's drop counter

struct Sizes {
  std::size_t slots = 0, capacity = 0;
  std::shared_ptr<Pool> pool;
};

class TapRx final : public RxQueue {
 public:
  TapRx(TapLoan loan, OwnedRing ring, std::size_t capacity, std::string label, std::size_t index, Error gone)
      : loan_(std::move(loan)), owned_(std::move(ring)), gone_(std::move(gone)), descriptor_(loan_.descriptor()) {
    ring_ = owned_.data();
    mask_ = owned_.mask();
    pool_ = owned_.pool();
    swaps_ = true;
    headroom_ = static_cast<std::uint16_t>(pool_->headroom());
    capacity_ = capacity;
    label_ = std::move(label);
    index_ = index;
    header_ = loan_.device().offload() ? vnet_header_size : 0;
  }

  void sample() noexcept override {
    if (!loan_ || failed()) return;
    const auto drops = loan_.device().take_drops();
    if (!drops) return;
    counters_.begin();
    count_lost(DropReason::kernel_full, *drops);
    counters_.set_sampled_at(Clock::now());
    counters_.end();
  }

  void close() {
    sample();
    abandon();
    descriptor_ = -1;
    loan_ = TapLoan();
  }

 private:
  void refill(std::size_t want) noexcept override;
  void look_around() noexcept;
  WaitSource wait_source() override { return {descriptor_, EPOLLIN, false}; }

  TapLoan loan_;
  OwnedRing owned_;
  Error gone_;
  int descriptor_;
  std::size_t header_ = 0;        // bytes before each frame
  std::uint64_t look_again_ = 0;  // Clock::monotonic
};

void TapRx::refill(std::size_t want) noexcept {
  const auto goal = std::min(vacant(), want);
  const auto start = headroom_ - header_;
  const auto room = header_ + capacity_ + 1;  // a frame that fills it is too long: the kernel cuts without a word
  std::uint32_t filled = 0;
  std::uint64_t now = 0, oversize = 0, invalid = 0;
  bool empty = false;
  while (filled < goal && oversize + invalid < most_losses) {
    Slot& slot = slot_at(tail_ + filled);
    const auto got = ::read(descriptor_, slot.buffer + start, room);
    if (got < static_cast<ssize_t>(header_)) {
      const int error = got < 0 ? errno : EINVAL;
      if (error == EINVAL) {  // offloads that the header cannot express; the kernel has given the frame up
        ++invalid;
        continue;
      }
      empty = true;
      if (error == EBADFD) set_failed(gone_);
      else if (error != EAGAIN && error != EINTR && error != ENOMEM) set_failed(fail(error, "receive from {}", label_).error());
      break;
    }
    const auto length = static_cast<std::size_t>(got) - header_;
    if (length > capacity_) {
      ++oversize;
      continue;
    }
    if (now == 0) now = Clock::now();
    slot.length = static_cast<std::uint32_t>(length);
    slot.offset = headroom_;
    slot.flags = static_cast<std::uint16_t>(TimeSource::clock);
    slot.time = now;
    if (header_ != 0) {
      const auto metadata = read_vnet_header(slot.buffer + start);
      if ((metadata.checksum_needed | metadata.checksum_valid | metadata.segment_type) != 0) write_metadata(slot, metadata);
    }
    ++filled;
  }
  if (filled > 0) admit(filled, filled);
  if (oversize + invalid > 0) {
    counters_.begin();
    count_lost(DropReason::oversize, oversize);
    count_lost(DropReason::invalid, invalid);
    counters_.end();
  }
  if (empty) look_around();
}

void TapRx::look_around() noexcept {
  const auto now = Clock::monotonic();
  if (now < look_again_) return;
  look_again_ = now + look_interval_ns;
  sample();
}

class TapTx final : public TxQueue {
 public:
  TapTx(TapLoan loan, OwnedRing ring, std::size_t capacity, std::string label, std::size_t index, Error gone)
      : loan_(std::move(loan)), owned_(std::move(ring)), gone_(std::move(gone)), descriptor_(loan_.descriptor()) {
    ring_ = owned_.data();
    mask_ = owned_.mask();
    pool_ = owned_.pool();
    swaps_ = true;
    headroom_ = static_cast<std::uint16_t>(pool_->headroom());
    capacity_ = capacity;
    label_ = std::move(label);
    index_ = index;
    offload_ = loan_.device().offload();
    limit_ = static_cast<std::uint32_t>(ring_size());
  }

  void close() {
    descriptor_ = -1;
    loan_ = TapLoan();
  }

 private:
  struct Verdict {
    bool stays = false;  // it is to be sent again, later
    DropReason reason = DropReason::refused;  // else
  };
  static constexpr int too_short = -1, not_cut = -2;  // errnos of our own

  void transmit() noexcept override;
  // A slot is free when its fate is known; on a dead queue none is.
  void reclaim() noexcept override { limit_ = failed() ? tail_ : settled_ + static_cast<std::uint32_t>(ring_size()); }
  WaitSource wait_source() override { return {descriptor_, EPOLLOUT, false}; }

  int write_frame(Slot& slot) noexcept;
  int write_parts(std::uint32_t& slots, std::size_t& length) noexcept;
  Verdict judge(int error) noexcept;

  TapLoan loan_;
  OwnedRing owned_;
  Error gone_;
  int descriptor_;
  bool offload_ = false;
};

void TapTx::transmit() noexcept {
  while (flushed_ != tail_) {
    // Frames that the kernel takes, one after the other.
    const auto first = flushed_;
    std::uint64_t frames = 0, bytes = 0;
    std::uint32_t slots = 0;
    int error = 0;
    for (; flushed_ != tail_; flushed_ += slots, ++frames) {
      Slot& slot = slot_at(flushed_);
      std::size_t length = slot.length;
      slots = 1;
      const bool plain = !slot.has(Slot::more | Slot::metadata) && length >= ETH_HLEN && !offload_;
      error = plain ? (::write(descriptor_, slot.buffer + slot.offset, length) < 0 ? errno : 0)
                    : slot.has(Slot::more) ? write_parts(slots, length) : write_frame(slot);
      if (error != 0) break;
      bytes += length;
    }
    if (frames > 0) settle(flushed_ - first, frames, bytes);
    if (error == 0) break;
    const auto verdict = judge(error);
    if (verdict.stays) break;
    flushed_ += slots;
    settle_dropped(slots, verdict.reason);
  }
  TapTx::reclaim();
}

// 0, or why it was not taken.
int TapTx::write_frame(Slot& slot) noexcept {
  if (slot.length < ETH_HLEN) return too_short;
  std::byte* data = slot.buffer + slot.offset;
  if (!offload_) {
    const auto metadata = read_metadata(slot);
    if (metadata.segment_type != segment_none) return not_cut;
    if (metadata.checksum_needed != 0) complete_checksum(slot.bytes(), metadata.checksum_start, metadata.checksum_offset);
    slot.flags = static_cast<std::uint16_t>(slot.flags & ~Slot::metadata);  // done: it may have to be written again
    return ::write(descriptor_, data, slot.length) < 0 ? errno : 0;
  }
  std::array<std::byte, vnet_header_size> apart;
  const bool room = slot.offset >= (slot.has(Slot::metadata) ? offload_headroom : vnet_header_size);
  std::byte* header = room ? data - vnet_header_size : apart.data();
  if (slot.has(Slot::metadata)) write_vnet_header(header, read_metadata(slot));
  else clear_vnet_header(header);
  if (room) return ::write(descriptor_, header, vnet_header_size + slot.length) < 0 ? errno : 0;
  const std::array<iovec, 2> parts{{{header, vnet_header_size}, {data, slot.length}}};
  return ::writev(descriptor_, parts.data(), 2) < 0 ? errno : 0;
}

// A frame of several slots: how many, and its length.
int TapTx::write_parts(std::uint32_t& slots, std::size_t& length) noexcept {
  std::array<iovec, most_parts + 1> parts;
  std::array<std::byte, vnet_header_size> header;
  const Slot& first = slot_at(flushed_);
  const auto metadata = first.has(Slot::metadata) ? read_metadata(first) : Metadata{};
  std::size_t used = 0;
  if (offload_) {
    write_vnet_header(header.data(), metadata);
    parts[used++] = {header.data(), header.size()};
  }
  length = slots = 0;
  for (bool more = true; more; ++slots) {
    const Slot& slot = slot_at(flushed_ + slots);
    more = slot.has(Slot::more);
    length += slot.length;
    if (slots < most_parts) parts[used++] = {slot.buffer + slot.offset, slot.length};
  }
  if (length < ETH_HLEN) return too_short;
  if (slots > most_parts) return EMSGSIZE;
  if (!offload_ && (metadata.segment_type != segment_none || metadata.checksum_needed != 0)) return not_cut;
  return ::writev(descriptor_, parts.data(), static_cast<int>(used)) < 0 ? errno : 0;
}

TapTx::Verdict TapTx::judge(int error) noexcept {
  switch (error) {
    case EAGAIN:
    case EINTR:
    case ENOBUFS:
    case ENOMEM:
      return {.stays = true};
    case EIO:  // what a device says that is not up
      return {.reason = DropReason::link_down};
    case EBADFD:
      set_failed(gone_);
      return {.reason = DropReason::device_gone};
    case EMSGSIZE:
    case not_cut:
      return {.reason = DropReason::oversize};
    case too_short:
      return {.reason = DropReason::undersize};
    case EINVAL:
      return {.reason = DropReason::invalid};
    default:
      return {.reason = DropReason::refused};
  }
}

struct TapPort final : PortHandle {
  Result<void> close_device() override {
    for (auto& queue : rx) static_cast<TapRx&>(*queue).close();
    for (auto& queue : tx) static_cast<TapTx&>(*queue).close();
    return {};
  }
};

struct TapChoice {
  TapWish wish;
  Sizes sizes;
  LinkWait wait;
  std::uint32_t mtu = 0;  // 0: as it is
  bool raise = true;
  std::optional<bool> persist;
  std::optional<std::size_t> one_queue;
};

Result<TapChoice> read_options(Uri& uri) {
  TapChoice choice;
  choice.wish.attempted = "open " + uri.text();
  choice.wish.name = uri.name();
  choice.wish.queues = uri.number("queues", 0, 1, most_queues);
  choice.wish.offload = uri.flag("offload", false);
  const auto one = uri.number("queue", 0, 0, most_queues - 1);
  if (uri.has("queue")) choice.one_queue = one;
  const bool persist = uri.flag("persist", false);
  if (uri.has("persist")) choice.persist = persist;
  choice.raise = uri.flag("raise", true);
  choice.mtu = static_cast<std::uint32_t>(uri.number("mtu", 0, least_mtu, most_mtu));
  choice.sizes.slots = uri.number("ring", 0, SlotRing::smallest, SlotRing::largest);
  choice.sizes.capacity = uri.number("frame", choice.wish.offload ? offload_frame : 0, 128, largest_frame);
  choice.wait = LinkWait::from(uri);
  if (auto ok = uri.finish(); !ok) return std::unexpected(ok.error());
  return choice;
}

// What the options leave open, from the device.
Result<void> choose_sizes(Sizes& sizes, std::size_t mtu, bool offload, std::shared_ptr<Pool> pool, const std::string& attempted) {
  if (sizes.capacity == 0) sizes.capacity = std::max(default_frame, mtu + headers);
  if (sizes.slots == 0)
    sizes.slots = std::clamp(std::bit_floor(most_ring_bytes / (sizes.capacity + PoolOptions{}.headroom)), SlotRing::smallest,
                             default_ring);
  if (!pool) {
    auto shared = Pool::shared(sizes.capacity + PoolOptions{}.headroom);
    if (!shared) return std::unexpected(shared.error());
    pool = std::move(*shared);
  }
  if (offload && pool->headroom() < offload_headroom)
    return fail(Error::Kind::usage, attempted, "offload=on needs a pool with {} bytes of headroom", offload_headroom)
        .hint("a pool with the default headroom, or offload=off");
  sizes.pool = std::move(pool);
  return {};
}

template <class Queue>
Result<std::unique_ptr<Queue>> make_queue(const TapChoice& choice, std::shared_ptr<TapDevice> device, const Link& link,
                                          std::size_t number, std::size_t index, Direction direction) {
  const auto& [slots, capacity, pool] = choice.sizes;
  auto label = fmt::format("tap:{} {} {}", device->name(), direction == Direction::rx ? "rx" : "tx", number);
  auto loan = TapLoan::take(std::move(device), number, direction, choice.wish.attempted);
  if (!loan) return std::unexpected(loan.error());
  auto ring = OwnedRing::create(slots, pool);
  if (!ring) return std::unexpected(ring.error());
  // A receiver reads one byte more than the longest frame.
  const auto room = direction == Direction::rx ? pool->stride() - 1 : pool->frame_size();
  auto gone = link.gone_error(label);
  return std::make_unique<Queue>(std::move(*loan), std::move(*ring), std::min(capacity, room - pool->headroom()),
                                 std::move(label), index, std::move(gone));
}

}  // namespace

Result<void> tap_available() {
  const std::string attempted = "open tap:";
  if (auto control = open_tap_control(attempted); !control) return std::unexpected(control.error());
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (::syscall(SYS_capget, &header, data.data()) == 0 && (data[0].effective & (1U << CAP_NET_ADMIN)) != 0) return {};
  return fail(Error::Kind::permission, attempted, "needs root or CAP_NET_ADMIN").hint("{}", tap_privilege_hint());
}

Opened open_tap(Uri& uri, const PortOptions& options) {
  auto choice = read_options(uri);
  if (!choice) return std::unexpected(choice.error());
  const auto& attempted = choice->wish.attempted;
  auto opened = TapDevice::open(choice->wish);
  if (!opened) return std::unexpected(opened.error());
  const auto device = std::move(*opened);
  if (choice->one_queue && *choice->one_queue >= device->queues())
    return fail(Error::Kind::usage, attempted, "queue {} of {}", *choice->one_queue, device->queues()).hint("queues count from 0");
  if (choice->mtu != 0)
    if (auto ok = device->set_mtu(choice->mtu, attempted); !ok) return std::unexpected(ok.error());
  if (choice->raise)
    if (auto ok = device->bring_up(attempted); !ok) return std::unexpected(ok.error());
  auto link = Link::open(device->name(), attempted);
  if (!link) return std::unexpected(link.error());
  if (auto ok = choose_sizes(choice->sizes, (*link)->mtu(), device->offload(), options.pool, attempted); !ok)
    return std::unexpected(ok.error());

  auto port = std::make_unique<TapPort>();
  auto& info = port->info;
  info.frame_size = choice->sizes.capacity;
  const auto first = choice->one_queue.value_or(0);
  const auto last = choice->one_queue ? first + 1 : device->queues();
  for (std::size_t i = first; i < last; ++i) {
    if (receives(options.direction)) {
      auto queue = make_queue<TapRx>(*choice, device, **link, i, i - first, Direction::rx);
      if (!queue) return std::unexpected(queue.error());
      info.frame_size = (*queue)->capacity();
      info.rx_ring = (*queue)->ring_size();
      port->rx.push_back(std::move(*queue));
    }
    if (transmits(options.direction)) {
      auto queue = make_queue<TapTx>(*choice, device, **link, i, i - first, Direction::tx);
      if (!queue) return std::unexpected(queue.error());
      info.frame_size = std::min(info.frame_size, (*queue)->capacity());
      info.tx_ring = (*queue)->ring_size();
      port->tx.push_back(std::move(*queue));
    }
  }
  if (auto ok = (*link)->wait_ready(choice->wait, attempted); !ok) return std::unexpected(ok.error());
  if (choice->persist)
    if (auto ok = device->set_persistent(*choice->persist, attempted); !ok) return std::unexpected(ok.error());

  info.mode = fmt::format("{} queue{}{}", device->queues(), device->queues() == 1 ? "" : "s", device->offload() ? ", offload" : "");
  info.device = device->name();
  info.headroom = choice->sizes.pool->headroom();
  info.queue_bytes = (info.rx_ring + info.tx_ring) * (sizeof(Slot) + choice->sizes.pool->stride());
  info.time_source = TimeSource::clock;
  info.mac = (*link)->mac();
  info.mtu = (*link)->mtu();
  return port;
}

}  // namespace efio
