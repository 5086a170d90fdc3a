#include "tools/common/toml_file.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

using efio::tools::TomlFile;
using efio::tools::TomlTable;
using namespace std::chrono_literals;

namespace {

// What a reader of the keys below has to say of a file.
std::string complaint(std::string_view text) {
  auto file = TomlFile::parse(text, "f.toml");
  if (!file) return file.error().message();
  auto root = file->root();
  root.text("name");
  root.integer("mtu", 1500, 68, 65535);
  root.number("share", 1, 0, 1);
  root.flag("json", false);
  root.count("size", 0, 1, 1 << 20);
  root.duration("ageing", 1s, 0s, 1h);
  root.choice("full", {"drop", "wait"});
  root.texts("filter");
  root.integers("trunk", 1, 4094);
  auto nat = root.table("nat");
  nat.need_text("pool", "\"198.51.100.2\"");
  for (auto& port : root.tables("port")) {
    const auto uri = port.need_text("uri", "\"packet:eth0\"");
    if (uri == "bad") port.refuse("uri", "is no port", "packet:eth0");
    port.integer("vlan", 1, 1, 4094);
    port.texts("ingate");
  }
  const auto ok = file->finish();
  return ok ? "" : ok.error().message();
}

TEST(TomlFile, ReadsEveryType) {
  auto file = TomlFile::parse(R"(
name = "uplink"
mtu = 9000
share = 0.25
whole = 1
json = true
size = "64Ki"
plain = 10
ageing = "300ms"
seconds = 2
half = 0.5
full = "wait"
filter = ["udp", "tcp"]
one = "arp"
trunk = [10, 20]

[nat]
pool = "a"

[[port]]
uri = "pipe:a"
[[port]]
uri = "pipe:b"
)",
                              "f.toml");
  ASSERT_TRUE(file) << file.error().message();
  auto root = file->root();
  EXPECT_EQ(root.text("name"), "uplink");
  EXPECT_EQ(root.integer("mtu", 0, 0, 10000), 9000);
  EXPECT_EQ(root.word("mtu"), "9000");
  EXPECT_EQ(root.word("size"), "64Ki");
  EXPECT_EQ(root.number("share", 0, 0, 1), 0.25);
  EXPECT_EQ(root.number("whole", 0, 0, 1), 1);
  EXPECT_TRUE(root.flag("json", false));
  EXPECT_EQ(root.count("size", 0, 0, 1 << 20), 65'536U);
  EXPECT_EQ(root.count("plain", 0, 0, 1 << 20), 10U);
  EXPECT_EQ(root.duration("ageing", 0s, 0s, 1h), 300ms);
  EXPECT_EQ(root.duration("seconds", 0s, 0s, 1h), 2s);
  EXPECT_EQ(root.duration("half", 0s, 0s, 1h), 500ms);
  EXPECT_EQ(root.choice("full", {"drop", "wait"}), "wait");
  EXPECT_EQ(root.texts("filter"), (std::vector<std::string>{"udp", "tcp"}));
  EXPECT_EQ(root.texts("one"), (std::vector<std::string>{"arp"}));
  EXPECT_EQ(root.integers("trunk", 1, 4094), (std::vector<std::int64_t>{10, 20}));
  EXPECT_EQ(root.need_table("nat").text("pool"), "a");
  auto ports = root.tables("port");
  ASSERT_EQ(ports.size(), 2U);
  EXPECT_EQ(ports[1].need_text("uri", ""), "pipe:b");
  EXPECT_EQ(ports[0].text("uri"), "pipe:a");
  EXPECT_EQ(ports[1].where("uri"), "f.toml:23");
  EXPECT_EQ(ports[1].where(), "f.toml:22");
  EXPECT_EQ(ports[1].keys(), std::vector<std::string>{"uri"});
  const auto ok = file->finish();
  EXPECT_TRUE(ok) << ok.error().message();
}

TEST(TomlFile, WhatIsNotThereHasItsDefault) {
  auto file = TomlFile::parse("", "f.toml");
  ASSERT_TRUE(file);
  auto root = file->root();
  EXPECT_EQ(root.text("a", "x"), "x");
  EXPECT_EQ(root.integer("a", 7, 0, 1), 7);
  EXPECT_EQ(root.choice("a", {"drop", "wait"}), "drop");
  EXPECT_TRUE(root.tables("a").empty());
  auto none = root.table("a");
  EXPECT_FALSE(none.is_there());
  EXPECT_EQ(none.need_text("b", "1"), "");  // of a table that may be left out
  EXPECT_TRUE(none.keys().empty());
  EXPECT_TRUE(file->finish());
}

TEST(TomlFile, EachMistakeHasItsLineAndWhatWouldBeRight) {
  const std::pair<const char*, const char*> cases[] = {
      {"mtu = 1500\n", ""},
      // Syntax.
      {"\nname = uplink\n", "f.toml:2: Error while parsing value: could not determine value type; text stands in quotes: key = \"text\""},
      {"ageing = 10s", "f.toml:1: Error while parsing decimal integer: expected digit, saw 's'; with a unit it is text, in quotes: \"10s\""},
      {"name = \"x", "f.toml:1: Error while parsing string: encountered end-of-file; what is opened is closed: \"…\", […], {…}"},
      {"\nname = \"\xff\"", "f.toml:2: there is a byte that is no text: 0xff; a configuration file is UTF-8"},
      {"[\x01", "f.toml:1: there is a byte that is no text: 0x01; a configuration file is UTF-8"},
      {"name = \"\xc0\x80\"", "f.toml:1: there is a byte that is no text: 0xc0; a configuration file is UTF-8"},
      {"name = \"\xed\xa0\x80\"", "f.toml:1: there is a byte that is no text: 0xed; a configuration file is UTF-8"},
      {"name = \"\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80\"", ""},
      // Twice.
      {"mtu = 1\nmtu = 2\n", "f.toml:2: Error while parsing key-value pair: cannot redefine existing integer 'mtu'; leave one of the two out"},
      {"[nat]\npool = \"a\"\n[nat]\n", "f.toml:3: Error while parsing table header: cannot redefine existing table 'nat'; leave one of the two out"},
      // Unknown.
      {"\n\nmtuu = 1\n", "f.toml:3: there is no key mtuu; is mtu meant?"},
      {"[[port]]\nuri = \"pipe:a\"\nvaln = 3\n", "f.toml:3: there is no key valn; is vlan meant?"},
      {"[nta]\npool = \"a\"", "f.toml:1: there is no table nta; is nat meant?"},
      {"[nat]\npool = \"a\"\nsomething = 1", "f.toml:3: there is no key something; there are pool"},
      // Wrong type.
      {"name = 1", "f.toml:1: name is an integer, not text; in quotes"},
      {"mtu = \"big\"", "f.toml:1: mtu is text, not an integer; 68 to 65535"},
      {"share = true", "f.toml:1: share is true or false, not a number; 0 to 1"},
      {"json = \"yes\"", "f.toml:1: json is text, not true or false; json = true, without quotes"},
      {"size = \"some\"", "f.toml:1: size is \"some\", not a number; 1 to 1048576, or text such as \"64Ki\""},
      {"size = 1.5", "f.toml:1: size is a number, not an integer; 1 to 1048576, or text such as \"64Ki\""},
      {"ageing = \"soon\"", "f.toml:1: ageing is \"soon\", not a time; \"0s\" to \"3600s\""},
      {"ageing = 1979-05-27", "f.toml:1: ageing is a date or time, not a time; \"0s\" to \"3600s\""},
      {"filter = [\n\"udp\",\n7]", "f.toml:3: filter holds an integer, not text; [\"one\", \"another\"]"},
      {"trunk = [10,\n\"x\"]", "f.toml:2: trunk holds text, not an integer; 1 to 4094"},
      {"nat = 5", "f.toml:1: nat is an integer, not a table; [nat]"},
      {"[port]\nuri = \"pipe:a\"", "f.toml:1: port is a table, not an array of tables; [[port]], once for each"},
      {"port = [1]", "f.toml:1: port holds an integer, not a table; [[port]], once for each"},
      // Out of range.
      {"mtu = 20", "f.toml:1: mtu is 20, out of range; 68 to 65535"},
      {"mtu = 99999999999999999999", "f.toml:1: Error while parsing decimal integer: '99999999999999999999' is not representable in 64 bits; key = value, [table] or [[table]]"},
      {"share = nan", "f.toml:1: share is nan, out of range; 0 to 1"},
      {"size = -1", "f.toml:1: size is out of range; 1 to 1048576, or text such as \"64Ki\""},
      {"size = \"4Mi\"", "f.toml:1: size is out of range; 1 to 1048576, or text such as \"64Ki\""},
      {"ageing = 7200", "f.toml:1: ageing is out of range; \"0s\" to \"3600s\""},
      {"ageing = 1e300", "f.toml:1: ageing is out of range; \"0s\" to \"3600s\""},
      {"trunk = 5000", "f.toml:1: trunk holds 5000, out of range; 1 to 4094"},
      {"full = \"perhaps\"", "f.toml:1: full is \"perhaps\"; \"drop\" or \"wait\""},
      // Missing.
      {"\n[[port]]\nvlan = 1\n", "f.toml:2: uri is missing; uri = \"packet:eth0\""},
      {"[nat]", "f.toml:1: pool is missing; pool = \"198.51.100.2\""},
      // By the program's judgement.
      {"[[port]]\nuri = \"bad\"", "f.toml:2: uri is no port; packet:eth0"},
      // Of several, the first in the file; what is missing goes last, as it may be there under a wrong name.
      {"mtu = 20\n[[port]]\nury = \"pipe:a\"\n", "f.toml:1: mtu is 20, out of range; 68 to 65535"},
      {"[[port]]\nury = \"pipe:a\"\n", "f.toml:2: there is no key ury; is uri meant?"},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(complaint(text), expected) << text;
}

TEST(TomlFile, AMissingTableIsNamed) {
  auto file = TomlFile::parse("a = 1", "f.toml");
  ASSERT_TRUE(file);
  file->root().integer("a", 0, 0, 9);
  file->root().need_table("inside").need_text("port", "\"xdp:eth1\"");
  ASSERT_FALSE(file->finish());
  EXPECT_EQ(file->finish().error().message(), "f.toml:1: [inside] is missing; a table [inside]");
  EXPECT_EQ(file->finish().error().kind, efio::Error::Kind::usage);
}

TEST(TomlFile, AFileThatCannotBeReadIsTheSystemsError) {
  const auto absent = TomlFile::read(testing::TempDir() + "efio_no_such_file.toml");
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().os, ENOENT);
  EXPECT_NE(absent.error().kind, efio::Error::Kind::usage);
  EXPECT_FALSE(TomlFile::read(testing::TempDir()));  // a folder

  const auto path = testing::TempDir() + "efio_toml_file_test.toml";
  std::ofstream(path) << "a = 1\nb = 'x'\n";
  auto file = TomlFile::read(path);
  std::remove(path.c_str());
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ(file->root().text("b"), "x");
  EXPECT_FALSE(file->finish());  // a
}

}  // namespace
