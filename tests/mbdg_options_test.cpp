#include "tools/mbdg/options.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <tuple>

using efio::mbdg::Options;
using efio::mbdg::parse_options;
using efio::mbdg::PluginText;

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
                                      {"--storm", "0=0"}, {"--mirror", "2"}, {"--duration", "soon"}, {"--rate", "0=fast"}, {"--count", "0"}}) {
    const char* const words[] = {"mbdg", "pipe:a", option, value, "pipe:b"};
    const auto options = parse_options(std::size(words), words);
    ASSERT_FALSE(options) << option;
    EXPECT_EQ(options.error().kind, efio::Error::Kind::usage);
    EXPECT_NE(options.error().message().find(std::string_view(value).substr(0, 1)), std::string::npos) << option;
    EXPECT_NE(options.error().message().find(option), std::string::npos) << options.error().message();
  }
}

// A file of these lines, while it lives.
struct File {
  explicit File(const std::string& text) { std::ofstream(path) << text; }
  ~File() { std::remove(path.c_str()); }
  std::string path = testing::TempDir() + "efio_mbdg_options_test.toml";
};

efio::Result<Options> with_file(const std::string& text, std::vector<const char*> words = {}) {
  const File file(text);
  std::vector<const char*> all = {"mbdg", "--config", file.path.c_str()};
  all.insert(all.end(), words.begin(), words.end());
  auto options = parse_options(static_cast<int>(all.size()), all.data());
  if (!options) return std::unexpected(options.error());
  return **options;
}

constexpr const char* everything = R"(
stp = "pass"
full = "wait"
table-size = "16Ki"
ageing = "1min"
dump = "x.pcapng"
dump-what = "dropped"
cpu = [0, 1]
batch = 32
spin = true
duration = "10s"
count = "1M"
json = true
say-ready = true

[[port]]
uri = "pipe:a"
vlan = 10
isolate = true
storm = 1000
static = ["02:00:00:00:00:01", "02:00:00:00:00:02@10"]
filter = "not udp port 9"
ingate = ["count", "limit:10k"]
outgate = "count"
rate = "2Gbit"

[[port]]
uri = "pipe:b"
trunk = [10, 20]
rate = 1000

[[port]]
uri = "pipe:c"
mirror = true
)";

TEST(MbdgConfig, SaysTheSameAsTheOptions) {
  const auto file = with_file(everything);
  ASSERT_TRUE(file) << file.error().message();
  const char* const words[] = {"mbdg", "pipe:a", "pipe:b", "pipe:c", "--stp", "pass", "--full", "wait", "--table-size", "16Ki",
                               "--ageing", "1min", "--dump", "x.pcapng", "--dump-what", "dropped", "--cpu", "0,1", "--batch", "32",
                               "--spin", "--duration", "10s", "--count", "1M", "--json", "--say-ready", "--vlan", "0=10",
                               "--isolate", "0", "--storm", "0=1000", "--static", "02:00:00:00:00:01=0", "--static",
                               "02:00:00:00:00:02@10=0", "--filter", "0=not udp port 9", "--ingate", "0=count", "--ingate",
                               "0=limit:10k", "--outgate", "0=count", "--rate", "0=2Gbit", "--rate", "1=1000", "--trunk",
                               "1=10,20", "--mirror", "2"};
  const auto line = parse_options(std::size(words), words);
  ASSERT_TRUE(line) << line.error().message();
  const Options& a = *file;
  const Options& b = **line;
  ASSERT_EQ(a.ports.size(), 3U);
  ASSERT_EQ(b.ports.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(a.ports[i].uri, b.ports[i].uri);
    EXPECT_TRUE(a.ports[i].bridging == b.ports[i].bridging) << i;
    EXPECT_EQ(a.ports[i].filters, b.ports[i].filters) << i;
    EXPECT_EQ(a.ports[i].ingates, b.ports[i].ingates) << i;
    EXPECT_EQ(a.ports[i].outgates, b.ports[i].outgates) << i;
    EXPECT_EQ(a.ports[i].statics, b.ports[i].statics) << i;
    EXPECT_EQ(a.ports[i].rate, b.ports[i].rate) << i;
  }
  EXPECT_EQ(a.ports[0].statics.size(), 2U);
  EXPECT_EQ(a.ports[0].ingates.size(), 2U);
  EXPECT_EQ(a.ports[1].rate.per_second, 1000U);
  const auto rest = [](const Options& o) {
    return std::tuple(o.wire, o.mirror, o.stp, o.pass_reserved, o.when_full, o.table_size, o.ageing, o.dump, o.dump_what,
                      o.cpus, o.batch, o.spin, o.duration, o.count, o.json, o.say_ready);
  };
  EXPECT_EQ(rest(a), rest(b));
  EXPECT_EQ(a.mirror, 2);
  EXPECT_EQ(a.count, 1'000'000U);
}

TEST(MbdgConfig, TheCommandLineGoesBeforeIt) {
  auto options = with_file(everything, {"--full", "drop", "--ageing", "5s", "--trunk", "0=30", "--filter", "0=arp", "--static",
                                        "02:00:00:00:00:01=1", "--isolate", "1", "--rate", "1=line", "--storm", "1=5"});
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->when_full, efio::mbdg::WhenFull::drop);
  EXPECT_EQ(options->ageing, std::chrono::seconds(5));
  EXPECT_EQ(options->ports[0].bridging.tagging, efnet::SwitchPortOptions::Tagging::trunk);
  EXPECT_TRUE(options->ports[0].bridging.vlans[30]);
  EXPECT_EQ(options->ports[0].filters, (std::vector<PluginText>{{"arp", ""}}));
  EXPECT_EQ(options->ports[0].ingates.size(), 2U);  // of which nothing was said
  EXPECT_EQ(options->ports[0].statics.size(), 1U);
  EXPECT_EQ(options->ports[1].statics.size(), 1U);
  EXPECT_FALSE(options->ports[0].bridging.isolated);
  EXPECT_TRUE(options->ports[1].bridging.isolated);
  EXPECT_FALSE(options->ports[1].rate.limited());
  EXPECT_EQ(options->ports[1].bridging.flood_rate, 5);
  EXPECT_EQ(options->ports[0].bridging.flood_rate, 1000);

  options = with_file(everything, {"pipe:x", "pipe:y"});  // other ports altogether
  ASSERT_TRUE(options) << options.error().message();
  ASSERT_EQ(options->ports.size(), 2U);
  EXPECT_EQ(options->ports[0].uri, "pipe:x");
  EXPECT_TRUE(options->wire);
  EXPECT_EQ(options->table_size, 16'384U);
}

TEST(MbdgConfig, MistakesHaveTheirLine) {
  const std::string ports = "[[port]]\nuri = \"pipe:a\"\n[[port]]\nuri = \"pipe:b\"\n";  // 4 lines
  for (const auto& [text, expected] : {
           std::pair<std::string, std::string>{"ful = \"wait\"\n" + ports, ":1: there is no key ful; is full meant?"},
           {ports + "vlan = 5000\n", ":5: vlan is 5000, out of range; 1 to 4094"},
           {ports + "trunk = []\n", ":5: trunk holds no VLAN; trunk = [10, 20]"},
           {ports + "vlan = 1\ntrunk = [1]\n", ":6: trunk stands beside vlan; one of the two"},
           {ports + "vlan = 10\n", ":2: port 0: it is in no VLAN, and port 1 is; vlan or trunk, at every port but the mirror"},
           {ports + "rate = \"fast\"\n", ":5: rate is not a rate; 1M (frames a second), 2Gbit, 2GbitL1 (with preamble and gap) or line"},
           {ports + "static = [\n\"02:00:00:00:00:01\",\n\"ff:ff:ff:ff:ff:ff\"]\n",
            ":7: static is no address of one station; \"02:00:00:00:00:01\", in VLAN 10: \"02:00:00:00:00:01@10\""},
           {ports + "mirror = true\n[[port]]\nuri = \"pipe:c\"\nmirror = true\n", ":8: mirror stands at another port already; one mirror"},
           {ports + "[[port]]\nvlan = 1\n", ":5: uri is missing; uri = \"packet:eth0\""},
           {"cpu = [0, 0]\n" + ports, ":1: cpu is 0 is there twice; a list such as 0,2 or 0-3"},
           {"stp = true\n" + ports, ":1: stp is true or false, not text; in quotes"},
           {"[[port]]\nuri = \"pipe:a\"\n", ": too few ports, or too many: 1; 2 to 64, such as packet:eth0 packet:eth1"},
       }) {
    const auto options = with_file(text);
    ASSERT_FALSE(options) << text;
    EXPECT_TRUE(options.error().message().ends_with("efio_mbdg_options_test.toml" + expected)) << options.error().message();
    EXPECT_EQ(options.error().kind, efio::Error::Kind::usage);
  }
  const char* const words[] = {"mbdg", "--config", "/nowhere/at/all.toml"};
  EXPECT_FALSE(parse_options(std::size(words), words));
}

}  // namespace
