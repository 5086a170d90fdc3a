// Internal: the offload header that AF_PACKET sockets and TAP devices put before a frame (struct virtio_net_hdr, 10 bytes
// in the machine's byte order), in the terms of Metadata; and what it leaves undone, done in software.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "efio/slot.h"

namespace efio {

// Metadata::segment_type (VIRTIO_NET_HDR_GSO_*; <linux/virtio_net.h> has a member named `class`, which C++ refuses).
inline constexpr std::uint8_t segment_none = 0, segment_tcp4 = 1, segment_tcp6 = 4, segment_udp = 5, segment_ecn = 0x80;

inline constexpr std::size_t vnet_header_size = 10;

// `header` is vnet_header_size bytes.
Metadata read_vnet_header(const std::byte* header) noexcept;
void write_vnet_header(std::byte* header, const Metadata& metadata) noexcept;

// The header of a frame that wants nothing.
inline void clear_vnet_header(std::byte* header) noexcept { __builtin_memset(header, 0, vnet_header_size); }

// Stores the checksum over [start, end) at start + offset, where the sum of the pseudo-header stands already (as the
// kernel leaves it); for SCTP, known by its offset of 8, the CRC32c of RFC 9260. False, and nothing is touched, if the
// frame is too short for these numbers.
bool complete_checksum(std::span<std::byte> frame, std::size_t start, std::size_t offset) noexcept;

}  // namespace efio
