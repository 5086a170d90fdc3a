// Internal: libpfring, loaded when a pfring: port is opened. Its functions and constants in declarations of our own, so
// that nothing of PF_RING is needed to build.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "efio/result.h"

struct PfringHandle;  // libpfring's `pfring`, of which we only hold pointers

namespace efio::pfring {

// pfring_open's flags.
inline constexpr std::uint32_t promiscuous = 1 << 3, timestamp = 1 << 4, hardware_timestamp = 1 << 5, do_not_parse = 1 << 9;
// pfring_set_direction's and pfring_set_socket_mode's values.
inline constexpr int rx_only_direction = 1, send_only = 1, receive_only = 2;

// What pfring_recv writes, read at these offsets. The library may write 209 bytes.
struct PacketHeader {
  alignas(8) std::array<std::byte, 256> bytes;

  std::uint64_t time_ns() const noexcept;         // since the epoch; 0: none
  std::uint32_t captured() const noexcept { return read32(16); }
  std::uint32_t length() const noexcept { return read32(20); }

 private:
  std::uint32_t read32(std::size_t at) const noexcept {
    std::uint32_t value;
    __builtin_memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  }
  std::uint64_t read64(std::size_t at) const noexcept {
    std::uint64_t value;
    __builtin_memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  }
};

struct Statistics {
  std::uint64_t received, dropped, shunted;
};
static_assert(sizeof(Statistics) == 24);

struct Library {
  PfringHandle* (*open)(const char* device, std::uint32_t longest, std::uint32_t flags);
  int (*enable)(PfringHandle*);
  int (*set_direction)(PfringHandle*, int);
  int (*set_socket_mode)(PfringHandle*, int);
  int (*receive)(PfringHandle*, unsigned char** data, unsigned length, void* header, std::uint8_t wait);
  int (*send)(PfringHandle*, char* data, unsigned length, std::uint8_t flush);
  int (*poll)(PfringHandle*, unsigned milliseconds);
  int (*descriptor)(PfringHandle*);
  int (*statistics)(PfringHandle*, Statistics*);
  void (*close)(PfringHandle*);
  int (*version)(PfringHandle*, std::uint32_t*);
  int (*set_watermark)(PfringHandle*, std::uint16_t);  // null in old libraries

  // Loads it once, and keeps it. `path`: empty for where the system has it. Errors: unavailable, with how to get it.
  static Result<const Library*> load(const std::string& path, const std::string& attempted);
};

bool module_loaded();

// An open ring.
class Handle {
 public:
  Handle() = default;
  Handle(const Library& library, PfringHandle* ring) noexcept : library_(&library), ring_(ring) {}
  Handle(Handle&& other) noexcept { *this = std::move(other); }
  Handle& operator=(Handle&& other) noexcept {
    std::swap(library_, other.library_), std::swap(ring_, other.ring_);
    return *this;
  }
  ~Handle() {
    if (ring_ != nullptr) library_->close(ring_);
  }
  explicit operator bool() const noexcept { return ring_ != nullptr; }
  const Library& library() const noexcept { return *library_; }
  PfringHandle* ring() const noexcept { return ring_; }

 private:
  const Library* library_ = nullptr;
  PfringHandle* ring_ = nullptr;
};

}  // namespace efio::pfring
