// What a gateway knows, as JSON: for the report and the control socket. All of it is called in the worker's thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "efnet/gateway/gateway.h"
#include "tools/common/port_report.h"

namespace efio::gate {

using tools::Json;

std::string_view name(efnet::NatSide side) noexcept;
std::string name(efnet::IpProtocol protocol);  // "udp", or the number
// "udp", "tcp", "icmp".
std::optional<efnet::IpProtocol> parse_protocol(std::string_view text) noexcept;

// {"gateway": {side: {…}}, "nat": {…}, "arp_and_ping": {side: {…}}}
Json counters_json(const efnet::Gateway& gateway);

// Which rows of a table are wanted; what is not said fits all.
struct Filter {
  std::optional<efnet::Ipv4Prefix> inside, outside, remote;
  std::optional<efnet::IpProtocol> protocol;
  std::optional<std::uint16_t> port;  // of any end
};

// Part of a table: numbers from `from` on, `most` of them looked at; returns where to go on, or nothing at the end.
using Rows = std::vector<Json>;
std::optional<std::uint32_t> session_rows(const efnet::Gateway& gateway, const Filter& filter, std::uint32_t from,
                                          std::size_t most, efnet::Time now, Rows& rows);
std::optional<std::uint32_t> mapping_rows(const efnet::Gateway& gateway, const Filter& filter, std::uint32_t from,
                                          std::size_t most, Rows& rows);
// Small ones, whole.
Rows pool_rows(efnet::Gateway& gateway, efnet::Time now);
Rows arp_rows(efnet::Gateway& gateway, efnet::Time now);
Rows route_rows(const efnet::Gateway& gateway);
// Who has this outside end now.
Rows owner_rows(const efnet::Gateway& gateway, efnet::Ipv4Address address, std::uint16_t port);

}  // namespace efio::gate
