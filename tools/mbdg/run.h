// A run of the bridge: its ports, its threads, and what watches them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "efio/port.h"
#include "tools/common/port_report.h"
#include "tools/common/stop.h"
#include "tools/mbdg/dump.h"
#include "tools/mbdg/options.h"
#include "tools/mbdg/worker.h"

namespace efio::mbdg {

// A port of the bridge, through all its openings.
struct BridgePort {
  std::optional<Port> port;  // closed, where the device went away
  bool is_open = false;
  PortStats before;          // of earlier openings
  std::uint64_t openings = 0;
  std::uint64_t next_try = 0;  // Clock::monotonic() ns
  std::optional<Error> why_gone;

  PortStats stats() const noexcept;
};

// Frames on their way from a thread that has no queue of a port to the one that has.
struct Relay {
  Port entry, end;  // of a pipe:
  std::size_t from = 0, to = 0;
  std::uint16_t port = 0;
};

class Run {
 public:
  explicit Run(const Options& options) : options_(options) {}

  Result<void> prepare();
  void perform();
  int report();

 private:
  Result<void> open(std::size_t number);
  Result<void> make_relays(std::size_t port);
  std::size_t thread_of(std::size_t port, std::size_t queue) const noexcept;
  std::size_t owner_of_exit(std::size_t port) const noexcept;
  // `changed`: whose plugins are to be made anew; those of the others keep what they know.
  Result<void> wire_up(std::optional<std::size_t> changed = {});
  Result<void> add_gates(Worker& worker, std::size_t number, TxQueue* tx);
  void rest_all();
  void resume_all();

  void watch();
  void look_after_ports(std::uint64_t now);
  void look_for_loops(std::uint64_t now);
  void lose(std::size_t number);
  void live(std::uint64_t now);
  void drain_relays();
  PortStats beside(std::size_t number) const noexcept;
  tools::Json json() const;
  std::string text() const;
  std::uint64_t copied() const noexcept;
  std::uint64_t handed_over() const noexcept;

  const Options& options_;
  std::vector<BridgePort> ports_;
  std::optional<efnet::Switch> bridge_;
  std::unique_ptr<Dumper> dumper_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Relay> relays_;
  std::optional<tools::SignalGuard> signals_;
  std::vector<Error> errors_;

  std::uint64_t start_ = 0, shown_at_ = 0;
  double elapsed_ = 0;
  std::size_t lines_shown_ = 0;
  std::vector<PortStats> shown_;
  std::uint64_t moves_before_ = 0, looked_at_ = 0, said_at_ = 0, loops_suspected_ = 0;
};

int run(const Options& options);

}  // namespace efio::mbdg
