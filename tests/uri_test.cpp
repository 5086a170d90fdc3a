#include "efio/uri.h"

#include <gtest/gtest.h>

#include "efio/text.h"

namespace {

using namespace std::chrono_literals;
using efio::Uri;

std::string why(std::string_view text) {
  auto uri = Uri::parse(text);
  return uri ? "" : uri.error().message();
}

TEST(Uri, SplitsSchemeNameAndOptions) {
  auto uri = Uri::parse("packet:eth0?fanout=7&promisc=on");
  ASSERT_TRUE(uri.has_value());
  EXPECT_EQ(uri->scheme(), "packet");
  EXPECT_EQ(uri->name(), "eth0");
  EXPECT_EQ(uri->number("fanout", 0, 0, 65535), 7U);
  EXPECT_TRUE(uri->flag("promisc", false));
  EXPECT_TRUE(uri->finish().has_value());
}

TEST(Uri, WithoutSchemeIsAuto) {
  auto uri = Uri::parse("eth0?queue=1");
  ASSERT_TRUE(uri.has_value());
  EXPECT_EQ(uri->scheme(), "auto");
  EXPECT_EQ(uri->name(), "eth0");
}

TEST(Uri, ValeNamesAreNetmaps) {
  auto uri = Uri::parse("vale0:a?ring=256");
  ASSERT_TRUE(uri.has_value());
  EXPECT_EQ(uri->scheme(), "netmap");
  EXPECT_EQ(uri->name(), "vale0:a");
  EXPECT_EQ(uri->options().size(), 1U);
}

TEST(Uri, SimIsSplitAtTheFirstAt) {
  auto uri = Uri::parse("sim:loss=0.001&seed=7@sim:delay=1ms@packet:eth0?queue=0");
  ASSERT_TRUE(uri.has_value());
  EXPECT_EQ(uri->scheme(), "sim");
  EXPECT_EQ(uri->inner(), "sim:delay=1ms@packet:eth0?queue=0");
  EXPECT_DOUBLE_EQ(uri->fraction("loss", 0, 0, 1), 0.001);
  EXPECT_EQ(uri->number("seed", 0, 0, UINT64_MAX), 7U);
  EXPECT_TRUE(uri->finish().has_value());
}

TEST(Uri, DecodesPercentInNamesAndValues) {
  auto uri = Uri::parse("pcap:/tmp/a%3Fb%25.pcap?x=%26");
  ASSERT_TRUE(uri.has_value());
  EXPECT_EQ(uri->name(), "/tmp/a?b%.pcap");
  EXPECT_EQ(uri->text_option("x"), "&");
}

TEST(Uri, KeepsTheKernelsNumberMark) {
  EXPECT_EQ(Uri::parse("tap:tap%d")->name(), "tap%d");
  EXPECT_EQ(Uri::parse("tap:%dx?ring=128")->name(), "%dx");
  EXPECT_EQ(Uri::parse("tap:tap%25d")->name(), "tap%d");
  EXPECT_EQ(Uri::parse("pcap:/tmp/%d0")->name(), "/tmp/\xd0");
  EXPECT_FALSE(Uri::parse("tap:tap%D").has_value());
}

TEST(Uri, ColonsAreAllowedInNames) {
  auto uri = Uri::parse("dpdk:0000:3b:00.0");
  ASSERT_TRUE(uri.has_value());
  EXPECT_EQ(uri->name(), "0000:3b:00.0");
}

TEST(Uri, SaysWhatIsWrong) {
  EXPECT_NE(why("").find("empty"), std::string::npos);
  EXPECT_NE(why("packet:").find("no name"), std::string::npos);
  EXPECT_NE(why("packet:eth0?queue").find("no value"), std::string::npos);
  EXPECT_NE(why("packet:eth0?=1").find("no name"), std::string::npos);
  EXPECT_NE(why("packet:eth0?a=1&a=2").find("twice"), std::string::npos);
  EXPECT_NE(why("packet:eth%0").find("hexadecimal"), std::string::npos);
  EXPECT_NE(why("packet:eth%00").find("hexadecimal"), std::string::npos);
  EXPECT_NE(why("packet:a\nb").find("control character"), std::string::npos);
  EXPECT_NE(why("sim:loss=1").find("no port behind it"), std::string::npos);
  EXPECT_NE(why(std::string(5000, 'a')).find("5000"), std::string::npos);
}

TEST(Uri, UnknownOptionNamesTheKnownOnes) {
  auto uri = Uri::parse("pipe:x?rings=4");
  ASSERT_TRUE(uri.has_value());
  (void)uri->number("ring", 1, 1, 10);
  const auto outcome = uri->finish();
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().kind, efio::Error::Kind::usage);
  EXPECT_NE(outcome.error().message().find("no option rings"), std::string::npos);
  EXPECT_NE(outcome.error().message().find("takes ring"), std::string::npos);
}

TEST(Uri, RefusesValuesOutOfRange) {
  for (const auto* value : {"0", "11", "-1", "1.5", "x", "", "99999999999999999999999", "nan", "1e3x"}) {
    auto uri = Uri::parse(std::string("pipe:x?n=") + value);
    ASSERT_TRUE(uri.has_value());
    EXPECT_EQ(uri->number("n", 5, 1, 10), 5U) << value;
    EXPECT_FALSE(uri->finish().has_value()) << value;
  }
  auto choice = Uri::parse("pipe:x?mode=fast");
  (void)choice->choice("mode", {"auto", "slow"});
  EXPECT_NE(choice->finish().error().message().find("one of auto, slow"), std::string::npos);
}

TEST(Text, CountsKnowTheirUnits) {
  EXPECT_EQ(efio::parse_count("0"), 0U);
  EXPECT_EQ(efio::parse_count("18446744073709551615"), UINT64_MAX);
  EXPECT_EQ(efio::parse_count("1k"), 1000U);
  EXPECT_EQ(efio::parse_count("1.5M"), 1'500'000U);
  EXPECT_EQ(efio::parse_count("64Ki"), 65536U);
  for (const auto* bad : {"", "k", "-1", "+1", "1 ", " 1", "1kk", "0.5", "inf", "1e400", "18446744073709551616"})
    EXPECT_EQ(efio::parse_count(bad), std::nullopt) << bad;
}

TEST(Text, DurationsKnowTheirUnits) {
  EXPECT_EQ(efio::parse_duration("10"), 10s);
  EXPECT_EQ(efio::parse_duration("200ms"), 200ms);
  EXPECT_EQ(efio::parse_duration("1.5us"), 1500ns);
  EXPECT_EQ(efio::parse_duration("7ns"), 7ns);
  EXPECT_EQ(efio::parse_duration("2min"), 120s);
  for (const auto* bad : {"", "s", "-1s", "1h", "1e30s", "nan"}) EXPECT_EQ(efio::parse_duration(bad), std::nullopt) << bad;
}

TEST(Text, FractionsMayBePercent) {
  EXPECT_DOUBLE_EQ(*efio::parse_fraction("5%"), 0.05);
  EXPECT_DOUBLE_EQ(*efio::parse_fraction("1e-6"), 1e-6);
  EXPECT_EQ(efio::parse_fraction("1x"), std::nullopt);
}

}  // namespace
