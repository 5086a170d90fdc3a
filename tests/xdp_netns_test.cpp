// xdp: on veth pairs: what the engine contract does not ask.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/if_xdp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "efio/clock.h"
#include "efio/engines/xdp_umem.h"
#include "efio/forward.h"
#include "efio/port.h"
#include "tests/contract/rig.h"
#include "tests/support/netns.h"
#include "tests/support/plain_socket.h"

namespace efio::test {

namespace {

class Xdp : public testing::Test {
 protected:
  void SetUp() override {
    EFIO_REQUIRE_NETNS();
    pair_.emplace();
    far_.emplace(pair_->b, "vb");
  }
  Result<Port> open(const std::string& options, const PortOptions& how = {}) const {
    return pair_->a.run([&] { return Port::open("xdp:va?settle=0&" + options, how); });
  }

  // The pair anew, with so many queues.
  void make_queues(unsigned n) {
    const auto queues = fmt::format("numrxqueues {0} numtxqueues {0}", n);
    pair_->a.ip("link del va");
    pair_->a.ip(fmt::format("link add va {0} type veth peer name vb {0} netns {1}", queues, pair_->b.path()));
    pair_->a.ip("link set va up");
    pair_->b.ip("link set vb up");
    far_.emplace(pair_->b, "vb");
  }

  std::optional<VethPair> pair_;
  std::optional<PlainSocket> far_;
};

std::uint64_t dropped(const RxStats& stats, DropReason reason) { return stats.dropped[static_cast<std::size_t>(reason)]; }

void expect_round_trip(Port& port, PlainSocket& far) {
  const auto in = make_frame(100, 1), out = make_frame(101, 2);
  ASSERT_TRUE(far.send(in));
  auto batch = receive_patiently(port.rx(), 1);
  ASSERT_EQ(batch.size(), 1U);
  EXPECT_TRUE(std::ranges::equal(batch[0].bytes(), in));
  batch.finish();
  ASSERT_TRUE(port.tx().send(out));
  EXPECT_EQ(port.tx().flush(), 1U);
  const auto seen = far.receive(milliseconds(2000));
  ASSERT_TRUE(seen.has_value());
  EXPECT_TRUE(*seen == out);
}

TEST_F(Xdp, SaysWhichAttachmentItGot) {
  for (const std::string attach : {"native", "generic"}) {
    auto port = open("attach=" + attach);
    ASSERT_TRUE(port.has_value()) << port.error().message();
    EXPECT_TRUE(port->info().mode.starts_with(attach + ", copy")) << port->info().mode;
    ASSERT_NO_FATAL_FAILURE(expect_round_trip(*port, *far_));
    EXPECT_TRUE(port->close().has_value());
  }
}

TEST_F(Xdp, IsChosenForADeviceThatOnlySends) {
  const auto by_name = [&](const std::string& options, Direction direction) {
    return pair_->a.run([&] { return Port::open("va?settle=0" + options, {.direction = direction}); });
  };
  const auto sending = by_name("", Direction::tx);
  ASSERT_TRUE(sending.has_value()) << sending.error().message();
  EXPECT_EQ(sending->info().engine, "xdp");
  const auto both = by_name("", Direction::both);
  ASSERT_TRUE(both.has_value()) << both.error().message();
  EXPECT_EQ(both->info().engine, "packet") << "the host would lose its packets";
  const auto special = by_name("&bypass=off", Direction::tx);
  ASSERT_TRUE(special.has_value()) << special.error().message();
  EXPECT_EQ(special->info().engine, "packet");
  EXPECT_NE(special->info().why.find("not xdp: "), std::string::npos) << special->info().why;
  pair_->a.ip("link set va mtu 9000");
  const auto jumbo = by_name("", Direction::tx);
  ASSERT_TRUE(jumbo.has_value()) << jumbo.error().message();
  EXPECT_EQ(jumbo->info().engine, "packet");
  EXPECT_GE(jumbo->info().frame_size, 9014U) << "a slot for each frame that the device takes";
}

TEST_F(Xdp, RefusesZeroCopyWhereTheDriverHasNone) {
  for (const auto direction : {Direction::rx, Direction::tx}) {
    const auto port = open("mode=zerocopy", {.direction = direction});
    ASSERT_FALSE(port.has_value());
    EXPECT_EQ(port.error().kind, Error::Kind::unavailable);
    EXPECT_NE(port.error().message().find("zero-copy"), std::string::npos) << port.error().message();
    EXPECT_NE(port.error().message().find("mode=auto"), std::string::npos) << port.error().message();
  }
  const auto port = open("");
  ASSERT_TRUE(port.has_value()) << port.error().message();
  EXPECT_NE(port->info().mode.find("copy (the driver has no zero-copy)"), std::string::npos) << port->info().mode;
}

TEST_F(Xdp, NamesTheLimitOfLockedMemory) {
  const auto port = pair_->a.run([&] {
    // Of this thread alone, which ends with the call.
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, 2> data{};
    EXPECT_EQ(::syscall(SYS_capget, &header, data.data()), 0);
    data[0].effective &= ~(1U << CAP_IPC_LOCK);
    data[0].permitted &= ~(1U << CAP_IPC_LOCK);
    EXPECT_EQ(::syscall(SYS_capset, &header, data.data()), 0);
    return Port::open("xdp:va?settle=0&frames=65536", {.direction = Direction::tx});  // 128 MiB
  });
  if (port.has_value()) GTEST_SKIP() << "this user may lock 128 MiB";
  EXPECT_EQ(port.error().kind, Error::Kind::memory);
  EXPECT_NE(port.error().message().find("134217728 bytes"), std::string::npos) << port.error().message();
  EXPECT_NE(port.error().message().find("limit"), std::string::npos) << port.error().message();
}

TEST_F(Xdp, ASlowReceiverLosesFramesToItsFullRingAlone) {
  auto port = open("ring=256", {.direction = Direction::rx});
  ASSERT_TRUE(port.has_value()) << port.error().message();
  constexpr std::uint64_t flood = 3000;
  for (unsigned i = 0; i < flood; ++i) ASSERT_TRUE(far_->send(make_frame(60, i)));
  ASSERT_EQ(receive_patiently(port->rx(), 256).finish(), 256U);
  EXPECT_EQ(port->rx().receive(1).size(), 0U);
  port->drain();
  const auto rx = port->stats().rx;
  EXPECT_EQ(rx.received, flood);
  EXPECT_EQ(dropped(rx, DropReason::ring_full), flood - 256);
  EXPECT_EQ(rx.total_dropped(), flood - 256) << "the kernel lacked a frame to receive into";
  ASSERT_TRUE(far_->send(make_frame(60, 7)));
  EXPECT_EQ(receive_patiently(port->rx(), 1).finish(), 1U);
}

// What the kernel says of this process's AF_XDP sockets, asked past the library.
xdp_statistics ask_all_sockets() {
  xdp_statistics sum{};
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    xdp_statistics one{};
    socklen_t size = sizeof one;
    if (::getsockopt(std::stoi(entry.path().filename().string()), SOL_XDP, XDP_STATISTICS, &one, &size) != 0) continue;
    sum.rx_dropped += one.rx_dropped;
    sum.rx_ring_full += one.rx_ring_full;
    sum.rx_invalid_descs += one.rx_invalid_descs;
    sum.rx_fill_ring_empty_descs += one.rx_fill_ring_empty_descs;
  }
  return sum;
}

// Sends numbered frames as fast as it can; returns how many were offered.
std::uint64_t flood(TxQueue& queue, std::chrono::steady_clock::duration span) {
  const auto frame = make_frame(60, 0);
  std::uint64_t number = 0;
  for (const auto until = std::chrono::steady_clock::now() + span; std::chrono::steady_clock::now() < until;) {
    auto batch = queue.claim(32);
    for (std::size_t i = 0; i < batch.size(); ++i, ++number) {
      std::ranges::copy(frame, batch.space(i).begin());
      std::memcpy(batch.space(i).data() + 14, &number, sizeof number);
      batch[i].length = 60;
    }
    batch.commit();
    queue.flush();
  }
  queue.drain(std::chrono::seconds(5));
  return number;
}

// Every frame that was sent has been received, or is counted as lost to the full ring: by the numbers in the frames, by
// the port, and by the kernel.
void lose_to_a_full_ring(const VethPair& pair, Port& port) {
  auto sender = pair.b.run([] { return Port::open("xdp:vb?settle=0&ring=512", {.direction = Direction::tx}); });
  ASSERT_TRUE(sender.has_value()) << sender.error().message();
  const auto before = pair.a.counters("va");
  const auto peer_before = pair.b.counters("vb");
  std::atomic<std::uint64_t> offered = 0;
  std::atomic<bool> done = false;
  std::jthread world([&] {
    offered = flood(sender->tx(), is_long_run() ? std::chrono::minutes(10) : std::chrono::seconds(2));
    done = true;
  });
  std::uint64_t seen = 0, next = 0, missing = 0, backwards = 0;
  const auto look = [&] {
    auto batch = port.rx().receive(64);
    for (const auto& slot : batch) {
      std::uint64_t number = 0;
      std::memcpy(&number, slot.bytes().data() + 14, sizeof number);
      if (number < next) ++backwards;
      else missing += number - next, next = number + 1;
    }
    const auto n = batch.finish();
    seen += n;
    return n;
  };
  while (!done) {
    look();
    for (const auto until = Clock::monotonic() + 400'000; Clock::monotonic() < until;) {}  // 160,000 frames a second at most
  }
  world.join();
  while (look() != 0) {}
  port.drain();
  missing += offered - next;
  const auto rx = port.stats().rx;
  const auto tx = sender->stats().tx;
  const auto kernel = ask_all_sockets();
  const auto came = pair.a.counters("va").rx_packets - before.rx_packets;
  const auto on_the_wire = pair.b.counters("vb").tx_dropped - peer_before.tx_dropped;  // the peer's NAPI ring was full
  std::cout << "offered " << offered << ", received " << seen << ", ring_full " << dropped(rx, DropReason::ring_full) << ", refused "
            << tx.total_dropped() << ", dropped by the sending device " << on_the_wire << "\n";
  EXPECT_EQ(backwards, 0U);
  EXPECT_EQ(tx.offered, offered);
  EXPECT_EQ(rx.received, came);
  EXPECT_EQ(rx.delivered, seen);
  EXPECT_GT(dropped(rx, DropReason::ring_full), came / 4) << "the receiver was not slow";
  EXPECT_EQ(rx.total_dropped(), dropped(rx, DropReason::ring_full)) << "lost for another reason";
  EXPECT_EQ(came, seen + dropped(rx, DropReason::ring_full));
  EXPECT_EQ(missing, offered - came + dropped(rx, DropReason::ring_full));
  EXPECT_EQ(offered - came, on_the_wire);
  EXPECT_EQ(kernel.rx_ring_full, dropped(rx, DropReason::ring_full));
  EXPECT_EQ(kernel.rx_fill_ring_empty_descs, 0U) << "the fill ring was empty";
  EXPECT_EQ(kernel.rx_dropped + kernel.rx_invalid_descs, 0U);
  expect_balanced(port.stats());
  expect_balanced(sender->stats());
}

TEST_F(Xdp, ASlowReceiverUnderFullLoadLosesToItsFullRingAlone) {
  auto port = open("ring=1024", {.direction = Direction::rx});
  ASSERT_TRUE(port.has_value()) << port.error().message();
  lose_to_a_full_ring(*pair_, *port);
}

// A queue that another process holds, with memory of its own.
TEST_F(Xdp, AQueueOfAnotherProcessIsBusy) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const Fd reads(ready[0]), writes(ready[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto port = open("", {.direction = Direction::tx});
    const char answer = port.has_value() ? 'y' : 'n';
    (void)!::write(ready[1], &answer, 1);
    for (;;) ::pause();
  }
  char answer = 0;
  EXPECT_EQ(::read(ready[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  for (const auto direction : {Direction::tx, Direction::rx}) {
    const auto start = Clock::monotonic();
    const auto refused = open("", {.direction = direction});
    const auto took = Clock::monotonic() - start;
    EXPECT_FALSE(refused.has_value());
    if (refused.has_value()) continue;
    EXPECT_EQ(refused.error().kind, Error::Kind::device);
    EXPECT_EQ(refused.error().os, EBUSY);
    EXPECT_NE(refused.error().message().find("queue 0 of va is in use by an AF_XDP socket of another program"), std::string::npos)
        << refused.error().message();
    EXPECT_GT(took, 900'000'000U) << "the kernel may take as long to let go of a socket";
    EXPECT_LT(took, 5'000'000'000U);
  }
  EXPECT_EQ(pair_->a.shell("ip link show va").find("xdp"), std::string::npos) << "a program was left";
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  auto port = open("");  // which waits until the kernel has let go of it
  ASSERT_TRUE(port.has_value()) << port.error().message();
  expect_round_trip(*port, *far_);
}

TEST_F(Xdp, AKilledReceiverLeavesNothingAndTheNextOpens) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const Fd reads(ready[0]), writes(ready[1]);
  for (const std::string attach : {"native", "generic"}) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto port = open("take=udp:9&attach=" + attach);
      const char answer = port.has_value() ? 'y' : 'n';
      (void)!::write(ready[1], &answer, 1);
      for (;;) ::pause();
    }
    char answer = 0;
    EXPECT_EQ(::read(ready[0], &answer, 1), 1);
    EXPECT_EQ(answer, 'y');
    EXPECT_NE(pair_->a.shell("ip link show va").find("xdp"), std::string::npos);
    EXPECT_TRUE(far_->send(make_frame(60, 1)));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    EXPECT_EQ(pair_->a.shell("ip link show va").find("xdp"), std::string::npos) << "a program was left";
    EXPECT_EQ(pair_->a.shell("ip -d link show va").find("promiscuity 1"), std::string::npos);
    auto port = open("attach=" + attach);
    ASSERT_TRUE(port.has_value()) << port.error().message();
    ASSERT_NO_FATAL_FAILURE(expect_round_trip(*port, *far_)) << "by the rules of the one before";
  }
}

// As `ip link set va xdp off`, by an administrator who does not know of us: the kernel refuses, and nothing changes.
TEST_F(Xdp, AClosedPortHoldsNothingOfItsDevice) {
  std::vector<Port> closed;
  for (int i = 0; i < 3; ++i) {
    auto port = open("");
    ASSERT_TRUE(port) << port.error().message();
    ASSERT_TRUE(port->close());
    closed.push_back(std::move(*port));  // its statistics can still be asked for
    EXPECT_EQ(closed.back().rx().receive(8).size(), 0U);
    EXPECT_EQ(closed.back().tx().claim(8).size(), 0U);
  }
}

TEST_F(Xdp, ItsProgramCannotBeTakenOffWhileItRuns) {
  for (const std::string attach : {"native", "generic"}) {
    auto port = open("attach=" + attach);
    ASSERT_TRUE(port.has_value()) << port.error().message();
    const std::string word = attach == "native" ? "xdpdrv" : "xdpgeneric";
    EXPECT_THROW(pair_->a.ip("link set va " + word + " off"), std::runtime_error);
    ASSERT_NO_FATAL_FAILURE(expect_round_trip(*port, *far_));
    EXPECT_TRUE(port->close().has_value());
    EXPECT_EQ(pair_->a.shell("ip link show va").find("xdp"), std::string::npos);
  }
}

// Four queues, each received and sent on by a thread of its own; the counts of all are exact.
TEST_F(Xdp, EveryQueueHasItsOwnThread) {
  make_queues(4);
  auto near = open("");
  ASSERT_TRUE(near.has_value()) << near.error().message();
  auto far = pair_->b.run([] { return Port::open("xdp:vb?settle=0"); });
  ASSERT_TRUE(far.has_value()) << far.error().message();
  constexpr std::uint64_t frames = 20'000;
  std::array<std::uint64_t, 4> echoed{}, returned{};
  std::atomic<unsigned> running = 4;
  {
    std::vector<std::jthread> threads;
    for (std::size_t q = 0; q < 4; ++q) {
      threads.emplace_back([&, q] {  // sends each frame back on the queue that it came in on
        while (running > 0) {
          auto batch = near->rx(q).receive(32);
          if (batch.empty()) std::this_thread::yield();
          echoed[q] += batch.size();
          while (!batch.empty()) forward(batch, near->tx(q)), near->tx(q).flush();
        }
      });
      threads.emplace_back([&, q] {  // at most 64 under way
        const auto until = Clock::monotonic() + 20'000'000'000;
        for (std::uint64_t sent = 0; returned[q] < frames && Clock::monotonic() < until;) {
          for (; sent < frames && sent - returned[q] < 64; ++sent)
            if (!far->tx(q).send(make_frame(60, static_cast<unsigned>(q)))) break;
          far->tx(q).flush();
          auto batch = far->rx(q).receive(64);
          if (batch.empty()) std::this_thread::yield();
          for (const auto& slot : batch) returned[q] += slot.bytes()[14] == static_cast<std::byte>(q) ? 1 : 0;
          batch.finish();
        }
        --running;
      });
    }
  }
  for (std::size_t q = 0; q < 4; ++q) {
    EXPECT_EQ(returned[q], frames) << "queue " << q;
    EXPECT_EQ(echoed[q], frames) << "queue " << q;
  }
  near->drain(), far->drain();
  for (auto* port : {&*near, &*far}) {
    EXPECT_EQ(port->stats().rx.delivered, 4 * frames);
    EXPECT_EQ(port->stats().tx.sent, 4 * frames);
    expect_balanced(port->stats());
    const auto closed = port->close();
    EXPECT_TRUE(closed.has_value()) << closed.error().message();
  }
}

// Two pairs of devices in namespaces of their own, one block of memory.
TEST_F(Xdp, ForwardingBetweenTwoDevicesSwaps) {
  const VethPair other;
  PlainSocket sink(other.b, "vb");
  auto from = open("", {.direction = Direction::both});
  ASSERT_TRUE(from.has_value()) << from.error().message();
  auto to = other.a.run([] { return Port::open("xdp:va?settle=0"); });
  ASSERT_TRUE(to.has_value()) << to.error().message();
  EXPECT_TRUE(forwards_by_swap(from->rx(), to->tx()));
  EXPECT_TRUE(forwards_by_swap(to->rx(), from->tx()));
  const auto pool = from->rx().pool();
  EXPECT_LE(pool->mapped_bytes(), 4U << 20);
  for (unsigned round = 0; round < 40; ++round) {  // more frames than the ports have
    const auto frames = make_frames(100, 60 + round, 100 * round);
    for (const auto& frame : frames) ASSERT_TRUE(far_->send(frame));
    auto batch = receive_patiently(from->rx(), frames.size());
    ASSERT_EQ(batch.size(), frames.size());
    ASSERT_EQ(forward(batch, to->tx()), frames.size());
    EXPECT_EQ(to->tx().flush(), frames.size());
    for (const auto& frame : frames) {
      const auto seen = sink.receive(milliseconds(2000));
      ASSERT_TRUE(seen.has_value());
      ASSERT_TRUE(*seen == frame);
    }
  }
  expect_balanced(from->stats());
  expect_balanced(to->stats());
  const auto frames = pool->frames();
  EXPECT_TRUE(from->close().has_value()) << from->close().error().message();
  EXPECT_TRUE(to->close().has_value()) << to->close().error().message();
  EXPECT_EQ(pool->unused(), frames) << "not every frame came home";
}

TEST_F(Xdp, ADirectionIsReopenedWhileTheOtherGoesOn) {
  auto out = open("", {.direction = Direction::tx});
  ASSERT_TRUE(out.has_value()) << out.error().message();
  const auto pool = out->tx().pool();
  const auto twice = open("", {.direction = Direction::tx});
  ASSERT_FALSE(twice.has_value());
  EXPECT_NE(twice.error().message().find("open in this direction already"), std::string::npos) << twice.error().message();
  for (unsigned round = 0; round < 5; ++round) {
    auto in = open("", {.direction = Direction::rx});
    ASSERT_TRUE(in.has_value()) << in.error().message();
    for (unsigned i = 0; i < 700; ++i) ASSERT_TRUE(far_->send(make_frame(60, i)));  // more than its ring holds
    EXPECT_EQ(receive_patiently(in->rx(), 20).finish(10), 10U);
    ASSERT_TRUE(out->tx().send(make_frame(80, round)));
    EXPECT_EQ(out->tx().flush(), 1U);
    EXPECT_TRUE(far_->receive(milliseconds(2000)).has_value());
    expect_balanced(in->stats());
    const auto closed = in->close();
    EXPECT_TRUE(closed.has_value()) << closed.error().message();
  }
  EXPECT_TRUE(out->close().has_value());
  EXPECT_EQ(pool->unused(), pool->frames());
}

// What the kernel keeps of a closed receiver's frames is the next one's, so that no more are asked of the pool.
TEST_F(Xdp, AReceiverWithALongRingIsReopenedWhileTheSenderGoesOn) {
  auto out = open("ring=1024", {.direction = Direction::tx});
  ASSERT_TRUE(out.has_value()) << out.error().message();
  for (unsigned round = 0; round < 3; ++round) {
    auto in = open("ring=1024", {.direction = Direction::rx});
    ASSERT_TRUE(in.has_value()) << in.error().message();
    EXPECT_EQ(in->rx().pool(), out->tx().pool());
    ASSERT_TRUE(far_->send(make_frame(60, round)));
    EXPECT_EQ(receive_patiently(in->rx(), 1).finish(), 1U);
    const auto closed = in->close();
    EXPECT_TRUE(closed.has_value()) << closed.error().message();
  }
  const auto pool = out->tx().pool();
  EXPECT_TRUE(out->close().has_value());
  EXPECT_EQ(pool->unused(), pool->frames());
}

// What one opening is promised is no other's, before its queues are there too: threads open their queues at once.
TEST_F(Xdp, FramesAreSetAsideForAnOpening) {
  const XdpPoolWish wish{.receiving = {0}, .sending = {0}, .rx_frames = 900, .tx_frames = 300, .chunk = 2048};
  auto first = stock_xdp_frames(wish, "first"), second = stock_xdp_frames(wish, "second");
  ASSERT_TRUE(first.has_value() && second.has_value());
  auto third = stock_xdp_frames(wish, "third");
  ASSERT_TRUE(third.has_value());
  EXPECT_EQ(first->pool(), second->pool()) << "there is room for two";
  EXPECT_NE(second->pool(), third->pool());
  EXPECT_TRUE(second->take(900).has_value() && third->take(900).has_value());
  const auto pool = first->pool();
  const auto left = pool->unused();
  first = XdpStock();
  EXPECT_EQ(pool->unused(), left + 1200) << "what was not taken goes back";
}

TEST_F(Xdp, OpensAllTheQueuesOfTheDevice) {
  make_queues(4);
  {
    auto port = open("");
    ASSERT_TRUE(port.has_value()) << port.error().message();
    EXPECT_EQ(port->rx_queues(), 4U);
    EXPECT_EQ(port->tx_queues(), 4U);
    EXPECT_TRUE(port->info().mode.ends_with(", 4 queues")) << port->info().mode;
    for (std::size_t q = 0; q < 4; ++q) {
      ASSERT_TRUE(port->tx(q).send(make_frame(60, static_cast<unsigned>(q))));
      EXPECT_EQ(port->tx(q).flush(), 1U);
      EXPECT_TRUE(far_->receive(milliseconds(2000)).has_value());
    }
    EXPECT_TRUE(port->close().has_value());
  }
  auto two = open("queue=3,1");
  ASSERT_TRUE(two.has_value()) << two.error().message();
  EXPECT_EQ(two->rx_queues(), 2U);
  EXPECT_TRUE(open("queue=0").has_value()) << "other queues of the device are free";
  for (const std::string wrong : {"queue=4", "queue=1,1", "queue=", "queue=2-1", "queue=a", "queue=0&queues=2"}) {
    const auto refused = open(wrong);
    ASSERT_FALSE(refused.has_value()) << wrong;
    EXPECT_EQ(refused.error().kind, Error::Kind::usage) << refused.error().message();
  }
}

TEST_F(Xdp, QueuesBeyondThe64thAreOpenedByTheirNumber) {
  make_queues(100);
  auto near = open("queue=99");
  ASSERT_TRUE(near.has_value()) << near.error().message();
  EXPECT_TRUE(near->info().mode.ends_with("1 of 100 queues")) << near->info().mode;
  auto far = pair_->b.run([] { return Port::open("xdp:vb?settle=0&queue=99"); });
  ASSERT_TRUE(far.has_value()) << far.error().message();
  EXPECT_TRUE(forwards_by_swap(near->rx(), near->tx()));
  ASSERT_TRUE(far->tx().send(make_frame(60, 1)));
  EXPECT_EQ(far->tx().flush(), 1U);
  auto batch = receive_patiently(near->rx(), 1);
  ASSERT_EQ(forward(batch, near->tx()), 1U);
  EXPECT_EQ(near->tx().flush(), 1U);
  EXPECT_EQ(receive_patiently(far->rx(), 1).finish(), 1U);
}

TEST_F(Xdp, GoesOnWhenItsDeviceGetsAnotherName) {
  auto in = open("", {.direction = Direction::rx});
  ASSERT_TRUE(in.has_value()) << in.error().message();
  pair_->a.ip("link set va down");
  pair_->a.ip("link set va name vz");
  pair_->a.ip("link set vz up");
  auto out = pair_->a.run([] { return Port::open("xdp:vz", {.direction = Direction::tx}); });
  ASSERT_TRUE(out.has_value()) << out.error().message();
  EXPECT_TRUE(forwards_by_swap(in->rx(), out->tx())) << "it is the same device";
  const auto frame = make_frame(80, 3);
  ASSERT_TRUE(far_->send(frame));
  auto batch = receive_patiently(in->rx(), 1);
  ASSERT_EQ(forward(batch, out->tx()), 1U);
  EXPECT_EQ(out->tx().flush(), 1U);
  const auto seen = far_->receive(milliseconds(2000));
  ASSERT_TRUE(seen.has_value());
  EXPECT_TRUE(*seen == frame);
  EXPECT_TRUE(in->close().has_value() && out->close().has_value());
  EXPECT_EQ(pair_->a.shell("ip link show vz").find("xdp"), std::string::npos);
}

// The MTU is that of the opening.
TEST_F(Xdp, FramesTooLongForItAreNamedWhenTheMtuGrows) {
  auto port = open("attach=generic");
  ASSERT_TRUE(port.has_value()) << port.error().message();
  pair_->a.ip("link set va mtu 9000");
  pair_->b.ip("link set vb mtu 9000");
  ASSERT_TRUE(far_->send(make_frame(1792, 1)));
  ASSERT_TRUE(far_->send(make_frame(5000, 2)));
  ASSERT_TRUE(far_->send(make_frame(60, 3)));
  auto batch = receive_patiently(port->rx(), 2);
  ASSERT_EQ(batch.size(), 2U);
  EXPECT_EQ(batch[0].length, 1792U);
  EXPECT_EQ(batch.finish(), 2U);
  ASSERT_TRUE(port->tx().send(make_frame(1523, 4)) && port->tx().send(make_frame(1522, 5)));
  EXPECT_EQ(port->tx().flush(), 1U);
  port->drain();
  const auto stats = port->stats();
  EXPECT_EQ(dropped(stats.rx, DropReason::oversize), 1U);
  EXPECT_EQ(stats.tx.dropped[static_cast<std::size_t>(DropReason::oversize)], 1U);
  expect_balanced(stats);
}

TEST_F(Xdp, LongFramesComeAndGoInSeveralSlots) {
  pair_->a.ip("link set va mtu 9000");
  pair_->b.ip("link set vb mtu 9000");
  auto port = open("");
  ASSERT_TRUE(port.has_value()) << port.error().message();
  for (const std::size_t size : {1792U, 1793U, 5000U, 9014U}) {
    const auto frame = make_frame(size, static_cast<unsigned>(size));
    ASSERT_TRUE(far_->send(frame));
    const auto slots = (size + 1791) / 1792;
    auto batch = receive_patiently(port->rx(), slots);
    ASSERT_EQ(batch.size(), slots) << size;
    Bytes whole;
    for (const auto& slot : batch) whole.insert(whole.end(), slot.bytes().begin(), slot.bytes().end());
    EXPECT_TRUE(whole == frame) << size;
    EXPECT_EQ(forward(batch, port->tx()), slots);
    EXPECT_EQ(port->tx().flush(), 1U);
    const auto back = far_->receive(milliseconds(2000));
    ASSERT_TRUE(back.has_value()) << size;
    EXPECT_TRUE(*back == frame) << size;
  }
  EXPECT_EQ(port->stats().rx.delivered, 4U);
  EXPECT_EQ(port->stats().tx.sent, 4U);
  expect_balanced(port->stats());
  const auto closed = port->close();
  EXPECT_TRUE(closed.has_value()) << closed.error().message();
}

}  // namespace

}  // namespace efio::test
