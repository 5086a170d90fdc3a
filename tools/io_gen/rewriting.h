// What becomes of the frames of a capture before they are sent: other MAC addresses, other networks.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "efio/result.h"
#include "efnet/wire/address.h"
#include "efnet/wire/flow.h"

namespace efio::io_gen {

// Addresses of one range become those of another, one for one.
struct AddressMap {
  efnet::Ipv6Range from, to;  // IPv4 as mapped addresses

  // "10.0.0.0/8=172.0.0.0/8", "10.0.0.1=10.9.9.9", "2001:db8:1::/64=2001:db8:2::/64". Errors: usage.
  static Result<AddressMap> parse(std::string_view text);
};

struct Rewriting {
  std::optional<efnet::MacAddress> src_mac, dst_mac;
  std::vector<AddressMap> maps;  // the first that contains an address counts; sources and destinations alike

  // In place, with all checksums mended, those in ICMP errors too. A frame that has no place for something, or that
  // efnet::rewrite() refuses, stays as it is there.
  void apply(std::span<std::byte> frame) const noexcept;

 private:
  bool map(efnet::Ipv6Address& address) const noexcept;
  void map_arp(std::span<std::byte> packet) const noexcept;
  void map_error4(std::span<std::byte> frame, const efnet::Flow& flow) const noexcept;
  void map_error6(std::span<std::byte> frame, const efnet::Flow& flow) const noexcept;
};

}  // namespace efio::io_gen
