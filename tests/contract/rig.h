// The bench on which an engine is tested: a port, and a counterpart that puts frames in and takes frames out without
// any of the engine's code. A new engine adds one Rig (rig_NAME.cpp) and its row in rigs.cpp, and nothing else.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "efio/engines/engine.h"
#include "efio/port.h"

namespace efio::test {

using Bytes = std::vector<std::byte>;
using std::chrono::milliseconds;

// Frames as an independent counter saw them: into the port under test, and out of it.
struct DeviceCounts {
  std::uint64_t in = 0, in_bytes = 0;
  std::uint64_t out = 0, out_bytes = 0;
};

class Rig {
 public:
  virtual ~Rig() = default;

  // What this machine lacks, for instance root; empty when the rig works. Nothing else is called before it.
  virtual std::string why_not() { return {}; }

  // What the engine can do on this rig's kind of device.
  virtual Capabilities can(Capabilities engine) const { return engine; }

  // Opens the port under test: the rig's device, with these options ("a=1&b=2"). May be called again.
  virtual Result<Port> open(std::string_view options, const PortOptions& how) = 0;

  // The counterpart's two hands. put_in() waits a bounded time for room, take_out() for a frame.
  virtual bool put_in(std::span<const std::byte> frame, std::size_t queue) = 0;
  virtual std::optional<Bytes> take_out(milliseconds patience) = 0;

  // No port is open: the counterpart lets go of what it opened itself.
  virtual void rest() {}

  // A file: what is put in must be there before the port is opened, and one opening has one direction.
  virtual bool stored() const { return false; }

  // With a link.
  virtual std::optional<DeviceCounts> counts() { return {}; }
  virtual void set_link(bool up) { (void)up; }
  virtual void delete_device() {}
  virtual std::string device() const { return {}; }
};

struct RigRow {
  std::string_view scheme;
  bool privileged;  // makes devices in network namespaces: belongs to engine_contract_netns_test
  std::unique_ptr<Rig> (*make)();
  std::string_view variant = {};  // of an engine with several rigs
  bool promised = true;           // a machine for development has all that it needs; else its tests are skipped without
  std::string_view short_run = {};  // the cases that are run where time is short, one word each; empty: all
};
std::span<const RigRow> rig_table();

// A name that no other rig of this or another process uses.
std::string unique_name(std::string_view prefix);

// What a case gets: the engine's row and a rig that works.
struct Bench {
  const Engine& engine;
  Rig& rig;

  Capabilities can() const { return rig.can(engine.can); }
  Direction whole() const {  // as much as one opening can have
    return rig.stored() || !(can().rx && can().tx) ? (can().rx ? Direction::rx : Direction::tx) : Direction::both;
  }

  // Fails the test and ends it (by an exception of the test's own) when the port does not open.
  Port open(Direction direction, std::string_view options = {}, std::shared_ptr<Pool> pool = {}) const;
  // A port that sends, and one that receives and to which these frames have come or are on their way.
  Port sending(std::string_view options = {}, std::shared_ptr<Pool> pool = {}) const;
  Port receiving(const std::vector<Bytes>& frames, std::string_view options = {}, std::shared_ptr<Pool> pool = {}) const;
};

struct Case {
  std::string_view name;
  std::string_view not_applicable;  // what is said of an engine for which `applies` is false
  bool (*applies)(const Capabilities& can, const Rig& rig);
  void (*run)(const Bench& bench);
};
std::span<const Case> loan_cases();
std::span<const Case> forward_cases();
std::span<const Case> wait_cases();
std::span<const Case> counter_cases();
std::span<const Case> life_cases();
std::span<const Case> link_cases();

// Registers every case for every engine of this build whose rig is, or is not, privileged. Called while the program's
// statics are initialised.
bool register_contract(bool privileged);

// --- for the cases ---

// An Ethernet frame of a protocol that no kernel answers, its payload made from the number.
Bytes make_frame(std::size_t size, unsigned number);
std::vector<Bytes> make_frames(std::size_t count, std::size_t size = 60, unsigned first = 0);

// Receives until the batch has n slots or patience ends.
RxBatch receive_patiently(RxQueue& queue, std::size_t n, milliseconds patience = milliseconds(5000));

// The counters of every queue add up; fails the test where they do not.
void expect_balanced(const PortStats& stats);

// Open descriptors and mappings of this process, and bytes allocated.
struct Holdings {
  std::size_t descriptors = 0, mappings = 0, heap_bytes = 0;
  static Holdings now();
};

bool is_debug_build();

}  // namespace efio::test
