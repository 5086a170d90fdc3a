// The command line: what it becomes, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tools/io_gen/options.h"

namespace {

using efio::io_gen::Command;
using efio::io_gen::Options;
using efio::io_gen::parse_options;
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
  EXPECT_THAT(refusal({"frobnicate"}), HasSubstr("there is no command frobnicate; tx, rx, both, table or rfc2544"));
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

TEST(Options, ARateNeedsAllOfItsWords) {
  EXPECT_TRUE(parsed({"tx", "pipe:x", "--burst", "32@1ms"}).rate.limited());
  EXPECT_EQ(parsed({"tx", "pipe:x", "--burst", "32", "--rate", "1M"}).rate.burst, 32U);
  EXPECT_TRUE(parsed({"tx", "pipe:x", "--gaps", "poisson", "--rate", "1M"}).rate.poisson);
  EXPECT_THAT(refusal({"tx", "pipe:x", "--burst", "32"}), HasSubstr("how often?"));
  EXPECT_THAT(refusal({"tx", "pipe:x", "--burst", "32@1ms", "--rate", "1M"}), HasSubstr("another rate"));
  EXPECT_THAT(refusal({"tx", "pipe:x", "--gaps", "poisson"}), HasSubstr("about which rate?"));
  EXPECT_THAT(refusal({"tx", "pipe:x", "--gaps", "poisson", "--burst", "2@1s"}), HasSubstr("a burst has no gaps"));
  EXPECT_THAT(refusal({"tx", "pipe:x", "--expect-rate"}), HasSubstr("no rate was asked for"));
}

}  // namespace
