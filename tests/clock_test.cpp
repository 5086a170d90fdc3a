#include "efio/clock.h"

#include <gtest/gtest.h>

#include <ctime>
#include <thread>
#include <vector>

namespace {

std::uint64_t real() {
  timespec t{};
  ::clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
}

// The smallest distance to CLOCK_REALTIME in a few tries: what is left when no interrupt lay between the readings.
std::int64_t distance() {
  std::int64_t best = INT64_MAX;
  for (int i = 0; i < 200; ++i) {
    const auto before = real();
    const auto ours = efio::Clock::now();
    const auto after = real();
    const auto off = static_cast<std::int64_t>(ours - (before + (after - before) / 2));
    if (std::abs(off) < std::abs(best)) best = off;
  }
  return best;
}

TEST(Clock, FollowsRealTimeWithinAMicrosecond) {
  for (int i = 0; i < 25; ++i) {
    EXPECT_LT(std::abs(distance()), 1000) << "after " << i * 100 << " ms";
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

TEST(Clock, NeverGoesBackwardsInOneThread) {
  auto last = efio::Clock::now();
  const auto until = efio::Clock::monotonic() + 300'000'000;
  while (efio::Clock::monotonic() < until) {
    const auto now = efio::Clock::now();
    ASSERT_GE(now + 50, last);  // a new line through the points may start a few ns lower
    last = now;
  }
}

TEST(Clock, ChoosesTheCheaperSourceAndSaysWhich) {
  EXPECT_TRUE(efio::Clock::source() == "tsc" || efio::Clock::source() == "clock_gettime");
  EXPECT_GT(efio::Clock::cost_ns(), 0);
}

TEST(Clock, IsReadFromManyThreads) {
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([] {
      for (int i = 0; i < 200'000; ++i) ASSERT_LT(std::abs(static_cast<std::int64_t>(efio::Clock::now() - real())), 500'000'000);
    });
}

TEST(ClockThread, KeepsARecentTime) {
  const efio::ClockThread thread(std::chrono::microseconds(100));
  std::int64_t best = INT64_MAX;
  for (int i = 0; i < 50; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    best = std::min(best, static_cast<std::int64_t>(efio::Clock::now() - thread.now()));
  }
  EXPECT_LT(best, 1'000'000);
}

}  // namespace
