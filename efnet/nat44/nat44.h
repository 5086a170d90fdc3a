#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/nat44/classify.h"
#include "efnet/nat44/errors.h"
#include "efnet/nat44/fragments.h"
#include "efnet/nat44/held_syns.h"
#include "efnet/nat44/mappings.h"
#include "efnet/nat44/options.h"
#include "efnet/nat44/sessions.h"
#include "efnet/nat44/verdict.h"

// A NAT44 as RFC 4787, 5382, 5508, 6888 and 7857 want it. Plain: it is handed frames and the time, and says what became
// of each. docs/nat.md has the rules one by one.

namespace efnet {

// What restore() made of the sessions of a snapshot.
struct NatRestored {
  std::uint64_t restored = 0;
  std::uint64_t expired = 0;  // had timed out meanwhile
  std::uint64_t refused = 0;  // would not be made so by the options of now, or found no room
};

class EFIO_EXPORT Nat44 {
 public:
  static constexpr std::size_t batch = 64;  // what is in flight at once; any batch may be longer

  // Errors: usage, memory, unavailable.
  static efio::Result<std::unique_ptr<Nat44>> create(Nat44Options options);

  // Whole Ethernet frames from inside, or from outside, in place: verdicts[i] of frames[i]. What passes() leaves on the
  // other side, what is hairpinned on the side that it came from; neither is longer or shorter than before.
  void outward(std::span<const std::span<std::byte>> frames, Time now, std::span<NatVerdict> verdicts) noexcept;
  void inward(std::span<const std::span<std::byte>> frames, Time now, std::span<NatVerdict> verdicts) noexcept;

  // Packets that are to leave on this side besides: ICMP errors, fragments. Calls send(frame) for each until
  // it says false; the bytes are void when it returns.
  template <class Send>
  std::size_t collect(NatSide side, Send&& send) {
    return errors_.outbox(side).collect(std::forward<Send>(send));
  }

  // Time has passed: ends what has timed out, at most `most` sessions. True where there may be more to end.
  bool tick(Time now, std::size_t most = 256) noexcept;

  // All sessions, with their mappings, as bytes for restore(): handed to `write` in pieces. `unix_time`: the wall
  // clock's, ns since 1970, by which restore() tells how long ago it was.
  void snapshot(Time now, std::chrono::nanoseconds unix_time,
                const std::function<void(std::span<const std::byte>)>& write) const;
  // Takes up the sessions of a snapshot, as far as they have not timed out and the options would make them so today,
  // beside those that there are. Errors: usage, and nothing is changed, where any byte of it is missing or wrong.
  efio::Result<NatRestored> restore(std::span<const std::byte> bytes, Time now, std::chrono::nanoseconds unix_time);

  // No new sessions; those that there are go on.
  void drain(bool on) noexcept { draining_ = on; }
  // Ends the sessions of an inside address, or all; how many.
  std::size_t flush(std::optional<Ipv4Address> inside, Time now) noexcept {
    return sessions_.erase(inside, mappings_, now);
  }

  // The owner's thread.
  NatCounters counters() const noexcept;
  const SessionTable4& sessions() const noexcept { return sessions_.table(); }
  const NatMappings& mappings() const noexcept { return mappings_; }
  IppPool& pool() noexcept { return mappings_.pool(); }
  std::size_t bytes() const noexcept {
    return sessions_.bytes() + mappings_.table().bytes() + mappings_.pool().bytes();
  }

 private:
  Nat44(Nat44Options options, NatMappings mappings, NatSessions sessions, NatErrors errors);

  void translate_batch(NatSide from, std::span<const std::span<std::byte>> frames, Time now,
                       std::span<NatVerdict> verdicts) noexcept;
  void begin_sessions(std::span<const NatPacket> packets, std::span<const FlowKey4> keys, std::span<SessionRef> found,
                      Time now) noexcept;
  bool is_newcomer(const NatPacket& packet, const FlowKey4& key) const noexcept;
  NatVerdict translate_found(NatSide from, NatPacket& packet, const FlowKey4& key, SessionRef ref, Time now) noexcept;
  NatVerdict translate_slowly(NatSide from, NatPacket& packet, const FlowKey4& key, Time now) noexcept;
  NatVerdict fit(NatSide from, const NatPacket& packet, NatVerdict verdict) noexcept;
  NatVerdict hairpin(const NatPacket& packet, Time now) noexcept;

  NatVerdict outward_first(NatPacket& packet, const FlowKey4& key, Time now) noexcept;
  NatVerdict inward_first(NatPacket& packet, const FlowKey4& key, Time now) noexcept;
  NatVerdict translate_session(NatSide from, NatPacket& packet, const FlowKey4& key, Time now) noexcept;
  NatVerdict translate_fragment(NatSide from, NatPacket& packet, const FlowKey4& key, Time now) noexcept;
  NatVerdict write_fragment(NatSide from, NatPacket& packet, const NatFragments::Datagram& datagram, Time now) noexcept;
  void release_fragments(NatSide from, NatFragments::Datagram& datagram, Time now) noexcept;
  void forget_syn(SessionRef ref, IpProtocol protocol) noexcept;
  NatVerdict hold_syn(const NatPacket& packet, const FlowKey4& key, NatVerdict otherwise, Time now) noexcept;
  NatVerdict inward_mapped(NatPacket& packet, const FlowKey4& key, const NatMapping& mapping, Time now) noexcept;
  NatVerdict translate_protocol(NatSide from, NatPacket& packet, const FlowKey4& key, Time now) noexcept;
  NatVerdict translate_error(NatSide from, NatPacket& packet, Time now) noexcept;
  std::optional<FlowKey4> translated_about(NatSide from, const FlowKey4& answer) const noexcept;
  NatVerdict pass_untouched(NatSide from, NatPacket& packet, Time now) noexcept;
  NatVerdict refuse_new(NatPacket& packet, NatVerdict why, Time now) noexcept;
  NatVerdict write(NatSide from, NatPacket& packet, const FlowKey4& to, Time now) noexcept;

  bool is_bypassed(Ipv4Address address) const noexcept;
  bool is_inside(Ipv4Address address) const noexcept;
  bool permits(const NatMapping& mapping, const FlowKey4& key) const noexcept;

  Nat44Options options_;
  NatMappings mappings_;
  NatSessions sessions_;
  NatErrors errors_;
  NatFragments fragments_;
  NatHeldSyns held_syns_;
  std::uint16_t next_identification_ = 0;
  NatCounters counters_;
  std::array<std::uint16_t, 2> mtu_{};  // of the link on the other side, by where a packet comes from
  bool draining_ = false;
  bool turning_ = false;  // a hairpinned packet is on its way back in: its time to live is counted already
};

}  // namespace efnet
