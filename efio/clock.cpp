#include "efio/clock.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <string>
#include <thread>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace efio {

namespace {

std::uint64_t read(clockid_t id) noexcept {
  timespec t{};
  ::clock_gettime(id, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
}

#if defined(__x86_64__)

__extension__ using Wide = __int128;

std::uint64_t ticks() noexcept { return __rdtsc(); }

// A pair of readings taken as close together as this thread manages.
struct Pair {
  std::uint64_t tsc, ns;
};
Pair read_pair() noexcept {
  Pair best{};
  std::uint64_t narrowest = UINT64_MAX;
  for (int i = 0; i < 8; ++i) {
    const auto before = ticks();
    const auto ns = read(CLOCK_REALTIME);
    const auto after = ticks();
    if (after - before < narrowest) narrowest = after - before, best = {before + (after - before) / 2, ns};
  }
  return best;
}

// ns = base_ns + (tsc - base_tsc) * rate / 2^32, published under a sequence number.
class Discipline {
 public:
  Discipline() noexcept {
    if (!kernel_uses_tsc()) return;
    const auto first = read_pair();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const auto second = read_pair();
    if (second.tsc <= first.tsc || second.ns <= first.ns) return;
    rate_ = static_cast<double>(second.ns - first.ns) / static_cast<double>(second.tsc - first.tsc);
    last_ = second;
    publish(second.tsc, second.ns, rate_, interval_ns_);
    usable_ = true;
    measure();
  }

  bool usable() const noexcept { return usable_; }
  double cost() const noexcept { return cost_; }

  std::uint64_t now() noexcept {
    for (;;) {
      const auto sequence = sequence_.load(std::memory_order_acquire);
      const auto tsc = ticks();
      const auto base_tsc = base_tsc_.load(std::memory_order_acquire);
      const auto base_ns = base_ns_.load(std::memory_order_acquire);
      const auto rate = rate_fixed_.load(std::memory_order_acquire);
      const auto until = valid_until_.load(std::memory_order_acquire);
      if ((sequence & 1) != 0 || sequence_.load(std::memory_order_relaxed) != sequence) continue;
      if (tsc >= until && resync()) continue;
      return line(tsc, base_tsc, base_ns, rate);
    }
  }

 private:
  static std::uint64_t line(std::uint64_t tsc, std::uint64_t base_tsc, std::uint64_t base_ns, std::uint64_t rate) noexcept {
    const auto elapsed = static_cast<std::int64_t>(tsc - base_tsc);
    return base_ns + static_cast<std::uint64_t>((static_cast<Wide>(elapsed) * static_cast<Wide>(rate)) >> 32);
  }
  std::uint64_t line_at(std::uint64_t tsc) const noexcept {  // under busy_
    return line(tsc, base_tsc_.load(std::memory_order_relaxed), base_ns_.load(std::memory_order_relaxed),
                rate_fixed_.load(std::memory_order_relaxed));
  }

  static bool kernel_uses_tsc() {
    std::ifstream file("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    std::string name;
    return file >> name && name == "tsc";
  }

  // One thread at a time; the others go on with the line they have. The new line starts at the real time, unless the old
  // one has run ahead: then it starts there and meets the real time one interval later, so that time never goes back.
  // If the real time was stepped back by more, it is followed.
  bool resync() noexcept {
    if (busy_.test_and_set(std::memory_order_acquire)) return false;
    const auto pair = read_pair();
    const auto span_ns = static_cast<double>(pair.ns) - static_cast<double>(last_.ns);
    const auto span_tsc = static_cast<double>(pair.tsc - last_.tsc);
    const double measured = span_tsc > 0 ? span_ns / span_tsc : rate_;
    if (measured > rate_ * 0.999 && measured < rate_ * 1.001) rate_ = measured;
    last_ = pair;
    // Short at first: the rate of two milliseconds is a rough one.
    interval_ns_ = std::min<std::uint64_t>(2 * interval_ns_, longest_interval_ns);
    // The old line has told nobody a later time than this one.
    const auto told = line_at(std::min(pair.tsc, valid_until_.load(std::memory_order_relaxed)));
    const auto ahead = static_cast<std::int64_t>(told - pair.ns);
    if (ahead <= 0 || ahead > step_ns) {
      publish(pair.tsc, pair.ns, rate_, interval_ns_);
    } else {
      publish(pair.tsc, told, rate_ * (1.0 - static_cast<double>(ahead) / static_cast<double>(interval_ns_)), interval_ns_);
    }
    busy_.clear(std::memory_order_release);
    return true;
  }

  void publish(std::uint64_t tsc, std::uint64_t ns, double rate, std::uint64_t valid_ns) noexcept {
    sequence_.store(sequence_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    base_tsc_.store(tsc, std::memory_order_release);
    base_ns_.store(ns, std::memory_order_release);
    rate_fixed_.store(static_cast<std::uint64_t>(rate * 4294967296.0), std::memory_order_release);
    valid_until_.store(tsc + static_cast<std::uint64_t>(static_cast<double>(valid_ns) / rate), std::memory_order_release);
    sequence_.store(sequence_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

  // Keeps the TSC only if it is the cheaper reading here.
  void measure() noexcept {
    const auto per_call = [](auto&& reading) {
      constexpr int rounds = 2000;
      std::uint64_t best = UINT64_MAX;
      for (int repeat = 0; repeat < 3; ++repeat) {
        const auto start = read(CLOCK_MONOTONIC);
        for (int i = 0; i < rounds; ++i) {
          const std::uint64_t value = reading();
          asm volatile("" : : "r"(value));
        }
        best = std::min(best, read(CLOCK_MONOTONIC) - start);
      }
      return static_cast<double>(best) / rounds;
    };
    const double system = per_call([] { return read(CLOCK_REALTIME); });
    const double tsc = per_call([this] { return now(); });
    usable_ = tsc < system;
    cost_ = std::min(tsc, system);
  }

  static constexpr std::uint64_t longest_interval_ns = 1'000'000'000;
  static constexpr std::int64_t step_ns = 1'000'000;
  alignas(64) std::atomic<std::uint64_t> sequence_{0};
  std::atomic<std::uint64_t> base_tsc_{0}, base_ns_{0}, rate_fixed_{0}, valid_until_{0};
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  double rate_ = 0;  // ns a tick; written under busy_
  std::uint64_t interval_ns_ = 5'000'000;
  Pair last_{};
  bool usable_ = false;
  double cost_ = 0;
};

#else

class Discipline {
 public:
  bool usable() const noexcept { return false; }
  double cost() const noexcept { return 0; }
  std::uint64_t now() noexcept { return read(CLOCK_REALTIME); }
};

#endif

Discipline& discipline() noexcept {
  static Discipline instance;
  return instance;
}

}  // namespace

std::uint64_t Clock::now() noexcept {
  auto& d = discipline();
  return d.usable() ? d.now() : read(CLOCK_REALTIME);
}

std::string_view Clock::source() noexcept { return discipline().usable() ? "tsc" : "clock_gettime"; }
double Clock::cost_ns() noexcept { return discipline().cost(); }
std::uint64_t Clock::monotonic() noexcept { return read(CLOCK_MONOTONIC); }

struct ClockThread::State {
  alignas(64) std::atomic<std::uint64_t> value{Clock::now()};
  std::jthread thread;
};

ClockThread::ClockThread(std::chrono::nanoseconds period, int cpu)
    : state_(std::make_unique<State>()), value_(&state_->value) {
  state_->thread = std::jthread([state = state_.get(), period, cpu](const std::stop_token& stop) {
    if (cpu >= 0) {
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(static_cast<std::size_t>(cpu), &set);
      ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set);
    }
    while (!stop.stop_requested()) {
      state->value.store(Clock::now(), std::memory_order_relaxed);
      std::this_thread::sleep_for(period);
    }
  });
}

ClockThread::~ClockThread() = default;
ClockThread::ClockThread(ClockThread&&) noexcept = default;
ClockThread& ClockThread::operator=(ClockThread&&) noexcept = default;

}  // namespace efio
