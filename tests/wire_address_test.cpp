#include "efnet/wire/address.h"

#include <gtest/gtest.h>

#include <unordered_set>

#include "efnet/wire/format.h"

using efnet::Ipv4Address;
using efnet::Ipv4Prefix;
using efnet::Ipv4Range;
using efnet::Ipv6Address;
using efnet::Ipv6Prefix;
using efnet::Ipv6Range;
using efnet::MacAddress;
using efnet::PortRange;

namespace {

TEST(MacAddress, TextAndBack) {
  const auto mac = MacAddress::parse("02:0a:FF:00:10:99");
  ASSERT_TRUE(mac);
  EXPECT_EQ(*mac, MacAddress(2, 10, 255, 0, 16, 0x99));
  EXPECT_EQ(to_string(*mac), "02:0a:ff:00:10:99");
  EXPECT_EQ(MacAddress::parse("02-0a-ff-00-10-99"), mac);
}

TEST(MacAddress, RefusesAllOtherText) {
  for (const char* text : {"", "02:0a:ff:00:10", "02:0a:ff:00:10:9", "02:0a:ff:00:10:999", "02:0a:ff:00:10:9g",
                           "02:0a:ff:00-10:99", "020a.ff00.1099", " 2:0a:ff:00:10:99", "+2:0a:ff:00:10:99",
                           "-2:0a:ff:00:10:99", "0x:0a:ff:00:10:99", "02:0a:ff:00:10:99 "})
    EXPECT_FALSE(MacAddress::parse(text)) << text;
}

TEST(MacAddress, NumbersKeepTheOrderOfBytes) {
  const auto mac = MacAddress::from_number(0x0200'0000'0001);
  EXPECT_EQ(to_string(mac), "02:00:00:00:00:01");
  EXPECT_EQ(mac.number(), 0x0200'0000'0001u);
  EXPECT_LT(mac, mac.advanced(1));
  EXPECT_EQ(to_string(MacAddress(2, 0, 0, 0, 0, 255).advanced(1)), "02:00:00:00:01:00");
  EXPECT_TRUE(mac.is_local());
  EXPECT_FALSE(mac.is_group());
  EXPECT_TRUE(MacAddress::broadcast().is_group());
}

TEST(Ipv4Address, TextAndBack) {
  for (const char* text : {"0.0.0.0", "10.0.0.1", "198.51.100.2", "255.255.255.255"}) {
    const auto address = Ipv4Address::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(to_string(*address), text);
  }
  EXPECT_EQ(Ipv4Address::parse("10.0.0.1")->number(), 0x0A000001u);
  static_assert(Ipv4Address(10, 0, 0, 1).number() == 0x0A000001);
  static_assert(Ipv4Address::from_number(0x0A000001) == Ipv4Address(10, 0, 0, 1));
}

TEST(Ipv4Address, RefusesAllOtherText) {
  using namespace std::literals;
  for (const auto text : {""sv, "10"sv, "10.0.0"sv, "10.0.0.256"sv, "10.0.0.1 "sv, " 10.0.0.1"sv, "10.0.0.01"sv,
                          "10.0.0.1.2"sv, "0x0a.0.0.1"sv, "10..0.1"sv, "10.0.0.1\0"sv, "10.0.0.1\0x"sv, "::1"sv,
                          "1111111111111111111111111111111111111111111111111111111"sv})
    EXPECT_FALSE(Ipv4Address::parse(text)) << text;
}

TEST(Ipv4Address, ComparesAsNumbers) {
  EXPECT_LT(Ipv4Address(9, 255, 255, 255), Ipv4Address(10, 0, 0, 0));
  EXPECT_EQ(Ipv4Address::broadcast().advanced(1), Ipv4Address());
}

// RFC 5952, section 4, one line a rule.
TEST(Ipv6Address, TextIsThatOfRfc5952) {
  const std::pair<const char*, const char*> cases[] = {
      {"2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"},  // 4.1 leading zeros; 4.2.3 first of equals
      {"2001:db8:0:0:0:0:2:1", "2001:db8::2:1"},                         // 4.2.1 as much as possible
      {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},                  // 4.2.2 not for one field
      {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},                           // 4.2.3 the longest
      {"2001:DB8::A", "2001:db8::a"},                                    // 4.3 lower case
      {"::ffff:192.0.2.1", "::ffff:192.0.2.1"},                          // 5
      {"::", "::"},
      {"::1", "::1"},
      {"fe80::", "fe80::"}};
  for (const auto& [text, canonical] : cases) {
    const auto address = Ipv6Address::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(to_string(*address), canonical);
    EXPECT_EQ(Ipv6Address::parse(canonical), address);
  }
}

TEST(Ipv6Address, RefusesAllOtherText) {
  for (const char* text : {"", ":", ":::", "1::2::3", "12345::", "2001:db8::g", "fe80::1%eth0", "[::1]", "10.0.0.1",
                           "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::1 "})
    EXPECT_FALSE(Ipv6Address::parse(text)) << text;
}

TEST(Ipv6Address, NumbersCarryBetweenHalves) {
  const auto address = Ipv6Address::from_numbers(0x20010db8'00000000, ~std::uint64_t{0});
  EXPECT_EQ(to_string(address.advanced(1)), "2001:db8:0:1::");
  EXPECT_LT(address, address.advanced(1));
  EXPECT_EQ(Ipv6Address::mapped(Ipv4Address(192, 0, 2, 1)), Ipv6Address::parse("::ffff:192.0.2.1"));
  EXPECT_EQ(Ipv6Address::parse("fe80::1")->is_link_local(), true);
}

TEST(Prefix, ParsesAndContains) {
  const auto net = Ipv4Prefix::parse("10.1.2.3/8");
  ASSERT_TRUE(net);
  EXPECT_EQ(net->address, Ipv4Address(10, 1, 2, 3));
  EXPECT_EQ(net->first(), Ipv4Address(10, 0, 0, 0));
  EXPECT_EQ(net->last(), Ipv4Address(10, 255, 255, 255));
  EXPECT_TRUE(net->contains(Ipv4Address(10, 255, 0, 1)));
  EXPECT_FALSE(net->contains(Ipv4Address(11, 0, 0, 0)));
  EXPECT_EQ(Ipv4Prefix::parse("10.0.0.1")->length, 32);
  EXPECT_TRUE(Ipv4Prefix::parse("0.0.0.0/0")->contains(Ipv4Address::broadcast()));
  EXPECT_EQ(to_string(*net), "10.1.2.3/8");
  for (const char* text : {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8", "/8", "10.0.0.0/256", "10/8"})
    EXPECT_FALSE(Ipv4Prefix::parse(text)) << text;
}

TEST(Prefix, OfIpv6AtEveryLength) {
  const auto address = *Ipv6Address::parse("5555:aaaa:5555:aaaa:5555:aaaa:5555:aaaa");
  for (unsigned length = 0; length <= 128; ++length) {
    const Ipv6Prefix prefix{address, static_cast<std::uint8_t>(length)};
    for (unsigned bit = 0; bit < 128; ++bit) {
      auto bytes = address.bytes();
      bytes[bit / 8] = static_cast<std::uint8_t>(bytes[bit / 8] ^ 0x80 >> bit % 8);
      ASSERT_EQ(prefix.contains(Ipv6Address(bytes)), bit >= length) << length << ' ' << bit;
    }
    ASSERT_TRUE(prefix.first() <= address && address <= prefix.last());
  }
  EXPECT_FALSE(Ipv6Prefix::parse("::/129"));
  EXPECT_EQ(to_string(*Ipv6Prefix::parse("2001:DB8::/32")), "2001:db8::/32");
}

TEST(AddressRange, ParsesPairsPrefixesAndSingles) {
  const auto pair = Ipv4Range::parse("10.0.0.1-10.0.0.99");
  ASSERT_TRUE(pair);
  EXPECT_EQ(pair->size(), 99u);
  EXPECT_EQ(pair->at(0), pair->first);
  EXPECT_EQ(pair->at(98), pair->last);
  EXPECT_EQ(pair->at(99), pair->first);
  EXPECT_TRUE(pair->contains(Ipv4Address(10, 0, 0, 50)));
  EXPECT_FALSE(pair->contains(Ipv4Address(10, 0, 0, 100)));
  EXPECT_EQ(to_string(*pair), "10.0.0.1-10.0.0.99");
  EXPECT_EQ(Ipv4Range::parse("10.0.0.0/24"), (Ipv4Range{{10, 0, 0, 0}, {10, 0, 0, 255}}));
  EXPECT_EQ(to_string(*Ipv4Range::parse("10.0.0.1")), "10.0.0.1");
  for (const char* text : {"10.0.0.2-10.0.0.1", "10.0.0.1-", "-10.0.0.1", "10.0.0.1-9", "10.0.0.1-10.0.0.2-10.0.0.3"})
    EXPECT_FALSE(Ipv4Range::parse(text)) << text;
}

TEST(AddressRange, OfAllAddresses) {
  const auto all4 = Ipv4Range::parse("0.0.0.0/0");
  EXPECT_EQ(all4->size(), std::uint64_t{1} << 32);
  EXPECT_EQ(all4->at(0xFFFF'FFFF), Ipv4Address::broadcast());
  const auto all6 = Ipv6Range::parse("::/0");
  EXPECT_EQ(all6->size(), ~std::uint64_t{0});
  EXPECT_EQ(Ipv6Range::parse("::/64")->size(), ~std::uint64_t{0});
  EXPECT_EQ(Ipv6Range::parse("::/65")->size(), std::uint64_t{1} << 63);
  EXPECT_EQ(Ipv6Range::parse("::ffff:ffff:ffff:ffff-0:0:0:1::")->size(), 2u);
  EXPECT_EQ(to_string(Ipv6Range::parse("2001:db8::ffff-2001:db8::2:0")->at(1)), "2001:db8::1:0");
}

TEST(PortRange, ParsesPairsAndSingles) {
  const auto range = PortRange::parse("1024-65535");
  ASSERT_TRUE(range);
  EXPECT_EQ(range->size(), 64512u);
  EXPECT_EQ(range->at(64511), 65535);
  EXPECT_EQ(range->at(64512), 1024);
  EXPECT_EQ(PortRange::parse("80"), (PortRange{80, 80}));
  EXPECT_EQ(PortRange::parse("0-65535")->size(), 65536u);
  EXPECT_EQ(to_string(*range), "1024-65535");
  EXPECT_EQ(to_string(PortRange{80, 80}), "80");
  for (const char* text : {"", "-", "1-", "-1", "65536", "2-1", "1-65536", "+1", " 1", "1 ", "0x10", "1-2-3"})
    EXPECT_FALSE(PortRange::parse(text)) << text;
}

TEST(Addresses, GoIntoHashTables) {
  std::unordered_set<Ipv4Address> four;
  std::unordered_set<Ipv6Address> six;
  std::unordered_set<MacAddress> mac;
  for (unsigned i = 0; i < 1000; ++i) {
    four.insert(Ipv4Address::from_number(i));
    six.insert(Ipv6Address::from_numbers(i, 0));
    mac.insert(MacAddress::from_number(i));
  }
  EXPECT_EQ(four.size() + six.size() + mac.size(), 3000u);
  std::unordered_set<std::size_t> hashes;
  for (unsigned i = 0; i < 1000; ++i) hashes.insert(std::hash<Ipv6Address>()(Ipv6Address::from_numbers(i, i)) % 65536);
  EXPECT_GT(hashes.size(), 950u);
}

TEST(Format, WritesAddresses) {
  EXPECT_EQ(fmt::format("{} {:>10} {}", MacAddress::broadcast(), Ipv4Address(1, 2, 3, 4), *Ipv6Address::parse("::1")),
            "ff:ff:ff:ff:ff:ff    1.2.3.4 ::1");
  EXPECT_EQ(fmt::format("{} {}", *Ipv4Range::parse("10.0.0.0/31"), PortRange{1, 2}), "10.0.0.0-10.0.0.1 1-2");
}

}  // namespace
