#include "efnet/tables/token_buckets.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <thread>

using efnet::HashSeed;
using efnet::Time;
using efnet::TokenBucketOptions;
using efnet::TokenBuckets;
using namespace std::chrono_literals;

namespace {

TokenBuckets make(double rate, double burst, std::size_t capacity = 1024) {
  auto made = TokenBuckets::create({.rate = rate, .burst = burst, .capacity = capacity, .seed = HashSeed::from(1)});
  EXPECT_TRUE(made) << made.error().message();
  return std::move(*made);
}

int passed(TokenBuckets& buckets, std::uint64_t key, int tries, Time now) {
  int count = 0;
  for (int i = 0; i < tries; ++i) count += buckets.take(key, 1, now);
  return count;
}

TEST(TokenBuckets, ABurstThenTheRate) {
  auto buckets = make(1000, 20);
  EXPECT_EQ(passed(buckets, 7, 100, 1s), 20);
  EXPECT_EQ(passed(buckets, 7, 100, 1s), 0);
  EXPECT_EQ(passed(buckets, 7, 100, 1s + 5ms), 5);
  EXPECT_EQ(passed(buckets, 7, 100, 10s), 20);  // no more than it holds
  EXPECT_EQ(passed(buckets, 8, 100, 10s), 20);  // another's is another
}

// Against counting tokens as one would by hand, at rates of which a token takes less than a ns and more than a minute.
TEST(TokenBuckets, EqualsCountingTokens) {
  for (const double rate : {0.01, 3.0, 1000.0, 14'880'952.0, 1e10}) {
    const double burst = 50;
    auto buckets = make(rate, burst);
    std::mt19937 random(5);
    double tokens = burst;
    std::uint64_t taken = 0;
    const Time start = 1000s;
    Time now = start;
    for (int i = 0; i < 20'000; ++i) {
      const auto step = Time(static_cast<Time::rep>(static_cast<double>(random() % 2000) / 1000 * 1e9 / rate));
      now += step;
      tokens = std::min(burst, tokens + static_cast<double>(step.count()) / 1e9 * rate);
      const double cost = 1 + random() % 2;
      const bool enough = tokens >= cost;
      // At the edge the two may round apart; the sum below may not.
      if (buckets.take(3, cost, now)) {
        ASSERT_GE(tokens, cost - 0.05 * burst) << rate;
        tokens -= cost;
        taken += static_cast<std::uint64_t>(cost);
      } else {
        ASSERT_TRUE(!enough || tokens - cost < 0.05 * burst) << rate;
      }
    }
    const double allowed = burst + static_cast<double>((now - start).count()) / 1e9 * rate;
    EXPECT_LE(static_cast<double>(taken), allowed * 1.001) << rate;
  }
}

TEST(TokenBuckets, TheRateIsKeptOverALongTime) {
  auto buckets = make(14'880'952, 64);
  std::uint64_t count = 0;
  for (Time now = 1s; now < 1s + 100ms; now += 50ns) count += buckets.take(1, 1, now);
  EXPECT_NEAR(static_cast<double>(count), 1'488'095 + 64, 1'488'095 * 0.0005);
}

// An attacker who sends from ever new keys gets no more than the table as a whole has, and does not set others free.
TEST(TokenBuckets, AFloodOfKeysSharesWhatThereIs) {
  auto buckets = make(10, 5, 64);
  std::mt19937_64 random(9);
  std::uint64_t count = 0;
  for (Time now = 1s; now < 11s; now += 100us) count += buckets.take(random(), 1, now);
  EXPECT_LE(count, 64 * (5 + 10 * 10) + 64U);
  EXPECT_GT(count, 64 * 10 * 9U);
}

TEST(TokenBuckets, KeysWithinTheCapacityKeepTheirOwn) {
  auto buckets = make(1, 3, 4096);
  std::mt19937_64 random(11);
  std::map<std::uint64_t, int> count;
  std::vector<std::uint64_t> keys(256);
  for (auto& key : keys) key = random();
  for (int round = 0; round < 10; ++round)
    for (const auto key : keys) count[key] += buckets.take(key, 1, 1s);
  for (const auto& [key, n] : count) EXPECT_EQ(n, 3);
}

TEST(TokenBuckets, RefusesWhatItCannotKeep) {
  EXPECT_FALSE(TokenBuckets::create({.rate = 0}));
  EXPECT_FALSE(TokenBuckets::create({.rate = 2e12}));
  EXPECT_FALSE(TokenBuckets::create({.burst = -1}));
  EXPECT_FALSE(TokenBuckets::create({.capacity = std::size_t{1} << 29}));
  EXPECT_FALSE(TokenBuckets::create({.rate = 0.0001, .burst = 1e12}));
  EXPECT_EQ(make(1, 1, 1).capacity(), 4U);
  EXPECT_EQ(make(1, 1, 1000).bytes(), 16'384U);
}

TEST(TokenBucket, ABurstThenTheRate) {
  auto bucket = efnet::TokenBucket::create(1000, 20);
  ASSERT_TRUE(bucket);
  const auto taken = [&](Time now, double cost = 1) {
    int count = 0;
    while (bucket->take(cost, now)) ++count;
    return count;
  };
  EXPECT_EQ(taken(1s), 20);
  EXPECT_EQ(taken(1s + 5ms), 5);
  EXPECT_EQ(taken(1s + 4ms), 0);  // a thread whose clock reading is older
  EXPECT_EQ(taken(10s, 5), 4);
  EXPECT_FALSE(efnet::TokenBucket::create(0, 1));
  EXPECT_FALSE(efnet::TokenBucket::create(1, 1e13));
}

TEST(TokenBucket, ThreadsTogetherGetItsTokensAndNoMore) {
  auto bucket = efnet::TokenBucket::create(1, 100'000);
  ASSERT_TRUE(bucket);
  std::atomic<int> sum{0};
  const auto take_all = [&] {
    int count = 0;
    while (bucket->take(1, 1s)) ++count;
    sum += count;
  };
  {
    std::jthread one(take_all), two(take_all);
  }
  EXPECT_EQ(sum.load(), 100'000);
}

}  // namespace
