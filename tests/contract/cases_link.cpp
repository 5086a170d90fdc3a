// Devices with a link: open means ready, and what happens when the link or the device goes.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>

#include "efio/clock.h"
#include "efio/poller.h"
#include "tests/contract/rig.h"

namespace efio::test {

namespace {

constexpr std::uint64_t second = 1'000'000'000;

void link_comes_up_late(const Bench& bench) {
  bench.rig.set_link(false);
  std::jthread other([&] {
    std::this_thread::sleep_for(std::chrono::seconds(2));
    bench.rig.set_link(true);
  });
  const auto start = Clock::monotonic();
  auto port = bench.open(bench.whole());
  const auto took = Clock::monotonic() - start;
  EXPECT_GE(took, 2 * second) << "returned before the link was up";
  EXPECT_LE(took, 4 * second) << "returned long after the link was up";
  ASSERT_TRUE(port.tx().send(make_frame(60, 1)));
  EXPECT_EQ(port.tx().flush(), 1U);
  EXPECT_TRUE(bench.rig.take_out(milliseconds(1000)).has_value()) << "open means ready: the first frame is not lost";
}

void link_never_comes(const Bench& bench) {
  bench.rig.set_link(false);
  const auto start = Clock::monotonic();
  auto port = bench.rig.open("up=1s", {.direction = bench.whole()});
  const auto took = Clock::monotonic() - start;
  EXPECT_GE(took, second / 2);
  EXPECT_LE(took, 3 * second);
  ASSERT_FALSE(port.has_value());
  EXPECT_EQ(port.error().kind, Error::Kind::device);
  EXPECT_NE(port.error().message().find(bench.rig.device()), std::string::npos) << port.error().message();
  bench.rig.set_link(true);
  EXPECT_TRUE(bench.rig.open("", {.direction = bench.whole()}).has_value()) << "a failed open leaves nothing behind";
}

void link_down_and_up(const Bench& bench) {
  auto port = bench.open(bench.whole());
  unsigned number = 0;
  const auto send_some = [&] {
    for (int i = 0; i < 20; ++i) {
      port.tx().send(make_frame(60, number++));
      port.tx().flush();
      port.rx().receive(16).finish();
    }
  };
  send_some();
  bench.rig.set_link(false);
  const auto start = Clock::monotonic();
  send_some();
  auto poller = Poller::create();
  ASSERT_TRUE(poller->add(port.rx()).has_value());
  poller->wait(milliseconds(50));
  EXPECT_LT(Clock::monotonic() - start, 5 * second) << "hung while the link was down";
  expect_balanced(port.stats());
  bench.rig.set_link(true);
  const auto until = Clock::monotonic() + 5 * second;
  while (bench.rig.take_out(milliseconds(0))) {}
  bool out = false;
  while (!out && Clock::monotonic() < until) {
    const auto frame = make_frame(61, number++);
    port.tx().send(frame);
    port.tx().flush();
    while (const auto seen = bench.rig.take_out(milliseconds(20))) out = out || *seen == frame;
  }
  EXPECT_TRUE(out) << "does not send again after the link came back";
  ASSERT_TRUE(port.rx().status().has_value()) << port.rx().status().error().message();
  while (port.rx().receive(64).finish() > 0) {}
  const auto before = port.stats().rx.delivered;
  ASSERT_TRUE(bench.rig.put_in(make_frame(60, 1), 0));
  EXPECT_EQ(receive_patiently(port.rx(), 1).finish(), 1U) << "does not receive again after the link came back";
  EXPECT_EQ(port.stats().rx.delivered, before + 1);
  port.drain();
  const auto tx = port.stats().tx;
  EXPECT_EQ(tx.offered, tx.sent + tx.total_dropped());
  expect_balanced(port.stats());
}

void deleted_during_a_run(const Bench& bench) {
  auto port = bench.open(bench.whole());
  for (unsigned i = 0; i < 10; ++i) {
    ASSERT_TRUE(bench.rig.put_in(make_frame(60, i), 0));
    ASSERT_TRUE(port.tx().send(make_frame(60, i)));
    port.tx().flush();
  }
  ASSERT_EQ(receive_patiently(port.rx(), 10).finish(6), 6U);
  auto poller = Poller::create();
  ASSERT_TRUE(poller->add(port.rx()).has_value());
  port.rx().receive(64).finish();
  std::jthread other([&] {
    std::this_thread::sleep_for(milliseconds(50));
    bench.rig.delete_device();
  });
  const auto start = Clock::monotonic();
  while (port.rx().status().has_value() && Clock::monotonic() - start < 5 * second) {
    poller->wait(milliseconds(200));
    port.rx().receive(64).finish();
  }
  ASSERT_FALSE(port.rx().status().has_value()) << "the receiver never learned that its device is gone";
  EXPECT_NE(port.rx().status().error().message().find(bench.rig.device()), std::string::npos)
      << port.rx().status().error().message();
  other.join();
  while (port.tx().status().has_value() && Clock::monotonic() - start < 10 * second) {
    port.tx().send(make_frame(60, 1));
    port.tx().flush();
    std::this_thread::sleep_for(milliseconds(1));
  }
  ASSERT_FALSE(port.tx().status().has_value()) << "the sender never learned that its device is gone";
  EXPECT_NE(port.tx().status().error().message().find(bench.rig.device()), std::string::npos);
  EXPECT_EQ(port.rx().receive(1).size(), 0U);
  EXPECT_EQ(port.tx().claim(1).size(), 0U);
  EXPECT_FALSE(poller->wait(milliseconds(1000)).empty()) << "a queue that failed is ready";
  (void)port.close();
  EXPECT_LT(Clock::monotonic() - start, 15 * second);
  const auto [rx, tx] = port.stats();
  EXPECT_EQ(rx.delivered, 10U);
  EXPECT_EQ(tx.pending, 0U);
  EXPECT_GE(tx.sent, 10U);
  expect_balanced({rx, tx});
}

bool has_link(const Capabilities& can, const Rig&) { return can.link; }

constexpr auto table = std::to_array<Case>({
    {"OpenWaitsForALinkThatComesUpLate", "has no link", has_link, link_comes_up_late},
    {"OpenGivesUpOnALinkThatNeverComes", "has no link", has_link, link_never_comes},
    {"RecoversWhenTheLinkWasDown", "has no link", has_link, link_down_and_up},
    {"TellsWhenItsDeviceIsDeleted", "has no link", has_link, deleted_during_a_run},
});

}  // namespace

std::span<const Case> link_cases() { return table; }

}  // namespace efio::test
