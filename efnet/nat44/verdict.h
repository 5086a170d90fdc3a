#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "efio/export.h"
#include "efio/stats.h"

namespace efnet {

// What became of a packet, with the frame's drop reason in efio's terms. A verdict cannot exist without its name.
#define EFNET_NAT_VERDICTS(X)                                                                     \
  X(translated, program, "goes on, translated")                                                   \
  X(bypassed, program, "goes on, as it is")                                                       \
  X(hairpinned, program, "goes back to the side that it came from, translated twice")             \
  X(fragmented, program, "goes on in fragments, which collect() hands out")                       \
  X(kept, program, "a fragment that waits for the first one")                                     \
  X(malformed, malformed, "its headers do not parse")                                             \
  X(header_checksum, checksum, "the IPv4 header's checksum is wrong")                             \
  X(icmp_checksum, checksum, "an ICMP checksum is wrong")                                         \
  X(not_ipv4, filtered, "no IPv4 packet")                                                         \
  X(martian, filtered, "an address that no packet to be routed has")                              \
  X(not_inside, filtered, "its source is none of the inside addresses")                           \
  X(not_ours, filtered, "its destination is none of the outside addresses")                       \
  X(no_session, filtered, "belongs to no session, and begins none")                               \
  X(no_mapping, filtered, "nobody has this outside port")                                         \
  X(not_permitted, filtered, "its sender may not use this mapping")                               \
  X(ports_exhausted, no_buffer, "no outside port is left")                                        \
  X(sessions_full, no_buffer, "the tables are full")                                              \
  X(subscriber_limit, rate_limit, "its inside address has all the sessions or ports that it may") \
  X(ttl_exceeded, no_route, "its time to live has run out")                                       \
  X(too_big, oversize, "longer than the next link takes")                                         \
  X(unsupported, filtered, "a protocol or ICMP type that is not translated")                      \
  X(icmp_unmatched, filtered, "an ICMP error about no session")                                   \
  X(icmp_malformed, malformed, "an ICMP error whose quoted packet cannot be trusted")             \
  X(syn_held, filtered, "an unsolicited SYN, to be answered later")                               \
  X(fragment_invalid, malformed, "a fragment that overlaps, or that is too long or too short")    \
  X(fragment_limit, no_buffer, "no room to keep a fragment, or its first one never came")         \
  X(draining, filtered, "would begin a session while none is begun")

enum class NatVerdict : std::uint8_t {
#define EFNET_X(name, reason, text) name,
  EFNET_NAT_VERDICTS(EFNET_X)
#undef EFNET_X
      count_
};
inline constexpr std::size_t nat_verdicts = static_cast<std::size_t>(NatVerdict::count_);

// "no_mapping", and the sentence that goes with it.
EFIO_EXPORT std::string_view name(NatVerdict verdict) noexcept;
EFIO_EXPORT std::string_view describe(NatVerdict verdict) noexcept;
EFIO_EXPORT efio::DropReason drop_reason(NatVerdict verdict) noexcept;  // of one that is_drop()

constexpr bool passes(NatVerdict verdict) noexcept { return verdict <= NatVerdict::bypassed; }
constexpr bool is_drop(NatVerdict verdict) noexcept { return verdict > NatVerdict::kept; }

// Where packets come from, and go to.
enum class NatSide : std::uint8_t { inside, outside };
constexpr NatSide other(NatSide side) noexcept { return side == NatSide::inside ? NatSide::outside : NatSide::inside; }

struct NatCounters {
  // By the side that packets came from; the sum over the verdicts is what came. A packet that is kept gets a second
  // count when its datagram's first fragment comes (released) or does not (fragments_given_up).
  std::array<std::array<std::uint64_t, nat_verdicts>, 2> verdicts{};
  std::uint64_t of(NatSide from, NatVerdict verdict) const noexcept {
    return verdicts[static_cast<std::size_t>(from)][static_cast<std::size_t>(verdict)];
  }

  std::uint64_t mappings_made = 0, mappings_ended = 0;
  std::uint64_t sessions_made = 0, sessions_ended = 0;
  std::uint64_t errors_sent = 0;         // ICMP errors of our own
  std::uint64_t errors_suppressed = 0;   // above errors_per_second
  std::uint64_t outbox_full = 0;         // packets of our own, and fragments, that found no room
  std::uint64_t fragments_released = 0;  // of those kept
  std::uint64_t fragments_given_up = 0;  // of those kept
  std::uint64_t syns_answered = 0;       // of those held
  std::uint64_t syns_forgotten = 0;      // of those held: the inside opened the connection meanwhile
};

}  // namespace efnet
