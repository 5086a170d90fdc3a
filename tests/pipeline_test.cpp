// Pipelines: order, verdicts, what is counted, and the frames that plugins make and keep.
#include "efnet/plugins/pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "tests/support/plugins.h"

using efio::DropReason;
using efio::Frame;
using efnet::Gate;
using efnet::PacketBatch;
using efnet::Pipeline;
using efnet::ReturnedPackets;
using efnet::RxPackets;
using efnet::TxPackets;
using testing::ElementsAre;
using namespace plugin_test;

namespace {

std::shared_ptr<Lambdas> plugin(Lambdas::Pass in = {}, Lambdas::Pass out = {}, std::function<void(Gate&)> tick = {}) {
  return std::make_shared<Lambdas>(std::move(in), std::move(out), std::move(tick));
}

void make_numbered(Gate& gate, int number) {
  const auto bytes = gate.make(60);
  if (!bytes.empty()) bytes[0] = static_cast<std::byte>(number);
}

std::vector<int> sequence(int from, int to) {
  std::vector<int> all;
  for (int i = from; i < to; ++i) all.push_back(i);
  return all;
}

TEST(Pipeline, InFirstToLastOutLastToFirst) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx(), {.port = 7});
  std::vector<std::string> trace;
  for (const char* name : {"a", "b", "c"})
    pipeline.add(plugin(
        [&trace, name](PacketBatch& packets, Gate& gate) {
          EXPECT_TRUE(gate.is_in());
          EXPECT_EQ(gate.port(), 7U);
          EXPECT_EQ(gate.now(), 5s);
          EXPECT_EQ(packets.count(), 2U);
          trace.push_back(std::string("in ") + name);
        },
        [&trace, name](PacketBatch& packets, Gate& gate) {
          EXPECT_EQ(gate.direction(), efio::Direction::tx);
          EXPECT_EQ(packets.count(), 2U);
          trace.push_back(std::string("out ") + name);
        },
        [&trace, name](Gate& gate) {
          EXPECT_EQ(gate.direction(), efio::Direction::both);
          trace.push_back(std::string("tick ") + name);
        }));
  send_numbered(far, 2);
  bounce(near, pipeline, 5s);
  pipeline.tick(6s);
  EXPECT_THAT(trace, ElementsAre("in a", "in b", "in c", "out c", "out b", "out a", "tick a", "tick b", "tick c"));
  EXPECT_THAT(numbers(received(far)), ElementsAre(0, 1));
}

TEST(Pipeline, VerdictsAreCountedPerPluginAndReason) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx());
  pipeline.add(plugin([](PacketBatch& packets, Gate&) {
    packets.drop(0, DropReason::filtered);
    packets.drop(3, DropReason::rate_limit);
    packets.drop(4, DropReason::filtered);
    packets.drop(4, DropReason::malformed);  // it has left already
    packets.drop(64, DropReason::malformed);
  }));
  std::vector<std::size_t> left;
  pipeline.add(plugin([&](PacketBatch& packets, Gate&) {
    left.assign(packets.begin(), packets.end());
    packets.consume(1);
  }));
  send_numbered(far, 6);
  bounce(near, pipeline);
  EXPECT_THAT(left, ElementsAre(1, 2, 5));
  EXPECT_THAT(numbers(received(far)), ElementsAre(2, 5));

  const auto stats = pipeline.stats();
  EXPECT_EQ(stats[0].in.seen, 6U);
  EXPECT_EQ(stats[0].in.passed, 3U);
  EXPECT_EQ(stats[0].in.dropped[static_cast<std::size_t>(DropReason::filtered)], 2U);
  EXPECT_EQ(stats[0].in.dropped[static_cast<std::size_t>(DropReason::rate_limit)], 1U);
  EXPECT_EQ(stats[1].in.taken, 1U);
  EXPECT_EQ(stats[1].out.seen, 2U);
  const auto rx = near.stats().rx;
  EXPECT_EQ(rx.delivered, 3U);  // one consumed, two forwarded
  EXPECT_EQ(rx.dropped[static_cast<std::size_t>(DropReason::filtered)], 2U);
  expect_balanced(near);
}

TEST(Pipeline, WhatIsMadeGoesOutThroughThePluginsBeforeItsMaker) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx());
  std::vector<std::string> trace;
  const auto watch = [&](const char* name) {
    return [&trace, name](PacketBatch& packets, Gate& gate) {
      EXPECT_FALSE(gate.is_in());
      for (const std::size_t i : packets)
        trace.push_back(name + std::to_string(std::to_integer<int>(packets.bytes(i)[0])));
    };
  };
  pipeline.add(plugin({}, watch("a")));
  pipeline.add(plugin({}, [&](PacketBatch& packets, Gate& gate) {
    watch("b")(packets, gate);
    for (const std::size_t i : packets)
      if (packets.bytes(i)[0] == std::byte{51}) packets.drop(i, DropReason::filtered);
  }));
  pipeline.add(plugin(
      [](PacketBatch& packets, Gate& gate) {
        for (const std::size_t i : packets) {
          make_numbered(gate, 50 + std::to_integer<int>(packets.bytes(i)[0]));
          packets.consume(i);
        }
      },
      watch("c")));
  pipeline.add(plugin({}, watch("d")));
  send_numbered(far, 3);
  EXPECT_THAT(take_in(near, pipeline), ElementsAre());
  EXPECT_THAT(trace, ElementsAre("b50", "b51", "b52", "a50", "a52"));
  EXPECT_THAT(numbers(received(far)), ElementsAre(50, 52));

  const auto stats = pipeline.stats();
  EXPECT_EQ(stats[2].made, 3U);
  EXPECT_EQ(stats[1].out.total_dropped(), 1U);
  const auto tx = near.stats().tx;
  EXPECT_EQ(tx.made, 2U);
  EXPECT_EQ(tx.offered, 1U);  // the one given up
  EXPECT_EQ(tx.dropped[static_cast<std::size_t>(DropReason::filtered)], 1U);
  EXPECT_EQ(tx.sent, 2U);
  expect_balanced(near);
}

TEST(Pipeline, NothingMadeLeavesBeforeFlush) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx());
  pipeline.add(plugin({}, {}, [](Gate& gate) { make_numbered(gate, 9); }));
  pipeline.tick(1s);
  EXPECT_TRUE(received(far).empty());
  near.tx().flush();
  EXPECT_THAT(numbers(received(far)), ElementsAre(9));
}

// As an ARP plugin does: a frame that cannot go yet is kept, and a request goes in its place; later it is released.
TEST(Pipeline, AnOutgateMayMakeAndKeepAndReleaseLater) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx());
  std::vector<Frame> kept;
  int outermost = 0;
  pipeline.add(plugin({}, [&](PacketBatch& packets, Gate&) { outermost += static_cast<int>(packets.count()); }));
  pipeline.add(plugin(
      {},
      [&](PacketBatch& packets, Gate& gate) {
        for (const std::size_t i : packets) {
          auto frame = packets.take(i);
          ASSERT_TRUE(frame);
          kept.push_back(std::move(*frame));
          make_numbered(gate, 99);
        }
      },
      [&](Gate& gate) {
        for (Frame& frame : kept) EXPECT_TRUE(gate.release(frame));
        EXPECT_FALSE(kept.front());
        kept.clear();
      }));
  pipeline.add(plugin([](PacketBatch& packets, Gate& gate) {  // its frames meet the keeper on their way
    for (const std::size_t i : packets) {
      make_numbered(gate, 70 + std::to_integer<int>(packets.bytes(i)[0]));
      packets.consume(i);
    }
  }));
  send_numbered(far, 3);
  take_in(near, pipeline);
  EXPECT_THAT(numbers(received(far)), ElementsAre(99, 99, 99));
  EXPECT_EQ(kept.size(), 3U);
  EXPECT_EQ(outermost, 3);
  send_numbered(far, 2);
  EXPECT_THAT(numbers(received(far)), ElementsAre());

  auto batch = near.rx().receive(64);  // the program forwards these; they are kept too
  RxPackets packets(batch);
  pipeline.outgate(packets, 1s);
  EXPECT_TRUE(packets.empty());
  packets.finish();
  EXPECT_EQ(kept.size(), 5U);

  pipeline.tick(2s);
  near.tx().flush();
  EXPECT_THAT(numbers(received(far)), ElementsAre(99, 99, 70, 71, 72, 0, 1));
  EXPECT_EQ(outermost, 10);
  const auto stats = pipeline.stats()[1];
  EXPECT_EQ(stats.kept, 5U);
  EXPECT_EQ(stats.released, 5U);
  EXPECT_EQ(stats.made, 5U);
  expect_balanced(near);
}

TEST(Pipeline, KeptFramesAreBounded) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx(), {.most_kept = 3});
  std::vector<Frame> kept;
  std::vector<DropReason> refused;
  pipeline.add(plugin(
      [&](PacketBatch& packets, Gate&) {
        for (const std::size_t i : packets) {
          auto frame = packets.take(i);
          if (frame) {
            kept.push_back(std::move(*frame));
          } else {
            refused.push_back(frame.error());
            packets.drop(i, frame.error());
          }
        }
      },
      {},
      [&](Gate& gate) {
        gate.discard(std::move(kept.back()), DropReason::unresolved);
        kept.pop_back();
      }));
  send_numbered(far, 5);
  take_in(near, pipeline);
  EXPECT_EQ(kept.size(), 3U);
  EXPECT_THAT(refused, ElementsAre(DropReason::no_buffer, DropReason::no_buffer));
  pipeline.tick(1s);
  send_numbered(far, 5, 10);
  take_in(near, pipeline);
  EXPECT_EQ(kept.size(), 3U);
  EXPECT_EQ(kept.back().bytes()[0], std::byte{10});

  const auto stats = pipeline.stats()[0];
  EXPECT_EQ(stats.kept, stats.released + stats.discarded + kept.size());
  EXPECT_EQ(near.stats().tx.dropped[static_cast<std::size_t>(DropReason::unresolved)], 1U);
  expect_balanced(near);
}

// As a plugin that waits for the rest of a datagram does.
TEST(Pipeline, KeptFramesMayGoOnInwards) {
  auto [near, far] = open_ends();
  auto [left, right] = open_ends("", "onwards");
  Pipeline pipeline(&near.tx());
  std::vector<Frame> kept;
  std::vector<int> before, behind;
  const auto note = [](std::vector<int>& seen) {
    return plugin([&seen](PacketBatch& packets, Gate&) {
      for (const std::size_t i : packets) seen.push_back(std::to_integer<int>(packets.bytes(i)[0]));
    });
  };
  pipeline.add(note(before));
  pipeline.add(plugin(
      [&](PacketBatch& packets, Gate&) {
        for (const std::size_t i : packets)
          if (std::to_integer<int>(packets.bytes(i)[0]) % 2 != 0) kept.push_back(std::move(*packets.take(i)));
      },
      {},
      [&](Gate& gate) {
        for (Frame& frame : kept) EXPECT_TRUE(gate.release_inwards(frame));
        kept.clear();
      }));
  pipeline.add(plugin([](PacketBatch& packets, Gate& gate) {
    for (const std::size_t i : packets) {
      if (packets.bytes(i)[0] == std::byte{3}) packets.drop(i, DropReason::filtered);
      if (packets.bytes(i)[0] != std::byte{5}) continue;
      auto frame = packets.take(i);  // and on at once, to those behind
      ASSERT_TRUE(frame);
      EXPECT_TRUE(gate.release_inwards(*frame));
    }
  }));
  pipeline.add(note(behind));

  ReturnedPackets more;
  send_numbered(far, 8);
  EXPECT_THAT(take_in(near, pipeline), ElementsAre(0, 2, 4, 6));
  EXPECT_FALSE(pipeline.returned(more, 1s));
  pipeline.tick(2s);

  std::vector<int> came;
  int rounds = 0;
  for (; pipeline.returned(more, 2s); ++rounds) {
    for (const std::size_t i : more) came.push_back(std::to_integer<int>(more.bytes(i)[0]));
    EXPECT_EQ(forward(more, left.tx()), rounds == 0 ? 2U : 1U);
    EXPECT_TRUE(more.empty());
    more.finish();
  }
  left.tx().flush();
  EXPECT_EQ(rounds, 2);
  EXPECT_THAT(came, ElementsAre(1, 7, 5));
  EXPECT_THAT(numbers(received(right)), ElementsAre(1, 7, 5));
  EXPECT_THAT(before, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(behind, ElementsAre(0, 2, 4, 6, 1, 7, 5));

  const auto stats = pipeline.stats();
  for (const auto& each : stats) expect_balanced(each.in);
  EXPECT_EQ(stats[1].kept, 4U);
  EXPECT_EQ(stats[1].released, 4U);
  EXPECT_EQ(stats[2].in.seen, 8U);
  EXPECT_EQ(stats[2].in.dropped[static_cast<std::size_t>(DropReason::filtered)], 1U);
  EXPECT_EQ(near.stats().tx.dropped[static_cast<std::size_t>(DropReason::filtered)], 1U);
  expect_balanced(near);
  expect_balanced(left);
}

TEST(Pipeline, AsManyFramesAsABatchHoldsWaitToGoOnInwards) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx());
  std::vector<Frame> kept;
  pipeline.add(plugin(
      [&](PacketBatch& packets, Gate&) {
        for (const std::size_t i : packets) kept.push_back(std::move(*packets.take(i)));
      },
      {},
      [&](Gate& gate) {
        while (!kept.empty() && gate.release_inwards(kept.back())) kept.pop_back();
      }));
  const std::size_t unused = near.rx().pool()->unused();
  for (unsigned first = 0; first < 100; first += 50) {
    send_numbered(far, 50, first);
    take_in(near, pipeline);
  }
  pipeline.tick(1s);
  EXPECT_EQ(kept.size(), 100 - PacketBatch::capacity);
  EXPECT_TRUE(kept.back()) << "refused, and still the plugin's";

  ReturnedPackets more;
  ASSERT_TRUE(pipeline.returned(more, 1s));
  EXPECT_EQ(more.count(), PacketBatch::capacity);
  EXPECT_EQ(more.room(0).before, near.rx().headroom());
  more.drop_rest(DropReason::filtered);
  EXPECT_EQ(near.stats().tx.dropped[static_cast<std::size_t>(DropReason::filtered)], PacketBatch::capacity);
  kept.clear();
  EXPECT_EQ(near.rx().pool()->unused(), unused) << "every frame is back";
  EXPECT_EQ(pipeline.stats()[0].released, PacketBatch::capacity);
  expect_balanced(near);
}

TEST(Pipeline, MakesMoreThanOneClaimHolds) {
  auto [near, far] = open_ends("?ring=1024");
  Pipeline pipeline(&near.tx());
  std::size_t seen = 0;
  pipeline.add(plugin({}, [&](PacketBatch& packets, Gate&) { seen += packets.count(); }));
  pipeline.add(plugin({}, {}, [](Gate& gate) {
    for (int i = 0; i < 200; ++i) make_numbered(gate, i);
  }));
  pipeline.tick(1s);
  near.tx().flush();
  EXPECT_EQ(numbers(received(far)), sequence(0, 200));
  EXPECT_EQ(seen, 200U);
  EXPECT_EQ(pipeline.stats()[1].made, 200U);
}

TEST(Pipeline, AFullQueueRefusesAndCounts) {
  auto [near, far] = open_ends("?ring=128");
  const std::size_t ring = near.tx().ring_size();
  Pipeline pipeline(&near.tx());
  std::size_t refused = 0;
  pipeline.add(plugin({}, {}, [&](Gate& gate) {
    for (std::size_t i = 0; i < ring + 5; ++i) refused += gate.make(60).empty();
    EXPECT_TRUE(gate.make(near.tx().capacity() + 1).empty());
  }));
  pipeline.tick(1s);
  EXPECT_EQ(refused, 5U);
  EXPECT_EQ(pipeline.stats()[0].made, ring);
  EXPECT_EQ(pipeline.stats()[0].not_made, 6U);
  EXPECT_EQ(near.stats().tx.made, ring);
  EXPECT_TRUE(received(far).empty());
}

TEST(Pipeline, WithoutAnOutgoingQueueNothingIsMade) {
  Pipeline pipeline;
  pipeline.add(plugin({}, {}, [](Gate& gate) { EXPECT_TRUE(gate.make(60).empty()); }));
  pipeline.tick(1s);
  EXPECT_EQ(pipeline.stats()[0].not_made, 1U);
}

TEST(Pipeline, ForwardingKeepsWhatFindsNoRoom) {
  auto [near, far] = open_ends();
  auto [left, right] = [] {
    auto a = efio::Port::open("pipe:narrow/a?ring=128");
    auto b = efio::Port::open("pipe:narrow/b");
    return Ends{std::move(*a), std::move(*b)};
  }();
  const auto ring = left.tx().ring_size();
  for (const bool with_gap : {false, true}) {
    send_numbered(left, ring - 10);
    send_numbered(far, 14);
    auto batch = near.rx().receive(PacketBatch::capacity);
    RxPackets packets(batch);
    if (with_gap) packets.consume(1);
    EXPECT_EQ(forward(packets, left.tx()), 10U);
    EXPECT_EQ(packets.count(), with_gap ? 3U : 4U);
    left.tx().flush();
    EXPECT_EQ(received(right).size(), ring);
    EXPECT_EQ(forward(packets, left.tx()), with_gap ? 3U : 4U);
    EXPECT_TRUE(packets.empty());
    packets.finish();
    left.tx().flush();
    EXPECT_EQ(received(right).size(), with_gap ? 3U : 4U);
  }
  send_numbered(far, 2);
  auto batch = near.rx().receive(PacketBatch::capacity);
  RxPackets packets(batch);
  packets.drop_rest(DropReason::not_forwarded);
  packets.finish();
  EXPECT_EQ(near.stats().rx.dropped[static_cast<std::size_t>(DropReason::not_forwarded)], 2U);
  expect_balanced(near);
}

// Frames of several slots are one frame to plugins.
void send_in_two_slots(efio::Port& port, int number) {
  auto batch = port.tx().claim(2);
  ASSERT_EQ(batch.size(), 2U);
  std::memset(batch[0].bytes().data(), number, 128);
  batch[0].length = 128;
  batch[0].flags |= efio::Slot::more;
  batch[1].length = 10;
  std::memset(batch[1].bytes().data(), number, 10);
  ASSERT_EQ(batch.commit(2), 2U);
  port.tx().flush();
}

TEST(Pipeline, FramesOfSeveralSlotsAreOneFrame) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx());
  std::vector<std::size_t> seen, lengths;
  pipeline.add(plugin([&](PacketBatch& packets, Gate&) {
    for (const std::size_t i : packets) {
      seen.push_back(i);
      lengths.push_back(packets.length(i));
      if (packets.bytes(i)[0] == std::byte{2}) packets.drop(i, DropReason::filtered);
      if (packets.bytes(i)[0] == std::byte{4}) {
        EXPECT_EQ(packets.take(i).error(), DropReason::refused);
      }
    }
  }));
  send_numbered(far, 1, 1);
  send_in_two_slots(far, 2);
  send_numbered(far, 1, 3);
  send_in_two_slots(far, 4);
  bounce(near, pipeline);
  EXPECT_THAT(seen, ElementsAre(0, 1, 3, 4));
  EXPECT_THAT(lengths, ElementsAre(60, 138, 60, 138));
  const auto frames = received(far);
  EXPECT_THAT(numbers(frames), ElementsAre(1, 3, 4));
  EXPECT_EQ(frames.at(2).size(), 138U);
  expect_balanced(near);
}

TEST(Pipeline, AnotherThreadReadsStatisticsThatAddUp) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx());
  pipeline.add(plugin([](PacketBatch& packets, Gate& gate) {
    packets.drop(0, DropReason::filtered);
    packets.consume(1);
    make_numbered(gate, 1);
  }));
  std::uint64_t last = 0;
  std::jthread reader([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      const auto stats = pipeline.stats()[0];
      expect_balanced(stats.in);
      EXPECT_GE(stats.in.seen, last);
      last = stats.in.seen;
    }
  });
  for (int round = 0; round < 2000; ++round) {
    send_numbered(far, 4);
    bounce(near, pipeline);
    received(far);
  }
  reader.request_stop();
  reader.join();
  EXPECT_EQ(pipeline.stats()[0].in.seen, 8000U);
  EXPECT_EQ(pipeline.stats()[0].made, 2000U);
}

TEST(TxPackets, CommitsWhatPassedClosedUp) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx());
  std::vector<Frame> kept;
  pipeline.add(plugin({}, [&](PacketBatch& packets, Gate&) {
    packets.drop(0, DropReason::filtered);
    kept.push_back(std::move(*packets.take(2)));
    packets.consume(5);
  }));
  auto batch = near.tx().claim(8);
  for (std::size_t i = 0; i < 8; ++i) {
    batch[i].length = static_cast<std::uint32_t>(60 + i);
    batch[i].bytes()[0] = static_cast<std::byte>(i);
  }
  TxPackets packets(batch, 7);
  pipeline.outgate(packets, 1s);
  EXPECT_EQ(packets.commit(), 4U);
  near.tx().flush();
  const auto frames = received(far);
  EXPECT_THAT(numbers(frames), ElementsAre(1, 3, 4, 6));
  EXPECT_EQ(frames[3].size(), 66U);
  EXPECT_EQ(kept[0].bytes().size(), 62U);
  EXPECT_EQ(kept[0].bytes()[0], std::byte{2});
  const auto tx = near.stats().tx;
  EXPECT_EQ(tx.offered, 5U);
  EXPECT_EQ(tx.made, 0U);
  expect_balanced(near);
}

TEST(TxPackets, WhatPluginsMakeGoesBehindAndLeavesWithThem) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx());
  std::vector<Frame> kept;
  int innermost = 0, outermost = 0;
  pipeline.add(plugin({}, [&](PacketBatch& packets, Gate&) { outermost += static_cast<int>(packets.count()); }));
  pipeline.add(plugin({}, [&](PacketBatch& packets, Gate& gate) {
    kept.push_back(std::move(*packets.take(1)));
    for (int i = 0; i < 5; ++i) make_numbered(gate, 90 + i);
  }));
  pipeline.add(plugin({}, [&](PacketBatch& packets, Gate&) { innermost += static_cast<int>(packets.count()); }));
  auto batch = near.tx().claim(7);
  for (int i = 0; i < 3; ++i) {
    batch[static_cast<std::size_t>(i)].length = 60;
    batch[static_cast<std::size_t>(i)].bytes()[0] = static_cast<std::byte>(i);
  }
  TxPackets packets(batch, 3);
  pipeline.outgate(packets, 1s);
  EXPECT_EQ(packets.commit(), 6U);
  near.tx().flush();
  EXPECT_THAT(numbers(received(far)), ElementsAre(0, 2, 90, 91, 92, 93));
  EXPECT_EQ(pipeline.stats()[1].made, 4U);
  EXPECT_EQ(pipeline.stats()[1].not_made, 1U);
  EXPECT_EQ(innermost, 3);
  EXPECT_EQ(outermost, 6);
  EXPECT_EQ(near.stats().tx.made, 4U);
  EXPECT_EQ(near.stats().tx.offered, 2U);
  expect_balanced(near);
}

// Plugins that do anything, for long; every frame is somewhere.
TEST(Pipeline, EveryFrameIsAccountedForWhateverPluginsDo) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    auto near = *efio::Port::open("pipe:random/a?ring=256");
    auto far = *efio::Port::open("pipe:random/b");
    Pipeline pipeline(&near.tx(), {.most_kept = 20});
    std::vector<std::vector<Frame>> kept(4);
    std::uint64_t forwarded = 0;
    for (std::size_t which = 0; which < kept.size(); ++which) {
      const auto act = [&random, &mine = kept[which]](PacketBatch& packets, Gate& gate) {
        for (const std::size_t i : packets) switch (random() % 12) {
            case 0:
              packets.drop(i, static_cast<DropReason>(random() % efio::drop_reasons));
              break;
            case 1:
              packets.consume(i);
              break;
            case 2:
              if (auto frame = packets.take(i)) mine.push_back(std::move(*frame));
              break;
            case 3:
              make_numbered(gate, 1);
              break;
            case 4:
              if (!mine.empty() && gate.release(mine.back())) mine.pop_back();
              break;
            case 5:
              if (!mine.empty()) {
                gate.discard(std::move(mine.back()), DropReason::unresolved);
                mine.pop_back();
              }
              break;
            default:
              break;
          }
      };
      pipeline.add(plugin(act, act, [&random, &mine = kept[which]](Gate& gate) {
        if (random() % 4 == 0) make_numbered(gate, 2);
        if (!mine.empty() && gate.release(mine.back())) mine.pop_back();
      }));
    }
    for (int round = 0; round < 300; ++round) {
      for (std::size_t n = random() % 70; n > 0; --n) far.tx().send(Bytes(60 + random() % 100));
      far.tx().flush();
      auto batch = near.rx().receive(random() % 80);
      RxPackets packets(batch);
      pipeline.ingate(packets, 1s);
      pipeline.outgate(packets, 1s);
      forwarded += forward(packets, near.tx());
      packets.drop_rest(DropReason::not_forwarded);
      packets.finish();
      if (random() % 3 == 0) pipeline.tick(1s);
      if (random() % 3 != 0) near.tx().flush();
      if (random() % 2 == 0) received(far);
      expect_balanced(near);
    }
    std::uint64_t made = 0, released = 0, dropped_in = 0;
    const auto stats = pipeline.stats();
    for (std::size_t which = 0; which < stats.size(); ++which) {
      expect_balanced(stats[which].in);
      expect_balanced(stats[which].out);
      EXPECT_EQ(stats[which].kept, stats[which].released + stats[which].discarded + kept[which].size());
      made += stats[which].made;
      released += stats[which].released;
      dropped_in += stats[which].in.total_dropped();
      if (which > 0) {
        EXPECT_EQ(stats[which].in.seen, stats[which - 1].in.passed);
      }
    }
    EXPECT_GT(made, 0U);
    EXPECT_GT(released, 0U);
    const auto tx = near.stats().tx;
    EXPECT_GE(near.stats().rx.total_dropped(), dropped_in);
    // What was made or released and did not reach the queue has left at an outgate.
    EXPECT_LE(tx.made, made);
    EXPECT_LE(tx.made + (tx.offered - tx.total_dropped()), made + released + forwarded);
    EXPECT_GT(tx.sent, 0U);
  }
}

}  // namespace
