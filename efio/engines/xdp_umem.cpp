// Binding an AF_XDP socket (Documentation/networking/af_xdp.rst). The order is fixed: memory and rings are set up, then
// mapped, then the socket is bound to a queue; nothing of it can be changed later. What makes it more than that:
//
//   - A queue takes one pair of fill and completion rings, from the first socket that binds to it; a second socket (the
//     other direction) shares them by naming the first (XDP_SHARED_UMEM), and can then have no flags of its own.
//   - A socket of another queue or device may name one of ours too: it uses the same memory, with rings of its own. It
//     takes over copy or zero-copy from it. So where one device can do zero-copy and the other cannot, the memory is
//     registered twice, once for either mode: frames still move between the two, as only the pool counts for that.
//   - The kernel lets go of a queue some time after its last socket was closed; until then a bind fails with EBUSY.
#include "efio/engines/xdp_umem.h"

#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>

#include "efio/fail.h"

namespace efio {

namespace {

constexpr int netns_cookie = 71;  // SO_NETNS_COOKIE, Linux 5.14
constexpr auto busy_patience = std::chrono::seconds(1);
constexpr auto busy_pause = std::chrono::milliseconds(5);
constexpr std::size_t default_pool_bytes = 4 << 20;
constexpr std::size_t spare_frames = 256;
constexpr std::size_t smallest_chunk = 2048, largest_chunk = 4096;

// What this process has open. The mutex is also that of the lists of sockets in XdpUmem and XdpChannel.
struct Registry {
  using Key = std::tuple<std::uint64_t, int, unsigned>;  // namespace, interface, queue
  std::mutex mutex;
  std::map<Key, std::weak_ptr<XdpChannel>> channels;
  std::vector<std::weak_ptr<XdpUmem>> umems;
  std::vector<std::weak_ptr<Pool>> pools;
};
Registry& registry() {
  static Registry* all = new Registry;  // ports may outlive static objects
  return *all;
}

std::uint64_t network_namespace() {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return ::getsockopt(socket.get(), SOL_SOCKET, netns_cookie, &cookie, &size) == 0 ? cookie : 0;
}

template <class Entry>
Result<XdpRing<Entry>> map_ring(const Fd& socket, std::uint64_t page_offset, const xdp_ring_offset& at, std::uint32_t entries,
                                const std::string& attempted) {
  const std::size_t bytes = at.desc + entries * sizeof(Entry);
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, socket.get(),
                        static_cast<off_t>(page_offset));
  if (memory == MAP_FAILED) return fail(errno, "{}: map a ring of {}", attempted, entries);
  return XdpRing<Entry>(Mapping(memory, bytes), at, entries);
}

bool is_busy(const Error& error) { return error.os == EBUSY; }

}  // namespace

XdpChannel::~XdpChannel() {
  if (!umem) return;
  umem->pool->release(left_by_rx);
  umem->pool->release(left_by_tx);
}

Result<XdpSocket> XdpSocket::attempt(const XdpSocketWish& wish, bool zero_copy) {
  const auto& attempted = wish.attempted;
  const bool receiving = wish.direction == Direction::rx;
  XdpSocket socket;
  socket.direction_ = wish.direction;

  auto& all = registry();
  const std::scoped_lock lock(all.mutex);
  const Registry::Key key{network_namespace(), wish.link->index(), wish.queue};
  auto channel = all.channels[key].lock();
  if (channel && channel->sockets.empty()) channel = nullptr;  // being closed
  const bool joins = channel != nullptr;
  std::shared_ptr<XdpUmem> umem;
  if (joins) {
    umem = channel->umem;
    if (receiving ? channel->rx_open : channel->tx_open)
      return fail(Error::Kind::device, attempted, "queue {} is open in this direction already, in this program", wish.queue)
          .hint("close it first, or open another queue or the other direction");
    if (umem->pool != wish.pool)
      return fail(Error::Kind::usage, attempted, "the other direction of queue {} is open with another pool", wish.queue)
          .hint("the same pool and frame= for both");
    if (receiving && channel->fill.size() < wish.rx_frames)
      return fail(Error::Kind::usage, attempted, "queue {} was opened for sending first, with a fill ring of {}", wish.queue,
                  channel->fill.size())
          .hint("the same ring= in both directions");
    if (wish.copy == XdpCopy::zero_copy && !umem->zero_copy)
      return fail(Error::Kind::device, attempted, "the other direction of queue {} is open with copies", wish.queue);
  } else {
    const auto same = [&](const auto& known) {
      const auto other = known.lock();
      return other && other->pool == wish.pool && other->zero_copy == zero_copy && other->fragments == wish.fragments &&
             !other->sockets.empty();
    };
    std::erase_if(all.umems, [](const auto& known) { return known.expired(); });
    if (const auto known = std::ranges::find_if(all.umems, same); known != all.umems.end()) umem = known->lock();
    channel = std::make_shared<XdpChannel>();
  }

  const bool registers = umem == nullptr;
  if (registers) umem = std::make_shared<XdpUmem>(wish.pool, zero_copy, wish.fragments);
  const auto fill_entries = std::bit_ceil(wish.rx_frames);
  const auto entries = receiving ? wish.rx_slots : wish.tx_slots;
  auto bound = bind_xdp_socket({.attempted = attempted,
                                .device = wish.link->name(),
                                .interface = wish.link->index(),
                                .queue = wish.queue,
                                .direction = wish.direction,
                                .zero_copy = zero_copy,
                                .fragments = wish.fragments,
                                .entries = entries,
                                .fill = joins ? 0 : fill_entries,
                                .completion = joins ? 0 : wish.completions,
                                .shared_with = joins ? channel->sockets.front() : registers ? -1 : umem->sockets.front(),
                                .memory = wish.pool->base(),
                                .size = wish.pool->frames() * wish.pool->stride(),
                                .chunk = wish.pool->stride(),
                                .memfd = wish.pool->memfd(),
                                .broker = wish.broker});
  if (!bound) return std::unexpected(bound.error());
  socket.fd_ = std::move(*bound);
  const Fd& fd = socket.fd_;

  xdp_mmap_offsets at{};
  socklen_t size = sizeof at;
  if (::getsockopt(fd.get(), SOL_XDP, XDP_MMAP_OFFSETS, &at, &size) != 0) return fail(errno, "{}: XDP_MMAP_OFFSETS", attempted);
  if (size != sizeof at)
    return fail(Error::Kind::unavailable, attempted, "this kernel's AF_XDP is too old").hint("Linux 5.4 or newer, or packet:");
  auto ring = receiving ? map_ring<xdp_desc>(fd, XDP_PGOFF_RX_RING, at.rx, entries, attempted)
                        : map_ring<xdp_desc>(fd, XDP_PGOFF_TX_RING, at.tx, entries, attempted);
  if (!ring) return std::unexpected(ring.error());
  socket.descriptors = std::move(*ring);
  if (!joins) {
    auto fill = map_ring<std::uint64_t>(fd, XDP_UMEM_PGOFF_FILL_RING, at.fr, fill_entries, attempted);
    if (!fill) return std::unexpected(fill.error());
    auto completion = map_ring<std::uint64_t>(fd, XDP_UMEM_PGOFF_COMPLETION_RING, at.cr, wish.completions, attempted);
    if (!completion) return std::unexpected(completion.error());
    channel->fill = std::move(*fill);
    channel->completion = std::move(*completion);
  }

  (receiving ? channel->rx_open : channel->tx_open) = true;
  channel->umem = umem;
  channel->sockets.push_back(fd.get());
  umem->sockets.push_back(fd.get());
  if (registers) all.umems.push_back(umem);
  std::erase_if(all.channels, [](const auto& known) { return known.second.expired(); });
  all.channels[key] = channel;
  socket.channel_ = std::move(channel);
  return socket;
}

Result<XdpSocket> XdpSocket::open(const XdpSocketWish& wish) {
  const auto until = std::chrono::steady_clock::now() + busy_patience;
  std::string why_copy;
  bool zero_copy = wish.copy != XdpCopy::copy;
  for (;;) {
    auto socket = attempt(wish, zero_copy);
    if (socket) {
      socket->why_copy_ = std::move(why_copy);
      return socket;
    }
    auto error = socket.error();
    if (is_busy(error)) {
      if (std::chrono::steady_clock::now() < until) {
        std::this_thread::sleep_for(busy_pause);
        continue;
      }
      error.why = fmt::format("queue {} of {} is in use by an AF_XDP socket of another program", wish.queue, wish.link->name());
      error.hint = "another queue=, or end that program (`ss --xdp -p` shows it)";
      return std::unexpected(std::move(error));
    }
    const bool refused = error.os == EOPNOTSUPP || error.os == EINVAL || error.os == ENOTSUP;
    if (zero_copy && refused) {
      if (wish.copy == XdpCopy::best) {
        zero_copy = false;
        why_copy = "the driver has no zero-copy";
        continue;
      }
      error.kind = Error::Kind::unavailable;
      error.why = fmt::format("the driver of {} has no zero-copy for this queue ({})", wish.link->name(), error.why);
      error.hint = "mode=auto or mode=copy";
    } else if (error.os == EINVAL && wish.fragments) {
      error.hint = "frames of several slots need Linux 6.6; with jumbo=off a frame has at most one slot";
    }
    return std::unexpected(std::move(error));
  }
}

XdpSocket& XdpSocket::operator=(XdpSocket&& other) noexcept {
  std::swap(descriptors, other.descriptors);
  std::swap(fd_, other.fd_);
  std::swap(channel_, other.channel_);
  std::swap(direction_, other.direction_);
  std::swap(why_copy_, other.why_copy_);
  return *this;
}

void XdpSocket::shut() noexcept {
  if (!fd_) return;
  {
    const std::scoped_lock lock(registry().mutex);
    std::erase(channel_->sockets, fd_.get());
    std::erase(channel_->umem->sockets, fd_.get());
  }
  fd_ = Fd();  // the kernel waits here until its receive path is out of our memory
}

void XdpSocket::close(std::vector<std::uint64_t> left) noexcept {
  if (!channel_) return;
  shut();
  descriptors = {};  // a mapping keeps the socket, and the socket the device's queue
  auto channel = std::move(channel_);
  const std::scoped_lock lock(registry().mutex);
  auto& list = direction_ == Direction::rx ? channel->left_by_rx : channel->left_by_tx;
  list.insert(list.end(), left.begin(), left.end());
  (direction_ == Direction::rx ? channel->rx_open : channel->tx_open) = false;
  channel.reset();
}

XdpStock& XdpStock::operator=(XdpStock&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(frames_, other.frames_);
  return *this;
}

XdpStock::~XdpStock() {
  if (pool_) pool_->release(frames_);
}

Result<XdpStock> XdpStock::create(std::shared_ptr<Pool> pool, std::size_t frames) {
  auto reserved = pool->reserve(frames);
  if (!reserved) return std::unexpected(reserved.error());
  XdpStock stock;
  stock.pool_ = std::move(pool);
  stock.frames_ = std::move(*reserved);
  return stock;
}

Result<std::vector<std::uint64_t>> XdpStock::take(std::size_t n) {
  if (n > frames_.size()) return pool_->reserve(n);  // the other direction was closed meanwhile, and took its frames along
  std::vector<std::uint64_t> taken(frames_.end() - static_cast<std::ptrdiff_t>(n), frames_.end());
  frames_.resize(frames_.size() - n);
  return taken;
}

Result<XdpStock> stock_xdp_frames(const XdpPoolWish& wish, const std::string& attempted) {
  const auto usable = [](const Pool& pool) {
    return !pool.growable() && pool.stride() == pool.frame_size() && std::has_single_bit(pool.stride()) &&
           pool.stride() >= smallest_chunk && pool.stride() <= largest_chunk;
  };
  auto needed = wish.receiving.size() * wish.rx_frames + wish.sending.size() * wish.tx_frames;
  auto& all = registry();
  const std::scoped_lock lock(all.mutex);
  const auto here = network_namespace();
  std::shared_ptr<Pool> bound;  // of a queue's other direction
  const auto look_at = [&](unsigned queue, bool receives) {
    const auto known = all.channels.find({here, wish.interface, queue});
    const auto channel = known == all.channels.end() ? nullptr : known->second.lock();
    if (!channel || channel->sockets.empty()) return;
    bound = channel->umem->pool;
    if (receives && !channel->rx_open) needed -= std::min(wish.rx_frames, channel->left_by_rx.size());  // it goes on with these
  };
  for (const auto queue : wish.receiving) look_at(queue, true);
  for (const auto queue : wish.sending) look_at(queue, false);

  if (wish.given && usable(*wish.given)) return XdpStock::create(wish.given, needed);
  if (bound && bound->frame_size() == wish.chunk) {
    auto stock = XdpStock::create(bound, needed);
    if (stock) return stock;
    return fail(Error::Kind::memory, attempted, "the other direction's memory has {} frames left, and these queues need {}",
                bound->unused(), needed)
        .hint("frames= of the opening that came first; or both directions in one");
  }
  std::erase_if(all.pools, [](const auto& known) { return known.expired(); });
  for (const auto& known : all.pools)
    if (auto pool = known.lock(); pool && pool->frame_size() == wish.chunk)
      if (auto stock = XdpStock::create(pool, needed)) return stock;
  // Room for a second port like this one, so that the two of a bridge share it.
  auto frames = wish.frames != 0 ? wish.frames : std::max(default_pool_bytes / wish.chunk, 2 * needed + spare_frames);
  frames = (frames + 1) / 2 * 2;  // whole pages
  if (frames < needed)
    return fail(Error::Kind::usage, attempted, "frames={}, and its queues need {}", frames, needed)
        .hint("frames={} or more, or a smaller ring=", needed);
  auto pool = Pool::create({.frame_size = wish.chunk, .headroom = xdp_kernel_headroom, .frames = frames, .spares = 0,
                            .growable = false, .packed = true});
  if (!pool) return std::unexpected(pool.error());
  all.pools.push_back(*pool);
  return XdpStock::create(std::move(*pool), needed);
}

Result<void> audit_frames(std::vector<std::uint64_t> frames, std::size_t expected, const std::string& label) {
  std::ranges::sort(frames);
  const auto repeated = std::ranges::unique(frames);
  if (repeated.empty() && frames.size() == expected) return {};
  return fail(Error::Kind::misuse, "close " + label, "of its {} frames {} came home, {} of them twice", expected, frames.size(),
              repeated.size())
      .hint("was one of its slots overwritten?");
}

}  // namespace efio
