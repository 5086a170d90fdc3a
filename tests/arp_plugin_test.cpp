// The arp plugin: both roles of a dialogue, next hops, and what becomes of frames that wait.
#include "efnet/plugins/arp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "efnet/plugins/load.h"
#include "efnet/wire/checksum.h"
#include "tests/support/plugins.h"

using efio::DropReason;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace plugin_test;
using namespace efnet;

namespace {

const MacAddress mac_us(2, 0, 0, 0, 0, 1);
const MacAddress mac_peer(2, 0, 0, 0, 0, 2);
const Ipv4Address us(10, 0, 0, 1);
const Ipv4Address peer(10, 0, 0, 2);
const Ipv4Address gateway(10, 0, 0, 254);

class ArpPluginTest : public ::testing::Test {
 protected:
  void start(ArpPluginOptions options = {}) {
    if (options.locals.empty()) options.locals = {{.vlan = 0, .prefix = {us, 24}, .mac = mac_us}};
    options.neighbours.seed = HashSeed::from(1);
    auto plugin = ArpPlugin::create(std::move(options));
    ASSERT_TRUE(plugin) << plugin.error().message();
    arp = plugin->get();
    pipeline.add(std::shared_ptr<Plugin>(std::move(*plugin)));
    pipeline.tick(now);  // announces
    ends.near.tx().flush();
    while (!received(ends.far).empty()) pass(3s);
  }

  void pass(std::chrono::nanoseconds time) {
    now += time;
    pipeline.tick(now);
    ends.near.tx().flush();
  }

  // A packet of the program's to `dst`, out through the pipeline.
  void send_out(Ipv4Address dst, std::uint8_t number = 0, MacAddress mac = {}) {
    auto batch = ends.near.tx().claim(8);
    batch[0].length = 60;
    auto left = batch[0].bytes();
    left = left.subspan(EthernetHeader{.dst = mac}.emit(left));
    left = left.subspan(Ipv4Header{.src = us, .dst = dst, .payload_length = 26}.emit(left));
    left = left.subspan(UdpHeader{.src_port = number, .dst_port = 9, .payload_length = 18}.emit(left));
    fill_frame(batch[0].bytes());
    TxPackets packets(batch, 1);
    pipeline.outgate(packets, now);
    packets.commit();
    ends.near.tx().flush();
  }

  void peer_says(const ArpMessage& message, VlanTag tag = {}) {
    Bytes frame(ArpMessage::frame_size);
    message.emit(frame, tag);
    send(ends.far, frame);
    take_in(ends.near, pipeline, now);
  }

  // The frames that reached the peer: "ARP who-has X", "ARP X is-at M", "M N" with a UDP packet's destination and port.
  std::vector<std::string> seen() {
    std::vector<std::string> all;
    for (const Bytes& frame : received(ends.far)) {
      const auto ethernet = EthernetView::parse(frame);
      if (const auto packet = ArpView::parse(ethernet->payload()); packet && ethernet->type() == EtherType::arp)
        all.push_back(packet->operation() == ArpOperation::request
                          ? "who-has " + to_string(packet->target_ip())
                          : to_string(packet->sender_ip()) + " is-at " + to_string(packet->sender_mac()));
      else
        all.push_back(to_string(ethernet->dst()) + " " + std::to_string(load16(ethernet->payload().data() + 20)));
    }
    return all;
  }

  std::uint64_t dropped(DropReason reason) {
    const auto stats = ends.near.stats();
    return stats.rx.dropped[static_cast<std::size_t>(reason)] + stats.tx.dropped[static_cast<std::size_t>(reason)];
  }

  Ends ends = open_ends();
  Pipeline pipeline{&ends.near.tx()};
  ArpPlugin* arp = nullptr;
  std::chrono::nanoseconds now = 1000s;
};

TEST_F(ArpPluginTest, AnswersARequestForOurAddressAndLearnsTheAsker) {
  start();
  peer_says(arp_request(mac_peer, peer, us));
  EXPECT_THAT(seen(), ElementsAre("10.0.0.1 is-at 02:00:00:00:00:01"));
  EXPECT_EQ(pipeline.stats()[0].in.taken, 1U);
  send_out(peer, 7);
  EXPECT_THAT(seen(), ElementsAre("02:00:00:00:00:02 7"));
}

TEST_F(ArpPluginTest, PacketsAboutOthersPassAndBadOnesAreDropped) {
  start();
  peer_says(arp_request(mac_peer, peer, {10, 0, 0, 77}));
  EXPECT_EQ(pipeline.stats()[0].in.passed, 1U);
  peer_says(arp_request(MacAddress::broadcast(), peer, us));
  EXPECT_EQ(dropped(DropReason::malformed), 1U);
  Bytes frame(60);
  EthernetHeader{.dst = mac_us, .src = mac_peer, .type = EtherType::arp}.emit(frame);
  send(ends.far, frame);
  take_in(ends.near, pipeline, now);
  EXPECT_EQ(dropped(DropReason::malformed), 2U);
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(ArpPluginTest, FramesWaitForTheirHopAndGoInOrder) {
  start();
  for (std::uint8_t n = 1; n <= 3; ++n) send_out(peer, n);
  EXPECT_THAT(seen(), ElementsAre("who-has 10.0.0.2"));
  EXPECT_EQ(pipeline.stats()[0].kept, 3U);
  peer_says({.packet = {.operation = ArpOperation::reply,
                        .sender_mac = mac_peer,
                        .sender_ip = peer,
                        .target_mac = mac_us,
                        .target_ip = us},
             .dst = mac_us});
  EXPECT_THAT(seen(), ElementsAre("02:00:00:00:00:02 1", "02:00:00:00:00:02 2", "02:00:00:00:00:02 3"));
  const auto stats = pipeline.stats()[0];
  EXPECT_EQ(stats.kept, stats.released);
  expect_balanced(ends.near);
}

TEST_F(ArpPluginTest, ADeadHopIsAskedOnceASecondAndItsFramesAreGivenUp) {
  start();
  send_out(peer, 1);
  EXPECT_THAT(seen(), ElementsAre("who-has 10.0.0.2"));
  std::vector<std::string> all;
  for (int i = 0; i < 40; ++i) {
    pass(100ms);
    for (const auto& text : seen()) all.push_back(text);
  }
  EXPECT_THAT(all, ElementsAre("who-has 10.0.0.2", "who-has 10.0.0.2"));
  EXPECT_EQ(dropped(DropReason::unresolved), 1U);
  EXPECT_EQ(pipeline.stats()[0].discarded, 1U);
  expect_balanced(ends.near);
}

TEST_F(ArpPluginTest, OneDeadHopDoesNotDelayAnother) {
  start();
  send_out({10, 0, 0, 99}, 1);
  peer_says(arp_request(mac_peer, peer, us));
  seen();
  send_out(peer, 2);
  EXPECT_THAT(seen(), ElementsAre("02:00:00:00:00:02 2"));
}

TEST_F(ArpPluginTest, WhatIsOffTheSubnetGoesThroughTheGateway) {
  start({.gateway = gateway});
  send_out({8, 8, 8, 8}, 1);
  EXPECT_THAT(seen(), ElementsAre("who-has 10.0.0.254"));
}

TEST_F(ArpPluginTest, TheProgramMayChooseTheHop) {
  start({.next_hop = [](Ipv4Address dst, std::uint16_t) -> std::optional<Ipv4Address> {
    if (dst == Ipv4Address(8, 8, 8, 8)) return Ipv4Address(10, 0, 0, 11);
    if (dst == Ipv4Address(4, 4, 4, 4)) return Ipv4Address(10, 0, 0, 12);
    return std::nullopt;
  }});
  ASSERT_TRUE(arp->table().neighbours().add({{10, 0, 0, 11}}, {2, 0, 0, 0, 0, 11}, now));
  ASSERT_TRUE(arp->table().neighbours().add({{10, 0, 0, 12}}, {2, 0, 0, 0, 0, 12}, now));
  send_out({8, 8, 8, 8}, 1);
  send_out({4, 4, 4, 4}, 2);
  send_out({1, 1, 1, 1}, 3);
  EXPECT_THAT(seen(), ElementsAre("02:00:00:00:00:0b 1", "02:00:00:00:00:0c 2"));
  EXPECT_EQ(dropped(DropReason::no_route), 1U);
}

TEST_F(ArpPluginTest, GroupsAndBroadcastsNeedNoAsking) {
  start();
  send_out({224, 129, 2, 3}, 1);
  send_out(Ipv4Address::broadcast(), 2);
  send_out({10, 0, 0, 255}, 3);
  send_out(peer, 4, MacAddress(2, 9, 9, 9, 9, 9));  // complete already
  EXPECT_THAT(seen(),
              ElementsAre("01:00:5e:01:02:03 1", "ff:ff:ff:ff:ff:ff 2", "ff:ff:ff:ff:ff:ff 3", "02:09:09:09:09:09 4"));
}

TEST_F(ArpPluginTest, VlansAreLinksOfTheirOwn) {
  start({.locals = {{.vlan = 0, .prefix = {us, 24}, .mac = mac_us},
                    {.vlan = 7, .prefix = {us, 24}, .mac = MacAddress(2, 0, 0, 0, 7, 1)}}});
  ArpMessage request = arp_request(mac_peer, peer, us, 7);
  peer_says(request, VlanTag::make(0, 5));
  const auto frames = received(ends.far);
  ASSERT_EQ(frames.size(), 1U);
  const auto ethernet = EthernetView::parse(frames[0]);
  EXPECT_EQ(ethernet->tag(0)->id(), 7);
  EXPECT_EQ(ArpView::parse(ethernet->payload())->sender_mac(), MacAddress(2, 0, 0, 0, 7, 1));
  EXPECT_TRUE(arp->table().neighbours().lookup({peer, 7}, now).usable());
  EXPECT_FALSE(arp->table().neighbours().lookup({peer, 0}, now).usable());
}

TEST_F(ArpPluginTest, AnAddressThatIsProbedForIsNotAnsweredForYet) {
  start({.probe = true});
  auto fresh = ArpPlugin::create({.locals = {{.prefix = {us, 24}, .mac = mac_us}}, .probe = true});
  ASSERT_TRUE(fresh);
  auto near = *efio::Port::open("pipe:probing/a");
  auto far = *efio::Port::open("pipe:probing/b");
  Pipeline probing(&near.tx());
  probing.add(std::shared_ptr<Plugin>(std::move(*fresh)));
  probing.tick(now);
  Bytes frame(ArpMessage::frame_size);
  arp_request(mac_peer, peer, us).emit(frame);
  send(far, frame);
  take_in(near, probing, now);
  for (const Bytes& answer : received(far))
    EXPECT_TRUE(ArpView::parse(EthernetView::parse(answer)->payload())->is_probe());
}

TEST(ArpPlugin, ByText) {
  EXPECT_TRUE(make_plugin("arp:10.0.0.2/24?mac=02:00:00:00:00:01&gateway=10.0.0.254&vlan=7&probe=on"));
  const std::pair<const char*, const char*> bad[] = {{"arp:10.0.0", "no address"},
                                                     {"arp:10.0.0.2/24", "mac"},
                                                     {"arp:10.0.0.2/24?mac=ff:ff:ff:ff:ff:ff", "no station"},
                                                     {"arp:10.0.0.2/24?mac=02:00:00:00:00:01&gateway=x", "gateway"},
                                                     {"arp:10.0.0.2/24?mac=02:00:00:00:00:01&vlan=4095", "vlan"}};
  for (const auto& [text, because] : bad) {
    const auto made = make_plugin(text);
    ASSERT_FALSE(made) << text;
    EXPECT_THAT(made.error().message(), HasSubstr(because));
  }
}

}  // namespace
