// Internal: what a host: port does to its TAP device so that the host's traffic goes through it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "efio/result.h"

namespace efio {

// In the network namespace of the calling thread. All of it is gone when the interface `to` is.

// Gives `to` the addresses of `from`, and a copy of each of its routes that is preferred to the original. Errors: permission,
// device.
Result<void> borrow_addresses(int from, int to, const std::string& attempted);

// "198.51.100.1/24", or IPv6. Errors: usage (no address), permission, device.
Result<void> add_address(int to, const std::string& address, const std::string& attempted);

// Errors: usage (a group address), permission, device.
Result<void> set_mac(int to, const std::array<std::uint8_t, 6>& mac, const std::string& attempted);

}  // namespace efio
