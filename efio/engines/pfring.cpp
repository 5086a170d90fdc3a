// PF_RING through libpfring: each direction is a ring of its own, opened for that direction alone. By default a ring also
// returns what this machine sends, our own frames too; it does nothing before it is enabled.
//
// What pfring_recv points to lies in a slot that it has given back already: it is copied at once. A device that was deleted
// is no news to the library, so its interface is watched. The names zc:eth7 (zero copy, with ntop's drivers and licence)
// and eth7@1 (one queue) are the library's.
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "efio/engines/engine.h"
#include "efio/engines/link.h"
#include "efio/engines/pfring_library.h"
#include "efio/fail.h"

namespace efio {

namespace pfring {

namespace {

constexpr std::size_t default_ring = 1024;
constexpr std::size_t default_frame = 1920;
constexpr std::size_t largest_frame = 16384;
constexpr std::size_t headers = 14 + 8;  // beside the MTU: Ethernet and two VLAN tags
constexpr std::size_t shortest = 14;
constexpr std::size_t slots_at_least = 64;
constexpr int most_refusals = 16;  // of one frame in one flush; then it stays pending
constexpr std::uint64_t look_interval_ns = 5'000'000;
constexpr std::uint64_t longest_sleep_ns = 50'000'000;
constexpr int invalid_argument = -2;  // the library's: the frame is too long

struct Setup {
  std::string attempted, device;
  const Library* library = nullptr;
  std::shared_ptr<Link> link;
  std::shared_ptr<Pool> pool;
  std::size_t slots = 0, capacity = 0;
  bool promiscuous = true, hardware_time = false;
};

Failure refused(const Setup& setup, int error) {
  const bool zero_copy = setup.device.starts_with("zc:");
  if (error == EPERM || error == EACCES)
    return fail(Error::Kind::permission, setup.attempted, "PF_RING needs root or CAP_NET_RAW and CAP_NET_ADMIN").hint("run as root");
  if (!module_loaded())
    return fail(Error::Kind::unavailable, setup.attempted, "the pf_ring module is not loaded")
        .hint("`modprobe pf_ring`; it comes with ntop's package pfring-dkms, or from the sources at github.com/ntop/PF_RING (docs/ports.md)");
  if (zero_copy)
    return fail(Error::Kind::unavailable, setup.attempted, "{}: {}", setup.device, describe_os_error(error))
        .hint("zc: needs ntop's driver for the card (`pf_ringcfg --list-interfaces` tells) and its licence in /etc/pf_ring; without them, "
              "pfring:{} works through the kernel's driver", setup.device.substr(3));
  return fail(error == 0 ? ENODEV : error, "{}: PF_RING does not open {}", setup.attempted, setup.device)
      .hint("the module and the library must be of one version; `dmesg` may say more");
}

// For one direction. Nothing passes before enable().
Result<Handle> open_handle(const Setup& setup, bool rx) {
  std::uint32_t flags = timestamp | do_not_parse;
  if (setup.promiscuous && rx) flags |= promiscuous;
  if (setup.hardware_time) flags |= hardware_timestamp;
  errno = 0;
  PfringHandle* const ring = setup.library->open(setup.device.c_str(), static_cast<std::uint32_t>(setup.capacity), flags);
  if (ring == nullptr) return refused(setup, errno);
  Handle handle(*setup.library, ring);
  if (setup.library->set_socket_mode(ring, rx ? receive_only : send_only) < 0 ||
      (rx && setup.library->set_direction(ring, rx_only_direction) < 0))
    return fail(Error::Kind::device, setup.attempted, "PF_RING does not open {} for one direction alone", setup.device);
  // poll() is to tell of the first frame.
  if (rx && setup.library->set_watermark != nullptr) setup.library->set_watermark(ring, 1);
  return handle;
}

Result<void> enable(const Handle& handle, const std::string& attempted) {
  errno = 0;
  if (handle.library().enable(handle.ring()) == 0) return {};
  return fail(errno == 0 ? EIO : errno, "{}: enable the ring", attempted);
}

class PfringRx final : public RxQueue {
 public:
  PfringRx(const Setup& setup, Handle handle, OwnedRing owned, std::string label)
      : link_(setup.link), handle_(std::move(handle)), owned_(std::move(owned)), hardware_time_(setup.hardware_time) {
    ring_ = owned_.data();
    mask_ = owned_.mask();
    pool_ = owned_.pool();
    swaps_ = true;
    headroom_ = static_cast<std::uint16_t>(pool_->headroom());
    capacity_ = setup.capacity;
    label_ = std::move(label);
  }
  const Handle& handle() const { return handle_; }
  std::size_t memory() const { return owned_.bytes(); }

  void close() {
    if (!handle_) return;
    sample();
    abandon();
    handle_ = Handle();
  }

  void sample() noexcept override {
    Statistics total{};
    if (!handle_ || handle_.library().statistics(handle_.ring(), &total) != 0) return;
    counters_.begin();
    if (total.dropped > told_) count_lost(DropReason::kernel_full, total.dropped - told_);
    told_ = std::max(told_, total.dropped);
    counters_.set_sampled_at(Clock::now());
    counters_.end();
  }

 private:
  void refill(std::size_t want) noexcept override {
    if (!handle_) return;
    const auto goal = std::min(vacant(), std::max(want, slots_at_least));
    std::uint32_t filled = 0;
    std::uint64_t oversize = 0;
    for (std::size_t looked = 0; filled < goal && looked < 2 * goal; ++looked) {
      PacketHeader header;
      std::memset(header.bytes.data(), 0, 48);
      unsigned char* data = nullptr;
      if (handle_.library().receive(handle_.ring(), &data, 0, header.bytes.data(), 0) <= 0) break;
      if (header.length() > header.captured() || header.captured() > capacity_) {
        ++oversize;
        continue;
      }
      Slot& slot = slot_at(tail_ + filled++);
      slot.offset = headroom_;
      slot.length = header.captured();
      std::memcpy(slot.buffer + slot.offset, data, slot.length);
      slot.flags = 0;
      slot.stamp(header.time_ns(), hardware_time_ ? TimeSource::hardware : TimeSource::kernel);
      if (slot.time == 0) slot.stamp(Clock::now(), TimeSource::clock);
    }
    if (filled > 0) admit(filled, filled);
    if (oversize > 0) count_lost_now(DropReason::oversize, oversize);
    if (filled == 0) look_around();
  }

  void look_around() noexcept {
    const auto now = Clock::monotonic();
    if (now < look_again_) return;
    look_again_ = now + look_interval_ns;
    sample();
    watch_link();
  }
  void watch_link() noexcept {
    link_->check();
    if (link_->gone() && !has_work()) set_failed(link_->gone_error(label_));
  }

  WaitSource wait_source() override { return {handle_ ? handle_.library().descriptor(handle_.ring()) : -1, EPOLLIN, false}; }
  bool has_work() const override { return tail_ != head_ || (handle_ && handle_.library().poll(handle_.ring(), 0) > 0); }
  bool arm(std::uint64_t& deadline) override {
    if (!handle_ || has_work()) return true;
    watch_link();
    deadline = std::min(deadline, Clock::monotonic() + longest_sleep_ns);
    return failed();
  }

  std::shared_ptr<Link> link_;
  Handle handle_;
  OwnedRing owned_;
  bool hardware_time_ = false;
  std::uint64_t told_ = 0;        // dropped, as last counted
  std::uint64_t look_again_ = 0;  // Clock::monotonic
};

class PfringTx final : public TxQueue {
 public:
  PfringTx(const Setup& setup, Handle handle, OwnedRing owned, std::string label)
      : link_(setup.link), handle_(std::move(handle)), owned_(std::move(owned)) {
    ring_ = owned_.data();
    mask_ = owned_.mask();
    pool_ = owned_.pool();
    swaps_ = true;
    headroom_ = static_cast<std::uint16_t>(pool_->headroom());
    capacity_ = setup.capacity;
    label_ = std::move(label);
    PfringTx::reclaim();
  }
  const Handle& handle() const { return handle_; }
  std::size_t memory() const { return owned_.bytes(); }
  void close() { handle_ = Handle(); }

 private:
  void transmit() noexcept override {
    if (!handle_) return;
    int refusals = 0;
    while (flushed_ != tail_) {
      std::uint32_t slots = 1;
      while (slot_at(flushed_ + slots - 1).has(Slot::more)) ++slots;
      const Slot& slot = slot_at(flushed_);
      std::optional<DropReason> dropped;
      if (slots > 1 || slot.length > capacity_) dropped = DropReason::oversize;
      else if (slot.length < shortest) dropped = DropReason::undersize;
      else {
        const bool last = flushed_ + 1 == tail_;
        errno = 0;
        const int sent = handle_.library().send(handle_.ring(), reinterpret_cast<char*>(slot.buffer + slot.offset), slot.length, last ? 1 : 0);
        const int error = errno;
        if (sent < 0) {
          if (!is_final(sent, error, dropped)) {
            if (++refusals >= most_refusals) break;
            continue;
          }
          if (failed()) break;
        }
      }
      refusals = 0;
      flushed_ += slots;
      if (dropped) settle_dropped(slots, *dropped);
      else settle(1, 1, slot.length);
    }
    PfringTx::reclaim();
  }

  // What becomes of a frame that was not sent. False: it may be tried again.
  bool is_final(int result, int error, std::optional<DropReason>& dropped) noexcept {
    if (result == invalid_argument || error == EMSGSIZE) return dropped = DropReason::oversize, true;
    if (error == ENETDOWN || error == ENXIO || error == ENODEV) {
      link_->refresh();
      if (link_->gone()) set_failed(link_->gone_error(label_));
      dropped = DropReason::link_down;
      return true;
    }
    if (error == EAGAIN || error == ENOBUFS || error == ENOMEM || error == EINTR || error == 0) return false;
    dropped = DropReason::refused;
    return true;
  }

  void reclaim() noexcept override { limit_ = failed() ? tail_ : settled_ + static_cast<std::uint32_t>(ring_size()); }
  WaitSource wait_source() override { return {-1, 0, true}; }
  bool arm(std::uint64_t& deadline) override {
    link_->check();
    if (link_->gone()) set_failed(link_->gone_error(label_)), reclaim();
    deadline = std::min(deadline, Clock::monotonic() + longest_sleep_ns);
    return true;
  }

  std::shared_ptr<Link> link_;
  Handle handle_;
  OwnedRing owned_;
};

struct PfringPort final : PortHandle {
  Result<void> close_device() override {
    for (auto& queue : rx) static_cast<PfringRx&>(*queue).close();
    for (auto& queue : tx) static_cast<PfringTx&>(*queue).close();
    return {};
  }
  std::uint64_t link_downs() const noexcept override { return link->downs_by_now(); }
  std::shared_ptr<Link> link;
};

// "zc:eth7@1" → "eth7".
std::string interface_of(std::string_view device) {
  if (const auto colon = device.find(':'); colon != std::string_view::npos) device.remove_prefix(colon + 1);
  return std::string(device.substr(0, device.find('@')));
}

}  // namespace

}  // namespace pfring

Result<void> pfring_available() {
  auto library = pfring::Library::load("", "open pfring:");
  if (!library) return std::unexpected(library.error());
  if (!pfring::module_loaded()) return pfring::refused({.attempted = "open pfring:", .device = ""}, ENOENT);
  return {};
}

Opened open_pfring(Uri& uri, const PortOptions& options) {
  using namespace pfring;
  Setup setup;
  setup.attempted = "open " + uri.text();
  setup.device = uri.name();
  setup.slots = uri.number("ring", default_ring, SlotRing::smallest, SlotRing::largest);
  setup.capacity = uri.number("frame", 0, 128, largest_frame);
  setup.promiscuous = uri.flag("promisc", true);
  setup.hardware_time = uri.choice("time", {"kernel", "hardware"}) == "hardware";
  const auto path = uri.text_option("library");
  const auto wait = LinkWait::from(uri);
  if (auto ok = uri.finish(); !ok) return std::unexpected(ok.error());
  auto library = Library::load(path, setup.attempted);
  if (!library) return std::unexpected(library.error());
  setup.library = *library;
  auto link = Link::open(interface_of(setup.device), setup.attempted);
  if (!link) return std::unexpected(link.error());
  setup.link = *link;
  if (!setup.link->ethernet())
    return fail(Error::Kind::device, setup.attempted, "the frames of {} have no Ethernet header", setup.link->name())
        .hint("an Ethernet interface; `ip link` shows link/ether");
  if (setup.capacity == 0) setup.capacity = std::max(default_frame, setup.link->mtu() + headers);
  setup.pool = options.pool;
  if (!setup.pool) {
    auto shared = Pool::shared(setup.capacity + PoolOptions{}.headroom);
    if (!shared) return std::unexpected(shared.error());
    setup.pool = *shared;
  }
  setup.capacity = std::min(setup.capacity, setup.pool->frame_size() - setup.pool->headroom());

  auto port = std::make_unique<PfringPort>();
  port->link = setup.link;
  auto& info = port->info;
  for (const bool rx : {true, false}) {
    if (!(rx ? receives(options.direction) : transmits(options.direction))) continue;
    auto handle = open_handle(setup, rx);
    if (!handle) return std::unexpected(handle.error());
    std::uint32_t version = 0;
    setup.library->version(handle->ring(), &version);
    info.mode = fmt::format("{}, PF_RING {}.{}.{}", setup.device.starts_with("zc:") ? "ZC" : "through the kernel's driver",
                            version >> 16, version >> 8 & 0xff, version & 0xff);
    auto owned = OwnedRing::create(setup.slots, setup.pool);
    if (!owned) return std::unexpected(owned.error());
    auto label = fmt::format("pfring:{} {} 0", setup.device, rx ? "rx" : "tx");
    if (rx) port->rx.push_back(std::make_unique<PfringRx>(setup, std::move(*handle), std::move(*owned), std::move(label)));
    else port->tx.push_back(std::make_unique<PfringTx>(setup, std::move(*handle), std::move(*owned), std::move(label)));
  }
  for (auto& queue : port->rx) {
    const auto& ring = static_cast<PfringRx&>(*queue);
    if (auto ok = enable(ring.handle(), setup.attempted); !ok) return std::unexpected(ok.error());
    info.rx_ring = ring.ring_size();
    info.queue_bytes += ring.memory();
  }
  for (auto& queue : port->tx) {
    const auto& ring = static_cast<PfringTx&>(*queue);
    if (auto ok = enable(ring.handle(), setup.attempted); !ok) return std::unexpected(ok.error());
    info.tx_ring = ring.ring_size();
    info.queue_bytes += ring.memory();
  }
  if (auto ok = setup.link->wait_ready(wait, setup.attempted); !ok) return std::unexpected(ok.error());
  info.device = setup.link->name();
  info.frame_size = std::min<std::size_t>(setup.capacity, setup.link->mtu() + 14);
  info.headroom = setup.pool->headroom();
  info.time_source = port->rx.empty() ? TimeSource::clock : setup.hardware_time ? TimeSource::hardware : TimeSource::kernel;
  info.mac = setup.link->mac();
  info.mtu = setup.link->mtu();
  info.link_bits = setup.link->speed();
  return port;
}

}  // namespace efio
