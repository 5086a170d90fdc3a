#include "efnet/tables/ndp_table.h"

#include <gtest/gtest.h>

#include "efnet/wire/checksum.h"
#include "efnet/wire/icmp.h"

using namespace efnet;
using namespace std::chrono_literals;

namespace {

const MacAddress our_mac{2, 0, 0, 0, 0, 1};
const Ipv6Address our_ip = *Ipv6Address::parse("2001:db8::1");

MacAddress mac(std::uint64_t number) { return MacAddress::from_number(0x0200'0000'0100 + number); }
Ipv6Address ip(std::uint64_t number) { return Ipv6Address::from_numbers(0x2001'0db8'0000'0000, number); }

class Host {
 public:
  explicit Host(NeighbourOptions neighbours = {}, bool probe = false) : table(make(std::move(neighbours))) {
    EXPECT_TRUE(table.add_local({0, {our_ip, 64}, our_mac}, probe, now));
    if (probe) return;
    poll();
    EXPECT_EQ(sent.size(), 1u) << "one announcement";
    sent.clear();
  }
  static NdpTable make(NeighbourOptions options) {
    options.seed = HashSeed::from(5);
    return std::move(*NdpTable::create(std::move(options)));
  }
  void poll() {
    std::array<NdpMessage, 8> out;
    for (std::size_t count = out.size(); count == out.size();) {
      count = table.poll(now, out);
      sent.insert(sent.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(count));
    }
  }
  void run(Time span) {
    for (const Time end = now + span; now < end; now += 100ms) poll();
  }
  template <class Change>
  NdpReceived receive(const NdpMessage& message, Change change) {
    std::array<std::byte, NdpMessage::max_frame> bytes;
    const std::size_t size = message.emit(bytes);
    const auto packet = Ipv6Mut::parse(std::span(bytes).first(size).subspan(14));
    change(*packet);
    return table.receive(*packet, message.src_mac, message.vlan, now);
  }
  NdpReceived receive(const NdpMessage& message) {
    return receive(message, [](Ipv6Mut) {});
  }
  NdpReceived solicit(std::uint64_t from, std::uint64_t target) {
    return receive(neighbor_solicitation(mac(from), ip(from), ip(target)));
  }
  NdpReceived advertise(std::uint64_t target, MacAddress target_mac, bool solicited, bool overriding,
                        bool option = true) {
    return receive({.advertisement = true,
                    .src_mac = target_mac,
                    .dst_mac = our_mac,
                    .src = ip(target),
                    .dst = our_ip,
                    .target = ip(target),
                    .link_option = option,
                    .solicited = solicited,
                    .override_flag = overriding});
  }
  Neighbour peek(std::uint64_t address) {
    const auto found = table.neighbours().find({ip(address), 0}, now);
    return found ? found->neighbour : Neighbour{};
  }
  void resolve(std::uint64_t address) {
    efio::Frame none;
    Neighbour neighbour;
    EXPECT_EQ(table.neighbours().resolve({ip(address), 0}, none, now, neighbour), NdpTable::Resolution::queued);
  }

  Time now = 1000s;
  NdpTable table;
  std::vector<NdpMessage> sent;
};

TEST(NdpMessages, AreWellFormed) {
  EXPECT_EQ(to_string(solicited_node(*Ipv6Address::parse("2001:db8::1234:5678"))), "ff02::1:ff34:5678");
  EXPECT_EQ(to_string(group_mac(*Ipv6Address::parse("ff02::1:ff34:5678"))), "33:33:ff:34:56:78");
  for (const NdpMessage& message : {neighbor_solicitation(our_mac, our_ip, ip(2), 7), duplicate_probe(our_mac, our_ip),
                                    neighbor_announcement(our_mac, our_ip, true)}) {
    std::array<std::byte, NdpMessage::max_frame> bytes;
    const std::size_t size = message.emit(bytes);
    const auto ethernet = EthernetView::parse(std::span(bytes).first(size));
    ASSERT_TRUE(ethernet);
    EXPECT_EQ(ethernet->tag_count(), message.vlan != 0 ? 1u : 0u);
    const auto packet = Ipv6View::parse(ethernet->payload());
    ASSERT_TRUE(packet);
    EXPECT_EQ(packet->hop_limit(), 255);
    EXPECT_EQ(verify_transport(*packet), ChecksumState::right);
    EXPECT_EQ(message.emit(std::span(bytes).first(size - 1)), 0u);
  }
}

TEST(NdpTable, AnswersAndLearnsFromWhoAsksForUs) {
  Host host;
  const NdpReceived received = host.solicit(2, 1);
  EXPECT_EQ(received.event, NdpEvent::learned);
  ASSERT_TRUE(received.reply);
  EXPECT_TRUE(received.reply->solicited && received.reply->override_flag && !received.reply->router);
  EXPECT_EQ(received.reply->dst, ip(2));
  EXPECT_EQ(received.reply->dst_mac, mac(2));
  EXPECT_EQ(host.peek(2).state, NeighbourState::stale);
  EXPECT_EQ(host.solicit(3, 9).event, NdpEvent::ignored);
  EXPECT_EQ(host.peek(3).state, NeighbourState::none);
}

TEST(NdpTable, ChecksWhatRfc4861Demands) {
  Host host;
  const NdpMessage good = neighbor_solicitation(mac(2), ip(2), our_ip);
  const auto refused = [&](const NdpMessage& message, auto change) {
    const NdpReceived received = host.receive(message, [&](Ipv6Mut packet) {
      change(packet);
      fill_transport(packet);
    });
    EXPECT_EQ(received.event, NdpEvent::invalid);
    EXPECT_FALSE(received.reply);
    EXPECT_EQ(host.table.neighbours().size(), 0u);
  };
  refused(good, [](Ipv6Mut packet) { packet.set_hop_limit(254); });
  refused(good, [](Ipv6Mut packet) { store8(packet.payload().data() + 1, 1); });     // code
  refused(good, [](Ipv6Mut packet) { store8(packet.payload().data() + 8, 0xFF); });  // a group as target
  refused(good, [](Ipv6Mut packet) { store8(packet.payload().data() + 25, 0); });    // an option of length 0
  refused(good, [](Ipv6Mut packet) { store8(packet.payload().data() + 25, 2); });    // or too long
  refused(good, [](Ipv6Mut packet) { store8(packet.payload().data() + 26, 1); });    // a group's MAC
  refused(good, [](Ipv6Mut packet) { packet.set_src(Ipv6Address()); });              // from nobody, with an option
  NdpMessage probe = duplicate_probe(mac(2), our_ip);
  probe.dst = our_ip;  // not to the group
  refused(probe, [](Ipv6Mut) {});
  NdpMessage answer = neighbor_announcement(mac(2), ip(2), false);
  answer.solicited = true;  // to a group
  refused(answer, [](Ipv6Mut) {});
  EXPECT_EQ(host.receive(good, [](Ipv6Mut packet) { store8(packet.payload().data() + 30, 0x77); }).event,
            NdpEvent::invalid)
      << "a wrong checksum";
  EXPECT_EQ(host.receive(good).event, NdpEvent::learned);
}

TEST(NdpTable, AsksByGroupThenRefreshesByUnicast) {
  Host host({.reachable = 30s});
  host.resolve(2);
  host.poll();
  ASSERT_EQ(host.sent.size(), 1u);
  EXPECT_EQ(host.sent[0].dst, solicited_node(ip(2)));
  EXPECT_EQ(host.sent[0].dst_mac, group_mac(solicited_node(ip(2))));
  EXPECT_EQ(host.sent[0].src, our_ip);
  EXPECT_EQ(host.advertise(2, mac(2), true, true).event, NdpEvent::changed);
  EXPECT_EQ(host.peek(2).state, NeighbourState::reachable);
  host.sent.clear();
  host.now += 1s;
  host.table.neighbours().lookup({ip(2), 0}, host.now);
  host.run(31s);
  ASSERT_FALSE(host.sent.empty());
  EXPECT_EQ(host.sent[0].dst, ip(2));
  EXPECT_EQ(host.sent[0].dst_mac, mac(2));
}

// The table of RFC 4861, 7.2.5 and appendix C.
TEST(NdpTable, FollowsTheFlagsOfAdvertisements) {
  const auto known = [](Host& host) {
    host.resolve(2);
    host.advertise(2, mac(2), true, true);
    ASSERT_EQ(host.peek(2).state, NeighbourState::reachable);
  };
  {
    Host host;
    EXPECT_EQ(host.advertise(2, mac(2), true, true).event, NdpEvent::ignored) << "nobody asked";
    EXPECT_EQ(host.table.neighbours().size(), 0u);
    host.resolve(2);
    EXPECT_EQ(host.advertise(2, mac(2), true, true, false).event, NdpEvent::ignored) << "no MAC in it";
    EXPECT_EQ(host.advertise(2, mac(2), false, false).event, NdpEvent::changed);
    EXPECT_EQ(host.peek(2).state, NeighbourState::stale) << "unsolicited";
  }
  {
    Host host;
    known(host);
    EXPECT_EQ(host.advertise(2, mac(3), true, false).event, NdpEvent::ignored) << "no override";
    EXPECT_EQ(host.peek(2).mac, mac(2));
    EXPECT_EQ(host.peek(2).state, NeighbourState::stale);
  }
  {
    Host host;
    known(host);
    EXPECT_EQ(host.advertise(2, mac(3), false, true).event, NdpEvent::changed);
    EXPECT_EQ(host.peek(2).mac, mac(3));
    EXPECT_EQ(host.peek(2).state, NeighbourState::stale);
    EXPECT_EQ(host.advertise(2, mac(4), true, true).event, NdpEvent::changed);
    EXPECT_EQ(host.peek(2).mac, mac(4));
    EXPECT_EQ(host.peek(2).state, NeighbourState::reachable);
    EXPECT_EQ(host.advertise(2, mac(4), false, true, false).event, NdpEvent::known);
    EXPECT_EQ(host.peek(2).state, NeighbourState::reachable);
  }
  {
    Host host;
    host.table.neighbours().add({ip(2), 0}, mac(2), host.now);
    EXPECT_EQ(host.advertise(2, mac(3), true, true).event, NdpEvent::fixed);
    EXPECT_EQ(host.peek(2).mac, mac(2));
  }
}

TEST(NdpTable, MatchesAnswersByTheirTarget) {
  Host host;
  host.resolve(2);
  // A proxy answers for it, from its own address.
  EXPECT_EQ(host.receive({.advertisement = true,
                          .src_mac = mac(9),
                          .dst_mac = our_mac,
                          .src = ip(9),
                          .dst = our_ip,
                          .target = ip(2),
                          .solicited = true})
                .event,
            NdpEvent::changed);
  EXPECT_EQ(host.peek(2).mac, mac(9));
  EXPECT_EQ(host.peek(9).state, NeighbourState::none);
}

TEST(NdpTable, ProbesBeforeItUsesAnAddress) {
  Host host({}, true);
  EXPECT_FALSE(host.solicit(2, 1).reply);
  host.run(500ms);
  ASSERT_EQ(host.sent.size(), 1u);
  EXPECT_TRUE(host.sent[0].src.is_unspecified());
  EXPECT_FALSE(host.sent[0].link_option);
  host.run(2s);
  EXPECT_EQ(host.table.locals()[0].state, NdpLocalState::preferred);
  EXPECT_TRUE(host.solicit(2, 1).reply);

  Host taken({}, true);
  taken.poll();
  EXPECT_EQ(taken.receive(neighbor_announcement(mac(2), our_ip, false)).event, NdpEvent::duplicate);
  taken.run(10s);
  EXPECT_EQ(taken.table.locals()[0].state, NdpLocalState::duplicate);
  EXPECT_FALSE(taken.solicit(2, 1).reply);

  Host race({}, true);
  EXPECT_EQ(race.receive(duplicate_probe(mac(2), our_ip)).event, NdpEvent::duplicate);
  EXPECT_EQ(race.table.locals()[0].state, NdpLocalState::duplicate);
}

TEST(NdpTable, DefendsItsAddressAgainstAProbe) {
  Host host;
  const NdpReceived received = host.receive(duplicate_probe(mac(2), our_ip));
  EXPECT_EQ(received.event, NdpEvent::duplicate);
  ASSERT_TRUE(received.reply);
  EXPECT_EQ(to_string(received.reply->dst), "ff02::1");
  EXPECT_FALSE(received.reply->solicited);
  EXPECT_EQ(host.receive(duplicate_probe(our_mac, our_ip)).event, NdpEvent::own);
}

}  // namespace
