#include "tests/support/plain_socket.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <stdexcept>
#include <thread>

namespace efio::test {

PlainSocket::PlainSocket(const Netns& ns, const std::string& device) {
  ns.run([&] {
    fd_ = Fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1, bytes = 256 << 20;
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(::if_nametoindex(device.c_str()));
    if (!fd_ || ::setsockopt(fd_.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0 ||
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0 ||
        // A receiver in the kernel may hold what was sent, and count it as the sender's, until someone looks at it.
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0 ||
        ::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      throw std::runtime_error("no plain socket on " + device);
  });
}

bool PlainSocket::send(std::span<const std::byte> frame) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (::send(fd_.get(), frame.data(), frame.size(), 0) < 0) {
    if ((errno != EAGAIN && errno != ENOBUFS) || std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return true;
}

void PlainSocket::set_mark(unsigned mark) {
  if (::setsockopt(fd_.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0) throw std::runtime_error("no SO_MARK");
}

std::optional<std::vector<std::byte>> PlainSocket::receive(std::chrono::milliseconds patience) {
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length);  // ENETDOWN of a link that was down since
  pollfd event{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  if (patience.count() > 0) ::poll(&event, 1, static_cast<int>(patience.count()));
  std::vector<std::byte> frame(65536);
  const auto size = ::recv(fd_.get(), frame.data(), frame.size(), MSG_DONTWAIT);
  if (size < 0) return std::nullopt;  // nothing, or a link that went down meanwhile
  frame.resize(static_cast<std::size_t>(size));
  return frame;
}

}  // namespace efio::test
