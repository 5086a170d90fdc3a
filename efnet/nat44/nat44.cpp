#include "efnet/nat44/nat44.h"

#include <algorithm>
#include <array>

#include "efnet/nat44/split.h"
#include "efnet/wire/rewrite.h"

namespace efnet {

namespace {

constexpr std::uint8_t port_unreachable = 3;  // of "destination unreachable"
constexpr std::uint8_t fragmentation_needed = 4;

bool contains(const std::vector<Ipv4Prefix>& prefixes, Ipv4Address address) noexcept {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const Ipv4Prefix& prefix) { return prefix.contains(address); });
}

void set_identification(Ipv4Mut ip, std::uint16_t identification) noexcept {
  ip.set_checksum(update(ip.checksum(), checksum_delta(ip.identification(), identification)));
  ip.set_identification(identification);
}

// The time to live counted in the header's word 4, whose checksum is updated with `delta` besides.
void decrement_ttl(Ipv4Mut ip, ChecksumDelta delta = {}) noexcept {
  const std::uint16_t before = load16(ip.header().data() + 8);
  ip.set_ttl(static_cast<std::uint8_t>(ip.ttl() - 1));
  ip.set_checksum(update(ip.checksum(), delta + checksum_delta(before, static_cast<std::uint16_t>(before - 0x100))));
}

// rewrite(), the time to live and a new identification in one, for UDP and TCP right behind 14 and 20 bytes of a packet
// known to be whole.
[[gnu::always_inline]] inline void rewrite_plain(std::span<std::byte> frame, const FlowKey4& to,
                                                 std::uint16_t identification) noexcept {
  std::byte* const at = frame.data() + EthernetView::min_header;
  const auto transport = frame.subspan(EthernetView::min_header + Ipv4View::min_header);
  const ChecksumDelta addresses =
      checksum_delta(Ipv4Address::load(at + 12), to.src) + checksum_delta(Ipv4Address::load(at + 16), to.dst);
  // Of 32 bits: what is spilled in 16 and read back in 32 waits for the store to leave the processor's buffer.
  const std::uint32_t time = load16(at + 8);
  const std::uint32_t time_after = time - 0x100;
  const ChecksumDelta others =
      checksum_delta(static_cast<std::uint16_t>(time), static_cast<std::uint16_t>(time_after)) +
      checksum_delta(load16(at + 4), identification);
  const std::uint16_t checksum = update(load16(at + 10), addresses + others);
  store16(at + 4, identification);
  const std::uint32_t ports = rewrite_detail::ports_of(to.src_port, to.dst_port);
  if (to.protocol == IpProtocol::udp)
    rewrite_detail::mend_ports(transport.data(), 6, ports, addresses, true);
  else
    rewrite_detail::mend_ports(transport.data(), 16, ports, addresses, false);
  store32(at + 8, time_after << 16 | checksum);
  to.src.store(at + 12);
  to.dst.store(at + 16);
}

}  // namespace

efio::Result<std::unique_ptr<Nat44>> Nat44::create(Nat44Options options) {
  auto mappings = NatMappings::create(options);
  if (!mappings) return std::unexpected(std::move(mappings.error()));
  auto sessions = NatSessions::create(options);
  if (!sessions) return std::unexpected(std::move(sessions.error()));
  auto errors = NatErrors::create(options);
  if (!errors) return std::unexpected(std::move(errors.error()));
  return std::unique_ptr<Nat44>(
      new Nat44(std::move(options), std::move(*mappings), std::move(*sessions), std::move(*errors)));
}

Nat44::Nat44(Nat44Options options, NatMappings mappings, NatSessions sessions, NatErrors errors)
    : options_(std::move(options)),
      mappings_(std::move(mappings)),
      sessions_(std::move(sessions)),
      errors_(std::move(errors)) {
  const auto or_any = [](std::uint16_t mtu) { return mtu != 0 ? mtu : std::uint16_t{0xFFFF}; };
  mtu_ = {or_any(options_.outside_mtu), or_any(options_.inside_mtu)};
}

void Nat44::outward(std::span<const std::span<std::byte>> frames, Time now, std::span<NatVerdict> verdicts) noexcept {
  for (std::size_t at = 0; at < frames.size(); at += batch) {
    const std::size_t count = std::min(batch, frames.size() - at);
    translate_batch(NatSide::inside, frames.subspan(at, count), now, verdicts.subspan(at, count));
  }
}

void Nat44::inward(std::span<const std::span<std::byte>> frames, Time now, std::span<NatVerdict> verdicts) noexcept {
  for (std::size_t at = 0; at < frames.size(); at += batch) {
    const std::size_t count = std::min(batch, frames.size() - at);
    translate_batch(NatSide::outside, frames.subspan(at, count), now, verdicts.subspan(at, count));
  }
}

// The way of a packet: what it is, whose it is, and what it becomes. What is plain and known goes straight on.
void Nat44::translate_batch(NatSide from, std::span<const std::span<std::byte>> frames, Time now,
                            std::span<NatVerdict> verdicts) noexcept {
  std::array<NatPacket, batch> packets;
  std::array<FlowKey4, batch> keys;
  std::array<SessionRef, batch> found;
  for (std::size_t i = 0; i < frames.size(); ++i) classify(frames[i], packets[i], keys[i]);
  sessions_.lookup(std::span(keys).first(frames.size()), std::span(found).first(frames.size()));
  const bool reverse = from == NatSide::outside;
  if (!reverse) begin_sessions(std::span(packets).first(frames.size()), keys, found, now);
  const std::uint16_t mtu = mtu_[static_cast<std::size_t>(from)];
  std::uint64_t translated = 0;
  auto& counts = counters_.verdicts[static_cast<std::size_t>(from)];
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const bool known = found[i] && found[i].is_reverse() == reverse;
    if (known && packets[i].plain && packets[i].length <= mtu && !sessions_.is_hairpin(found[i])) [[likely]] {
      sessions_.follow(found[i], keys[i], packets[i], now);
      const std::byte* const ip = frames[i].data() + EthernetView::min_header;
      const bool ours = !reverse && (load8(ip + 6) & 0x40) == 0;
      next_identification_ = static_cast<std::uint16_t>(next_identification_ + (ours ? 1 : 0));
      rewrite_plain(frames[i], sessions_.translated(found[i], keys[i]), ours ? next_identification_ : load16(ip + 4));
      if (options_.clear_macs) std::memset(frames[i].data(), 0, 2 * MacAddress::size);
      verdicts[i] = NatVerdict::translated;
      ++translated;
      continue;
    }
    verdicts[i] = known && packets[i].simple ? translate_found(from, packets[i], keys[i], found[i], now)
                                             : translate_slowly(from, packets[i], keys[i], now);
    verdicts[i] = fit(from, packets[i], verdicts[i]);
    ++counts[static_cast<std::size_t>(verdicts[i])];
  }
  counts[static_cast<std::size_t>(NatVerdict::translated)] += translated;
}

NatVerdict Nat44::translate_found(NatSide from, NatPacket& packet, const FlowKey4& key, SessionRef ref,
                                  Time now) noexcept {
  if (key.protocol == IpProtocol::icmp && verify_transport(packet.ip()) == ChecksumState::wrong)
    return NatVerdict::icmp_checksum;
  sessions_.follow(ref, key, packet, now);
  const NatVerdict verdict = write(from, packet, sessions_.translated(ref, key), now);
  if (verdict != NatVerdict::translated || from == NatSide::outside || !sessions_.is_hairpin(ref)) [[likely]]
    return verdict;
  return hairpin(packet, now);
}

// What is longer than its next link takes leaves in fragments, where it may.
NatVerdict Nat44::fit(NatSide from, const NatPacket& packet, NatVerdict verdict) noexcept {
  if (!passes(verdict) && verdict != NatVerdict::hairpinned) return verdict;
  const NatSide to = verdict == NatVerdict::hairpinned ? from : other(from);
  const std::uint16_t mtu = mtu_[static_cast<std::size_t>(other(to))];
  if (packet.length <= mtu) [[likely]]
    return verdict;
  if (split(packet, mtu, errors_.outbox(to))) return NatVerdict::fragmented;
  ++counters_.outbox_full;
  return NatVerdict::too_big;
}

// The packet has been translated, and its destination is one of our outside addresses: in again (RFC 4787, REQ-9: with
// the outside source).
NatVerdict Nat44::hairpin(const NatPacket& outgoing, Time now) noexcept {
  NatPacket packet;
  FlowKey4 key;
  classify(outgoing.frame, packet, key);
  turning_ = true;
  const NatVerdict verdict = translate_slowly(NatSide::outside, packet, key, now);
  turning_ = false;
  return verdict == NatVerdict::translated ? NatVerdict::hairpinned : verdict;
}

NatVerdict Nat44::translate_slowly(NatSide from, NatPacket& packet, const FlowKey4& key, Time now) noexcept {
  if (packet.refused != NatVerdict::translated) return packet.refused;
  if (is_martian(key.src, key.dst)) return NatVerdict::martian;
  if (packet.ip().ttl() <= 1 && !turning_) {
    errors_.send(from, packet, IcmpType::time_exceeded, 0, 0, now, counters_);
    return NatVerdict::ttl_exceeded;
  }
  if (from == NatSide::inside) {
    if (!is_inside(key.src)) return NatVerdict::not_inside;
    if (is_bypassed(key.dst)) return pass_untouched(from, packet, now);
  } else if (!mappings_.owns(key.dst)) {
    if (is_bypassed(key.src) && is_inside(key.dst)) return pass_untouched(from, packet, now);
    return NatVerdict::not_ours;
  }
  switch (packet.kind) {
    case FlowClass::ports:
    case FlowClass::icmp_query:
    case FlowClass::fragment:
      if (!is_translated_protocol(key.protocol)) return translate_protocol(from, packet, key, now);
      return packet.fragmented && !turning_ ? translate_fragment(from, packet, key, now)
                                            : translate_session(from, packet, key, now);
    case FlowClass::icmp_error:
      return translate_error(from, packet, now);
    case FlowClass::protocol:
      return translate_protocol(from, packet, key, now);
    default:
      return NatVerdict::unsupported;
  }
}

NatVerdict Nat44::translate_session(NatSide from, NatPacket& packet, const FlowKey4& key, Time now) noexcept {
  // Also what the batch has begun meanwhile.
  const SessionRef ref = sessions_.lookup(key);
  if (ref && ref.is_reverse() == (from == NatSide::outside)) return translate_found(from, packet, key, ref, now);
  if (packet.kind == FlowClass::icmp_query && verify_transport(packet.ip()) == ChecksumState::wrong)
    return NatVerdict::icmp_checksum;
  return from == NatSide::inside ? outward_first(packet, key, now) : inward_first(packet, key, now);
}

// The first fragment finds the session, for itself and for the others of its datagram, before or after it.
NatVerdict Nat44::translate_fragment(NatSide from, NatPacket& packet, const FlowKey4& key, Time now) noexcept {
  NatFragments::Datagram* const datagram = fragments_.enter(from, packet, key, now, counters_);
  if (datagram == nullptr) return NatVerdict::fragment_invalid;
  if (packet.kind == FlowClass::fragment) {
    if (!datagram->known) return fragments_.keep(*datagram, packet) ? NatVerdict::kept : NatVerdict::fragment_limit;
    return write_fragment(from, packet, *datagram, now);
  }
  datagram->identification = packet.identification;
  datagram->verdict = translate_session(from, packet, key, now);
  datagram->known = true;
  if (!is_drop(datagram->verdict)) {
    const Ipv4Mut ip = packet.ip();
    datagram->src = ip.src();
    datagram->dst = ip.dst();
    if (from == NatSide::inside) datagram->identification = ++next_identification_;
    set_identification(ip, datagram->identification);
  }
  release_fragments(from, *datagram, now);
  return datagram->verdict;
}

NatVerdict Nat44::write_fragment(NatSide from, NatPacket& packet, const NatFragments::Datagram& datagram,
                                 Time now) noexcept {
  if (is_drop(datagram.verdict)) return datagram.verdict;
  const FlowKey4 to{.src = datagram.src, .dst = datagram.dst, .protocol = datagram.key.protocol};
  if (const NatVerdict verdict = write(from, packet, to, now); verdict != NatVerdict::translated) return verdict;
  set_identification(packet.ip(), datagram.identification);
  return datagram.verdict;
}

void Nat44::release_fragments(NatSide from, NatFragments::Datagram& datagram, Time now) noexcept {
  const NatSide to = datagram.verdict == NatVerdict::hairpinned ? from : other(from);
  NatOutbox& out = errors_.outbox(to);
  fragments_.release(datagram, [&](NatPacket& packet) {
    if (is_drop(write_fragment(from, packet, datagram, now))) {
      ++counters_.fragments_given_up;
      return;
    }
    const std::uint16_t mtu = mtu_[static_cast<std::size_t>(other(to))];
    if (packet.length > mtu ? split(packet, mtu, out) : out.add(packet.frame)) {
      ++counters_.fragments_released;
    } else {
      ++counters_.outbox_full;
      ++counters_.fragments_given_up;
    }
  });
}

// Protocols without ports that we translate: addresses alone, where an outside address is one inside address's own.
NatVerdict Nat44::translate_protocol(NatSide from, NatPacket& packet, const FlowKey4& key, Time now) noexcept {
  FlowKey4 to = key;
  const auto other_address =
      from == NatSide::inside ? mappings_.paired_outside(key.src) : mappings_.paired_inside(key.dst);
  if (!other_address) return NatVerdict::unsupported;
  (from == NatSide::inside ? to.src : to.dst) = *other_address;
  const NatVerdict verdict = write(from, packet, to, now);
  return verdict == NatVerdict::translated && from == NatSide::inside && mappings_.owns(to.dst) ? hairpin(packet, now)
                                                                                                : verdict;
}

// An error is about a packet that went the other way: the session is that of an answer to it (RFC 5508, REQ-3 to
// REQ-5). It neither refreshes nor ends anything.
NatVerdict Nat44::translate_error(NatSide from, NatPacket& packet, Time now) noexcept {
  const Ipv4View ip = packet.ip();
  if (ip.is_fragment()) return NatVerdict::unsupported;
  if (verify_transport(ip) != ChecksumState::right) return NatVerdict::icmp_checksum;
  const auto quoted = Ipv4View::parse_truncated(IcmpView::parse(ip.payload())->payload());
  if (!quoted || !verify_header(*quoted) || quoted->is_later_fragment() || quoted->payload().size() < 8)
    return NatVerdict::icmp_malformed;
  FlowKey4 about{.src = quoted->src(), .dst = quoted->dst(), .protocol = quoted->protocol()};
  const std::byte* at = quoted->payload().data();
  if (about.protocol == IpProtocol::icmp) {
    if (!is_query(IcmpType{load8(at)})) return NatVerdict::icmp_malformed;
    about.src_port = about.dst_port = load16(at + 4);
  } else if (is_translated_protocol(about.protocol)) {
    about.src_port = load16(at);
    about.dst_port = load16(at + 2);
  } else {
    return NatVerdict::icmp_unmatched;
  }
  // Errors go to who sent the packet; one that goes elsewhere lies.
  if (ip.dst() != about.src) return NatVerdict::icmp_malformed;
  const auto to = translated_about(from, about.reversed());
  if (!to) return NatVerdict::icmp_unmatched;
  const NatVerdict verdict = write(from, packet, *to, now);
  return verdict == NatVerdict::translated && from == NatSide::inside && mappings_.owns(to->dst) ? hairpin(packet, now)
                                                                                                 : verdict;
}

std::optional<FlowKey4> Nat44::translated_about(NatSide from, const FlowKey4& answer) const noexcept {
  const bool reverse = from == NatSide::outside;
  if (const SessionRef ref = sessions_.lookup(answer); ref && ref.is_reverse() == reverse)
    return sessions_.translated(ref, answer);
  const auto mapping = reverse ? mappings_.find_outside(answer.protocol, answer.dst, answer.dst_port)
                               : mappings_.find_inside(answer.protocol, answer.src, answer.src_port);
  if (!mapping || (reverse && !permits(*mapping, answer))) return std::nullopt;
  FlowKey4 to = answer;
  (reverse ? to.dst : to.src) = reverse ? mapping->inside : mapping->outside;
  (reverse ? to.dst_port : to.src_port) = reverse ? mapping->inside_port : mapping->outside_port;
  if (answer.protocol == IpProtocol::icmp)
    to.src_port = to.dst_port = reverse ? mapping->inside_port : mapping->outside_port;
  return to;
}

NatVerdict Nat44::pass_untouched(NatSide from, NatPacket& packet, Time now) noexcept {
  const Ipv4View ip = packet.ip();
  const FlowKey4 same{.src = ip.src(), .dst = ip.dst(), .protocol = IpProtocol::hop_by_hop};
  if (const NatVerdict verdict = write(from, packet, same, now); verdict != NatVerdict::translated) return verdict;
  return NatVerdict::bypassed;
}

// The last step: onto the next link, as the flow `to` has it. A flow of protocol 0 leaves all but the link as it is.
NatVerdict Nat44::write(NatSide from, NatPacket& packet, const FlowKey4& to, Time now) noexcept {
  const Ipv4Mut ip = packet.ip();
  const std::uint16_t mtu = mtu_[static_cast<std::size_t>(from)];
  if (packet.length > mtu && ip.dont_fragment()) [[unlikely]] {
    if (!turning_)
      errors_.send(from, packet, IcmpType::destination_unreachable, fragmentation_needed, mtu, now, counters_);
    return NatVerdict::too_big;
  }
  if (to.protocol != IpProtocol::hop_by_hop && !rewrite(ip, to)) [[unlikely]]
    return NatVerdict::malformed;
  if (!turning_) [[likely]]
    decrement_ttl(ip);
  // Hosts that share an address choose identifications without knowing of each other; one that may matter, because the
  // packet may yet be in fragments, becomes ours (RFC 6864, 5.3). Fragments have their datagram's.
  if (from == NatSide::inside && to.protocol != IpProtocol::hop_by_hop && !packet.fragmented && !ip.dont_fragment())
    set_identification(ip, ++next_identification_);
  if (options_.clear_macs) std::memset(packet.frame.data(), 0, 2 * MacAddress::size);
  return NatVerdict::translated;
}

bool Nat44::is_bypassed(Ipv4Address address) const noexcept { return contains(options_.bypass, address); }
bool Nat44::is_inside(Ipv4Address address) const noexcept {
  return options_.inside.empty() || contains(options_.inside, address);
}

bool Nat44::tick(Time now, std::size_t most) noexcept {
  held_syns_.answer_due(now, [&](const NatPacket& packet) {
    ++counters_.syns_answered;
    errors_.send(NatSide::outside, packet, IcmpType::destination_unreachable, port_unreachable, 0, now, counters_);
  });
  fragments_.expire(now, counters_);
  return sessions_.expire(mappings_, most, now);
}

NatCounters Nat44::counters() const noexcept {
  NatCounters result = counters_;
  result.mappings_made = mappings_.made();
  result.mappings_ended = mappings_.ended();
  result.sessions_made = sessions_.made();
  result.sessions_ended = sessions_.ended();
  return result;
}

}  // namespace efnet
