// The thread that packets go through.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "efio/poller.h"
#include "efio/port.h"
#include "efnet/gateway/gateway.h"

namespace efio::gate {

class Worker {
 public:
  struct Source {
    RxQueue* rx = nullptr;
    efnet::NatSide side{};
  };

  Worker(std::vector<int> cpus, bool spin) : cpus_(std::move(cpus)), spin_(spin) {}

  // What it works with: before run(), or within call().
  void set(efnet::Gateway* gateway, std::vector<Source> sources);

  // Works until stop(). Errors: device (no such processor, no descriptors left).
  Result<void> run();
  void stop() noexcept;
  bool failed() const noexcept { return failed_.load(); }

  // Does `work` between two batches, in the worker's thread, and returns when it is done; in the caller's where the
  // worker is not running. Any other thread.
  void call(const std::function<void()>& work);

  // One look at each source; whether there was anything to do. What run() repeats.
  bool round();

 private:
  Result<void> loop();
  Result<void> watch_sources();
  void do_called() noexcept;
  void wake() noexcept;

  std::vector<int> cpus_;
  bool spin_;
  efnet::Gateway* gateway_ = nullptr;
  std::vector<Source> sources_;
  bool changed_ = false;

  std::mutex poller_mutex_;  // for those who wake it
  std::optional<Poller> poller_;
  std::mutex call_mutex_;  // one caller at a time
  std::atomic<const std::function<void()>*> called_{nullptr};
  std::atomic<bool> running_{false}, stop_{false}, failed_{false};
};

}  // namespace efio::gate
