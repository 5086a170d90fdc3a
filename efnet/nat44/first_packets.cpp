#include <algorithm>
#include <array>

#include "efnet/nat44/nat44.h"

// Packets of no session, and what comes of them: a session, a mapping used without one, or a refusal.

namespace efnet {
namespace {

constexpr std::uint8_t communication_prohibited = 13;  // of "destination unreachable"

bool begins_connection(std::uint8_t flags) noexcept {
  return (flags & (tcp_flag::syn | tcp_flag::ack | tcp_flag::rst | tcp_flag::fin)) == tcp_flag::syn;
}

bool is_request(const NatPacket& packet) noexcept {
  switch (IcmpType{load8(packet.message().data())}) {
    case IcmpType::echo_request:
    case IcmpType::timestamp_request:
    case IcmpType::information_request:
    case IcmpType::mask_request:
      return true;
    default:
      return false;
  }
}

// Whether this may be the first packet of a session from inside.
bool begins(const NatPacket& packet, const FlowKey4& key) noexcept {
  if (key.protocol == IpProtocol::tcp) return begins_connection(packet.tcp_flags);
  return key.protocol != IpProtocol::icmp || is_request(packet);
}

}  // namespace

// The sessions that a batch from inside begins, at once: their cache misses overlap. What this leaves out, or what
// fails here, meets outward_first() in its turn.
void Nat44::begin_sessions(std::span<const NatPacket> packets, std::span<const FlowKey4> keys,
                           std::span<SessionRef> found, Time now) noexcept {
  std::array<std::uint8_t, batch> which;
  std::size_t count = 0;
  for (std::size_t i = 0; i < packets.size(); ++i) {
    which[count] = static_cast<std::uint8_t>(i);
    count += found[i] ? 0U : 1U;
  }
  if (count < 2 || draining_) [[likely]]
    return;
  std::array<FlowKey4, batch> flows;
  const auto newcomers = std::remove_if(which.begin(), which.begin() + count,
                                        [&](std::uint8_t i) { return !is_newcomer(packets[i], keys[i]); });
  count = std::min(static_cast<std::size_t>(newcomers - which.begin()), sessions_.room());
  for (std::size_t n = 0; n < count; ++n) flows[n] = keys[which[n]];
  std::array<NatMappings::Made, batch> made;
  mappings_.find_or_make(std::span(flows).first(count), now, made);

  std::array<NatSessions::Opening, batch> openings;
  std::array<SessionRef, batch> refs;
  std::array<std::uint8_t, batch> opening;
  std::size_t opened = 0;
  for (std::size_t n = 0; n < count; ++n) {
    if (made[n].verdict != NatVerdict::translated) continue;
    opening[opened] = which[n];
    openings[opened++] = {flows[n], made[n].mapping, mappings_.owns(flows[n].dst)};
  }
  sessions_.open(std::span(openings).first(opened), now, refs);
  for (std::size_t n = 0; n < opened; ++n) {
    if (!refs[n]) continue;
    mappings_.acquire(openings[n].mapping.number);
    found[opening[n]] = refs[n];
    forget_syn(refs[n], openings[n].forward.protocol);
  }
  for (std::size_t n = 0; n < opened; ++n)
    if (!refs[n]) mappings_.abandon(openings[n].mapping.number, now);
}

bool Nat44::is_newcomer(const NatPacket& packet, const FlowKey4& key) const noexcept {
  return packet.simple && is_translated_protocol(key.protocol) && !is_martian(key.src, key.dst) && is_inside(key.src) &&
         !is_bypassed(key.dst) && begins(packet, key) && !sessions_.is_full() && !sessions_.is_limited(key) &&
         (key.protocol != IpProtocol::icmp || verify_transport(packet.ip()) != ChecksumState::wrong);
}

// The first packet of a session from inside.
NatVerdict Nat44::outward_first(NatPacket& packet, const FlowKey4& key, Time now) noexcept {
  if (!begins(packet, key)) return NatVerdict::no_session;
  if (draining_) return NatVerdict::draining;
  if (sessions_.is_full()) return refuse_new(packet, NatVerdict::sessions_full, now);
  if (sessions_.is_limited(key)) return refuse_new(packet, NatVerdict::subscriber_limit, now);
  const auto made = mappings_.find_or_make(key.protocol, key.src, key.src_port, now);
  if (made.verdict != NatVerdict::translated) return refuse_new(packet, made.verdict, now);
  const SessionRef ref = sessions_.open({key, made.mapping, mappings_.owns(key.dst)}, now);
  if (!ref) {
    mappings_.abandon(made.mapping.number, now);
    return refuse_new(packet, NatVerdict::sessions_full, now);
  }
  mappings_.acquire(made.mapping.number);
  forget_syn(ref, key.protocol);
  return translate_found(NatSide::inside, packet, key, ref, now);
}

// The inside has opened the connection that a held SYN asked for (RFC 5382, REQ-4).
void Nat44::forget_syn(SessionRef ref, IpProtocol protocol) noexcept {
  if (protocol == IpProtocol::tcp && held_syns_.forget(sessions_.table().key(ref.session(), true)))
    ++counters_.syns_forgotten;
}

// Who wants more than there is, is told so (RFC 5508, REQ-8); nobody loses what he has.
NatVerdict Nat44::refuse_new(NatPacket& packet, NatVerdict why, Time now) noexcept {
  errors_.send(NatSide::inside, packet, IcmpType::destination_unreachable, communication_prohibited, 0, now, counters_);
  return why;
}

// From outside, of no session: a mapping may let it in.
NatVerdict Nat44::inward_first(NatPacket& packet, const FlowKey4& key, Time now) noexcept {
  if (const auto mapping = mappings_.find_outside(key.protocol, key.dst, key.dst_port))
    return inward_mapped(packet, key, *mapping, now);
  if (!mappings_.paired_inside(key.dst)) return hold_syn(packet, key, NatVerdict::no_mapping, now);
  if (draining_) return NatVerdict::draining;
  const auto made = mappings_.make_paired(key.protocol, key.dst, key.dst_port, now);
  if (made.verdict != NatVerdict::translated) return made.verdict;
  const NatVerdict verdict = inward_mapped(packet, key, made.mapping, now);
  mappings_.abandon(made.mapping.number, now);  // where it got no session
  return verdict;
}

NatVerdict Nat44::inward_mapped(NatPacket& packet, const FlowKey4& key, const NatMapping& mapping, Time now) noexcept {
  if (!permits(mapping, key)) return hold_syn(packet, key, NatVerdict::not_permitted, now);
  FlowKey4 to = key;
  to.dst = mapping.inside;
  to.dst_port = mapping.inside_port;
  if (key.protocol == IpProtocol::icmp) {
    // Whoever pings an outside address means us, unless it is one inside address's own.
    if (is_request(packet) && !mapping.open) return NatVerdict::no_session;
    to.src_port = mapping.inside_port;
  }
  if (key.protocol != IpProtocol::tcp) return write(NatSide::outside, packet, to, now);  // strangers make no state
  if (!begins_connection(packet.tcp_flags)) return NatVerdict::no_session;
  if (draining_) return NatVerdict::draining;
  const FlowKey4 forward = to.reversed();
  if (sessions_.is_full()) return NatVerdict::sessions_full;
  if (sessions_.is_limited(forward)) return NatVerdict::subscriber_limit;
  const SessionRef ref = sessions_.open({forward, mapping, mappings_.owns(forward.dst)}, now);
  if (!ref) return NatVerdict::sessions_full;
  mappings_.acquire(mapping.number);
  return translate_found(NatSide::outside, packet, key, SessionRef(ref.session(), true), now);
}

// A SYN that nothing lets in waits for its answer; all else that nothing lets in gets none.
NatVerdict Nat44::hold_syn(const NatPacket& packet, const FlowKey4& key, NatVerdict otherwise, Time now) noexcept {
  if (key.protocol != IpProtocol::tcp || !begins_connection(packet.tcp_flags) || turning_) return otherwise;
  return held_syns_.hold(packet, key, now) ? NatVerdict::syn_held : otherwise;
}

bool Nat44::permits(const NatMapping& mapping, const FlowKey4& key) const noexcept {
  if (mapping.open) return true;
  switch (options_.filtering) {
    case NatFiltering::endpoint_independent:
      return true;
    case NatFiltering::address_dependent:
      return sessions_.has_sent_to(mapping, key.protocol, key.src);
    case NatFiltering::address_and_port_dependent:
      return false;  // a session would have been found
  }
  return false;
}

}  // namespace efnet
