#include "efnet/nat44/fragments.h"

namespace efnet {

auto NatFragments::enter(NatSide from, const NatPacket& packet, const FlowKey4& key, Time now,
                         NatCounters& counters) noexcept -> Datagram* {
  const FlowKey4 wanted{.src = key.src,
                        .dst = key.dst,
                        .src_port = packet.identification,
                        .protocol = key.protocol,
                        .domain = static_cast<std::uint16_t>(from)};
  const Ipv4View ip = packet.ip();
  expire(now, counters);
  std::uint32_t at = head(wanted);
  while (at != none && !(datagrams_[at].key == wanted)) at = datagrams_[at].next;
  if (at == none) {
    Datagram fresh{.key = wanted, .since = now, .live = true};
    if (!mark(fresh, ip.fragment_offset(), ip.payload().size(), ip.more_fragments())) return nullptr;
    at = next_;
    next_ = (next_ + 1) % datagrams;
    if (datagrams_[at].live) {
      end(datagrams_[at], counters);
      if (at == oldest_) oldest_ = next_;
    }
    fresh.next = head(wanted);
    datagrams_[at] = fresh;
    head(wanted) = at;
    return &datagrams_[at];
  }
  return mark(datagrams_[at], ip.fragment_offset(), ip.payload().size(), ip.more_fragments()) ? &datagrams_[at]
                                                                                              : nullptr;
}

bool NatFragments::mark(Datagram& datagram, std::size_t offset, std::size_t size, bool more) noexcept {
  const std::size_t stop = offset + size;
  if (size == 0 || stop > 0xFFFF || (more && size % 8 != 0)) return false;
  if (datagram.end != none && (stop > datagram.end || !more)) return false;
  const std::size_t first = offset / 8;
  const std::size_t last = (stop - 1) / 8;
  for (std::size_t unit = first; unit <= last; ++unit)
    if ((datagram.seen[unit / 64] >> unit % 64 & 1) != 0) return false;
  if (!more) {
    // Nothing may have come from behind the end.
    for (std::size_t unit = last + 1; unit < 64 * datagram.seen.size(); ++unit)
      if ((datagram.seen[unit / 64] >> unit % 64 & 1) != 0) return false;
    datagram.end = static_cast<std::uint32_t>(stop);
  }
  for (std::size_t unit = first; unit <= last; ++unit) datagram.seen[unit / 64] |= std::uint64_t{1} << unit % 64;
  return true;
}

bool NatFragments::keep(Datagram& datagram, const NatPacket& packet) noexcept {
  if (free_ == none || packet.frame.size() > longest) return false;
  const std::uint32_t at = free_;
  free_ = kept_[at].next;
  std::byte* const copy = bytes_.data() + at * longest;
  std::memcpy(copy, packet.frame.data(), packet.frame.size());
  kept_[at] = {.packet = packet, .next = none};
  kept_[at].packet.frame = {copy, packet.frame.size()};
  if (datagram.last_kept == none)
    datagram.first_kept = at;
  else
    kept_[datagram.last_kept].next = at;
  datagram.last_kept = at;
  return true;
}

void NatFragments::end(Datagram& datagram, NatCounters& counters) noexcept {
  release(datagram, [&](NatPacket&) { ++counters.fragments_given_up; });
  std::uint32_t* link = &head(datagram.key);
  const auto number = static_cast<std::uint32_t>(&datagram - datagrams_.data());
  while (*link != number) link = &datagrams_[*link].next;
  *link = datagram.next;
  datagram.live = false;
}

void NatFragments::expire(Time now, NatCounters& counters) noexcept {
  // Datagrams lie in the ring in the order in which they began.
  for (std::size_t steps = 0; steps < datagrams; ++steps) {
    Datagram& datagram = datagrams_[oldest_];
    if (!datagram.live && oldest_ == next_) return;
    if (datagram.live && now - datagram.since < lifetime) return;
    if (datagram.live) end(datagram, counters);
    oldest_ = static_cast<std::uint32_t>((oldest_ + 1) % datagrams);
  }
}

}  // namespace efnet
