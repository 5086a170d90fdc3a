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
#include <sys/resource.h>
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
  static Registry all;
  return all;
}

std::uint64_t namespace_of(const Fd& socket) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  return ::getsockopt(socket.get(), SOL_SOCKET, netns_cookie, &cookie, &size) == 0 ? cookie : 0;
}

template <class T>
Result<void> set_option(const Fd& socket, int option, const T& value, const char* name, const std::string& attempted) {
  if (::setsockopt(socket.get(), SOL_XDP, option, &value, sizeof value) == 0) return {};
  return fail(errno, "{}: {}", attempted, name);
}

Result<void> register_memory(const Fd& socket, const Pool& pool, const std::string& attempted) {
  xdp_umem_reg memory{};
  memory.addr = reinterpret_cast<std::uint64_t>(pool.base());
  memory.len = pool.frames() * pool.stride();
  memory.chunk_size = static_cast<std::uint32_t>(pool.stride());
  if (::setsockopt(socket.get(), SOL_XDP, XDP_UMEM_REG, &memory, sizeof memory) == 0) return {};
  const int error = errno;
  rlimit limit{};
  if (error != ENOBUFS || ::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return fail(error, "{}: XDP_UMEM_REG", attempted);
  return fail(Error::Kind::memory, attempted, "{} bytes of frames are to be locked in memory, and the user's limit is {}",
              memory.len, limit.rlim_cur)
      .hint("`ulimit -l` of {} or more, CAP_IPC_LOCK, or less memory (frames=, ring=)", (memory.len + 1023) / 1024);
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

Result<void> bind(const Fd& socket, const XdpSocketWish& wish, std::uint16_t flags, int shared_with) {
  sockaddr_xdp address{};
  address.sxdp_family = AF_XDP;
  address.sxdp_flags = flags;
  address.sxdp_ifindex = static_cast<std::uint32_t>(wish.link->index());
  address.sxdp_queue_id = wish.queue;
  address.sxdp_shared_umem_fd = static_cast<std::uint32_t>(shared_with);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return {};
  return fail(errno, "{}: bind to queue {} of {}", wish.attempted, wish.queue, wish.link->name());
}

bool is_busy(const Error& error) { return error.os == EBUSY; }

}  // namespace

Result<Fd> open_xdp_socket(const std::string& attempted) {
  Fd fd(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (fd) return fd;
  if (errno == EAFNOSUPPORT)
    return fail(Error::Kind::unavailable, attempted, "this kernel has no AF_XDP").hint("CONFIG_XDP_SOCKETS, or packet:");
  if (errno == EPERM)
    return fail(Error::Kind::permission, attempted, "AF_XDP needs root or CAP_NET_RAW").hint("{}", raw_socket_hint());
  return fail(errno, "{}: AF_XDP", attempted);
}

XdpChannel::~XdpChannel() {
  if (!umem) return;
  umem->pool->release(left_by_rx);
  umem->pool->release(left_by_tx);
}

Result<XdpSocket> XdpSocket::attempt(const XdpSocketWish& wish, bool zero_copy) {
  const auto& attempted = wish.attempted;
  const bool receiving = wish.direction == Direction::rx;
  auto opened = open_xdp_socket(attempted);
  if (!opened) return std::unexpected(opened.error());
  XdpSocket socket;
  socket.fd_ = std::move(*opened);
  socket.direction_ = wish.direction;
  const Fd& fd = socket.fd_;

  auto& all = registry();
  const std::scoped_lock lock(all.mutex);
  const Registry::Key key{namespace_of(fd), wish.link->index(), wish.queue};
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
  if (registers) {
    if (auto ok = register_memory(fd, *wish.pool, attempted); !ok) return std::unexpected(ok.error());
    umem = std::make_shared<XdpUmem>(wish.pool, zero_copy, wish.fragments);
  }
  const auto fill_entries = std::bit_ceil(wish.rx_frames);
  if (!joins) {
    if (auto ok = set_option(fd, XDP_UMEM_FILL_RING, fill_entries, "XDP_UMEM_FILL_RING", attempted); !ok)
      return std::unexpected(ok.error());
    if (auto ok = set_option(fd, XDP_UMEM_COMPLETION_RING, wish.completions, "XDP_UMEM_COMPLETION_RING", attempted); !ok)
      return std::unexpected(ok.error());
  }
  const auto entries = receiving ? wish.rx_slots : wish.tx_slots;
  if (auto ok = receiving ? set_option(fd, XDP_RX_RING, entries, "XDP_RX_RING", attempted)
                          : set_option(fd, XDP_TX_RING, entries, "XDP_TX_RING", attempted);
      !ok)
    return std::unexpected(ok.error());

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

  const auto own_flags = static_cast<std::uint16_t>((zero_copy ? XDP_ZEROCOPY : XDP_COPY) | XDP_USE_NEED_WAKEUP |
                                                    (wish.fragments ? xdp_use_fragments : 0));
  auto bound = joins       ? bind(fd, wish, XDP_SHARED_UMEM, channel->sockets.front())
               : registers ? bind(fd, wish, own_flags, 0)
                           : bind(fd, wish, XDP_SHARED_UMEM, umem->sockets.front());
  if (!bound) return std::unexpected(bound.error());

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
      error.why = "the queue is in use by an AF_XDP socket of another program";
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
  auto channel = std::move(channel_);
  const std::scoped_lock lock(registry().mutex);
  auto& list = direction_ == Direction::rx ? channel->left_by_rx : channel->left_by_tx;
  list.insert(list.end(), left.begin(), left.end());
  (direction_ == Direction::rx ? channel->rx_open : channel->tx_open) = false;
  channel.reset();
}

Result<std::shared_ptr<Pool>> choose_xdp_pool(const XdpPoolWish& wish, const std::string& attempted) {
  const auto usable = [](const Pool& pool) {
    return !pool.growable() && pool.stride() == pool.frame_size() && std::has_single_bit(pool.stride()) &&
           pool.stride() >= smallest_chunk && pool.stride() <= largest_chunk;
  };
  if (wish.given && usable(*wish.given)) return wish.given;

  auto& all = registry();
  const std::scoped_lock lock(all.mutex);
  std::erase_if(all.pools, [](const auto& known) { return known.expired(); });
  for (const auto& known : all.pools)
    if (auto pool = known.lock(); pool && pool->frame_size() == wish.chunk && pool->unused() >= wish.needed) return pool;
  // Room for a second port like this one, so that the two of a bridge share it.
  auto frames = wish.frames != 0 ? wish.frames : std::max(default_pool_bytes / wish.chunk, 2 * wish.needed + spare_frames);
  frames = (frames + 1) / 2 * 2;  // whole pages
  if (frames < wish.needed)
    return fail(Error::Kind::usage, attempted, "frames={}, and its queues need {}", frames, wish.needed)
        .hint("frames={} or more, or a smaller ring=", wish.needed);
  auto pool = Pool::create({.frame_size = wish.chunk, .headroom = xdp_kernel_headroom, .frames = frames, .spares = 0,
                            .growable = false, .packed = true});
  if (pool) all.pools.push_back(*pool);
  return pool;
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
