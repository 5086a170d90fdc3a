// The pipe engine, and with it what every queue promises: loans, partial commits, counters, forwarding.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include "efio/forward.h"
#include "efio/poller.h"
#include "efio/port.h"

namespace {

using efio::Direction;
using efio::DropReason;
using efio::Port;

struct Ends {
  Port a, b;
};

Ends open_pipe(const std::string& name, const std::string& options = "") {
  auto a = Port::open("pipe:" + name + options);
  auto b = Port::open("pipe:" + name);
  EXPECT_TRUE(a.has_value()) << a.error().message();
  EXPECT_TRUE(b.has_value()) << b.error().message();
  return {std::move(*a), std::move(*b)};
}

std::vector<std::byte> payload(std::size_t size, unsigned seed) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + seed);
  return bytes;
}

void expect_balanced(Port& port) {
  const auto [rx, tx] = port.stats();
  EXPECT_EQ(rx.received + rx.made, rx.delivered + rx.waiting + rx.total_dropped());
  EXPECT_EQ(tx.offered + tx.made, tx.sent + tx.pending + tx.total_dropped());
}

TEST(Pipe, HasNoOptionThatCanBeChangedWhileItIsOpen) {
  auto [a, b] = open_pipe("options");
  const auto refused = a.set_option("take", "udp");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(),
            "set take= of pipe:options: pipe: has no such option that can be changed while it is open; open it again with another");
  ASSERT_TRUE(a.close());
  EXPECT_NE(a.set_option("take", "udp").error().message().find("closed"), std::string::npos);
}

TEST(Pipe, CarriesEverySizeUpToItsFrame) {
  auto [a, b] = open_pipe("sizes");
  for (std::size_t size = 14; size <= a.info().frame_size; ++size) {
    const auto sent = payload(size, static_cast<unsigned>(size));
    ASSERT_TRUE(a.tx().send(sent));
    ASSERT_EQ(a.tx().flush(), 1U);
    auto batch = b.rx().receive(8);
    ASSERT_EQ(batch.size(), 1U);
    EXPECT_TRUE(std::ranges::equal(batch[0].bytes(), sent));
    EXPECT_EQ(batch[0].time_source(), efio::TimeSource::clock);
    batch.finish();
  }
  EXPECT_FALSE(a.tx().send(payload(a.info().frame_size + 1, 0)));
  expect_balanced(a);
  expect_balanced(b);
}

TEST(Pipe, NothingLeavesBeforeFlush) {
  auto [a, b] = open_pipe("flush");
  ASSERT_TRUE(a.tx().send(payload(60, 1)));
  EXPECT_EQ(b.rx().receive(1).size(), 0U);
  EXPECT_EQ(a.stats().tx.pending, 1U);
  EXPECT_EQ(a.tx().flush(), 1U);
  EXPECT_EQ(a.tx().flush(), 0U);
  EXPECT_EQ(b.rx().receive(1).size(), 1U);
  EXPECT_EQ(a.stats().tx.pending, 0U);
}

TEST(Pipe, AbandonedClaimSendsNothingAndPartialCommitSendsItsPrefix) {
  auto [a, b] = open_pipe("partial");
  {
    auto abandoned = a.tx().claim(10);
    EXPECT_EQ(abandoned.size(), 10U);
  }
  auto batch = a.tx().claim(10);
  for (std::size_t i = 0; i < batch.size(); ++i) batch[i].length = static_cast<std::uint32_t>(60 + i);
  EXPECT_EQ(batch.commit(3), 3U);
  EXPECT_EQ(batch.size(), 7U);
  EXPECT_EQ(a.tx().flush(), 3U);
  auto got = b.rx().receive(100);
  ASSERT_EQ(got.size(), 3U);
  EXPECT_EQ(got[2].length, 62U);
  expect_balanced(a);
}

TEST(Pipe, UnfinishedSlotsAreLentAgainAcrossTheWrap) {
  auto [a, b] = open_pipe("wrap", "?ring=128");
  std::uint32_t next = 0, expected = 0;
  for (int round = 0; round < 100; ++round) {
    auto out = a.tx().claim(97);
    for (auto& slot : out) slot.length = 14 + next++ % 1000;
    out.commit();
    a.tx().flush();
    auto in = b.rx().receive(128);
    ASSERT_EQ(in.size(), b.rx().stats().waiting);
    const auto half = in.size() / 2;
    for (std::size_t i = 0; i < half; ++i) ASSERT_EQ(in[i].length, 14 + expected++ % 1000);
    in.finish(half);
  }
  EXPECT_EQ(a.stats().tx.sent, b.stats().rx.received);
  expect_balanced(b);
}

TEST(Pipe, AFullRingGivesShortClaimsAndLosesNothing) {
  auto [a, b] = open_pipe("full", "?ring=128");
  auto all = a.tx().claim(1000);
  EXPECT_EQ(all.size(), 128U);
  for (auto& slot : all) slot.length = 60;
  all.commit();
  a.tx().flush();
  EXPECT_EQ(a.tx().claim(1).size(), 0U);
  b.rx().receive(50).finish();
  EXPECT_EQ(a.tx().claim(1000).size(), 50U);
}

TEST(Pipe, ThirdWholeOpenIsAnErrorAndNamedDirectionsAreNot) {
  auto [a, b] = open_pipe("third");
  const auto third = Port::open("pipe:third");
  ASSERT_FALSE(third.has_value());
  EXPECT_NE(third.error().message().find("both ends are taken"), std::string::npos);

  auto rx = Port::open("pipe:apart/a", {.direction = Direction::rx});
  auto tx = Port::open("pipe:apart/a", {.direction = Direction::tx});
  ASSERT_TRUE(rx && tx);
  EXPECT_FALSE(Port::open("pipe:apart/a", {.direction = Direction::tx}).has_value());
  EXPECT_EQ(rx->tx().claim(1).size(), 0U);
  EXPECT_FALSE(rx->tx().status().has_value());
}

TEST(Pipe, KeepsWhatWasFlushedForAnEndThatOpensLater) {
  auto a = Port::open("pipe:later");
  ASSERT_TRUE(a);
  ASSERT_TRUE(a->tx().send(payload(77, 3)));
  a->tx().flush();
  auto b = Port::open("pipe:later");
  ASSERT_TRUE(b);
  EXPECT_EQ(b->rx().receive(4).size(), 1U);
}

TEST(Pipe, DroppedFramesCountOnceUnderTheirReason) {
  auto [a, b] = open_pipe("drop");
  for (unsigned i = 0; i < 10; ++i) a.tx().send(payload(60, i));
  a.tx().flush();
  auto batch = b.rx().receive(10);
  batch.drop(2, DropReason::filtered);
  batch.drop(2, DropReason::filtered);
  batch.drop(5, DropReason::malformed);
  expect_balanced(b);
  EXPECT_EQ(b.stats().rx.waiting, 8U);
  batch.finish();
  const auto rx = b.stats().rx;
  EXPECT_EQ(rx.delivered, 8U);
  EXPECT_EQ(rx.bytes, 480U);
  EXPECT_EQ(rx.dropped[static_cast<std::size_t>(DropReason::filtered)], 1U);
  EXPECT_EQ(rx.dropped[static_cast<std::size_t>(DropReason::malformed)], 1U);
  expect_balanced(b);
}

TEST(Pipe, TakenFrameOutlivesItsSlotAndCanBePut) {
  auto [a, b] = open_pipe("take");
  const auto sent = payload(100, 9);
  a.tx().send(sent);
  a.tx().flush();
  auto batch = b.rx().receive(1);
  auto frame = batch.take(0);
  ASSERT_TRUE(frame.has_value());
  EXPECT_TRUE(batch[0].has(efio::Slot::moved));
  batch.finish();
  EXPECT_TRUE(std::ranges::equal(frame->bytes(), sent));
  ASSERT_TRUE(b.tx().put(*frame));
  EXPECT_FALSE(static_cast<bool>(*frame));
  b.tx().flush();
  auto back = a.rx().receive(1);
  ASSERT_EQ(back.size(), 1U);
  EXPECT_TRUE(std::ranges::equal(back[0].bytes(), sent));
  EXPECT_EQ(b.stats().rx.delivered, 1U);
}

TEST(Forward, SwapsBetweenPipesAndTheFramesAreTheSameMemory) {
  auto [a, b] = open_pipe("fw1");
  auto [c, d] = open_pipe("fw2");
  ASSERT_TRUE(efio::forwards_by_swap(b.rx(), c.tx()));
  for (unsigned i = 0; i < 20; ++i) a.tx().send(payload(60 + i, i));
  a.tx().flush();
  auto batch = b.rx().receive(32);
  const std::byte* memory = batch[7].buffer;
  EXPECT_EQ(efio::forward(batch, c.tx()), 20U);
  EXPECT_TRUE(batch.empty());
  EXPECT_EQ(c.tx().flush(), 20U);
  auto got = d.rx().receive(32);
  ASSERT_EQ(got.size(), 20U);
  EXPECT_EQ(got[7].buffer, memory);
  EXPECT_TRUE(std::ranges::equal(got[7].bytes(), payload(67, 7)));
  EXPECT_EQ(b.stats().rx.bytes, c.stats().tx.bytes);
  expect_balanced(b);
  expect_balanced(c);
}

TEST(Forward, CopiesBetweenPoolsAndDropsWhatDoesNotFit) {
  auto [a, b] = open_pipe("fw3", "?frame=4000");
  auto [c, d] = open_pipe("fw4");
  ASSERT_FALSE(efio::forwards_by_swap(b.rx(), c.tx()));
  a.tx().send(payload(3000, 1));
  a.tx().send(payload(300, 2));
  a.tx().flush();
  auto batch = b.rx().receive(32);
  EXPECT_EQ(efio::forward(batch, c.tx()), 2U);
  c.tx().flush();
  auto got = d.rx().receive(32);
  ASSERT_EQ(got.size(), 1U);
  EXPECT_TRUE(std::ranges::equal(got[0].bytes(), payload(300, 2)));
  EXPECT_EQ(c.stats().tx.dropped[static_cast<std::size_t>(DropReason::oversize)], 1U);
  expect_balanced(b);
  expect_balanced(c);
}

TEST(Forward, ChosenFramesGoInOrderAndTheRestStay) {
  auto [a, b] = open_pipe("fw5");
  auto [c, d] = open_pipe("fw6");
  for (unsigned i = 0; i < 10; ++i) a.tx().send(payload(60 + i, i));
  a.tx().flush();
  auto batch = b.rx().receive(10);
  const std::array<std::uint32_t, 3> chosen = {1, 4, 9};
  EXPECT_EQ(efio::forward(batch, chosen, c.tx()), 3U);
  EXPECT_EQ(batch.size(), 10U);
  EXPECT_TRUE(batch[4].has(efio::Slot::moved));
  batch.drop(0, DropReason::filtered);
  c.tx().flush();
  auto got = d.rx().receive(10);
  ASSERT_EQ(got.size(), 3U);
  EXPECT_EQ(got[2].length, 69U);
  batch.finish();
  const auto rx = b.stats().rx;
  EXPECT_EQ(rx.delivered, 9U);
  EXPECT_EQ(rx.bytes, 60U * 10 + 45 - 60);
  expect_balanced(b);
}

TEST(Forward, AFrameOfSeveralSlotsIsNeverSplit) {
  auto [a, b] = open_pipe("frag", "?ring=128");
  auto [c, d] = open_pipe("frag2", "?ring=128");
  auto batch = a.tx().claim(5);
  for (std::size_t i = 0; i < 5; ++i) {
    batch[i].length = 1000;
    if (i != 1 && i != 4) batch[i].flags |= efio::Slot::more;
  }
  EXPECT_EQ(batch.commit(4), 2U);
  EXPECT_EQ(batch.commit(3), 3U);
  EXPECT_EQ(a.tx().flush(), 2U);
  EXPECT_EQ(b.rx().receive(4).size(), 2U);
  auto all = b.rx().receive(10);
  ASSERT_EQ(all.size(), 5U);
  EXPECT_EQ(b.stats().rx.waiting, 2U);
  EXPECT_EQ(efio::forward(all, c.tx()), 5U);
  c.tx().flush();
  EXPECT_EQ(d.rx().receive(10).size(), 5U);
  EXPECT_EQ(c.stats().tx.sent, 2U);
  EXPECT_EQ(c.stats().tx.bytes, 5000U);
  expect_balanced(b);
  expect_balanced(c);
}

TEST(Poller, WakesForItsOwnDirectionOnly) {
  auto [a, b] = open_pipe("poll", "?ring=128");
  auto rx_poller = efio::Poller::create();
  auto tx_poller = efio::Poller::create();
  ASSERT_TRUE(rx_poller && tx_poller);
  ASSERT_TRUE(rx_poller->add(b.rx()).has_value());
  EXPECT_FALSE(rx_poller->add(b.rx()).has_value());
  ASSERT_TRUE(tx_poller->add(a.tx()).has_value());
  EXPECT_TRUE(rx_poller->wait(std::chrono::milliseconds(5)).empty());
  EXPECT_EQ(tx_poller->wait(std::chrono::milliseconds(5)).size(), 1U);

  auto all = a.tx().claim(128);
  for (auto& slot : all) slot.length = 60;
  all.commit();
  std::jthread sender([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    a.tx().flush();
  });
  ASSERT_EQ(rx_poller->wait(std::chrono::seconds(5)).size(), 1U);
  sender.join();
  EXPECT_TRUE(tx_poller->wait(std::chrono::milliseconds(5)).empty());

  std::jthread receiver([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    b.rx().receive(10).finish();
  });
  EXPECT_EQ(tx_poller->wait(std::chrono::seconds(5)).size(), 1U);
}

TEST(Poller, IsWokenFromAnotherThread) {
  auto [a, b] = open_pipe("wake");
  auto poller = efio::Poller::create();
  ASSERT_TRUE(poller->add(b.rx()).has_value());
  std::jthread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    poller->wake();
  });
  EXPECT_TRUE(poller->wait(std::chrono::seconds(10)).empty());
}

TEST(Pipe, TwoThreadsExchangeAMillionFramesExactly) {
  auto [a, b] = open_pipe("threads");
  constexpr std::uint32_t total = 1'000'000;
  std::jthread sender([&a] {
    auto poller = efio::Poller::create();
    ASSERT_TRUE(poller->add(a.tx()).has_value());
    for (std::uint32_t next = 0; next < total;) {
      auto batch = a.tx().claim(std::min<std::size_t>(64, total - next));
      for (auto& slot : batch) {
        std::memcpy(slot.buffer + slot.offset, &next, 4);
        slot.length = 60;
        ++next;
      }
      batch.commit();
      a.tx().flush();
      if (batch.queue().stats().sent % 4096 == 0) poller->wait(std::chrono::seconds(5));
    }
  });
  auto poller = efio::Poller::create();
  ASSERT_TRUE(poller->add(b.rx()).has_value());
  std::uint32_t expected = 0;
  while (expected < total) {
    auto batch = b.rx().receive(64);
    if (batch.empty()) {
      ASSERT_FALSE(poller->wait(std::chrono::seconds(5)).empty());
      continue;
    }
    for (auto& slot : batch) {
      std::uint32_t number = 0;
      std::memcpy(&number, slot.bytes().data(), 4);
      ASSERT_EQ(number, expected++);
    }
    batch.finish();
    expect_balanced(b);
  }
  sender.join();
  EXPECT_EQ(a.stats().tx.sent, total);
  EXPECT_EQ(b.stats().rx.delivered, total);
}

TEST(Pipe, ClosedPortIsInertAndItsCountsStay) {
  auto [a, b] = open_pipe("close");
  a.tx().send(payload(60, 1));
  ASSERT_TRUE(a.close().has_value());
  EXPECT_EQ(a.stats().tx.sent, 1U);
  EXPECT_EQ(a.tx().claim(1).size(), 0U);
  EXPECT_FALSE(a.tx().status().has_value());
  EXPECT_EQ(b.rx().receive(1).size(), 1U);
  auto again = Port::open("pipe:close/a");
  EXPECT_TRUE(again.has_value());
}

TEST(Pool, GivesEveryFrameBackWhenPipesClose) {
  auto pool = *efio::Pool::create({.frames = 0});
  std::size_t unused = 0;
  for (int i = 0; i < 50; ++i) {
    auto a = Port::open("pipe:home", {.pool = pool});
    auto b = Port::open("pipe:home");
    ASSERT_TRUE(a && b);
    for (unsigned k = 0; k < 100; ++k) a->tx().send(payload(60, k));
    a->tx().flush();
    auto batch = b->rx().receive(50);
    auto kept = batch.take(3);
    batch.finish();
    ASSERT_TRUE(kept.has_value());
    kept = std::unexpected(DropReason::program);
    a = Port::open("pipe:elsewhere");
    b = Port::open("pipe:elsewhere2");
    if (i == 0) unused = pool->unused();
    ASSERT_EQ(pool->unused(), unused);
  }
  EXPECT_EQ(pool->unused(), pool->frames());
}

}  // namespace
