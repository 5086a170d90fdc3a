// Internal: one request of the ethtool ioctl: a structure that begins with its command and may end in an array. For those who
// ask drivers more than ethtool.h does.
#pragma once

#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "efio/descriptor.h"

namespace efio {

// A request with room for `tail` bytes of its array, all zero. Plain data whose life begins with the words'.
template <class Request>
class EthtoolMessage {
 public:
  explicit EthtoolMessage(std::uint32_t command, std::size_t tail = 0)
      : words_((sizeof(Request) + tail + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t)),
        request_(reinterpret_cast<Request*>(words_.data())) {
    request_->cmd = command;
  }
  Request* operator->() noexcept { return request_; }
  std::byte* tail() noexcept { return reinterpret_cast<std::byte*>(words_.data()) + sizeof(Request); }

  bool send(const std::string& interface, const Fd& socket) {
    ifreq request{};
    if (interface.size() >= sizeof request.ifr_name) return false;
    std::memcpy(request.ifr_name, interface.data(), interface.size());
    request.ifr_data = reinterpret_cast<char*>(request_);
    return socket && ::ioctl(socket.get(), SIOCETHTOOL, &request) >= 0;
  }

 private:
  std::vector<std::uint64_t> words_;
  Request* request_;
};

// Ioctls about interfaces concern the namespace in which their socket was made.
inline Fd open_ethtool_socket() { return Fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)); }

}  // namespace efio
