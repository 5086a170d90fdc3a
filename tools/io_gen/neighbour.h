// Whose MAC address frames to an address should carry, from the kernel's neighbour table.
#pragma once

#include <optional>
#include <string>

#include "efnet/wire/address.h"
#include "tools/io_gen/traffic.h"

namespace efio::io_gen {

// Of `address`'s first on this interface, where the kernel has learnt it; nothing else is asked or sent.
std::optional<efnet::MacAddress> find_neighbour(const std::string& interface, const Addresses& address);

}  // namespace efio::io_gen
