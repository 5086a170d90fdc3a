// A netmap port used as its manual says, without any of the engine's code: the counterpart at the far end of a pipe, a
// switch or a veth pair. One descriptor for all rings, poll left as it is.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "efio/engines/netmap_system.h"

namespace efio::test {

class RawPort {
 public:
  // Throws std::runtime_error.
  explicit RawPort(const std::string& name, std::uint16_t rings = 1, std::uint64_t flags = 0);
  ~RawPort();
  RawPort(const RawPort&) = delete;
  RawPort& operator=(const RawPort&) = delete;

  // Waits a bounded time for room.
  bool send(std::span<const std::byte> frame, std::size_t ring = 0);
  // From any ring.
  std::optional<std::vector<std::byte>> receive(std::chrono::milliseconds patience);

  int fd() const { return fd_; }
  std::size_t rings(bool tx) const { return tx ? got_.tx_rings : got_.rx_rings; }
  netmap::Ring& ring(bool tx, std::size_t index) const;
  netmap::RingSlot& slot(netmap::Ring& ring, std::uint32_t index) const;
  std::byte* buffer(netmap::Ring& ring, std::uint32_t index) const;
  int sync(bool tx) const;

 private:
  netmap::System& system_;
  int fd_ = -1;
  std::byte* base_ = nullptr;
  netmap::RegisterBody got_{};
};

}  // namespace efio::test
