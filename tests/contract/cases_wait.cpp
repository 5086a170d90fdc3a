// Waiting and directions: who is woken by what, and what never sends or receives.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>

#include "efio/clock.h"
#include "efio/poller.h"
#include "tests/contract/rig.h"

namespace efio::test {

namespace {

bool waits_live(const Capabilities& can, const Rig& rig) { return can.rx && can.waits && !rig.stored(); }

Poller poller_for(auto&... queues) {
  auto poller = Poller::create();
  EXPECT_TRUE(poller.has_value());
  const bool added = (poller->add(queues).has_value() && ...);
  EXPECT_TRUE(added);
  return std::move(*poller);
}

void wakes_for_a_frame(const Bench& bench) {
  auto port = bench.receiving({});
  auto poller = poller_for(port.rx());
  EXPECT_TRUE(poller.wait(milliseconds(0)).empty());
  EXPECT_TRUE(poller.wait(milliseconds(20)).empty());
  for (unsigned i = 0; i < 20; ++i) {
    std::jthread other([&] {
      std::this_thread::sleep_for(milliseconds(i % 4));
      bench.rig.put_in(make_frame(60, i), 0);
    });
    const auto start = Clock::monotonic();
    const auto ready = poller.wait(std::chrono::seconds(5));
    ASSERT_EQ(ready.size(), 1U) << "slept through a frame";
    EXPECT_EQ(ready[0].rx, &port.rx());
    EXPECT_EQ(ready[0].tx, nullptr);
    EXPECT_LT(Clock::monotonic() - start, 2'000'000'000U);
    other.join();
    auto batch = receive_patiently(port.rx(), 1);
    ASSERT_EQ(batch.finish(), 1U);
    ASSERT_TRUE(poller.wait(milliseconds(i == 0 ? 20 : 0)).empty()) << "woken for a frame that is finished";
  }
}

void woken_by_another_thread(const Bench& bench) {
  auto port = bench.receiving({});
  auto poller = poller_for(port.rx());
  std::jthread other([&] {
    std::this_thread::sleep_for(milliseconds(20));
    poller.wake();
  });
  const auto start = Clock::monotonic();
  EXPECT_TRUE(poller.wait(std::chrono::seconds(20)).empty());
  EXPECT_LT(Clock::monotonic() - start, 10'000'000'000U);
  other.join();
  poller.wake();
  EXPECT_TRUE(poller.wait(std::chrono::seconds(20)).empty()) << "a wake() before the wait ends it too";
}

// Sending, and room to send, are no reason to wake a receiver.
void receiver_sleeps_while_others_send(const Bench& bench) {
  auto port = bench.open(Direction::both);
  auto poller = poller_for(port.rx());
  for (unsigned i = 0; i < 5; ++i) {
    ASSERT_TRUE(port.tx().send(make_frame(60, i)));
    port.tx().flush();
    EXPECT_TRUE(poller.wait(milliseconds(10)).empty());
    EXPECT_TRUE(bench.rig.take_out(milliseconds(1000)).has_value());
  }
  EXPECT_EQ(port.stats().rx.received, 0U) << "own frames came back";
}

// Waiting sends nothing, whatever it waits for.
void waiting_never_transmits(const Bench& bench) {
  auto port = bench.open(bench.whole());
  auto poller = Poller::create();
  if (bench.can().rx) {
    ASSERT_TRUE(poller->add(port.rx()).has_value());
  }
  ASSERT_TRUE(poller->add(port.tx()).has_value());
  for (unsigned i = 0; i < 3; ++i) ASSERT_TRUE(port.tx().send(make_frame(60, i)));
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(poller->wait(milliseconds(5)).empty()) << "there is room to claim";
    EXPECT_EQ(port.rx().receive(8).size(), 0U);
  }
  EXPECT_FALSE(bench.rig.take_out(milliseconds(20)).has_value());
  EXPECT_EQ(port.stats().tx.pending, 3U);
}

// A full ring waits for room, and a frame that arrives is no room.
void sender_sleeps_until_there_is_room(const Bench& bench) {
  auto port = bench.open(Direction::both);
  unsigned sent = 0;
  for (std::size_t quiet = 0; quiet < 100; ++quiet) {
    while (port.tx().send(make_frame(60, sent))) ++sent, quiet = 0;
    port.tx().flush();
  }
  auto poller = poller_for(port.tx());
  ASSERT_TRUE(poller.wait(milliseconds(10)).empty()) << "there is no room";
  ASSERT_TRUE(bench.rig.put_in(make_frame(60, 1), 0));
  EXPECT_TRUE(poller.wait(milliseconds(20)).empty()) << "woken by a frame that arrived";
  std::jthread other([&] {
    std::this_thread::sleep_for(milliseconds(20));
    while (bench.rig.take_out(milliseconds(50))) {}
  });
  const auto ready = poller.wait(std::chrono::seconds(5));
  ASSERT_EQ(ready.size(), 1U) << "slept though room had come";
  EXPECT_EQ(ready[0].tx, &port.tx());
  other.join();
  port.tx().flush();
  EXPECT_GT(port.tx().claim(1).size(), 0U);
}

void pollers_of_two_queues(const Bench& bench) {
  auto port = bench.open(Direction::rx, "queues=2");
  ASSERT_EQ(port.rx_queues(), 2U);
  auto first = poller_for(port.rx(0));
  auto second = poller_for(port.rx(1));
  unsigned came[2] = {};
  for (unsigned i = 0; i < 20; ++i) {
    ASSERT_TRUE(bench.rig.put_in(make_frame(60, i), i % 2));
    bool woken[2] = {};
    for (int patience = 0; patience < 200 && !woken[0] && !woken[1]; ++patience) {
      woken[0] = !first.wait(milliseconds(5)).empty();
      woken[1] = !second.wait(milliseconds(5)).empty();
    }
    ASSERT_NE(woken[0], woken[1]) << "one frame woke both queues, or none";
    const std::size_t q = woken[0] ? 0 : 1;
    ++came[q];
    ASSERT_EQ(receive_patiently(port.rx(q), 1).finish(), 1U);
  }
  EXPECT_EQ(port.rx(0).stats().received, came[0]);
  EXPECT_EQ(port.rx(1).stats().received, came[1]);
  expect_balanced(port.stats());
}

// Two opens of one device, one a direction, each with a poller: neither wakes for the other's business.
void pollers_of_two_directions(const Bench& bench) {
  auto in = bench.open(Direction::rx);
  auto out = bench.open(Direction::tx);
  auto poller = poller_for(in.rx());
  for (unsigned i = 0; i < 5; ++i) {
    ASSERT_TRUE(out.tx().send(make_frame(60, i)));
    out.tx().flush();
    EXPECT_TRUE(poller.wait(milliseconds(5)).empty());
    EXPECT_TRUE(bench.rig.take_out(milliseconds(1000)).has_value());
  }
  EXPECT_EQ(in.stats().rx.received, 0U);
}

void second_thread_is_told(const Bench& bench) {
  auto port = bench.receiving({});
  auto first = poller_for(port.rx());
  auto second = poller_for(port.rx());
  std::atomic<bool> waiting{false};
  std::jthread other([&] {
    waiting = true;
    first.wait(std::chrono::seconds(5));
  });
  while (!waiting) std::this_thread::yield();
  std::this_thread::sleep_for(milliseconds(50));
  const auto start = Clock::monotonic();
  if (is_debug_build()) {
    EXPECT_FALSE(second.wait(std::chrono::seconds(5)).empty()) << "a queue that failed is ready";
    EXPECT_LT(Clock::monotonic() - start, 2'000'000'000U);
    ASSERT_FALSE(port.rx().status().has_value());
    EXPECT_EQ(port.rx().status().error().kind, Error::Kind::misuse);
    EXPECT_EQ(port.rx().receive(1).size(), 0U);
  } else {
    EXPECT_TRUE(second.wait(milliseconds(20)).empty());
    EXPECT_TRUE(port.rx().status().has_value()) << "told in debug builds only";
  }
  first.wake();
}

void receive_only(const Bench& bench) {
  auto port = bench.rig.stored() ? bench.receiving(make_frames(3)) : bench.open(Direction::rx);
  EXPECT_EQ(port.tx_queues(), 0U);
  EXPECT_EQ(port.tx().claim(1).size(), 0U);
  EXPECT_FALSE(port.tx().send(make_frame(60, 1)));
  EXPECT_EQ(port.tx().flush(), 0U);
  ASSERT_FALSE(port.tx().status().has_value());
  EXPECT_EQ(port.tx().status().error().kind, Error::Kind::usage);
  if (!bench.rig.stored()) {
    ASSERT_TRUE(bench.rig.put_in(make_frame(60, 5), 0));
    EXPECT_EQ(receive_patiently(port.rx(), 1).finish(), 1U);
    EXPECT_FALSE(bench.rig.take_out(milliseconds(30)).has_value());
    if (const auto counts = bench.rig.counts()) {
      EXPECT_EQ(counts->out, 0U);
    }
  } else {
    EXPECT_EQ(receive_patiently(port.rx(), 3).finish(), 3U);
  }
  EXPECT_EQ(port.stats().tx.offered + port.stats().tx.sent, 0U);
}

void send_only(const Bench& bench) {
  auto port = bench.open(Direction::tx);
  EXPECT_EQ(port.rx_queues(), 0U);
  if (!bench.rig.stored() && bench.can().rx) {
    ASSERT_TRUE(bench.rig.put_in(make_frame(60, 5), 0));
  }
  ASSERT_TRUE(port.tx().send(make_frame(60, 1)));
  EXPECT_EQ(port.tx().flush(), 1U);
  EXPECT_TRUE(bench.rig.take_out(milliseconds(1000)).has_value());
  EXPECT_EQ(port.rx().receive(8).size(), 0U);
  EXPECT_FALSE(port.rx().status().has_value());
  EXPECT_EQ(port.stats().rx.received + port.stats().rx.delivered, 0U);
}

// Transmitting eats none of what came in meanwhile.
void sending_eats_nothing(const Bench& bench) {
  auto port = bench.receiving(make_frames(60));
  for (unsigned i = 0; i < 200; ++i) {
    ASSERT_TRUE(port.tx().send(make_frame(60, 1000 + i)));
    port.tx().flush();
    ASSERT_TRUE(bench.rig.take_out(milliseconds(1000)).has_value());
  }
  auto batch = receive_patiently(port.rx(), 60);
  ASSERT_EQ(batch.size(), 60U);
  for (unsigned i = 0; i < 60; ++i) EXPECT_TRUE(std::ranges::equal(batch[i].bytes(), make_frame(60, i)));
  batch.finish();
  ASSERT_TRUE(port.drain());
  EXPECT_EQ(port.stats().rx.received, 60U);
  EXPECT_EQ(port.stats().tx.sent, 200U);
  expect_balanced(port.stats());
}

bool both_live(const Capabilities& can, const Rig& rig) { return can.rx && can.tx && !rig.stored(); }

constexpr auto table = std::to_array<Case>({
    {"WakesForAFrame", "nothing to wait for", waits_live, wakes_for_a_frame},
    {"IsWokenByAnotherThread", "nothing to wait for", waits_live, woken_by_another_thread},
    {"ReceiverSleepsWhileFramesAreSent", "has not both directions in one opening, or nothing to wait for",
     [](const Capabilities& can, const Rig& rig) { return both_live(can, rig) && can.waits; },
     receiver_sleeps_while_others_send},
    {"WaitingNeverTransmits", "does not send, or has nothing to wait for",
     [](const Capabilities& can, const Rig& rig) { return can.tx && can.waits && !rig.stored(); }, waiting_never_transmits},
    {"SenderSleepsUntilThereIsRoom", "a full ring does not hold the sender back, or there is nothing to wait for",
     [](const Capabilities& can, const Rig& rig) { return both_live(can, rig) && can.blocks && can.waits; },
     sender_sleeps_until_there_is_room},
    {"PollersOfTwoQueuesDoNotWakeEachOther", "has one queue, or nothing to wait for",
     [](const Capabilities& can, const Rig& rig) { return waits_live(can, rig) && can.queues; }, pollers_of_two_queues},
    {"PollersOfTwoDirectionsDoNotWakeEachOther", "cannot be opened once a direction, or has nothing to wait for",
     [](const Capabilities& can, const Rig& rig) { return both_live(can, rig) && can.reopen && can.waits; },
     pollers_of_two_directions},
    {"TheSecondThreadOnAQueueIsTold", "nothing to wait for", waits_live, second_thread_is_told},
    {"ReceiveOnlyPortNeverSends", "does not receive", [](const Capabilities& can, const Rig&) { return can.rx; }, receive_only},
    {"SendOnlyPortNeverReceives", "does not send", [](const Capabilities& can, const Rig&) { return can.tx; }, send_only},
    {"SendingEatsNoReceivedFrame", "has not both directions in one opening", both_live, sending_eats_nothing},
});

}  // namespace

std::span<const Case> wait_cases() { return table; }

}  // namespace efio::test
