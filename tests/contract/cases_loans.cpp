// Loans: what receive, finish, claim, commit and flush promise.
#include <gtest/gtest.h>

#include <array>

#include "tests/contract/rig.h"

namespace efio::test {

namespace {

constexpr std::size_t largest_of_every_size = 1514;

bool sends(const Capabilities& can, const Rig&) { return can.tx; }
bool receives_live(const Capabilities& can, const Rig& rig) { return can.rx && !rig.stored(); }
bool receives_any(const Capabilities& can, const Rig&) { return can.rx; }

void expect_out(const Bench& bench, const Bytes& frame) {
  const auto seen = bench.rig.take_out(milliseconds(5000));
  ASSERT_TRUE(seen.has_value()) << "a frame of " << frame.size() << " bytes did not come out";
  ASSERT_EQ(seen->size(), frame.size());
  EXPECT_TRUE(*seen == frame) << "a frame of " << frame.size() << " bytes came out with other content";
}

std::vector<std::size_t> sizes_for(const Port& port) {
  std::vector<std::size_t> sizes;
  for (std::size_t size = 14; size <= std::min(largest_of_every_size, port.info().frame_size); ++size) sizes.push_back(size);
  if (port.info().frame_size > largest_of_every_size) sizes.push_back(port.info().frame_size);
  return sizes;
}

void every_size_out(const Bench& bench) {
  auto port = bench.sending();
  std::uint64_t bytes = 0;
  const auto sizes = sizes_for(port);
  for (const auto size : sizes) {
    const auto frame = make_frame(size, static_cast<unsigned>(size));
    ASSERT_TRUE(port.tx().send(frame)) << size;
    ASSERT_EQ(port.tx().flush(), 1U) << size;
    ASSERT_NO_FATAL_FAILURE(expect_out(bench, frame));
    bytes += size;
  }
  ASSERT_TRUE(port.drain());
  EXPECT_EQ(port.stats().tx.sent, sizes.size());
  EXPECT_EQ(port.stats().tx.bytes, bytes);
  expect_balanced(port.stats());
}

void every_size_in(const Bench& bench) {
  std::size_t largest = 0;
  {
    const auto probe = bench.receiving({make_frame(60, 0)});
    largest = probe.info().frame_size;
  }
  std::vector<Bytes> frames;
  for (std::size_t size = 14; size <= std::min(largest_of_every_size, largest); ++size) frames.push_back(make_frame(size, 7));
  if (largest > largest_of_every_size) frames.push_back(make_frame(largest, 7));
  if (!bench.rig.stored()) {
    auto port = bench.receiving({});
    while (port.rx().receive(1).finish() > 0) {}
    const auto before = port.stats().rx;
    for (const auto& frame : frames) {
      ASSERT_TRUE(bench.rig.put_in(frame, 0));
      auto batch = receive_patiently(port.rx(), 1);
      ASSERT_EQ(batch.size(), 1U) << "a frame of " << frame.size() << " bytes did not come in";
      ASSERT_TRUE(std::ranges::equal(batch[0].bytes(), frame)) << frame.size();
      batch.finish();
    }
    EXPECT_EQ(port.stats().rx.delivered - before.delivered, frames.size());
    expect_balanced(port.stats());
    return;
  }
  auto port = bench.receiving(frames);
  auto probe = receive_patiently(port.rx(), 1);
  ASSERT_EQ(probe.finish(), 1U);
  std::uint64_t bytes = 60;
  for (const auto& frame : frames) {
    auto batch = receive_patiently(port.rx(), 1);
    ASSERT_EQ(batch.size(), 1U);
    ASSERT_TRUE(std::ranges::equal(batch[0].bytes(), frame)) << frame.size();
    batch.finish();
    bytes += frame.size();
  }
  EXPECT_EQ(port.stats().rx.bytes, bytes);
  expect_balanced(port.stats());
}

void longer_than_a_frame(const Bench& bench) {
  auto port = bench.sending();
  const auto long_frame = make_frame(port.info().frame_size + 1, 1);
  if (port.tx().send(long_frame)) port.tx().flush();
  ASSERT_TRUE(port.tx().send(make_frame(60, 2)));
  port.tx().flush();
  ASSERT_NO_FATAL_FAILURE(expect_out(bench, make_frame(60, 2)));
  port.drain();
  const auto tx = port.stats().tx;
  EXPECT_EQ(tx.sent, 1U);
  EXPECT_EQ(tx.total_dropped(), tx.dropped[static_cast<std::size_t>(DropReason::oversize)]);
  expect_balanced(port.stats());
}

void abandoned_claim(const Bench& bench) {
  auto port = bench.sending();
  {
    auto abandoned = port.tx().claim(10);
    ASSERT_EQ(abandoned.size(), 10U);
    for (auto& slot : abandoned) slot.length = 60;
  }
  EXPECT_EQ(port.tx().flush(), 0U);
  const auto frame = make_frame(100, 3);
  ASSERT_TRUE(port.tx().send(frame));
  EXPECT_EQ(port.tx().flush(), 1U);
  ASSERT_NO_FATAL_FAILURE(expect_out(bench, frame));
  EXPECT_FALSE(bench.rig.take_out(milliseconds(20)).has_value());
  EXPECT_TRUE(port.drain());
  EXPECT_EQ(port.stats().tx.offered, 1U);
  expect_balanced(port.stats());
}

void partial_commit(const Bench& bench) {
  auto port = bench.sending();
  auto batch = port.tx().claim(10);
  ASSERT_EQ(batch.size(), 10U);
  for (unsigned i = 0; i < 10; ++i) {
    const auto frame = make_frame(60 + i, i);
    std::ranges::copy(frame, batch.space(i).begin());
    batch[i].length = 60 + i;
  }
  EXPECT_EQ(batch.commit(3), 3U);
  EXPECT_EQ(batch.size(), 7U);
  EXPECT_EQ(port.tx().flush(), 3U);
  EXPECT_EQ(batch.commit(2), 2U) << "the rest of the batch stays usable after a flush";
  EXPECT_EQ(port.stats().tx.pending, 2U);
  EXPECT_EQ(port.tx().flush(), 2U);
  for (unsigned i = 0; i < 5; ++i) ASSERT_NO_FATAL_FAILURE(expect_out(bench, make_frame(60 + i, i)));
  EXPECT_FALSE(bench.rig.take_out(milliseconds(20)).has_value());
  EXPECT_TRUE(port.drain());
  EXPECT_EQ(port.stats().tx.sent, 5U);
  expect_balanced(port.stats());
}

void flush_with_nothing(const Bench& bench) {
  auto port = bench.sending();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(port.tx().flush(), 0U);
  EXPECT_FALSE(bench.rig.take_out(milliseconds(20)).has_value());
  EXPECT_TRUE(port.drain());
  const auto tx = port.stats().tx;
  EXPECT_EQ(tx.offered + tx.sent + tx.pending + tx.total_dropped(), 0U);
}

void one_frame_leaves_at_once(const Bench& bench) {
  auto port = bench.sending();
  for (unsigned i = 0; i < 20; ++i) {
    ASSERT_TRUE(port.tx().send(make_frame(60, i)));
    ASSERT_EQ(port.tx().flush(), 1U);
    const auto seen = bench.rig.take_out(milliseconds(500));
    ASSERT_TRUE(seen.has_value()) << "not seen within 500 ms of its flush";
    EXPECT_TRUE(*seen == make_frame(60, i));
  }
}

void nothing_leaves_before_flush(const Bench& bench) {
  auto port = bench.sending();
  for (unsigned i = 0; i < 5; ++i) ASSERT_TRUE(port.tx().send(make_frame(60, i)));
  port.rx().receive(1);
  EXPECT_EQ(port.tx().claim(1).size(), 1U);
  EXPECT_FALSE(bench.rig.take_out(milliseconds(50)).has_value());
  EXPECT_EQ(port.stats().tx.pending, 5U);
  EXPECT_EQ(port.stats().tx.sent, 0U);
  EXPECT_EQ(port.tx().flush(), 5U);
  for (unsigned i = 0; i < 5; ++i) ASSERT_NO_FATAL_FAILURE(expect_out(bench, make_frame(60, i)));
}

void nothing_is_left_at_close(const Bench& bench) {
  auto port = bench.sending();
  for (unsigned i = 0; i < 40; ++i) ASSERT_TRUE(port.tx().send(make_frame(60, i)));
  const auto closed = port.close();
  EXPECT_TRUE(closed.has_value()) << closed.error().message();
  for (unsigned i = 0; i < 40; ++i) ASSERT_NO_FATAL_FAILURE(expect_out(bench, make_frame(60, i)));
  EXPECT_EQ(port.stats().tx.sent, 40U);
  expect_balanced(port.stats());
}

void short_claims_mean_full(const Bench& bench) {
  auto port = bench.sending();
  auto& tx = port.tx();
  const auto ring = tx.ring_size();
  EXPECT_EQ(tx.claim(1).size(), 1U);
  EXPECT_EQ(tx.claim(ring / 2).size(), ring / 2);
  EXPECT_EQ(tx.claim(ring).size(), ring);
  auto all = tx.claim(ring + 100);
  ASSERT_EQ(all.size(), ring);
  for (auto& slot : all) slot.length = 60;
  EXPECT_EQ(all.commit(ring - 7), ring - 7);
  EXPECT_EQ(tx.claim(100).size(), 7U);
  EXPECT_EQ(all.commit(), 7U);
  EXPECT_EQ(tx.claim(1).size(), 0U);
  EXPECT_TRUE(tx.status().has_value()) << "a full ring is an answer, not an error";
  EXPECT_EQ(port.stats().tx.pending, ring);
}

// Where a full ring holds the sender back: no frame is lost, whatever the counterpart's pace.
void full_ring_loses_nothing(const Bench& bench) {
  auto port = bench.sending();
  auto& tx = port.tx();
  const auto ring = tx.ring_size();
  std::size_t offered = 0;
  for (std::size_t quiet = 0; quiet < 100; ++quiet) {  // the device may hold more than the ring
    while (offered < 100 * ring && tx.send(make_frame(60, static_cast<unsigned>(offered)))) ++offered, quiet = 0;
    tx.flush();
  }
  ASSERT_LT(offered, 100 * ring) << "the ring never became full";
  EXPECT_EQ(tx.claim(1).size(), 0U);
  for (std::size_t i = 0; i < offered; ++i) {
    ASSERT_NO_FATAL_FAILURE(expect_out(bench, make_frame(60, static_cast<unsigned>(i))));
    if (i == 49) {
      tx.flush();
      EXPECT_GE(tx.claim(1000).size(), 50U) << "room that came back is not lent";
    }
    tx.flush();
  }
  EXPECT_TRUE(port.drain());
  EXPECT_EQ(port.stats().tx.sent, offered);
  EXPECT_EQ(port.stats().tx.total_dropped(), 0U);
}

void claims_across_the_wrap(const Bench& bench) {
  auto port = bench.sending();
  auto& tx = port.tx();
  const auto ring = tx.ring_size();
  const std::size_t step = ring - ring / 4 - 3;  // odd, so that every phase of the wrap comes
  unsigned number = 0;
  for (unsigned round = 0; round < 12; ++round) {
    auto batch = tx.claim(step);
    ASSERT_EQ(batch.size(), step) << "n are free, and were not lent in one batch";
    for (std::size_t i = 0; i < step; ++i) {
      std::ranges::copy(make_frame(60, number + static_cast<unsigned>(i)), batch.space(i).begin());
      batch[i].length = 60;
    }
    ASSERT_EQ(batch.commit(), step);
    tx.flush();
    for (std::size_t i = 0; i < step; ++i) {
      ASSERT_NO_FATAL_FAILURE(expect_out(bench, make_frame(60, number++)));
      if (tx.stats().pending > 0) tx.flush();
    }
    ASSERT_TRUE(port.drain());
  }
  EXPECT_EQ(port.stats().tx.sent, number);
  expect_balanced(port.stats());
}

void batches_across_the_wrap(const Bench& bench) {
  auto port = bench.receiving({});
  const std::size_t step = 97;
  unsigned number = 0;
  for (unsigned round = 0; round < 40; ++round) {
    for (unsigned i = 0; i < step; ++i) ASSERT_TRUE(bench.rig.put_in(make_frame(60, number + i), 0));
    auto batch = receive_patiently(port.rx(), step);
    ASSERT_EQ(batch.size(), step) << "n are there, and were not lent in one batch";
    for (auto& slot : batch) ASSERT_TRUE(std::ranges::equal(slot.bytes(), make_frame(60, number++)));
    ASSERT_EQ(batch.finish(), step);
  }
  EXPECT_EQ(port.stats().rx.delivered, number);
  expect_balanced(port.stats());
}

void unfinished_is_lent_again(const Bench& bench) {
  constexpr unsigned total = 90;
  auto port = bench.receiving(make_frames(total));
  auto& rx = port.rx();
  unsigned expected = 0;
  auto first = receive_patiently(rx, total);
  ASSERT_EQ(first.size(), total);
  for (unsigned round = 0; expected < total; ++round) {
    auto batch = rx.receive(10 + round);
    ASSERT_GT(batch.size(), 0U);
    ASSERT_TRUE(std::ranges::equal(batch[0].bytes(), make_frame(60, expected))) << "not the oldest unfinished frame";
    const auto done = std::min<std::size_t>(batch.size(), 1 + round % 5);
    ASSERT_EQ(batch.finish(done), done);
    expected += static_cast<unsigned>(done);
    EXPECT_EQ(rx.stats().waiting, total - expected);
    EXPECT_EQ(rx.stats().delivered, expected);
    expect_balanced(port.stats());
  }
  EXPECT_EQ(first.finish(), 0U) << "a batch is void once its queue has lent a newer one";
}

void dropped_with_reasons(const Bench& bench) {
  auto port = bench.receiving(make_frames(10));
  auto batch = receive_patiently(port.rx(), 10);
  ASSERT_EQ(batch.size(), 10U);
  batch.drop(2, DropReason::filtered);
  batch.drop(2, DropReason::filtered);
  batch.drop(5, DropReason::malformed);
  batch.drop(10, DropReason::malformed);
  EXPECT_EQ(port.stats().rx.waiting, 8U);
  expect_balanced(port.stats());
  EXPECT_EQ(batch.finish(4), 4U);
  expect_balanced(port.stats());
  EXPECT_EQ(batch.finish(), 6U);
  const auto rx = port.stats().rx;
  EXPECT_EQ(rx.delivered, 8U);
  EXPECT_EQ(rx.dropped[static_cast<std::size_t>(DropReason::filtered)], 1U);
  EXPECT_EQ(rx.dropped[static_cast<std::size_t>(DropReason::malformed)], 1U);
  expect_balanced(port.stats());
}

void given_up_at_the_sender(const Bench& bench) {
  auto port = bench.sending();
  port.tx().drop(4, DropReason::unresolved);
  const auto tx = port.stats().tx;
  EXPECT_EQ(tx.offered, 4U);
  EXPECT_EQ(tx.dropped[static_cast<std::size_t>(DropReason::unresolved)], 4U);
  auto batch = port.tx().claim(2);
  ASSERT_EQ(batch.size(), 2U);
  for (unsigned i = 0; i < 2; ++i) {
    std::ranges::copy(make_frame(60, i), batch.space(i).begin());
    batch[i].length = 60;
  }
  EXPECT_EQ(batch.commit_made(1), 1U);
  EXPECT_EQ(batch.commit(1), 1U);
  port.tx().flush();
  ASSERT_NO_FATAL_FAILURE(expect_out(bench, make_frame(60, 0)));
  ASSERT_NO_FATAL_FAILURE(expect_out(bench, make_frame(60, 1)));
  EXPECT_TRUE(port.drain());
  EXPECT_EQ(port.stats().tx.made, 1U);
  EXPECT_EQ(port.stats().tx.offered, 5U);
  EXPECT_EQ(port.stats().tx.sent, 2U);
  expect_balanced(port.stats());
}

void taken_frames(const Bench& bench) {
  const auto frames = make_frames(8, 100);
  auto port = bench.receiving(frames);
  auto batch = receive_patiently(port.rx(), frames.size());
  ASSERT_EQ(batch.size(), frames.size());
  std::vector<Frame> kept;
  for (const std::size_t i : {1U, 4U, 7U}) {
    auto frame = batch.take(i);
    ASSERT_TRUE(frame.has_value()) << name(frame.error());
    EXPECT_TRUE(batch[i].has(Slot::moved));
    const auto again = batch.take(i);
    ASSERT_FALSE(again.has_value());
    EXPECT_EQ(again.error(), DropReason::refused);
    kept.push_back(std::move(*frame));
  }
  EXPECT_EQ(batch.finish(), frames.size());
  EXPECT_EQ(port.stats().rx.delivered, frames.size());
  EXPECT_EQ(port.stats().rx.bytes, 800U);
  for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(std::ranges::equal(kept[i].bytes(), frames[1 + 3 * i]));
  expect_balanced(port.stats());
  ASSERT_TRUE(port.close().has_value());
  EXPECT_TRUE(std::ranges::equal(kept[0].bytes(), frames[1])) << "a frame outlives its port";
}

void put_frames(const Bench& bench) {
  auto source = Port::open("pipe:" + unique_name("put"));
  auto feed = Port::open("pipe:" + source->info().uri.substr(5));
  ASSERT_TRUE(source && feed);
  const auto frames = make_frames(3, 200);
  for (const auto& frame : frames) ASSERT_TRUE(feed->tx().send(frame));
  feed->tx().flush();
  auto batch = source->rx().receive(3);
  ASSERT_EQ(batch.size(), 3U);
  auto port = bench.sending();
  for (std::size_t i = 0; i < 3; ++i) {
    auto frame = batch.take(i);
    ASSERT_TRUE(frame.has_value());
    ASSERT_TRUE(port.tx().put(*frame));
    EXPECT_FALSE(static_cast<bool>(*frame)) << "what was put is not the caller's any more";
  }
  port.tx().flush();
  for (const auto& frame : frames) ASSERT_NO_FATAL_FAILURE(expect_out(bench, frame));
  auto all = port.tx().claim(port.tx().ring_size());
  for (auto& slot : all) slot.length = 60;
  all.commit();
  Frame kept = port.tx().pool() ? port.tx().pool()->acquire() : Frame();
  if (kept) {
    EXPECT_FALSE(port.tx().put(kept)) << "the ring is full";
    EXPECT_TRUE(static_cast<bool>(kept)) << "the frame stays with the caller";
  }
  expect_balanced(port.stats());
}

constexpr auto table = std::to_array<Case>({
    {"CarriesEverySizeOut", "does not send", sends, every_size_out},
    {"CarriesEverySizeIn", "does not receive", receives_any, every_size_in},
    {"SendsNothingLongerThanItsFrame", "does not send", sends, longer_than_a_frame},
    {"AbandonedClaimSendsNothing", "does not send", sends, abandoned_claim},
    {"PartialCommitSendsItsPrefix", "does not send", sends, partial_commit},
    {"FlushWithNothingSendsNothing", "does not send", sends, flush_with_nothing},
    {"OneFlushedFrameLeavesAtOnce", "does not send", sends, one_frame_leaves_at_once},
    {"NothingLeavesBeforeFlush", "does not send", sends, nothing_leaves_before_flush},
    {"NothingIsLeftUnsentAtClose", "does not send", sends, nothing_is_left_at_close},
    {"AShortClaimMeansFull", "does not send", sends, short_claims_mean_full},
    {"AFullRingHoldsTheSenderBack", "a full ring does not hold the sender back",
     [](const Capabilities& can, const Rig&) { return can.tx && can.blocks; }, full_ring_loses_nothing},
    {"ClaimsGiveNAcrossTheWrap", "does not send", sends, claims_across_the_wrap},
    {"BatchesHoldNAcrossTheWrap", "does not receive live frames", receives_live, batches_across_the_wrap},
    {"UnfinishedSlotsAreLentAgain", "does not receive", receives_any, unfinished_is_lent_again},
    {"DropsHaveReasons", "does not receive", receives_any, dropped_with_reasons},
    {"MadeAndGivenUpFramesCount", "does not send", sends, given_up_at_the_sender},
    {"TakenFramesOutliveTheirPort", "does not receive", receives_any, taken_frames},
    {"PutFramesLeave", "does not send", sends, put_frames},
});

}  // namespace

std::span<const Case> loan_cases() { return table; }

}  // namespace efio::test
