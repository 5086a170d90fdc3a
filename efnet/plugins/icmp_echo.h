#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/plugins/plugin.h"
#include "efnet/wire/address.h"

namespace efnet {

// Answers ICMP and ICMPv6 echo requests to some addresses (RFC 1122 3.2.2.6, RFC 4443 4.2): the reply is the request
// with addresses swapped, to the MAC address that it came from and behind the same VLAN tags. A request with a wrong
// checksum is dropped as `checksum`, one whose reply finds no room as `not_forwarded`; what this cannot answer passes:
// fragments, IPv4 options, and all that is no echo request to one of the addresses, in a frame to one station.
class EFIO_EXPORT IcmpEchoPlugin final : public Plugin {
 public:
  IcmpEchoPlugin(std::vector<Ipv4Address> four, std::vector<Ipv6Address> six) noexcept
      : four_(std::move(four)), six_(std::move(six)) {}
  // ADDRESS[,ADDRESS…]. Errors: usage.
  static efio::Result<std::unique_ptr<IcmpEchoPlugin>> parse(std::string_view arguments);

  std::string_view name() const noexcept override { return "icmp_echo"; }
  void ingate(PacketBatch& packets, Gate& gate) noexcept override;

 private:
  std::vector<Ipv4Address> four_;
  std::vector<Ipv6Address> six_;
};

}  // namespace efnet
