#include "efio/stats.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>

namespace {

using efio::CounterBlock;
using efio::DropReason;

TEST(Stats, EveryReasonHasAnOwnName) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < efio::drop_reasons; ++i) {
    const auto reason = static_cast<DropReason>(i);
    EXPECT_FALSE(efio::describe(reason).empty());
    EXPECT_TRUE(names.insert(efio::name(reason)).second) << efio::name(reason);
  }
}

TEST(Stats, ASnapshotIsOneBorderWhileTheWriterGoesOn) {
  CounterBlock block;
  std::atomic<bool> stop{false};
  std::jthread writer([&] {
    for (std::uint64_t i = 1; !stop.load(std::memory_order_relaxed); ++i) {
      block.begin();
      block.add_in(3);
      block.add_out(1);
      block.add_dropped(DropReason::oversize, 1);
      block.set_queued(i);
      block.end();
    }
  });
  std::uint64_t last = 0;
  for (int i = 0; i < 100'000; ++i) {
    const auto rx = efio::rx_stats(block.snapshot());
    ASSERT_EQ(rx.received, rx.delivered + rx.waiting + rx.total_dropped());
    ASSERT_GE(rx.received, last);
    last = rx.received;
  }
  stop = true;
}

TEST(Stats, SumsAddEveryField) {
  efio::RxStats a{.received = 5, .made = 1, .delivered = 3, .waiting = 2, .bytes = 100, .sampled_at = 7, .dropped = {}};
  a.dropped[2] = 1;
  efio::RxStats b = a;
  b.sampled_at = 9;
  b += a;
  EXPECT_EQ(b.received, 10U);
  EXPECT_EQ(b.made, 2U);
  EXPECT_EQ(b.delivered, 6U);
  EXPECT_EQ(b.waiting, 4U);
  EXPECT_EQ(b.bytes, 200U);
  EXPECT_EQ(b.sampled_at, 9U);
  EXPECT_EQ(b.total_dropped(), 2U);
}

}  // namespace
