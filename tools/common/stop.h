// Ctrl-C, and the time that a run may take. The first SIGINT or SIGTERM asks for a clean stop with final counts, the
// second ends the program at once.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>

namespace efio::tools {

// What loops look at once a batch.
class Stop {
 public:
  bool requested() const noexcept { return flag_.load(std::memory_order_relaxed); }
  void request() noexcept { flag_.store(true, std::memory_order_relaxed); }

 private:
  std::atomic<bool> flag_{false};
};

// While it lives, the first signal is kept for wait(); one such object at a time.
class SignalGuard {
 public:
  // SIGHUP is kept too, for those who take changes in while they run, each time that it comes.
  enum class Hangup : bool { ends, keep };
  explicit SignalGuard(Hangup hangup = Hangup::ends);
  ~SignalGuard();
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;

  // Whether a signal came.
  bool signalled() const noexcept;
  // Whether a SIGHUP came since this was last asked.
  bool hung_up() noexcept;
  // Sleeps until a signal comes, notify() is called, or the time is up.
  void wait(std::chrono::nanoseconds timeout) noexcept;
  // Ends the wait. Any thread.
  void notify() noexcept;

 private:
  bool keeps_hangup_ = false;
};

}  // namespace efio::tools
