// Opening and closing: nothing leaks, loans come home, what is closed is inert.
#include <gtest/gtest.h>

#include <array>

#include "efio/forward.h"
#include "tests/contract/rig.h"
#include "tests/support/privilege.h"

namespace efio::test {

namespace {

void use_once(const Bench& bench, Port& port, unsigned number) {
  if (port.tx_queues() > 0) {
    ASSERT_TRUE(port.tx().send(make_frame(60, number)));
    port.tx().flush();
    ASSERT_TRUE(bench.rig.take_out(milliseconds(5000)).has_value());
  }
  if (port.rx_queues() > 0) {
    if (!bench.rig.stored()) {
      ASSERT_TRUE(bench.rig.put_in(make_frame(60, number), 0));
    }
    ASSERT_EQ(receive_patiently(port.rx(), 1).finish(), 1U);
  }
}

std::string quick(const Bench& bench) { return bench.can().link ? "settle=0" : ""; }

void reopen_many_times(const Bench& bench) {
  const int rounds = is_long_run() ? 1000 : 50;
  auto pool = Pool::create({.frames = 0});
  ASSERT_TRUE(pool.has_value());
  if (bench.rig.stored() && bench.can().rx) bench.rig.put_in(make_frame(60, 0), 0);
  Holdings first;
  std::size_t frames = 0, unused = 0;
  for (int round = 0; round < rounds; ++round) {
    {
      auto port = bench.open(bench.whole(), quick(bench), *pool);
      ASSERT_NO_FATAL_FAILURE(use_once(bench, port, static_cast<unsigned>(round)));
      if (round % 2 == 0) {
        ASSERT_TRUE(port.close().has_value());
      }
    }
    bench.rig.rest();
    if (round == rounds / 2) first = Holdings::now(), frames = (*pool)->frames(), unused = (*pool)->unused();
  }
  const auto last = Holdings::now();
  EXPECT_EQ(last.descriptors, first.descriptors);
  EXPECT_LE(last.mappings, first.mappings + 4);  // the allocator's own come and go
  EXPECT_LE(last.heap_bytes, first.heap_bytes + 16384U);  // the allocator counts what threads cache as in use
  EXPECT_EQ((*pool)->frames(), frames);
  EXPECT_EQ((*pool)->unused(), unused);
}

void failed_open_leaves_nothing(const Bench& bench) {
  const auto warm = bench.rig.open("no_such_option=1", {.direction = bench.whole()});
  const auto before = Holdings::now();
  constexpr std::size_t rounds = 20;
  for (std::size_t i = 0; i < rounds; ++i) {
    auto port = bench.rig.open("no_such_option=1", {.direction = bench.whole()});
    ASSERT_FALSE(port.has_value());
    EXPECT_EQ(port.error().kind, Error::Kind::usage);
    EXPECT_NE(port.error().message().find("no_such_option"), std::string::npos) << port.error().message();
  }
  EXPECT_EQ(Holdings::now().descriptors, before.descriptors);
  EXPECT_LT(Holdings::now().mappings, before.mappings + rounds);  // less than one an opening: allocators map on their own
}

void close_with_loans_out(const Bench& bench) {
  auto pool = Pool::create({.frames = 0});
  ASSERT_TRUE(pool.has_value());
  if (!bench.rig.stored()) bench.open(bench.whole(), quick(bench), *pool);  // the pool is as large as it gets
  const auto frames_before = (*pool)->unused();
  {
    auto port = bench.receiving(make_frames(40), quick(bench), *pool);
    auto batch = receive_patiently(port.rx(), 40);
    ASSERT_EQ(batch.size(), 40U);
    batch.drop(1, DropReason::filtered);
    auto taken = batch.take(2);
    ASSERT_TRUE(taken.has_value());
    batch.finish(5);
    auto claimed = port.tx().claim(8);
    for (auto& slot : claimed) slot.length = 60;
    ASSERT_TRUE(port.close().has_value());
    expect_balanced(port.stats());
    const auto at_close = port.stats();
    EXPECT_EQ(at_close.tx.sent, 0U) << "a claim that was not committed was sent";
    EXPECT_EQ(batch.finish(), 0U) << "finished after close";
    EXPECT_EQ(claimed.commit(), 0U) << "committed after close";
    EXPECT_EQ(port.stats().rx.delivered, at_close.rx.delivered);
    EXPECT_EQ(port.stats().tx.offered, at_close.tx.offered);
    EXPECT_EQ(at_close.rx.delivered, 4U);
  }
  if (!bench.rig.stored()) {
    EXPECT_EQ((*pool)->unused(), frames_before);
  }
}

// A receiver that is closed with frames moved, dropped and untouched; whoever opens next sees none of the first two.
void reopen_after_marks(const Bench& bench) {
  std::uint64_t handled = 0;
  {
    auto port = bench.receiving(make_frames(30), quick(bench));
    auto batch = receive_patiently(port.rx(), 30);
    ASSERT_EQ(batch.size(), 30U);
    auto taken = batch.take(3);
    ASSERT_TRUE(taken.has_value());
    batch.drop(7, DropReason::filtered);
    handled = 2;
  }
  auto port = bench.open(bench.whole(), quick(bench));
  std::uint64_t seen = 0;
  for (int quiet = 0; quiet < 20; ++quiet) {
    auto batch = receive_patiently(port.rx(), 8, milliseconds(1));
    for (const auto& slot : batch) {
      EXPECT_EQ(slot.flags & Slot::marks, 0) << "a slot with the marks of an earlier opening";
      ++seen;
    }
    batch.finish();
    expect_balanced(port.stats());
  }
  if (bench.rig.stored()) {
    EXPECT_EQ(seen, 30U) << "a file begins again at its beginning";
  } else {
    EXPECT_LE(seen, 30 - handled);
  }
  EXPECT_EQ(port.stats().rx.delivered, seen);
  EXPECT_EQ(port.stats().rx.waiting, 0U);
}

void closed_is_inert(const Bench& bench) {
  auto port = bench.open(bench.whole());
  if (!bench.rig.stored()) {
    ASSERT_NO_FATAL_FAILURE(use_once(bench, port, 1));
  }
  const auto before = port.stats();
  ASSERT_TRUE(port.close().has_value());
  EXPECT_TRUE(port.close().has_value()) << "closing twice is no error";
  const auto after = port.stats();
  EXPECT_EQ(after.rx.delivered, before.rx.delivered);
  EXPECT_EQ(after.tx.sent, before.tx.sent);
  expect_balanced(after);
  EXPECT_EQ(port.rx().receive(1).size(), 0U);
  EXPECT_EQ(port.tx().claim(1).size(), 0U);
  EXPECT_EQ(port.tx().flush(), 0U);
  EXPECT_FALSE(port.tx().send(make_frame(60, 2)));
  port.tx().drain(milliseconds(1));
  port.drain(milliseconds(1));
  if (port.rx_queues() > 0) {
    EXPECT_FALSE(port.rx().status().has_value());
  }
  if (port.tx_queues() > 0) {
    EXPECT_FALSE(port.tx().status().has_value());
  }
  expect_balanced(port.stats());
}

void says_what_it_got(const Bench& bench) {
  auto port = bench.open(bench.whole());
  const auto& info = port.info();
  EXPECT_EQ(info.engine, bench.engine.scheme);
  EXPECT_FALSE(info.uri.empty());
  EXPECT_FALSE(info.mode.empty());
  EXPECT_GE(info.frame_size, 1514U);
  EXPECT_GT(info.queue_bytes, 0U);
  if (receives(bench.whole())) {
    EXPECT_EQ(info.rx_ring, port.rx().ring_size());
  }
  if (transmits(bench.whole())) {
    EXPECT_EQ(info.tx_ring, port.tx().ring_size());
  }
  if (bench.can().link) {
    EXPECT_EQ(info.device, bench.rig.device());
    EXPECT_TRUE(info.mac.has_value());
    EXPECT_GT(info.mtu, 0U);
  }
}

bool always(const Capabilities&, const Rig&) { return true; }
bool receives_frames(const Capabilities& can, const Rig&) { return can.rx; }

constexpr auto table = std::to_array<Case>({
    {"ReopensWithoutALeak", "", always, reopen_many_times},
    {"AFailedOpenLeavesNothingBehind", "", always, failed_open_leaves_nothing},
    {"CloseWithLoansOutReturnsEverything", "does not receive", receives_frames, close_with_loans_out},
    {"ReopenedReceiverSeesNoMarks", "does not receive", receives_frames, reopen_after_marks},
    {"AClosedPortIsInertAndItsCountsStay", "", always, closed_is_inert},
    {"SaysWhatItGot", "", always, says_what_it_got},
});

}  // namespace

std::span<const Case> life_cases() { return table; }

}  // namespace efio::test
