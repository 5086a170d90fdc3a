// Where queues could break under load: wake-ups that cross, positions that wrap, frames that end in another thread.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "efio/clock.h"
#include "efio/forward.h"
#include "efio/poller.h"
#include "efio/port.h"
#include "tests/support/privilege.h"

namespace {

using efio::Port;
using std::chrono::seconds;

struct Ends {
  Port a, b;
};

Ends open_pipe(const std::string& name, const std::string& options = "") {
  auto a = Port::open("pipe:" + name + options);
  auto b = Port::open("pipe:" + name);
  EXPECT_TRUE(a && b);
  return {std::move(*a), std::move(*b)};
}

// Every frame waits for the other thread to wake up: one lost wake-up ends the test.
TEST(QueueStress, NoWakeUpIsLostInAPingPong) {
  auto [a, b] = open_pipe("stress1");
  const int rounds = efio::test::is_long_run() ? 2'000'000 : 30'000;
  const auto player = [rounds](Port& port, bool serves) {
    auto poller = efio::Poller::create();
    ASSERT_TRUE(poller && poller->add(port.rx()));
    const std::vector<std::byte> frame(60);
    for (int round = 0; round < rounds; ++round) {
      if (serves) port.tx().send(frame), port.tx().flush();
      while (port.rx().receive(1).finish() == 0) ASSERT_FALSE(poller->wait(seconds(10)).empty()) << "in round " << round;
      if (!serves) port.tx().send(frame), port.tx().flush();
    }
  };
  std::jthread other([&b = b, &player] { player(b, false); });
  player(a, true);
}

// Both sides sleep whenever they can: the receiver on an empty ring, the sender on a full one.
TEST(QueueStress, NoWakeUpIsLostBetweenAFullAndAnEmptyRing) {
  auto [a, b] = open_pipe("stress2", "?ring=128");
  const std::uint32_t total = efio::test::is_long_run() ? 100'000'000 : 1'000'000;
  std::jthread sender([&a = a, total] {
    auto poller = efio::Poller::create();
    ASSERT_TRUE(poller && poller->add(a.tx()));
    for (std::uint32_t next = 0; next < total;) {
      auto batch = a.tx().claim(std::min<std::size_t>(1 + next % 128, total - next));
      if (batch.empty()) {
        ASSERT_FALSE(poller->wait(seconds(10)).empty()) << "after " << next;
        continue;
      }
      for (auto& slot : batch) std::memcpy(slot.buffer + slot.offset, &next, 4), slot.length = 60, ++next;
      batch.commit();
      a.tx().flush();
    }
  });
  auto poller = efio::Poller::create();
  ASSERT_TRUE(poller && poller->add(b.rx()));
  for (std::uint32_t expected = 0; expected < total;) {
    auto batch = b.rx().receive(1 + expected % 100);
    if (batch.empty()) {
      ASSERT_FALSE(poller->wait(seconds(10)).empty()) << "after " << expected;
      continue;
    }
    for (const auto& slot : batch) {
      std::uint32_t number = 0;
      std::memcpy(&number, slot.bytes().data(), 4);
      ASSERT_EQ(number, expected++);
    }
    batch.finish();
  }
}

// wake() from one thread, frames from another: neither swallows the other.
TEST(QueueStress, WakesAndFramesDoNotSwallowEachOther) {
  auto [a, b] = open_pipe("stress3");
  auto poller = efio::Poller::create();
  ASSERT_TRUE(poller && poller->add(b.rx()));
  std::atomic<bool> end{false};
  std::atomic<std::uint64_t> got{0};
  std::jthread waker([&] {
    while (!end) poller->wake(), std::this_thread::yield();
  });
  std::jthread sender([&, &a = a] {
    const std::vector<std::byte> frame(60);
    for (std::uint64_t sent = 0; sent < 5'000 && !end; ++sent) {
      a.tx().send(frame), a.tx().flush();
      while (got <= sent && !end) std::this_thread::yield();
    }
  });
  const auto until = efio::Clock::monotonic() + 20'000'000'000;
  while (got < 5'000 && efio::Clock::monotonic() < until) {
    poller->wait(seconds(10));
    got += b.rx().receive(8).finish();
  }
  end = true;
  EXPECT_EQ(got, 5'000U);
}

// Frames taken in one thread are put into another queue, or destroyed, by a second one.
TEST(QueueStress, TakenFramesEndInAnotherThread) {
  auto [a, b] = open_pipe("stress4");
  auto [c, d] = open_pipe("stress5");
  std::mutex mutex;
  std::deque<efio::Frame> passed;
  constexpr std::uint32_t total = 20'000;
  std::atomic<bool> all_sent{false};
  std::atomic<std::uint64_t> put{0};
  std::jthread other([&, &c = c, &d = d] {
    for (std::uint32_t seen = 0; seen < total;) {
      efio::Frame frame;
      {
        const std::scoped_lock lock(mutex);
        if (!passed.empty()) frame = std::move(passed.front()), passed.pop_front();
      }
      if (!frame) {
        if (all_sent) break;
        std::this_thread::yield();
        continue;
      }
      std::uint32_t number = 0;
      std::memcpy(&number, frame.bytes().data(), 4);
      ASSERT_EQ(number, seen++);
      if (seen % 2 == 0) {
        ASSERT_TRUE(c.tx().put(frame));
        ++put;
        c.tx().flush();
        auto got = d.rx().receive(1);
        ASSERT_EQ(got.size(), 1U);
        std::memcpy(&number, got[0].bytes().data(), 4);
        ASSERT_EQ(number, seen - 1);
        got.finish();
      }
    }
  });
  std::vector<std::byte> frame(60);
  for (std::uint32_t next = 0; next < total;) {
    std::memcpy(frame.data(), &next, 4);
    ASSERT_TRUE(a.tx().send(frame));
    a.tx().flush();
    auto batch = b.rx().receive(1);
    auto taken = batch.take(0);
    if (!taken) {  // all spares are on their way
      ASSERT_EQ(taken.error(), efio::DropReason::no_buffer);
      batch.finish();
      std::this_thread::yield();
      continue;
    }
    batch.finish();
    const std::scoped_lock lock(mutex);
    passed.push_back(std::move(*taken));
    ++next;
  }
  all_sent = true;
  other.join();
  EXPECT_EQ(put, total / 2);
}

// In the long run past 4,294,967,296 slots, where 32-bit positions wrap.
TEST(QueueStress, ExactOverManySlots) {
  auto [a, b] = open_pipe("stress6");
  auto [c, d] = open_pipe("stress7");
  const std::uint64_t total = efio::test::is_long_run() ? (std::uint64_t{1} << 32) + 1'000'000 : 5'000'000;
  std::uint64_t moved = 0, got = 0;
  while (moved < total) {
    auto out = a.tx().claim(1000);
    ASSERT_EQ(out.size(), 1000U) << "after " << moved;
    for (auto& slot : out) slot.length = 60;
    ASSERT_EQ(out.commit(), 1000U);
    ASSERT_EQ(a.tx().flush(), 1000U);
    auto batch = b.rx().receive(1000);
    ASSERT_EQ(efio::forward(batch, c.tx()), 1000U);
    c.tx().flush();
    got += d.rx().receive(1000).finish();
    moved += 1000;
  }
  EXPECT_EQ(got, moved);
  EXPECT_EQ(d.stats().rx.delivered, moved);
  EXPECT_EQ(d.stats().rx.bytes, moved * 60);
  EXPECT_EQ(b.stats().rx.waiting, 0U);
}

}  // namespace
