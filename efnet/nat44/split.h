#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "efnet/nat44/classify.h"
#include "efnet/nat44/outbox.h"

namespace efnet {

// The packet into the outbox in fragments of at most `mtu` bytes (RFC 791, 3.2): all of them, or false and none, where
// there is no room or the MTU takes none. A fragment is split as well as a whole packet.
inline bool split(const NatPacket& packet, std::size_t mtu, NatOutbox& out) noexcept {
  const Ipv4View ip = packet.ip();
  const auto payload = ip.payload();
  const std::size_t link = packet.network;
  const std::size_t longest = std::min(mtu, NatOutbox::longest - link);
  if (longest < ip.header_length() + 8) return false;
  const std::size_t part = (longest - ip.header_length()) / 8 * 8;
  if (out.room() < (payload.size() + part - 1) / part) return false;

  // Only some options go with every fragment: their kind has bit 7.
  std::array<std::byte, Ipv4View::max_header - Ipv4View::min_header> copied{};
  std::size_t copied_size = 0;
  for (OptionWalk walk(ip.options()); const auto option = walk.next();) {
    if ((option->kind & 0x80) == 0) continue;
    const std::size_t length = option->data.size() + 2;
    std::memcpy(copied.data() + copied_size, option->data.data() - 2, length);
    copied_size += length;
  }
  for (std::size_t at = 0; at < payload.size(); at += part) {
    const auto bytes = payload.subspan(at, std::min(part, payload.size() - at));
    const Ipv4Header header{
        .src = ip.src(),
        .dst = ip.dst(),
        .protocol = ip.protocol(),
        .payload_length = bytes.size(),
        .ttl = ip.ttl(),
        .traffic_class = ip.traffic_class(),
        .identification = ip.identification(),
        .more_fragments = ip.more_fragments() || at + bytes.size() < payload.size(),
        .fragment_offset = static_cast<std::uint16_t>(ip.fragment_offset() + at),
        .options = at == 0 ? std::span<const std::byte>(ip.options()) : std::span(copied).first(copied_size)};
    const auto frame = out.next(link + header.size() + bytes.size());
    std::memcpy(frame.data(), packet.frame.data(), link);
    header.emit(frame.subspan(link));
    std::memcpy(frame.data() + link + header.size(), bytes.data(), bytes.size());
    out.push(frame.size());
  }
  return true;
}

}  // namespace efnet
