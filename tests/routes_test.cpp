#include "efnet/tables/routes.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

using namespace efnet;

namespace {

template <class Address>
Routes<Address> make(RouteOptions options = {}) {
  auto made = Routes<Address>::create(options);
  EXPECT_TRUE(made) << made.error().message();
  return std::move(*made);
}

// The notes' example: to 8.8.8.8 by gateway 1, to 4.4.4.4 by gateway 2.
TEST(Routes, TheLongestPrefixWins) {
  auto routes = make<Ipv4Address>();
  EXPECT_EQ(routes.lookup({8, 8, 8, 8}), no_route);
  for (const auto& [text, number] :
       {std::pair{"0.0.0.0/0", 9u}, {"8.8.8.0/24", 1u}, {"4.4.4.4/32", 2u}, {"8.0.0.0/7", 3u}, {"8.8.8.8/31", 4u}})
    EXPECT_EQ(routes.add(*Ipv4Prefix::parse(text), number), RouteStatus::done);
  EXPECT_EQ(routes.lookup({8, 8, 8, 8}), 4u);
  EXPECT_EQ(routes.lookup({8, 8, 8, 10}), 1u);
  EXPECT_EQ(routes.lookup({9, 1, 1, 1}), 3u);
  EXPECT_EQ(routes.lookup({4, 4, 4, 4}), 2u);
  EXPECT_EQ(routes.lookup({4, 4, 4, 5}), 9u);
  EXPECT_EQ(routes.size(), 5u);
  EXPECT_EQ(routes.add(*Ipv4Prefix::parse("8.8.8.77/24"), 7), RouteStatus::done) << "the same prefix";
  EXPECT_EQ(routes.size(), 5u);
  EXPECT_EQ(routes.lookup({8, 8, 8, 10}), 7u);
  EXPECT_EQ(routes.remove(*Ipv4Prefix::parse("8.8.8.0/24")), RouteStatus::done);
  EXPECT_EQ(routes.remove(*Ipv4Prefix::parse("8.8.8.0/24")), RouteStatus::absent);
  EXPECT_EQ(routes.lookup({8, 8, 8, 10}), 3u);
  EXPECT_EQ(routes.lookup({8, 8, 8, 9}), 4u);
}

TEST(Routes, TakesIpv6) {
  auto routes = make<Ipv6Address>();
  routes.add(*Ipv6Prefix::parse("::/0"), 1);
  routes.add(*Ipv6Prefix::parse("2001:db8::/32"), 2);
  routes.add(*Ipv6Prefix::parse("2001:db8::/61"), 3);
  routes.add(*Ipv6Prefix::parse("2001:db8::1/128"), 4);
  EXPECT_EQ(routes.lookup(*Ipv6Address::parse("fe80::1")), 1u);
  EXPECT_EQ(routes.lookup(*Ipv6Address::parse("2001:db8:8000::")), 2u);
  EXPECT_EQ(routes.lookup(*Ipv6Address::parse("2001:db8:0:7::")), 3u);
  EXPECT_EQ(routes.lookup(*Ipv6Address::parse("2001:db8:0:8::")), 2u);
  EXPECT_EQ(routes.lookup(*Ipv6Address::parse("2001:db8::1")), 4u);
  EXPECT_EQ(routes.lookup(*Ipv6Address::parse("2001:db8::2")), 3u);
}

TEST(Routes, GivesBackItsBlocks) {
  auto routes = make<Ipv6Address>({.capacity = 16, .blocks = 20});
  routes.add(*Ipv6Prefix::parse("2001::/16"), 5);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(routes.add(*Ipv6Prefix::parse("2001:db8::1/128"), 1), RouteStatus::done);
    EXPECT_EQ(routes.blocks_free(), 6u);
    EXPECT_EQ(routes.add(*Ipv6Prefix::parse("2002::/128"), 2), RouteStatus::full);
    EXPECT_EQ(routes.lookup(*Ipv6Address::parse("2002::")), no_route) << "nothing was changed";
    EXPECT_EQ(routes.remove(*Ipv6Prefix::parse("2001:db8::1/128")), RouteStatus::done);
    EXPECT_EQ(routes.blocks_free(), 20u);
    EXPECT_EQ(routes.lookup(*Ipv6Address::parse("2001:db8::1")), 5u);
  }
}

TEST(Routes, RefusesWhatCannotBe) {
  auto routes = make<Ipv4Address>({.capacity = 2});
  EXPECT_EQ(routes.add({{1, 2, 3, 4}, 33}, 1), RouteStatus::invalid);
  EXPECT_EQ(routes.add({{1, 2, 3, 4}, 32}, max_route), RouteStatus::invalid);
  EXPECT_EQ(routes.add({{1, 2, 3, 4}, 32}, max_route - 1), RouteStatus::done);
  EXPECT_EQ(routes.lookup({1, 2, 3, 4}), max_route - 1);
  EXPECT_EQ(routes.add({{1, 2, 3, 5}, 32}, 1), RouteStatus::done);
  EXPECT_EQ(routes.add({{1, 2, 3, 6}, 32}, 1), RouteStatus::full);
  EXPECT_FALSE(Routes4::create({.capacity = 0}));
}

template <class Address>
Address near(std::mt19937_64& random);
// Few enough to meet: prefixes nest and touch each other.
template <>
Ipv4Address near(std::mt19937_64& random) {
  return Ipv4Address::from_number(static_cast<std::uint32_t>(0x0A00'0000 | (random() & 0x0103'0303)));
}
template <>
Ipv6Address near(std::mt19937_64& random) {
  return Ipv6Address::from_numbers(0x2001'0db8'0000'0000 | (random() & 0x0000'0003'0000'0003),
                                   random() & 0x0300'0000'0000'0003);
}

template <class Address>
class RoutesOf : public ::testing::Test {};
using Families = ::testing::Types<Ipv4Address, Ipv6Address>;
TYPED_TEST_SUITE(RoutesOf, Families);

TYPED_TEST(RoutesOf, DoesWhatAModelDoes) {
  std::mt19937_64 random(12);
  auto routes = make<TypeParam>({.capacity = 60, .blocks = 200});
  std::map<std::pair<TypeParam, unsigned>, RouteNumber> model;
  for (int step = 0; step < 20'000; ++step) {
    const Prefix<TypeParam> prefix{near<TypeParam>(random),
                                   static_cast<std::uint8_t>(random() % (TypeParam::bits + 1))};
    const std::pair key{prefix.first(), unsigned{prefix.length}};
    if (random() % 2 != 0) {
      const auto number = static_cast<RouteNumber>(random() % 1000);
      const RouteStatus status = routes.add(prefix, number);
      if (status == RouteStatus::done)
        model[key] = number;
      else
        ASSERT_FALSE(model.contains(key));
    } else {
      ASSERT_EQ(routes.remove(prefix), model.erase(key) != 0 ? RouteStatus::done : RouteStatus::absent);
    }
    std::array<TypeParam, 40> addresses;
    std::array<RouteNumber, 40> numbers;
    for (auto& address : addresses) address = near<TypeParam>(random);
    routes.lookup(addresses, numbers);
    for (std::size_t i = 0; i < addresses.size(); ++i) {
      RouteNumber expected = no_route;
      int longest = -1;
      for (const auto& [rule, number] : model)
        if (static_cast<int>(rule.second) > longest && addresses[i].first_of(rule.second) == rule.first) {
          longest = static_cast<int>(rule.second);
          expected = number;
        }
      ASSERT_EQ(numbers[i], expected) << step;
    }
    ASSERT_EQ(routes.size(), model.size());
    ASSERT_EQ(routes.find(prefix), model.contains(key) ? model[key] : no_route);
  }
  for (const auto& route : routes.all()) EXPECT_EQ(routes.remove(route.prefix), RouteStatus::done);
  EXPECT_EQ(routes.blocks_free(), 200u);
}

}  // namespace
