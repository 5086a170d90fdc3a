#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "efio/slot.h"
#include "efnet/wire/checksum.h"
#include "efnet/wire/ethernet.h"
#include "efnet/wire/ipv4.h"

// Frames whose sender has left work to a device that never came: a checksum to be completed, a segment to be cut
// (`offload=on` of packet: and tap:; efio::Metadata). They go through as they are, for the next device or the peer to
// do.

namespace efnet {

// The place of a pending checksum holds the folded sum of the pseudo-header: it is that of the new addresses now. The
// ports are summed by whoever completes it.
inline void renew_pending_checksum(const efio::Slot& slot, std::span<std::byte> frame) noexcept {
  const efio::Metadata metadata = read_metadata(slot);
  if (metadata.checksum_needed == 0) return;
  const auto ethernet = EthernetView::parse(frame);
  if (!ethernet) return;
  const auto ip = Ipv4View::parse_truncated(ethernet->payload());
  const std::size_t at = std::size_t{metadata.checksum_start} + metadata.checksum_offset;
  if (!ip || metadata.checksum_start != ethernet->header_length() + ip->header_length() || at + 2 > frame.size())
    return;
  const auto length = static_cast<std::uint16_t>(ip->total_length() - ip->header_length());
  const std::uint64_t sum = pseudo_header(ip->src(), ip->dst(), ip->protocol(), length);
  store16(frame.data() + at, efio::checksum_fold(sum));
}

// Of the longest IP packet that the frame will be on a wire.
inline std::size_t packet_length(const efio::Slot& slot, std::span<const std::byte> frame) noexcept {
  if (slot.has(efio::Slot::metadata))
    if (const efio::Metadata metadata = read_metadata(slot);
        metadata.segment_type != 0 && metadata.header_length > EthernetView::min_header)
      return std::size_t{metadata.header_length} - EthernetView::min_header + metadata.segment_size;
  const auto ethernet = EthernetView::parse(frame);
  const auto ip = ethernet ? Ipv4View::parse_truncated(ethernet->payload()) : std::nullopt;
  return ip ? ip->total_length() : 0;
}

}  // namespace efnet
