// Captures sent again: in their own time, faster, at a rate, over and over. What becomes of addresses is judged by
// scapy (conformance/io_gen_replay.py).
#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "efio/port.h"
#include "tests/support/directory.h"
#include "tools/io_gen/options.h"
#include "tools/io_gen/run.h"

namespace {

using efio::Port;
using efio::io_gen::Options;
using Measurement = efio::io_gen::Run;  // testing::Test has a Run of its own

// A capture of frames recorded at these ns.
void record(const std::string& file, const std::vector<std::uint64_t>& times) {
  auto port = *Port::open("pcap:" + file, {.direction = efio::Direction::tx});
  for (std::size_t i = 0; i < times.size(); ++i) {
    auto batch = port.tx().claim(1);
    batch[0].length = 60;
    std::ranges::fill(batch[0].bytes(), static_cast<std::byte>(i));
    batch[0].stamp(1'700'000'000'000'000'000 + times[i], efio::TimeSource::kernel);
    batch.commit();
    port.tx().flush();
  }
  ASSERT_TRUE(port.close());
}

class Replayed : public testing::Test {
 protected:
  Replayed() : directory_("io_gen_replay"), file_(directory_.file("recorded.pcap")) {}

  Options options(std::vector<const char*> words) {
    std::vector<const char*> all = {"io_gen", "tx", "pipe:replayed?ring=4096", "--from", file_.c_str()};
    all.insert(all.end(), words.begin(), words.end());
    auto parsed = efio::io_gen::parse_options(static_cast<int>(all.size()), all.data());
    EXPECT_TRUE(parsed.has_value()) << parsed.error().message();
    return **parsed;
  }

  efio::test::Directory directory_;
  std::string file_;
};

TEST_F(Replayed, FramesGoInTheirOwnTime) {
  record(file_, {0, 2'000'000, 2'000'000, 5'000'000, 30'000'000});
  const auto said = options({});
  Measurement run(said);
  ASSERT_TRUE(run.prepare());
  run.perform();
  const auto& o = run.outcome();
  EXPECT_EQ(o.tx.frames, 5U);
  EXPECT_GE(o.tx.seconds, 0.030);
  ASSERT_NE(o.gaps, nullptr);
  EXPECT_EQ(o.gaps->all().count(), 4U);
  EXPECT_GE(o.gaps->all().most(), 20'000'000U);
  EXPECT_EQ(o.rate_asked, "as recorded");
}

TEST_F(Replayed, AFactorDividesTheGapsAndAPassFollowsTheOneBefore) {
  record(file_, {0, 10'000'000, 20'000'000});
  const auto said = options({"--timing", "10", "--loop", "5"});
  Measurement run(said);
  ASSERT_TRUE(run.prepare());
  run.perform();
  EXPECT_EQ(run.outcome().tx.frames, 15U);
  EXPECT_GE(run.outcome().tx.seconds, 0.010);
  EXPECT_LT(run.outcome().tx.seconds, 0.095);  // as recorded it would be 0.1
}

TEST_F(Replayed, ARateTakesThePlaceOfTheRecordedTimes) {
  record(file_, {0, 3'600'000'000'000});
  const auto said = options({"--rate", "10k", "--loop", "50", "--count", "99"});
  Measurement run(said);
  ASSERT_TRUE(run.prepare());
  run.perform();
  EXPECT_EQ(run.outcome().tx.frames, 99U);
  EXPECT_GE(run.outcome().tx.seconds, 0.0098);
}

TEST_F(Replayed, AsFastAsPossibleNothingIsLostOrMixedUp) {
  std::vector<std::uint64_t> times(200);
  record(file_, times);
  const auto said = options({"--timing", "full", "--loop", "20"});
  auto rx = *Port::open("pipe:replayed?ring=4096", {.direction = efio::Direction::rx});
  Measurement run(said);
  ASSERT_TRUE(run.prepare());
  run.perform();
  EXPECT_EQ(run.outcome().gaps, nullptr);
  std::size_t seen = 0;
  for (;;) {
    auto batch = rx.rx().receive(64);
    if (batch.empty()) break;
    for (const auto& slot : batch) {
      ASSERT_EQ(slot.length, 60U);
      ASSERT_EQ(slot.bytes()[59], static_cast<std::byte>(seen++ % 200));
    }
    batch.finish();
  }
  EXPECT_EQ(seen, 4'000U);
}

TEST_F(Replayed, ADamagedCaptureSendsWhatIsWholeAndSaysSo) {
  record(file_, {0, 1, 2, 3});
  std::filesystem::resize_file(file_, std::filesystem::file_size(file_) - 10);
  const auto said = options({});
  Measurement run(said);
  ASSERT_TRUE(run.prepare());
  run.perform();
  EXPECT_EQ(run.outcome().tx.frames, 3U);
  ASSERT_EQ(run.outcome().errors.size(), 1U);
  EXPECT_NE(run.outcome().errors[0].message().find("recorded.pcap"), std::string::npos);
}

TEST_F(Replayed, WordsThatWouldCountForNothingAreRefused) {
  const auto refusal = [](std::vector<const char*> words) {
    words.insert(words.begin(), {"io_gen", "tx", "pipe:x"});
    const auto parsed = efio::io_gen::parse_options(static_cast<int>(words.size()), words.data());
    return parsed ? "accepted" : parsed.error().message();
  };
  const auto refused = [&](std::vector<const char*> words, const char* why) {
    const auto message = refusal(std::move(words));
    return message.find(why) == std::string::npos ? testing::AssertionFailure() << message
                                                  : testing::AssertionSuccess();
  };
  EXPECT_TRUE(refused({"--from", "f", "--size", "64"}, "--size is for frames that are made here"));
  EXPECT_TRUE(refused({"--loop", "2"}, "of which capture?"));
  EXPECT_TRUE(refused({"--from", "f", "--timing", "2", "--rate", "1k"}, "--rate says another"));
  EXPECT_TRUE(refused({"--from", "f", "--timing", "soon"}, "original, 2 or full"));
  for (const char* map : {"10.0.0.0/8", "10.0.0.0/8=", "=10.0.0.0/8", "10.0.0.0/8=::/8", "10.0.0.0/8=10.0.0.0/9",
                          "2000::/16=3000::/16", "x=y"})
    EXPECT_TRUE(refused({"--from", "f", "--map", map}, "--map")) << map;
  EXPECT_EQ(refusal({"--from", "f", "--map", "10.0.0.1-10.0.0.9=10.0.1.1-10.0.1.9", "--map", "::1=::2"}), "accepted");
}

}  // namespace
