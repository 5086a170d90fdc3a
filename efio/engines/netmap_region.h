// Internal: descriptors of /dev/netmap, and the memory regions that they share. All ports of one region in this program
// live in one mapping, and their frames in one pool: that is what makes them exchangeable.
//
// On Linux a mapping holds the descriptor that it was made with, and so the port. Ports must be free to go while others of
// their region, or frames that a program has taken, are still there; so the mapping is made with a descriptor of its own,
// which is bound to the region and to no port.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "efio/engines/netmap_system.h"
#include "efio/pool.h"

namespace efio::netmap {

// A descriptor that is bound to a port (or to a region alone), and what the kernel said about it.
class Descriptor {
 public:
  // `wish` says which rings. Errors: unavailable, permission, device, memory, each with what to do about it.
  static Result<Descriptor> bind(const std::string& port, const RegisterBody& wish, const std::string& attempted);

  Descriptor() = default;
  Descriptor(Descriptor&& other) noexcept { *this = std::move(other); }
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(system_, other.system_), std::swap(fd_, other.fd_), std::swap(got_, other.got_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) system_->close(fd_);
  }
  int fd() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  const RegisterBody& got() const noexcept { return got_; }
  int sync(unsigned long request) const noexcept { return system_->sync(fd_, request); }
  bool watch(int epoll, std::uint32_t events) const noexcept { return system_->watch(epoll, fd_, events); }
  void unwatch(int epoll) const noexcept { system_->unwatch(epoll, fd_); }

 private:
  System* system_ = nullptr;
  int fd_ = -1;
  RegisterBody got_{};
};

class Region final : public PoolMemory, public std::enable_shared_from_this<Region> {
 public:
  // The region that this descriptor's port lives in: mapped now, or known already. Errors: as Descriptor::bind.
  static Result<std::shared_ptr<Region>> of(const Descriptor& port, const std::string& attempted);

  ~Region() override;

  std::uint16_t number() const noexcept { return number_; }
  Interface* interface_of(const Descriptor& port) const noexcept {
    return reinterpret_cast<Interface*>(base_ + port.got().offset);
  }

  // By their place among the offsets behind an Interface; null: the descriptor is not bound to it, or to none.
  Ring* ring_at(const Descriptor& port, std::size_t place) const noexcept;
  const Ring* any_ring(const Descriptor& port) const noexcept;

  // The pool of the region's buffers. `any` is one of its rings; it tells where the buffers lie.
  std::shared_ptr<Pool> pool(const Ring& any);
  // Takes the extra buffers that came with a descriptor into the pool, as far as that has less than `wanted` frames left;
  // the others the kernel takes back with the descriptor.
  void collect_extra_buffers(const Descriptor& port, Pool& pool, std::size_t wanted);
  bool is_buffer(std::uint64_t index) const noexcept { return index >= first_buffer && index < buffers_; }

  void give_back(std::span<const std::uint64_t> frames) noexcept override;

 private:
  Region() = default;
  std::uint32_t chain(std::span<const std::uint64_t> frames, std::uint32_t next) noexcept;

  System* system_ = nullptr;
  std::uint16_t number_ = 0;
  Descriptor keeper_;
  std::byte* base_ = nullptr;
  std::size_t size_ = 0;
  std::byte* buffer_base_ = nullptr;
  std::size_t buffer_size_ = 0;
  std::uint64_t buffers_ = 0;
  std::weak_ptr<Pool> pool_;
};

}  // namespace efio::netmap
