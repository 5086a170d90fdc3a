// Throughput, loss and bursts of a device whose rate and queue are known: sim:.
#include <gtest/gtest.h>

#include "tests/support/privilege.h"
#include "tools/io_gen/options.h"
#include "tools/io_gen/rfc2544.h"

namespace {

using efio::io_gen::measure_size;
using efio::io_gen::Options;
using efio::io_gen::Rfc2544;

Options options_of(const char* device, std::vector<const char*> words) {
  words.insert(words.begin(), {"io_gen", "rfc2544", "pipe:device", device, "--pause", "1ms", "--residual", "50ms"});
  auto options = efio::io_gen::parse_options(static_cast<int>(words.size()), words.data());
  EXPECT_TRUE(options.has_value()) << options.error().message();
  return **options;
}

// A queue takes what comes above the rate for a while: that bounds what a trial can tell, 2,000 frames of 20 k a second
// over the trial. It also takes what a sender that lost its processor catches up.
TEST(Rfc2544, FindsTheRateOfADevice) {
  const bool exact = efio::test::is_long_run();
  const auto options = options_of("sim:rate=20k&limit=2000@pipe:device",
                                  {"--max-rate", "100k", "--trial", exact ? "20s" : "500ms", "--resolution", "0.1%"});
  const auto found = measure_size(options, 64);
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(found->most, 100'000);
  EXPECT_FALSE(found->sender_bound);
  EXPECT_GE(found->throughput, 19'900);
  EXPECT_LE(found->throughput, exact ? 20'200 : 24'100);
  EXPECT_LE(found->trials - found->repeated, 12U);
}

TEST(Rfc2544, TellsLossRateByRateUntilTwoLoseNothing) {
  const auto options =
      options_of("sim:rate=20k&limit=1000@pipe:device", {"--max-rate", "50k", "--trial", "200ms", "--tests", "loss"});
  const auto found = measure_size(options, 128);
  ASSERT_TRUE(found) << found.error().message();
  ASSERT_GE(found->losses.size(), 3U);
  // 10,000 went in; 4,000 come out in the time, and 1,000 wait.
  EXPECT_NEAR(found->losses[0].loss(), 0.5, 0.1);
  EXPECT_EQ(found->losses.back().lost, 0U);
  EXPECT_EQ(found->losses[found->losses.size() - 2].lost, 0U);
  EXPECT_GT(found->losses[found->losses.size() - 3].lost, 0U);
}

TEST(Rfc2544, FindsTheLongestBurst) {
  const auto options = options_of("sim:rate=10k&limit=300@pipe:device",
                                  {"--max-rate", "1M", "--trial", "50ms", "--tests", "back-to-back", "--bursts", "1"});
  const auto found = measure_size(options, 64);
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_GE(found->back_to_back, 300);
  EXPECT_LE(found->back_to_back, 400);  // it sends on while the burst comes in
}

TEST(Rfc2544, ASenderThatLosesNothingIsItsOwnLimit) {
  const auto options = options_of("pipe:device", {"--trial", "50ms", "--tests", "latency", "--latency-trials", "2"});
  const auto found = measure_size(options, 64);
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_TRUE(found->sender_bound);
  EXPECT_GT(found->throughput, 100'000);
  EXPECT_EQ(found->mean_delays.size(), 2U);
}

TEST(Rfc2544, SaysWhereItIsNotToTheStandard) {
  Rfc2544 test;
  EXPECT_TRUE(test.deviations().empty());
  EXPECT_TRUE(test.parse_tests("all"));
  EXPECT_TRUE(test.deviations().empty());
  test.trial = std::chrono::seconds(1);
  test.bursts = 3;
  test.sizes = {64};
  EXPECT_EQ(test.deviations().size(), 3U);
  EXPECT_FALSE(test.parse_tests("throughput,speed"));
}

}  // namespace
