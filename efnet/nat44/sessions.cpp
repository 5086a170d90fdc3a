#include "efnet/nat44/sessions.h"

#include <algorithm>
#include <array>

namespace efnet {
namespace {

NatClass class_of(IpProtocol protocol) noexcept {
  switch (protocol) {
    case IpProtocol::udp:
      return NatClass::udp;
    case IpProtocol::tcp:
      return NatClass::tcp_transitory;
    case IpProtocol::icmp:
      return NatClass::icmp;
    default:
      return NatClass::other;
  }
}

}  // namespace

efio::Result<NatSessions> NatSessions::create(const Nat44Options& options) {
  auto table = SessionTable4::create({.capacity = options.sessions,
                                      .classes = options.timeouts,
                                      .per_source = options.sessions_each,
                                      .seed = options.seed});
  if (!table) return std::unexpected(std::move(table.error()));
  const bool permitting = options.filtering == NatFiltering::address_dependent;
  SessionOptions permit_options{.capacity = permitting ? options.sessions : 1,
                                .classes = {{"permit", std::chrono::hours(24)}},
                                .seed = options.seed};
  permit_options.tcp_established = permit_options.tcp_transitory = 0;
  auto permits = SessionTable4::create(std::move(permit_options));
  if (!permits) return std::unexpected(std::move(permits.error()));
  auto translations = TableArray<Translation>::create(table->capacity());
  if (!translations) return std::unexpected(std::move(translations.error()));
  return NatSessions(std::move(*table), std::move(*permits), std::move(*translations), permitting);
}

void NatSessions::open(std::span<const Opening> openings, Time now, std::span<SessionRef> refs) noexcept {
  openings.size() == 1 ? open_of<1>(openings, now, refs) : open_of<most_at_once>(openings, now, refs);
}

template <std::size_t room>
void NatSessions::open_of(std::span<const Opening> openings, Time now, std::span<SessionRef> refs) noexcept {
  std::array<SessionTable4::New, room> news;
  std::array<SessionTable4::Inserted, room> results;
  for (std::size_t i = 0; i < openings.size(); ++i) {
    const auto& [forward, mapping, hairpin] = openings[i];
    FlowKey4 reverse = forward.reversed();
    reverse.dst = mapping.outside;
    reverse.dst_port = mapping.outside_port;
    if (forward.protocol == IpProtocol::icmp) reverse.src_port = mapping.outside_port;
    news[i] = {.key = forward,
               .reverse = reverse,
               .timeout_class = static_cast<std::uint8_t>(class_of(forward.protocol)),
               .value = mapping.number};
  }
  table_.insert(std::span(news).first(openings.size()), now, results);
  for (std::size_t i = 0; i < openings.size(); ++i) {
    refs[i] = {};
    if (results[i].status != InsertStatus::inserted) continue;
    refs[i] = results[i].session;
    const NatMapping& mapping = openings[i].mapping;
    translations_[refs[i].session()] = {.outside = mapping.outside,
                                        .inside = mapping.inside,
                                        .outside_port = mapping.outside_port,
                                        .inside_port = mapping.inside_port,
                                        .hairpin = openings[i].hairpin ? 1U : 0U};
    ++made_;
    if (permitting_) add_permit(news[i].reverse, now);
  }
}

// An edge prolongs what it changes, and a SYN from inside what it repeats; strangers' RSTs and FINs prolong nothing.
void NatSessions::follow_edge(SessionRef ref, std::uint8_t flags, Time now) noexcept {
  const TcpState before = table_.state(ref.session()).tcp;
  const bool forward = !ref.is_reverse();
  const TcpState after = next_state(before, forward, flags);
  if (after != before || is_established(after) || (forward && (flags & tcp_flag::syn) != 0)) table_.touch(ref, now);
  if (after != before) table_.track_tcp(ref, {.flags = flags}, now);
}

void NatSessions::add_permit(const FlowKey4& reverse, Time now) noexcept {
  const FlowKey4 key = permit(reverse.dst, reverse.dst_port, reverse.protocol, reverse.src);
  const auto inserted = permits_.insert({.key = key, .reverse = key.reversed(), .value = 1}, now);
  if (inserted.status == InsertStatus::exists) ++permits_.value(inserted.session.session());
}
void NatSessions::end_permit(const FlowKey4& reverse) noexcept {
  const SessionRef ref = permits_.lookup(permit(reverse.dst, reverse.dst_port, reverse.protocol, reverse.src));
  if (ref && --permits_.value(ref.session()) == 0) permits_.erase(ref.session());
}

void NatSessions::ended(const FlowKey4& reverse, std::uint64_t mapping, NatMappings& mappings, Time now) {
  ++ended_;
  if (permitting_) end_permit(reverse);
  mappings.release(static_cast<std::uint32_t>(mapping), now);
}

bool NatSessions::expire(NatMappings& mappings, std::size_t most, Time now) {
  std::array<Session<FlowKey4>, SessionTable4::chunk> gone;
  while (most > 0) {
    const auto room = std::span(gone).first(std::min(most, gone.size()));
    const auto expired = table_.expire(now, room, 4 * room.size());
    for (const auto& session : room.first(expired.ended)) ended(session.reverse, session.state.value, mappings, now);
    if (!expired.more) return false;
    most -= room.size();
  }
  return true;
}

std::size_t NatSessions::erase(std::optional<Ipv4Address> inside, NatMappings& mappings, Time now) {
  std::size_t count = 0;
  table_.scan(0, table_.capacity(), [&](std::uint32_t session, const SessionState& state) {
    if (inside && table_.key(session).src != *inside) return;
    const FlowKey4 reverse = table_.key(session, true);
    const std::uint64_t mapping = state.value;
    table_.erase(session);
    ended(reverse, mapping, mappings, now);
    ++count;
  });
  return count;
}

}  // namespace efnet
