// Time for slots: ns since the Unix epoch, read once a batch.
//
// Clock::now() reads the time stamp counter, disciplined to CLOCK_REALTIME at least once a second, where the kernel itself runs on
// the TSC (/sys/devices/system/clocksource) and a measurement at start shows it to be cheaper; else it is clock_gettime.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>

#include "efio/export.h"

namespace efio {

class EFIO_EXPORT Clock {
 public:
  // ns since the Unix epoch. Any thread. Within 1 us of CLOCK_REALTIME while that is not stepped; a step is followed
  // within a second.
  static std::uint64_t now() noexcept;

  // "tsc" or "clock_gettime": what now() reads, and what one reading costs as measured at start.
  static std::string_view source() noexcept;
  static double cost_ns() noexcept;

  // Monotonic ns, for waits and intervals; not comparable with now().
  static std::uint64_t monotonic() noexcept;
};

// A thread that keeps a recent time, for programs whose every reading counts. The cached value is at most `period` old
// (plus what the scheduler adds). Any thread may read; the value never goes backwards unless CLOCK_REALTIME does.
class EFIO_EXPORT ClockThread {
 public:
  explicit ClockThread(std::chrono::nanoseconds period = std::chrono::microseconds(50), int cpu = -1);
  ~ClockThread();
  ClockThread(ClockThread&&) noexcept;
  ClockThread& operator=(ClockThread&&) noexcept;

  std::uint64_t now() const noexcept { return value_->load(std::memory_order_relaxed); }

 private:
  struct State;
  std::unique_ptr<State> state_;
  const std::atomic<std::uint64_t>* value_;
};

}  // namespace efio
