// Internal: all that netmap: asks of the system. The library's own answer is netmap_linux.cpp, the only part of the
// engine that knows Linux; tests put a simulated device in its place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "efio/engines/link.h"
#include "efio/engines/netmap_abi.h"
#include "efio/result.h"

namespace efio::netmap {

// The network interface beside a netmap port: its link, and what has to be set on it. Undoes what it set at its end.
class Nic {
 public:
  virtual ~Nic() = default;

  struct About {
    std::uint32_t mtu = 0;
    std::array<std::uint8_t, 6> mac{};
    std::uint64_t speed = 0;  // bits per second, 0: none or unknown
    bool ethernet = false;
    bool joined = false;      // the far end is another interface of this machine (veth): its receiver empties our ring
  };
  virtual const About& about() const noexcept = 0;

  // Promiscuous on, everything off by which frames are merged, cut or left with a checksum to fill in. Errors: permission.
  virtual Result<void> set_up(bool promiscuous, bool offloads_off, const std::string& attempted) = 0;
  virtual Result<void> wait_ready(const LinkWait& wait, const std::string& attempted) = 0;

  // As Link's. check() never blocks.
  virtual void check() noexcept = 0;
  virtual bool up() const noexcept = 0;
  virtual bool gone() const noexcept = 0;
  virtual std::uint64_t downs() const noexcept = 0;
  virtual Error gone_error(const std::string& label) const = 0;

  // Frames that the device has counted as received, or 0 where it does not count.
  virtual std::uint64_t received() noexcept = 0;
};

// Results as the system calls give them: -1 and errno.
class System {
 public:
  virtual ~System() = default;

  virtual int open() = 0;
  virtual void close(int fd) noexcept = 0;
  virtual int control(int fd, RequestHeader& request) = 0;
  virtual int sync(int fd, unsigned long request) noexcept = 0;  // txsync_request or rxsync_request
  virtual void* map(int fd, std::size_t size) = 0;               // null: errno tells
  virtual void unmap(void* address, std::size_t size) noexcept = 0;

  // Adds the descriptor to an epoll instance, or takes it out. This enters netmap's poll().
  virtual bool watch(int epoll, int fd, std::uint32_t events) noexcept = 0;
  virtual void unwatch(int epoll, int fd) noexcept = 0;

  virtual bool has_interface(const std::string& name) = 0;
  virtual Result<std::unique_ptr<Nic>> nic(const std::string& name, const std::string& attempted) = 0;
  // What is missing for open() to work: the module, or a permission.
  virtual Result<void> available() = 0;
};

// The one in use; null restores the real one. For tests, while no port is open.
System& system() noexcept;
void use_system(System* instead) noexcept;

}  // namespace efio::netmap
