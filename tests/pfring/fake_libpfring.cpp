// A libpfring for tests: the library's functions with its habits, over an AF_PACKET socket, so that links and devices are
// real ones. What the genuine library does to careless callers it does too: nothing before enable (-12); own frames come
// back unless the direction is set; a slot is overwritten by the next call; 209 bytes of header are written; a short
// buffer does not shorten caplen; a deleted device is silence.
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <string>

namespace {
constexpr int not_enabled = -12, not_supported = -7, too_long = -2;
constexpr std::size_t header_bytes = 209;
}  // namespace

struct PfringHandle {
  int fd = -1, index = 0, direction = 0, mode = 0;
  unsigned mtu = 0;
  std::uint32_t flags = 0, longest = 0;
  bool enabled = false;
  std::uint64_t read = 0, dropped = 0;
  std::array<unsigned char, 65536> slot{};
};

extern "C" {

PfringHandle* pfring_open(const char* device, std::uint32_t longest, std::uint32_t flags) {
  if (device == nullptr || std::strncmp(device, "zc:", 3) == 0) return errno = device == nullptr ? EINVAL : ENODEV, nullptr;
  const std::string name(device, std::strcspn(device, "@"));
  const unsigned index = ::if_nametoindex(name.c_str());
  if (index == 0) return errno = EINVAL, nullptr;
  const int fd = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return nullptr;
  ifreq request{};
  std::strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
  ::ioctl(fd, SIOCGIFMTU, &request);
  auto* ring = new PfringHandle;
  ring->fd = fd;
  ring->index = static_cast<int>(index);
  ring->mtu = static_cast<unsigned>(request.ifr_mtu);
  ring->flags = flags;
  ring->longest = longest;
  return ring;
}

int pfring_set_direction(PfringHandle* ring, int direction) { return ring->direction = direction, 0; }
int pfring_set_socket_mode(PfringHandle* ring, int mode) { return ring->mode = mode, 0; }
int pfring_set_poll_watermark(PfringHandle*, std::uint16_t) { return 0; }

int pfring_enable_ring(PfringHandle* ring) {
  const int on = 1, bytes = 2 << 20;
  if (ring->direction == 1) ::setsockopt(ring->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
  ::setsockopt(ring->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  if ((ring->flags & 8) != 0) {
    const packet_mreq request{.mr_ifindex = ring->index, .mr_type = PACKET_MR_PROMISC, .mr_alen = 0, .mr_address = {}};
    ::setsockopt(ring->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request, sizeof request);
  }
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ring->mode == 1 ? 0 : ETH_P_ALL);
  address.sll_ifindex = ring->index;
  if (::bind(ring->fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return -1;
  ring->enabled = true;
  return 0;
}

int pfring_recv(PfringHandle* ring, unsigned char** data, unsigned length, void* header, std::uint8_t) {
  if (!ring->enabled) return not_enabled;
  if (ring->mode == 1) return not_supported;
  std::memset(ring->slot.data(), 0xdb, ring->slot.size() / 32);  // what the last call gave is gone
  const auto got = ::recv(ring->fd, ring->slot.data(), ring->slot.size(), MSG_TRUNC | MSG_DONTWAIT);
  if (got <= 0) return 0;
  ++ring->read;
  std::memset(header, 0x5a, header_bytes);
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const std::int64_t seconds = now.tv_sec, micros = now.tv_nsec / 1000;
  const auto captured = static_cast<std::uint32_t>(std::min<std::size_t>(static_cast<std::size_t>(got), ring->longest));
  const auto whole = static_cast<std::uint32_t>(got);
  const std::uint64_t ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
  auto* at = static_cast<unsigned char*>(header);
  std::memcpy(at, &seconds, 8);
  std::memcpy(at + 8, &micros, 8);
  std::memcpy(at + 16, &captured, 4);
  std::memcpy(at + 20, &whole, 4);
  std::memcpy(at + 24, &ns, 8);
  if (length == 0) *data = ring->slot.data();
  else std::memcpy(*data, ring->slot.data(), std::min(length, captured));
  return 1;
}

int pfring_send(PfringHandle* ring, char* data, unsigned length, std::uint8_t) {
  if (length > ring->mtu + 14 + 4) return errno = EMSGSIZE, too_long;
  if (!ring->enabled) return not_enabled;
  if (ring->mode == 2) return not_supported;
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = ring->index;
  ifreq request{};
  request.ifr_ifindex = ring->index;
  const bool there = ::ioctl(ring->fd, SIOCGIFNAME, &request) == 0 && ::ioctl(ring->fd, SIOCGIFFLAGS, &request) == 0;
  if (length < 14 || !there || (request.ifr_flags & IFF_RUNNING) == 0) return errno = ENETDOWN, -1;
  const auto sent = ::sendto(ring->fd, data, length, MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  return static_cast<int>(sent);
}

int pfring_poll(PfringHandle* ring, unsigned milliseconds) {
  pollfd event{.fd = ring->fd, .events = POLLIN, .revents = 0};
  const int got = ::poll(&event, 1, static_cast<int>(milliseconds));
  if ((event.revents & POLLERR) != 0) {
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(ring->fd, SOL_SOCKET, SO_ERROR, &error, &size);
  }
  return got > 0 && (event.revents & POLLIN) != 0 ? 1 : 0;
}

int pfring_get_selectable_fd(PfringHandle* ring) { return ring->fd; }

int pfring_stats(PfringHandle* ring, std::uint64_t* stats) {
  tpacket_stats since{};
  socklen_t size = sizeof since;
  if (::getsockopt(ring->fd, SOL_PACKET, PACKET_STATISTICS, &since, &size) == 0) ring->dropped += since.tp_drops;
  stats[0] = ring->read, stats[1] = ring->dropped, stats[2] = 0;
  return 0;
}

int pfring_version(PfringHandle*, std::uint32_t* version) { return *version = 0x080900, 0; }
void pfring_breakloop(PfringHandle*) {}

void pfring_close(PfringHandle* ring) {
  ::close(ring->fd);
  delete ring;
}

}
