// sim: before a real device, whose slots cannot be exchanged: frames are copied once, the kernel's drops are the port's,
// and a device that goes takes the port with it.
#include <gtest/gtest.h>

#include <thread>

#include "efio/clock.h"
#include "efio/poller.h"
#include "efio/port.h"
#include "tests/support/netns.h"
#include "tests/support/plain_socket.h"

namespace {

using efio::DropReason;
using efio::Port;
using efio::test::PlainSocket;
using efio::test::VethPair;
using std::chrono::milliseconds;

std::vector<std::byte> frame_of(std::size_t size) {
  std::vector<std::byte> frame(size);
  frame[0] = std::byte{0x02}, frame[6] = std::byte{0x02};
  frame[12] = std::byte{0x88}, frame[13] = std::byte{0xb5};  // local experimental
  return frame;
}

Port open_in(const efio::test::Netns& ns, const std::string& uri) {
  auto port = ns.run([&] { return Port::open(uri); });
  if (!port) throw std::runtime_error(port.error().message());
  return std::move(*port);
}

std::uint64_t dropped(const efio::DropCounts& counts, DropReason reason) { return counts[static_cast<std::size_t>(reason)]; }

void expect_balanced(const Port& port) {
  const auto [rx, tx] = port.stats();
  EXPECT_EQ(rx.received + rx.made, rx.delivered + rx.waiting + rx.total_dropped());
  EXPECT_EQ(tx.offered + tx.made, tx.sent + tx.pending + tx.total_dropped());
}

// Receives until nothing has come for a while.
std::uint64_t receive_all(Port& port) {
  std::uint64_t got = 0;
  for (int quiet = 0; quiet < 50;) {
    const auto n = port.rx().receive(64).finish();
    got += n;
    if (n > 0) quiet = 0;
    else ++quiet, std::this_thread::sleep_for(milliseconds(2));
  }
  return got;
}

TEST(SimOverPacket, CountsWhatTheKernelCounts) {
  EFIO_REQUIRE_NETNS();
  const VethPair pair;
  PlainSocket far(pair.b, "vb");
  auto sim = open_in(pair.a, "sim:loss=1/10&duplicate=1/4&delay=1ms@packet:va");
  const auto before = pair.a.counters("va");
  const auto frame = frame_of(100);
  std::uint64_t came = 0;
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(far.send(frame));
    ASSERT_TRUE(sim.tx().send(frame));
    sim.tx().flush();
  }
  EXPECT_TRUE(sim.drain());
  while (far.receive(milliseconds(50))) ++came;
  const auto got = receive_all(sim);
  const auto after = pair.a.counters("va");
  const auto [rx, tx] = sim.stats();
  // Of 200: every tenth is lost; every fourth that is not, 50 - 10 of them, is doubled.
  EXPECT_EQ(dropped(rx.dropped, DropReason::lost), 20U);
  EXPECT_EQ(rx.made, 40U);
  EXPECT_EQ(got, 220U);
  EXPECT_EQ(rx.received, after.rx_packets - before.rx_packets);
  EXPECT_EQ(tx.made, 40U);
  EXPECT_EQ(tx.sent, 220U);
  EXPECT_EQ(tx.sent, after.tx_packets - before.tx_packets);
  EXPECT_EQ(tx.bytes, after.tx_bytes - before.tx_bytes);
  EXPECT_EQ(came, 220U);
  expect_balanced(sim);
}

TEST(SimOverPacket, DropsOfTheKernelAreThePorts) {
  EFIO_REQUIRE_NETNS();
  const VethPair pair;
  PlainSocket far(pair.b, "vb");
  auto sim = open_in(pair.a, "sim:seed=1@packet:va");
  const auto before = pair.a.counters("va");
  const auto frame = frame_of(1500);
  std::uint64_t sent = 0;
  // More than any default ring holds, bounded; nobody receives meanwhile.
  for (; sent < 100'000; ++sent) ASSERT_TRUE(far.send(frame));
  const auto got = receive_all(sim);
  sim.drain();
  const auto rx = sim.stats().rx;
  EXPECT_EQ(rx.received, pair.a.counters("va").rx_packets - before.rx_packets);
  EXPECT_EQ(rx.received, sent);
  EXPECT_EQ(rx.delivered, got);
  EXPECT_EQ(rx.delivered + rx.total_dropped(), sent);
  EXPECT_GT(dropped(rx.dropped, DropReason::kernel_full), 0U);
  EXPECT_GT(rx.sampled_at, 0U);
  expect_balanced(sim);
}

TEST(SimOverPacket, TellsThatItsDeviceIsGone) {
  EFIO_REQUIRE_NETNS();
  const VethPair pair;
  PlainSocket far(pair.b, "vb");
  auto sim = open_in(pair.a, "sim:delay=5ms@packet:va");
  auto poller = efio::Poller::create();
  ASSERT_TRUE(poller && poller->add(sim.rx()));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(far.send(frame_of(60)));
  EXPECT_EQ(receive_all(sim), 10U);
  pair.a.ip("link del va");
  const auto until = efio::Clock::monotonic() + 5'000'000'000;
  while (sim.rx().status() && efio::Clock::monotonic() < until) {
    poller->wait(milliseconds(100));
    sim.rx().receive(16).finish();
  }
  ASSERT_FALSE(sim.rx().status());
  EXPECT_NE(sim.rx().status().error().message().find("va"), std::string::npos);
  while (sim.tx().status() && efio::Clock::monotonic() < until) {
    sim.tx().send(frame_of(60));
    sim.tx().flush();
    std::this_thread::sleep_for(milliseconds(1));
  }
  ASSERT_FALSE(sim.tx().status());
  (void)sim.close();
  EXPECT_EQ(sim.stats().tx.pending, 0U);
  EXPECT_EQ(sim.stats().rx.delivered, 10U);
  expect_balanced(sim);
}

}  // namespace
