// Counters that add up: at every border, in every snapshot, and against the counterpart's.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>

#include "efio/clock.h"
#include "efio/poller.h"
#include "tests/contract/rig.h"
#include "tests/support/privilege.h"

namespace efio::test {

namespace {

bool balanced(const PortStats& stats) {
  const auto& [rx, tx] = stats;
  return rx.received + rx.made == rx.delivered + rx.waiting + rx.total_dropped() &&
         tx.offered + tx.made == tx.sent + tx.pending + tx.total_dropped();
}

// Reads a queue's statistics as fast as it can while others work; every snapshot must add up.
struct Watcher {
  explicit Watcher(const Port& port)
      : thread([this, &port] {
          while (!end) {
            if (!balanced(port.stats())) ++wrong;
            ++snapshots;
          }
        }) {}
  void stop() {
    end = true;
    thread.join();
  }
  std::atomic<bool> end{false};
  std::atomic<std::uint64_t> wrong{0}, snapshots{0};
  std::jthread thread;
};

void every_snapshot_adds_up(const Bench& bench) {
  auto port = bench.receiving(bench.rig.stored() ? make_frames(2000) : std::vector<Bytes>{});
  Watcher watcher(port);
  const auto until = Clock::monotonic() + 300'000'000;
  unsigned number = 0;
  while (Clock::monotonic() < until) {
    for (unsigned i = 0; i < 32 && !bench.rig.stored(); ++i) bench.rig.put_in(make_frame(60, number + i), 0);
    auto batch = port.rx().receive(64);
    expect_balanced(port.stats());
    if (batch.size() > 3) batch.drop(2, DropReason::filtered);
    expect_balanced(port.stats());
    batch.finish(batch.size() / 2);
    expect_balanced(port.stats());
    if (port.tx_queues() > 0) {
      auto out = port.tx().claim(16);
      for (auto& slot : out) slot.length = 60;
      out.commit();
      expect_balanced(port.stats());
      port.tx().flush();
      while (bench.rig.take_out(milliseconds(0))) {}
    }
    batch.finish();
    expect_balanced(port.stats());
    number += 32;
    if (testing::Test::HasFailure()) break;
  }
  watcher.stop();
  EXPECT_EQ(watcher.wrong, 0U) << "of " << watcher.snapshots << " snapshots";
  EXPECT_GT(watcher.snapshots, 0U);
}

void every_tx_snapshot_adds_up(const Bench& bench) {
  auto port = bench.open(Direction::tx);
  Watcher watcher(port);
  const auto until = Clock::monotonic() + 200'000'000;
  while (Clock::monotonic() < until && !testing::Test::HasFailure()) {
    auto out = port.tx().claim(16);
    for (auto& slot : out) slot.length = 60;
    out.commit(10);
    expect_balanced(port.stats());
    port.tx().drop(1, DropReason::program);
    port.tx().flush();
    expect_balanced(port.stats());
    while (bench.rig.take_out(milliseconds(0))) {}
  }
  watcher.stop();
  EXPECT_EQ(watcher.wrong, 0U) << "of " << watcher.snapshots << " snapshots";
}

void equal_after_drain(const Bench& bench) {
  auto port = bench.open(bench.can().tx && !bench.rig.stored() && bench.can().rx ? Direction::both : Direction::tx);
  const auto before = bench.rig.counts();
  std::uint64_t bytes = 0;
  std::size_t seen = 0;
  for (unsigned i = 0; i < 500; ++i) {
    const auto size = 14 + (i * 37) % 1400;
    ASSERT_TRUE(port.tx().send(make_frame(size, i)));
    bytes += size;
    if (i % 7 == 0) port.tx().flush();
    while (bench.rig.take_out(milliseconds(0))) ++seen;
  }
  ASSERT_TRUE(port.drain());
  while (seen < 500 && bench.rig.take_out(milliseconds(1000))) ++seen;
  const auto tx = port.stats().tx;
  EXPECT_EQ(seen, 500U);
  EXPECT_EQ(tx.sent, 500U);
  EXPECT_EQ(tx.bytes, bytes);
  EXPECT_EQ(tx.pending, 0U);
  if (before) {
    const auto after = bench.rig.counts();
    EXPECT_EQ(after->out - before->out, tx.sent);
    EXPECT_EQ(after->out_bytes - before->out_bytes, tx.bytes);
  }
}

// More than the port's ring holds arrives while nobody receives: each frame is waiting or a named drop.
void flood_is_accounted_for(const Bench& bench) {
  auto port = bench.open(Direction::rx);
  const std::size_t flood = std::min<std::size_t>(4 * port.rx().ring_size(), 20'000);
  const auto before = bench.rig.counts();
  for (unsigned i = 0; i < flood; ++i) ASSERT_TRUE(bench.rig.put_in(make_frame(60, i), 0));
  std::size_t got = 0;
  for (int quiet = 0; quiet < 50;) {
    const auto n = port.rx().receive(256).finish();
    got += n;
    if (n > 0) quiet = 0;
    else ++quiet, std::this_thread::sleep_for(milliseconds(2));
    expect_balanced(port.stats());
  }
  port.drain();
  const auto rx = port.stats().rx;
  EXPECT_EQ(rx.received, flood);
  EXPECT_EQ(rx.delivered, got);
  EXPECT_EQ(rx.waiting, 0U);
  EXPECT_EQ(rx.delivered + rx.total_dropped(), flood);
  if (rx.total_dropped() > 0) {
    EXPECT_GT(rx.sampled_at, 0U);
  }
  if (before) {
    EXPECT_EQ(bench.rig.counts()->in - before->in, rx.received);
  }
  expect_balanced(port.stats());
}

// The same device opened once per direction, in two threads, while the counterpart sends and receives.
void two_openings_in_two_threads(const Bench& bench) {
  const auto length = std::chrono::seconds(is_long_run() ? 10 : 1);
  auto in = bench.open(Direction::rx);
  auto out = bench.open(Direction::tx);
  const auto before = bench.rig.counts();
  std::atomic<bool> sent_all{false}, fed_all{false};
  std::atomic<std::uint64_t> fed{0};
  const auto until = Clock::monotonic() + static_cast<std::uint64_t>(std::chrono::nanoseconds(length).count());

  std::jthread sender([&] {
    for (unsigned number = 0; Clock::monotonic() < until; ++number) {
      out.tx().send(make_frame(60 + number % 100, number));
      if (number % 16 == 15) out.tx().flush();
    }
    EXPECT_TRUE(out.drain(std::chrono::seconds(5)));
    sent_all = true;
  });
  std::uint64_t received = 0, received_bytes = 0;
  std::jthread receiver([&] {
    auto poller = Poller::create();
    if (bench.can().waits) {
      ASSERT_TRUE(poller->add(in.rx()).has_value());
    }
    for (int quiet = 0; quiet < 20;) {
      auto batch = in.rx().receive(64);
      received += batch.size();
      for (const auto& slot : batch) received_bytes += slot.length;
      if (batch.finish() > 0) quiet = 0;
      else if (fed_all) ++quiet;
      if (bench.can().waits) poller->wait(milliseconds(5));
    }
  });
  // The counterpart is one thread, as its hands share a port or a socket.
  std::uint64_t taken = 0;
  for (unsigned number = 0; !sent_all; ++number) {
    if (bench.rig.put_in(make_frame(60 + number % 50, number), 0)) ++fed;
    while (bench.rig.take_out(milliseconds(0))) ++taken;
  }
  fed_all = true;
  while (bench.rig.take_out(milliseconds(200))) ++taken;
  sender.join();
  receiver.join();
  in.drain();

  const auto rx = in.stats().rx;
  const auto tx = out.stats().tx;
  EXPECT_EQ(rx.received, fed) << "received and dropped frames are not what the counterpart put in";
  EXPECT_EQ(rx.delivered, received);
  EXPECT_EQ(rx.bytes, received_bytes);
  EXPECT_GT(received, 0U);
  EXPECT_GT(tx.sent, 0U);
  EXPECT_EQ(in.stats().tx.sent + out.stats().rx.received, 0U) << "a direction counted for the other";
  expect_balanced(in.stats());
  expect_balanced(out.stats());
  if (before) {
    const auto after = bench.rig.counts();
    EXPECT_EQ(after->in - before->in, rx.received);
    EXPECT_EQ(after->out - before->out, tx.sent);
    EXPECT_EQ(after->out_bytes - before->out_bytes, tx.bytes);
  }
  if (bench.can().blocks) {
    EXPECT_EQ(taken, tx.sent);
  }
}

void time_stamps(const Bench& bench) {
  constexpr std::size_t count = 90;
  const auto earliest = Clock::now();
  auto port = bench.receiving(make_frames(count));
  auto batch = receive_patiently(port.rx(), count);
  ASSERT_EQ(batch.size(), count);
  std::uint64_t last = 0;
  for (const auto& slot : batch) {
    ASSERT_NE(slot.time_source(), TimeSource::none);
    if (port.info().time_source != TimeSource::none) {
      EXPECT_EQ(slot.time_source(), port.info().time_source);
    }
    if (slot.time_source() == TimeSource::raw) continue;
    EXPECT_GT(slot.time + 1'000'000'000, earliest);
    EXPECT_LT(slot.time, Clock::now() + 1'000'000'000);
    if (slot.time_source() != TimeSource::hardware) {
      EXPECT_GE(slot.time, last) << "time ran backwards within a queue";
    }
    last = slot.time;
  }
  batch.finish();
}

void fresh_slots(const Bench& bench) {
  auto port = bench.sending();
  for (int round = 0; round < 3; ++round) {
    auto batch = port.tx().claim(8);
    ASSERT_EQ(batch.size(), 8U);
    for (std::size_t i = 0; i < 8; ++i) {
      EXPECT_EQ(batch[i].length, 0U);
      EXPECT_EQ(batch[i].offset, port.tx().headroom());
      EXPECT_EQ(batch[i].time_source(), TimeSource::clock);
      EXPECT_EQ(batch[i].flags & ~Slot::time_source_mask, 0);
      EXPECT_LT(Clock::now() - batch[i].time, 1'000'000'000U);
      EXPECT_GE(batch.space(i).size(), port.info().frame_size);
      ASSERT_TRUE(batch[i].trim_front(0));
      batch[i].length = 60;
      EXPECT_EQ(port.tx().room(batch[i]).before, batch[i].offset);
      EXPECT_EQ(port.tx().room(batch[i]).behind, port.tx().capacity() - 60);
    }
    batch.commit();
    port.tx().flush();
    while (bench.rig.take_out(milliseconds(20))) {}
    ASSERT_TRUE(port.drain());
  }
  EXPECT_GE(port.tx().capacity(), port.info().frame_size);
}

bool sends(const Capabilities& can, const Rig&) { return can.tx; }
bool receives(const Capabilities& can, const Rig&) { return can.rx; }

constexpr auto table = std::to_array<Case>({
    {"EverySnapshotAddsUp", "does not receive", receives, every_snapshot_adds_up},
    {"EverySnapshotOfASenderAddsUp", "does not send", sends, every_tx_snapshot_adds_up},
    {"CountersEqualThePeersAfterDrain", "does not send", sends, equal_after_drain},
    {"AFloodIsWaitingOrDroppedWithAReason", "its ring holds the sender back, losses are silent, or frames not live",
     [](const Capabilities& can, const Rig& rig) { return can.rx && !can.blocks && !can.silent_losses && !rig.stored(); },
     flood_is_accounted_for},
    {"TwoOpeningsInTwoThreadsCountExactly", "cannot be opened once per direction, or losses are silent",
     [](const Capabilities& can, const Rig& rig) {
       return can.rx && can.tx && can.reopen && !can.silent_losses && !rig.stored();
     },
     two_openings_in_two_threads},
    {"EverySlotHasATime", "does not receive live frames",
     [](const Capabilities& can, const Rig& rig) { return can.rx && !rig.stored(); }, time_stamps},
    {"ClaimedSlotsAreFresh", "does not send", sends, fresh_slots},
});

}  // namespace

std::span<const Case> counter_cases() { return table; }

}  // namespace efio::test
