#pragma once

#include <cstdint>

namespace efnet {

// What an Ethernet frame carries. Any 16-bit value may be met; those below 0x0600 are lengths (IEEE 802.3).
enum class EtherType : std::uint16_t {
  ipv4 = 0x0800,
  arp = 0x0806,
  vlan = 0x8100,  // 802.1Q, the customer's tag
  ipv6 = 0x86DD,
  qinq = 0x88A8,  // 802.1ad, the service's tag
  lldp = 0x88CC,
};

constexpr bool is_vlan(EtherType type) noexcept { return type == EtherType::vlan || type == EtherType::qinq; }

// What an IPv4 or IPv6 packet carries. Any 8-bit value may be met.
enum class IpProtocol : std::uint8_t {
  hop_by_hop = 0,
  icmp = 1,
  tcp = 6,
  udp = 17,
  ipv6_route = 43,
  ipv6_fragment = 44,
  esp = 50,
  ah = 51,
  icmpv6 = 58,
  ipv6_none = 59,
  ipv6_destination = 60,
  sctp = 132,
  mobility = 135,
  udp_lite = 136,
  hip = 139,
  shim6 = 140,
};

}  // namespace efnet
