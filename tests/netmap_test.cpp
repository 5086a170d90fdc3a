// netmap: on the simulated module: what its users' notes found, and what the module does to careless programs.
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "efio/forward.h"
#include "efio/poller.h"
#include "efio/port.h"
#include "tests/contract/rig.h"
#include "tests/netmap/raw_port.h"
#include "tests/netmap/simulated_netmap.h"

// The example as it is, but for its entry.
#include <cstdio>
#include <cstdlib>
#include <string>
namespace firewall_example {
#define main run
#include "examples/firewall.cpp"
#undef main
}  // namespace firewall_example

namespace efio::test {

namespace {

using namespace std::chrono_literals;

class Netmap : public testing::Test {
 protected:
  Port open(const std::string& uri, Direction direction = Direction::both) {
    auto port = Port::open(uri.find('?') == std::string::npos ? uri + "?settle=0" : uri + "&settle=0", {.direction = direction});
    if (!port) throw std::runtime_error(port.error().message());
    return std::move(*port);
  }
  static std::string refusal(const std::string& uri, Direction direction = Direction::both) {
    const auto port = Port::open(uri, {.direction = direction});
    return port ? "" : port.error().message();
  }
  std::vector<Bytes> taken(const std::string& nic) {
    std::vector<Bytes> all;
    while (auto frame = module_.take(nic, 0ms)) all.push_back(std::move(*frame));
    return all;
  }
  static std::uint64_t dropped(const TxStats& tx, DropReason reason) { return tx.dropped[static_cast<std::size_t>(reason)]; }
  static std::uint64_t dropped(const RxStats& rx, DropReason reason) { return rx.dropped[static_cast<std::size_t>(reason)]; }

  SimulatedNetmap module_;
};

// --- what the notes found ---

TEST_F(Netmap, AReceiverThatPollsNeverFlushesTheSender) {
  module_.add_nic("nm0");
  auto port = open("netmap:nm0");
  auto poller = Poller::create();
  ASSERT_TRUE(poller->add(port.rx()).has_value());
  ASSERT_TRUE(port.tx().send(make_frame(60, 1)));
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(poller->wait(1ms).empty());
    port.rx().receive(8).finish();
  }
  EXPECT_TRUE(taken("nm0").empty());
  EXPECT_EQ(module_.syncs(netmap::txsync_request), 0U);
  EXPECT_EQ(port.tx().flush(), 1U);
  EXPECT_EQ(taken("nm0").size(), 1U);
}

// A descriptor without the flag sends at every poll, also one that waits to receive. Each of ours is for one direction, so
// that no frame shows it.
TEST_F(Netmap, EveryDescriptorIsRegisteredNotToSendWhenPolled) {
  for (const char* uri : {"netmap:nm0", "netmap:nm0-0", "netmap:nm0^", "netmap:nm0*", "netmap:vale0:a", "netmap:x{1"}) {
    module_.add_nic("nm0");
    {
      const auto port = open(uri);
      const auto flags = module_.flags();
      EXPECT_FALSE(flags.empty()) << uri;
      for (const auto one : flags) EXPECT_NE(one & netmap::no_tx_poll, 0U) << uri << " " << std::hex << one;
    }
    module_.delete_nic("nm0");
  }
}

TEST_F(Netmap, OneFrameInAnEmptyRingLeavesAtFlush) {
  module_.add_nic("nm0");
  auto port = open("netmap:nm0", Direction::tx);
  for (unsigned i = 0; i < 3; ++i) {
    ASSERT_TRUE(port.tx().send(make_frame(60, i)));
    ASSERT_EQ(port.tx().flush(), 1U);
    ASSERT_EQ(taken("nm0").size(), 1U);
  }
}

// Two ports send to each other through a switch-like wire: what one counts as sent, the other counts as received.
void exchange(Port& a, Port& b, bool two_threads) {
  constexpr unsigned frames = 5000;
  std::uint64_t got = 0;
  unsigned sent = 0;
  const auto send_some = [&] {
    for (int i = 0; i < 16 && sent < frames && a.tx().send(make_frame(60, sent)); ++i) ++sent;
    a.tx().flush();
  };
  const auto receive_some = [&] { got += b.rx().receive(64).finish(); };
  const auto until = Clock::monotonic() + 10'000'000'000;
  if (two_threads) {
    std::jthread sender([&] {
      while (sent < frames && Clock::monotonic() < until) send_some();
      a.drain(5s);
    });
    while (got < frames && Clock::monotonic() < until) receive_some();
  } else {
    while (got < frames && Clock::monotonic() < until) send_some(), receive_some();
    a.drain(5s);
  }
  EXPECT_EQ(got, frames);
  EXPECT_EQ(a.stats().tx.sent, frames);
  EXPECT_EQ(a.stats().tx.bytes, 60U * frames);
  EXPECT_EQ(b.stats().rx.received, frames);
  EXPECT_EQ(b.stats().rx.delivered, frames);
  EXPECT_EQ(a.stats().rx.received + b.stats().tx.sent, 0U);
  expect_balanced(a.stats());
  expect_balanced(b.stats());
}

TEST_F(Netmap, CountersOfBothDirectionsAreExactInOneThreadAndInTwo) {
  for (const bool two_threads : {false, true}) {
    auto a = open("netmap:x{1"), b = open("netmap:x}1");
    exchange(a, b, two_threads);
  }
}

TEST_F(Netmap, ReopensPerDirectionAndPerRing) {
  module_.add_nic("nm0", {.rings = 4});
  auto in = open("netmap:nm0", Direction::rx);
  auto out = open("netmap:nm0-2", Direction::tx);
  auto another = open("netmap:nm0-3", Direction::tx);
  EXPECT_EQ(in.rx_queues(), 4U);
  EXPECT_EQ(out.tx_queues(), 1U);
  const auto again = refusal("netmap:nm0-3", Direction::tx);
  EXPECT_NE(again.find("open already"), std::string::npos) << again;
  EXPECT_NE(refusal("netmap:nm0-4", Direction::rx).find("ring"), std::string::npos);
  ASSERT_TRUE(out.close().has_value());
  auto out_again = open("netmap:nm0-2", Direction::tx);
  ASSERT_TRUE(out_again.tx().send(make_frame(60, 1)));
  EXPECT_EQ(out_again.tx().flush(), 1U);
  EXPECT_EQ(another.stats().tx.sent + in.stats().rx.received, 0U);
}

TEST_F(Netmap, FramesSentRightAfterOpenAreNotLostWhileThePhyComesUp) {
  module_.add_nic("nm0", {.reset = 300ms});
  const auto start = Clock::monotonic();
  auto port = Port::open("netmap:nm0");
  ASSERT_TRUE(port.has_value());
  EXPECT_GE(Clock::monotonic() - start, 490'000'000U) << "the carrier was not steady for 200 ms";
  ASSERT_TRUE(port->tx().send(make_frame(60, 1)));
  EXPECT_EQ(port->tx().flush(), 1U);
  EXPECT_EQ(taken("nm0").size(), 1U);
}

// --- sending ---

TEST_F(Netmap, StaleFramesOfAnEarlierUserAreNotSent) {
  module_.add_pair("nm0", "nm1");
  RawPort far("nm1");
  {
    RawPort earlier("nm0");
    auto& ring = earlier.ring(true, 0);
    ASSERT_TRUE(earlier.send(make_frame(60, 1)));
    for (int i = 0; i < 5; ++i) ring.head = ring.cur = ring.head + 1;  // written, and never synced
  }
  auto port = open("netmap:nm0");
  ASSERT_TRUE(port.tx().send(make_frame(60, 2)));
  EXPECT_EQ(port.tx().flush(), 1U);
  EXPECT_EQ(far.receive(0ms), make_frame(60, 1)) << "what was synced was sent";
  EXPECT_EQ(far.receive(0ms), make_frame(60, 2));
  EXPECT_FALSE(far.receive(0ms).has_value());
}

TEST_F(Netmap, ASyncThatDidNothingIsRepeated) {
  module_.add_nic("nm0");
  auto port = open("netmap:nm0", Direction::tx);
  ASSERT_TRUE(port.tx().send(make_frame(60, 1)));
  module_.be_busy(3);
  EXPECT_EQ(port.tx().flush(), 1U);
  EXPECT_EQ(module_.syncs(netmap::txsync_request), 4U);

  ASSERT_TRUE(port.tx().send(make_frame(60, 2)));
  module_.be_busy(1'000'000);
  EXPECT_EQ(port.tx().flush(), 0U) << "never counted before the kernel took it";
  EXPECT_EQ(port.stats().tx.pending, 1U);
  EXPECT_LT(module_.syncs(netmap::txsync_request), 1000U) << "tries are bounded";
  module_.be_busy(0);
  EXPECT_TRUE(port.drain());
  EXPECT_EQ(port.stats().tx.sent, 2U);
  EXPECT_EQ(taken("nm0").size(), 2U);
}

TEST_F(Netmap, AFrameIsSentWhenTailHasPassedIt) {
  module_.add_nic("nm0", {.completes = false});
  auto port = open("netmap:nm0", Direction::tx);
  for (unsigned i = 0; i < 10; ++i) ASSERT_TRUE(port.tx().send(make_frame(60, i)));
  EXPECT_EQ(port.tx().flush(), 0U);
  EXPECT_EQ(taken("nm0").size(), 10U);
  EXPECT_EQ(port.stats().tx.pending, 10U);
  module_.complete("nm0", 4);
  EXPECT_EQ(port.stats().tx.sent, 0U) << "tail moves in a sync only";
  EXPECT_FALSE(port.tx().drain(1ms));
  EXPECT_EQ(port.stats().tx.sent, 4U);
  module_.complete("nm0", 6);
  EXPECT_TRUE(port.drain());
  EXPECT_EQ(port.stats().tx.sent, 10U);
  expect_balanced(port.stats());
}

TEST_F(Netmap, AFullRingWakesTheSenderWhenThereIsRoom) {
  module_.add_nic("nm0", {.completes = false});
  auto port = open("netmap:nm0", Direction::tx);
  unsigned sent = 0;
  while (port.tx().send(make_frame(60, sent))) ++sent;
  port.tx().flush();
  EXPECT_EQ(sent, port.tx().ring_size());
  EXPECT_TRUE(port.tx().claim(1).empty());
  auto poller = Poller::create();
  ASSERT_TRUE(poller->add(port.tx()).has_value());
  EXPECT_TRUE(poller->wait(20ms).empty());
  std::jthread device([&] {
    std::this_thread::sleep_for(20ms);
    module_.complete("nm0", 7);
  });
  ASSERT_EQ(poller->wait(5s).size(), 1U);
  EXPECT_EQ(port.tx().claim(100).size(), 7U);
  device.join();
  module_.complete("nm0", 10'000);
  EXPECT_TRUE(port.drain());
  EXPECT_EQ(port.tx().claim(1000).size(), port.tx().ring_size());
}

TEST_F(Netmap, WhatCannotBeSentIsDroppedBeforeItIsPublished) {
  module_.add_nic("nm0");
  auto port = open("netmap:nm0", Direction::tx);
  auto batch = port.tx().claim(6);
  ASSERT_EQ(batch.size(), 6U);
  const std::uint32_t lengths[] = {60, 13, 1515, 1514, 5000, 61};
  for (std::size_t i = 0; i < 6; ++i) {
    std::ranges::copy(make_frame(60, static_cast<unsigned>(i)), batch.space(i).begin());
    batch[i].length = lengths[i];
  }
  batch.commit();
  EXPECT_EQ(port.tx().flush(), 3U);
  const auto seen = taken("nm0");
  ASSERT_EQ(seen.size(), 3U);
  EXPECT_EQ(seen[0].size(), 60U);
  EXPECT_EQ(seen[1].size(), 1514U);
  EXPECT_EQ(seen[2].size(), 61U);
  EXPECT_EQ(dropped(port.stats().tx, DropReason::undersize), 1U);
  EXPECT_EQ(dropped(port.stats().tx, DropReason::oversize), 2U);
  expect_balanced(port.stats());
  // The ring is none the worse for it.
  for (unsigned round = 0; round < 5; ++round) {
    for (unsigned i = 0; i < port.tx().ring_size(); ++i) ASSERT_TRUE(port.tx().send(make_frame(i % 5 == 0 ? 13 : 60, i)));
    port.tx().flush();
    ASSERT_TRUE(port.drain());
    EXPECT_EQ(taken("nm0").size(), port.tx().ring_size() - (port.tx().ring_size() + 4) / 5);
  }
}

TEST_F(Netmap, AVlanTagMayComeOnTopOfTheMtu) {
  module_.add_nic("nm0");
  auto port = open("netmap:nm0", Direction::tx);
  for (const bool tagged : {false, true}) {
    auto frame = make_frame(1518, 1);
    if (tagged) frame[12] = std::byte{0x81}, frame[13] = std::byte{0};
    ASSERT_TRUE(port.tx().send(frame));
    EXPECT_EQ(port.tx().flush(), tagged ? 1U : 0U);
  }
}

// --- frames of several slots ---

void send_in_pieces(Port& port, const Bytes& frame, std::size_t piece) {
  const auto pieces = (frame.size() + piece - 1) / piece;
  auto batch = port.tx().claim(pieces);
  ASSERT_EQ(batch.size(), pieces);
  for (std::size_t i = 0; i < pieces; ++i) {
    const auto part = std::span(frame).subspan(i * piece, std::min(piece, frame.size() - i * piece));
    std::ranges::copy(part, batch.space(i).begin());
    batch[i].length = static_cast<std::uint32_t>(part.size());
    if (i + 1 < pieces) batch[i].flags |= Slot::more;
  }
  ASSERT_EQ(batch.commit(), pieces);
  EXPECT_EQ(port.tx().flush(), 1U);
}

TEST_F(Netmap, PiecesThatFitIntoOneSlotAreJoined) {
  module_.add_nic("nm0");  // emulated: it would send each piece as a frame
  auto port = open("netmap:nm0", Direction::tx);
  for (unsigned i = 0; i < 600; ++i) {
    const auto frame = make_frame(1000 + i % 400, i);
    ASSERT_NO_FATAL_FAILURE(send_in_pieces(port, frame, 300));
    const auto seen = taken("nm0");
    ASSERT_EQ(seen.size(), 1U);
    ASSERT_EQ(seen[0], frame);
  }
  EXPECT_EQ(port.stats().tx.sent, 600U);
  expect_balanced(port.stats());
}

TEST_F(Netmap, LongFramesCrossASwitchInPieces) {
  auto port = open("netmap:vale1:a");
  RawPort far("vale1:b");
  for (unsigned i = 0; i < 300; ++i) {
    const auto frame = make_frame(5000 + i, i);
    ASSERT_NO_FATAL_FAILURE(send_in_pieces(port, frame, 2000));
    ASSERT_EQ(far.receive(0ms), frame);
    ASSERT_TRUE(far.send(frame));
    auto batch = port.rx().receive(16);
    ASSERT_EQ(batch.size(), 3U);
    Bytes whole;
    for (const auto& slot : batch) whole.insert(whole.end(), slot.bytes().begin(), slot.bytes().end());
    ASSERT_EQ(whole, frame);
    batch.finish();
  }
  EXPECT_EQ(port.stats().rx.delivered, 300U);
  EXPECT_EQ(port.stats().tx.sent, 300U);
  expect_balanced(port.stats());
}

// --- memory ---

TEST_F(Netmap, PortsOfOneRegionSwapOthersCopy) {
  module_.add_nic("nm0");
  module_.add_nic("nm1");
  auto a = open("netmap:nm0"), b = open("netmap:nm1");
  auto elsewhere = open("netmap:vale1:a");
  EXPECT_TRUE(forwards_by_swap(a.rx(), b.tx()));
  EXPECT_FALSE(forwards_by_swap(a.rx(), elsewhere.tx()));
  for (unsigned round = 0; round < 50; ++round) {
    for (unsigned i = 0; i < 100; ++i) ASSERT_TRUE(module_.deliver("nm0", make_frame(60, round * 100 + i)));
    auto batch = a.rx().receive(100);
    ASSERT_EQ(batch.size(), 100U);
    const auto* buffer = batch[0].buffer;
    EXPECT_EQ(forward(batch, b.tx()), 100U);
    EXPECT_EQ(b.tx().flush(), 100U);
    const auto seen = taken("nm1");
    ASSERT_EQ(seen.size(), 100U);
    for (unsigned i = 0; i < 100; ++i) ASSERT_EQ(seen[i], make_frame(60, round * 100 + i));
    EXPECT_NE(a.rx().receive(1).begin()->buffer, buffer);
  }
}

TEST_F(Netmap, APortGoesThoughItsMemoryIsHeld) {
  module_.add_nic("nm0");
  Frame kept;
  {
    auto port = open("netmap:nm0");
    ASSERT_TRUE(module_.deliver("nm0", make_frame(60, 1)));
    auto batch = port.rx().receive(1);
    ASSERT_EQ(batch.size(), 1U);
    auto taken_frame = batch.take(0);
    ASSERT_TRUE(taken_frame.has_value());
    kept = std::move(*taken_frame);
  }
  EXPECT_EQ(module_.descriptors(), 1U) << "of the memory alone";
  {
    const RawPort alone("nm0", 1, netmap::exclusive);
  }
  EXPECT_TRUE(std::ranges::equal(kept.bytes(), make_frame(60, 1)));
  kept = Frame();
  EXPECT_EQ(module_.descriptors(), 0U);
}

TEST_F(Netmap, SparesAreWhatWasAskedFor) {
  module_.add_nic("nm0");
  auto port = open("netmap:nm0?spares=10");
  EXPECT_EQ(port.rx().pool()->unused(), 10U);
  auto second = open("netmap:nm0^?spares=30");
  EXPECT_EQ(port.rx().pool()->unused(), 30U) << "one pool for the region, topped up";
  std::vector<Frame> all;
  while (auto frame = port.rx().pool()->acquire()) all.push_back(std::move(frame));
  EXPECT_EQ(all.size(), 30U);
}

// --- receiving ---

TEST_F(Netmap, SlotsHaveTheRingsTime) {
  module_.add_nic("nm0");
  auto port = open("netmap:nm0", Direction::rx);
  const auto before = Clock::now() - 1'000'000;
  ASSERT_TRUE(module_.deliver("nm0", make_frame(60, 1)));
  auto batch = port.rx().receive(1);
  ASSERT_EQ(batch.size(), 1U);
  EXPECT_EQ(batch[0].time_source(), TimeSource::kernel);
  EXPECT_EQ(batch[0].time % 1000, 0U) << "microseconds, as a ring has them";
  EXPECT_GE(batch[0].time, before);
}

TEST_F(Netmap, LossesAreCountedAcrossRings) {
  module_.add_nic("nm0", {.rings = 2, .slots = 256});
  auto port = open("netmap:nm0", Direction::rx);
  constexpr unsigned flood = 4000;
  for (unsigned i = 0; i < flood; ++i) ASSERT_TRUE(module_.deliver("nm0", make_frame(60, i), i % 2));
  std::size_t got = 0;
  for (int quiet = 0; quiet < 5;) {
    const auto n = port.rx(0).receive(64).finish() + port.rx(1).receive(64).finish();
    got += n;
    quiet = n > 0 ? 0 : quiet + 1;
  }
  port.drain();
  EXPECT_GT(dropped(port.stats().rx, DropReason::kernel_full), 0U);
  EXPECT_EQ(port.stats().rx.delivered, got);
  EXPECT_EQ(port.stats().rx.received, flood);
  expect_balanced(port.stats());
}

TEST_F(Netmap, ADeviceThatDoesNotCountMakesNoLosses) {
  module_.add_nic("nm0", {.counts = false});
  auto port = open("netmap:nm0", Direction::rx);
  for (unsigned i = 0; i < 100; ++i) ASSERT_TRUE(module_.deliver("nm0", make_frame(60, i)));
  EXPECT_EQ(port.rx().receive(200).finish(), 100U);
  port.drain();
  EXPECT_EQ(port.stats().rx.received, 100U);
  EXPECT_EQ(port.stats().rx.total_dropped(), 0U);
}

TEST_F(Netmap, APeersBadSlotIsDroppedAndNamed) {
  auto port = open("netmap:x{1");
  RawPort far("x}1");
  auto& ring = far.ring(true, 0);
  const auto publish = [&](std::uint32_t buffer, std::uint16_t length) {
    auto& slot = far.slot(ring, ring.head);
    const auto own = slot.buffer;
    slot.buffer = buffer != 0 ? buffer : own;
    slot.length = length;
    slot.flags = 0;
    ring.head = ring.cur = ring.head + 1;
    EXPECT_EQ(far.sync(true), 0);
  };
  ASSERT_TRUE(far.send(make_frame(60, 1)));
  publish(0, 5000);  // longer than a buffer
  publish(0, 0);
  ASSERT_TRUE(far.send(make_frame(60, 2)));
  auto batch = port.rx().receive(10);
  ASSERT_EQ(batch.size(), 2U);
  EXPECT_TRUE(std::ranges::equal(batch[1].bytes(), make_frame(60, 2)));
  EXPECT_EQ(dropped(port.stats().rx, DropReason::peer_invalid), 2U);
  EXPECT_EQ(batch.finish(), 2U);
  for (unsigned i = 0; i < 3000; ++i) {
    ASSERT_TRUE(far.send(make_frame(60, i)));
    ASSERT_EQ(port.rx().receive(1).finish(), 1U);
  }
  expect_balanced(port.stats());
}

// --- trouble ---

TEST_F(Netmap, NothingEntersTheKernelWhileTheLinkIsDown) {
  module_.add_nic("nm0");
  auto port = open("netmap:nm0");
  auto poller = Poller::create();
  ASSERT_TRUE(poller->add(port.rx()).has_value());
  ASSERT_TRUE(poller->add(port.tx()).has_value());
  module_.set_admin("nm0", false);
  for (unsigned i = 0; i < 10; ++i) {
    ASSERT_TRUE(port.tx().send(make_frame(60, i)));
    EXPECT_EQ(port.tx().flush(), 0U);
    EXPECT_EQ(port.rx().receive(8).size(), 0U);
    poller->wait(2ms);
  }
  poller->remove(port.tx());
  EXPECT_TRUE(poller->wait(30ms).empty());
  EXPECT_EQ(dropped(port.stats().tx, DropReason::link_down), 10U);
  EXPECT_EQ(port.link_downs(), 1U);
  EXPECT_EQ(module_.offences().entered_while_down, 0U);
  module_.set_admin("nm0", true);
  ASSERT_TRUE(port.tx().send(make_frame(60, 1)));
  EXPECT_EQ(port.tx().flush(), 1U);
  ASSERT_TRUE(module_.deliver("nm0", make_frame(60, 2)));
  EXPECT_EQ(poller->wait(1s).size(), 1U);
}

TEST_F(Netmap, APortThatIsDownWhenItIsClosedDoesNotHang) {
  module_.add_nic("nm0");
  {
    auto port = open("netmap:nm0");
    ASSERT_TRUE(port.tx().send(make_frame(60, 1)));
    module_.set_admin("nm0", false);
  }
  EXPECT_EQ(module_.offences().entered_while_down, 0U);
}

TEST_F(Netmap, RefusalsSayWhatToDo) {
  module_.add_nic("nm0");
  module_.add_nic("big", {.mtu = 9000});
  const auto expect = [](const std::string& text, std::initializer_list<std::string_view> words) {
    for (const auto word : words) EXPECT_NE(text.find(word), std::string::npos) << word << " in: " << text;
  };
  expect(refusal("netmap:nosuch"), {"nosuch"});
  expect(refusal("netmap:big"), {"MTU", "mtu 1500"});
  expect(refusal("netmap:vale1:a?slots=4000"), {});
  expect(refusal("netmap:nm0@77"), {"region"});
  expect(refusal("netmap:nm0/r", Direction::rx), {"cannot be monitored", "open the port first"});
  expect(refusal("netmap:nm0/r"), {"monitor", "rx"});
  expect(refusal("netmap:nm0?queues=3"), {"queues=3", "1"});
  expect(refusal("netmap:nm0?pass=on"), {"pass=on", "rx"});
  {
    const RawPort alone("nm0", 1, netmap::exclusive);
    expect(refusal("netmap:nm0"), {"exclusively"});
  }
  {
    auto mine = open("netmap:nm0?exclusive=on");
    EXPECT_THROW(RawPort("nm0"), std::runtime_error);
  }
  module_.set_module_loaded(false);
  expect(refusal("netmap:nm0"), {"not loaded"});
  module_.set_module_loaded(true);
  EXPECT_EQ(module_.descriptors(), 0U) << "a failed open leaves nothing behind";
}

TEST_F(Netmap, MoreSlotsThanTheRegionsRingsAllowIsToldWithTheParameters) {
  module_.add_nic("nm0", {.slots = 4096});
  const auto text = refusal("netmap:nm0");
  for (const auto* word : {"ring_size", "ring_num", "buf_num", "slots="}) EXPECT_NE(text.find(word), std::string::npos) << text;
}

TEST_F(Netmap, SlotsAreChosen) {
  for (const unsigned slots : {128U, 500U, 1000U, 2048U}) {
    auto port = open("netmap:vale1:a?slots=" + std::to_string(slots));
    EXPECT_LE(port.info().tx_ring, std::max(slots, 128U));
    EXPECT_GE(port.info().tx_ring * 4, slots);
    RawPort far("vale1:b");
    for (unsigned i = 0; i < 3 * slots; ++i) {
      ASSERT_TRUE(port.tx().send(make_frame(60, i)));
      ASSERT_EQ(port.tx().flush(), 1U);
      ASSERT_EQ(far.receive(0ms), make_frame(60, i));
      ASSERT_TRUE(far.send(make_frame(60, i)));
      ASSERT_EQ(port.rx().receive(1).finish(), 1U);
    }
  }
}

TEST_F(Netmap, TheInterfaceIsSetUpAndLeftAsItWas) {
  module_.add_nic("nm0");
  {
    auto port = open("netmap:nm0");
    EXPECT_TRUE(module_.promiscuous("nm0"));
    EXPECT_TRUE(module_.offloads_off("nm0"));
  }
  EXPECT_FALSE(module_.promiscuous("nm0"));
  EXPECT_FALSE(module_.offloads_off("nm0"));
  auto port = open("netmap:nm0?promisc=off&offload=keep");
  EXPECT_FALSE(module_.promiscuous("nm0"));
  EXPECT_FALSE(module_.offloads_off("nm0"));
}

// --- monitors ---

TEST_F(Netmap, AMonitorSeesBothDirections) {
  module_.add_nic("nm0");
  auto port = open("netmap:nm0");
  auto monitor = open("netmap:nm0/rt", Direction::rx);
  auto only_sent = open("netmap:nm0/t", Direction::rx);
  ASSERT_TRUE(module_.deliver("nm0", make_frame(60, 1)));
  EXPECT_EQ(port.rx().receive(1).finish(), 1U);
  ASSERT_TRUE(port.tx().send(make_frame(60, 2)));
  EXPECT_EQ(port.tx().flush(), 1U);
  EXPECT_EQ(receive_patiently(monitor.rx(), 2).finish(), 2U);
  auto sent = receive_patiently(only_sent.rx(), 1);
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_TRUE(std::ranges::equal(sent[0].bytes(), make_frame(60, 2)));
}

// --- the host's side ---

TEST_F(Netmap, TheHostRingsGiveAndTakeTheHostsFrames) {
  module_.add_nic("nm0");
  auto host = open("netmap:nm0^");
  module_.host_send("nm0", make_frame(60, 1));
  auto batch = host.rx().receive(4);
  ASSERT_EQ(batch.size(), 1U) << "eth7^ alone intercepts, as a NIC ring is bound too";
  EXPECT_TRUE(std::ranges::equal(batch[0].bytes(), make_frame(60, 1)));
  batch.finish();
  EXPECT_TRUE(taken("nm0").empty());
  ASSERT_TRUE(host.tx().send(make_frame(60, 2)));
  EXPECT_EQ(host.tx().flush(), 1U);
  EXPECT_EQ(module_.host_take("nm0"), make_frame(60, 2));
}

TEST_F(Netmap, WhatIsFinishedPassesBetweenNicAndHost) {
  module_.add_nic("nm0");
  auto port = open("netmap:nm0*?pass=on", Direction::rx);
  ASSERT_EQ(port.rx_queues(), 2U);
  for (unsigned round = 0; round < 40; ++round) {
    for (unsigned i = 0; i < 20; ++i) {
      ASSERT_TRUE(module_.deliver("nm0", make_frame(60, i)));
      module_.host_send("nm0", make_frame(61, i));
    }
    for (std::size_t q = 0; q < 2; ++q) {
      auto batch = port.rx(q).receive(20);
      ASSERT_EQ(batch.size(), 20U);
      batch.drop(3, DropReason::filtered);
      auto mine = batch.take(5);
      ASSERT_TRUE(mine.has_value());
      EXPECT_EQ(batch.finish(), 20U);
      EXPECT_EQ(port.rx(q).receive(1).size(), 0U);
    }
    std::vector<Bytes> up;
    while (auto frame = module_.host_take("nm0")) up.push_back(std::move(*frame));
    const auto down = taken("nm0");
    ASSERT_EQ(up.size(), 18U);
    ASSERT_EQ(down.size(), 18U);
    for (unsigned i = 0, k = 0; i < 20; ++i) {
      if (i == 3 || i == 5) continue;
      EXPECT_EQ(up[k], make_frame(60, i));
      EXPECT_EQ(down[k], make_frame(61, i));
      ++k;
    }
  }
  expect_balanced(port.stats());
}

TEST_F(Netmap, WhatIsForwardedDoesNotPassToo) {
  module_.add_nic("nm0");
  module_.add_nic("nm1");
  auto port = open("netmap:nm0?pass=on", Direction::rx);
  auto swapping = open("netmap:nm1", Direction::tx);
  auto copying = open("netmap:vale1:a", Direction::tx);
  for (auto* to : {&swapping, &copying}) {
    for (unsigned i = 0; i < 4; ++i) ASSERT_TRUE(module_.deliver("nm0", make_frame(60, i)));
    auto batch = port.rx().receive(4);
    ASSERT_EQ(batch.size(), 4U);
    EXPECT_EQ(forward(batch, to->tx()), 4U);
    port.rx().receive(1);
    EXPECT_FALSE(module_.host_take("nm0").has_value());
  }
}

TEST_F(Netmap, HostIsTheHostRingsWhereNetmapHasTheDevice) {
  module_.add_nic("nm0");
  auto nic = open("netmap:nm0");
  auto host = open("host:nm0");
  EXPECT_NE(host.info().mode.find("host rings"), std::string::npos) << host.info().mode;
  EXPECT_TRUE(forwards_by_swap(nic.rx(), host.tx()));
  EXPECT_TRUE(forwards_by_swap(host.rx(), nic.tx()));
}

TEST_F(Netmap, TheFirewallLetsThroughWhatItShould) {
  module_.add_nic("nm0");
  auto bad = make_frame(60, 1), good = make_frame(60, 2);
  const unsigned char telnet[] = {8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0x39, 0, 23};
  std::memcpy(bad.data() + 12, telnet, sizeof telnet);
  std::jthread world([&] {
    while (module_.descriptors() < 4) std::this_thread::sleep_for(1ms);
    std::this_thread::sleep_for(400ms);
    module_.deliver("nm0", bad);
    module_.deliver("nm0", good);
    module_.host_send("nm0", make_frame(60, 3));
  });
  std::string words[] = {"firewall", "nm0", "2"};
  char* arguments[] = {words[0].data(), words[1].data(), words[2].data()};
  EXPECT_EQ(firewall_example::run(3, arguments), 0);
  world.join();
  EXPECT_EQ(module_.host_take("nm0"), good);
  EXPECT_FALSE(module_.host_take("nm0").has_value());
  const auto sent = taken("nm0");
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0], make_frame(60, 3));
}

// --- the simulated module itself: what was measured on the genuine one ---

TEST_F(Netmap, SimulatedPollSendsUnlessToldNotTo) {
  module_.add_nic("nm0");
  for (const bool told : {false, true}) {
    for (const short events : {short{0}, short{POLLIN}, short{POLLOUT}, short{POLLIN | POLLOUT}}) {
      const RawPort raw("nm0", 1, told ? netmap::no_tx_poll : 0);
      auto& ring = raw.ring(true, 0);
      raw.slot(ring, ring.head).length = 60;
      ring.head = ring.cur = ring.head + 1;
      module_.poll_now(raw.fd(), events);
      EXPECT_EQ(taken("nm0").size(), !told || (events & POLLOUT) != 0 ? 1U : 0U) << told << " " << events;
    }
  }
}

TEST_F(Netmap, SimulatedSyncAnswersZeroWhenItDoesNothing) {
  module_.add_nic("nm0");
  RawPort raw("nm0");
  ASSERT_TRUE(raw.send(make_frame(60, 1)));
  auto& ring = raw.ring(true, 0);
  raw.slot(ring, ring.head).length = 60;
  ring.head = ring.cur = ring.head + 1;
  module_.be_busy(1);
  EXPECT_EQ(raw.sync(true), 0);
  EXPECT_EQ(taken("nm0").size(), 1U) << "only what was sent before";
  EXPECT_EQ(raw.sync(true), 0);
  EXPECT_EQ(taken("nm0").size(), 1U);
}

}  // namespace

}  // namespace efio::test
