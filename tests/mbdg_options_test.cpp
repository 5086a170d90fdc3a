#include "tools/mbdg/options.h"

#include <gtest/gtest.h>

using efio::mbdg::parse_options;

namespace {

// An option that may be given several times takes one word each time, and leaves the ports behind it alone.
TEST(MbdgOptions, PortsMayStandBehindOptions) {
  const char* const words[] = {"mbdg", "pipe:a", "--vlan", "0=10", "pipe:b", "--vlan", "1=20", "--trunk", "2=10,20", "pipe:c"};
  const auto options = parse_options(std::size(words), words);
  ASSERT_TRUE(options) << options.error().message();
  ASSERT_EQ((*options)->ports.size(), 3U);
  EXPECT_EQ((*options)->ports[2].uri, "pipe:c");
  EXPECT_EQ((*options)->ports[1].bridging.vlan, 20);
  EXPECT_TRUE((*options)->ports[2].bridging.vlans[10] && (*options)->ports[2].bridging.vlans[20]);
  EXPECT_FALSE((*options)->wire);
}

TEST(MbdgOptions, RefusalsNameTheWord) {
  for (const auto& [option, value] : {std::pair{"--vlan", "0=5000"}, {"--trunk", "7=10"}, {"--static", "x=0"},
                                      {"--storm", "0=0"}, {"--mirror", "2"}, {"--duration", "soon"}}) {
    const char* const words[] = {"mbdg", "pipe:a", option, value, "pipe:b"};
    const auto options = parse_options(std::size(words), words);
    ASSERT_FALSE(options) << option;
    EXPECT_EQ(options.error().kind, efio::Error::Kind::usage);
    EXPECT_NE(options.error().message().find(std::string_view(value).substr(0, 1)), std::string::npos) << option;
    EXPECT_NE(options.error().message().find(option), std::string::npos) << options.error().message();
  }
}

}  // namespace
