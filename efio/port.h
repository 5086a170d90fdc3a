// A port: one opening of a device, a file or a memory ring, with its queues.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "efio/export.h"
#include "efio/pool.h"
#include "efio/queue.h"
#include "efio/result.h"
#include "efio/stats.h"

namespace efio {

enum class Direction : std::uint8_t { rx = 1, tx = 2, both = 3 };
constexpr bool receives(Direction d) noexcept { return (static_cast<unsigned>(d) & 1U) != 0; }
constexpr bool transmits(Direction d) noexcept { return (static_cast<unsigned>(d) & 2U) != 0; }

struct PortOptions {
  Direction direction = Direction::both;
  std::shared_ptr<Pool> pool = {};  // where the engine takes one (docs/ports.md); else it makes or shares its own
};

// What was really obtained.
struct PortInfo {
  std::string uri;                  // as asked for
  std::string engine;               // "packet"
  std::string mode;                 // in the engine's terms: "TPACKET_V3, sendmmsg, qdisc bypass"
  std::string device;               // interface or file; empty where there is none
  std::string why;                  // of `auto:`: why this engine
  std::size_t rx_ring = 0, tx_ring = 0;  // slots a queue
  std::size_t frame_size = 0;       // the largest frame that is received or sent whole, bytes without FCS
  std::size_t headroom = 0;         // bytes before a received frame
  std::size_t queue_bytes = 0;      // memory of one queue: slots, frames or kernel ring
  TimeSource time_source = TimeSource::none;
  std::int64_t time_offset = 0;     // ns to add to a `raw` time to get the epoch's
  std::optional<std::array<std::uint8_t, 6>> mac;
  std::uint32_t mtu = 0;            // 0: no such limit
  std::uint64_t link_bits = 0;      // speed of a physical link; 0: none or unknown (veth's and TAP's are nominal)
};

class PortHandle;  // the engine's half; efio/engines/engine.h
class Port;
EFIO_EXPORT Result<void> sim_advance(Port& port, std::chrono::nanoseconds by);  // efio/sim.h

class EFIO_EXPORT Port {
 public:
  // Opens what the URI names (efio/uri.h; docs/ports.md lists schemes and options) and returns when it carries packets.
  // A failed open leaves nothing behind. Errors: usage, unavailable, permission, device, memory, data.
  static Result<Port> open(std::string_view uri, const PortOptions& options = {});

  Port(Port&&) noexcept;
  Port& operator=(Port&&) noexcept;
  ~Port();  // closes; errors of closing are lost: call close() where they matter

  const PortInfo& info() const noexcept;
  Direction direction() const noexcept;
  std::size_t rx_queues() const noexcept;  // 0 when opened for tx only
  std::size_t tx_queues() const noexcept;

  // Queue i. One that this port does not have lends nothing and says so in its status().
  RxQueue& rx(std::size_t i = 0) noexcept;
  TxQueue& tx(std::size_t i = 0) noexcept;

  // Sums over the queues; any thread.
  PortStats stats() const noexcept;

  // How often the device's link was seen to go down; 0 where there is none. Looked at when a queue runs empty or a send
  // fails. Any thread.
  std::uint64_t link_downs() const noexcept;

  // Changes an option of the open port, as the URI would have said it; what can be changed, docs/ports.md says (`take=` of
  // xdp:). Frames meet either the old or the new. Any thread, but not while the port is closed. Errors: usage, memory.
  Result<void> set_option(std::string_view key, std::string_view value);

  // Waits, at most so long, until the device has taken every committed frame, and reads the kernel's counters once more:
  // afterwards they are exact. The owner of all queues calls it. False when frames are still pending.
  bool drain(std::chrono::nanoseconds timeout = std::chrono::seconds(2)) noexcept;

  // Drains, and gives everything back; a capture file is complete after it. What could not be sent counts as dropped
  // (closed). Errors: device, data. The statistics stay readable. Closing twice is no error.
  Result<void> close();

 private:
  friend Result<void> sim_advance(Port& port, std::chrono::nanoseconds by);
  explicit Port(std::unique_ptr<PortHandle> handle) noexcept;
  std::unique_ptr<PortHandle> handle_;
};

// A row of the table of engines.
struct EngineInfo {
  std::string_view scheme;       // "packet"
  std::string_view description;  // "AF_PACKET with mmap rings"
  bool available = false;
  std::string why_not;  // empty when available: what is missing, and how to get it
};

// Every engine, also those that this build or machine cannot offer.
EFIO_EXPORT std::vector<EngineInfo> engines();

}  // namespace efio
