// The commands tx, rx and both: ports opened, threads run, counts told.
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "efio/poller.h"
#include "efio/port.h"
#include "tools/common/stop.h"
#include "tools/io_gen/options.h"
#include "tools/io_gen/receiver.h"
#include "tools/io_gen/report.h"
#include "tools/io_gen/sending.h"

namespace efio::io_gen {

// One run from the open ports to the last count.
class Run {
 public:
  explicit Run(const Options& options) : options_(options) {}

  // Opens the ports. Errors: whatever keeps the run from starting.
  Result<void> prepare();
  // Runs until the counts are reached, the time is up or a signal comes, and closes the ports.
  void perform();
  // After perform(); what it points to lives as long as the run.
  const Outcome& outcome() const noexcept { return outcome_; }
  // Tells it, and the exit code.
  int report();

 private:
  using Work = Result<void> (Run::*)();

  Result<void> send();
  Result<void> receive();
  Result<void> both_in_turn();
  Result<void> open_sender();
  void finish_sending();
  void receive_rest();
  Result<Poller> rx_poller();
  void watch(std::uint64_t start);
  void live(std::uint64_t start);
  void judge();
  void collect(Result<void> result);
  void collect_errors();

  bool sends() const { return options_.command != Command::rx; }
  bool receives() const { return options_.command != Command::tx; }

  const Options& options_;
  tools::Stop stop_;
  std::optional<tools::SignalGuard> signals_;
  std::atomic<unsigned> working_{0};
  std::atomic<bool> sent_all_{false};

  std::optional<Port> from_port_, tx_port_, rx_port_, copy_port_;
  std::optional<Generator> generator_;
  std::optional<Checker> checker_;
  std::unique_ptr<Sending> sender_;
  std::optional<Receiver> receiver_;

  std::uint64_t send_start_ = 0, send_end_ = 0;
  std::optional<TxStats> tx_before_;
  std::optional<RxStats> rx_before_;
  std::uint64_t live_before_ = 0;
  Outcome outcome_;
};

// Returns the exit code (tools/common/exit_code.h).
int run(const Options& options);

}  // namespace efio::io_gen
