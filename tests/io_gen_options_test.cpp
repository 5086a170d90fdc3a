// The command line: what it becomes, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tools/io_gen/options.h"

namespace {

using efio::io_gen::Command;
using efio::io_gen::Options;
using efio::io_gen::Pacer;
using efio::io_gen::parse_options;
using efio::io_gen::Rate;
using testing::HasSubstr;

efio::Result<std::optional<Options>> parse(std::vector<const char*> words) {
  words.insert(words.begin(), "io_gen");
  return parse_options(static_cast<int>(words.size()), words.data());
}

Options parsed(std::vector<const char*> words) {
  auto options = parse(std::move(words));
  EXPECT_TRUE(options.has_value()) << options.error().message();
  return options ? **options : Options{};
}

std::string refusal(std::vector<const char*> words) {
  const auto options = parse(std::move(words));
  return options ? "accepted" : options.error().message();
}

TEST(Options, DefaultsAreWhatHelpSays) {
  const auto options = parsed({"tx", "pipe:x"});
  EXPECT_EQ(options.command, Command::tx);
  EXPECT_EQ(options.tx_port, "pipe:x");
  EXPECT_EQ(options.count, UINT64_MAX);
  EXPECT_EQ(options.duration.count(), 0);
  EXPECT_EQ(options.batch, 64U);
  EXPECT_FALSE(options.rate.limited());
  EXPECT_EQ(options.traffic.sizes.lengths(), std::vector<std::uint32_t>{60});
  EXPECT_EQ(options.traffic.flows, 1U);
  EXPECT_TRUE(options.traffic.tag);
  EXPECT_FALSE(options.traffic.random);
}

TEST(Options, SizesCountTheFcsAndImixIsSevenFourOne) {
  EXPECT_EQ(parsed({"tx", "pipe:x", "--size", "64-67"}).traffic.sizes.lengths(),
            (std::vector<std::uint32_t>{60, 61, 62, 63}));
  const auto imix = parsed({"tx", "pipe:x", "--size", "imix"}).traffic.sizes.lengths();
  EXPECT_EQ(std::ranges::count(imix, 60U), 7);
  EXPECT_EQ(std::ranges::count(imix, 590U), 4);
  EXPECT_EQ(std::ranges::count(imix, 1514U), 1);
}

TEST(Options, OneFamilyFollowsTheOther) {
  const auto traffic = parsed({"tx", "pipe:x", "--dst", "2001:db8::1", "--size", "84", "--flows", "1000"}).traffic;
  EXPECT_TRUE(traffic.src.ipv6);
  EXPECT_EQ(traffic.dst.count, 1U);
  EXPECT_EQ(traffic.shortest(), 80U);
  EXPECT_THAT(refusal({"tx", "pipe:x", "--src", "10.0.0.1", "--dst", "::1"}), HasSubstr("the same family"));
}

TEST(Options, TheSmallestSizeWithRoomForTheTagIsNamed) {
  EXPECT_THAT(refusal({"tx", "pipe:x", "--proto", "tcp"}), HasSubstr("--size 76, or --no-tag"));
  EXPECT_EQ(refusal({"tx", "pipe:x", "--proto", "tcp", "--no-tag"}), "accepted");
  EXPECT_EQ(refusal({"tx", "pipe:x", "--proto", "tcp", "--size", "76"}), "accepted");
  EXPECT_THAT(refusal({"tx", "pipe:x", "--vlan", "1"}), HasSubstr("--size 68"));
  EXPECT_THAT(refusal({"tx", "pipe:x", "--dst", "::1", "--no-tag"}), HasSubstr("--size 66"));
}

TEST(Options, TheFirstMistakeIsTold) {
  EXPECT_THAT(refusal({"tx", "pipe:x", "--count", "0", "--size", "3"}), HasSubstr("--size 3"));
  EXPECT_THAT(refusal({"frobnicate"}), HasSubstr("there is no command frobnicate; tx, rx, both or table"));
  EXPECT_THAT(refusal({"table", "--rx", "pipe:x"}), HasSubstr("a table needs both ports"));
  EXPECT_THAT(refusal({"rx"}), HasSubstr("PORT"));
}

TEST(Options, ATableIsRandomOverAllStreamsAndTellsItsSecondProcessTheRest) {
  const auto options = parsed({"table", "--tx", "a", "--rx", "b", "--vlan", "7", "--size", "100"});
  EXPECT_EQ(options.traffic.flows, 65536U);
  EXPECT_TRUE(options.traffic.random);
  EXPECT_EQ(options.duration, std::chrono::seconds(1));
  EXPECT_THAT(options.traffic_words, testing::UnorderedElementsAre("--vlan=7", "--size=100"));
}

TEST(Options, RatesAreFramesOrBitsOfALayer) {
  const auto rate = [](const char* text) { return *Rate::parse(text); };
  EXPECT_EQ(rate("1M").per_second, 1'000'000U);
  EXPECT_EQ(rate("1M").cost(1514), 1U);
  EXPECT_EQ(rate("2Gbit").cost(60), 64U * 8);
  EXPECT_EQ(rate("2GbitL1").cost(60), 84U * 8);
  EXPECT_EQ(rate("2GbitL1").per_second, 2'000'000'000U);
  EXPECT_FALSE(rate("line").limited());
  for (const char* wrong : {"", "0", "fast", "1e99", "bit", "L1", "-1", "1M2"})
    EXPECT_FALSE(Rate::parse(wrong)) << wrong;
}

// A late caller catches up, so that after any time exactly as many have gone as the rate says.
TEST(Pacer, KeepsTheMeanWhateverTheCallerDoes) {
  Pacer pacer(*Rate::parse("3M"));
  std::uint64_t now = 1'000, gone = 0;
  for (const std::uint64_t pause : {0, 1, 100, 333, 334, 50'000, 7, 1'000'000, 3}) {
    now += pause;
    pacer.wait(now);
    while (pacer.take(60)) ++gone;
    EXPECT_EQ(gone, (now - 1'000) * 3 / 1'000 + 1);
    EXPECT_GT(pacer.wait(now), 0U);
    EXPECT_LE(pacer.wait(now), 334U);
  }
  EXPECT_EQ(pacer.wait(now + pacer.wait(now)), 0U);
}

}  // namespace
