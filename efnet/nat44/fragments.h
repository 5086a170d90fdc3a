#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "efnet/nat44/classify.h"
#include "efnet/tables/time.h"

// Fragments of datagrams (RFC 4787, REQ-14): the first has the ports; the others follow it, or wait for it. Memory is
// fixed: the oldest datagrams give way to new ones.

namespace efnet {

class NatFragments {
 public:
  static constexpr std::size_t datagrams = 1024;
  static constexpr std::size_t places = 256;  // fragments that may wait
  static constexpr std::size_t longest = 2048;
  static constexpr Time lifetime = std::chrono::seconds(15);  // RFC 791, 3.2

  static constexpr std::uint32_t none = 0xFFFF'FFFF;

  struct Datagram {
    FlowKey4 key;
    Time since{};
    // Once the first fragment has come:
    NatVerdict verdict{};
    bool known = false;
    Ipv4Address src, dst;
    std::uint16_t identification = 0;

    bool live = false;
    std::uint32_t next = none;        // with the same hash
    std::uint32_t first_kept = none;  // place
    std::uint32_t last_kept = none;
    std::uint32_t end = none;               // in bytes, once the last fragment has come
    std::array<std::uint64_t, 128> seen{};  // units of 8 bytes
  };

  NatFragments() : datagrams_(datagrams), kept_(places), bytes_(places * longest) {
    heads_.fill(none);
    for (std::uint32_t i = 0; i < places; ++i) kept_[i].next = i + 1 < places ? i + 1 : none;
  }

  // The datagram of a fragment, whose bytes count as seen; null where it overlaps what has been seen, or cannot be part
  // of a datagram.
  Datagram* enter(NatSide from, const NatPacket& packet, const FlowKey4& key, Time now, NatCounters& counters) noexcept;

  // Copies the frame to wait for the datagram's first fragment; false where there is no room.
  bool keep(Datagram& datagram, const NatPacket& packet) noexcept;

  // Calls each(packet) for what waits for the datagram, which waits no longer.
  template <class Each>
  void release(Datagram& datagram, Each&& each) {
    for (std::uint32_t at = datagram.first_kept; at != none;) {
      NatPacket packet = kept_[at].packet;
      each(packet);
      const std::uint32_t next = kept_[at].next;
      kept_[at].next = free_;
      free_ = at;
      at = next;
    }
    datagram.first_kept = datagram.last_kept = none;
  }

  // Gives up those whose first fragment has not come in time.
  void expire(Time now, NatCounters& counters) noexcept;

 private:
  struct Kept {
    NatPacket packet;
    std::uint32_t next = none;
  };

  std::uint32_t& head(const FlowKey4& key) noexcept { return heads_[std::hash<FlowKey4>{}(key) % datagrams]; }
  void end(Datagram& datagram, NatCounters& counters) noexcept;
  static bool mark(Datagram& datagram, std::size_t offset, std::size_t size, bool more) noexcept;

  std::vector<Datagram> datagrams_;  // a ring: the oldest is where the next will be
  std::array<std::uint32_t, datagrams> heads_;
  std::uint32_t next_ = 0;
  std::uint32_t oldest_ = 0;  // none before it lives
  std::vector<Kept> kept_;
  std::vector<std::byte> bytes_;
  std::uint32_t free_ = 0;
};

}  // namespace efnet
