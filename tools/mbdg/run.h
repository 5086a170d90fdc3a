// A run of the bridge: its ports, its threads, and what watches them.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "efio/port.h"
#include "tools/common/port_report.h"
#include "tools/common/stop.h"
#include "tools/mbdg/conservation.h"
#include "tools/mbdg/dump.h"
#include "tools/mbdg/limits.h"
#include "tools/mbdg/options.h"
#include "tools/mbdg/worker.h"

namespace efio::mbdg {

// A port of the bridge, through all its openings. Its place in the list is its number for as long as it is there.
struct BridgePort {
  PortSettings settings;
  bool in_use = false;       // false: a place for another one
  std::optional<Port> port;  // closed, where the device went away
  bool is_open = false;
  std::size_t owner = 0;     // the thread that sends by it where it has not a queue for each
  std::unique_ptr<Policer> policer;
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

  // What it had no room for, at the port that it was for.
  void count_dropped(TxStats& stats) const noexcept {
    const auto handed = entry.stats().tx;
    stats.offered += handed.total_dropped();
    for (std::size_t i = 0; i < stats.dropped.size(); ++i) stats.dropped[i] += handed.dropped[i];
  }
};

// The plugins of a port in one thread.
struct Gates {
  std::unique_ptr<efnet::Pipeline> in, out;
};

// What SIGHUP brings, made ready beside the running bridge.
struct Change {
  Options options;
  std::vector<std::size_t> numbers;  // of the options' ports
  std::vector<std::size_t> added, removed, regated, other_vlans;  // numbers
  std::vector<Gates> gates;               // of `regated`, for each thread
  std::vector<std::unique_ptr<Policer>> policers;  // of the options' ports; null: as it was
  efnet::SwitchOptions bridging;
  std::optional<efnet::Switch> bridge;  // where a wire becomes a switch
  std::size_t relays_before = 0;
};

class Run {
 public:
  using Reread = std::function<Result<Options>()>;

  // `reread`: the options as they are when SIGHUP comes; null: it ends the run as it would without us.
  explicit Run(Options options, Reread reread = {}) : options_(std::move(options)), reread_(std::move(reread)) {}

  Result<void> prepare();
  void perform();
  int report();

  // After perform(): what report() says.
  tools::Json json() const;
  // Changes that SIGHUP brought so far, taken in and refused; any thread.
  std::uint64_t reloads() const noexcept { return reloads_.load(); }
  std::uint64_t refusals() const noexcept { return refusals_.load(); }

 private:
  // set-up
  Result<void> open(std::size_t number);
  Result<std::unique_ptr<Policer>> make_policer(const PortSettings& settings) const;
  Result<void> make_relays();
  bool may_hand_over(std::size_t from, std::size_t port) const;
  std::size_t thread_of(std::size_t port, std::size_t queue) const noexcept;
  std::size_t exit_owner(std::size_t port, std::size_t ports) const noexcept;
  TxQueue* exit_of(std::size_t thread, std::size_t port);
  void wire_up();
  Result<Gates> make_gates(std::size_t thread, std::size_t number, const PortSettings& settings);
  Result<std::vector<Gates>> make_gates(std::size_t number, const PortSettings& settings);
  void install(std::size_t thread, std::size_t number, Gates gates);
  efnet::SwitchOptions bridging(const Options& options, const std::vector<std::size_t>& numbers) const;
  void set_statics(const Options& options, const std::vector<std::size_t>& numbers);
  void rest_all();
  void resume_all();

  // while it runs
  void watch();
  void look_after_ports(std::uint64_t now);
  void come_back(std::size_t number);
  void lose(std::size_t number);
  void look_for_loops(std::uint64_t now);
  void live(std::uint64_t now);

  // SIGHUP
  void reload();
  Result<void> plan(Change& change);
  Result<void> plan_ports(Change& change);
  Result<void> plan_gates(Change& change);
  std::optional<std::size_t> free_number() const noexcept;
  void give_up(const Change& change);
  void carry_out(Change& change);
  void close_removed(const Change& change);

  // the end
  void drain_relay(Relay& relay);
  void drain_relays();
  PortStats beside(std::size_t number) const noexcept;
  Conservation conservation() const;
  std::string text() const;
  std::uint64_t copied() const noexcept;
  std::uint64_t handed_over() const noexcept;

  Options options_;
  Reread reread_;
  std::vector<BridgePort> ports_;
  std::vector<BridgePort> former_;  // those that a change removed
  std::optional<efnet::Switch> bridge_;
  std::vector<std::pair<std::uint64_t, std::uint16_t>> statics_;  // keys and ports of static entries
  std::unique_ptr<Dumper> dumper_;
  std::unique_ptr<Budget> budget_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Relay> relays_;
  std::optional<tools::SignalGuard> signals_;
  std::vector<Error> errors_;
  Conservation past_;  // of plugins and relays that are no more
  std::uint64_t handed_over_before_ = 0;
  std::atomic<std::uint64_t> reloads_{0}, refusals_{0};

  std::uint64_t start_ = 0, shown_at_ = 0;
  double elapsed_ = 0;
  std::size_t lines_shown_ = 0;
  std::vector<PortStats> shown_;
  std::uint64_t moves_before_ = 0, looked_at_ = 0, said_at_ = 0, loops_suspected_ = 0;
};

int run(Options options, const Run::Reread& reread);

// A port's line on the live screen; `since`: seconds from `before` to `now`.
std::string live_line(std::size_t number, const BridgePort& port, const PortStats& now, const PortStats& before, double since);

}  // namespace efio::mbdg
