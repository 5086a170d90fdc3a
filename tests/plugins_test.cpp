// The ready plugins, and plugins by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "efnet/plugins/count.h"
#include "efnet/plugins/filter.h"
#include "efnet/plugins/icmp_echo.h"
#include "efnet/plugins/load.h"
#include "efnet/plugins/mirror.h"
#include "efnet/plugins/vlan.h"
#include "efnet/wire/checksum.h"
#include "efnet/wire/flow.h"
#include "efnet/wire/vlan.h"
#include "tests/support/plugins.h"
#include "tests/support/wire_packets.h"

using efio::DropReason;
using efnet::PacketBatch;
using efnet::Pipeline;
using testing::ElementsAre;
using testing::HasSubstr;
using namespace plugin_test;
using namespace efnet;
using wire_test::operator+;

namespace {

const MacAddress mac_a(2, 0, 0, 0, 0, 1);
const MacAddress mac_b(2, 0, 0, 0, 0, 2);

Bytes ethernet(EtherType type, const Bytes& packet, std::span<const VlanTag> tags = {}) {
  const EthernetHeader header{.dst = mac_b, .src = mac_a, .type = type, .tags = tags};
  Bytes bytes(header.size());
  header.emit(bytes);
  return bytes + packet;
}

Bytes four(IpProtocol protocol, std::size_t payload, std::span<const VlanTag> tags = {}) {
  Bytes frame = ethernet(EtherType::ipv4, wire_test::packet4(protocol, payload), tags);
  fill_frame(frame);
  return frame;
}
Bytes six(IpProtocol protocol, std::size_t payload) {
  Bytes frame = ethernet(EtherType::ipv6, wire_test::packet6(protocol, payload));
  fill_frame(frame);
  return frame;
}

template <class Kind, class... Arguments>
Kind& add(Pipeline& pipeline, Arguments&&... arguments) {
  auto plugin = std::make_shared<Kind>(std::forward<Arguments>(arguments)...);
  Kind& it = *plugin;
  pipeline.add(std::move(plugin));
  return it;
}

void refuses(const char* text, const char* because) {
  const auto made = make_plugin(text);
  ASSERT_FALSE(made) << text;
  EXPECT_THAT(made.error().message(), HasSubstr(because));
  EXPECT_THAT(made.error().message(), HasSubstr("plugin")) << text;
}

TEST(MakePlugin, EveryReadyOneHasARow) {
  std::vector<std::string> names;
  for (const PluginInfo& info : plugins()) {
    names.push_back(info.name);
    EXPECT_FALSE(info.description.empty());
  }
  EXPECT_THAT(names, testing::IsSupersetOf({"count", "filter", "icmp_echo", "mirror", "vlan", "arp", "limit"}));
  for (const char* text :
       {"count", "filter:udp port 53?gate=in", "icmp_echo:10.0.0.1,2001:db8::1", "mirror:in@pipe:MakePlugin",
        "limit:2Gbit?key=flow&burst=100k&keys=1000", "vlan:7?priority=3&tpid=802.1ad"}) {
    const auto made = make_plugin(text);
    ASSERT_TRUE(made) << made.error().message();
    EXPECT_EQ((*made)->name(), std::string_view(text).substr(0, (*made)->name().size()));
  }
}

TEST(MakePlugin, RefusesWithWhatWouldBeRight) {
  refuses("nonsense", "there is no plugin \"nonsense\"");
  refuses("nonsense", "filter");
  refuses("count:3", "no argument");
  refuses("count?x=1", "there is no plugin");
  refuses("count:?x=1", "x");
  refuses("filter", "no expression");
  refuses("filter:no such language", "syntax error");
  refuses("filter:udp?gate=up", "gate");
  refuses("icmp_echo", "no address");
  refuses("icmp_echo:10.0.0", "\"10.0.0\" is no address");
  refuses("vlan:4095", "no VLAN identifier");
  refuses("vlan:x", "no VLAN identifier");
  refuses("vlan:7?priority=8", "priority");
  refuses("limit:", "not a rate");
  refuses("limit:0", "not a rate");
  refuses("limit:10?key=port", "key");
  EXPECT_THAT(make_plugin("mirror:nothing:x").error().message(), HasSubstr("open nothing:x"));
}

TEST(Count, CountsFramesAndBytesEachWay) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx());
  const auto& count = add<CountPlugin>(pipeline);
  send_numbered(far, 3);
  bounce(near, pipeline);
  EXPECT_EQ(count.in().frames, 3U);
  EXPECT_EQ(count.in().bytes, 180U);
  EXPECT_EQ(count.out().bytes, 180U);
}

TEST(Filter, DropsWhatDoesNotMatchAtTheGateAskedFor) {
  for (const char* gate : {"in", "out", "both"}) {
    auto near = *efio::Port::open("pipe:filter/a");
    auto far = *efio::Port::open("pipe:filter/b");
    Pipeline pipeline(&near.tx());
    ASSERT_TRUE(pipeline.add(std::string("filter:udp dst port 2?gate=") + gate));
    send(far, four(IpProtocol::udp, 20));
    send(far, four(IpProtocol::tcp, 20));
    send(far, six(IpProtocol::udp, 20));
    bounce(near, pipeline);
    EXPECT_EQ(received(far).size(), 2U);
    const auto stats = pipeline.stats()[0];
    constexpr auto filtered = static_cast<std::size_t>(DropReason::filtered);
    EXPECT_EQ(stats.in.dropped[filtered], std::string_view(gate) == "out" ? 0U : 1U);
    EXPECT_EQ(stats.out.dropped[filtered], std::string_view(gate) == "out" ? 1U : 0U);
  }
}

TEST(Vlan, StripsInAndTagsOutWithoutTouchingThePayload) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx());
  const VlanTag tag = VlanTag::make(7, 3);
  add<VlanPlugin>(pipeline, tag);
  const VlanTag mine[] = {VlanTag::make(7, 5), VlanTag::make(9)};
  const VlanTag other[] = {VlanTag::make(8)};
  const VlanTag service[] = {VlanTag::make(7, 0, EtherType::qinq)};
  send(far, four(IpProtocol::udp, 20, mine));
  send(far, four(IpProtocol::udp, 20));
  send(far, four(IpProtocol::udp, 20, other));
  send(far, four(IpProtocol::udp, 20, service));
  send(far, Bytes(13));
  bounce(near, pipeline);
  const VlanTag back[] = {tag, VlanTag::make(9)};
  EXPECT_THAT(received(far), ElementsAre(four(IpProtocol::udp, 20, back)));
  EXPECT_EQ(pipeline.stats()[0].in.dropped[static_cast<std::size_t>(DropReason::filtered)], 4U);
}

TEST(Vlan, SlotsUseTheHeadroomElseTheRoomBehind) {
  Bytes memory(256);
  for (const std::uint16_t headroom : {128, 3, 0}) {
    const Bytes frame = four(IpProtocol::udp, 20);
    std::copy(frame.begin(), frame.end(), memory.begin() + headroom);
    efio::Slot slot{memory.data(), static_cast<std::uint32_t>(frame.size()), headroom, 0, 0, 0};
    EXPECT_EQ(insert_vlan(slot, VlanTag::make(5), 3), headroom == 128);
    if (headroom != 128) {
      EXPECT_TRUE(std::ranges::equal(slot.bytes(), frame));
      EXPECT_TRUE(insert_vlan(slot, VlanTag::make(5), 4));
    }
    const VlanTag tags[] = {VlanTag::make(5)};
    EXPECT_TRUE(std::ranges::equal(slot.bytes(), four(IpProtocol::udp, 20, tags)));
    EXPECT_EQ(strip_vlan(slot), VlanTag::make(5));
    EXPECT_TRUE(std::ranges::equal(slot.bytes(), frame));
    EXPECT_FALSE(strip_vlan(slot));
  }
}

TEST(Vlan, MetadataOfAnOffloadMovesWithTheHeaders) {
  Bytes memory(256);
  efio::Slot slot{memory.data(), 60, 128, 0, 0, 0};
  ASSERT_TRUE(write_metadata(slot, {.checksum_needed = 1, .checksum_start = 34, .header_length = 54}));
  ASSERT_TRUE(insert_vlan(slot, VlanTag::make(5)));
  EXPECT_EQ(read_metadata(slot).checksum_start, 38);
  EXPECT_EQ(read_metadata(slot).header_length, 58);
  ASSERT_TRUE(strip_vlan(slot));
  EXPECT_EQ(read_metadata(slot).checksum_start, 34);
  slot.offset = 35;  // the headroom holds the metadata and three bytes
  EXPECT_FALSE(insert_vlan(slot, VlanTag::make(5)));
}

TEST(Mirror, CopiesEachWayAndNeverHoldsUp) {
  auto [near, far] = open_ends();
  auto listener = *efio::Port::open("pipe:mirrored/b");
  for (const char* way : {"", "in@", "out@"}) {
    Pipeline pipeline(&near.tx());
    ASSERT_TRUE(pipeline.add(std::string("mirror:") + way + "pipe:mirrored/a"));
    send_numbered(far, 3);
    bounce(near, pipeline);
    EXPECT_THAT(numbers(received(far)), ElementsAre(0, 1, 2));
    const auto copies = numbers(received(listener));
    EXPECT_EQ(copies.size(), *way == '\0' ? 6U : 3U) << way;
  }
}

TEST(Mirror, CountsWhatItCouldNotCopy) {
  auto [near, far] = open_ends();
  auto listener = *efio::Port::open("pipe:full/b?ring=128");
  Pipeline pipeline(&near.tx());
  const auto& mirror = add<MirrorPlugin>(pipeline, *efio::Port::open("pipe:full/a?ring=128"), efio::Direction::rx);
  for (int round = 0; round < 4; ++round) {
    send_numbered(far, 40);
    bounce(near, pipeline);
    EXPECT_EQ(received(far).size(), 40U);
  }
  const auto tx = mirror.port().stats().tx;
  EXPECT_EQ(tx.offered, 160U);
  EXPECT_GT(tx.dropped[static_cast<std::size_t>(DropReason::not_forwarded)], 0U);
  expect_balanced(mirror.port());
  EXPECT_EQ(received(listener).size(), tx.sent);
}

// ---- limit ----

struct LimitCase {
  const char* text;
  std::vector<std::size_t> passed;  // of ten frames each: from a, from b, to another port, IPv6, ARP
};

TEST(Limit, EachKeyHasItsOwnRate) {
  Bytes from_b = four(IpProtocol::udp, 20);
  Ipv4Mut::parse(std::span(from_b).subspan(14))->set_src({10, 0, 0, 9});
  Bytes other_port = four(IpProtocol::udp, 20);
  store16(other_port, 36, 99);
  const std::vector<Bytes> kinds{four(IpProtocol::udp, 20), from_b, other_port, six(IpProtocol::udp, 20),
                                 ethernet(EtherType::arp, Bytes(46))};
  for (const LimitCase& test :
       {LimitCase{"limit:1?burst=3", {3, 3, 0, 3, 3}}, LimitCase{"limit:1?burst=3&key=destination", {3, 0, 0, 3, 3}},
        LimitCase{"limit:1?burst=3&key=flow", {3, 3, 3, 3, 3}}, LimitCase{"limit:1?burst=3&key=all", {3, 0, 0, 0, 0}},
        LimitCase{"limit:1bit?burst=1200", {2, 2, 0, 1, 2}},  // 66, 66, 66, 86, 64 bytes with FCS
        LimitCase{"limit:1?burst=3&gate=out", {10, 10, 10, 10, 10}}}) {
    auto near = *efio::Port::open("pipe:limit/a");
    auto far = *efio::Port::open("pipe:limit/b");
    Pipeline pipeline(&near.tx());
    ASSERT_TRUE(pipeline.add(test.text));
    std::vector<std::size_t> passed;
    for (const Bytes& kind : kinds) {
      for (int i = 0; i < 10; ++i) send(far, kind);
      passed.push_back(take_in(near, pipeline).size());
    }
    EXPECT_EQ(passed, test.passed) << test.text;
    const auto sum = std::accumulate(passed.begin(), passed.end(), std::size_t{0});
    EXPECT_EQ(near.stats().rx.dropped[static_cast<std::size_t>(DropReason::rate_limit)], 50 - sum);
    send(far, kinds[0]);
    EXPECT_EQ(take_in(near, pipeline, 3600s).size(), 1U);  // an hour later
  }
}

// ---- icmp_echo ----

std::shared_ptr<Plugin> echo() {
  return std::make_shared<IcmpEchoPlugin>(std::vector{wire_test::four_b}, std::vector{wire_test::six_b});
}

TEST(IcmpEcho, AnswersBothFamiliesBehindTags) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx());
  pipeline.add(echo());
  const VlanTag tags[] = {VlanTag::make(7, 5)};
  for (const Bytes& request : {four(IpProtocol::icmp, 56), four(IpProtocol::icmp, 0),
                               four(IpProtocol::icmp, 1400, tags), six(IpProtocol::icmpv6, 33)}) {
    send(far, request);
    EXPECT_THAT(take_in(near, pipeline), ElementsAre());
    const auto replies = received(far);
    ASSERT_EQ(replies.size(), 1U);
    const Flow asked = parse_flow(request);
    const Flow answered = parse_flow(replies[0]);
    EXPECT_EQ(verify_frame(replies[0]), ChecksumState::right);
    EXPECT_EQ(answered.key, asked.key.reversed());
    EXPECT_EQ(answered.tci, asked.tci);
    EXPECT_EQ(answered.end, asked.end);
    EXPECT_EQ(replies[0].size(), std::max<std::size_t>(asked.end, 60));
    EXPECT_EQ(EthernetView::parse(replies[0])->dst(), mac_a);
    EXPECT_EQ(EthernetView::parse(replies[0])->src(), mac_b);
    EXPECT_EQ(load8(replies[0].data() + answered.transport), asked.key.version == 4 ? 0 : 129);
    const auto data = [](const Bytes& frame, const Flow& flow) {
      return Bytes(frame.begin() + flow.payload, frame.begin() + flow.end);
    };
    EXPECT_EQ(data(replies[0], answered), data(request, asked));
  }
  EXPECT_EQ(pipeline.stats()[0].made, 4U);
  EXPECT_EQ(near.stats().tx.made, 4U);
  EXPECT_EQ(pipeline.stats()[0].in.taken, 4U);
}

TEST(IcmpEcho, LeavesAllElseAlone) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx());
  pipeline.add(echo());
  std::vector<Bytes> others{four(IpProtocol::udp, 20), six(IpProtocol::udp, 20), Bytes(60)};
  Bytes to_all = four(IpProtocol::icmp, 20);
  EthernetMut::parse(to_all)->set_dst(MacAddress::broadcast());
  others.push_back(to_all);
  Bytes reply = four(IpProtocol::icmp, 20);
  store8(reply.data() + 34, 0);
  fill_frame(reply);
  others.push_back(reply);
  Bytes elsewhere = four(IpProtocol::icmp, 20);
  Ipv4Mut::parse(std::span(elsewhere).subspan(14))->set_dst({10, 0, 0, 3});
  fill_frame(elsewhere);
  others.push_back(elsewhere);
  Bytes fragment = four(IpProtocol::icmp, 20);
  Ipv4Mut::parse(std::span(fragment).subspan(14))->set_fragment_field(0x2000);
  fill_frame(fragment);
  others.push_back(fragment);
  for (const Bytes& frame : others) send(far, frame);
  EXPECT_EQ(take_in(near, pipeline).size(), others.size());
  EXPECT_TRUE(received(far).empty());
}

TEST(IcmpEcho, DropsAWrongChecksum) {
  auto [near, far] = open_ends();
  Pipeline pipeline(&near.tx());
  pipeline.add(echo());
  Bytes wrong = four(IpProtocol::icmp, 20);
  wrong.back() ^= std::byte{1};
  send(far, wrong);
  EXPECT_TRUE(take_in(near, pipeline).empty());
  EXPECT_EQ(near.stats().rx.dropped[static_cast<std::size_t>(DropReason::checksum)], 1U);
}

}  // namespace
