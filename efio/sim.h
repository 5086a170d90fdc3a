// For tests with `sim:` ports: time that passes only when told (option clock=virtual), so that delays, rates and outages
// are exact and cost no waiting.
#pragma once

#include <chrono>

#include "efio/export.h"
#include "efio/port.h"
#include "efio/result.h"

namespace efio {

// Lets time pass in a `sim:` port with clock=virtual, and in those that it wraps. What becomes due is received by the next
// receive(), and sent by the next flush(). Any thread. Errors: usage (no such port).
EFIO_EXPORT Result<void> sim_advance(Port& port, std::chrono::nanoseconds by);

}  // namespace efio
