// packet: over a veth pair, against what the kernel counts.
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "efio/forward.h"
#include "efio/poller.h"
#include "efio/port.h"
#include "tests/support/netns.h"

namespace {

using efio::Direction;
using efio::DropReason;
using efio::Port;
using efio::test::DeviceCounters;
using efio::test::Netns;
using efio::test::VethPair;
using namespace std::chrono_literals;

std::uint64_t dropped(const efio::RxStats& stats, DropReason reason) { return stats.dropped[static_cast<std::size_t>(reason)]; }
std::uint64_t dropped(const efio::TxStats& stats, DropReason reason) { return stats.dropped[static_cast<std::size_t>(reason)]; }

std::vector<std::byte> frame_of(std::size_t size, unsigned seed = 0) {
  std::vector<std::byte> frame(size);
  for (std::size_t i = 0; i < size; ++i) frame[i] = static_cast<std::byte>(i * 7 + seed);
  // A multicast address, so that the peer's stack drops it without a word; 0x88b5 is for experiments (IEEE 802).
  const std::array<unsigned char, 14> header{0x03, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x88, 0xb5};
  std::memcpy(frame.data(), header.data(), std::min(size, header.size()));
  return frame;
}

void expect_balanced(const Port& port) {
  const auto [rx, tx] = port.stats();
  EXPECT_EQ(rx.received + rx.made, rx.delivered + rx.waiting + rx.total_dropped());
  EXPECT_EQ(tx.offered + tx.made, tx.sent + tx.pending + tx.total_dropped());
}

// Opens with settle=0, since a veth pair in a test is up for good.
Port open_in(const Netns& ns, const std::string& device, Direction direction, const std::string& options = "") {
  return ns.run([&] {
    auto port = Port::open("packet:" + device + "?settle=0" + options, {.direction = direction});
    if (!port) throw std::runtime_error(port.error().message());
    return std::move(*port);
  });
}

void send_frames(Port& port, std::size_t n, std::size_t size = 60) {
  const auto frame = frame_of(size);
  for (std::size_t sent = 0; sent < n;) {
    auto batch = port.tx().claim(std::min<std::size_t>(n - sent, 256));
    ASSERT_FALSE(batch.empty()) << port.tx().status().error().message();
    for (std::size_t i = 0; i < batch.size(); ++i) {
      std::memcpy(batch.space(i).data(), frame.data(), frame.size());
      batch[i].length = static_cast<std::uint32_t>(frame.size());
    }
    sent += batch.commit();
    port.tx().flush();
  }
  ASSERT_TRUE(port.drain());
}

// Receives and finishes until nothing has come for 50 ms. Returns the frames.
std::vector<std::vector<std::byte>> receive_all(Port& port, std::size_t queue = 0) {
  std::vector<std::vector<std::byte>> frames;
  // Found empty so often in a row: time alone says nothing on a machine where this thread may not run for long.
  for (int empty = 0; empty < 25;) {
    auto batch = port.rx(queue).receive(64);
    for (const auto& slot : batch) frames.emplace_back(slot.bytes().begin(), slot.bytes().end());
    if (batch.empty()) {
      ++empty;
      std::this_thread::sleep_for(2ms);
    } else {
      empty = 0;
    }
    batch.finish();
  }
  return frames;
}

// The same until so many frames are received (and delivered, or lost in the kernel where this thread did not run for long),
// ten seconds at most.
void receive_until(Port& port, std::uint64_t frames) {
  const auto until = std::chrono::steady_clock::now() + 10s;
  for (auto stats = port.stats().rx; stats.delivered + stats.total_dropped() < frames; stats = port.stats().rx) {
    if (std::chrono::steady_clock::now() > until) return;
    port.rx().receive(64).finish();
  }
}

class Packet : public testing::Test {
 protected:
  void SetUp() override {
    EFIO_REQUIRE_NETNS();
    pair.emplace();
  }
  std::optional<VethPair> pair;
};

TEST_F(Packet, SaysWhatItObtained) {
  pair->a.ip("link set va address 02:00:00:00:00:0a mtu 1400");
  const auto port = open_in(pair->a, "va", Direction::both);
  const auto& info = port.info();
  EXPECT_EQ(info.engine, "packet");
  EXPECT_EQ(info.mode, "TPACKET_V3, sendmmsg, qdisc bypass");
  EXPECT_EQ(info.device, "va");
  EXPECT_EQ(info.mtu, 1400U);
  EXPECT_EQ((*info.mac)[5], 0x0a);
  EXPECT_EQ(info.link_bits, 0U);
  EXPECT_EQ(info.headroom, 128U);
  EXPECT_EQ(info.frame_size, 1920U);
  EXPECT_EQ(info.time_source, efio::TimeSource::kernel);
  EXPECT_GT(info.queue_bytes, std::size_t{16} << 20);
}

TEST_F(Packet, AutoChoosesAnEngineForADevice) {
  const auto port = pair->a.run([] { return Port::open("va"); });
  ASSERT_TRUE(port.has_value()) << port.error().message();
  EXPECT_EQ(port->info().engine, "packet");
  EXPECT_FALSE(port->info().why.empty());
}

TEST_F(Packet, CarriesEverySize) {
  auto a = open_in(pair->a, "va", Direction::tx);
  auto b = open_in(pair->b, "vb", Direction::rx);
  std::vector<std::vector<std::byte>> sent;
  for (std::size_t size = 14; size <= 1514; size += size < 128 ? 1 : 25) sent.push_back(frame_of(size, static_cast<unsigned>(size)));
  for (const auto& frame : sent) ASSERT_TRUE(a.tx().send(frame));
  a.tx().flush();
  EXPECT_EQ(receive_all(b), sent);
  expect_balanced(a);
  expect_balanced(b);
}

TEST_F(Packet, SlotsHaveKernelTimeAndHeadroom) {
  auto a = open_in(pair->a, "va", Direction::tx);
  auto b = open_in(pair->b, "vb", Direction::rx);
  const auto before = efio::Clock::now();
  ASSERT_TRUE(a.tx().send(frame_of(60)));
  ASSERT_TRUE(a.tx().send(frame_of(61)));
  a.tx().flush();
  std::this_thread::sleep_for(5ms);
  auto batch = b.rx().receive(2);
  ASSERT_EQ(batch.size(), 2U);
  for (auto& slot : batch) {
    EXPECT_EQ(slot.time_source(), efio::TimeSource::kernel);
    EXPECT_GT(slot.time + 1'000'000, before);
    EXPECT_LT(slot.time, efio::Clock::now() + 1'000'000);
    EXPECT_GE(b.rx().room(slot).before, 128U);
    EXPECT_EQ(b.rx().room(slot).behind, 0U) << "the next frame lies there";
    EXPECT_EQ(slot.frame, efio::no_frame);
  }
  const auto second = frame_of(61);
  auto& first = batch[0];
  ASSERT_TRUE(first.prepend(128));
  std::memset(first.buffer + first.offset, 0xEE, 128);
  EXPECT_TRUE(std::ranges::equal(batch[1].bytes(), second));
}

TEST_F(Packet, CountsAsTheKernelDoesInBothDirections) {
  constexpr std::size_t n = 100'000;
  auto a = open_in(pair->a, "va", Direction::both);
  auto b = open_in(pair->b, "vb", Direction::both);
  const auto a_before = pair->a.counters("va"), b_before = pair->b.counters("vb");
  std::thread reader([&] { receive_until(b, n); });
  send_frames(a, n);
  reader.join();
  reader = std::thread([&] { receive_until(a, n / 2); });
  send_frames(b, n / 2);
  reader.join();
  a.drain();
  b.drain();

  const auto a_after = pair->a.counters("va"), b_after = pair->b.counters("vb");
  EXPECT_EQ(a.stats().tx.sent, a_after.tx_packets - a_before.tx_packets);
  EXPECT_EQ(a.stats().tx.bytes, a_after.tx_bytes - a_before.tx_bytes);
  EXPECT_EQ(a.stats().rx.received, a_after.rx_packets - a_before.rx_packets);
  EXPECT_EQ(b.stats().rx.received, b_after.rx_packets - b_before.rx_packets);
  EXPECT_EQ(b.stats().rx.bytes + 60 * b.stats().rx.total_dropped(), b_after.rx_bytes - b_before.rx_bytes);
  EXPECT_EQ(b.stats().tx.sent, b_after.tx_packets - b_before.tx_packets);
  EXPECT_EQ(a.stats().tx.sent, n);
  EXPECT_EQ(b.stats().rx.delivered + dropped(b.stats().rx, DropReason::kernel_full), n);
  expect_balanced(a);
  expect_balanced(b);
}

TEST_F(Packet, DoesNotReceiveWhatItSends) {
  auto a = open_in(pair->a, "va", Direction::both);
  auto second = open_in(pair->a, "va", Direction::rx);
  send_frames(a, 10);
  EXPECT_EQ(receive_all(a).size(), 0U);
  EXPECT_EQ(receive_all(second).size(), 0U);
}

TEST_F(Packet, EveryOpeningSeesEveryFrame) {
  auto a = open_in(pair->a, "va", Direction::tx);
  auto one = open_in(pair->b, "vb", Direction::rx);
  auto two = open_in(pair->b, "vb", Direction::rx);
  send_frames(a, 100);
  EXPECT_EQ(receive_all(one).size(), 100U);
  EXPECT_EQ(receive_all(two).size(), 100U);
}

TEST_F(Packet, KernelDropsAreCountedToTheFrame) {
  constexpr std::size_t n = 20'000;
  auto a = open_in(pair->a, "va", Direction::tx);
  auto b = open_in(pair->b, "vb", Direction::rx, "&block=4096&blocks=16");
  send_frames(a, n);
  b.drain();
  auto stats = b.stats().rx;
  EXPECT_EQ(stats.received, n);
  EXPECT_GT(dropped(stats, DropReason::kernel_full), 0U);
  EXPECT_EQ(stats.waiting + dropped(stats, DropReason::kernel_full), n);
  EXPECT_GT(stats.sampled_at, 0U);
  expect_balanced(b);

  const auto kept = receive_all(b).size();
  EXPECT_EQ(kept, stats.waiting);
  stats = b.stats().rx;
  EXPECT_EQ(stats.received, n);
  EXPECT_EQ(stats.delivered + dropped(stats, DropReason::kernel_full), n);
  expect_balanced(b);
}

TEST_F(Packet, WhatIsNotReadCountsAsClosed) {
  constexpr std::size_t n = 5'000;
  auto a = open_in(pair->a, "va", Direction::tx);
  auto b = open_in(pair->b, "vb", Direction::rx);
  send_frames(a, n);
  b.rx().receive(10).finish();
  ASSERT_TRUE(b.close().has_value());
  const auto stats = b.stats().rx;
  EXPECT_EQ(stats.received, n);
  EXPECT_EQ(stats.delivered + dropped(stats, DropReason::closed) + dropped(stats, DropReason::kernel_full), n);
  EXPECT_EQ(stats.waiting, 0U);
}

TEST_F(Packet, ReadsOnWhereBlocksAreHeldByUnfinishedSlots) {
  auto a = open_in(pair->a, "va", Direction::tx);
  auto b = open_in(pair->b, "vb", Direction::rx, "&block=4096&blocks=4&ring=128");
  std::size_t delivered = 0;
  for (int round = 0; round < 200; ++round) {
    send_frames(a, 40, 60 + static_cast<std::size_t>(round));
    std::this_thread::sleep_for(2ms);
    for (;;) {
      auto batch = b.rx().receive(16);
      if (batch.empty()) break;
      for (const auto& slot : batch) ASSERT_EQ(slot.length, 60 + round);
      delivered += batch.finish(batch.size() > 1 ? batch.size() - 1 : 1);
    }
  }
  b.drain();
  const auto stats = b.stats().rx;
  EXPECT_EQ(stats.delivered, delivered);
  EXPECT_EQ(stats.received, 200U * 40);
  EXPECT_EQ(stats.delivered + dropped(stats, DropReason::kernel_full), stats.received);
  expect_balanced(b);
}

TEST_F(Packet, OversizeFramesAreDroppedByName) {
  auto a = open_in(pair->a, "va", Direction::tx);
  auto b = open_in(pair->b, "vb", Direction::rx, "&frame=500");
  send_frames(a, 3, 500);
  send_frames(a, 5, 501);
  send_frames(a, 2, 60);
  EXPECT_EQ(receive_all(b).size(), 5U);
  const auto stats = b.stats().rx;
  EXPECT_EQ(dropped(stats, DropReason::oversize), 5U);
  EXPECT_EQ(stats.received, 10U);
  expect_balanced(b);
}

TEST_F(Packet, SenderNamesWhatTheKernelRefuses) {
  auto a = open_in(pair->a, "va", Direction::tx);
  ASSERT_TRUE(a.tx().send(frame_of(60)));
  ASSERT_TRUE(a.tx().send(frame_of(13)));
  ASSERT_TRUE(a.tx().send(frame_of(1600)));
  ASSERT_TRUE(a.tx().send(frame_of(1514)));
  EXPECT_EQ(a.tx().flush(), 2U);
  const auto stats = a.stats().tx;
  EXPECT_EQ(stats.sent, 2U);
  EXPECT_EQ(dropped(stats, DropReason::undersize), 1U);
  EXPECT_EQ(dropped(stats, DropReason::oversize), 1U);
  EXPECT_EQ(stats.pending, 0U);
  EXPECT_EQ(pair->a.counters("va").tx_packets, 2U);
  expect_balanced(a);
}

TEST_F(Packet, SendsAFrameOfSeveralSlots) {
  auto a = open_in(pair->a, "va", Direction::tx);
  auto b = open_in(pair->b, "vb", Direction::rx);
  const auto whole = frame_of(90);
  auto batch = a.tx().claim(4);
  ASSERT_EQ(batch.size(), 4U);
  for (std::size_t i = 0; i < 3; ++i) {
    std::memcpy(batch.space(i).data(), whole.data() + 30 * i, 30);
    batch[i].length = 30;
    if (i < 2) batch[i].flags |= efio::Slot::more;
  }
  std::memcpy(batch.space(3).data(), whole.data(), 60);
  batch[3].length = 60;
  EXPECT_EQ(batch.commit(), 4U);
  EXPECT_EQ(a.tx().flush(), 2U);
  const auto frames = receive_all(b);
  ASSERT_EQ(frames.size(), 2U);
  EXPECT_EQ(frames[0], whole);
  EXPECT_EQ(frames[1].size(), 60U);
  expect_balanced(a);
}

// Tags: the kernel takes the outer one off on its way up; each comes back with its own protocol number.
TEST_F(Packet, PutsVlanTagsBack) {
  auto a = open_in(pair->a, "va", Direction::tx);
  auto b = open_in(pair->b, "vb", Direction::rx);
  const auto tagged = [](std::vector<unsigned> tags) {
    auto frame = frame_of(100);
    std::vector<std::byte> bytes;
    for (const auto tag : tags)
      for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<std::byte>(tag >> shift & 0xFF));
    frame.insert(frame.begin() + 12, bytes.begin(), bytes.end());
    return frame;
  };
  const std::vector<std::vector<std::byte>> sent = {tagged({0x8100'a123}), tagged({0x88a8'0005}),
                                                    tagged({0x88a8'6007, 0x8100'0008}), tagged({}), tagged({0x8100'0000})};
  for (const auto& frame : sent) ASSERT_TRUE(a.tx().send(frame));
  a.tx().flush();
  EXPECT_EQ(receive_all(b), sent);
  expect_balanced(b);
}

TEST_F(Packet, FanoutSpreadsAndTheSumIsExact) {
  constexpr std::size_t n = 20'000;
  auto a = open_in(pair->a, "va", Direction::tx);
  auto b = open_in(pair->b, "vb", Direction::rx, "&queues=4");
  ASSERT_EQ(b.rx_queues(), 4U);
  // UDP flows, told apart by their ports.
  auto frame = frame_of(60);
  const std::array<unsigned char, 28> ip_udp{0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 9, 0, 26, 0, 0};
  frame[12] = std::byte{8}, frame[13] = std::byte{0};
  std::memcpy(frame.data() + 14, ip_udp.data(), ip_udp.size());
  for (std::size_t i = 0; i < n; ++i) {
    frame[34] = static_cast<std::byte>(i >> 8), frame[35] = static_cast<std::byte>(i);
    while (!a.tx().send(frame)) a.tx().flush();
  }
  ASSERT_TRUE(a.drain());
  std::size_t sum = 0;
  for (std::size_t q = 0; q < 4; ++q) {
    const auto got = receive_all(b, q).size();
    EXPECT_GT(got, n / 16) << "queue " << q;
    EXPECT_EQ(b.rx(q).stats().delivered, got);
    sum += got;
  }
  b.drain();
  EXPECT_EQ(sum + dropped(b.stats().rx, DropReason::kernel_full), n);
  EXPECT_EQ(b.stats().rx.received, n);
}

TEST_F(Packet, ASecondOpeningJoinsByFanoutNumber) {
  constexpr std::size_t n = 1'000;
  auto a = open_in(pair->a, "va", Direction::tx);
  auto one = open_in(pair->b, "vb", Direction::rx, "&fanout=7&spread=turns");
  auto two = open_in(pair->b, "vb", Direction::rx, "&fanout=7&spread=turns");
  send_frames(a, n);
  EXPECT_EQ(receive_all(one).size(), n / 2);
  EXPECT_EQ(receive_all(two).size(), n / 2);
  const auto other = pair->b.run([] { return Port::open("packet:vb?settle=0&fanout=7", {.direction = Direction::rx}); });
  ASSERT_FALSE(other.has_value());
  EXPECT_NE(other.error().message().find("spread="), std::string::npos) << other.error().message();
}

TEST_F(Packet, IsPromiscuousWhileOpenForReceiving) {
  const auto promiscuous = [&] { return pair->b.shell("ip -d link show vb").find("promiscuity 1") != std::string::npos; };
  {
    auto b = open_in(pair->b, "vb", Direction::rx);
    EXPECT_TRUE(promiscuous());
    auto off = open_in(pair->b, "vb", Direction::rx, "&promisc=off");
    ASSERT_TRUE(b.close().has_value());
    EXPECT_FALSE(promiscuous());
  }
  auto tx = open_in(pair->b, "vb", Direction::tx);
  EXPECT_FALSE(promiscuous());
}

TEST_F(Packet, LinkDownLosesFramesByNameAndRecovers) {
  auto a = open_in(pair->a, "va", Direction::both);
  auto b = open_in(pair->b, "vb", Direction::both);
  send_frames(a, 10);
  EXPECT_EQ(receive_all(b).size(), 10U);

  for (const bool own_side : {true, false}) {
    const Netns& ns = own_side ? pair->a : pair->b;
    const std::string device = own_side ? "va" : "vb";
    const auto before = a.stats().tx;
    ns.ip("link set " + device + " down");
    send_frames(a, 10);
    const auto after = a.stats().tx;
    EXPECT_EQ(dropped(after, DropReason::link_down) - dropped(before, DropReason::link_down), 10U) << own_side;
    EXPECT_EQ(after.sent, before.sent);
    EXPECT_TRUE(receive_all(b).empty());
    ns.ip("link set " + device + " up");
    send_frames(a, 10);
    EXPECT_EQ(a.stats().tx.sent, before.sent + 10);
    EXPECT_EQ(receive_all(b).size(), 10U) << own_side;
    // Netlink may tell of it a second later.
    const std::uint64_t downs = own_side ? 1 : 2;
    for (const auto end = std::chrono::steady_clock::now() + 5s; a.link_downs() < downs && std::chrono::steady_clock::now() < end;)
      std::this_thread::sleep_for(1ms);
    EXPECT_EQ(a.link_downs(), downs);
  }
  const auto kernel = pair->a.counters("va");
  EXPECT_EQ(a.stats().tx.sent, kernel.tx_packets);
  EXPECT_TRUE(a.rx().status().has_value());
  EXPECT_TRUE(b.rx().status().has_value());
  expect_balanced(a);
  expect_balanced(b);
}

TEST_F(Packet, DeletedInterfaceFailsBothQueuesByName) {
  auto a = open_in(pair->a, "va", Direction::both);
  send_frames(a, 3);
  pair->a.ip("link del va");
  ASSERT_TRUE(a.tx().send(frame_of(60)));
  a.tx().flush();
  ASSERT_FALSE(a.tx().status().has_value());
  EXPECT_NE(a.tx().status().error().message().find("the interface va was deleted"), std::string::npos);
  EXPECT_EQ(dropped(a.stats().tx, DropReason::device_gone), 1U);

  auto poller = efio::Poller::create();
  ASSERT_TRUE(poller->add(a.rx()).has_value());
  const auto until = std::chrono::steady_clock::now() + 2s;
  while (a.rx().status().has_value() && std::chrono::steady_clock::now() < until) poller->wait(100ms);
  ASSERT_FALSE(a.rx().status().has_value());
  EXPECT_NE(a.rx().status().error().message().find("the interface va was deleted"), std::string::npos);
  EXPECT_EQ(a.rx().receive(1).size(), 0U);
  EXPECT_EQ(a.tx().claim(1).size(), 0U);
  expect_balanced(a);
}

TEST_F(Packet, DeletionWakesASleepingPollerAndNothingReceivedIsLost) {
  auto a = open_in(pair->a, "va", Direction::tx);
  auto b = open_in(pair->b, "vb", Direction::rx);
  auto poller = efio::Poller::create();
  ASSERT_TRUE(poller->add(b.rx()).has_value());
  std::thread deleter([&] {
    std::this_thread::sleep_for(100ms);
    send_frames(a, 7);
    pair->b.ip("link del vb");
  });
  std::size_t got = 0;
  const auto until = std::chrono::steady_clock::now() + 5s;
  while (b.rx().status().has_value() && std::chrono::steady_clock::now() < until) {
    poller->wait(5s);
    auto batch = b.rx().receive(64);
    got += batch.size();
    batch.finish();
  }
  deleter.join();
  EXPECT_FALSE(b.rx().status().has_value());
  EXPECT_EQ(got, 7U);
}

TEST_F(Packet, PollerWakesForFramesAndSleepsWithout) {
  auto a = open_in(pair->a, "va", Direction::tx);
  auto b = open_in(pair->b, "vb", Direction::rx);
  auto poller = efio::Poller::create();
  ASSERT_TRUE(poller->add(b.rx()).has_value());
  EXPECT_TRUE(poller->wait(50ms).empty());
  send_frames(a, 1);
  const auto ready = poller->wait(2s);
  ASSERT_EQ(ready.size(), 1U);
  EXPECT_EQ(ready[0].rx, &b.rx());
  auto batch = b.rx().receive(8);
  EXPECT_EQ(batch.size(), 1U);
  batch.finish();
  EXPECT_TRUE(poller->wait(20ms).empty());
}

TEST_F(Packet, TakenFrameOutlivesItsBlock) {
  auto a = open_in(pair->a, "va", Direction::tx);
  auto b = open_in(pair->b, "vb", Direction::rx);
  send_frames(a, 1, 99);
  std::this_thread::sleep_for(5ms);
  auto batch = b.rx().receive(1);
  ASSERT_EQ(batch.size(), 1U);
  auto frame = batch.take(0);
  ASSERT_TRUE(frame.has_value());
  batch.finish();
  ASSERT_TRUE(b.close().has_value());
  EXPECT_TRUE(std::ranges::equal(frame->bytes(), frame_of(99)));
}

TEST_F(Packet, BadRequestsAreRefusedWithAReason) {
  const auto refused = [&](const std::string& uri) {
    const auto port = pair->a.run([&] { return Port::open(uri); });
    EXPECT_FALSE(port.has_value()) << uri;
    return port ? std::string() : port.error().message();
  };
  EXPECT_NE(refused("packet:nosuch0").find("there is no interface nosuch0"), std::string::npos);
  EXPECT_NE(refused("packet:a_name_of_17_char").find("too many"), std::string::npos);
  EXPECT_NE(refused("packet:va?ring=0").find("ring=0"), std::string::npos);
  EXPECT_NE(refused("packet:va?block=5000").find("multiple"), std::string::npos);
  EXPECT_NE(refused("packet:va?block=64Mi&blocks=65536").find("2 GiB"), std::string::npos);
  EXPECT_NE(refused("packet:va?block=4096&frame=4000").find("block=8192"), std::string::npos);
  EXPECT_NE(refused("packet:va?queues=65").find("queues=65"), std::string::npos);
  EXPECT_NE(refused("packet:va?sped=1").find("no option sped"), std::string::npos);
  EXPECT_NE(refused("packet:va?promisc=maybe").find("on or off"), std::string::npos);
  if (::access("/dev/net/tun", R_OK) == 0) {
    pair->a.ip("tuntap add dev tun0 mode tun");
    EXPECT_NE(refused("packet:tun0").find("no Ethernet header"), std::string::npos);
  }
}

TEST_F(Packet, WithoutThePrivilegeItSaysWhatIsMissing) {
  // The effective capabilities are a thread's own: this one gives CAP_NET_RAW up and ends.
  const auto message = pair->a.run([] {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct data[2] = {};
    if (::syscall(SYS_capset, &header, data) != 0) return std::string("capset failed");
    const auto port = Port::open("packet:va?settle=0");
    return port ? std::string("opened") : port.error().message();
  });
  EXPECT_EQ(message,
            "open packet:va?settle=0: AF_PACKET needs root or CAP_NET_RAW; run as root, or `sudo setcap cap_net_raw+ep "
            "PROGRAM`");
}

TEST_F(Packet, WaitsForTheLinkAndSaysWhenItDoesNotCome) {
  pair->b.ip("link set vb down");
  auto never = pair->a.run([] { return Port::open("packet:va?up=0.2"); });
  ASSERT_FALSE(never.has_value());
  EXPECT_NE(never.error().message().find("did not come up within 0.2 s"), std::string::npos) << never.error().message();
  std::thread later([&] {
    std::this_thread::sleep_for(300ms);
    pair->b.ip("link set vb up");
  });
  auto port = pair->a.run([] { return Port::open("packet:va"); });
  later.join();
  EXPECT_TRUE(port.has_value()) << port.error().message();
}

}  // namespace
