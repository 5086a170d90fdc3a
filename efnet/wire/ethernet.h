#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "efnet/wire/address.h"
#include "efnet/wire/bytes.h"
#include "efnet/wire/protocol.h"

// Ethernet II with a stack of 802.1Q and 802.1ad tags.
//
// Like every view of efnet/wire: parse() checks all lengths once and the view remembers what it found, so that the
// accessors are total, and stay inside the bytes even when somebody else changes these meanwhile. A view does not own
// the bytes. The …Mut form has setters; none of them can lead outside the bytes either.

namespace efnet {

// One tag: its TPID, and its TCI of priority (3 bits), drop eligibility (1) and VLAN identifier (12).
struct VlanTag {
  static constexpr std::size_t size = 4;

  EtherType tpid = EtherType::vlan;
  std::uint16_t tci = 0;

  // The low 12 bits of `id` and the low 3 of `priority`.
  static constexpr VlanTag make(std::uint16_t id, std::uint8_t priority = 0,
                                EtherType tpid = EtherType::vlan) noexcept {
    return {tpid, static_cast<std::uint16_t>((priority & 7) << 13 | (id & 0xFFF))};
  }
  constexpr std::uint16_t id() const noexcept { return tci & 0xFFF; }
  constexpr std::uint8_t priority() const noexcept { return static_cast<std::uint8_t>(tci >> 13); }
  constexpr bool drop_eligible() const noexcept { return (tci & 0x1000) != 0; }
  constexpr bool is_priority_only() const noexcept { return id() == 0; }  // 802.1Q: belongs to no VLAN
  constexpr bool is_reserved() const noexcept { return id() == 0xFFF; }   // 802.1Q: never on the wire

  static VlanTag load(const std::byte* at) noexcept { return {EtherType{load16(at)}, load16(at + 2)}; }
  void store(std::byte* at) const noexcept {
    store16(at, static_cast<std::uint16_t>(tpid));
    store16(at + 2, tci);
  }

  friend constexpr bool operator==(const VlanTag&, const VlanTag&) noexcept = default;
};

template <ByteLike Byte>
class BasicEthernet {
 public:
  static constexpr std::size_t min_header = 14;
  static constexpr std::size_t max_tags = 8;

  // Refused: fewer than 14 bytes, a stack of tags that is cut short, more than max_tags of them.
  static std::optional<BasicEthernet> parse(std::span<Byte> frame) noexcept {
    if (frame.size() < min_header) return std::nullopt;
    std::size_t tags = 0;
    while (is_vlan(EtherType{load16(frame.data() + 12 + tags * VlanTag::size)})) {
      ++tags;
      if (tags > max_tags || frame.size() < min_header + tags * VlanTag::size) return std::nullopt;
    }
    return BasicEthernet(frame, tags);
  }

  MacAddress dst() const noexcept { return MacAddress::load(bytes_.data()); }
  MacAddress src() const noexcept { return MacAddress::load(bytes_.data() + 6); }
  // The type after all tags; below 0x0600 it is a length (802.3).
  EtherType type() const noexcept { return EtherType{load16(bytes_.data() + header_length() - 2)}; }
  bool has_length() const noexcept { return static_cast<std::uint16_t>(type()) < 0x0600; }

  std::size_t tag_count() const noexcept { return tags_; }
  // Tag 0 is the outermost. Nothing where there is no such tag.
  std::optional<VlanTag> tag(std::size_t index) const noexcept {
    if (index >= tags_) return std::nullopt;
    return VlanTag::load(bytes_.data() + 12 + index * VlanTag::size);
  }

  std::size_t header_length() const noexcept { return min_header + tags_ * VlanTag::size; }
  std::span<Byte> header() const noexcept { return bytes_.first(header_length()); }
  std::span<Byte> payload() const noexcept { return bytes_.subspan(header_length()); }
  std::span<Byte> bytes() const noexcept { return bytes_; }

  void set_dst(MacAddress address) const noexcept requires MutableByte<Byte> { address.store(bytes_.data()); }
  void set_src(MacAddress address) const noexcept requires MutableByte<Byte> { address.store(bytes_.data() + 6); }
  void set_type(EtherType type) const noexcept requires MutableByte<Byte> {
    store16(bytes_.data() + header_length() - 2, static_cast<std::uint16_t>(type));
  }
  // Keeps the TPID. False where there is no such tag.
  bool set_tci(std::size_t index, std::uint16_t tci) const noexcept requires MutableByte<Byte> {
    if (index >= tags_) return false;
    store16(bytes_.data() + 14 + index * VlanTag::size, tci);
    return true;
  }

  operator BasicEthernet<const std::byte>() const noexcept requires MutableByte<Byte> {
    return BasicEthernet<const std::byte>(bytes_, tags_);
  }

 private:
  template <ByteLike>
  friend class BasicEthernet;

  BasicEthernet(std::span<Byte> bytes, std::size_t tags) noexcept : bytes_(bytes), tags_(tags) {}

  std::span<Byte> bytes_;
  std::size_t tags_;
};

using EthernetView = BasicEthernet<const std::byte>;
using EthernetMut = BasicEthernet<std::byte>;

// Makes `tag` the outermost one by moving the two addresses only. `room_and_frame` begins four unused bytes before the
// frame, which afterwards begins where it begins. False, and nothing done, where there are no 4 + 14 bytes.
inline bool insert_vlan(std::span<std::byte> room_and_frame, VlanTag tag) noexcept {
  if (room_and_frame.size() < VlanTag::size + EthernetView::min_header) return false;
  std::memmove(room_and_frame.data(), room_and_frame.data() + VlanTag::size, 12);
  tag.store(room_and_frame.data() + 12);
  return true;
}

// The same for a frame with room behind it only: all after the addresses moves. `frame_and_room` ends four unused bytes
// after the frame, which afterwards fills it.
inline bool insert_vlan_moving_payload(std::span<std::byte> frame_and_room, VlanTag tag) noexcept {
  if (frame_and_room.size() < VlanTag::size + EthernetView::min_header) return false;
  std::memmove(frame_and_room.data() + 16, frame_and_room.data() + 12, frame_and_room.size() - 16);
  tag.store(frame_and_room.data() + 12);
  return true;
}

// Takes the outermost tag off by moving the two addresses only: afterwards the frame begins at frame.subspan(4).
// Nothing, and nothing done, where the frame has no whole tag.
inline std::optional<VlanTag> strip_vlan(std::span<std::byte> frame) noexcept {
  if (frame.size() < EthernetView::min_header + VlanTag::size) return std::nullopt;
  const VlanTag tag = VlanTag::load(frame.data() + 12);
  if (!is_vlan(tag.tpid)) return std::nullopt;
  std::memmove(frame.data() + VlanTag::size, frame.data(), 12);
  return tag;
}

struct EthernetHeader {
  MacAddress dst;
  MacAddress src;
  EtherType type = EtherType::ipv4;
  std::span<const VlanTag> tags = {};  // outermost first; must live until emit()

  std::size_t size() const noexcept { return EthernetView::min_header + tags.size() * VlanTag::size; }

  // Returns size(), or 0, with nothing written, where `out` is shorter.
  std::size_t emit(std::span<std::byte> out) const noexcept {
    if (out.size() < size()) return 0;
    dst.store(out.data());
    src.store(out.data() + 6);
    std::byte* at = out.data() + 12;
    for (const VlanTag tag : tags) {
      tag.store(at);
      at += VlanTag::size;
    }
    store16(at, static_cast<std::uint16_t>(type));
    return size();
  }
};

}  // namespace efnet
