// TUNSETIFF on a descriptor of /dev/net/tun makes a device, or attaches the descriptor to one that is there, as its next
// queue. The device lives as long as a descriptor is attached, or for ever after TUNSETPERSIST. What the flags say (one
// queue or several, an offload header before each frame) holds for the device, not for a descriptor: the last who attaches
// decides. TUNSETOFFLOAD says what the kernel may hand us unfinished.
//
// What we write counts as received by the device (rx_packets), what we read as sent by it (tx_packets, at the moment of
// reading). A frame for which its queue to us (txqueuelen frames) has no room counts in tx_dropped.
#include "efio/engines/tap_device.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>
#include <string_view>

#include "efio/engines/link.h"
#include "efio/engines/vnet.h"
#include "efio/fail.h"

namespace efio {

namespace {

constexpr unsigned segments_udp = 0x20 | 0x40;  // TUN_F_USO4, TUN_F_USO6 of Linux 6.2
constexpr std::size_t drops_column = 11;        // of /proc/net/dev, behind the name, from 0
constexpr std::size_t first_read = 4096;

std::mutex registry_mutex;
using Registry = std::map<std::pair<std::uint64_t, std::string>, std::weak_ptr<TapDevice>>;  // by namespace and name
Registry& registry() {
  static Registry devices;
  return devices;
}

Result<Fd> open_socket(const std::string& attempted) {
  Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail(errno, "{}: socket", attempted);
  return socket;
}

// Names the network namespace of the calling thread.
std::uint64_t namespace_cookie(const Fd& socket) noexcept {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  ::getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size);  // before Linux 5.14 all are one
  return cookie;
}

ifreq request_for(const std::string& name) noexcept {
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), std::min(name.size(), sizeof request.ifr_name - 1));
  return request;
}

Result<void> interface_request(unsigned long code, ifreq& request, const char* what, const std::string& attempted) {
  auto socket = open_socket(attempted);
  if (!socket) return std::unexpected(socket.error());
  if (::ioctl(socket->get(), code, &request) == 0) return {};
  if (errno == EPERM || errno == EACCES) return fail(errno, "{}: {}", attempted, what).hint("{}", tap_privilege_hint());
  return fail(errno, "{}: {}", attempted, what);
}

// Why TUNSETIFF said no.
Failure refusal(int error, const TapWish& wish, bool exists) {
  switch (error) {
    case EPERM:
    case EACCES:
      return fail(Error::Kind::permission, wish.attempted, "a TAP device needs root or CAP_NET_ADMIN")
          .hint("{}", tap_privilege_hint());
    case EBUSY:
      return fail(Error::Kind::device, wish.attempted, "another program holds it")
          .hint("end that program, or another name; tap:tap%d takes a free one");
    case E2BIG:
      return fail(Error::Kind::device, wish.attempted, "it has all the queues that a TAP device can have").hint("fewer: queues=");
    case EINVAL:
      if (!exists)
        return fail(Error::Kind::usage, wish.attempted, "the kernel takes no such name for an interface")
            .hint("letters and digits, as in tap:t0; tap:tap%d numbers it");
      if (wish.queues > 1)
        return fail(Error::Kind::device, wish.attempted, "it exists and is no TAP device of several queues")
            .hint("queues=1, or make it by `ip tuntap add {} mode tap multi_queue`", wish.name);
      return fail(Error::Kind::device, wish.attempted, "it exists and is no TAP device").hint("another name, or packet:{}", wish.name);
    default:
      return fail(error, "{}: TUNSETIFF", wish.attempted);
  }
}

}  // namespace

std::string tap_privilege_hint() {
  return "run as root, `sudo setcap cap_net_admin+ep PROGRAM`, or a device that `sudo ip tuntap add NAME mode tap user $USER` made";
}

Result<Fd> open_tap_control(const std::string& attempted) {
  Fd control(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (control) return control;
  if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
    return fail(Error::Kind::unavailable, attempted, "there is no /dev/net/tun")
        .hint("`modprobe tun`; in a container, --device /dev/net/tun");
  return fail(errno, "{}: /dev/net/tun", attempted).hint("{}", tap_privilege_hint());
}

Result<std::shared_ptr<TapDevice>> TapDevice::open(const TapWish& wish) {
  auto socket = open_socket(wish.attempted);
  if (!socket) return std::unexpected(socket.error());
  const auto net = namespace_cookie(*socket);
  const std::scoped_lock lock(registry_mutex);
  std::erase_if(registry(), [](const auto& entry) { return entry.second.expired(); });
  const auto known = registry().find({net, wish.name});
  auto device = known != registry().end() ? known->second.lock() : nullptr;
  if (!device) {
    auto made = make(wish);
    if (made) registry()[{net, (*made)->name_}] = *made;
    return made;
  }
  if ((wish.queues != 0 && wish.queues != device->queues()) || wish.offload != device->offload_)
    return fail(Error::Kind::usage, wish.attempted, "this program has it open with queues={}&offload={}", device->queues(),
                device->offload_ ? "on" : "off")
        .hint("the same in every opening");
  return device;
}

Result<std::shared_ptr<TapDevice>> TapDevice::make(const TapWish& wish) {
  if (auto ok = check_interface_name(wish.name, wish.attempted); !ok) return std::unexpected(ok.error());
  std::shared_ptr<TapDevice> device(new TapDevice);
  device->name_ = wish.name;
  device->offload_ = wish.offload;
  if (auto ok = device->attach(wish); !ok) return std::unexpected(ok.error());
  if (auto ok = device->set_offloads(wish); !ok) return std::unexpected(ok.error());
  device->uses_.resize(device->descriptors_.size());
  device->counters_ = Fd(::open("/proc/thread-self/net/dev", O_RDONLY | O_CLOEXEC));
  device->text_.resize(first_read);
  return device;
}

Result<void> TapDevice::attach(const TapWish& wish) {
  const auto wanted = std::max<std::size_t>(wish.queues, 1);
  int flags = IFF_TAP | IFF_NO_PI | (offload_ ? IFF_VNET_HDR : 0) | (wanted > 1 ? IFF_MULTI_QUEUE : 0);
  while (descriptors_.size() < wanted) {
    auto control = open_tap_control(wish.attempted);
    if (!control) return std::unexpected(control.error());
    const bool first = descriptors_.empty();
    auto request = request_for(name_);
    request.ifr_flags = static_cast<short>(flags);
    int error = ::ioctl(control->get(), TUNSETIFF, &request) == 0 ? 0 : errno;
    if (error == EINVAL && first && wanted == 1) {
      // A device that stays may have been made for several queues; one of them will do.
      flags |= IFF_MULTI_QUEUE;
      request.ifr_flags = static_cast<short>(flags);
      error = ::ioctl(control->get(), TUNSETIFF, &request) == 0 ? 0 : errno;
    }
    if (error != 0) return refusal(error, wish, ::if_nametoindex(wish.name.c_str()) != 0);
    if (first) name_ = request.ifr_name;
    descriptors_.push_back(std::move(*control));
  }
  return {};
}

// Also undoes what another program may have left at a device that stays.
Result<void> TapDevice::set_offloads(const TapWish& wish) {
  const int fd = descriptors_[0].get();
  const int header = static_cast<int>(vnet_header_size);
  if (offload_ && ::ioctl(fd, TUNSETVNETHDRSZ, &header) != 0) return fail(errno, "{}: TUNSETVNETHDRSZ", wish.attempted);
  const unsigned usual = offload_ ? TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN : 0U;
  if (offload_ && ::ioctl(fd, TUNSETOFFLOAD, usual | segments_udp) == 0) return {};
  if (::ioctl(fd, TUNSETOFFLOAD, usual) != 0) return fail(errno, "{}: TUNSETOFFLOAD", wish.attempted).hint("offload=off");
  return {};
}

Result<void> TapDevice::set_mtu(std::uint32_t mtu, const std::string& attempted) const {
  auto request = request_for(name_);
  request.ifr_mtu = static_cast<int>(mtu);
  return interface_request(SIOCSIFMTU, request, "set the MTU", attempted);
}

Result<void> TapDevice::bring_up(const std::string& attempted) const {
  auto request = request_for(name_);
  if (auto ok = interface_request(SIOCGIFFLAGS, request, "ask whether it is up", attempted); !ok) return ok;
  if ((request.ifr_flags & IFF_UP) != 0) return {};
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  return interface_request(SIOCSIFFLAGS, request, "bring it up", attempted);
}

Result<void> TapDevice::set_persistent(bool on, const std::string& attempted) const {
  if (::ioctl(descriptors_[0].get(), TUNSETPERSIST, on ? 1UL : 0UL) == 0) return {};
  return fail(errno, "{}: TUNSETPERSIST", attempted);
}

// The counters that need no lock of the kernel's: an answer of rtnetlink may be as late as another program makes it.
std::optional<std::uint64_t> TapDevice::read_drops() {
  if (!counters_) return {};
  std::size_t size = 0;
  if (::lseek(counters_.get(), 0, SEEK_SET) != 0) return {};
  for (;;) {
    const auto got = ::read(counters_.get(), text_.data() + size, text_.size() - size);
    if (got < 0) return {};
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
    if (size == text_.size()) text_.resize(2 * size);
  }
  std::string_view rest(text_.data(), size);
  while (!rest.empty()) {
    auto line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    if (!line.starts_with(name_) || line.substr(name_.size(), 1) != ":") continue;
    line.remove_prefix(name_.size() + 1);
    std::uint64_t value = 0;
    for (std::size_t column = 0; column <= drops_column; ++column) {
      line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
      const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
      if (error != std::errc()) return {};
      line.remove_prefix(static_cast<std::size_t>(end - line.data()));
    }
    return value;
  }
  return {};
}

std::optional<std::uint64_t> TapDevice::take_drops() noexcept {
  const std::scoped_lock lock(mutex_);
  const auto now = read_drops();
  if (!now || *now < drops_seen_) return {};  // another device has the name
  return *now - std::exchange(drops_seen_, *now);
}

Result<TapLoan> TapLoan::take(std::shared_ptr<TapDevice> device, std::size_t queue, Direction direction,
                              const std::string& attempted) {
  const std::scoped_lock lock(registry_mutex);
  bool& taken = direction == Direction::rx ? device->uses_[queue].rx : device->uses_[queue].tx;
  if (taken)
    return fail(Error::Kind::device, attempted, "this program has queue {} open already in this direction", queue)
        .hint("close it first, or open the other direction or another queue (queues=, queue=)");
  const bool first = std::ranges::none_of(device->uses_, &TapDevice::Use::rx);
  if (direction == Direction::rx && first) device->take_drops();
  taken = true;
  TapLoan loan;
  loan.device_ = std::move(device);
  loan.queue_ = queue;
  loan.direction_ = direction;
  return loan;
}

TapLoan::~TapLoan() {
  if (!device_) return;
  const std::scoped_lock lock(registry_mutex);
  (direction_ == Direction::rx ? device_->uses_[queue_].rx : device_->uses_[queue_].tx) = false;
  device_.reset();
}

}  // namespace efio
