// Loss, duplication and reordering, judged by Sequences and by a slow model that remembers every number.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <vector>

#include "tools/io_gen/sequence.h"

namespace {

using efio::io_gen::SequenceCounts;
using efio::io_gen::Sequences;
using efio::io_gen::Tag;

// Everything that came, per stream, with no bound on memory. Numbers must not wrap.
class Model {
 public:
  void see(std::uint16_t stream, std::uint64_t s) {
    auto& seen = seen_[stream];
    if (seen.empty()) first_[stream] = s;
    if (!seen.empty() && s + Sequences::window <= *seen.rbegin()) {
      ++stale_;
      return;
    }
    if (seen.contains(s))
      ++duplicated_;
    else if (!seen.empty() && s < *seen.rbegin())
      ++reordered_;
    seen.insert(s);
  }
  SequenceCounts counts(Sequences::Start start) const {
    SequenceCounts counts{0, duplicated_, reordered_, stale_, 0};
    for (const auto& [stream, seen] : seen_) {
      const auto first = start == Sequences::Start::zero ? 0 : first_.at(stream);
      for (auto s = first; s <= *seen.rbegin(); ++s) counts.lost += seen.contains(s) ? 0U : 1U;
      ++counts.streams;
    }
    return counts;
  }

 private:
  std::map<std::uint16_t, std::set<std::uint64_t>> seen_;
  std::map<std::uint16_t, std::uint64_t> first_;
  std::uint64_t duplicated_ = 0, reordered_ = 0, stale_ = 0;
};

void expect_same(const SequenceCounts& a, const SequenceCounts& b) {
  EXPECT_EQ(a.lost, b.lost);
  EXPECT_EQ(a.duplicated, b.duplicated);
  EXPECT_EQ(a.reordered, b.reordered);
  EXPECT_EQ(a.stale, b.stale);
  EXPECT_EQ(a.streams, b.streams);
}

struct Frame {
  std::uint16_t stream;
  std::uint64_t sequence;
};

// Frames of a few streams with random loss, duplication and displacement by up to `reach` places.
std::vector<Frame> disturbed(std::mt19937& random, std::size_t reach, double loss) {
  std::uniform_real_distribution<double> chance(0, 1);
  std::vector<Frame> frames;
  for (std::uint64_t s = 0; s < 6000; ++s)
    for (std::uint16_t stream : {std::uint16_t{0}, std::uint16_t{7}, std::uint16_t{65535}}) {
      if (chance(random) < loss) continue;
      frames.push_back({stream, s});
      if (chance(random) < 0.01) frames.push_back({stream, s});
    }
  for (std::size_t i = 0; i + reach < frames.size() && reach > 0; ++i)
    if (chance(random) < 0.02) {
      const auto to = i + random() % reach;
      const Frame moved = frames[i];
      frames.erase(frames.begin() + static_cast<std::ptrdiff_t>(i));
      frames.insert(frames.begin() + static_cast<std::ptrdiff_t>(to), moved);
    }
  return frames;
}

TEST(Sequences, AgreeWithAModelThatRemembersEverything) {
  std::mt19937 random(1);
  for (const auto start : {Sequences::Start::zero, Sequences::Start::first_seen})
    for (const std::size_t reach : {0, 3, 100, 3000, 9000})
      for (const double loss : {0.0, 0.01, 0.5, 0.999}) {
        SCOPED_TRACE(testing::Message() << "reach " << reach << " loss " << loss);
        Sequences sequences(start);
        Model model;
        for (const auto& [stream, s] : disturbed(random, reach, loss)) {
          sequences.see(stream, s);
          model.see(stream, s);
        }
        const auto expected = model.counts(start);
        expect_same(sequences.counts(), expected);
      }
}

// Batches take a shorter way than single frames; both judge alike, also where numbers and streams wrap.
TEST(Sequences, ManyAtOnceAreJudgedLikeOneByOne) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 200; ++round) {
    const auto base = round % 2 == 0 ? 0 : Tag::sequence_mask - 700;
    std::vector<std::uint64_t> names;
    std::uint64_t next[3] = {base, base, base};
    while (names.size() < 3000) {
      const auto stream = random() % 3;
      for (auto run = random() % 100; run > 0; --run) {
        const auto name = Tag::name(static_cast<std::uint16_t>(65533 + stream), next[stream]++ & Tag::sequence_mask);
        if (random() % 50 != 0) names.push_back(name);
        if (random() % 80 == 0) names.push_back(name);
        if (names.size() > 2 && random() % 90 == 0) std::swap(names.back(), names[names.size() - 2]);
      }
    }
    Sequences one(Sequences::Start::first_seen), many(Sequences::Start::first_seen);
    for (const auto name : names) one.see(name);
    for (std::size_t i = 0; i < names.size();) {
      const auto n = std::min<std::size_t>(1 + random() % 64, names.size() - i);
      many.see_all(&names[i], n);
      i += n;
    }
    expect_same(one.counts(), many.counts());
  }
}

TEST(Sequences, GapsLongerThanTheWindowAreLostWhole) {
  Sequences sequences(Sequences::Start::zero);
  sequences.see(3, 0);
  sequences.see(3, 1'000'001);
  EXPECT_EQ(sequences.counts().lost, 1'000'000U);
  sequences.see(3, 1'000'000);
  EXPECT_EQ(sequences.counts().lost, 999'999U);
  EXPECT_EQ(sequences.counts().reordered, 1U);
  sequences.see(3, 5);
  EXPECT_EQ(sequences.counts().stale, 1U);
  EXPECT_EQ(sequences.counts().lost, 999'999U);
}

TEST(Sequences, AStreamMayBeginAnywhereWhenTheSenderIsOlder) {
  Sequences sequences(Sequences::Start::first_seen);
  sequences.see(9, 500);
  sequences.see(9, 501);
  sequences.see(9, 499);  // overtaken at the very start: late, but never counted as lost
  sequences.see(9, 499);
  sequences.see(9, 502);
  const auto counts = sequences.counts();
  EXPECT_EQ(counts.lost, 0U);
  EXPECT_EQ(counts.reordered, 1U);
  EXPECT_EQ(counts.duplicated, 1U);
  EXPECT_EQ(counts.streams, 1U);
}

TEST(Sequences, NumbersWrapAfter48Bits) {
  Sequences sequences(Sequences::Start::first_seen);
  for (std::uint64_t s = Tag::sequence_mask - 5000; s != 5000; s = (s + 1) & Tag::sequence_mask)
    if (s != Tag::sequence_mask && s != 3) sequences.see(0, s);
  sequences.see(0, 3);
  const auto counts = sequences.counts();
  EXPECT_EQ(counts.lost, 1U + 1U);
  EXPECT_EQ(counts.stale, 1U);
  EXPECT_EQ(counts.duplicated, 0U);
}

TEST(Sequences, WhatIsMissingAtTheEndIsLostOnceTheSenderTells) {
  Sequences sequences(Sequences::Start::zero);
  for (std::uint64_t s = 0; s < 90; ++s) sequences.see(1, s);
  sequences.expect_until(1, 100);
  sequences.expect_until(2, 7);
  EXPECT_EQ(sequences.counts().lost, 17U);
  sequences.see(3, 1);
  sequences.expect_until(3, 4);
  EXPECT_EQ(sequences.counts().lost, 20U);
}

}  // namespace
