// Delays and jitter against what the formulas give, and through a network whose delay, loss and order are known.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tools/io_gen/delays.h"
#include "tools/io_gen/options.h"
#include "tools/io_gen/run.h"

namespace {

using efio::Slot;
using efio::TimeSource;
using efio::io_gen::Delays;
using efio::io_gen::Histogram;
using efio::io_gen::Options;
using Measurement = efio::io_gen::Run;  // testing::Test has a Run of its own

TEST(Histogram, QuantilesAreWithinAPercentOfTheSortedValues) {
  std::mt19937_64 random(3);
  std::vector<std::uint64_t> values;
  Histogram histogram;
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t value = random() >> (random() % 64);
    values.push_back(value);
    histogram.add(value);
  }
  std::ranges::sort(values);
  EXPECT_EQ(histogram.least(), values.front());
  EXPECT_EQ(histogram.most(), values.back());
  for (const double share : {0.0, 0.01, 0.5, 0.9, 0.999, 0.9999, 1.0}) {
    const auto rank = std::max<std::size_t>(1, static_cast<std::size_t>(std::ceil(share * 100'000)));
    const auto exact = static_cast<double>(values[rank - 1]);
    const auto told = static_cast<double>(histogram.quantile(share));
    EXPECT_GE(told, exact) << share;
    EXPECT_LE(told, exact * 1.01) << share;
  }
  std::uint64_t count = 0, before = 0;
  histogram.each([&](std::uint64_t first, std::uint64_t last, std::uint64_t n) {
    EXPECT_LE(first, last);
    EXPECT_TRUE(count == 0 || first > before);
    EXPECT_EQ(static_cast<std::ptrdiff_t>(n),
              std::ranges::upper_bound(values, last) - std::ranges::lower_bound(values, first));
    before = last;
    count += n;
  });
  EXPECT_EQ(count, 100'000U);
}

Slot stamped(std::uint64_t time, TimeSource source) {
  Slot slot{};
  slot.stamp(time, source);
  return slot;
}

TEST(Delays, TakeTheKernelsTimeBeforeTheLook) {
  Delays delays;
  delays.see(stamped(1'500, TimeSource::kernel), 1'000, 0, 9'000);
  delays.see(stamped(1'700, TimeSource::hardware), 1'000, 0, 9'000);
  EXPECT_EQ(delays.stamped(), 2U);
  EXPECT_EQ(delays.delays().most(), 700U);
  delays.see(stamped(1'500, TimeSource::clock), 1'000, 0, 9'000);
  delays.see(stamped(1'500, TimeSource::raw), 1'000, 0, 9'000);
  EXPECT_EQ(delays.stamped(), 2U);
  EXPECT_EQ(delays.delays().most(), 8'000U);
  EXPECT_EQ(delays.least(), 500);
}

TEST(Delays, ThatAreNegativeAreTold) {
  Delays delays;
  delays.see(stamped(0, TimeSource::clock), 1'000, 0, 900);
  delays.see(stamped(0, TimeSource::clock), 1'000, 0, 1'100);
  EXPECT_EQ(delays.negative(), 1U);
  EXPECT_EQ(delays.least(), -100);
  EXPECT_EQ(delays.delays().count(), 1U);
}

TEST(Delays, JitterIsRfc3550sOfEachStream) {
  Delays delays;
  std::mt19937_64 random(5);
  double expected = 0, last = 0;
  for (int i = 0; i < 2'000; ++i) {
    const std::uint64_t delay = 1'000'000 + random() % 100'000;
    delays.see(stamped(0, TimeSource::clock), 5'000, 9, 5'000 + delay);
    delays.see(stamped(0, TimeSource::clock), 5'000, 10, 5'000 + 700);  // an even stream beside it
    if (i > 0) expected += (std::abs(static_cast<double>(delay) - last) - expected) / 16;
    last = static_cast<double>(delay);
  }
  EXPECT_NEAR(delays.jitter().most, expected, 2);
  EXPECT_NEAR(delays.jitter().mean, expected / 2, 2);
}

Options options_of(std::vector<const char*> words) {
  words.insert(words.begin(), "io_gen");
  auto options = efio::io_gen::parse_options(static_cast<int>(words.size()), words.data());
  EXPECT_TRUE(options.has_value()) << options.error().message();
  return **options;
}

TEST(Measured, ADelayOfAMillisecondIsFoundByEveryFrame) {
  const auto options = options_of({"both", "pipe:delay", "sim:delay=1ms@pipe:delay", "--rate", "20k", "--count", "4000",
                                   "--flows", "10", "--size", "100"});
  Measurement run(options);
  const auto ready = run.prepare();
  ASSERT_TRUE(ready) << ready.error().message();
  run.perform();
  const auto& delays = *run.outcome().checker->delays();
  EXPECT_EQ(delays.delays().count(), 4'000U);
  EXPECT_EQ(delays.negative(), 0U);
  // sim: waits by the monotonic clock, the tags have the Unix epoch's, which adjtimex() may slew against it by 500 ppm.
  EXPECT_GE(delays.least(), 1'000'000 - 500);
  EXPECT_LT(delays.least(), 1'050'000);
}

TEST(Measured, LossOneInAThousandDuplicatesAndReorderingAreFoundExactly) {
  const auto options =
      options_of({"both", "pipe:faults", "sim:loss=1/1000&duplicate=1/333&reorder=1/250@pipe:faults", "--count", "1M"});
  Measurement run(options);
  const auto ready = run.prepare();
  ASSERT_TRUE(ready) << ready.error().message();
  run.perform();
  const auto& found = run.outcome().sequence;
  const auto network = run.outcome().rx_port->stats().rx;
  EXPECT_EQ(found.lost, 1'000U);
  EXPECT_EQ(network.total_dropped(), 1'000U);
  EXPECT_EQ(found.duplicated, network.made);
  EXPECT_NEAR(static_cast<double>(found.duplicated), 3'000, 10);
  // Every 250th but every 1,000th, which is lost; and of the nine others that are doubled too, the copy goes first.
  EXPECT_EQ(found.reordered, 2'991U);
}

// Of a rate that the port cannot take it is never said that it was reached.
TEST(Measured, ARateThatWasNotReachedIsNotCalledReached) {
  const auto slow = options_of({"both", "pipe:slow", "pipe:slow", "--rate", "10G", "--count", "1M"});
  Measurement run(slow);
  const auto ready = run.prepare();
  ASSERT_TRUE(ready) << ready.error().message();
  run.perform();
  EXPECT_FALSE(efio::io_gen::rate_reached(run.outcome()));
  EXPECT_GT(run.outcome().behind, 0.2);
  EXPECT_LT(run.outcome().behind, 1);
}

}  // namespace
