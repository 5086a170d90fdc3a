#pragma once

#include <cstdint>
#include <span>

#include "efio/result.h"
#include "efnet/nat44/classify.h"
#include "efnet/nat44/mappings.h"
#include "efnet/nat44/options.h"
#include "efnet/tables/session_table.h"
#include "efnet/tables/table_memory.h"

// Who speaks to whom through which mapping. A session's forward key is the packet's from inside, its reverse key that
// of the answer from outside; beside it lies what to write into either, so that a packet needs no other table.

namespace efnet {

class NatSessions {
 public:
  // Errors: usage, memory.
  static efio::Result<NatSessions> create(const Nat44Options& options);

  void lookup(std::span<const FlowKey4> keys, std::span<SessionRef> found) const noexcept {
    table_.lookup(keys, found);
    for (const SessionRef ref : found.first(keys.size()))
      if (ref) __builtin_prefetch(&translations_[ref.session()]);
  }
  SessionRef lookup(const FlowKey4& key) const noexcept { return table_.lookup(key); }

  // The flow that a packet of this key is part of on the other side.
  FlowKey4 translated(SessionRef ref, const FlowKey4& key) const noexcept {
    const Translation& to = translations_[ref.session()];
    FlowKey4 result = key;
    if (ref.is_reverse()) {
      result.dst = to.inside;
      result.dst_port = to.inside_port;
      if (key.protocol == IpProtocol::icmp) result.src_port = to.inside_port;
    } else {
      result.src = to.outside;
      result.src_port = to.outside_port;
      if (key.protocol == IpProtocol::icmp) result.dst_port = to.outside_port;
    }
    return result;
  }
  bool is_hairpin(SessionRef ref) const noexcept { return translations_[ref.session()].hairpin != 0; }

  // A packet of the session has come: timeouts and TCP state follow. UDP and ICMP sessions are refreshed from inside
  // only (RFC 4787, REQ-6), TCP connections from both sides while they are open; after a RST, or FINs from both,
  // nothing but the next SYN prolongs them (RFC 7857, 2).
  void follow(SessionRef ref, const FlowKey4& key, const NatPacket& packet, Time now) noexcept {
    if (key.protocol != IpProtocol::tcp) {
      if (!ref.is_reverse()) table_.touch(ref, now);
      return;
    }
    constexpr std::uint8_t edges = tcp_flag::syn | tcp_flag::fin | tcp_flag::rst;
    const TcpState state = table_.state(ref.session()).tcp;
    if ((packet.tcp_flags & edges) == 0 && state != TcpState::reset) [[likely]] {
      if (is_established(state)) table_.touch(ref, now);
      return;
    }
    follow_edge(ref, packet.tcp_flags, now);
  }

  std::size_t room() const noexcept { return table_.capacity() - table_.size(); }
  bool is_full() const noexcept { return room() == 0; }
  bool is_limited(const FlowKey4& forward) const noexcept {
    return table_.options().per_source != 0 && table_.sessions_of(forward) >= table_.options().per_source;
  }
  struct Opening {
    FlowKey4 forward;
    NatMapping mapping;
    bool hairpin = false;
  };
  // refs[i] of a session of openings[i]; none where there is no room, or one of its keys is in use. Up to
  // `most_at_once`.
  static constexpr std::size_t most_at_once = 64;
  void open(std::span<const Opening> openings, Time now, std::span<SessionRef> refs) noexcept;
  SessionRef open(const Opening& opening, Time now) noexcept {
    SessionRef ref;
    open({&opening, 1}, now, {&ref, 1});
    return ref;
  }

  // Whether the inside has sent to this address through the mapping; known with address-dependent filtering only.
  bool has_sent_to(const NatMapping& mapping, IpProtocol protocol, Ipv4Address remote) const noexcept {
    return static_cast<bool>(permits_.lookup(permit(mapping.outside, mapping.outside_port, protocol, remote)));
  }

  // Ends up to `most` sessions that have timed out, and releases their mappings. True where there may be more.
  bool expire(NatMappings& mappings, std::size_t most, Time now);
  // Ends those of one inside address, or all.
  std::size_t erase(std::optional<Ipv4Address> inside, NatMappings& mappings, Time now);

  const SessionTable4& table() const noexcept { return table_; }
  SessionTable4& table() noexcept { return table_; }
  std::uint64_t made() const noexcept { return made_; }
  std::uint64_t ended() const noexcept { return ended_; }
  std::size_t bytes() const noexcept { return table_.bytes() + translations_.bytes() + permits_.bytes(); }

 private:
  struct Translation {
    Ipv4Address outside;
    Ipv4Address inside;
    std::uint16_t outside_port;
    std::uint16_t inside_port;
    std::uint32_t hairpin;
  };
  static_assert(sizeof(Translation) == 16);

  NatSessions(SessionTable4 table, SessionTable4 permits, TableArray<Translation> translations,
              bool permitting) noexcept
      : table_(std::move(table)),
        permits_(std::move(permits)),
        translations_(std::move(translations)),
        permitting_(permitting) {}

  static FlowKey4 permit(Ipv4Address outside, std::uint16_t port, IpProtocol protocol, Ipv4Address remote) noexcept {
    return {.src = remote, .dst = outside, .src_port = 0, .dst_port = port, .protocol = protocol};
  }
  template <std::size_t room>
  void open_of(std::span<const Opening> openings, Time now, std::span<SessionRef> refs) noexcept;
  void follow_edge(SessionRef ref, std::uint8_t flags, Time now) noexcept;
  void add_permit(const FlowKey4& reverse, Time now) noexcept;
  void end_permit(const FlowKey4& reverse) noexcept;
  void ended(const FlowKey4& reverse, std::uint64_t mapping, NatMappings& mappings, Time now);

  SessionTable4 table_;                   // value: the mapping's number
  SessionTable4 permits_;                 // value: sessions of an outside port with an address
  TableArray<Translation> translations_;  // by session
  bool permitting_;
  std::uint64_t made_ = 0, ended_ = 0;
};

}  // namespace efnet
