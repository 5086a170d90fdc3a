#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "efnet/tables/ipp_pool.h"
#include "efnet/tables/session_table.h"
#include "efnet/wire/address.h"

namespace efnet {

// Who may send to a mapping (RFC 4787, REQ-8).
enum class NatFiltering : std::uint8_t {
  endpoint_independent,        // anybody
  address_dependent,           // addresses that the inside has sent to through it
  address_and_port_dependent,  // addresses and ports that it has sent to
};

// An outside port that always leads to an inside one.
struct NatForward {
  IpProtocol protocol = IpProtocol::tcp;
  Ipv4Address outside;
  std::uint16_t outside_port = 0;
  Ipv4Address inside;
  std::uint16_t inside_port = 0;
};

// An outside address that is one inside address: all ports, and all protocols.
struct NatPair {
  Ipv4Address outside;  // not in the pool
  Ipv4Address inside;
};

// Inside addresses whose outside address and ports follow from them alone (RFC 7422): each has a block of its own, the
// blocks in the order of the addresses. Nothing of it is logged.
struct NatDeterministic {
  Ipv4Prefix inside;
  Ipv4Range outside;  // not in the pool
  PortRange ports{1024, 65'535};
};

// What a log needs to tell who had a port and when (RFC 6888, REQ-12). Destinations are not told.
struct NatEvent {
  enum class Kind : std::uint8_t { mapped, unmapped, block_opened, block_closed };
  Kind kind = Kind::mapped;
  Time at{};
  IpProtocol protocol{};  // of a mapping; a block is of all protocols
  Ipv4Address inside;
  std::uint16_t inside_port = 0;  // of a mapping
  Ipv4Address outside;
  PortRange ports;  // one port for a mapping
};

struct Nat44Options {
  IppOptions pool;                 // outside addresses and ports: ranges, blocks, hold-down
  std::vector<Ipv4Prefix> inside;  // whose packets are translated; none: everybody's
  std::vector<Ipv4Prefix> bypass;  // destinations outside that see inside addresses as they are
  std::vector<NatForward> forwards;
  std::vector<NatPair> pairs;
  std::vector<NatDeterministic> deterministic;

  NatFiltering filtering = NatFiltering::endpoint_independent;
  bool preserve_port = false;    // the inside port outside too, where it is free
  bool preserve_parity = false;  // RFC 4787, REQ-4

  std::size_t sessions = 65'536;
  std::size_t mappings = 0;         // 0: as many as sessions
  std::uint32_t sessions_each = 0;  // of an inside address; 0: no limit
  std::uint32_t mappings_each = 0;
  std::vector<TimeoutClass> timeouts = nat_timeout_classes();  // by NatClass

  // Our addresses: what ICMP errors come from. None is sent from an address that is not given.
  Ipv4Address inside_address;
  Ipv4Address outside_address;
  std::uint16_t inside_mtu = 0;  // 0: not looked at
  std::uint16_t outside_mtu = 0;
  double errors_per_second = 100;  // ICMP errors to one address

  // MAC addresses of what is translated become zero, for the ARP plugin to complete; else they stay.
  bool clear_macs = true;

  std::function<void(const NatEvent&)> log;  // called on the packet path, for new and ended mappings or blocks only
  std::optional<HashSeed> seed;              // drawn where none is given
};

}  // namespace efnet
