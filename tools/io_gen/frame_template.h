// One frame as all frames of a run are, where in it the varying fields stand, and the sums of what does not vary.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tools/io_gen/traffic.h"

namespace efio::io_gen {

// Offsets of the fields that differ from frame to frame. Addresses: their last four bytes.
struct Layout {
  std::uint16_t src = 26, dst = 30;
  std::uint16_t ports = 34;           // source and destination port; of ICMP: identifier and sequence number
  std::uint16_t ip_checksum = 24;     // 0: IPv6 has none
  std::uint16_t checksum = 40;        // the transport's
  std::uint16_t payload = 42;         // the tag
  std::uint16_t ip_length = 16;       // the two length fields; of IPv6: the payload's length
  std::uint16_t udp_length = 38;      // 0: TCP and ICMP have none
  bool addresses_in_checksum = true;  // all but ICMP, whose checksum has no pseudo-header

  bool operator==(const Layout&) const = default;
};

// UDP over IPv4 without VLAN tags: what the fast loops are compiled for.
inline constexpr Layout udp4_layout{};

struct FrameTemplate {
  static constexpr std::size_t room = 128;  // headers and tag fit: 14 + 16 + 40 + 20 + 18 bytes

  Layout layout;
  // The frame's first bytes, with zeros for what Layout names (the lengths are those of the smallest size) and the
  // tag's magic in place; zeros from the tag on.
  alignas(64) std::array<std::byte, room> bytes{};
  std::size_t headers = 0;  // bytes before the payload

  // Partial sums (efio/checksum.h) for a frame of `length` bytes over all that bytes hold, without addresses and ports.
  std::uint64_t ip_sum(std::uint32_t length) const noexcept;
  std::uint64_t transport_sum(std::uint32_t length) const noexcept;
  // What the two length fields say in such a frame.
  std::uint16_t ip_length(std::uint32_t length) const noexcept;
  std::uint16_t udp_length(std::uint32_t length) const noexcept;

  // `traffic` has passed its check().
  static FrameTemplate of(const Traffic& traffic);

 private:
  std::uint16_t ip_at_ = 14, transport_at_ = 34;
  bool ipv6_ = false;
  Transport transport_ = Transport::udp;
  std::uint64_t constant_ip_sum_ = 0;         // with a length of 0
  std::uint64_t constant_transport_sum_ = 0;  // the same
};

}  // namespace efio::io_gen
