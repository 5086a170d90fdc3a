#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "efio/slot.h"
#include "efnet/wire/ethernet.h"

// VLAN tags of frames in slots: put on and taken off in place, for the price of moving the two addresses.

namespace efnet {
namespace vlan_detail {

// What a slot's metadata counts from the first byte of the frame moves with it.
inline void shift_metadata(efio::Slot& slot, int by) noexcept {
  if (!slot.has(efio::Slot::metadata)) [[likely]]
    return;
  efio::Metadata metadata = efio::read_metadata(slot);
  if (metadata.checksum_needed != 0) metadata.checksum_start = static_cast<std::uint16_t>(metadata.checksum_start + by);
  if (metadata.header_length != 0) metadata.header_length = static_cast<std::uint16_t>(metadata.header_length + by);
  efio::write_metadata(slot, metadata);
}

}  // namespace vlan_detail

// Takes the outermost tag off. Nothing, and nothing done, where the frame has no whole tag.
inline std::optional<VlanTag> strip_vlan(efio::Slot& slot) noexcept {
  const auto tag = strip_vlan(slot.bytes());
  if (!tag) return std::nullopt;
  slot.trim_front(VlanTag::size);
  vlan_detail::shift_metadata(slot, -static_cast<int>(VlanTag::size));
  return tag;
}

// Makes `tag` the outermost one: in the headroom, or, where that has no four bytes left, by moving the frame into the
// `behind` bytes that its queue has after it (Queue::room). False, and nothing done, where there is neither.
inline bool insert_vlan(efio::Slot& slot, VlanTag tag, std::size_t behind = 0) noexcept {
  if (slot.length < EthernetView::min_header) return false;
  if (slot.prepend(VlanTag::size)) {
    insert_vlan(slot.bytes(), tag);
  } else {
    if (behind < VlanTag::size) return false;
    slot.length += VlanTag::size;
    insert_vlan_moving_payload(slot.bytes(), tag);
  }
  vlan_detail::shift_metadata(slot, VlanTag::size);
  return true;
}

}  // namespace efnet
