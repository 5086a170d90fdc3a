#include "efnet/tables/arp_table.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

using namespace efnet;
using namespace std::chrono_literals;

namespace {

const MacAddress our_mac{2, 0, 0, 0, 0, 1};
const Ipv4Address our_ip{10, 0, 0, 1};

MacAddress mac(std::uint64_t number) { return MacAddress::from_number(0x0200'0000'0100 + number); }
Ipv4Address ip(std::uint32_t number) { return Ipv4Address(10, 0, 0, 0).advanced(number); }

// An ArpTable, the time, and what it sent.
class Host {
 public:
  explicit Host(NeighbourOptions options = {}, ArpConflictOptions conflicts = {}, bool probe = false,
                std::uint8_t prefix = 8)
      : table(make(std::move(options), conflicts)) {
    EXPECT_TRUE(table.add_local({0, {our_ip, prefix}, our_mac}, probe, now));
    if (!probe) {
      run(5s);  // over with the announcements
      sent.clear();
    }
  }

  static ArpTable make(NeighbourOptions options, ArpConflictOptions conflicts) {
    options.seed = HashSeed::from(5);
    auto made = ArpTable::create(std::move(options), conflicts);
    EXPECT_TRUE(made) << made.error().message();
    return std::move(*made);
  }

  struct Sent {
    Time at;
    ArpMessage message;
  };

  void poll() {
    std::array<ArpMessage, 8> out;
    for (std::size_t count = out.size(); count == out.size();) {
      count = table.poll(now, out);
      for (std::size_t i = 0; i < count; ++i) sent.push_back({now, out[i]});
    }
  }
  void run(Time span, Time step = 100ms) {
    for (const Time end = now + span; now < end; now += step) poll();
  }

  ArpReceived receive(const ArpPacket& packet, std::uint16_t vlan = 0) {
    std::array<std::byte, 28> bytes;
    packet.emit(bytes);
    return table.receive(*ArpView::parse(bytes), vlan, now);
  }
  ArpReceived reply(Ipv4Address from, MacAddress from_mac, std::uint16_t vlan = 0) {
    return receive({ArpOperation::reply, from_mac, from, our_mac, our_ip}, vlan);
  }
  ArpReceived request(Ipv4Address from, MacAddress from_mac, Ipv4Address target = our_ip, std::uint16_t vlan = 0) {
    return receive({ArpOperation::request, from_mac, from, {}, target}, vlan);
  }
  Neighbour lookup(Ipv4Address address, std::uint16_t vlan = 0) {
    return table.neighbours().lookup({address, vlan}, now);
  }
  NeighbourState peek(Ipv4Address address) {
    const auto found = table.neighbours().find({address, 0}, now);
    return found ? found->neighbour.state : NeighbourState::none;
  }
  ArpTable::Resolution resolve(Ipv4Address address, efio::Frame frame = {}) {
    Neighbour neighbour;
    return table.neighbours().resolve({address, 0}, frame, now, neighbour);
  }
  std::vector<ArpTable::Released> released() {
    std::vector<ArpTable::Released> all(64);
    all.resize(table.neighbours().release(all));
    return all;
  }

  Time now = 1000s;
  ArpTable table;
  std::vector<Sent> sent;
};

std::shared_ptr<efio::Pool> pool() {
  static auto made = *efio::Pool::create({.frame_size = 256, .headroom = 64, .frames = 4096, .spares = 4096});
  return made;
}
efio::Frame frame(std::uint32_t number) {
  efio::Frame made = pool()->acquire();
  EXPECT_TRUE(made);
  made.slot().length = number;
  return made;
}

TEST(ArpMessages, AreBuiltAsTheRfcsSay) {
  const ArpMessage request = arp_request(our_mac, our_ip, ip(2));
  EXPECT_EQ(request.dst, MacAddress::broadcast());
  EXPECT_EQ(request.packet.operation, ArpOperation::request);
  EXPECT_TRUE(request.packet.target_mac.is_zero());
  EXPECT_EQ(arp_request(our_mac, our_ip, ip(2), 0, mac(2)).dst, mac(2));

  std::array<std::byte, 28> bytes;
  ArpPacket{ArpOperation::request, mac(2), ip(2), {}, our_ip}.emit(bytes);
  const ArpMessage reply = arp_reply(*ArpView::parse(bytes), our_mac, 7);
  EXPECT_EQ(reply.packet.operation, ArpOperation::reply);
  EXPECT_EQ(reply.packet.sender_ip, our_ip);
  EXPECT_EQ(reply.packet.sender_mac, our_mac);
  EXPECT_EQ(reply.packet.target_ip, ip(2));
  EXPECT_EQ(reply.packet.target_mac, mac(2));
  EXPECT_EQ(reply.dst, mac(2));

  EXPECT_TRUE(arp_probe(our_mac, our_ip).packet.sender_ip.is_unspecified());
  EXPECT_EQ(arp_announcement(our_mac, our_ip).packet.sender_ip, our_ip);
  EXPECT_EQ(arp_announcement(our_mac, our_ip).packet.target_ip, our_ip);

  std::array<std::byte, 64> frame;
  EXPECT_EQ(reply.emit(frame, VlanTag::make(0, 5)), 60u);
  const auto ethernet = EthernetView::parse(std::span(frame).first(60));
  ASSERT_EQ(ethernet->tag_count(), 1u);
  EXPECT_EQ(ethernet->tag(0)->id(), 7);
  EXPECT_EQ(ethernet->tag(0)->priority(), 5);
  EXPECT_EQ(ethernet->src(), our_mac);
  EXPECT_TRUE(ArpView::parse(ethernet->payload()));
  EXPECT_EQ(reply.emit(std::span(frame).first(59)), 0u);
}

// A1
TEST(ArpTable, UpdatesAKnownSenderBeforeTheOpcodeIsLookedAt) {
  Host host;
  host.request(ip(2), mac(2));
  EXPECT_EQ(host.lookup(ip(2)).mac, mac(2));
  EXPECT_EQ(host.request(ip(2), mac(3), ip(9)).event, ArpEvent::changed);  // a request for somebody else
  EXPECT_EQ(host.lookup(ip(2)).mac, mac(3));
  EXPECT_EQ(host.receive({ArpOperation{77}, mac(4), ip(2), {}, ip(9)}).event, ArpEvent::changed);  // no opcode at all
  EXPECT_EQ(host.lookup(ip(2)).mac, mac(4));
}

// A2
TEST(ArpTable, CreatesAnEntryOnlyWhenItIsTheTarget) {
  Host host;
  EXPECT_EQ(host.request(ip(2), mac(2), ip(9)).event, ArpEvent::ignored);
  EXPECT_EQ(host.table.neighbours().size(), 0u);
  EXPECT_EQ(host.reply(ip(2), mac(2)).event, ArpEvent::ignored);  // nobody asked
  EXPECT_EQ(host.table.neighbours().size(), 0u);
  const ArpReceived received = host.request(ip(2), mac(2));
  EXPECT_EQ(received.event, ArpEvent::learned);
  ASSERT_TRUE(received.reply);
  EXPECT_EQ(received.reply->dst, mac(2));
  EXPECT_EQ(received.reply->packet.sender_ip, our_ip);
  EXPECT_EQ(received.reply->packet.target_ip, ip(2));
}

// A4
TEST(ArpTable, AsksOncePerSecondAndThenGivesUp) {
  Host host({.tries = 3});
  for (std::uint32_t i = 0; i < 5; ++i) EXPECT_EQ(host.resolve(ip(2), frame(i)), ArpTable::Resolution::queued);
  host.run(10s, 10ms);
  ASSERT_EQ(host.sent.size(), 3u);
  for (std::size_t i = 1; i < host.sent.size(); ++i) EXPECT_GE(host.sent[i].at - host.sent[i - 1].at, 1s);
  EXPECT_EQ(host.peek(ip(2)), NeighbourState::failed);
  const auto gone = host.released();
  ASSERT_EQ(gone.size(), 5u);
  EXPECT_EQ(gone[0].reason, ReleaseReason::replaced);  // three may wait, the latest
  EXPECT_EQ(gone[1].reason, ReleaseReason::replaced);
  for (std::size_t i = 2; i < 5; ++i) {
    EXPECT_EQ(gone[i].reason, ReleaseReason::unreachable);
    EXPECT_EQ(gone[i].frame.slot().length, i);
  }
}

TEST(ArpTable, NeverAsksMoreOftenThanOncePerSecondWhateverComes) {
  Host host({.tries = 2, .failed = 1500ms});
  std::map<Ipv4Address, Time> last;
  for (int i = 0; i < 3000; ++i) {
    host.resolve(ip(2 + static_cast<std::uint32_t>(i % 3)), frame(0));
    if (i % 700 == 0) host.table.neighbours().flush({.address = ip(3)});
    if (i % 500 == 0) host.reply(ip(4), mac(4));
    host.now += 7ms;
    host.poll();
    host.released();
  }
  for (const auto& [at, message] : host.sent) {
    const auto known = last.find(message.packet.target_ip);
    // Flushing forgets when it was asked: that is the owner's own doing.
    if (known != last.end() && message.packet.target_ip != ip(3)) {
      EXPECT_GE(at - known->second, 1s);
    }
    last[message.packet.target_ip] = at;
  }
  EXPECT_EQ(last.size(), 3u);
}

// Found by the fuzzer: longer without poll() than the timers' wheels turn half.
TEST(ArpTable, AsksOnceAfterALongTimeWithoutPoll) {
  Host host;
  host.resolve(ip(2));
  host.now += 4095ms;
  host.poll();
  host.poll();
  EXPECT_EQ(host.sent.size(), 1u);
}

TEST(ArpTable, ReleasesWhatWaitedWhenTheAnswerComes) {
  Host host;
  host.resolve(ip(2), frame(1));
  host.resolve(ip(2), frame(2));
  host.resolve(ip(3), frame(3));
  host.poll();
  EXPECT_EQ(host.sent.size(), 2u);
  EXPECT_EQ(host.reply(ip(2), mac(2)).event, ArpEvent::changed);
  const auto released = host.released();
  ASSERT_EQ(released.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(released[i].reason, ReleaseReason::resolved);
    EXPECT_EQ(released[i].mac, mac(2));
    EXPECT_EQ(released[i].frame.slot().length, i + 1);
  }
  EXPECT_EQ(host.lookup(ip(2)).state, NeighbourState::reachable);
  EXPECT_EQ(host.table.neighbours().waiting(), 1u);
}

TEST(ArpTable, ARequestFromWhomWeAskAnswersToo) {
  Host host;
  host.resolve(ip(2), frame(1));
  EXPECT_TRUE(host.request(ip(2), mac(2), ip(9)).event == ArpEvent::changed);
  EXPECT_EQ(host.released().size(), 1u);
}

TEST(ArpTable, FlushesStaleEntriesByTime) {
  Host host({.reachable = 30s, .stale = 60s});
  host.resolve(ip(2));
  host.reply(ip(2), mac(2));
  EXPECT_EQ(host.peek(ip(2)), NeighbourState::reachable);
  host.run(31s);
  EXPECT_EQ(host.peek(ip(2)), NeighbourState::stale);
  host.run(61s);
  EXPECT_EQ(host.peek(ip(2)), NeighbourState::none);
  EXPECT_EQ(host.sent.size(), 0u);
}

TEST(ArpTable, RefreshesWhatIsInUseByUnicastBeforeItExpires) {
  Host host({.reachable = 30s});
  host.resolve(ip(2));
  host.poll();
  host.reply(ip(2), mac(2));
  host.sent.clear();
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(host.lookup(ip(2)).usable());
    host.run(1s);
    for (const auto& sent : host.sent) {
      EXPECT_EQ(sent.message.dst, mac(2));
      host.reply(ip(2), mac(2));
    }
    host.sent.clear();
    EXPECT_TRUE(host.lookup(ip(2)).usable());
  }
  // It dies: asked by unicast, and gone within reachable + tries.
  for (int i = 0; i < 40; ++i) {
    host.lookup(ip(2));
    host.run(1s);
  }
  EXPECT_FALSE(host.lookup(ip(2)).usable());
  EXPECT_EQ(host.sent.size(), 3u);
}

TEST(ArpTable, UsingAStaleEntryVerifiesIt) {
  Host host;
  host.request(ip(2), mac(2));
  EXPECT_EQ(host.peek(ip(2)), NeighbourState::stale);
  const Neighbour used = host.lookup(ip(2));
  EXPECT_TRUE(used.usable());
  EXPECT_EQ(used.mac, mac(2));
  host.run(1s);
  ASSERT_EQ(host.sent.size(), 1u);
  EXPECT_EQ(host.sent[0].message.dst, mac(2));
}

// A5
TEST(ArpTable, ProbesNeverEnter) {
  Host host;
  EXPECT_EQ(host.request({}, mac(2), ip(9)).event, ArpEvent::probe);
  EXPECT_EQ(host.table.neighbours().size(), 0u);
}

TEST(ArpTable, AnnouncementsUpdateAndDoNotCreate) {
  Host host;
  EXPECT_EQ(host.request(ip(2), mac(2), ip(2)).event, ArpEvent::ignored);
  EXPECT_EQ(host.table.neighbours().size(), 0u);
  host.request(ip(2), mac(2));
  EXPECT_EQ(host.request(ip(2), mac(3), ip(2)).event, ArpEvent::changed);
  EXPECT_EQ(host.lookup(ip(2)).mac, mac(3));
}

TEST(ArpTable, ProbesThenAnnouncesWithTheTimesOfRfc5227) {
  for (int round = 0; round < 20; ++round) {
    Host host({}, {}, true);
    const Time start = host.now;
    EXPECT_FALSE(host.request(ip(2), mac(2)).reply) << "not ours yet";
    host.run(20s, 10ms);
    ASSERT_EQ(host.sent.size(), 5u);
    EXPECT_LE(host.sent[0].at - start, 1010ms);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(host.sent[i].message.packet.sender_ip.is_unspecified());
      EXPECT_EQ(host.sent[i].message.packet.target_ip, our_ip);
      if (i == 0) continue;
      EXPECT_GE(host.sent[i].at - host.sent[i - 1].at, 1s - 10ms);
      EXPECT_LE(host.sent[i].at - host.sent[i - 1].at, 2s + 20ms);
    }
    EXPECT_GE(host.sent[3].at - host.sent[2].at, 2s);
    EXPECT_GE(host.sent[4].at - host.sent[3].at, 2s);
    for (std::size_t i = 3; i < 5; ++i) EXPECT_EQ(host.sent[i].message.packet.sender_ip, our_ip);
    EXPECT_EQ(host.table.locals()[0].state, ArpLocalState::bound);
    EXPECT_TRUE(host.request(ip(2), mac(2)).reply);
  }
}

TEST(ArpTable, FindsConflictsWhileProbing) {
  const ArpPacket conflicting[] = {{ArpOperation::reply, mac(2), our_ip, our_mac, {}},
                                   {ArpOperation::request, mac(2), our_ip, {}, our_ip},
                                   {ArpOperation::request, mac(2), {}, {}, our_ip}};
  for (const ArpPacket& packet : conflicting) {
    Host host({}, {}, true);
    EXPECT_EQ(host.receive(packet).event, ArpEvent::conflict);
    EXPECT_EQ(host.table.locals()[0].state, ArpLocalState::conflict);
    EXPECT_EQ(host.table.locals()[0].rival, mac(2));
    EXPECT_FALSE(host.request(ip(3), mac(3)).reply);
    host.run(20s);  // nobody objects any more
    EXPECT_EQ(host.table.locals()[0].state, ArpLocalState::bound);
  }
}

TEST(ArpTable, LimitsTheRateOfTriesAfterTenConflicts) {
  Host host({}, {}, true);
  for (int i = 0; i < 10; ++i) {
    while (host.table.locals()[0].state != ArpLocalState::probing) host.run(100ms);
    EXPECT_EQ(host.reply(our_ip, mac(2)).event, ArpEvent::conflict);
  }
  host.sent.clear();
  const Time start = host.now;
  host.run(70s);
  ASSERT_FALSE(host.sent.empty());
  EXPECT_GE(host.sent[0].at - start, 60s);
}

TEST(ArpTable, DefendsOncePerInterval) {
  Host host;
  for (int i = 0; i < 25; ++i) {
    EXPECT_EQ(host.reply(our_ip, mac(2)).event, ArpEvent::conflict);
    host.run(1s);
  }
  ASSERT_EQ(host.sent.size(), 3u);
  for (std::size_t i = 0; i < host.sent.size(); ++i) {
    EXPECT_EQ(host.sent[i].message.packet.sender_ip, our_ip);
    EXPECT_EQ(host.sent[i].message.packet.target_ip, our_ip);
    if (i > 0) {
      EXPECT_GE(host.sent[i].at - host.sent[i - 1].at, 10s);
    }
  }
  EXPECT_TRUE(host.request(ip(3), mac(3)).reply) << "kept";

  Host weak({}, {.give_up = true});
  weak.reply(our_ip, mac(2));
  weak.run(1s);
  weak.reply(our_ip, mac(2));
  EXPECT_EQ(weak.table.locals()[0].state, ArpLocalState::conflict);
  EXPECT_FALSE(weak.request(ip(3), mac(3)).reply);
}

// A6
TEST(ArpTable, LearnsOnlyFromUnicastSendersOfTheSubnet) {
  Host host({}, {}, false, 24);
  const auto refused = [&](Ipv4Address from, MacAddress from_mac, ArpEvent event) {
    EXPECT_EQ(host.request(from, from_mac).event, event);
    EXPECT_EQ(host.table.neighbours().size(), 0u);
  };
  refused(ip(2), {1, 0, 0, 0, 0, 2}, ArpEvent::bad_sender);
  refused(ip(2), MacAddress::broadcast(), ArpEvent::bad_sender);
  refused(ip(2), {}, ArpEvent::bad_sender);
  refused({224, 0, 0, 5}, mac(2), ArpEvent::bad_sender);
  refused({127, 0, 0, 1}, mac(2), ArpEvent::bad_sender);
  refused(Ipv4Address::broadcast(), mac(2), ArpEvent::bad_sender);
  refused(ip(255), mac(2), ArpEvent::bad_sender);
  refused(ip(0), mac(2), ArpEvent::bad_sender);
  refused({10, 0, 1, 2}, mac(2), ArpEvent::off_subnet);
  EXPECT_EQ(host.request(ip(2), our_mac).event, ArpEvent::own);
  EXPECT_EQ(host.table.neighbours().size(), 0u);
}

TEST(ArpTable, OneDeadNeighbourDoesNotDelayAnother) {
  Host host;
  for (std::uint32_t dead = 100; dead < 400; ++dead) host.resolve(ip(dead), frame(dead));
  host.run(500ms);
  host.resolve(ip(2), frame(2));
  const Time asked = host.now;
  host.poll();
  ASSERT_EQ(host.sent.back().message.packet.target_ip, ip(2));
  EXPECT_EQ(host.sent.back().at, asked);
  host.reply(ip(2), mac(2));
  const auto released = host.released();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].frame.slot().length, 2u);
}

TEST(ArpTable, AFloodEvictsNothingStaticOrInUse) {
  Host host({.capacity = 1024, .reachable = 30s});
  for (std::uint32_t i = 2; i < 102; ++i) ASSERT_TRUE(host.table.neighbours().add({ip(i), 0}, mac(i), host.now));
  for (std::uint32_t i = 102; i < 302; ++i) {
    host.resolve(ip(i));
    host.reply(ip(i), mac(i));
  }
  for (std::uint32_t flood = 0; flood < 65'536; ++flood) {
    host.request(ip(0x10000 + flood), mac(flood));                                  // spoofed askers
    host.resolve(ip(0x20000 + flood), flood % 64 == 0 ? frame(0) : efio::Frame());  // and a scan from behind us
    if (flood % 1024 != 0) continue;
    host.now += 300ms;
    host.poll();
    host.released();
    for (std::uint32_t i = 2; i < 302; ++i) {
      ASSERT_TRUE(host.lookup(ip(i)).usable()) << i << " after " << flood;
      if (host.peek(ip(i)) == NeighbourState::probe) host.reply(ip(i), mac(i));
    }
  }
  EXPECT_EQ(host.table.neighbours().size(), 1024u);
}

TEST(ArpTable, StaticEntriesStayAsTheyAre) {
  Host host;
  host.table.neighbours().add({ip(2), 0}, mac(2), host.now);
  EXPECT_EQ(host.request(ip(2), mac(3)).event, ArpEvent::fixed);
  EXPECT_EQ(host.request(ip(2), mac(2)).event, ArpEvent::known);
  host.run(1000s, 1s);
  EXPECT_EQ(host.lookup(ip(2)).mac, mac(2));
  EXPECT_TRUE(host.sent.empty());
}

TEST(ArpTable, FlushesByAddressVlanAndKind) {
  Host host;
  auto& table = host.table.neighbours();
  const auto fill = [&] {
    table.flush();
    for (std::uint16_t vlan : {0, 5})
      for (std::uint32_t i = 2; i < 6; ++i) table.add({ip(i), vlan}, mac(i), host.now);
    for (std::uint32_t i = 6; i < 9; ++i) host.request(ip(i), mac(i));
  };
  fill();
  EXPECT_EQ(table.flush({.learned_only = true}), 3u);
  fill();
  EXPECT_EQ(table.flush({.vlan = 5}), 4u);
  EXPECT_EQ(table.flush({.address = ip(2)}), 1u);
  fill();
  EXPECT_EQ(table.flush({.address = ip(2)}), 2u);
  EXPECT_EQ(table.flush({.address = ip(3), .vlan = 5}), 1u);
  EXPECT_EQ(table.flush({.address = ip(3), .vlan = 5}), 0u);
  EXPECT_EQ(table.flush(), 8u);
  host.resolve(ip(40), frame(1));
  table.flush();
  const auto released = host.released();
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].reason, ReleaseReason::flushed);
}

TEST(ArpTable, VlansAreApart) {
  Host host;
  ASSERT_TRUE(host.table.add_local({7, {our_ip, 8}, mac(70)}, false, host.now));
  EXPECT_FALSE(host.request(ip(2), mac(2), our_ip, 8).reply);
  const ArpReceived received = host.request(ip(2), mac(2), our_ip, 7);
  ASSERT_TRUE(received.reply);
  EXPECT_EQ(received.reply->packet.sender_mac, mac(70));
  EXPECT_EQ(received.reply->vlan, 7);
  EXPECT_TRUE(host.lookup(ip(2), 7).usable());
  EXPECT_FALSE(host.lookup(ip(2), 0).usable());
}

TEST(ArpTable, AnswersForProxiedAddresses) {
  Host host;
  host.table.add_proxy(0, {ip(1000), ip(1999)}, mac(99));
  const ArpReceived received = host.request(ip(2), mac(2), ip(1500));
  ASSERT_TRUE(received.reply);
  EXPECT_EQ(received.reply->packet.sender_mac, mac(99));
  EXPECT_EQ(received.reply->packet.sender_ip, ip(1500));
  EXPECT_FALSE(host.request(ip(2), mac(2), ip(2000)).reply);
  EXPECT_FALSE(host.request(ip(1500), mac(3), ip(1500)).reply) << "an announcement asks for nothing";
}

TEST(ArpTable, SaysWhenItIsFull) {
  Host host({.capacity = 4});
  for (std::uint32_t i = 2; i < 6; ++i) ASSERT_TRUE(host.table.neighbours().add({ip(i), 0}, mac(i), host.now));
  EXPECT_FALSE(host.table.neighbours().add({ip(6), 0}, mac(6), host.now));
  EXPECT_EQ(host.request(ip(7), mac(7)).event, ArpEvent::full);
  efio::Frame kept = frame(9);
  Neighbour neighbour;
  EXPECT_EQ(host.table.neighbours().resolve({ip(7), 0}, kept, host.now, neighbour), ArpTable::Resolution::refused);
  EXPECT_TRUE(kept) << "the caller's still";
}

TEST(ArpTable, RefusesSetUpThatCannotBe) {
  EXPECT_FALSE(ArpTable::create({.capacity = 0}));
  EXPECT_FALSE(ArpTable::create({.reachable = 0s}));
  EXPECT_FALSE(ArpTable::create({.tries = 0}));
  EXPECT_FALSE(ArpTable::create({.waiting_each = 0}));
  Host host;
  EXPECT_FALSE(host.table.add_local({0, {our_ip, 24}, our_mac}, false, host.now)) << "there already";
  EXPECT_FALSE(host.table.add_local({0, {{224, 0, 0, 1}, 24}, our_mac}, false, host.now));
  EXPECT_FALSE(host.table.add_local({0, {ip(9), 24}, {1, 0, 0, 0, 0, 0}}, false, host.now));
}

TEST(ArpTable, HoldsAHundredThousand) {
  Host host({.capacity = 100'000});
  for (std::uint32_t i = 2; i < 100'002; ++i) ASSERT_TRUE(host.table.neighbours().add({ip(i), 0}, mac(i), host.now));
  std::vector<ArpTable::Key> keys;
  for (std::uint32_t i = 2; i < 100'002; ++i) keys.push_back({ip(i), 0});
  std::vector<Neighbour> found(keys.size());
  host.table.neighbours().lookup(keys, host.now, found);
  for (std::uint32_t i = 0; i < found.size(); ++i) ASSERT_EQ(found[i].mac, mac(i + 2));
}

}  // namespace
