// The link: what an interface is, when it is ready, what happens to it.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "efio/engines/link.h"
#include "tests/support/netns.h"

namespace {

using efio::Link;
using efio::LinkWait;
using efio::test::VethPair;
using namespace std::chrono_literals;

constexpr LinkWait at_once{.settle = 0ms, .up = 2s};

std::shared_ptr<Link> open_link(const efio::test::Netns& ns, const std::string& name) {
  return ns.run([&] {
    auto link = Link::open(name, "open test:" + name);
    EXPECT_TRUE(link.has_value()) << link.error().message();
    return link ? *link : nullptr;
  });
}

// Calls check() until `condition` holds, two seconds at most.
template <class Condition>
bool soon(Link& link, Condition condition) {
  const auto until = std::chrono::steady_clock::now() + 2s;
  do {
    link.check();
    if (condition()) return true;
    std::this_thread::sleep_for(1ms);
  } while (std::chrono::steady_clock::now() < until);
  return false;
}

class LinkTest : public testing::Test {
 protected:
  void SetUp() override { EFIO_REQUIRE_NETNS(); }
};

TEST_F(LinkTest, KnowsTheInterface) {
  const VethPair pair;
  pair.a.ip("link set va address 02:00:00:00:00:0a mtu 1400");
  const auto link = open_link(pair.a, "va");
  ASSERT_TRUE(link);
  EXPECT_GT(link->index(), 0);
  EXPECT_EQ(link->mtu(), 1400U);
  EXPECT_EQ(link->mac()[5], 0x0a);
  EXPECT_TRUE(link->ethernet());
  EXPECT_FALSE(link->loopback());
  EXPECT_EQ(link->speed(), 0U) << "a veth pair has no speed";
  EXPECT_TRUE(open_link(pair.a, "lo")->loopback());
}

TEST_F(LinkTest, LooksInTheNamespaceOfTheCallingThread) {
  const VethPair pair;
  const auto there = pair.b.run([] { return Link::open("va", "open test:va"); });
  ASSERT_FALSE(there.has_value());
  EXPECT_EQ(there.error().kind, efio::Error::Kind::device);
  EXPECT_EQ(there.error().message(),
            "open test:va: there is no interface va; there are vb, lo; `ip link` lists all");
}

TEST_F(LinkTest, RefusesANameThatNoInterfaceCanHave) {
  const auto link = Link::open("sixteen_letters_", "open test");
  ASSERT_FALSE(link.has_value());
  EXPECT_EQ(link.error().kind, efio::Error::Kind::usage);
}

TEST_F(LinkTest, ReadyWhenSteadyForTheSettleTime) {
  const VethPair pair;
  const auto link = open_link(pair.a, "va");
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(link->wait_ready(at_once, "open").has_value());
  EXPECT_LT(std::chrono::steady_clock::now() - start, 150ms);
  EXPECT_TRUE(link->wait_ready({.settle = 150ms, .up = 2s}, "open").has_value());
  EXPECT_GE(std::chrono::steady_clock::now() - start, 150ms);
}

TEST_F(LinkTest, WaitsForALinkThatComesUpLater) {
  const VethPair pair;
  pair.b.ip("link set vb down");
  const auto link = open_link(pair.a, "va");
  EXPECT_FALSE(link->up());
  std::thread later([&] {
    std::this_thread::sleep_for(300ms);
    pair.b.ip("link set vb up");
  });
  const auto start = std::chrono::steady_clock::now();
  const auto ready = link->wait_ready({.settle = 100ms, .up = 5s}, "open");
  const auto waited = std::chrono::steady_clock::now() - start;
  later.join();
  EXPECT_TRUE(ready.has_value()) << ready.error().message();
  EXPECT_GE(waited, 400ms);
  EXPECT_LT(waited, 2s);
}

TEST_F(LinkTest, SaysWhyALinkNeverBecameReady) {
  const VethPair pair;
  pair.b.ip("link set vb down");
  const auto link = open_link(pair.a, "va");
  const auto no_carrier = link->wait_ready({.settle = 0ms, .up = 100ms}, "open test:va");
  ASSERT_FALSE(no_carrier.has_value());
  EXPECT_EQ(no_carrier.error().message(),
            "open test:va: the link did not come up within 0.1 s; is the cable in, is the peer up? up= waits longer");
  pair.a.ip("link set va down");
  const auto down = link->wait_ready({.settle = 0ms, .up = 100ms}, "open test:va");
  ASSERT_FALSE(down.has_value());
  EXPECT_EQ(down.error().message(),
            "open test:va: the interface stayed down for 0.1 s; `ip link set va up`; up= waits longer");
}

TEST_F(LinkTest, CountsEachTimeTheLinkGoesDown) {
  const VethPair pair;
  const auto link = open_link(pair.a, "va");
  ASSERT_TRUE(link->up());
  for (int i = 0; i < 3; ++i) {
    pair.b.ip("link set vb down");
    pair.b.ip("link set vb up");
  }
  EXPECT_TRUE(soon(*link, [&] { return link->downs() == 3 && link->up(); })) << link->downs();
  EXPECT_FALSE(link->gone());
}

TEST_F(LinkTest, KnowsTheStateAfterMoreEventsThanTheSocketHolds) {
  const VethPair pair;
  const auto link = open_link(pair.a, "va");
  // Each line is two events of about 1.5 kB; the socket holds some 200 kB.
  pair.a.shell("for i in $(seq 600); do echo link set lo up; echo link set lo down; done | ip -batch -");
  pair.b.ip("link set vb down");
  EXPECT_TRUE(soon(*link, [&] { return !link->up(); }));
  pair.b.ip("link set vb up");
  EXPECT_TRUE(soon(*link, [&] { return link->up(); }));
}

TEST_F(LinkTest, TellsThatTheInterfaceWasDeleted) {
  const VethPair pair;
  const auto link = open_link(pair.a, "va");
  pair.a.ip("link del va");
  EXPECT_TRUE(soon(*link, [&] { return link->gone(); }));
  EXPECT_EQ(link->gone_error("test:va rx 0").message(),
            "use test:va rx 0: the interface va was deleted; open it again when it is back");
}

TEST_F(LinkTest, LeavingABridgeIsNoDeletion) {
  const VethPair pair;
  pair.a.ip("link add bridge0 type bridge");
  pair.a.ip("link set va master bridge0");
  const auto link = open_link(pair.a, "va");
  pair.a.ip("link set va nomaster");
  pair.a.ip("link set va down");
  EXPECT_TRUE(soon(*link, [&] { return !link->up(); }));
  EXPECT_FALSE(link->gone());
}

TEST_F(LinkTest, PromiscuousAsLongAsSomeoneHoldsIt) {
  const VethPair pair;
  const auto link = open_link(pair.a, "va");
  const auto holders = [&] {
    const auto text = pair.a.shell("ip -d link show va");
    const auto at = text.find("promiscuity ");
    return at == std::string::npos ? -1 : std::stoi(text.substr(at + 12));
  };
  EXPECT_EQ(holders(), 0);
  {
    const auto one = pair.a.run([&] { return link->hold_promiscuous("open"); });
    ASSERT_TRUE(one.has_value()) << one.error().message();
    EXPECT_EQ(holders(), 1);
    const auto two = pair.a.run([&] { return link->hold_promiscuous("open"); });
    EXPECT_EQ(holders(), 2);
  }
  EXPECT_EQ(holders(), 0);
}

}  // namespace
