// Rates: what their words mean, and that the schedule made of them is kept to the frame, however late its caller is and
// however long it runs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/support/privilege.h"
#include "tools/io_gen/gaps.h"
#include "tools/io_gen/pacer.h"

namespace {

using efio::io_gen::Gaps;
using efio::io_gen::Pacer;
using efio::io_gen::Rate;

constexpr std::uint64_t second = 1'000'000'000;

Rate rate(const char* text) { return *Rate::parse(text); }

// How many frames of 60 bytes go until `now`.
std::uint64_t gone_by(Pacer& pacer, std::uint64_t now) {
  std::uint64_t gone = 0;
  pacer.wait(now);
  while (pacer.take(60)) ++gone;
  return gone;
}

// When frames are due, by a caller who comes exactly then.
std::vector<std::uint64_t> due_times(Pacer& pacer, std::size_t frames) {
  std::vector<std::uint64_t> times;
  std::uint64_t now = second;
  while (times.size() < frames) {
    now += pacer.wait(now);
    while (times.size() < frames && pacer.take(60)) times.push_back(now - second);
  }
  return times;
}

TEST(Rate, IsFramesOrBitsOfALayer) {
  EXPECT_EQ(rate("1M").steps.at(0).from, 1'000'000U);
  EXPECT_TRUE(rate("1M").constant());
  EXPECT_EQ(rate("1M").cost(1514), 1U);
  EXPECT_EQ(rate("2Gbit").cost(60), 64U * 8);
  EXPECT_EQ(rate("2GbitL1").cost(60), 84U * 8);
  EXPECT_EQ(rate("2GbitL1").steps.at(0).to, 2'000'000'000U);
  EXPECT_DOUBLE_EQ(rate("1M").gap(60), 1'000);
  EXPECT_DOUBLE_EQ(rate("10GbitL1").gap(60), 67.2);
  EXPECT_FALSE(rate("line").limited());
  for (const char* wrong : {"", "0", "fast", "1e99", "bit", "L1", "-1", "1M2", "1M,", ",1M", "1M,2M", "1M-2M", "1M@0s",
                            "1M@x", "1M@1s,1Gbit", "1M-1Gbit@1s", "1M-@1s", "1M@400d", "1M@9000h"})
    EXPECT_FALSE(Rate::parse(wrong)) << wrong;
}

TEST(Pacer, KeepsTheMeanWhateverTheCallerDoes) {
  Pacer pacer(rate("3M"));
  std::uint64_t now = 1'000, gone = 0;
  for (const std::uint64_t pause : {0, 1, 100, 333, 334, 50'000, 7, 1'000'000, 3}) {
    now += pause;
    gone += gone_by(pacer, now);
    EXPECT_EQ(gone, (now - 1'000) * 3 / 1'000 + 1);
    EXPECT_GT(pacer.wait(now), 0U);
    EXPECT_LE(pacer.wait(now), 334U);
  }
  EXPECT_EQ(pacer.wait(now + pacer.wait(now)), 0U);
}

// No error adds up: after hours and any number of frames the schedule stands where the rate says.
TEST(Pacer, DoesNotDrift) {
  const std::uint64_t frames = efio::test::is_long_run() ? (std::uint64_t{1} << 32) + 1'000 : 20'000'000;
  constexpr std::uint64_t per_second = 7'000'003;
  Pacer pacer(rate("7000003"));
  std::uint64_t now = 0, gone = gone_by(pacer, now), looks = 0;
  while (gone < frames) {
    now += 1 + (looks++ * 7919) % 3'000'000;
    gone += gone_by(pacer, now);
    __extension__ using Wide = unsigned __int128;
    ASSERT_EQ(gone, static_cast<std::uint64_t>(Wide{now} * per_second / second) + 1) << now;
  }
}

TEST(Pacer, TakesStepsAndRamps) {
  Pacer pacer(rate("1k@2s,1k-5k@10s,5k"));
  EXPECT_EQ(gone_by(pacer, 0), 1U);
  EXPECT_EQ(gone_by(pacer, 2 * second), 2'000U);
  // Half of the ramp: from 1 k to 3 k in 5 s; all of it: to 5 k in 10 s.
  EXPECT_EQ(gone_by(pacer, 7 * second), 10'000U);
  EXPECT_EQ(gone_by(pacer, 12 * second), 20'000U);
  EXPECT_EQ(gone_by(pacer, 13 * second), 5'000U);

  Pacer down(rate("5k-1k@10s"));
  EXPECT_EQ(gone_by(down, 0), 1U);
  EXPECT_EQ(gone_by(down, 10 * second), 30'000U);
  EXPECT_EQ(gone_by(down, 11 * second), 1'000U);
}

TEST(Pacer, SaysWhenTheNextFrameOfARampIsDue) {
  Pacer pacer(rate("1k-9k@1s"));
  const auto times = due_times(pacer, 5'000);
  for (std::size_t i = 1; i < times.size(); ++i) {
    const double t = static_cast<double>(times[i]) / 1e9;
    ASSERT_NEAR(1'000 * t + 4'000 * t * t, static_cast<double>(i), 1e-3) << i;
  }
}

TEST(Pacer, LetsBurstsGoTogether) {
  Rate bursts;
  ASSERT_TRUE(bursts.parse_burst("32@1ms"));
  Pacer pacer(bursts);
  const auto times = due_times(pacer, 3'200);
  for (std::size_t i = 0; i < times.size(); ++i) ASSERT_EQ(times[i], i / 32 * 1'000'000) << i;

  Rate mean = rate("1M");
  ASSERT_TRUE(mean.parse_burst("50"));
  Pacer same(mean);
  EXPECT_EQ(due_times(same, 501).back(), 500'000U);
}

// Kolmogorov and Smirnov's distance of the gaps from an exponential distribution, against its 1 % point.
double distance_from_exponential(const std::vector<std::uint64_t>& times, double mean) {
  std::vector<double> gaps;
  for (std::size_t i = 1; i < times.size(); ++i) gaps.push_back(static_cast<double>(times[i] - times[i - 1]));
  std::ranges::sort(gaps);
  double distance = 0;
  for (std::size_t i = 0; i < gaps.size(); ++i) {
    const double expected = 1 - std::exp(-gaps[i] / mean);
    const auto n = static_cast<double>(gaps.size());
    distance = std::max({distance, expected - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - expected});
  }
  return distance;
}

TEST(Pacer, DrawsPoissonGaps) {
  Rate poisson = rate("10k");
  poisson.poisson = true;
  poisson.seed = 7;
  Pacer pacer(poisson);
  const auto times = due_times(pacer, 100'001);
  EXPECT_LT(distance_from_exponential(times, 100'000), 1.63 / std::sqrt(100'000.0));
  EXPECT_NEAR(static_cast<double>(times.back()), 1e10, 4 * 1e10 / std::sqrt(100'000.0));
  // The judge is one that says no.
  Pacer even(rate("10k"));
  EXPECT_GT(distance_from_exponential(due_times(even, 1'001), 100'000), 0.5);
}

TEST(Pacer, TellsHowFarItIsBehind) {
  Pacer pacer(rate("1M"));
  EXPECT_EQ(pacer.behind(second, 0), 0);
  gone_by(pacer, 0);
  gone_by(pacer, second);
  EXPECT_EQ(pacer.behind(second, 0), 0);
  EXPECT_NEAR(pacer.behind(second, 250'001), 0.25, 1e-6);
  EXPECT_NEAR(pacer.behind(4 * second, 0), 0.75, 1e-5);
}

TEST(Gaps, AreCountedFrameByFrame) {
  Gaps gaps(1'000);
  gaps.sent(5'000, 1);
  gaps.sent(6'000, 1);
  gaps.sent(7'100, 3);
  gaps.sent(8'201, 1);
  EXPECT_EQ(gaps.all().count(), 5U);
  EXPECT_EQ(gaps.all().least(), 0U);
  EXPECT_EQ(gaps.all().most(), 1'101U);
  EXPECT_DOUBLE_EQ(gaps.all().mean(), 3'201 / 5.0);
  EXPECT_DOUBLE_EQ(gaps.near(), 2 / 5.0);
}

}  // namespace
