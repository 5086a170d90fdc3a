#include "efio/engines/xdp_rules.h"

#include <gmock/gmock.h>

#include "efio/engines/xdp_kernel.h"

namespace efio::test {

namespace {

using testing::HasSubstr;

Result<XdpRules> parse(std::string_view text) { return XdpRules::parse(text, "open xdp:eth0"); }

TEST(XdpRules, AllNeedsNoRuleAndNoneHasNone) {
  EXPECT_TRUE(XdpRules().everything());
  EXPECT_TRUE(parse("all")->everything());
  EXPECT_FALSE(parse("none")->everything());
  EXPECT_TRUE(parse("none")->rules().empty());
}

TEST(XdpRules, WhatIsNeverTakenIsTriedFirst) {
  const auto rules = parse("udp,!udp:53,tcp,!tcp:22");
  ASSERT_TRUE(rules) << rules.error().message();
  std::vector<std::uint32_t> takes;
  for (const auto& rule : rules->rules()) takes.push_back(rule.take);
  EXPECT_THAT(takes, testing::ElementsAre(0, 0, 1, 1));
  EXPECT_EQ(rules->rules()[0].destination_port.low, 53);
}

TEST(XdpRules, EitherPlaceIsARuleForEach) {
  EXPECT_EQ(parse("dst:10.0.0.0/8")->rules().size(), 1U);
  EXPECT_EQ(parse("ip:10.0.0.0/8")->rules().size(), 2U);
  EXPECT_EQ(parse("ip:10.0.0.0/8+tcp+port:80")->rules().size(), 4U);
  // One of the two places is taken by what excludes it.
  EXPECT_EQ(parse("ip:10.0.0.0/8+dst:192.0.2.1")->rules().size(), 1U);
  EXPECT_EQ(parse("ip:10.0.0.0/8+dst:192.0.2.1+src:192.0.2.2")->rules().size(), 0U);
}

TEST(XdpRules, LongerOfTwoPrefixesStaysAtOnePlace) {
  const auto rules = parse("ip:10.1.0.0/16+src:10.0.0.0/8");
  ASSERT_TRUE(rules);
  ASSERT_EQ(rules->rules().size(), 2U);
  EXPECT_EQ(rules->rules()[0].mask[EFIO_XDP_SOURCE], 0x0000ffffU);
  EXPECT_EQ(rules->rules()[0].mask[EFIO_XDP_DESTINATION], 0U);
  EXPECT_EQ(rules->rules()[1].mask[EFIO_XDP_SOURCE], 0x000000ffU);
  EXPECT_EQ(rules->rules()[1].mask[EFIO_XDP_DESTINATION], 0x0000ffffU);
}

TEST(XdpRules, ErrorsNameTheWordAndWhatWouldBeRight) {
  const auto error = [](std::string_view text) {
    const auto rules = parse(text);
    return rules ? std::string("taken") : rules.error().message();
  };
  EXPECT_THAT(error("tpc:80"), HasSubstr("no condition 'tpc'; all, none, or of arp ip ip6"));
  EXPECT_THAT(error("udp:5000-4000"), HasSubstr("'5000-4000' is no value of udp; a port or two"));
  EXPECT_THAT(error("ip:10.0.0.1/8"), HasSubstr("prefix without further bits"));
  EXPECT_THAT(error("udp+tcp"), HasSubstr("no frame is tcp and the rest too"));
  EXPECT_THAT(error("frag+udp:53"), HasSubstr("no frame is frag+udp:53"));
  EXPECT_THAT(error("!tcp:22"), HasSubstr("take=all,!"));
  std::string many = "udp:0";
  for (int port = 1; port < EFIO_XDP_RULES; ++port) many += ",udp:" + std::to_string(port);
  EXPECT_EQ(error(many), "taken");
  EXPECT_THAT(error(many + ",tcp"), HasSubstr("65 rules, and the most is 64"));
}

}  // namespace

}  // namespace efio::test
