// A run of the gateway: its ports, its thread, and what watches them.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "tools/common/lasting_port.h"
#include "tools/common/stop.h"
#include "tools/efnet/config.h"
#include "tools/efnet/state.h"
#include "tools/efnet/worker.h"

namespace efio::gate {

class Control;

struct RunOptions {
  std::string file;
  std::optional<std::string> control;  // instead of the file's
  std::optional<std::string> state;
  std::vector<int> cpus;  // the same
  bool spin = false;
  std::chrono::nanoseconds duration{0};  // 0: until a signal
  bool json = false;
  bool say_ready = false;
};

class Run {
 public:
  explicit Run(RunOptions options);
  ~Run();

  Result<void> prepare();
  void perform();
  int report();

  // For the control socket; any thread.
  void with_gateway(const std::function<void(efnet::Gateway&, efnet::Time)>& work);
  Json ports_json();
  void drain(bool on);
  // Reads the file again. What cannot be changed while it runs is refused, and nothing is changed. Errors: usage,
  // memory.
  Result<efnet::NatRestored> reload();
  // Who had this outside end then, by the log. Errors: usage (none is kept), those of the system.
  Result<std::optional<std::string>> find_owner(efnet::IpProtocol protocol, efnet::Ipv4Address address,
                                                std::uint16_t port, std::int64_t at);
  Json log_json() const;  // null without a log

 private:
  struct Side {
    std::optional<tools::LastingPort> port;
    std::uint64_t next_try = 0;  // Clock::monotonic() ns
  };
  Side& side(efnet::NatSide side) noexcept { return sides_[static_cast<std::size_t>(side)]; }

  Result<Config> read() const;
  Result<void> open(efnet::NatSide side);
  Result<efnet::MacAddress> mac_of(efnet::NatSide side, const Config& config);
  void complete(Config& config);
  Result<void> attach(efnet::NatSide side, efnet::Gateway& gateway, const Config& config);
  std::vector<Worker::Source> sources();

  void watch();
  void look_after_ports(std::uint64_t now);
  void lose(efnet::NatSide side);
  void reload_for_signal();
  Result<void> take_up_state();
  Result<void> write_state();
  void live(std::uint64_t now);
  Json json();
  std::string text();

  RunOptions options_;
  Config config_;
  std::mutex mutex_;  // ports, gateway_ and config_: the control thread asks while this one changes them
  std::array<Side, 2> sides_;
  std::unique_ptr<MappingLog> log_;  // outlives the gateway, which calls it
  std::unique_ptr<efnet::Gateway> gateway_;
  std::optional<Worker> worker_;
  std::unique_ptr<Control> control_;
  std::optional<tools::SignalGuard> signals_;
  std::vector<Error> errors_;
  std::atomic<bool> draining_{false};

  std::uint64_t start_ = 0, shown_at_ = 0, state_written_at_ = 0;
  double elapsed_ = 0;
  std::array<PortStats, 2> shown_{};
  bool shown_once_ = false;
};

int run(RunOptions options);

}  // namespace efio::gate
