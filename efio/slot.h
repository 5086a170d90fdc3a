// A slot: 32 bytes that lend one frame, or one fragment of it. Swapping two slots is how frames move without a copy.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace efio {

// Where a slot's time comes from. `raw` is a hardware clock that is not the Unix epoch's; the port states its offset.
enum class TimeSource : std::uint8_t { none, clock, kernel, hardware, raw };

// A frame's number: unique within its pool. Memory that belongs to no pool (a kernel ring) has `no_frame`.
inline constexpr std::uint64_t no_frame = ~std::uint64_t{0};

struct alignas(32) Slot {
  std::byte* buffer;     // where the frame's memory starts, headroom included
  std::uint32_t length;  // bytes of this slot's data
  std::uint16_t offset;  // where the data start, from `buffer`
  std::uint16_t flags;   // below
  std::uint64_t time;    // ns since the Unix epoch; its source stands in the flags
  std::uint64_t frame;   // the frame's number in its pool

  static constexpr std::uint16_t time_source_mask = 0x0007;
  static constexpr std::uint16_t more = 0x0008;      // the frame goes on in the next slot
  static constexpr std::uint16_t moved = 0x0010;     // the frame has left; what lies here now is a free one
  static constexpr std::uint16_t dropped = 0x0020;   // given up with a reason; already counted
  static constexpr std::uint16_t metadata = 0x0040;  // the first 32 bytes of the headroom hold a Metadata
  static constexpr std::uint16_t spent = 0x0080;     // of a finished slot: its frame was given up, or left by a copy
  static constexpr std::uint16_t marks = more | moved | dropped;

  // Length, offset and flags are eight bytes, which hot loops read and write as one number.
  static constexpr std::size_t head_at = 8;
  static constexpr std::uint64_t head(std::uint32_t length, std::uint16_t offset, std::uint16_t flags) noexcept {
    if constexpr (std::endian::native == std::endian::little)
      return std::uint64_t{flags} << 48 | std::uint64_t{offset} << 32 | length;
    else
      return std::uint64_t{length} << 32 | std::uint64_t{offset} << 16 | flags;
  }

  // The data. Valid until the slot is finished (receive), committed (claim) or handed to `forward`.
  std::span<std::byte> bytes() const noexcept { return {buffer + offset, length}; }

  TimeSource time_source() const noexcept { return static_cast<TimeSource>(flags & time_source_mask); }
  void stamp(std::uint64_t ns, TimeSource source) noexcept {
    time = ns;
    flags = static_cast<std::uint16_t>((flags & ~time_source_mask) | static_cast<std::uint16_t>(source));
  }

  bool has(std::uint16_t flag) const noexcept { return (flags & flag) != 0; }

  // Takes `n` bytes off the front; false, and nothing happens, if there are fewer.
  bool trim_front(std::uint32_t n) noexcept {
    if (n > length || n + offset > UINT16_MAX) return false;
    offset = static_cast<std::uint16_t>(offset + n);
    length -= n;
    return true;
  }

  // Adds `n` bytes before the data; false, and nothing happens, if the headroom (less a Metadata in it) is shorter.
  bool prepend(std::uint32_t n) noexcept {
    const std::uint32_t reserved = has(metadata) ? 32 : 0;
    if (n + reserved > offset) return false;
    offset = static_cast<std::uint16_t>(offset - n);
    length += n;
    return true;
  }
};
static_assert(sizeof(Slot) == 32);
static_assert(offsetof(Slot, length) == Slot::head_at && offsetof(Slot, offset) == Slot::head_at + 4 &&
              offsetof(Slot, flags) == Slot::head_at + 6 && offsetof(Slot, time) == Slot::head_at + 8);

// What few frames need: offloads in the terms of virtio-net, VLAN and hash. Lies in the first 32 bytes of the headroom
// while Slot::metadata is set.
struct Metadata {
  std::uint32_t hash = 0;
  std::uint16_t vlan_tci = 0;         // valid if vlan_tpid is not 0
  std::uint16_t vlan_tpid = 0;        // 0x8100, 0x88a8
  std::uint8_t checksum_needed = 0;   // 1: the sum over [checksum_start, end) is still to be put at checksum_start + checksum_offset
  std::uint8_t checksum_valid = 0;    // 1: whoever lent the frame has verified its checksum
  std::uint8_t segment_type = 0;      // 0 none, else VIRTIO_NET_HDR_GSO_*
  std::uint8_t reserved = 0;
  std::uint16_t checksum_start = 0;   // from the first byte of the data
  std::uint16_t checksum_offset = 0;  // from checksum_start
  std::uint16_t segment_size = 0;     // payload bytes a segment
  std::uint16_t header_length = 0;    // Ethernet to transport header, bytes
  std::uint64_t unused = 0;
};
static_assert(sizeof(Metadata) <= 32);

// Both valid only while the slot has Slot::metadata (read) or at least 32 bytes of headroom (write; sets the flag).
Metadata read_metadata(const Slot& slot) noexcept;
bool write_metadata(Slot& slot, const Metadata& metadata) noexcept;

inline Metadata read_metadata(const Slot& slot) noexcept {
  Metadata metadata;
  __builtin_memcpy(&metadata, slot.buffer, sizeof metadata);
  return metadata;
}

inline bool write_metadata(Slot& slot, const Metadata& metadata) noexcept {
  if (slot.offset < sizeof metadata) return false;
  __builtin_memcpy(slot.buffer, &metadata, sizeof metadata);
  slot.flags = static_cast<std::uint16_t>(slot.flags | Slot::metadata);
  return true;
}

}  // namespace efio
