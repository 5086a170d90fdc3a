// Pools, frames and the rings that hold them.
#include "efio/pool.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <set>
#include <vector>
#include <thread>

#include "efio/slot_ring.h"

namespace {

using efio::Pool;

TEST(Pool, FramesAreDistinctAndWritableToTheirEnd) {
  auto pool = *Pool::create({.frame_size = 1000, .frames = 300});
  std::vector<efio::Frame> frames;
  std::set<std::byte*> seen;
  while (auto frame = pool->acquire()) {
    EXPECT_TRUE(seen.insert(frame.slot().buffer).second);
    std::memset(frame.slot().buffer, static_cast<int>(frames.size()), pool->frame_size());
    frames.push_back(std::move(frame));
  }
  EXPECT_EQ(frames.size(), 300U);
  for (std::size_t i = 0; i < frames.size(); ++i)
    EXPECT_EQ(frames[i].slot().buffer[999], static_cast<std::byte>(i)) << "a neighbour wrote over frame " << i;
  frames.clear();
  EXPECT_EQ(pool->unused(), 300U);
}

TEST(Pool, SpreadsFramesOverTheCacheUnlessPacked) {
  auto spread = *Pool::create({.frame_size = 2048, .frames = 8});
  auto packed = *Pool::create({.frame_size = 2048, .frames = 8, .growable = false, .packed = true});
  EXPECT_EQ(spread->stride() % 128, 64U);
  EXPECT_EQ(packed->stride(), 2048U);
}

TEST(Pool, GrowsOnlyWhereItMay) {
  auto growing = *Pool::create({.spares = 10});
  const auto first = growing->reserve(100);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(growing->frames(), 110U);
  const auto second = growing->reserve(1000);
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(growing->unused(), 10U);

  auto fixed = *Pool::create({.frames = 100, .growable = false});
  ASSERT_TRUE(fixed->reserve(60).has_value());
  const auto refused = fixed->reserve(60);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, efio::Error::Kind::memory);
  EXPECT_EQ(fixed->unused(), 40U);
}

TEST(Pool, RefusesSizesThatCannotBe) {
  EXPECT_FALSE(Pool::create({.frame_size = 10}).has_value());
  EXPECT_FALSE(Pool::create({.frame_size = std::size_t{1} << 30}).has_value());
  EXPECT_FALSE(Pool::create({.frame_size = 2048, .headroom = 100}).has_value());
  EXPECT_FALSE(Pool::create({.frame_size = 2048, .headroom = 2048}).has_value());
  EXPECT_FALSE(Pool::create({.frames = std::size_t{1} << 40}).has_value());
}

TEST(Pool, ThreadsTakeAndReturnSparesAtOnce) {
  auto pool = *Pool::create({.frames = 64});
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 20'000; ++i) {
          auto frame = pool->acquire();
          if (frame) frame.slot().buffer[0] = std::byte{1};
        }
      });
  }
  EXPECT_EQ(pool->unused(), 64U);
}

TEST(SlotRing, TheSecondHalfIsTheFirst) {
  auto ring = *efio::SlotRing::create(200);
  ASSERT_EQ(ring.size(), 256U);
  ring.data()[3].length = 77;
  EXPECT_EQ(ring.data()[259].length, 77U);
  ring.data()[511].length = 5;
  EXPECT_EQ(ring.data()[255].length, 5U);
}

TEST(Slot, TrimAndPrependStayWithinTheFrame) {
  std::array<std::byte, 256> memory{};
  efio::Slot slot{memory.data(), 60, 128, 0, 0, 0};
  EXPECT_TRUE(slot.prepend(4));
  EXPECT_EQ(slot.offset, 124U);
  EXPECT_EQ(slot.length, 64U);
  EXPECT_TRUE(slot.trim_front(4));
  EXPECT_FALSE(slot.trim_front(61));
  EXPECT_FALSE(slot.prepend(129));
  EXPECT_TRUE(efio::write_metadata(slot, {.hash = 99}));
  EXPECT_FALSE(slot.prepend(97)) << "it would reach the metadata";
  EXPECT_TRUE(slot.prepend(96));
  EXPECT_EQ(efio::read_metadata(slot).hash, 99U);
}

}  // namespace
