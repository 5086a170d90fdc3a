#pragma once

#include <array>

#include "efio/result.h"
#include "efnet/nat44/classify.h"
#include "efnet/nat44/options.h"
#include "efnet/nat44/outbox.h"
#include "efnet/tables/token_buckets.h"

namespace efnet {

// ICMP errors of our own, about packets that came from a side, to go back there.
class NatErrors {
 public:
  // Errors: usage, memory, unavailable.
  static efio::Result<NatErrors> create(const Nat44Options& options);

  // Quotes the packet as it is (RFC 1812, 4.3.2.3), which may be cut behind its IPv4 header. Sends nothing
  // where none may be sent (RFC 1812, 4.3.2.7), or where we have no address on that side.
  void send(NatSide to, const NatPacket& about, IcmpType type, std::uint8_t code, std::uint16_t mtu, Time now,
            NatCounters& counters) noexcept;

  NatOutbox& outbox(NatSide side) noexcept { return outboxes_[static_cast<std::size_t>(side)]; }

 private:
  NatErrors(TokenBuckets buckets, const Nat44Options& options)
      : buckets_(std::move(buckets)),
        addresses_{options.inside_address, options.outside_address},
        clear_macs_(options.clear_macs) {}

  TokenBuckets buckets_;
  std::array<Ipv4Address, 2> addresses_;
  bool clear_macs_;
  std::array<NatOutbox, 2> outboxes_;
};

// Whether a packet with this source and destination is ever routed (RFC 1812, 5.3.7).
constexpr bool is_martian(Ipv4Address src, Ipv4Address dst) noexcept {
  const auto no_host = [](Ipv4Address address) {
    return address.number() >> 24 == 0 || address.is_loopback() || address.is_broadcast();
  };
  return no_host(src) || src.is_multicast() || no_host(dst) || dst.is_multicast();
}

}  // namespace efnet
