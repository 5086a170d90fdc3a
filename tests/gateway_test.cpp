#include "efnet/gateway/gateway.h"

#include <gmock/gmock.h>

#include "tests/support/nat44.h"
#include "tests/support/plugins.h"

// A gateway between two pipes; the test plays the hosts at their other ends.

namespace {

using namespace nat_test;
using plugin_test::received;
using testing::AllOf;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

const MacAddress inside_mac(2, 0, 0, 0, 1, 1);
const MacAddress outside_mac(2, 0, 0, 0, 2, 1);
const MacAddress host_mac(2, 0, 0, 0, 1, 7);
const MacAddress gateway_mac(2, 0, 0, 0, 2, 254);
const Ipv4Address inside_address(10, 0, 0, 1);
const Ipv4Address outside_address(198, 51, 100, 2);
const Ipv4Address gateway_address(198, 51, 100, 254);

GatewayOptions gateway_options() {
  GatewayOptions options;
  options.inside.address = *Ipv4Prefix::parse("10.0.0.1/24");
  options.outside.address = *Ipv4Prefix::parse("198.51.100.2/24");
  options.gateway = gateway_address;
  options.nat.pool.ranges = {{Ipv4Range{outside_address, outside_address}}};
  options.nat.sessions = 1024;
  return options;
}

Bytes with_macs(Bytes frame, MacAddress dst, MacAddress src) {
  dst.store(frame.data());
  src.store(frame.data() + MacAddress::size);
  return frame;
}

MacAddress dst_of(const Bytes& frame) { return MacAddress::load(frame.data()); }
MacAddress src_of(const Bytes& frame) { return MacAddress::load(frame.data() + MacAddress::size); }
EtherType type_of(const Bytes& frame) { return EthernetView::parse(std::span<const std::byte>(frame))->type(); }
std::optional<ArpView> arp_of(const Bytes& frame) {
  return ArpView::parse(std::span<const std::byte>(frame).subspan(EthernetView::min_header));
}
std::optional<IcmpView> icmp_of(const Bytes& frame) {
  const auto ip = Ipv4View::parse(std::span<const std::byte>(frame).subspan(EthernetView::min_header));
  if (!ip || ip->protocol() != IpProtocol::icmp) return std::nullopt;
  return IcmpView::parse(ip->payload());
}

class GatewayTest : public testing::Test {
 protected:
  void start(GatewayOptions options = gateway_options(), bool quiet = true) {
    gateway_ = Gateway::create(std::move(options)).value();
    ASSERT_TRUE(gateway_->attach(NatSide::inside, inside_.near.tx(), inside_mac));
    ASSERT_TRUE(gateway_->attach(NatSide::outside, outside_.near.tx(), outside_mac));
    run();
    if (!quiet) return;
    received(inside_.far), received(outside_.far);
  }
  // Until nothing moves.
  void run() {
    gateway_->tick(now_);
    for (bool moved = true; moved;) {
      moved = false;
      for (const NatSide side : {NatSide::inside, NatSide::outside}) {
        auto batch = (side == NatSide::inside ? inside_ : outside_).near.rx().receive(PacketBatch::capacity);
        moved |= !batch.empty();
        seen_ += batch.size();
        gateway_->pass(side, batch, now_);
      }
    }
  }
  void advance(Time by) {
    for (const Time end = now_ + by; now_ < end; run()) now_ += std::min<Time>(100ms, end - now_);
  }
  // What comes out inside, and outside, when this comes in.
  std::vector<Bytes> from_inside(const Bytes& frame) {
    plugin_test::send(inside_.far, with_macs(frame, inside_mac, host_mac));
    run();
    return received(outside_.far);
  }
  std::vector<Bytes> from_outside(const Bytes& frame) {
    plugin_test::send(outside_.far, with_macs(frame, outside_mac, gateway_mac));
    run();
    return received(inside_.far);
  }
  static Bytes arp_frame(const ArpMessage& message) {
    Bytes bytes(ArpMessage::frame_size);
    message.emit(bytes);
    return bytes;
  }
  // The hosts are known, by asking us.
  void introduce() {
    plugin_test::send(inside_.far, arp_frame(arp_request(host_mac, host, inside_address)));
    plugin_test::send(outside_.far, arp_frame(arp_request(gateway_mac, gateway_address, outside_address)));
    run();
    received(inside_.far), received(outside_.far);
  }
  std::uint64_t dropped(NatSide side, GatewayDrop drop) const {
    return gateway_->counters().of(side).dropped[static_cast<std::size_t>(drop)];
  }

  // What came in has gone out, was dropped under a reason, was consumed, or waits for a neighbour: exactly.
  void expect_conservation() {
    std::uint64_t in = 0, out = 0;
    for (const auto* ends : {&inside_, &outside_}) {
      plugin_test::expect_balanced(ends->near);
      const auto [rx, tx] = ends->near.stats();
      in += rx.delivered;
      out += tx.offered;
    }
    const auto counters = gateway_->counters();
    const auto nat = gateway_->nat_counters();
    for (const NatSide side : {NatSide::inside, NatSide::outside}) {
      in += counters.of(side).made;
      out += nat.of(side, NatVerdict::kept) + nat.of(side, NatVerdict::fragmented);
      std::uint64_t of_side = counters.of(side).turned;
      for (const std::uint64_t n : counters.of(side).dropped) of_side += n;
      for (const std::uint64_t n : nat.verdicts[static_cast<std::size_t>(side)]) of_side += n;
      std::uint64_t kept_in = 0;
      for (const PluginStats& plugin : gateway_->plugin_stats(side)) {
        plugin_test::expect_balanced(plugin.in);
        plugin_test::expect_balanced(plugin.out);
        out += plugin.in.taken + plugin.out.taken - plugin.released - plugin.discarded;
        of_side += plugin.in.taken + plugin.in.total_dropped();
        kept_in += plugin.kept;
      }
      EXPECT_EQ(of_side, counters.of(side).received);
      EXPECT_LE(kept_in, seen_ + counters.of(side).made);
    }
    EXPECT_EQ(in, out);
  }
  void TearDown() override {
    if (gateway_) expect_conservation();
  }

  plugin_test::Ends inside_ = plugin_test::open_ends(), outside_ = ends_outside();
  std::unique_ptr<Gateway> gateway_;
  Time now_ = 1000s;
  std::uint64_t seen_ = 0;

 private:
  static plugin_test::Ends ends_outside() {
    auto near = efio::Port::open("pipe:gateway_outside/a");
    auto far = efio::Port::open("pipe:gateway_outside/b");
    return {std::move(*near), std::move(*far)};
  }
};

TEST_F(GatewayTest, AnnouncesItsAddressesAtStart) {
  auto options = gateway_options();
  options.nat.pool.ranges.push_back({*Ipv4Range::parse("198.51.100.8/31")});
  start(std::move(options), false);
  const auto inside = received(inside_.far);
  ASSERT_THAT(inside, SizeIs(1));
  EXPECT_TRUE(arp_of(inside[0])->is_announcement());
  EXPECT_EQ(arp_of(inside[0])->sender_ip(), inside_address);
  EXPECT_EQ(arp_of(inside[0])->sender_mac(), inside_mac);
  std::vector<std::string> announced;
  for (const Bytes& frame : received(outside_.far)) {
    EXPECT_TRUE(arp_of(frame)->is_announcement());
    announced.push_back(to_string(arp_of(frame)->sender_ip()));
  }
  EXPECT_THAT(announced, testing::UnorderedElementsAre("198.51.100.2", "198.51.100.8", "198.51.100.9"));
}

TEST_F(GatewayTest, AnswersArpForItsOwnAndForThePool) {
  auto options = gateway_options();
  options.outside.address = *Ipv4Prefix::parse("198.51.100.2/22");
  options.nat.pool.ranges = {{*Ipv4Range::parse("198.51.100.77")}, {*Ipv4Range::parse("198.51.101.0-198.51.102.255")}};
  start(std::move(options));
  for (const auto address : {outside_address, Ipv4Address(198, 51, 100, 77), Ipv4Address(198, 51, 102, 77)}) {
    plugin_test::send(outside_.far, arp_frame(arp_request(gateway_mac, gateway_address, address)));
    run();
    const auto answers = received(outside_.far);
    ASSERT_THAT(answers, SizeIs(1)) << to_string(address);
    EXPECT_EQ(arp_of(answers[0])->sender_mac(), outside_mac);
    EXPECT_EQ(arp_of(answers[0])->sender_ip(), address);
    EXPECT_EQ(dst_of(answers[0]), gateway_mac);
  }
}

TEST_F(GatewayTest, AnswersPingInsideForBothItsAddressesOutsideForOne) {
  start();
  introduce();
  for (const auto address : {inside_address, outside_address}) {
    EXPECT_THAT(from_inside(echo(IcmpType::echo_request, host, address, 7)), IsEmpty());
    const auto answers = received(inside_.far);
    ASSERT_THAT(answers, SizeIs(1));
    EXPECT_EQ(icmp_of(answers[0])->type(), IcmpType::echo_reply);
    EXPECT_EQ(dst_of(answers[0]), host_mac);
    EXPECT_EQ(from_of(answers[0]).address, address);
  }
  EXPECT_THAT(from_outside(echo(IcmpType::echo_request, server, outside_address, 7)), IsEmpty());
  EXPECT_THAT(received(outside_.far), SizeIs(1));
  EXPECT_THAT(from_outside(echo(IcmpType::echo_request, server, inside_address, 7)), IsEmpty());
  EXPECT_THAT(received(outside_.far), IsEmpty());
  EXPECT_EQ(gateway_->nat().counters().of(NatSide::outside, NatVerdict::not_ours), 1U);
}

TEST_F(GatewayTest, AsksForTheNextHopKeepsThePacketAndSendsItTranslated) {
  start();
  const auto asked = from_inside(udp({host, 1000}, {server, 53}));
  ASSERT_THAT(asked, SizeIs(1));
  EXPECT_EQ(arp_of(asked[0])->target_ip(), gateway_address);
  EXPECT_EQ(arp_of(asked[0])->sender_ip(), outside_address);
  expect_conservation();

  plugin_test::send(outside_.far, arp_frame(arp_reply(*arp_of(asked[0]), gateway_mac)));
  run();
  auto sent = received(outside_.far);
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_EQ(dst_of(sent[0]), gateway_mac);
  EXPECT_EQ(src_of(sent[0]), outside_mac);
  EXPECT_EQ(from_of(sent[0]).address, outside_address);
  EXPECT_EQ(to_of(sent[0]), (End{server, 53}));
  EXPECT_EQ(ip_of(sent[0]).ttl(), 63);
  EXPECT_EQ(verify_frame(sent[0]), ChecksumState::right);

  const auto asked_inside = from_outside(udp({server, 53}, from_of(sent[0])));
  ASSERT_THAT(asked_inside, SizeIs(1));
  EXPECT_EQ(arp_of(asked_inside[0])->target_ip(), host);
  plugin_test::send(inside_.far, arp_frame(arp_reply(*arp_of(asked_inside[0]), host_mac)));
  run();
  const auto answer = received(inside_.far);
  ASSERT_THAT(answer, SizeIs(1));
  EXPECT_EQ(dst_of(answer[0]), host_mac);
  EXPECT_EQ(src_of(answer[0]), inside_mac);
  EXPECT_EQ(to_of(answer[0]), (End{host, 1000}));
  EXPECT_EQ(verify_frame(answer[0]), ChecksumState::right);
}

TEST_F(GatewayTest, GivesUpWhatNoNeighbourAnswersFor) {
  start();
  from_inside(udp({host, 1000}, {server, 53}));
  advance(10s);
  const auto tx = outside_.near.stats().tx;
  EXPECT_EQ(tx.dropped[static_cast<std::size_t>(efio::DropReason::unresolved)], 1U);
}

TEST_F(GatewayTest, LeavesAloneWhatIsForOthers) {
  start();
  introduce();
  const Bytes frame = udp({host, 1000}, {server, 53});
  plugin_test::send(inside_.far, with_macs(frame, gateway_mac, host_mac));
  plugin_test::send(inside_.far, with_macs(frame, MacAddress::broadcast(), host_mac));
  Bytes tagged = with_macs(frame, inside_mac, host_mac);
  const Bytes tag = wire_test::hex("8100 0007");
  tagged.insert(tagged.begin() + 12, tag.begin(), tag.end());
  plugin_test::send(inside_.far, tagged);
  plugin_test::send(inside_.far, with_macs(udp({host, 1000}, {{198, 51, 100, 255}, 9}), inside_mac, host_mac));
  run();
  EXPECT_THAT(received(outside_.far), IsEmpty());
  EXPECT_EQ(dropped(NatSide::inside, GatewayDrop::other_station), 1U);
  EXPECT_EQ(dropped(NatSide::inside, GatewayDrop::broadcast), 2U);
  EXPECT_EQ(dropped(NatSide::inside, GatewayDrop::vlan), 1U);
}

TEST_F(GatewayTest, TellsTheInsideThatNobodyListensAndTheOutsideNothing) {
  start();
  introduce();
  EXPECT_THAT(from_inside(udp({host, 1000}, {inside_address, 53})), IsEmpty());
  const auto told = received(inside_.far);
  ASSERT_THAT(told, SizeIs(1));
  EXPECT_EQ(icmp_of(told[0])->type(), IcmpType::destination_unreachable);
  EXPECT_EQ(icmp_of(told[0])->code(), 3);
  EXPECT_EQ(from_of(told[0]).address, inside_address);
  EXPECT_EQ(dst_of(told[0]), host_mac);
  EXPECT_EQ(dropped(NatSide::inside, GatewayDrop::own_address), 1U);
  EXPECT_THAT(from_outside(udp({server, 53}, {outside_address, 1024})), IsEmpty());
  EXPECT_THAT(received(outside_.far), IsEmpty());
}

TEST_F(GatewayTest, TellsWhereTheTimeToLiveHasRunOut) {
  start();
  introduce();
  EXPECT_THAT(from_inside(packet(IpProtocol::udp, {host, 1000}, {server, 33434}, {.ttl = 1})), IsEmpty());
  const auto told = received(inside_.far);
  ASSERT_THAT(told, SizeIs(1));
  EXPECT_EQ(icmp_of(told[0])->type(), IcmpType::time_exceeded);
  EXPECT_EQ(from_of(told[0]).address, inside_address);
  EXPECT_EQ(dst_of(told[0]), host_mac);
}

TEST_F(GatewayTest, DropsIpv6UnderAName) {
  start();
  Bytes frame(60);
  EthernetHeader{.dst = inside_mac, .src = host_mac, .type = EtherType::ipv6}.emit(frame);
  frame[14] = std::byte{0x60};
  plugin_test::send(inside_.far, frame);
  run();
  EXPECT_THAT(received(outside_.far), IsEmpty());
  EXPECT_EQ(gateway_->nat().counters().of(NatSide::inside, NatVerdict::not_ipv4), 1U);
}

TEST_F(GatewayTest, RoutesChooseTheNextHopOutsideAndTurnBackInside) {
  auto options = gateway_options();
  options.routes = {{*Ipv4Prefix::parse("203.0.113.0/24"), Ipv4Address(198, 51, 100, 77)},
                    {*Ipv4Prefix::parse("10.9.0.0/16"), Ipv4Address(10, 0, 0, 9)}};
  start(std::move(options));
  introduce();
  const auto asked = from_inside(udp({host, 1000}, {server, 53}));
  ASSERT_THAT(asked, SizeIs(1));
  EXPECT_EQ(arp_of(asked[0])->target_ip(), Ipv4Address(198, 51, 100, 77));

  EXPECT_THAT(from_inside(udp({host, 1000}, {{10, 9, 1, 1}, 53})), IsEmpty());
  const auto asked_inside = received(inside_.far);
  ASSERT_THAT(asked_inside, SizeIs(1));
  EXPECT_EQ(arp_of(asked_inside[0])->target_ip(), Ipv4Address(10, 0, 0, 9));
  const MacAddress router_mac(2, 0, 0, 0, 1, 9);
  plugin_test::send(inside_.far, arp_frame(arp_reply(*arp_of(asked_inside[0]), router_mac)));
  run();
  const auto turned = received(inside_.far);
  ASSERT_THAT(turned, SizeIs(1));
  EXPECT_EQ(dst_of(turned[0]), router_mac);
  EXPECT_EQ(from_of(turned[0]), (End{host, 1000}));
  EXPECT_EQ(ip_of(turned[0]).ttl(), 63);
  EXPECT_TRUE(verify_header(ip_of(turned[0])));
  EXPECT_EQ(gateway_->counters().of(NatSide::inside).turned, 1U);

  // A host behind that router is translated as the others are; a stranger is not.
  EXPECT_THAT(from_inside(udp({{10, 9, 1, 1}, 1000}, {{192, 0, 2, 1}, 53})), SizeIs(1));
  EXPECT_THAT(from_inside(udp({{10, 8, 1, 1}, 1000}, {{192, 0, 2, 1}, 53})), IsEmpty());
  EXPECT_EQ(gateway_->nat().counters().of(NatSide::inside, NatVerdict::not_inside), 1U);
}

TEST_F(GatewayTest, HairpinsComeBackInside) {
  start();
  introduce();
  const auto sent = from_inside(udp({host, 1000}, {server, 53}));
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_THAT(from_inside(udp({host, 2000}, from_of(sent[0]))), IsEmpty());
  const auto back = received(inside_.far);
  ASSERT_THAT(back, SizeIs(1));
  EXPECT_EQ(to_of(back[0]), (End{host, 1000}));
  EXPECT_EQ(from_of(back[0]).address, outside_address);
  EXPECT_EQ(dst_of(back[0]), host_mac);
  EXPECT_EQ(verify_frame(back[0]), ChecksumState::right);
}

TEST_F(GatewayTest, FragmentsInTheWrongOrderLeaveTogether) {
  start();
  introduce();
  Bytes whole = udp({host, 1000}, {server, 53}, {.payload = 800});
  // Two fragments of 400 and 408 bytes, the second first.
  const auto cut = [&](std::size_t from, std::size_t length, bool more) {
    const auto begin = whole.begin() + 34 + static_cast<std::ptrdiff_t>(from);
    Bytes fragment = Bytes(34) + Bytes(begin, begin + static_cast<std::ptrdiff_t>(length));
    EthernetHeader{}.emit(fragment);
    Ipv4Header{.src = host,
               .dst = server,
               .payload_length = length,
               .identification = 99,
               .more_fragments = more,
               .fragment_offset = static_cast<std::uint16_t>(from)}
        .emit(std::span(fragment).subspan(14));
    fill_header(*Ipv4Mut::parse(std::span(fragment).subspan(14)));
    return fragment;
  };
  EXPECT_THAT(from_inside(cut(400, 408, false)), IsEmpty());
  const auto sent = from_inside(cut(0, 400, true));
  ASSERT_THAT(sent, SizeIs(2));
  EXPECT_EQ(ip_of(sent[0]).identification(), ip_of(sent[1]).identification());
  for (const Bytes& frame : sent) {
    EXPECT_EQ(dst_of(frame), gateway_mac);
    EXPECT_EQ(ip_of(frame).src(), outside_address);
  }
  EXPECT_EQ(gateway_->counters().of(NatSide::outside).made, 1U);
}

TEST_F(GatewayTest, APortThatIsGoneDropsAndComesBack) {
  start();
  introduce();
  gateway_->detach(NatSide::outside);
  EXPECT_THAT(from_inside(udp({host, 1000}, {server, 53})), IsEmpty());
  EXPECT_EQ(inside_.near.stats().rx.dropped[static_cast<std::size_t>(efio::DropReason::device_gone)], 1U);
  ASSERT_TRUE(gateway_->attach(NatSide::outside, outside_.near.tx(), outside_mac));
  introduce();
  const auto sent = from_inside(udp({host, 1000}, {server, 53}));
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_EQ(gateway_->nat().counters().sessions_made, 1U);
}

TEST_F(GatewayTest, PortsOfVlans) {
  auto options = gateway_options();
  options.inside.vlan = 7;
  start(std::move(options));
  const Bytes tag = wire_test::hex("8100 0007");
  const auto tagged = [&](Bytes frame) {
    frame.insert(frame.begin() + 12, tag.begin(), tag.end());
    return frame;
  };
  plugin_test::send(inside_.far, tagged(arp_frame(arp_request(host_mac, host, inside_address))));
  run();
  const auto answer = received(inside_.far);
  ASSERT_THAT(answer, SizeIs(1));
  EXPECT_EQ(EthernetView::parse(std::span<const std::byte>(answer[0]))->tag(0)->id(), 7);
  plugin_test::send(outside_.far, arp_frame(arp_request(gateway_mac, gateway_address, outside_address)));
  run();
  received(outside_.far);
  plugin_test::send(inside_.far, tagged(with_macs(udp({host, 1000}, {server, 53}), inside_mac, host_mac)));
  run();
  const auto sent = received(outside_.far);
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_EQ(type_of(sent[0]), EtherType::ipv4);
  const auto back = from_outside(udp({server, 53}, from_of(sent[0])));
  ASSERT_THAT(back, SizeIs(1));
  EXPECT_EQ(EthernetView::parse(std::span<const std::byte>(back[0]))->tag(0)->id(), 7);
  EXPECT_EQ(dst_of(back[0]), host_mac);
  EXPECT_THAT(from_inside(udp({host, 1000}, {server, 53})), IsEmpty());  // untagged
}

// A host that leaves checksums and cutting to a device: what is pending stays so, for the new addresses.
TEST_F(GatewayTest, WhatIsLeftToADeviceGoesThroughAsItIs) {
  auto options = gateway_options();
  options.inside.offloads = options.outside.offloads = true;
  options.outside.mtu = 600;
  start(std::move(options));
  introduce();
  const auto send = [&](std::size_t payload, std::uint16_t segment) {
    Bytes frame =
        with_macs(packet(IpProtocol::udp, {host, 1000}, {server, 53}, {.payload = payload, .dont_fragment = true}),
                  inside_mac, host_mac);
    const auto pending =
        efio::checksum_fold(pseudo_header(host, server, IpProtocol::udp, static_cast<std::uint16_t>(8 + payload)));
    store16(frame.data() + 40, pending);
    auto batch = inside_.far.tx().claim(1);
    std::memcpy(batch[0].bytes().data(), frame.data(), frame.size());
    batch[0].length = static_cast<std::uint32_t>(frame.size());
    efio::Metadata metadata{.checksum_needed = 1, .checksum_start = 34, .checksum_offset = 6};
    if (segment != 0) metadata.segment_type = 5, metadata.segment_size = segment, metadata.header_length = 42;
    write_metadata(batch[0], metadata);
    batch.commit();
    inside_.far.tx().flush();
    run();
    return received(outside_.far);
  };
  for (const auto& [payload, segment] : {std::pair<std::size_t, std::uint16_t>(100, 0), {1600, 500}}) {
    auto sent = send(payload, segment);
    ASSERT_THAT(sent, SizeIs(1)) << payload;
    EXPECT_EQ(ip_of(sent[0]).src(), outside_address);
    // Who completes it sums what is there.
    store16(sent[0].data() + 40, efio::checksum(std::span<const std::byte>(sent[0]).subspan(34)));
    EXPECT_EQ(verify_frame(sent[0]), ChecksumState::right);
  }
  EXPECT_THAT(send(1600, 0), IsEmpty());
  EXPECT_THAT(send(1600, 1400), IsEmpty());
  const auto told = received(inside_.far);
  ASSERT_THAT(told, SizeIs(2));
  EXPECT_EQ(icmp_of(told[0])->code(), 4);
  EXPECT_EQ(dropped(NatSide::inside, GatewayDrop::too_big), 2U);
}

TEST_F(GatewayTest, AFullQueueDropsUnderAName) {
  start();
  introduce();
  const std::size_t ring = outside_.near.tx().ring_size();
  for (std::size_t i = 0; i < ring + 10; ++i) {
    plugin_test::send(inside_.far, with_macs(udp({host, 1000}, {server, 53}), inside_mac, host_mac));
    if (i % 32 == 31) run();
  }
  run();
  EXPECT_EQ(outside_.near.stats().tx.dropped[static_cast<std::size_t>(efio::DropReason::not_forwarded)], 10U);
  EXPECT_EQ(gateway_->counters().of(NatSide::outside).no_room, 10U);
  EXPECT_THAT(received(outside_.far), SizeIs(ring));
}

TEST_F(GatewayTest, AnotherTakesOver) {
  start();
  introduce();
  const auto sent = from_inside(udp({host, 1000}, {server, 53}));
  ASSERT_THAT(sent, SizeIs(1));
  auto options = gateway_options();
  options.routes = {{*Ipv4Prefix::parse("192.0.2.0/24"), Ipv4Address(198, 51, 100, 77)}};
  auto next = Gateway::create(std::move(options)).value();
  const auto restored = next->take_over(*gateway_, now_, 1'000'000s);
  ASSERT_TRUE(restored);
  EXPECT_EQ(restored->restored, 1U);
  ASSERT_TRUE(next->attach(NatSide::inside, inside_.near.tx(), inside_mac));
  ASSERT_TRUE(next->attach(NatSide::outside, outside_.near.tx(), outside_mac));
  gateway_ = std::move(next);
  run();
  received(inside_.far), received(outside_.far);
  // Answers find the session, and the host is known still.
  const auto back = from_outside(udp({server, 53}, from_of(sent[0])));
  ASSERT_THAT(back, SizeIs(1));
  EXPECT_EQ(to_of(back[0]), (End{host, 1000}));
  const auto again = from_inside(udp({host, 1000}, {server, 53}));
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(from_of(again[0]), from_of(sent[0]));
  EXPECT_EQ(gateway_->nat_counters().of(NatSide::inside, NatVerdict::translated), 2U);
}

TEST_F(GatewayTest, AnythingAtAllAddsUp) {
  start();
  introduce();
  std::mt19937 random(5);
  const std::vector<Bytes> seeds = {udp({host, 1000}, {server, 53}),
                                    tcp({host, 1000}, {server, 80}, tcp_flag::syn),
                                    echo(IcmpType::echo_request, host, inside_address, 5),
                                    arp_frame(arp_request(host_mac, host, inside_address)),
                                    udp({host, 1}, {inside_address, 2}),
                                    udp({host, 1}, {{10, 0, 0, 44}, 2}),
                                    udp({server, 53}, {outside_address, 1024})};
  for (int round = 0; round < 5000; ++round) {
    Bytes frame = seeds[random() % seeds.size()];
    const NatSide side = random() % 2 == 0 ? NatSide::inside : NatSide::outside;
    if (random() % 8 != 0) frame = with_macs(frame, side == NatSide::inside ? inside_mac : outside_mac, host_mac);
    for (unsigned damage = random() % 3; damage > 0; --damage)
      frame[random() % frame.size()] = static_cast<std::byte>(random());
    if (random() % 4 == 0) frame.resize(1 + random() % frame.size());
    plugin_test::send((side == NatSide::inside ? inside_ : outside_).far, frame);
    if (random() % 16 == 0) {
      now_ += Time(static_cast<Time::rep>(random() % 400'000'000));
      run();
      received(inside_.far), received(outside_.far);
    }
  }
  run();
  expect_conservation();
}

TEST(GatewayOptions, MistakesAreNamed) {
  const auto why = [](auto change) {
    GatewayOptions options = gateway_options();
    change(options);
    const auto made = Gateway::create(std::move(options));
    return made ? std::string() : made.error().message();
  };
  EXPECT_EQ(why([](auto&) {}), "");
  using testing::HasSubstr;
  EXPECT_THAT(why([](auto& o) { o.gateway = Ipv4Address(10, 9, 9, 9); }),
              HasSubstr("no other host on the outside subnet"));
  EXPECT_THAT(why([](auto& o) { o.inside.address = *Ipv4Prefix::parse("198.51.100.129/25"); }), HasSubstr("overlap"));
  EXPECT_THAT(why([](auto& o) { o.routes = {{*Ipv4Prefix::parse("10.9.0.0/16"), {10, 1, 0, 1}}}; }),
              HasSubstr("no other host on a subnet of ours"));
  EXPECT_THAT(why([](auto& o) { o.nat.pool.ranges = {{*Ipv4Range::parse("198.51.100.0/24")}}; }),
              HasSubstr("has the gateway's own address"));
}

}  // namespace
