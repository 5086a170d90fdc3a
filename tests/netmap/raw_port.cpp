#include "tests/netmap/raw_port.h"

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <thread>

namespace efio::test {

using namespace netmap;

namespace {
[[noreturn]] void give_up(const std::string& what) { throw std::runtime_error(what + ": " + std::strerror(errno)); }
constexpr auto longest_wait = std::chrono::seconds(2);
}  // namespace

RawPort::RawPort(const std::string& name, std::uint16_t rings, std::uint64_t flags) : system_(netmap::system()) {
  fd_ = system_.open();
  if (fd_ < 0) give_up("open /dev/netmap");
  got_.mode = all_nic_rings;
  got_.tx_rings = got_.rx_rings = rings;
  got_.flags = flags;
  RequestHeader request{};
  request.version = api_version;
  request.type = register_port;
  request.body = reinterpret_cast<std::uintptr_t>(&got_);
  std::strncpy(request.name, name.c_str(), sizeof request.name - 1);
  if (system_.control(fd_, request) != 0) {
    system_.close(fd_);
    give_up("register " + name);
  }
  base_ = static_cast<std::byte*>(system_.map(fd_, got_.memory_size));
  if (base_ == nullptr) {
    system_.close(fd_);
    give_up("map " + name);
  }
}

RawPort::~RawPort() {
  system_.unmap(base_, got_.memory_size);
  system_.close(fd_);
}

Ring& RawPort::ring(bool tx, std::size_t index) const {
  auto* about = reinterpret_cast<Interface*>(base_ + got_.offset);
  const auto* offsets = reinterpret_cast<const std::int64_t*>(about + 1);
  const auto at = index + (tx ? 0 : about->tx_rings + about->host_tx_rings);
  return *reinterpret_cast<Ring*>(reinterpret_cast<std::byte*>(about) + offsets[at]);
}

RingSlot& RawPort::slot(Ring& ring, std::uint32_t index) const { return reinterpret_cast<RingSlot*>(&ring + 1)[index]; }

std::byte* RawPort::buffer(Ring& ring, std::uint32_t index) const {
  return reinterpret_cast<std::byte*>(&ring) + ring.buffers_offset + std::size_t{slot(ring, index).buffer} * ring.buffer_size;
}

int RawPort::sync(bool tx) const { return system_.sync(fd_, tx ? txsync_request : rxsync_request); }

bool RawPort::send(std::span<const std::byte> frame, std::size_t index) {
  Ring& r = ring(true, index % rings(true));
  const auto until = std::chrono::steady_clock::now() + longest_wait;
  while (r.head == r.tail) {
    if (sync(true) != 0 || std::chrono::steady_clock::now() > until) return false;
    if (r.head == r.tail) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  // One that is longer than a buffer goes in pieces.
  for (std::size_t at = 0; at < frame.size() || at == 0;) {
    const auto part = frame.subspan(at, std::min<std::size_t>(frame.size() - at, r.buffer_size));
    std::memcpy(buffer(r, r.head), part.data(), part.size());
    slot(r, r.head).length = static_cast<std::uint16_t>(part.size());
    at += part.size();
    slot(r, r.head).flags = at < frame.size() ? more_fragments : 0;
    r.head = r.cur = r.head + 1 == r.slots ? 0 : r.head + 1;
    if (part.empty()) break;
  }
  return sync(true) == 0;
}

std::optional<std::vector<std::byte>> RawPort::receive(std::chrono::milliseconds patience) {
  const auto until = std::chrono::steady_clock::now() + patience;
  for (;;) {
    for (std::size_t i = 0; i < rings(false); ++i) {
      Ring& r = ring(false, i);
      if (r.head == r.tail) continue;
      std::vector<std::byte> frame;
      for (bool more = true; more && r.head != r.tail;) {
        const auto& s = slot(r, r.head);
        frame.insert(frame.end(), buffer(r, r.head), buffer(r, r.head) + s.length);
        more = (s.flags & more_fragments) != 0;
        r.head = r.cur = r.head + 1 == r.slots ? 0 : r.head + 1;
      }
      sync(false);  // gives the room back at once
      return frame;
    }
    if (sync(false) != 0) return std::nullopt;
    bool any = false;
    for (std::size_t i = 0; i < rings(false); ++i) any = any || ring(false, i).head != ring(false, i).tail;
    if (any) continue;
    if (std::chrono::steady_clock::now() >= until) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

}  // namespace efio::test
