#include <gtest/gtest.h>

#include "efio/engines/netmap_abi.h"
#include "efio/engines/netmap_name.h"

namespace efio::netmap {

namespace {

bool is_interface(const std::string& text) { return text == "eth7" || text == "br-2" || text == "br"; }

PortName parse(const std::string& text) {
  auto name = parse_name(text, is_interface, "open");
  EXPECT_TRUE(name.has_value()) << text << ": " << name.error().message();
  return name ? *name : PortName();
}

TEST(NetmapName, SaysWhichRings) {
  const auto all = parse("eth7");
  EXPECT_EQ(all.port, "eth7");
  EXPECT_TRUE(all.nic_rings && !all.host_rings && !all.ring);
  const auto one = parse("eth7-2");
  EXPECT_EQ(one.port, "eth7");
  EXPECT_EQ(one.ring, 2);
  const auto host = parse("eth7^");
  EXPECT_EQ(host.port, "eth7");
  EXPECT_TRUE(!host.nic_rings && host.host_rings && !host.ring);
  EXPECT_EQ(parse("eth7^1").ring, 1);
  const auto both = parse("eth7*");
  EXPECT_TRUE(both.nic_rings && both.host_rings);
}

TEST(NetmapName, AnInterfaceWithADashIsOne) {
  EXPECT_EQ(parse("br-2").port, "br-2");
  EXPECT_FALSE(parse("br-2").ring.has_value());
  EXPECT_EQ(parse("br-2-1").port, "br-2");
  EXPECT_EQ(parse("br-2-1").ring, 1);
  EXPECT_EQ(parse("br-3").port, "br");
  EXPECT_EQ(parse("eth7-x").port, "eth7-x");
}

TEST(NetmapName, SwitchesPipesMonitorsAndRegions) {
  EXPECT_EQ(parse("vale0:a").kind, PortName::Kind::switch_port);
  EXPECT_EQ(parse("vale0:a").port, "vale0:a");
  EXPECT_EQ(parse("vale0:a-1").ring, 1);
  EXPECT_EQ(parse("x{1").kind, PortName::Kind::pipe);
  EXPECT_EQ(parse("x}1").port, "x}1");
  EXPECT_EQ(parse("eth7{2").kind, PortName::Kind::pipe);
  EXPECT_EQ(parse("eth7@2").memory, 2);
  EXPECT_EQ(parse("eth7/r").monitor, monitor_rx);
  EXPECT_EQ(parse("eth7/rt").monitor, monitor_rx | monitor_tx);
  EXPECT_EQ(parse("eth7-1/z@3").monitor, monitor_zero_copy | monitor_rx | monitor_tx);
  EXPECT_EQ(parse("eth7-1/z@3").memory, 3);
  EXPECT_EQ(parse("eth7-1/z@3").ring, 1);
}

TEST(NetmapName, NonsenseIsRefused) {
  for (const auto* text : {"eth7@", "eth7@x", "eth7@0", "eth7/", "eth7/q", "^", "*", "{1", "x{", "vale0:", "eth7^x", "eth7@99999",
                           "aninterfacewithaname"}) {
    const auto name = parse_name(text, is_interface, "open");
    EXPECT_FALSE(name.has_value()) << text;
    if (!name) {
      EXPECT_EQ(name.error().kind, Error::Kind::usage);
    }
  }
}

}  // namespace

}  // namespace efio::netmap
