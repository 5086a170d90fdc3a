#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "efio/checksum.h"
#include "efnet/wire/ethernet.h"
#include "efnet/wire/icmp.h"
#include "efnet/wire/ipv4.h"
#include "efnet/wire/ipv6.h"
#include "efnet/wire/tcp.h"
#include "efnet/wire/udp.h"

// Checksums of whole headers and packets, and their repair when a field changes. The sum itself is efio/checksum.h.

namespace efnet {

// ---- From scratch (RFC 1071) ----

// The partials of the pseudo-headers (RFC 768, RFC 9293 3.1; RFC 8200 8.1), to be added to that of the `length` bytes
// of transport header and payload.
inline std::uint64_t pseudo_header(Ipv4Address src, Ipv4Address dst, IpProtocol protocol,
                                   std::uint16_t length) noexcept {
  return efio::checksum_word(src.number()) + efio::checksum_word(dst.number()) +
         efio::checksum_word(static_cast<std::uint16_t>(protocol)) + efio::checksum_word(length);
}
inline std::uint64_t pseudo_header(const Ipv6Address& src, const Ipv6Address& dst, IpProtocol protocol,
                                   std::uint32_t length) noexcept {
  return efio::checksum_word(src.high()) + efio::checksum_word(src.low()) + efio::checksum_word(dst.high()) +
         efio::checksum_word(dst.low()) + efio::checksum_word(static_cast<std::uint16_t>(protocol)) +
         efio::checksum_word(length);
}

// UDP says "no checksum" with 0, so that a computed 0 goes on the wire as 0xFFFF (RFC 768).
constexpr std::uint16_t udp_checksum_on_wire(std::uint16_t computed) noexcept {
  return computed == 0 ? 0xFFFF : computed;
}

enum class ChecksumState : std::uint8_t {
  right,
  wrong,
  absent,   // UDP over IPv4 with 0
  unknown,  // not to be told from these bytes: a fragment, a cut packet, a protocol not known here, a routing header
};

namespace checksum_detail {

// Nearly all headers have no options; a constant size is summed without a branch.
[[gnu::always_inline]] inline std::uint64_t header_partial(Ipv4View packet) noexcept {
  const auto header = packet.header();
  return header.size() == Ipv4View::min_header ? efio::checksum_partial(header.first<Ipv4View::min_header>())
                                               : efio::checksum_partial(header);
}

// Takes a field out of a sum that is not of zeros alone. Storing 0 in the field first would do too, but the sum would
// then have to wait until the store has left the store buffer: it loads more than those two bytes at once.
constexpr std::uint64_t without(std::uint16_t field) noexcept {
  return efio::checksum_word(static_cast<std::uint16_t>(~field));
}

}  // namespace checksum_detail

[[gnu::always_inline]] inline bool verify_header(Ipv4View packet) noexcept {
  return efio::checksum_fold(checksum_detail::header_partial(packet)) == 0xFFFF;
}

[[gnu::always_inline]] inline void fill_header(Ipv4Mut packet) noexcept {
  packet.set_checksum(
      efio::checksum_finish(checksum_detail::header_partial(packet) + checksum_detail::without(packet.checksum())));
}

namespace checksum_detail {

// How many of `bytes` the transport's checksum covers; 0 where there is no whole header of a protocol known here.
[[gnu::always_inline]] inline std::size_t covered(IpProtocol protocol, std::span<const std::byte> bytes,
                                                  bool ipv6) noexcept {
  switch (protocol) {
    case IpProtocol::udp: {
      const auto udp = UdpView::parse(bytes);
      return udp ? udp->length() : 0;
    }
    case IpProtocol::tcp:
      return TcpView::parse(bytes) ? bytes.size() : 0;
    case IpProtocol::icmp:
      return !ipv6 && bytes.size() >= IcmpView::min_header ? bytes.size() : 0;
    case IpProtocol::icmpv6:
      return ipv6 && bytes.size() >= Icmpv6View::min_header ? bytes.size() : 0;
    default:
      return 0;
  }
}

constexpr std::size_t field_offset(IpProtocol protocol) noexcept {
  return protocol == IpProtocol::udp ? 6 : protocol == IpProtocol::tcp ? 16 : 2;
}

// Sums what the transport covers, and the pseudo-header's addresses: in one go where nothing lies between them.
[[gnu::always_inline]] inline std::uint64_t sum(std::span<const std::byte> addresses, std::span<const std::byte> bytes,
                                                IpProtocol protocol) noexcept {
  if (protocol == IpProtocol::icmp) return efio::checksum_partial(bytes);
  const std::uint64_t rest = efio::checksum_word(static_cast<std::uint16_t>(protocol)) +
                             efio::checksum_word(static_cast<std::uint32_t>(bytes.size()));
  const std::byte* first = addresses.data();
  if (first + addresses.size() == bytes.data())
    return efio::checksum_partial({first, addresses.size() + bytes.size()}, rest);
  return efio::checksum_partial(bytes, efio::checksum_partial(addresses, rest));
}

[[gnu::always_inline]] inline ChecksumState verify(std::span<const std::byte> addresses,
                                                   std::span<const std::byte> payload, IpProtocol protocol,
                                                   bool ipv6) noexcept {
  const std::size_t size = covered(protocol, payload, ipv6);
  if (size == 0) return ChecksumState::unknown;
  if (protocol == IpProtocol::udp && load16(payload.data() + field_offset(protocol)) == 0)
    return ipv6 ? ChecksumState::wrong : ChecksumState::absent;  // RFC 8200, 8.1
  const std::uint16_t folded = efio::checksum_fold(sum(addresses, payload.first(size), protocol));
  return folded == 0xFFFF ? ChecksumState::right : ChecksumState::wrong;
}

[[gnu::always_inline]] inline bool fill(std::span<const std::byte> addresses, std::span<std::byte> payload,
                                        IpProtocol protocol, bool ipv6) noexcept {
  const std::size_t size = covered(protocol, payload, ipv6);
  if (size == 0) return false;
  std::byte* field = payload.data() + field_offset(protocol);
  if (protocol == IpProtocol::icmp) {  // has no pseudo-header, and may be of zeros alone
    store16(field, 0);
    store16(field, efio::checksum(payload.first(size)));
    return true;
  }
  const std::uint16_t computed =
      efio::checksum_finish(sum(addresses, payload.first(size), protocol) + without(load16(field)));
  store16(field, protocol == IpProtocol::udp ? udp_checksum_on_wire(computed) : computed);
  return true;
}

}  // namespace checksum_detail

// The checksum of the UDP, TCP, ICMP or ICMPv6 that the packet carries. The IPv4 header's own is not looked at.
inline ChecksumState verify_transport(Ipv4View packet) noexcept {
  if (packet.is_fragment() || packet.is_truncated()) return ChecksumState::unknown;
  return checksum_detail::verify(packet.header().subspan(12, 8), packet.payload(), packet.protocol(), false);
}
inline ChecksumState verify_transport(Ipv6View packet) noexcept {
  const auto chain = packet.chain();
  if (!chain || chain->fragmented || chain->segments_left != 0 || packet.is_truncated()) return ChecksumState::unknown;
  return checksum_detail::verify(packet.header().subspan(8, 32), packet.payload().subspan(chain->length),
                                 chain->protocol, true);
}

// Computes and stores the same. False, and nothing changed, where verify_transport would say `unknown`.
inline bool fill_transport(Ipv4Mut packet) noexcept {
  if (packet.is_fragment() || packet.is_truncated()) return false;
  return checksum_detail::fill(packet.header().subspan(12, 8), packet.payload(), packet.protocol(), false);
}
inline bool fill_transport(Ipv6Mut packet) noexcept {
  const auto chain = packet.chain();
  if (!chain || chain->fragmented || chain->segments_left != 0 || packet.is_truncated()) return false;
  return checksum_detail::fill(packet.header().subspan(8, 32), packet.payload().subspan(chain->length), chain->protocol,
                               true);
}

// All checksums of an Ethernet frame: IPv4 header and transport, behind any tags. A wrong IPv4 header makes it wrong.
inline ChecksumState verify_frame(std::span<const std::byte> frame) noexcept {
  const auto ethernet = EthernetView::parse(frame);
  if (!ethernet) return ChecksumState::unknown;
  if (ethernet->type() == EtherType::ipv4) {
    const auto packet = Ipv4View::parse(ethernet->payload());
    if (!packet) return ChecksumState::unknown;
    return verify_header(*packet) ? verify_transport(*packet) : ChecksumState::wrong;
  }
  if (ethernet->type() == EtherType::ipv6)
    if (const auto packet = Ipv6View::parse(ethernet->payload())) return verify_transport(*packet);
  return ChecksumState::unknown;
}

// Fills them. False where there is no IP packet or its transport checksum cannot be computed; an IPv4 header's is
// filled all the same.
inline bool fill_frame(std::span<std::byte> frame) noexcept {
  const auto ethernet = EthernetMut::parse(frame);
  if (!ethernet) return false;
  if (ethernet->type() == EtherType::ipv4) {
    const auto packet = Ipv4Mut::parse(ethernet->payload());
    if (!packet) return false;
    fill_header(*packet);
    return fill_transport(*packet);
  }
  if (ethernet->type() == EtherType::ipv6)
    if (const auto packet = Ipv6Mut::parse(ethernet->payload())) return fill_transport(*packet);
  return false;
}

// ---- Repair (RFC 1624) ----

// What changes do to a checksum, to be applied to each checksum that covers the fields: the delta of an address, for
// one, to the IPv4 header's and to the transport's. Deltas of several fields are added with +.
//
//     const auto delta = checksum_delta(old_address, new_address) + checksum_delta(old_port, new_port);
//     udp.set_checksum(update_udp(udp.checksum(), delta));
class ChecksumDelta {
 public:
  constexpr ChecksumDelta() noexcept = default;
  constexpr explicit ChecksumDelta(std::uint64_t sum) noexcept : sum_(sum) {}

  friend constexpr ChecksumDelta operator+(ChecksumDelta a, ChecksumDelta b) noexcept {
    return ChecksumDelta(a.sum_ + b.sum_);
  }
  constexpr ChecksumDelta& operator+=(ChecksumDelta other) noexcept { return *this = *this + other; }

  // ~m + m' of RFC 1624, 3, folded to 16 bits.
  constexpr std::uint16_t folded() const noexcept {
    const std::uint32_t sum = efio::checksum_detail::fold32(sum_);
    return static_cast<std::uint16_t>((sum + std::rotl(sum, 16)) >> 16);
  }

 private:
  std::uint64_t sum_ = 0;  // of 16-bit words in host order
};

// Of a field at an even offset that was `before` and is `after`.
constexpr ChecksumDelta checksum_delta(std::uint16_t before, std::uint16_t after) noexcept {
  return ChecksumDelta(std::uint64_t{static_cast<std::uint16_t>(~before)} + after);
}
constexpr ChecksumDelta checksum_delta(std::uint32_t before, std::uint32_t after) noexcept {
  return ChecksumDelta(std::uint64_t{~before} + after);
}
constexpr ChecksumDelta checksum_delta(std::uint64_t before, std::uint64_t after) noexcept {
  constexpr std::uint64_t low = 0xFFFF'FFFF;
  return ChecksumDelta((~before & low) + (~before >> 32) + (after & low) + (after >> 32));
}
constexpr ChecksumDelta checksum_delta(Ipv4Address before, Ipv4Address after) noexcept {
  return checksum_delta(before.number(), after.number());
}
constexpr ChecksumDelta checksum_delta(const Ipv6Address& before, const Ipv6Address& after) noexcept {
  return checksum_delta(before.high(), after.high()) + checksum_delta(before.low(), after.low());
}

// HC' = ~(~HC + ~m + m'), equation 3 of RFC 1624, written as HC - (~m + m') with the borrow carried round: the same for
// all values, and four operations where the chain of them matters.
constexpr std::uint16_t update(std::uint16_t checksum, ChecksumDelta delta) noexcept {
  const std::int32_t difference = std::int32_t{checksum} - delta.folded();
  return static_cast<std::uint16_t>(difference + (difference >> 16));
}
constexpr std::uint16_t update16(std::uint16_t checksum, std::uint16_t before, std::uint16_t after) noexcept {
  return update(checksum, checksum_delta(before, after));
}
constexpr std::uint16_t update32(std::uint16_t checksum, std::uint32_t before, std::uint32_t after) noexcept {
  return update(checksum, checksum_delta(before, after));
}

// For a UDP checksum: 0 stays 0 ("none", IPv4 only), a computed 0 becomes 0xFFFF.
constexpr std::uint16_t update_udp(std::uint16_t checksum, ChecksumDelta delta) noexcept {
  return checksum == 0 ? std::uint16_t{0} : udp_checksum_on_wire(update(checksum, delta));
}

}  // namespace efnet
