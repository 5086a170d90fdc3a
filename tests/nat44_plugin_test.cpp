// The NAT between the pipelines of two ports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "efnet/plugins/load.h"
#include "efnet/plugins/nat44.h"
#include "tests/support/nat44.h"
#include "tests/support/plugins.h"

using namespace nat_test;
using plugin_test::received;
using testing::HasSubstr;
using testing::SizeIs;

namespace {

// Hosts at the far ends of two pipes, and a program that forwards between the
// near ones.
class Between {
 public:
  Between(std::shared_ptr<Plugin> inside_half, std::shared_ptr<Plugin> outside_half) {
    inside.add(std::move(inside_half));
    outside.add(std::move(outside_half));
  }
  void turn(Time now = 1000s) {
    one_way(near_inside, inside, near_outside, outside, now);
    one_way(near_outside, outside, near_inside, inside, now);
  }
  void tick(Time now) {
    inside.tick(now);
    outside.tick(now);
    near_inside.tx().flush();
    near_outside.tx().flush();
  }
  std::vector<Bytes> from_inside(const std::vector<Bytes>& frames) { return through(hosts, frames, server_side); }
  std::vector<Bytes> from_outside(const std::vector<Bytes>& frames) { return through(server_side, frames, hosts); }
  void expect_balanced() {
    for (efio::Port* port : {&near_inside, &near_outside}) plugin_test::expect_balanced(*port);
    for (const Pipeline* pipeline : {&inside, &outside})
      for (const PluginStats& stats : pipeline->stats()) plugin_test::expect_balanced(stats.in);
  }

 private:
  static efio::Port open(const char* end) {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    return efio::Port::open(std::string("pipe:nat44_plugin_") + test->name() + end).value();
  }
  std::vector<Bytes> through(efio::Port& from, const std::vector<Bytes>& frames, efio::Port& to) {
    for (const Bytes& frame : frames) plugin_test::send(from, frame);
    turn();
    return received(to);
  }
  static void one_way(efio::Port& from, Pipeline& in, efio::Port& to, Pipeline& out, Time now) {
    auto batch = from.rx().receive(PacketBatch::capacity);
    RxPackets packets(batch);
    in.ingate(packets, now);
    out.outgate(packets, now);
    forward(packets, to.tx());
    packets.finish();
    from.tx().flush();
    to.tx().flush();
  }

 public:
  efio::Port near_inside = open("_inside/a"), hosts = open("_inside/b");
  efio::Port near_outside = open("_outside/a"), server_side = open("_outside/b");
  Pipeline inside{&near_inside.tx()}, outside{&near_outside.tx()};
};

TEST(Nat44Plugin, TranslatesBothWays) {
  auto halves = Nat44Plugin::create(options()).value();
  Nat44& nat = halves.inside->nat();
  Between between(std::move(halves.inside), std::move(halves.outside));
  const auto sent = between.from_inside({udp({host, 5000}, {server, 53}), udp({other_host, 5000}, {server, 53})});
  ASSERT_THAT(sent, SizeIs(2));
  EXPECT_EQ(from_of(sent[0]).address, pool_address);
  EXPECT_EQ(verify_frame(sent[0]), ChecksumState::right);
  const auto came = between.from_outside({udp({server, 53}, from_of(sent[1])), udp({server, 53}, {pool_address, 1})});
  ASSERT_THAT(came, SizeIs(1));
  EXPECT_EQ(to_of(came[0]), (End{other_host, 5000}));
  EXPECT_EQ(nat.counters().of(NatSide::outside, NatVerdict::no_mapping), 1U);
  EXPECT_EQ(between.outside.stats()[0].in.dropped[static_cast<std::size_t>(efio::DropReason::filtered)], 1U);
  between.expect_balanced();
}

TEST(Nat44Plugin, HairpinsAndErrorsGoBackWhereTheyCameFrom) {
  auto halves = Nat44Plugin::create(options()).value();
  Between between(std::move(halves.inside), std::move(halves.outside));
  const auto sent = between.from_inside({udp({host, 5000}, {server, 53})});
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_TRUE(
      between
          .from_inside({udp({other_host, 6000}, from_of(sent[0])), udp({other_host, 6000}, {server, 53}, {.ttl = 1})})
          .empty());
  const auto back = received(between.hosts);
  ASSERT_THAT(back, SizeIs(2));
  EXPECT_EQ(to_of(back[0]), (End{host, 5000}));
  EXPECT_EQ(ip_of(back[1]).dst(), other_host);
  EXPECT_EQ(IcmpView::parse(ip_of(back[1]).payload())->type(), IcmpType::time_exceeded);
  between.expect_balanced();
}

TEST(Nat44Plugin, FragmentsOfItsOwnLeaveOnTheOtherSide) {
  auto with = options();
  with.outside_mtu = 576;
  auto halves = Nat44Plugin::create(with).value();
  Between between(std::move(halves.inside), std::move(halves.outside));
  const std::vector<Bytes> frames{udp({host, 5000}, {server, 53}, {.payload = 1400}), udp({host, 5000}, {server, 53})};
  EXPECT_THAT(between.from_inside(frames), SizeIs(4));
  // With nothing else to send they wait for the next tick.
  EXPECT_TRUE(between.from_inside({frames[0]}).empty());
  between.tick(1000s);
  EXPECT_THAT(received(between.server_side), SizeIs(3));
  between.expect_balanced();
}

TEST(Nat44Plugin, TicksEndSessionsAndAnswerHeldSyns) {
  auto halves = Nat44Plugin::create(options()).value();
  Nat44& nat = halves.inside->nat();
  Between between(std::move(halves.inside), std::move(halves.outside));
  between.from_inside({udp({host, 5000}, {server, 53})});
  between.from_outside({tcp({server, 80}, {pool_address, 4000}, syn)});
  between.tick(1007s);
  EXPECT_THAT(received(between.server_side), SizeIs(1));
  EXPECT_EQ(nat.sessions().size(), 1U);
  between.tick(1302s);
  EXPECT_EQ(nat.sessions().size(), 0U);
}

TEST(Nat44Plugin, HalvesByTextFindEachOther) {
  auto inside = make_plugin(
      "nat44:inside@text?pool=198.51.100.1:2000-2003,198."
      "51.100.9&hosts=10.0.0.0/8&sessions=100");
  ASSERT_TRUE(inside) << inside.error().message();
  EXPECT_THAT(make_plugin("nat44:inside@text?pool=198.51.100.1").error().message(), HasSubstr("already"));
  EXPECT_THAT(make_plugin("nat44:outside@text?pool=198.51.100.1").error().message(), HasSubstr("has said"));
  EXPECT_THAT(make_plugin("nat44:outside@another").error().message(), HasSubstr("no pool"));
  auto outside = make_plugin("nat44:outside@text");
  ASSERT_TRUE(outside) << outside.error().message();
  Between between(std::move(*inside), std::move(*outside));
  const auto sent = between.from_inside({udp({host, 5000}, {server, 53})});
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_THAT(between.from_outside({udp({server, 53}, from_of(sent[0]))}), SizeIs(1));
  EXPECT_TRUE(between.from_inside({udp({Ipv4Address(11, 0, 0, 1), 5000}, {server, 53})}).empty());
  // The name is free again.
  EXPECT_TRUE(make_plugin("nat44:outside@text?pool=198.51.100.1"));
}

TEST(Nat44Plugin, RefusesWhatItDoesNotUnderstand) {
  for (const auto& [text, because] :
       {std::pair("nat44:", "not a half"), std::pair("nat44:both?pool=198.51.100.1", "not a half"),
        std::pair("nat44:inside@x?pool=somewhere", "not a part of a pool"),
        std::pair("nat44:inside@x?pool=198.51.100.1:9-1", "not a part of a pool"),
        std::pair("nat44:inside@x?pool=198.51.100.1&hosts=there", "not a network"),
        std::pair("nat44:inside@x?pool=198.51.100.1&inside_address=me", "not an address"),
        std::pair("nat44:inside@x?pool=198.51.100.1&filtering=none", "filtering")}) {
    const auto made = make_plugin(text);
    ASSERT_FALSE(made) << text;
    EXPECT_THAT(made.error().message(), HasSubstr(because));
  }
}

}  // namespace
