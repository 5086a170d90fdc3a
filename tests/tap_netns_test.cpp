// tap: with the host's network stack on the other side, against what the kernel counts.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <thread>
#include <vector>

#include "efio/forward.h"
#include "efio/poller.h"
#include "efio/port.h"
#include "tests/support/netns.h"
#include "tests/support/plain_socket.h"

namespace {

using efio::Direction;
using efio::DropReason;
using efio::Fd;
using efio::Port;
using efio::test::Netns;
using namespace std::chrono_literals;

std::vector<std::byte> frame_of(std::size_t size, unsigned seed = 0) {
  std::vector<std::byte> frame(size);
  for (std::size_t i = 0; i < size; ++i) frame[i] = static_cast<std::byte>(i * 7 + seed);
  // A multicast address, so that the stack drops it without a word; 0x88b5 is for experiments (IEEE 802).
  const std::array<unsigned char, 14> header{0x03, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x88, 0xb5};
  std::memcpy(frame.data(), header.data(), std::min(size, header.size()));
  return frame;
}

template <class Stats>
std::uint64_t dropped(const Stats& stats, DropReason reason) {
  return stats.dropped[static_cast<std::size_t>(reason)];
}

void expect_balanced(const Port& port) {
  const auto [rx, tx] = port.stats();
  EXPECT_EQ(rx.received + rx.made, rx.delivered + rx.waiting + rx.total_dropped());
  EXPECT_EQ(tx.offered + tx.made, tx.sent + tx.pending + tx.total_dropped());
}

class Tap : public testing::Test {
 protected:
  void SetUp() override {
    EFIO_REQUIRE_NETNS();
    EFIO_REQUIRE(std::filesystem::exists("/dev/net/tun"), "needs /dev/net/tun");
    ns.emplace();
  }
  efio::Result<Port> try_open(const std::string& name, Direction direction = Direction::both) const {
    return ns->run([&] { return Port::open("tap:" + name, {.direction = direction}); });
  }
  Port open(const std::string& name, Direction direction = Direction::both) const {
    auto port = try_open(name, direction);
    if (!port) throw std::runtime_error(port.error().message());
    return std::move(*port);
  }
  bool exists(const std::string& name) const {
    return ns->shell("ip -o link show").find(" " + name + ":") != std::string::npos;
  }

  std::optional<Netns> ns;
};

TEST_F(Tap, IsMadeAtOpenAndRemovedAtClose) {
  auto port = open("t0?settle=0&mtu=1400");
  const auto& info = port.info();
  EXPECT_EQ(info.mode, "1 queue");
  EXPECT_EQ(info.device, "t0");
  EXPECT_EQ(info.mtu, 1400U);
  EXPECT_EQ(info.frame_size, 1920U);
  EXPECT_EQ(info.link_bits, 0U);
  EXPECT_NE(ns->shell("ip -o link show t0").find("LOWER_UP"), std::string::npos);
  ASSERT_TRUE(port.close().has_value());
  EXPECT_FALSE(exists("t0")) << "closed is closed, though the port object lives";
  auto again = open("t0?settle=0");
  auto poller = efio::Poller::create();
  ASSERT_TRUE(poller->add(again.rx()).has_value());
  ASSERT_TRUE(again.close().has_value());
  poller->remove(again.rx());
  EXPECT_FALSE(exists("t0")) << "closed, and removed from its poller";
}

TEST_F(Tap, StaysWhenAskedToAndIsFoundAgain) {
  { auto port = open("t0?settle=0&persist=on"); }
  ASSERT_TRUE(exists("t0"));
  { auto port = open("t0?settle=0"); }
  ASSERT_TRUE(exists("t0")) << "what was there before stays";
  { auto port = open("t0?settle=0&persist=off"); }
  EXPECT_FALSE(exists("t0")) << "unless told not to";
  ns->ip("tuntap add dev t0 mode tap multi_queue");
  EXPECT_EQ(open("t0?settle=0").rx_queues(), 1U);
  EXPECT_EQ(open("t0?settle=0&queues=3").rx_queues(), 3U);
}

TEST_F(Tap, NumbersDevicesByItself) {
  auto first = open("tn%d?settle=0"), second = open("tn%25d?settle=0");
  EXPECT_EQ(first.info().device, "tn0");
  EXPECT_EQ(second.info().device, "tn1");
  EXPECT_TRUE(exists("tn1"));
}

TEST_F(Tap, RefusesWithAReason) {
  const auto message = [&](const std::string& name) {
    auto port = try_open(name);
    return port ? std::string("opened") : port.error().message();
  };
  EXPECT_NE(message("much_too_long_a_name").find("20 characters are too many"), std::string::npos);
  EXPECT_NE(message("t%25s").find("the kernel takes no such name"), std::string::npos);
  EXPECT_NE(message("t0?mtu=7").find("mtu=7 is not possible"), std::string::npos);
  EXPECT_NE(message("t0?queues=0").find("queues=0"), std::string::npos);
  EXPECT_NE(message("t0?queue=1").find("queue 1 of 1"), std::string::npos);
  EXPECT_FALSE(exists("t0")) << "a failed open leaves nothing behind";
  ns->ip("link add d0 type veth peer name d1");
  EXPECT_NE(message("d0").find("it exists and is no TAP device"), std::string::npos);

  // Held by somebody else: a descriptor that the library does not know.
  const auto other = ns->run([] {
    Fd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    ifreq request{};
    std::strcpy(request.ifr_name, "t1");
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    EXPECT_EQ(::ioctl(fd.get(), TUNSETIFF, &request), 0);
    return fd;
  });
  EXPECT_NE(message("t1").find("another program holds it"), std::string::npos) << message("t1");

  auto port = open("t2?settle=0&queues=2", Direction::rx);
  EXPECT_NE(message("t2?queue=0").find("queue 0 open already in this direction"), std::string::npos);
  EXPECT_NE(message("t2?queues=3").find("open with queues=2&offload=off"), std::string::npos);
  EXPECT_TRUE(try_open("t2?settle=0", Direction::tx).has_value());
}

TEST_F(Tap, OpensOfOneQueueShareIt) {
  auto in = std::make_optional(open("t0?settle=0", Direction::rx));
  auto out = std::make_optional(open("t0?settle=0", Direction::tx));
  efio::test::PlainSocket far(*ns, "t0");
  const auto frame = frame_of(100);
  ASSERT_TRUE(out->tx().send(frame));
  EXPECT_EQ(out->tx().flush(), 1U);
  EXPECT_EQ(far.receive(1s), frame);
  ASSERT_TRUE(far.send(frame));
  EXPECT_EQ(in->rx().receive(4).size(), 1U);
  in.reset();
  EXPECT_TRUE(exists("t0")) << "one user is left";
  in.emplace(open("t0?settle=0", Direction::rx));
  ASSERT_TRUE(far.send(frame));
  EXPECT_EQ(in->rx().receive(4).size(), 1U);
  in.reset(), out.reset();
  EXPECT_FALSE(exists("t0"));
}

// Answers ARP and ICMP echo requests for any address but the kernel's own, as a host behind the TAP would.
void answer(Port& port, std::atomic<bool>& end) {
  auto poller = efio::Poller::create();
  ASSERT_TRUE(poller->add(port.rx()).has_value());
  const auto swap = [](std::byte* bytes, std::size_t a, std::size_t b, std::size_t n) {
    std::swap_ranges(bytes + a, bytes + a + n, bytes + b);
  };
  while (!end) {
    poller->wait(20ms);
    auto batch = port.rx().receive(64);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      auto* bytes = batch[i].bytes().data();
      const std::array<std::byte, 6> mine{std::byte{2}, {}, {}, {}, {}, std::byte{9}};
      if (bytes[12] == std::byte{8} && bytes[13] == std::byte{6}) {  // ARP: the answer comes from the one asked for
        bytes[21] = std::byte{2};
        swap(bytes, 22, 32, 10);
        std::memcpy(bytes + 22, mine.data(), 6);
      } else if (bytes[12] == std::byte{8} && bytes[13] == std::byte{0} && bytes[23] == std::byte{1} && bytes[34] == std::byte{8}) {
        swap(bytes, 26, 30, 4);
        bytes[34] = std::byte{0};  // an echo reply; the sum grows by what the type lost
        std::uint32_t sum = std::to_integer<std::uint32_t>(bytes[36]) * 256 + std::to_integer<std::uint32_t>(bytes[37]) + 0x0800;
        sum = (sum & 0xffff) + (sum >> 16);
        bytes[36] = static_cast<std::byte>(sum >> 8), bytes[37] = static_cast<std::byte>(sum);
      } else {
        batch.drop(i, DropReason::filtered);
        continue;
      }
      std::memcpy(bytes, bytes + 6, 6);
      std::memcpy(bytes + 6, mine.data(), 6);
    }
    efio::forward(batch, port.tx());
    port.tx().flush();
  }
}

TEST_F(Tap, TheKernelPingsAProgram) {
  auto port = open("t0?settle=0");
  ns->ip("address add 10.9.0.1/24 dev t0");
  std::atomic<bool> end{false};
  std::jthread program([&] { answer(port, end); });
  const auto said = ns->shell("ping -c 200 -i 0.002 -w 10 -q 10.9.0.2");
  EXPECT_NE(said.find("200 packets transmitted, 200 received"), std::string::npos) << said;
  end = true;
  program.join();
  ASSERT_TRUE(port.drain());
  const auto [rx, tx] = port.stats();
  const auto kernel = ns->counters("t0");
  EXPECT_EQ(kernel.rx_packets, tx.sent);
  EXPECT_EQ(kernel.rx_bytes, tx.bytes);
  EXPECT_EQ(kernel.tx_packets + kernel.tx_dropped, rx.received);
  EXPECT_GE(rx.delivered, 200U);
  expect_balanced(port);
}

TEST_F(Tap, WhatTheKernelHadNoRoomForIsCounted) {
  auto port = open("t0?settle=0", Direction::rx);
  efio::test::PlainSocket far(*ns, "t0");
  for (unsigned i = 0; i < 2000; ++i) far.send(frame_of(60, i));
  std::size_t got = 0;
  for (std::size_t n = 1; n > 0; got += n) n = port.rx().receive(64).finish();
  ASSERT_TRUE(port.drain());
  auto rx = port.stats().rx;
  const auto kernel = ns->counters("t0");
  EXPECT_EQ(got, kernel.tx_packets);
  EXPECT_EQ(dropped(rx, DropReason::kernel_full), kernel.tx_dropped);
  EXPECT_EQ(kernel.tx_packets + kernel.tx_dropped, 2000U);
  EXPECT_EQ(rx.received, 2000U);
  EXPECT_GT(kernel.tx_dropped, 0U);
  EXPECT_GT(rx.sampled_at, 0U);

  for (unsigned i = 0; i < 1000; ++i) far.send(frame_of(60, i));
  const auto at_end = ns->counters("t0");
  ASSERT_TRUE(port.close().has_value());
  rx = port.stats().rx;
  EXPECT_EQ(dropped(rx, DropReason::kernel_full), at_end.tx_dropped) << "exact at close, too";
  expect_balanced(port);
}

TEST_F(Tap, ADownInterfaceIsANamedDropAndRecovers) {
  auto port = open("t0?settle=0");
  const auto send = [&] {
    for (unsigned i = 0; i < 10; ++i) ASSERT_TRUE(port.tx().send(frame_of(60, i)));
    port.tx().flush();
  };
  send();
  ns->ip("link set t0 down");
  send();
  ns->ip("link set t0 up");
  send();
  const auto tx = port.stats().tx;
  EXPECT_EQ(tx.sent, 20U);
  EXPECT_EQ(dropped(tx, DropReason::link_down), 10U);
  EXPECT_EQ(ns->counters("t0").rx_packets, 20U);
  EXPECT_TRUE(port.tx().status().has_value());
  expect_balanced(port);
}

TEST_F(Tap, KeepsWorkingInTheNamespaceItIsMovedTo) {
  auto port = open("t0?settle=0");
  const Netns elsewhere;
  ns->ip("link set t0 netns " + elsewhere.path());
  elsewhere.ip("link set t0 up");
  efio::test::PlainSocket far(elsewhere, "t0");
  ASSERT_TRUE(port.tx().send(frame_of(77)));
  EXPECT_EQ(port.tx().flush(), 1U);
  EXPECT_EQ(far.receive(1s), frame_of(77));
  ASSERT_TRUE(far.send(frame_of(78)));
  EXPECT_EQ(port.rx().receive(4).size(), 1U);
  EXPECT_TRUE(port.rx().status().has_value());
}

TEST_F(Tap, LongShortAndFragmentedFrames) {
  auto port = open("t0?settle=0&frame=600&mtu=1500");
  efio::test::PlainSocket far(*ns, "t0");
  const auto largest = port.info().frame_size;
  ASSERT_TRUE(far.send(frame_of(largest + 1)));
  ASSERT_TRUE(far.send(frame_of(largest + 700)));
  ASSERT_TRUE(far.send(frame_of(largest)));
  auto batch = port.rx().receive(8);
  ASSERT_EQ(batch.size(), 1U);
  EXPECT_TRUE(std::ranges::equal(batch[0].bytes(), frame_of(largest)));
  EXPECT_EQ(dropped(port.stats().rx, DropReason::oversize), 2U);

  auto parts = port.tx().claim(4);
  const auto whole = frame_of(1000);
  for (std::size_t i = 0; i < 2; ++i) {
    std::memcpy(parts.space(i).data(), whole.data() + 500 * i, 500);
    parts[i].length = 500;
  }
  parts[0].flags |= efio::Slot::more;
  parts[2].length = 13;
  parts[3].length = 60;
  std::memcpy(parts.space(3).data(), frame_of(60).data(), 60);
  EXPECT_EQ(parts.commit(), 4U);
  EXPECT_EQ(port.tx().flush(), 2U);
  EXPECT_EQ(far.receive(1s), whole);
  EXPECT_EQ(far.receive(1s), frame_of(60));
  EXPECT_EQ(dropped(port.stats().tx, DropReason::undersize), 1U);
  expect_balanced(port);
}

// UDP of many flows to an address behind the TAP: each queue gets whole flows, together all of them.
TEST_F(Tap, SeveralQueuesShareTheFlows) {
  auto port = open("t0?settle=0&queues=4");
  ASSERT_EQ(port.rx_queues(), 4U);
  ns->ip("address add 10.9.0.1/24 dev t0");
  ns->ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:09 dev t0");
  constexpr unsigned flows = 40;
  ns->run([&] {
    for (unsigned flow = 0; flow < flows; ++flow) {
      const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      sockaddr_in to{.sin_family = AF_INET, .sin_port = htons(static_cast<std::uint16_t>(7000 + flow)), .sin_addr = {}, .sin_zero = {}};
      ::inet_pton(AF_INET, "10.9.0.2", &to.sin_addr);
      for (int i = 0; i < 3; ++i)
        ASSERT_EQ(::sendto(socket.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to), 1);
    }
  });
  std::array<unsigned, flows> seen{}, by{};
  unsigned busy = 0;
  for (std::size_t q = 0; q < 4; ++q) {
    auto batch = port.rx(q).receive(256);
    busy += batch.empty() ? 0 : 1;
    for (const auto& slot : batch) {
      const auto bytes = slot.bytes();
      const auto flow = std::to_integer<unsigned>(bytes[36]) * 256 + std::to_integer<unsigned>(bytes[37]) - 7000;
      ASSERT_LT(flow, flows);
      if (seen[flow]++ == 0) by[flow] = static_cast<unsigned>(q);
      EXPECT_EQ(by[flow], q) << "a flow in two queues";
    }
    batch.finish();
  }
  EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), 0U), 3 * flows);
  EXPECT_GE(busy, 2U);
  for (std::size_t q = 0; q < 4; ++q) ASSERT_TRUE(port.tx(q).send(frame_of(60)) && port.tx(q).flush() == 1);
  EXPECT_EQ(ns->counters("t0").rx_packets, 4U);
}

// TCP between two namespaces, joined by a program with two TAPs: with offload whole segments pass, without it frames.
void tcp_through(const Netns& ns, const std::string& options, std::size_t& largest) {
  const Netns other;
  const auto name = [&](const char* tap) { return "tap:" + std::string(tap) + "?settle=0" + options; };
  auto a = ns.run([&] { return Port::open(name("ta")); });
  auto b = other.run([&] { return Port::open(name("tb")); });
  ASSERT_TRUE(a && b);
  ns.ip("address add 10.9.0.1/24 dev ta");
  other.ip("address add 10.9.0.2/24 dev tb");
  std::atomic<bool> end{false};
  std::jthread bridge([&] {
    auto poller = efio::Poller::create();
    ASSERT_TRUE(poller->add(a->rx()).has_value() && poller->add(b->rx()).has_value());
    const auto pass = [&](Port& from, Port& to) {
      auto batch = from.rx().receive(64);
      for (const auto& slot : batch) largest = std::max<std::size_t>(largest, slot.length);
      efio::forward(batch, to.tx());
      batch.finish();
      to.tx().flush();
    };
    while (!end) {
      poller->wait(20ms);
      pass(*a, *b);
      pass(*b, *a);
    }
  });
  constexpr std::size_t total = 20'000'000;
  std::atomic<std::uint16_t> port{0};
  std::uint64_t received = 0, wrong = 0;
  std::jthread server([&] {
    other.run([&] {
      const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in at{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {}, .sin_zero = {}};
      socklen_t length = sizeof at;
      const timeval patience{.tv_sec = 20, .tv_usec = 0};
      ::setsockopt(listener.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
      ASSERT_EQ(::listen(listener.get(), 1), 0);
      ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&at), &length), 0);
      port = ntohs(at.sin_port);
      const Fd stream(::accept(listener.get(), nullptr, nullptr));
      ::setsockopt(stream.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      std::vector<unsigned char> piece(65536);
      for (ssize_t n = 0; (n = ::recv(stream.get(), piece.data(), piece.size(), 0)) > 0;)
        for (ssize_t i = 0; i < n; ++i) wrong += piece[static_cast<std::size_t>(i)] != static_cast<unsigned char>(received++ % 251);
    });
  });
  ns.run([&] {
    for (int i = 0; i < 5000 && port == 0; ++i) std::this_thread::sleep_for(1ms);
    const Fd stream(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(stream.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    sockaddr_in to{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {}, .sin_zero = {}};
    ::inet_pton(AF_INET, "10.9.0.2", &to.sin_addr);
    ASSERT_EQ(::connect(stream.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0) << std::strerror(errno);
    std::vector<unsigned char> bytes(251 * 1000);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i % 251);
    for (std::size_t sent = 0; sent < total;) {
      const auto n = ::send(stream.get(), bytes.data() + sent % 251, std::min(total - sent, bytes.size() - 251), MSG_NOSIGNAL);
      if (n <= 0) break;
      sent += static_cast<std::size_t>(n);
    }
  });
  server.join();
  end = true;
  bridge.join();
  EXPECT_EQ(received, total);
  EXPECT_EQ(wrong, 0U);
  expect_balanced(*a);
  expect_balanced(*b);
  // A frame handed over is one frame for the kernel that gave it, and one for the kernel that got it.
  a->drain();
  EXPECT_EQ(ns.counters("ta").rx_packets, a->stats().tx.sent);
  EXPECT_EQ(ns.counters("ta").tx_packets + ns.counters("ta").tx_dropped, a->stats().rx.received);
}

TEST_F(Tap, TcpPassesWithAndWithoutOffload) {
  std::size_t largest = 0;
  tcp_through(*ns, "", largest);
  EXPECT_LE(largest, 1514U);
  largest = 0;
  tcp_through(*ns, "&offload=on", largest);
  EXPECT_GT(largest, 20'000U) << "segments are whole";
}

}  // namespace
