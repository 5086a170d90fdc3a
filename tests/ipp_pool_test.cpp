#include "efnet/tables/ipp_pool.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

using namespace efnet;
using namespace std::chrono_literals;

namespace {

const Ipv4Address outside{198, 51, 100, 1};

IppPool make(IppOptions options) {
  options.seed = HashSeed::from(6);
  auto made = IppPool::create(std::move(options));
  EXPECT_TRUE(made) << made.error().message();
  return std::move(*made);
}
IppRange range(std::uint32_t addresses, std::uint16_t first, std::uint16_t last) {
  return {{outside, outside.advanced(addresses - 1)}, {first, last}};
}
using Lent = std::tuple<Ipv4Address, std::uint16_t, IpProtocol>;
Lent lent(const IppBinding& binding) { return {binding.address, binding.port, binding.protocol}; }

TEST(IppPool, LendsEveryPortOnceAndThenIsExhausted) {
  for (const bool sequential : {false, true}) {
    IppPool pool = make({.ranges = {range(3, 1000, 1999), range(1, 5000, 5001)}, .sequential = sequential});
    std::set<Lent> all;
    for (const IpProtocol protocol : {IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmp}) {
      for (int i = 0; i < 3002; ++i) {
        const auto got = pool.acquire({.subscriber = static_cast<std::uint64_t>(i % 7), .protocol = protocol}, 1s);
        ASSERT_TRUE(got) << i;
        ASSERT_TRUE(pool.contains(got.binding.address));
        ASSERT_TRUE((got.binding.port >= 1000 && got.binding.port < 2000) ||
                    (got.binding.address == outside && (got.binding.port == 5000 || got.binding.port == 5001)));
        ASSERT_TRUE(all.insert(lent(got.binding)).second) << "twice";
      }
      EXPECT_EQ(pool.acquire({.protocol = protocol}, 1s).status, IppStatus::exhausted);
      EXPECT_EQ(pool.lent(protocol), 3002u);
      EXPECT_EQ(pool.free(protocol, 1s), 0u);
    }
    EXPECT_EQ(pool.acquire({.protocol = IpProtocol::sctp}, 1s).status, IppStatus::unknown);
  }
}

// N16
TEST(IppPool, HoldsPortsDown) {
  IppPool pool = make({.ranges = {range(1, 1000, 1000)}, .hold_down = 120s});
  Time now = 1000s;
  for (int round = 0; round < 30; ++round) {
    const auto got = pool.acquire({}, now);
    ASSERT_TRUE(got) << round;
    EXPECT_TRUE(pool.release(got.binding, now).released);
    EXPECT_FALSE(pool.release(got.binding, now).released) << "twice";
    for (Time waited = 0s; waited < 120s; waited += 1s) ASSERT_FALSE(pool.acquire({}, now + waited)) << waited.count();
    now += 151s + Time(std::chrono::seconds(round));
  }
}

TEST(IppPool, WithoutHoldDownAPortIsFreeAtOnce) {
  IppPool pool = make({.ranges = {range(1, 1000, 1000)}, .hold_down = 0s});
  for (int i = 0; i < 10; ++i) {
    const auto got = pool.acquire({}, 1s);
    ASSERT_TRUE(got);
    EXPECT_FALSE(pool.acquire({}, 1s));
    EXPECT_TRUE(pool.release(got.binding, 1s).released);
  }
}

// N2
TEST(IppPool, WhatNobodyUsedNeedNotRest) {
  for (const std::uint32_t block_size : {0U, 64U}) {
    IppPool pool = make({.ranges = {range(1, 1024, 1024)}, .hold_down = 120s, .block_size = block_size});
    for (int round = 0; round < 5; ++round) {
      const auto got = pool.acquire({}, 1000s);
      ASSERT_TRUE(got) << round;
      const auto undone = pool.undo(got.binding);
      EXPECT_TRUE(undone.released);
      EXPECT_EQ(undone.closed_block, block_size != 0);
      EXPECT_FALSE(pool.undo(got.binding).released) << "twice";
    }
    EXPECT_EQ(pool.lent(IpProtocol::udp), 0u);
  }
}

TEST(IppPool, PairsASubscriberWithOneAddressWhileThatLasts) {
  IppPool pool = make({.ranges = {range(16, 1000, 1099)}});
  std::set<Ipv4Address> used;
  for (std::uint64_t subscriber = 0; subscriber < 40; ++subscriber) {
    std::set<Ipv4Address> own;
    for (int i = 0; i < 10; ++i)
      own.insert(pool.acquire({.subscriber = subscriber, .protocol = i % 2 ? IpProtocol::tcp : IpProtocol::udp}, 1s)
                     .binding.address);
    EXPECT_EQ(own.size(), 1u);
    used.insert(*own.begin());
  }
  EXPECT_GT(used.size(), 8u) << "spread";
  int more = 0;
  while (pool.acquire({.subscriber = 1}, 1s)) ++more;
  EXPECT_EQ(more, 16 * 100 - 40 * 5) << "other addresses serve where its own is exhausted";
}

// N19
TEST(IppPool, KeepsPortsAndParityWherePossible) {
  for (const bool sequential : {false, true}) {
    IppPool pool = make({.ranges = {range(1, 1000, 1999)}, .sequential = sequential});
    EXPECT_EQ(pool.acquire({.port = 1234}, 1s).binding.port, 1234);
    EXPECT_EQ(pool.acquire({.port = 1234, .parity = PortParity::even}, 1s).binding.port % 2, 0);
    EXPECT_NE(pool.acquire({.port = 80}, 1s).binding.port, 80) << "not the pool's";
    int even = 0;
    for (int i = 0; i < 490; ++i) {
      const auto got = pool.acquire({.parity = PortParity::even}, 1s);
      ASSERT_TRUE(got);
      even += got.binding.port % 2 == 0;
    }
    EXPECT_GE(even, 487);
    for (int i = 0; i < 400; ++i) ASSERT_EQ(pool.acquire({.parity = PortParity::odd}, 1s).binding.port % 2, 1);
    while (pool.lent(IpProtocol::udp) < 1000) ASSERT_TRUE(pool.acquire({.parity = PortParity::even}, 1s));
  }
}

TEST(IppPool, SequentialIsInOrder) {
  IppPool pool = make({.ranges = {range(1, 1001, 1010)}, .sequential = true, .hold_down = 0s});
  for (std::uint16_t port = 1001; port <= 1010; ++port) EXPECT_EQ(pool.acquire({}, 1s).binding.port, port);
  EXPECT_FALSE(pool.acquire({}, 1s));
  pool.release({outside, 1003, IpProtocol::udp}, 1s);
  pool.release({outside, 1008, IpProtocol::udp}, 1s);
  EXPECT_EQ(pool.acquire({}, 1s).binding.port, 1003);
  EXPECT_EQ(pool.acquire({}, 1s).binding.port, 1008);
}

// N17. Each of 10,000 ports is equally likely to be the first; and the order has no memory of the one before.
TEST(IppPool, RandomPortsAreHardToGuess) {
  std::array<int, 10> tenths{};
  int near = 0;
  std::uint16_t last = 0;
  IppPool pool = make({.ranges = {range(1, 40'000, 49'999)}, .hold_down = 0s});
  constexpr int rounds = 20'000;
  for (int i = 0; i < rounds; ++i) {
    const auto got = pool.acquire({}, 1s);
    ++tenths[(got.binding.port - 40'000u) / 1000];
    near += std::abs(got.binding.port - last) < 50;
    last = got.binding.port;
    pool.release(got.binding, 1s);
  }
  for (const int count : tenths) EXPECT_NEAR(count, rounds / 10, 5 * 45) << "five sigma";
  EXPECT_LT(near, rounds / 50) << "one in a hundred is expected";
}

TEST(IppPool, SeedsDiffer) {
  const IppOptions options{.ranges = {range(1, 1024, 65'535)}};
  auto a = *IppPool::create(options);
  auto b = *IppPool::create(options);
  int same = 0;
  for (int i = 0; i < 100; ++i) same += a.acquire({}, 1s).binding.port == b.acquire({}, 1s).binding.port;
  EXPECT_LT(same, 5);
}

// N15, N18
TEST(IppPool, LendsBlocksAndSaysWhenTheyOpenAndClose) {
  IppPool pool = make({.ranges = {range(2, 1024, 65'535)}, .hold_down = 0s, .block_size = 64, .blocks_each = 2});
  std::map<std::uint64_t, std::vector<IppBinding>> held;
  for (std::uint64_t subscriber = 0; subscriber < 50; ++subscriber) {
    int opened = 0;
    for (int i = 0; i < 128; ++i) {
      const auto got = pool.acquire({.subscriber = subscriber}, 1s);
      ASSERT_TRUE(got);
      opened += got.opened_block;
      held[subscriber].push_back(got.binding);
    }
    EXPECT_EQ(opened, 2);
    EXPECT_EQ(pool.acquire({.subscriber = subscriber}, 1s).status, IppStatus::limited);
    const auto blocks = pool.blocks_of(subscriber);
    ASSERT_EQ(blocks.size(), 2u);
    EXPECT_EQ(blocks[0].address, blocks[1].address) << "paired";
    for (const auto& binding : held[subscriber])
      EXPECT_TRUE(blocks[0].ports.contains(binding.port) || blocks[1].ports.contains(binding.port));
    EXPECT_TRUE(pool.acquire({.subscriber = subscriber, .protocol = IpProtocol::tcp}, 1s))
        << "a block is of all protocols";
  }
  int closed = 0;
  for (const auto& binding : held[7]) closed += pool.release(binding, 1s).closed_block;
  EXPECT_EQ(closed, 1) << "the other has the TCP port";
  EXPECT_EQ(pool.blocks_of(7).size(), 1u);
}

TEST(IppPool, BlocksAreExhaustedExactly) {
  IppPool pool = make({.ranges = {range(1, 1024, 2047)}, .hold_down = 0s, .block_size = 64, .blocks_each = 1});
  std::vector<IppBinding> first;
  for (std::uint64_t subscriber = 0; subscriber < 16; ++subscriber) {
    const auto got = pool.acquire({.subscriber = subscriber}, 1s);
    ASSERT_TRUE(got) << subscriber;
    first.push_back(got.binding);
  }
  EXPECT_EQ(pool.acquire({.subscriber = 99}, 1s).status, IppStatus::exhausted);
  EXPECT_TRUE(pool.release(first[3], 1s).closed_block);
  EXPECT_TRUE(pool.acquire({.subscriber = 99}, 1s));
  EXPECT_EQ(pool.acquire({.subscriber = 3}, 1s).status, IppStatus::exhausted);
}

// Half of the ports lent, here one and there many in a row: each of the others comes up as often as chance has it.
TEST(IppPool, DrawsEvenlyFromASetThatIsHalfFull) {
  IppPool pool = make({.ranges = {range(1, 1024, 3071)}, .hold_down = 0s});
  std::mt19937 random(7);
  for (std::uint16_t port = 1024; port <= 3071; ++port) {
    const bool lend = port < 2048 ? random() % 2 == 0 : port / 8 % 2 == 0;
    ASSERT_EQ(lend, lend && pool.take({outside, port, IpProtocol::udp}, 1s));
  }
  const std::size_t free = pool.free(IpProtocol::udp, 1s);
  std::map<std::uint16_t, std::size_t> drawn;
  for (std::size_t i = 0; i < 200 * free; ++i) {
    const auto got = pool.acquire({}, 1s);
    ASSERT_TRUE(got);
    ++drawn[got.binding.port];
    ASSERT_TRUE(pool.release(got.binding, 1s).released);
  }
  EXPECT_EQ(drawn.size(), free);
  for (const auto& [port, times] : drawn) {  // the search alone would draw the first of 8 in a row nine times as often
    EXPECT_GT(times, 80u) << port;
    EXPECT_LT(times, 400u) << port;
  }
}

TEST(IppPool, TakesStaticMappings) {
  IppPool pool = make({.ranges = {range(1, 1000, 1001)}});
  EXPECT_TRUE(pool.take({outside, 1000, IpProtocol::udp}, 1s));
  EXPECT_FALSE(pool.take({outside, 1000, IpProtocol::udp}, 1s));
  EXPECT_FALSE(pool.take({outside, 999, IpProtocol::udp}, 1s));
  EXPECT_FALSE(pool.take({outside.advanced(1), 1000, IpProtocol::udp}, 1s));
  EXPECT_EQ(pool.acquire({}, 1s).binding.port, 1001);
  EXPECT_FALSE(pool.acquire({}, 1s));
}

TEST(IppPool, ReservedAddressesAreLentByNameOnly) {
  for (const std::uint32_t block_size : {0U, 64U}) {
    IppPool pool = make({.ranges = {{{outside, outside}, {1024, 1151}, true},
                                    {{outside.advanced(1), outside.advanced(1)}, {1024, 1151}}},
                         .block_size = block_size});
    std::set<std::uint16_t> ports;
    for (int i = 0; i < 16; ++i) {
      const auto got = pool.acquire_from(outside, {1040, 1055}, {}, 1s);
      ASSERT_TRUE(got);
      EXPECT_EQ(got.binding.address, outside);
      EXPECT_TRUE((PortRange{1040, 1055}.contains(got.binding.port)));
      EXPECT_TRUE(ports.insert(got.binding.port).second);
    }
    EXPECT_EQ(pool.acquire_from(outside, {1040, 1055}, {}, 1s).status, IppStatus::exhausted);
    EXPECT_EQ(pool.acquire_from(outside, {1040, 1055}, {.protocol = IpProtocol::sctp}, 1s).status, IppStatus::unknown);
    int lent = 0;
    for (std::uint64_t i = 0; i < 300; ++i) {
      const auto got = pool.acquire({.subscriber = i / 64}, 1s);
      if (!got) continue;
      EXPECT_EQ(got.binding.address, outside.advanced(1));
      ++lent;
    }
    EXPECT_EQ(lent, 128);
    EXPECT_TRUE(pool.release({outside, 1040, IpProtocol::udp}, 1s).released);
    EXPECT_FALSE(pool.acquire({}, 1000s).binding.address == outside);
    EXPECT_TRUE(pool.acquire_from(outside, {1040, 1055}, {}, 1000s));
  }
}

TEST(IppPool, RefusesSetUpThatCannotBe) {
  EXPECT_FALSE(IppPool::create({}));
  EXPECT_FALSE(IppPool::create({.ranges = {range(1, 2000, 1000)}}));
  EXPECT_FALSE(IppPool::create({.ranges = {range(1, 1, 2)}, .protocols = {}}));
  EXPECT_FALSE(IppPool::create({.ranges = {range(1, 1, 2)}, .protocols = {IpProtocol::udp, IpProtocol::udp}}));
  EXPECT_FALSE(IppPool::create({.ranges = {range(1, 1, 2)}, .block_size = 100}));
  EXPECT_FALSE(IppPool::create({.ranges = {range(1, 1, 2)}, .hold_down = -1s}));
  EXPECT_FALSE(IppPool::create({.ranges = {{{{10, 0, 0, 0}, {11, 0, 0, 0}}, {1, 2}}}}));
}

// Against the obvious: sets of what is free, lent and resting.
TEST(IppPool, DoesWhatAModelDoes) {
  for (const std::uint32_t block_size : {0u, 64u}) {
    std::mt19937_64 random(block_size + 1);
    const IppOptions options{.ranges = {range(2, 1024, 1535), range(3, 2000, 2010)},
                             .protocols = {IpProtocol::udp, IpProtocol::tcp},
                             .hold_down = 8s,
                             .block_size = block_size,
                             .blocks_each = 1000};
    IppPool pool = make(options);
    std::set<Lent> all;
    for (const IppRange& one : options.ranges)
      for (std::uint64_t i = 0; i < one.addresses.size(); ++i)
        for (std::uint32_t port = one.ports.first; port <= one.ports.last; ++port)
          for (const IpProtocol protocol : options.protocols)
            all.insert({one.addresses.at(i), static_cast<std::uint16_t>(port), protocol});
    std::map<Lent, IppBinding> out;
    std::map<Lent, Time> resting;
    Time now = 100s;
    for (int i = 0; i < 60'000; ++i) {
      now += std::chrono::milliseconds(random() % (i % 20'000 < 10'000 ? 3 : 30));
      const bool filling = i % 20'000 < 12'000;
      if (random() % 4 < (filling ? 3u : 1u)) {
        const IpProtocol protocol = options.protocols[random() % 2];
        const auto got = pool.acquire({.subscriber = random() % 5, .protocol = protocol}, now);
        if (got) {
          const Lent key = lent(got.binding);
          ASSERT_TRUE(all.contains(key));
          ASSERT_FALSE(out.contains(key));
          if (resting.contains(key)) {
            ASSERT_GE(now - resting[key], 8s);
          }
          resting.erase(key);
          out[key] = got.binding;
        } else if (block_size == 0 && i % 64 == 0) {
          for (const Lent& key : all)  // everything is lent, or may still rest
            if (std::get<2>(key) == protocol) {
              ASSERT_TRUE(out.contains(key) || (resting.contains(key) && now - resting[key] <= 10s));
            }
        }
      } else if (!out.empty()) {
        auto which = out.lower_bound({outside.advanced(random() % 3), static_cast<std::uint16_t>(random()), {}});
        if (which == out.end()) which = out.begin();
        ASSERT_TRUE(pool.release(which->second, now).released);
        resting[which->first] = now;
        out.erase(which);
      }
      if (i % 5000 == 0) {
        ASSERT_EQ(pool.lent(IpProtocol::udp) + pool.lent(IpProtocol::tcp), out.size());
      }
    }
  }
}

}  // namespace
