// Forwarding between the engine and a pipe, by swap or by copy as the queues say.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "efio/forward.h"
#include "tests/contract/rig.h"

namespace efio::test {

namespace {

// A pipe whose end a forwards and whose end b feeds or collects.
struct Pipe {
  Port a, b;
};

Pipe open_pipe(std::shared_ptr<Pool> pool = {}) {
  const auto name = "pipe:" + unique_name("forward");
  auto a = Port::open(name + "?ring=256", {.pool = std::move(pool)});  // a registered pool cannot grow for it
  auto b = Port::open(name);
  EXPECT_TRUE(a && b);
  return {std::move(*a), std::move(*b)};
}

void expect_at(RxQueue& queue, std::span<const Bytes> frames) {
  auto batch = receive_patiently(queue, frames.size());
  ASSERT_EQ(batch.size(), frames.size());
  for (std::size_t i = 0; i < frames.size(); ++i) EXPECT_TRUE(std::ranges::equal(batch[i].bytes(), frames[i])) << i;
  batch.finish();
}

void to_pipe(const Bench& bench) {
  const auto frames = make_frames(50, 90);
  auto port = bench.receiving(frames);
  EXPECT_EQ(port.rx().swaps(), bench.can().rx_swaps);
  // A pipe on the port's own pool where it has one that others can use: then the row decides between swap and copy.
  auto pipe = open_pipe(bench.can().rx_swaps ? port.rx().pool() : nullptr);
  EXPECT_EQ(forwards_by_swap(port.rx(), pipe.a.tx()), bench.can().rx_swaps);
  auto batch = receive_patiently(port.rx(), frames.size());
  ASSERT_EQ(batch.size(), frames.size());
  batch.drop(10, DropReason::filtered);
  EXPECT_EQ(forward(batch, pipe.a.tx()), frames.size());
  EXPECT_TRUE(batch.empty());
  EXPECT_EQ(pipe.b.rx().receive(1).size(), 0U) << "forwarded frames leave at flush";
  EXPECT_EQ(pipe.a.tx().flush(), frames.size() - 1);
  auto expected = frames;
  expected.erase(expected.begin() + 10);
  ASSERT_NO_FATAL_FAILURE(expect_at(pipe.b.rx(), expected));
  EXPECT_EQ(port.stats().rx.delivered, frames.size() - 1);
  EXPECT_EQ(port.stats().rx.bytes, 90 * (frames.size() - 1));
  expect_balanced(port.stats());
  expect_balanced(pipe.a.stats());
}

void from_pipe(const Bench& bench) {
  const auto frames = make_frames(50, 90);
  auto pipe = open_pipe();
  auto port = bench.sending("", bench.can().tx_swaps ? pipe.a.rx().pool() : nullptr);
  EXPECT_EQ(port.tx().swaps(), bench.can().tx_swaps);
  EXPECT_EQ(forwards_by_swap(pipe.a.rx(), port.tx()), bench.can().tx_swaps && port.tx().pool() == pipe.a.rx().pool());
  for (const auto& frame : frames) ASSERT_TRUE(pipe.b.tx().send(frame));
  pipe.b.tx().flush();
  auto batch = pipe.a.rx().receive(frames.size());
  EXPECT_EQ(forward(batch, port.tx()), frames.size());
  EXPECT_EQ(port.stats().tx.pending, frames.size());
  EXPECT_EQ(port.tx().flush(), frames.size());
  for (const auto& frame : frames) {
    const auto seen = bench.rig.take_out(milliseconds(5000));
    ASSERT_TRUE(seen.has_value());
    EXPECT_TRUE(*seen == frame);
  }
  EXPECT_TRUE(port.drain());
  EXPECT_EQ(port.stats().tx.sent, frames.size());
  expect_balanced(port.stats());
  expect_balanced(pipe.a.stats());
}

// More frames than the outgoing queue has room for: a prefix moves, the rest stay and go later.
void to_full_pipe(const Bench& bench) {
  const auto frames = make_frames(90, 70);
  auto port = bench.receiving(frames);
  auto pipe = open_pipe(bench.can().rx_swaps ? port.rx().pool() : nullptr);
  const auto ring = pipe.a.tx().ring_size();
  auto filler = pipe.a.tx().claim(ring - 40);
  for (auto& slot : filler) slot.length = 60;
  filler.commit();
  pipe.a.tx().flush();
  auto batch = receive_patiently(port.rx(), frames.size());
  ASSERT_EQ(batch.size(), frames.size());
  EXPECT_EQ(forward(batch, pipe.a.tx()), 40U);
  EXPECT_EQ(batch.size(), 50U);
  EXPECT_EQ(forward(batch, pipe.a.tx()), 0U);
  EXPECT_EQ(port.stats().rx.waiting, 50U);
  expect_balanced(port.stats());
  pipe.b.rx().receive(ring - 40).finish();
  EXPECT_EQ(forward(batch, pipe.a.tx()), 50U);
  pipe.a.tx().flush();
  ASSERT_NO_FATAL_FAILURE(expect_at(pipe.b.rx(), frames));
  expect_balanced(port.stats());
}

void chosen(const Bench& bench) {
  const auto frames = make_frames(20, 80);
  auto port = bench.receiving(frames);
  auto pipe = open_pipe(bench.can().rx_swaps ? port.rx().pool() : nullptr);
  auto batch = receive_patiently(port.rx(), frames.size());
  ASSERT_EQ(batch.size(), frames.size());
  const std::array<std::uint32_t, 4> even = {0, 2, 8, 18};
  EXPECT_EQ(forward(batch, even, pipe.a.tx()), even.size());
  EXPECT_EQ(batch.size(), frames.size()) << "nothing is finished";
  for (const auto i : even) EXPECT_TRUE(batch[i].has(Slot::moved));
  EXPECT_EQ(port.stats().rx.waiting, frames.size());
  auto taken = batch.take(3);
  ASSERT_TRUE(taken.has_value());
  batch.drop(1, DropReason::filtered);
  const std::array<std::uint32_t, 2> rest = {4, 19};
  EXPECT_EQ(forward(batch, rest, pipe.a.tx()), rest.size());
  batch.finish();
  pipe.a.tx().flush();
  const std::vector<Bytes> expected = {frames[0], frames[2], frames[8], frames[18], frames[4], frames[19]};
  ASSERT_NO_FATAL_FAILURE(expect_at(pipe.b.rx(), expected));
  EXPECT_TRUE(std::ranges::equal(taken->bytes(), frames[3]));
  EXPECT_EQ(port.stats().rx.delivered, frames.size() - 1);
  EXPECT_EQ(port.stats().rx.bytes, 80 * (frames.size() - 1));
  expect_balanced(port.stats());
}

bool receives(const Capabilities& can, const Rig&) { return can.rx; }

constexpr auto table = std::to_array<Case>({
    {"ForwardsToAPipe", "does not receive", receives, to_pipe},
    {"ForwardsFromAPipe", "does not send", [](const Capabilities& can, const Rig&) { return can.tx; }, from_pipe},
    {"ForwardsAPrefixToAFullPipe", "does not receive", receives, to_full_pipe},
    {"ForwardsChosenFrames", "does not receive", receives, chosen},
});

}  // namespace

std::span<const Case> forward_cases() { return table; }

}  // namespace efio::test
