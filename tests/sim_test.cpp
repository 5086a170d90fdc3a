// sim: what it does to frames is what its options say, frame for frame, and every one of them is counted.
#include "efio/sim.h"

#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

#include "efio/clock.h"
#include "efio/poller.h"
#include "efio/port.h"

namespace {

using efio::Direction;
using efio::DropReason;
using efio::Port;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

std::string unused_pipe() {
  static unsigned serial = 0;
  return "pipe:sim" + std::to_string(serial++);
}

// The impaired end, and the other end of its pipe.
struct Ends {
  Port sim, far;
};

Ends open_sim(const std::string& options, const std::string& pipe_options = "",
              const std::shared_ptr<efio::Pool>& pool = {}) {
  const auto pipe = unused_pipe();
  auto sim = Port::open("sim:" + options + "@" + pipe + pipe_options, {.pool = pool});
  auto far = Port::open(pipe);
  if (!sim || !far) throw std::runtime_error(sim ? far.error().message() : sim.error().message());
  return {std::move(*sim), std::move(*far)};
}

void send(Port& port, std::uint32_t number, std::size_t size = 60) {
  std::vector<std::byte> frame(size);
  std::memcpy(frame.data() + 14, &number, sizeof number);
  ASSERT_TRUE(port.tx().send(frame));
  port.tx().flush();
}

std::vector<std::uint32_t> receive(Port& port) {
  std::vector<std::uint32_t> numbers;
  for (;;) {
    auto batch = port.rx().receive(64);
    if (batch.empty()) return numbers;
    for (const auto& slot : batch) {
      std::uint32_t number = 0;
      if (slot.length >= 18) std::memcpy(&number, slot.bytes().data() + 14, sizeof number);
      numbers.push_back(number);
    }
    batch.finish();
  }
}

std::uint64_t dropped(const efio::DropCounts& counts, DropReason reason) { return counts[static_cast<std::size_t>(reason)]; }

void expect_balanced(const Port& port) {
  const auto [rx, tx] = port.stats();
  EXPECT_EQ(rx.received + rx.made, rx.delivered + rx.waiting + rx.total_dropped());
  EXPECT_EQ(tx.offered + tx.made, tx.sent + tx.pending + tx.total_dropped());
}

// What comes out at the sim end of `total` frames that the far end sends.
std::vector<std::uint32_t> survivors(const std::string& options, std::uint32_t total) {
  auto [sim, far] = open_sim(options);
  std::vector<std::uint32_t> all;
  for (std::uint32_t i = 1; i <= total; ++i) {
    send(far, i);
    if (i % 500 == 0 || i == total)
      for (const auto number : receive(sim)) all.push_back(number);
  }
  expect_balanced(sim);
  return all;
}

TEST(Sim, PassesEverythingUnchangedWithoutOptions) {
  auto [sim, far] = open_sim("");
  EXPECT_EQ(sim.info().engine, "sim");
  for (std::uint32_t i = 0; i < 100; ++i) send(far, i), send(sim, i);
  EXPECT_EQ(receive(sim).size(), 100U);
  EXPECT_EQ(receive(far).size(), 100U);
  expect_balanced(sim);
}

TEST(Sim, LosesExactlyEveryNthFrameOnTheWayIn) {
  const auto all = survivors("loss=1/10", 1000);
  EXPECT_EQ(all.size(), 900U);
  for (const auto number : all) EXPECT_NE(number % 10, 0U);
}

TEST(Sim, LosesExactlyEveryNthFrameOnTheWayOut) {
  auto [sim, far] = open_sim("loss=1/10");
  for (std::uint32_t i = 1; i <= 500; ++i) send(sim, i);
  const auto all = receive(far);
  EXPECT_EQ(all.size(), 450U);
  for (const auto number : all) EXPECT_NE(number % 10, 0U);
  const auto tx = sim.stats().tx;
  EXPECT_EQ(tx.offered, 500U);
  EXPECT_EQ(tx.sent, 450U);
  EXPECT_EQ(dropped(tx.dropped, DropReason::lost), 50U);
  expect_balanced(sim);
}

TEST(Sim, ImpairsTheDirectionThatWasAskedFor) {
  auto [sim, far] = open_sim("loss=1&direction=rx");
  send(sim, 1), send(far, 2);
  EXPECT_EQ(receive(far).size(), 1U);
  EXPECT_EQ(receive(sim).size(), 0U);
  auto [other, other_far] = open_sim("loss=1&direction=tx");
  send(other, 1), send(other_far, 2);
  EXPECT_EQ(receive(other_far).size(), 0U);
  EXPECT_EQ(receive(other).size(), 1U);
}

TEST(Sim, LosesAShareWithinFiveSigmaAndTheSameFramesForTheSameSeed) {
  constexpr double total = 20'000, probability = 0.05;
  const auto first = survivors("loss=0.05&seed=3", static_cast<std::uint32_t>(total));
  const double lost = total - static_cast<double>(first.size());
  EXPECT_LT(std::abs(lost - total * probability), 5 * std::sqrt(total * probability * (1 - probability)));
  EXPECT_EQ(survivors("loss=5%25&seed=3", static_cast<std::uint32_t>(total)), first);
  EXPECT_NE(survivors("loss=0.05&seed=4", static_cast<std::uint32_t>(total)), first);
  EXPECT_EQ(survivors("loss=0.05&seed=3&corrupt=0.5&truncate=0.5:18", static_cast<std::uint32_t>(total)).size(), first.size())
      << "an option shifted the choices of another";
}

TEST(Sim, DirectionsAndQueuesMeetDifferentFates) {
  auto [sim, far] = open_sim("loss=0.5&seed=9", "?queues=2");
  std::vector<std::vector<std::uint32_t>> fates;
  for (std::size_t q = 0; q < 2; ++q) {
    std::vector<std::byte> frame(60);
    for (int i = 0; i < 200; ++i) far.tx(q).send(frame), sim.tx(q).send(frame);
    far.tx(q).flush(), sim.tx(q).flush();
  }
  const auto first = sim.rx(0).receive(200).size(), second = sim.rx(1).receive(200).size();
  EXPECT_TRUE(first != second || sim.tx(0).stats().sent != sim.tx(1).stats().sent || first != sim.tx(0).stats().sent);
  expect_balanced(sim);
}

TEST(Sim, DuplicatesCountAsMade) {
  auto [sim, far] = open_sim("duplicate=1/10");
  for (std::uint32_t i = 1; i <= 100; ++i) send(far, i), send(sim, i);
  const auto in = receive(sim);
  EXPECT_EQ(in.size(), 110U);
  EXPECT_EQ(in[9], 10U);
  EXPECT_EQ(in[10], 10U);
  EXPECT_EQ(in[11], 11U);
  EXPECT_EQ(sim.stats().rx.received, 100U);
  EXPECT_EQ(sim.stats().rx.made, 10U);
  EXPECT_EQ(receive(far).size(), 110U);
  EXPECT_EQ(sim.stats().tx.offered, 100U);
  EXPECT_EQ(sim.stats().tx.made, 10U);
  EXPECT_EQ(sim.stats().tx.sent, 110U);
  expect_balanced(sim);
}

TEST(Sim, ADuplicateAtAFullRingIsLentLater) {
  auto [sim, far] = open_sim("duplicate=1", "?ring=128");
  for (std::uint32_t i = 0; i < 100; ++i) send(far, i);
  std::map<std::uint32_t, int> times;
  for (int round = 0; round < 20; ++round)
    for (const auto number : receive(sim)) ++times[number];
  EXPECT_EQ(times.size(), 100U);
  EXPECT_EQ(sim.stats().rx.made, 100U);
  EXPECT_EQ(sim.stats().rx.delivered + dropped(sim.stats().rx.dropped, DropReason::queue_limit), 200U);
  expect_balanced(sim);
}

TEST(Sim, ReordersByTheDistanceGiven) {
  auto [sim, far] = open_sim("reorder=1/10:3&clock=virtual");
  for (std::uint32_t i = 1; i <= 30; ++i) send(far, i);
  const auto in = receive(sim);
  ASSERT_EQ(in.size(), 29U);
  std::vector<std::uint32_t> expected;
  for (std::uint32_t i = 1; i <= 30; ++i) {
    if (i % 10 != 0) expected.push_back(i);
    if (i % 10 == 3 && i > 10) expected.push_back(i - 3);
  }
  EXPECT_EQ(in, expected);
  EXPECT_EQ(sim.stats().rx.waiting, 1U) << "the last waits to be overtaken";
  ASSERT_TRUE(efio::sim_advance(sim, milliseconds(100)));
  EXPECT_EQ(receive(sim), std::vector<std::uint32_t>{30}) << "but not for ever";
  expect_balanced(sim);
}

TEST(Sim, DelaysByExactlyTheTimeGiven) {
  auto [sim, far] = open_sim("delay=10ms&clock=virtual");
  send(far, 1);
  const auto before = efio::Clock::now();
  EXPECT_TRUE(receive(sim).empty());
  EXPECT_EQ(sim.stats().rx.received, 1U);
  EXPECT_EQ(sim.stats().rx.waiting, 1U);
  expect_balanced(sim);
  ASSERT_TRUE(efio::sim_advance(sim, milliseconds(5)));
  send(far, 2);
  EXPECT_TRUE(receive(sim).empty());
  ASSERT_TRUE(efio::sim_advance(sim, milliseconds(5) - nanoseconds(1)));
  EXPECT_TRUE(receive(sim).empty());
  ASSERT_TRUE(efio::sim_advance(sim, nanoseconds(1)));
  auto batch = sim.rx().receive(4);
  ASSERT_EQ(batch.size(), 1U);
  EXPECT_GT(batch[0].time, before - 1'000'000'000 + 10'000'000);
  EXPECT_GT(batch[0].time + 1'000'000'000, before + 10'000'000) << "its time is later by the delay";
  batch.finish();
  ASSERT_TRUE(efio::sim_advance(sim, milliseconds(5)));
  EXPECT_EQ(receive(sim), std::vector<std::uint32_t>{2});
  expect_balanced(sim);
}

TEST(Sim, JitterStaysWithinItsBoundsAndTimesDoNotRunBackwards) {
  auto [sim, far] = open_sim("delay=10ms:4ms&clock=virtual&seed=5");
  for (std::uint32_t i = 1; i <= 200; ++i) send(far, i);
  EXPECT_TRUE(receive(sim).empty());
  ASSERT_TRUE(efio::sim_advance(sim, milliseconds(10) - nanoseconds(1)));
  EXPECT_TRUE(receive(sim).empty());
  std::vector<std::uint32_t> order;
  std::size_t moments = 0;
  std::uint64_t last = 0;
  for (int step = 0; step < 40; ++step) {
    ASSERT_TRUE(efio::sim_advance(sim, microseconds(100)));
    auto batch = sim.rx().receive(256);
    moments += batch.empty() ? 0 : 1;
    for (const auto& slot : batch) {
      std::uint32_t number = 0;
      std::memcpy(&number, slot.bytes().data() + 14, sizeof number);
      order.push_back(number);
      EXPECT_GE(slot.time, last);
      last = slot.time;
    }
    batch.finish();
  }
  ASSERT_TRUE(efio::sim_advance(sim, nanoseconds(1)));
  for (const auto number : receive(sim)) order.push_back(number);
  EXPECT_EQ(order.size(), 200U);
  EXPECT_GT(moments, 30U);
  EXPECT_FALSE(std::ranges::is_sorted(order));
  expect_balanced(sim);
}

TEST(Sim, SendsAtItsRateAndDropsBehindItsLimit) {
  auto [sim, far] = open_sim("rate=1k&limit=10&clock=virtual");
  for (std::uint32_t i = 1; i <= 30; ++i) send(sim, i);
  auto tx = sim.stats().tx;
  EXPECT_EQ(tx.offered, 30U);
  EXPECT_EQ(tx.pending, 10U);
  EXPECT_EQ(dropped(tx.dropped, DropReason::queue_limit), 20U);
  for (std::uint32_t i = 1; i <= 10; ++i) {
    ASSERT_TRUE(efio::sim_advance(sim, milliseconds(1) - nanoseconds(1)));
    EXPECT_EQ(sim.tx().flush(), 0U);
    ASSERT_TRUE(efio::sim_advance(sim, nanoseconds(1)));
    EXPECT_EQ(sim.tx().flush(), 1U);
    EXPECT_EQ(receive(far), std::vector<std::uint32_t>{i});
    expect_balanced(sim);
  }
  EXPECT_TRUE(sim.drain(milliseconds(0)));
  EXPECT_EQ(sim.stats().tx.sent, 10U);
}

TEST(Sim, CountsTheBitsOfARateWithTheFcs) {
  auto [sim, far] = open_sim("rate=3Mbit&clock=virtual");  // 64 bytes: 512 bits, 170 2/3 us each
  for (std::uint32_t i = 0; i < 300; ++i) send(sim, i);
  std::size_t sent = 0;
  for (int step = 1; step <= 100; ++step) {
    ASSERT_TRUE(efio::sim_advance(sim, microseconds(512)));
    sim.tx().flush();
    sent += receive(far).size();
    EXPECT_EQ(sent, static_cast<std::size_t>(3 * step)) << "fractions of a nanosecond added up";
  }
}

TEST(Sim, CorruptionFlipsExactlyOneBit) {
  auto [sim, far] = open_sim("corrupt=1&seed=11");
  std::vector<std::byte> sent(100);
  for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<std::byte>(i * 31);
  std::map<int, int> bits;
  for (int i = 0; i < 500; ++i) {
    ASSERT_TRUE(far.tx().send(sent));
    far.tx().flush();
    auto batch = sim.rx().receive(1);
    ASSERT_EQ(batch.size(), 1U);
    int flipped = 0;
    for (std::size_t k = 0; k < sent.size(); ++k) {
      const auto difference = static_cast<unsigned>(batch[0].bytes()[k] ^ sent[k]);
      flipped += std::popcount(difference);
      if (difference != 0) ++bits[static_cast<int>(k * 8) + std::countr_zero(difference)];
    }
    EXPECT_EQ(flipped, 1);
    batch.finish();
  }
  EXPECT_GT(bits.size(), 200U) << "spread over the frame";
}

TEST(Sim, TruncatesToTheLengthGivenOrToAnyShorterOne) {
  auto [sim, far] = open_sim("truncate=1:20");
  send(far, 1, 100);
  send(far, 2, 18);
  auto batch = sim.rx().receive(2);
  ASSERT_EQ(batch.size(), 2U);
  EXPECT_EQ(batch[0].length, 20U);
  EXPECT_EQ(batch[1].length, 18U);
  batch.finish();
  EXPECT_EQ(sim.stats().rx.bytes, 38U);

  auto [any, any_far] = open_sim("truncate=1");
  std::map<std::uint32_t, int> lengths;
  for (std::uint32_t i = 0; i < 300; ++i) send(any_far, i, 60);
  auto all = any.rx().receive(300);
  ASSERT_EQ(all.size(), 300U);
  for (const auto& slot : all) ++lengths[slot.length];
  EXPECT_GE(lengths.begin()->first, 14U);
  EXPECT_LE(lengths.rbegin()->first, 59U);
  EXPECT_GT(lengths.size(), 30U);
}

TEST(Sim, CountsWhatAnOutageTakes) {
  auto [sim, far] = open_sim("down=1s:500ms&clock=virtual");
  const auto one_each = [&sim = sim, &far = far](std::uint32_t number) {
    send(sim, number), send(far, number);
    return receive(sim).size() + receive(far).size();
  };
  EXPECT_EQ(one_each(1), 2U);
  ASSERT_TRUE(efio::sim_advance(sim, milliseconds(1000) - nanoseconds(1)));
  EXPECT_EQ(one_each(2), 2U);
  ASSERT_TRUE(efio::sim_advance(sim, nanoseconds(1)));
  EXPECT_EQ(one_each(3), 0U);
  ASSERT_TRUE(efio::sim_advance(sim, milliseconds(500) - nanoseconds(1)));
  EXPECT_EQ(one_each(4), 0U);
  ASSERT_TRUE(efio::sim_advance(sim, nanoseconds(1)));
  EXPECT_EQ(one_each(5), 2U);
  EXPECT_EQ(dropped(sim.stats().rx.dropped, DropReason::link_down), 2U);
  EXPECT_EQ(dropped(sim.stats().tx.dropped, DropReason::link_down), 2U);
  expect_balanced(sim);
}

TEST(Sim, StacksOnAnotherSim) {
  auto [sim, far] = open_sim("loss=1/2@sim:loss=1/3&duplicate=1/5&clock=virtual");
  for (std::uint32_t i = 1; i <= 300; ++i) send(far, i), send(sim, i);
  const auto in = receive(sim).size();
  const auto rx = sim.stats().rx;
  // 300 frames: 100 lost inside, 40 of the rest doubled; the outer sees 240 and loses every second.
  EXPECT_EQ(in, 120U);
  EXPECT_EQ(rx.received, 340U);
  EXPECT_EQ(dropped(rx.dropped, DropReason::lost), 220U);
  const auto out = receive(far).size();
  // 150 go on; of these 50 are lost and 20 doubled.
  EXPECT_EQ(out, 120U);
  EXPECT_EQ(sim.stats().tx.offered, 300U);
  expect_balanced(sim);
  EXPECT_TRUE(efio::sim_advance(sim, milliseconds(1))) << "the clock of the one inside";
}

TEST(Sim, DrainWaitsForWhatIsHeld) {
  auto [sim, far] = open_sim("delay=20ms");
  const auto start = efio::Clock::monotonic();
  for (std::uint32_t i = 0; i < 50; ++i) send(sim, i);
  EXPECT_EQ(sim.stats().tx.pending, 50U);
  EXPECT_FALSE(sim.drain(milliseconds(1)));
  EXPECT_TRUE(sim.drain(std::chrono::seconds(2)));
  EXPECT_GE(efio::Clock::monotonic() - start, 20'000'000U);
  EXPECT_EQ(sim.stats().tx.sent, 50U);
  EXPECT_EQ(receive(far).size(), 50U);
  expect_balanced(sim);
}

TEST(Sim, CloseSendsWhatIsHeldOrCountsIt) {
  auto [sim, far] = open_sim("delay=20ms");
  for (std::uint32_t i = 0; i < 5; ++i) send(sim, i), send(far, i);
  EXPECT_TRUE(receive(sim).empty());
  ASSERT_TRUE(sim.close());
  EXPECT_EQ(receive(far).size(), 5U);
  const auto [rx, tx] = sim.stats();
  EXPECT_EQ(tx.sent, 5U);
  EXPECT_EQ(tx.pending, 0U);
  EXPECT_EQ(rx.waiting, 0U);
  EXPECT_EQ(dropped(rx.dropped, DropReason::closed), 5U);
  expect_balanced(sim);
}

TEST(Sim, AFullLineIsAQueueLimitAndAFullPipeHoldsTheSenderBack) {
  auto [sim, far] = open_sim("delay=1s&limit=7&clock=virtual", "?ring=128");
  for (std::uint32_t i = 0; i < 20; ++i) send(far, i);
  EXPECT_TRUE(receive(sim).empty());
  EXPECT_EQ(dropped(sim.stats().rx.dropped, DropReason::queue_limit), 13U);
  ASSERT_TRUE(efio::sim_advance(sim, std::chrono::seconds(1)));
  EXPECT_EQ(receive(sim).size(), 7U);

  auto [out, out_far] = open_sim("seed=1", "?ring=128");
  std::uint32_t sent = 0;
  std::vector<std::byte> frame(60);
  for (int round = 0; round < 10; ++round, out.tx().flush())
    while (out.tx().send(frame)) ++sent;
  EXPECT_EQ(sent, 256U);
  std::size_t came = 0;
  for (int round = 0; round < 4; ++round, out.tx().flush()) came += receive(out_far).size();
  EXPECT_EQ(came, 256U);
  EXPECT_EQ(out.stats().tx.total_dropped(), 0U);
}

TEST(Sim, PollerWakesWhenADelayedFrameIsDue) {
  auto [sim, far] = open_sim("delay=30ms");
  auto poller = efio::Poller::create();
  ASSERT_TRUE(poller && poller->add(sim.rx()));
  const auto start = efio::Clock::monotonic();
  send(far, 1);
  std::vector<std::uint32_t> got;
  int wakes = 0;
  while (got.empty() && efio::Clock::monotonic() - start < 5'000'000'000) {
    poller->wait(std::chrono::seconds(5));
    ++wakes;
    got = receive(sim);
  }
  EXPECT_EQ(got.size(), 1U);
  const auto took = efio::Clock::monotonic() - start;
  EXPECT_GE(took, 30'000'000U);
  EXPECT_LT(took, 1'000'000'000U);
  EXPECT_LE(wakes, 4) << "it slept between";
  EXPECT_TRUE(poller->wait(milliseconds(5)).empty());
}

TEST(Sim, PollerSeesTimeThatAnotherThreadLetsPass) {
  auto [sim, far] = open_sim("delay=1min&clock=virtual");
  auto poller = efio::Poller::create();
  ASSERT_TRUE(poller && poller->add(sim.rx()));
  send(far, 1);
  EXPECT_TRUE(receive(sim).empty());
  std::jthread other([&sim = sim] {
    std::this_thread::sleep_for(milliseconds(20));
    EXPECT_TRUE(efio::sim_advance(sim, std::chrono::minutes(1)));
  });
  EXPECT_EQ(poller->wait(std::chrono::seconds(5)).size(), 1U);
  EXPECT_EQ(receive(sim).size(), 1U);
}

TEST(Sim, CopiesWhereTheInnerPoolHasNoRoomForItsFrames) {
  auto pool = efio::Pool::create({.frames = 256, .growable = false});
  ASSERT_TRUE(pool);
  auto [sim, far] = open_sim("duplicate=1/4&delay=1ms&clock=virtual", "?ring=128", *pool);
  EXPECT_NE(sim.rx().pool(), *pool);
  for (std::uint32_t i = 1; i <= 40; ++i) send(far, i), send(sim, i);
  EXPECT_TRUE(receive(sim).empty());
  ASSERT_TRUE(efio::sim_advance(sim, milliseconds(1)));
  sim.tx().flush();
  EXPECT_EQ(receive(sim).size(), 50U);
  EXPECT_EQ(receive(far).size(), 50U);
  expect_balanced(sim);
}

TEST(Sim, PutsAFrameOfSeveralSlotsTogetherOrDropsIt) {
  auto [sim, far] = open_sim("");
  const auto send_fragments = [](Port& port, std::uint32_t bytes) {
    auto batch = port.tx().claim(3);
    for (std::size_t i = 0; i < 3; ++i) {
      std::memset(batch.space(i).data(), static_cast<int>('a' + i), bytes);
      batch[i].length = bytes;
      if (i < 2) batch[i].flags |= efio::Slot::more;
    }
    EXPECT_EQ(batch.commit(), 3U);
    port.tx().flush();
  };
  for (Port* port : {&far, &sim}) {
    send_fragments(*port, 500);
    send_fragments(*port, 1000);
    auto batch = (port == &far ? sim : far).rx().receive(8);
    ASSERT_EQ(batch.size(), 1U);
    ASSERT_EQ(batch[0].length, 1500U);
    EXPECT_EQ(batch[0].bytes()[499], std::byte{'a'});
    EXPECT_EQ(batch[0].bytes()[500], std::byte{'b'});
    EXPECT_EQ(batch[0].bytes()[1499], std::byte{'c'});
    batch.finish();
  }
  EXPECT_EQ(dropped(sim.stats().rx.dropped, DropReason::oversize), 1U);
  EXPECT_EQ(dropped(sim.stats().tx.dropped, DropReason::oversize), 1U);
  expect_balanced(sim);
  expect_balanced(far);
}

TEST(Sim, GivesEveryFrameBack) {
  auto pool = efio::Pool::create({.frames = 0});
  ASSERT_TRUE(pool);
  std::size_t unused = 0;
  for (int round = 0; round < 20; ++round) {
    {
      auto [sim, far] = open_sim("delay=60min&limit=50&reorder=1/7&duplicate=1/3&clock=virtual&direction=rx", "?ring=128", *pool);
      for (std::uint32_t i = 0; i < 100; ++i) send(far, i), send(sim, i);
      receive(sim);
      EXPECT_EQ(receive(far).size(), 100U);
    }
    if (round == 0) unused = (*pool)->unused();
    ASSERT_EQ((*pool)->unused(), unused);
  }
  EXPECT_EQ((*pool)->unused(), (*pool)->frames());
}

TEST(Sim, EverySnapshotAddsUpWhileEverythingHappens) {
  auto [sim, far] = open_sim("loss=0.1&duplicate=0.1&reorder=0.1:2&delay=50us:50us&corrupt=0.1&truncate=0.1&rate=2M&limit=100", "?ring=128");
  std::atomic<bool> end{false};
  std::atomic<std::uint64_t> wrong{0}, snapshots{0};
  std::jthread watcher([&, &sim = sim] {
    for (; !end; ++snapshots) {
      const auto [rx, tx] = sim.stats();
      if (rx.received + rx.made != rx.delivered + rx.waiting + rx.total_dropped()) ++wrong;
      if (tx.offered + tx.made != tx.sent + tx.pending + tx.total_dropped()) ++wrong;
    }
  });
  std::uint64_t fed = 0;
  std::vector<std::byte> frame(64);
  for (const auto until = efio::Clock::monotonic() + 300'000'000; efio::Clock::monotonic() < until;) {
    for (int i = 0; i < 20; ++i) fed += far.tx().send(frame) ? 1 : 0, sim.tx().send(frame);
    far.tx().flush(), sim.tx().flush();
    sim.rx().receive(64).finish();
    far.rx().receive(64).finish();
    expect_balanced(sim);
  }
  end = true;
  watcher.join();
  EXPECT_EQ(wrong, 0U) << "of " << snapshots;
  sim.rx().receive(1);
  far.rx().receive(128).finish();
  for (int i = 0; i < 100 && sim.stats().rx.waiting > 0; ++i) {
    sim.rx().receive(64).finish();
    std::this_thread::sleep_for(milliseconds(2));
  }
  EXPECT_EQ(sim.stats().rx.received, fed);
  EXPECT_EQ(sim.stats().rx.waiting, 0U);
  expect_balanced(sim);
}

TEST(Sim, RefusesWhatItCannotMean) {
  for (const auto* options : {"loss=2", "loss=1/0", "loss=x", "loss=", "loss=-1", "delay=x", "delay=1ms:x", "delay=100h", "down=1s",
                              "down=1s:", "rate=0", "rate=fast", "rate=1Gbits", "limit=0", "reorder=0.1:0", "reorder=0.1:x",
                              "truncate=0.1:5", "direction=up", "clock=sun", "seed=x", "lost=0.1"}) {
    const auto port = Port::open(std::string("sim:") + options + "@" + unused_pipe());
    ASSERT_FALSE(port.has_value()) << options;
    EXPECT_EQ(port.error().kind, efio::Error::Kind::usage) << options;
    EXPECT_FALSE(port.error().hint.empty()) << options;
  }
  EXPECT_FALSE(Port::open("sim:loss=0.1@").has_value());
  EXPECT_FALSE(Port::open("sim:loss=0.1@nosuch:x").has_value());
  auto plain = Port::open(unused_pipe());
  ASSERT_TRUE(plain);
  EXPECT_FALSE(efio::sim_advance(*plain, milliseconds(1)).has_value());
  auto real = Port::open("sim:seed=1@" + unused_pipe());
  ASSERT_TRUE(real);
  EXPECT_FALSE(efio::sim_advance(*real, milliseconds(1)).has_value());
}

}  // namespace
