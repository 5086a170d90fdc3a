// A device seen through the plainest of sockets, as a counterpart that shares no code with the library: AF_PACKET, send()
// and recv(). It receives what the device receives, not what it sends.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "efio/descriptor.h"
#include "tests/support/netns.h"

namespace efio::test {

class PlainSocket {
 public:
  // Throws std::runtime_error.
  PlainSocket(const Netns& ns, const std::string& device);

  // Waits a bounded time for room. False if the kernel does not take it.
  bool send(std::span<const std::byte> frame);
  void set_mark(unsigned mark);  // SO_MARK of what is sent from now on; throws
  std::optional<std::vector<std::byte>> receive(std::chrono::milliseconds patience);

 private:
  Fd fd_;
};

}  // namespace efio::test
