// Internal: a TAP device as this program holds it: a descriptor for each queue, shared by the ports that are opened on it
// (one a direction, or one a queue). The device is there until the last of them is closed.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "efio/descriptor.h"
#include "efio/port.h"
#include "efio/result.h"

namespace efio {

// The control device, not yet attached to anything. Errors: unavailable, permission.
Result<Fd> open_tap_control(const std::string& attempted);
std::string tap_privilege_hint();

struct TapWish {
  std::string attempted;   // "open tap:t0", for errors
  std::string name;        // with %d, the kernel puts a number there
  std::size_t queues = 0;  // 0: as many as this program has of it already, else one
  bool offload = false;
};

class TapDevice {
 public:
  // The device of this name that the program has open already in this network namespace, or a new one, or one that stays
  // when no program has it (made by `ip tuntap`). Errors: usage, unavailable, permission, device.
  static Result<std::shared_ptr<TapDevice>> open(const TapWish& wish);

  const std::string& name() const noexcept { return name_; }
  std::size_t queues() const noexcept { return descriptors_.size(); }
  bool offload() const noexcept { return offload_; }
  int descriptor(std::size_t queue) const noexcept { return descriptors_[queue].get(); }

  // Each of them is idempotent.
  Result<void> set_mtu(std::uint32_t mtu, const std::string& attempted) const;
  Result<void> bring_up(const std::string& attempted) const;
  Result<void> set_persistent(bool on, const std::string& attempted) const;

  // Frames that the kernel gave up, for want of room on their way to us, since the last call; or since the first receiver
  // came. The kernel counts them for the device, so whoever asks first has them. Empty where it does not tell.
  std::optional<std::uint64_t> take_drops() noexcept;

 private:
  friend class TapLoan;
  struct Use {
    bool rx = false, tx = false;
  };

  TapDevice() = default;
  static Result<std::shared_ptr<TapDevice>> make(const TapWish& wish);
  Result<void> attach(const TapWish& wish);
  Result<void> set_offloads(const TapWish& wish);
  std::optional<std::uint64_t> read_drops();

  std::string name_;
  bool offload_ = false;
  std::vector<Fd> descriptors_;
  std::vector<Use> uses_;  // of each queue; under the registry's mutex

  std::mutex mutex_;  // of the rest
  Fd counters_;       // /proc/net/dev of the device's network namespace
  std::string text_;
  std::uint64_t drops_seen_ = 0;
};

// One direction of one queue, as a port has it.
class TapLoan {
 public:
  // Errors: device (this program has it open already).
  static Result<TapLoan> take(std::shared_ptr<TapDevice> device, std::size_t queue, Direction direction,
                              const std::string& attempted);
  TapLoan() = default;
  TapLoan(TapLoan&&) noexcept = default;
  TapLoan& operator=(TapLoan&& other) noexcept {
    std::swap(device_, other.device_), std::swap(queue_, other.queue_), std::swap(direction_, other.direction_);
    return *this;
  }
  ~TapLoan();

  explicit operator bool() const noexcept { return device_ != nullptr; }
  TapDevice& device() const noexcept { return *device_; }
  int descriptor() const noexcept { return device_->descriptor(queue_); }

 private:
  std::shared_ptr<TapDevice> device_;
  std::size_t queue_ = 0;
  Direction direction_ = Direction::rx;
};

}  // namespace efio
