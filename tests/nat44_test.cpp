#include "efnet/nat44/nat44.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/support/nat44.h"

using namespace nat_test;
using testing::SizeIs;

namespace {

// ---- Mapping ----

class NatProtocols : public testing::TestWithParam<IpProtocol> {};
INSTANTIATE_TEST_SUITE_P(, NatProtocols, testing::Values(IpProtocol::udp, IpProtocol::tcp),
                         [](const auto& protocol) { return protocol.param == IpProtocol::udp ? "Udp" : "Tcp"; });

TEST_P(NatProtocols, MappingIsTheSameTowardsEverybody) {
  Nat nat;
  const End seen = nat.sent(GetParam(), {host, 5000}, {server, 53});
  EXPECT_EQ(seen.address, pool_address);
  EXPECT_EQ(nat.sent(GetParam(), {host, 5000}, {server, 54}), seen);
  EXPECT_EQ(nat.sent(GetParam(), {host, 5000}, {other_server, 53}), seen);
  EXPECT_NE(nat.sent(GetParam(), {host, 5001}, {server, 53}), seen);
  EXPECT_NE(nat.sent(GetParam(), {other_host, 5000}, {server, 53}), seen);
  EXPECT_EQ(nat->counters().mappings_made, 3U);
  EXPECT_EQ(nat->counters().sessions_made, 5U);
}

TEST_P(NatProtocols, AnswerComesBackToTheInsideEnd) {
  Nat nat;
  const End seen = nat.sent(GetParam(), {host, 5000}, {server, 53});
  EXPECT_EQ(nat.received(GetParam(), {server, 53}, seen, {.flags = tcp_flag::syn | tcp_flag::ack}),
            NatVerdict::translated);
  EXPECT_EQ(nat.last, (End{host, 5000}));
  nat.expect_sums();
}

// A SYN that is not let in waits for its answer; other packets are dropped at once.
NatVerdict refused(IpProtocol protocol, NatVerdict verdict) {
  return protocol == IpProtocol::tcp ? NatVerdict::syn_held : verdict;
}

TEST_P(NatProtocols, FilteringAsChosen) {
  const NatVerdict not_permitted = refused(GetParam(), NatVerdict::not_permitted);
  struct Case {
    NatFiltering filtering;
    NatVerdict from_other_port, from_stranger;
  };
  for (const Case& expected : {Case{NatFiltering::endpoint_independent, NatVerdict::translated, NatVerdict::translated},
                               Case{NatFiltering::address_dependent, NatVerdict::translated, not_permitted},
                               Case{NatFiltering::address_and_port_dependent, not_permitted, not_permitted}}) {
    auto with = options();
    with.filtering = expected.filtering;
    Nat nat(with);
    const End seen = nat.sent(GetParam(), {host, 5000}, {server, 53});
    EXPECT_EQ(nat.received(GetParam(), {server, 54}, seen), expected.from_other_port);
    EXPECT_EQ(nat.received(GetParam(), {other_server, 53}, seen), expected.from_stranger);
    EXPECT_EQ(nat.received(GetParam(), {server, 53}, {pool_address, std::uint16_t(seen.port ^ 1)}),
              refused(GetParam(), NatVerdict::no_mapping));
  }
}

TEST_P(NatProtocols, PermissionEndsWithTheLastSession) {
  auto with = options();
  with.filtering = NatFiltering::address_dependent;
  Nat nat(with);
  const End seen = nat.sent(GetParam(), {host, 5000}, {server, 53});
  nat.advance(200s);
  EXPECT_EQ(nat.sent(GetParam(), {host, 5000}, {other_server, 53}), seen);
  nat.advance(150s);
  EXPECT_EQ(nat.received(GetParam(), {server, 54}, seen), refused(GetParam(), NatVerdict::not_permitted));
  EXPECT_EQ(nat.received(GetParam(), {other_server, 54}, seen), NatVerdict::translated);
}

TEST_P(NatProtocols, HairpinShowsTheOutsideSource) {
  Nat nat;
  const End seen = nat.sent(GetParam(), {host, 5000}, {server, 53});
  Bytes frame = packet(GetParam(), {other_host, 6000}, seen);
  ASSERT_EQ(nat.outward(frame), NatVerdict::hairpinned);
  EXPECT_EQ(verify_frame(frame), ChecksumState::right);
  EXPECT_EQ(to_of(frame), (End{host, 5000}));
  const End other = from_of(frame);
  EXPECT_EQ(other.address, pool_address);
  EXPECT_EQ(ip_of(frame).ttl(), 63);
  Bytes answer = packet(GetParam(), {host, 5000}, other, {.flags = tcp_flag::syn | tcp_flag::ack});
  ASSERT_EQ(nat.outward(answer), NatVerdict::hairpinned);
  EXPECT_EQ(from_of(answer), seen);
  EXPECT_EQ(to_of(answer), (End{other_host, 6000}));
  EXPECT_EQ(verify_frame(answer), ChecksumState::right);
  nat.expect_sums();
}

TEST_P(NatProtocols, OutOfPortsIsToldAndHarmsNobody) {
  auto with = options();
  with.pool.ranges = {{Ipv4Range{pool_address, pool_address}, {2000, 2003}}};
  Nat nat(with);
  std::set<std::uint16_t> ports;
  for (std::uint16_t i = 0; i < 4; ++i) ports.insert(nat.sent(GetParam(), {host, i}, {server, 53}).port);
  EXPECT_THAT(ports, SizeIs(4));
  Bytes frame = packet(GetParam(), {host, 9}, {server, 53});
  const Bytes before = frame;
  EXPECT_EQ(nat.outward(frame), NatVerdict::ports_exhausted);
  const auto errors = nat.collect(NatSide::inside);
  ASSERT_THAT(errors, SizeIs(1));
  EXPECT_EQ(verify_frame(errors[0]), ChecksumState::right);
  EXPECT_EQ(ip_of(errors[0]).src(), inside_router);
  EXPECT_EQ(ip_of(errors[0]).dst(), host);
  const auto message = *IcmpView::parse(ip_of(errors[0]).payload());
  EXPECT_EQ(message.type(), IcmpType::destination_unreachable);
  EXPECT_EQ(message.code(), 13);
  EXPECT_EQ(Bytes(message.payload().begin(), message.payload().end()), Bytes(before.begin() + 14, before.end()));
  for (std::uint16_t i = 0; i < 4; ++i) EXPECT_EQ(ports.count(nat.sent(GetParam(), {host, i}, {server, 53}).port), 1U);
  nat.expect_sums();
}

TEST_P(NatProtocols, PortRestsBeforeItIsUsedAgain) {
  auto with = options();
  with.pool.ranges = {{Ipv4Range{pool_address, pool_address}, {2000, 2000}}};
  Nat nat(with);
  nat.sent(GetParam(), {host, 1}, {server, 53});
  nat.advance(GetParam() == IpProtocol::udp ? 301s : 242s);
  EXPECT_EQ(nat->counters().mappings_ended, 1U);
  Bytes frame = packet(GetParam(), {host, 2}, {server, 53});
  EXPECT_EQ(nat.outward(frame), NatVerdict::ports_exhausted);
  nat.advance(119s);
  frame = packet(GetParam(), {host, 2}, {server, 53});
  EXPECT_EQ(nat.outward(frame), NatVerdict::ports_exhausted);
  nat.advance(60s);
  EXPECT_EQ(nat.sent(GetParam(), {host, 2}, {server, 53}).port, 2000);
}

TEST_P(NatProtocols, SubscriberHasItsLimits) {
  auto with = options();
  with.sessions_each = 3;
  with.mappings_each = 2;
  Nat nat(with);
  nat.sent(GetParam(), {host, 1}, {server, 1});
  nat.sent(GetParam(), {host, 2}, {server, 1});
  Bytes frame = packet(GetParam(), {host, 3}, {server, 1});
  EXPECT_EQ(nat.outward(frame), NatVerdict::subscriber_limit);
  nat.sent(GetParam(), {host, 2}, {server, 2});
  frame = packet(GetParam(), {host, 2}, {server, 3});
  EXPECT_EQ(nat.outward(frame), NatVerdict::subscriber_limit);
  nat.sent(GetParam(), {other_host, 1}, {server, 1});
}

TEST_P(NatProtocols, ForwardLetsEverybodyIn) {
  auto with = options();
  with.filtering = NatFiltering::address_and_port_dependent;
  with.forwards = {{GetParam(), pool_address, 8080, host, 80}};
  Nat nat(with);
  EXPECT_EQ(nat.received(GetParam(), {server, 999}, {pool_address, 8080}), NatVerdict::translated);
  EXPECT_EQ(nat.last, (End{host, 80}));
  const Wish answer{.flags = tcp_flag::syn | tcp_flag::ack};
  EXPECT_EQ(nat.sent(GetParam(), {host, 80}, {server, 999}, answer), (End{pool_address, 8080}));
  nat.advance(10h);
  EXPECT_EQ(nat->counters().mappings_ended, 0U);
  EXPECT_EQ(nat.received(GetParam(), {server, 999}, {pool_address, 8080}), NatVerdict::translated);
}

TEST_P(NatProtocols, PairKeepsPortsBothWays) {
  const Ipv4Address own(198, 51, 100, 77);
  auto with = options();
  with.pairs = {{own, host}};
  Nat nat(with);
  EXPECT_EQ(nat.sent(GetParam(), {host, 123}, {server, 1}), (End{own, 123}));
  EXPECT_EQ(nat.received(GetParam(), {other_server, 5}, {own, 22}), NatVerdict::translated);
  EXPECT_EQ(nat.last, (End{host, 22}));
  EXPECT_EQ(nat.sent(GetParam(), {other_host, 123}, {server, 1}).address, pool_address);
}

TEST_P(NatProtocols, FullTableHarmsNobody) {
  auto with = options();
  with.sessions = 16;
  Nat nat(with);
  std::vector<End> seen;
  for (std::uint16_t i = 0; i < 16; ++i) seen.push_back(nat.sent(GetParam(), {host, i}, {server, 1}));
  Bytes frame = packet(GetParam(), {host, 16}, {server, 1});
  EXPECT_EQ(nat.outward(frame), NatVerdict::sessions_full);
  EXPECT_EQ(nat->pool().lent(GetParam()), 16U);
  for (std::uint16_t i = 0; i < 16; ++i) EXPECT_EQ(nat.sent(GetParam(), {host, i}, {server, 1}), seen[i]);
}

TEST(Nat, SubscriberKeepsItsOutsideAddress) {
  auto with = options();
  with.pool.ranges = {{*Ipv4Range::parse("198.51.100.1-198.51.100.4")}, {*Ipv4Range::parse("198.51.100.9")}};
  Nat nat(with);
  std::set<Ipv4Address> used;
  for (std::uint8_t i = 1; i < 60; ++i) {
    const Ipv4Address inside(10, 0, 1, i);
    const Ipv4Address address = nat.sent(udp_protocol, {inside, 1}, {server, 1}).address;
    EXPECT_EQ(nat.sent(udp_protocol, {inside, 2}, {server, 1}).address, address);
    EXPECT_EQ(nat.sent(tcp_protocol, {inside, 2}, {server, 1}).address, address);
    used.insert(address);
  }
  EXPECT_THAT(used, SizeIs(5));
}

TEST(Nat, ParityAndPortKeptWhereAsked) {
  auto with = options();
  with.preserve_parity = true;
  Nat nat(with);
  for (std::uint16_t port = 1; port < 200; ++port)
    EXPECT_EQ(nat.sent(udp_protocol, {host, port}, {server, 1}).port % 2, port % 2);
  with.preserve_port = true;
  Nat other(with);
  EXPECT_EQ(other.sent(udp_protocol, {host, 4444}, {server, 1}).port, 4444);
  EXPECT_NE(other.sent(udp_protocol, {other_host, 4444}, {server, 1}).port, 4444);
}

TEST(Nat, LogTellsMappingsOrBlocksWithoutDestinations) {
  std::vector<NatEvent> events;
  auto with = options();
  with.log = [&](const NatEvent& event) { events.push_back(event); };
  {
    Nat nat(with);
    const End seen = nat.sent(udp_protocol, {host, 5}, {server, 1});
    nat.sent(udp_protocol, {host, 5}, {server, 2});
    ASSERT_THAT(events, SizeIs(1));
    EXPECT_EQ(events[0].kind, NatEvent::Kind::mapped);
    EXPECT_EQ(events[0].inside, host);
    EXPECT_EQ(events[0].inside_port, 5);
    EXPECT_EQ(events[0].outside, seen.address);
    EXPECT_EQ(events[0].ports.first, seen.port);
    nat.advance(301s);
    ASSERT_THAT(events, SizeIs(2));
    EXPECT_EQ(events[1].kind, NatEvent::Kind::unmapped);
  }
  events.clear();
  with.pool.block_size = 64;
  Nat nat(with);
  std::uint16_t low = 0xFFFF, high = 0;
  for (std::uint16_t i = 0; i < 64; ++i) {
    const std::uint16_t port = nat.sent(udp_protocol, {host, i}, {server, 1}).port;
    low = std::min(low, port);
    high = std::max(high, port);
  }
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].kind, NatEvent::Kind::block_opened);
  EXPECT_EQ(events[0].ports.first, low);
  EXPECT_EQ(events[0].ports.last, high);
  nat.advance(301s);
  ASSERT_THAT(events, SizeIs(2));
  EXPECT_EQ(events[1].kind, NatEvent::Kind::block_closed);
}

// ---- Timeouts ----

TEST(Nat, UdpIsRefreshedFromInsideOnly) {
  Nat nat;
  const End seen = nat.sent(udp_protocol, {host, 5000}, {server, 53});
  nat.advance(299s);
  EXPECT_EQ(nat.sent(udp_protocol, {host, 5000}, {server, 53}), seen);
  nat.advance(299s);
  EXPECT_EQ(nat.received(udp_protocol, {server, 53}, seen), NatVerdict::translated);
  nat.advance(2s);
  EXPECT_EQ(nat.received(udp_protocol, {server, 53}, seen), NatVerdict::no_mapping);
}

End connected(Nat& nat) {
  const End seen = nat.sent(tcp_protocol, {host, 5000}, {server, 80});
  EXPECT_EQ(nat.received(tcp_protocol, {server, 80}, seen, {.flags = syn | ack}), NatVerdict::translated);
  nat.sent(tcp_protocol, {host, 5000}, {server, 80}, {.flags = ack});
  return seen;
}

TEST(Nat, TcpEstablishedLivesTwoHoursAndFourMinutes) {
  Nat nat;
  const End seen = connected(nat);
  nat.advance(7439s);
  EXPECT_EQ(nat.received(tcp_protocol, {server, 80}, seen, {.flags = ack}), NatVerdict::translated);
  nat.advance(7439s);
  EXPECT_EQ(nat.sent(tcp_protocol, {host, 5000}, {server, 80}, {.flags = ack}), seen);
  nat.advance(7460s);
  EXPECT_EQ(nat.received(tcp_protocol, {server, 80}, seen, {.flags = ack}), NatVerdict::no_mapping);
}

TEST(Nat, TcpOpeningLivesFourMinutes) {
  Nat nat;
  const End seen = nat.sent(tcp_protocol, {host, 5000}, {server, 80});
  nat.advance(239s);
  EXPECT_EQ(nat.received(tcp_protocol, {server, 80}, seen, {.flags = ack}), NatVerdict::translated);
  nat.advance(2s);
  EXPECT_EQ(nat.received(tcp_protocol, {server, 80}, seen, {.flags = syn | ack}), NatVerdict::no_mapping);
}

TEST(Nat, TcpStateStaysFourMinutesAfterReset) {
  Nat nat;
  const End seen = connected(nat);
  nat.advance(1000s);
  EXPECT_EQ(nat.received(tcp_protocol, {server, 80}, seen, {.flags = rst}), NatVerdict::translated);
  nat.advance(239s);
  EXPECT_EQ(nat.received(tcp_protocol, {server, 80}, seen, {.flags = rst}), NatVerdict::translated);
  nat.advance(2s);
  EXPECT_EQ(nat.received(tcp_protocol, {server, 80}, seen, {.flags = rst}), NatVerdict::no_mapping);
}

TEST(Nat, TcpClosedByBothEndsAfterFourMinutes) {
  Nat nat;
  const End seen = connected(nat);
  nat.sent(tcp_protocol, {host, 5000}, {server, 80}, {.flags = fin | ack});
  nat.advance(1000s);
  EXPECT_EQ(nat.received(tcp_protocol, {server, 80}, seen, {.flags = fin | ack}), NatVerdict::translated);
  nat.sent(tcp_protocol, {host, 5000}, {server, 80}, {.flags = ack});
  nat.advance(241s);
  EXPECT_EQ(nat.received(tcp_protocol, {server, 80}, seen, {.flags = ack}), NatVerdict::no_mapping);
}

TEST(Nat, TcpSimultaneousOpenIsAConnection) {
  auto with = options();
  with.filtering = NatFiltering::address_and_port_dependent;
  Nat nat(with);
  const End seen = nat.sent(tcp_protocol, {host, 5000}, {server, 80});
  EXPECT_EQ(nat.received(tcp_protocol, {server, 80}, seen, {.flags = syn}), NatVerdict::translated);
  nat.advance(7000s);
  EXPECT_EQ(nat.received(tcp_protocol, {server, 80}, seen, {.flags = ack}), NatVerdict::translated);
}

TEST(Nat, TcpBeginsWithSynOnly) {
  Nat nat;
  for (const int flags : {int{ack}, int{rst}, int{fin}, syn | ack, syn | fin, syn | rst, 0}) {
    Bytes frame = tcp({host, 5000}, {server, 80}, static_cast<std::uint8_t>(flags));
    EXPECT_EQ(nat.outward(frame), NatVerdict::no_session);
  }
  EXPECT_EQ(nat->counters().mappings_made, 0U);
}

TEST(Nat, UnsolicitedSynIsAnsweredAfterSixSeconds) {
  Nat nat;
  const Bytes original = tcp({server, 80}, {pool_address, 4000}, syn);
  for (int repeat = 0; repeat < 3; ++repeat) {
    Bytes frame = original;
    EXPECT_EQ(nat.inward(frame), NatVerdict::syn_held);
    nat.advance(1s);
  }
  nat.advance(2900ms);
  EXPECT_TRUE(nat.collect(NatSide::outside).empty());
  nat.advance(100ms);
  const auto answers = nat.collect(NatSide::outside);
  ASSERT_THAT(answers, SizeIs(1));
  EXPECT_EQ(verify_frame(answers[0]), ChecksumState::right);
  EXPECT_EQ(ip_of(answers[0]).dst(), server);
  const auto message = *IcmpView::parse(ip_of(answers[0]).payload());
  EXPECT_EQ(message.type(), IcmpType::destination_unreachable);
  EXPECT_EQ(message.code(), 3);
  EXPECT_EQ(Bytes(message.payload().begin(), message.payload().end()), Bytes(original.begin() + 14, original.end()));
  EXPECT_EQ(nat->counters().syns_answered, 1U);
}

TEST(Nat, UnsolicitedSynIsForgottenWhenTheInsideOpensTheConnection) {
  auto with = options();
  with.filtering = NatFiltering::address_and_port_dependent;
  Nat nat(with);
  const End seen = nat.sent(tcp_protocol, {host, 5000}, {other_server, 80});
  EXPECT_EQ(nat.received(tcp_protocol, {server, 80}, seen), NatVerdict::syn_held);
  EXPECT_EQ(nat.sent(tcp_protocol, {host, 5000}, {server, 80}), seen);
  EXPECT_EQ(nat.received(tcp_protocol, {server, 80}, seen), NatVerdict::translated);
  nat.advance(10s);
  EXPECT_TRUE(nat.collect(NatSide::outside).empty());
  EXPECT_EQ(nat->counters().syns_forgotten, 1U);
}

TEST(Nat, HeldSynsAreBounded) {
  Nat nat;
  for (std::uint16_t port = 1; port <= 1000; ++port) {
    const NatVerdict expected = port <= NatHeldSyns::places ? NatVerdict::syn_held : NatVerdict::no_mapping;
    ASSERT_EQ(nat.received(tcp_protocol, {server, port}, {pool_address, 4000}), expected);
  }
  nat.advance(6s);
  EXPECT_EQ(nat->counters().syns_answered, NatHeldSyns::places);
}

TEST(Nat, DrainingKeepsWhatThereIs) {
  Nat nat;
  const End seen = nat.sent(udp_protocol, {host, 1}, {server, 1});
  nat->drain(true);
  EXPECT_EQ(nat.sent(udp_protocol, {host, 1}, {server, 1}), seen);
  Bytes frame = udp({host, 2}, {server, 1});
  EXPECT_EQ(nat.outward(frame), NatVerdict::draining);
  nat->drain(false);
  nat.sent(udp_protocol, {host, 2}, {server, 1});
}

TEST(Nat, FlushEndsTheSessionsOfOneAddress) {
  Nat nat;
  nat.sent(udp_protocol, {host, 1}, {server, 1});
  nat.sent(udp_protocol, {host, 1}, {server, 2});
  const End kept = nat.sent(udp_protocol, {other_host, 1}, {server, 1});
  EXPECT_EQ(nat->flush(host, nat.now), 2U);
  EXPECT_EQ(nat->sessions().size(), 1U);
  EXPECT_EQ(nat->counters().mappings_ended, 1U);
  EXPECT_EQ(nat.received(udp_protocol, {server, 1}, kept), NatVerdict::translated);
}

// ---- In batches ----

// Many first packets in one batch, some of them the same: what becomes of them is what would become of each alone.
void hold_batches_against_singles(Nat44Options with, NatVerdict refusal) {
  with.bypass = {*Ipv4Prefix::parse("192.168.0.0/16")};
  Nat batches(with), singles(with);
  std::mt19937 random(3);
  const auto below = [&](unsigned n) { return static_cast<std::uint16_t>(random() % n); };
  std::set<NatVerdict> seen;
  for (int round = 0; round < 100; ++round) {
    std::vector<Bytes> frames;
    for (std::size_t i = 0; i < Nat44::batch; ++i) {
      const End from{Ipv4Address(10, 0, 0, static_cast<std::uint8_t>(below(9))), below(25)};
      End to{below(10) == 0 ? Ipv4Address(192, 168, 0, 1) : server, below(2)};
      const IpProtocol protocol = std::array{udp_protocol, tcp_protocol, IpProtocol::icmp}[below(3)];
      if (protocol == IpProtocol::icmp) to.port = from.port;
      frames.push_back(packet(protocol, from, to, {.ttl = std::uint8_t(below(20) == 0 ? 1 : 64)}));
      if (below(40) == 0) frames.back().back() ^= std::byte{1};
    }
    std::vector<std::span<std::byte>> spans;
    std::vector<Bytes> alone = frames;
    for (Bytes& frame : frames) spans.emplace_back(frame);
    std::array<NatVerdict, Nat44::batch> verdicts{};
    batches->outward(spans, batches.now, verdicts);
    for (std::size_t i = 0; i < frames.size(); ++i) {
      ASSERT_EQ(singles.outward(alone[i]), verdicts[i]) << round << ' ' << i;
      seen.insert(verdicts[i]);
      if (verdicts[i] != NatVerdict::translated) continue;
      ASSERT_EQ(verify_frame(frames[i]), verify_frame(alone[i]));
      const FlowKey4 key = parse_flow(frames[i]).key.key4();
      const auto mapping = batches->mappings().find_outside(key.protocol, key.src, key.src_port);
      ASSERT_TRUE(mapping);
    }
    ASSERT_EQ(batches->sessions().size(), singles->sessions().size());
    ASSERT_EQ(batches->counters().mappings_made - batches->counters().mappings_ended,
              singles->counters().mappings_made - singles->counters().mappings_ended);
    for (const auto protocol : {udp_protocol, tcp_protocol, IpProtocol::icmp})
      ASSERT_EQ(batches->pool().lent(protocol), singles->pool().lent(protocol));
    if (round % 30 == 29) {
      batches.advance(100s);
      singles.advance(100s);
    }
  }
  for (const NatVerdict verdict :
       {NatVerdict::translated, NatVerdict::bypassed, NatVerdict::icmp_checksum, NatVerdict::ttl_exceeded, refusal})
    EXPECT_TRUE(seen.contains(verdict)) << name(verdict);
}

TEST(Nat, BatchBeginsTheSessionsThatSinglePacketsWould) {
  auto with = options();
  with.mappings_each = 20;
  hold_batches_against_singles(with, NatVerdict::subscriber_limit);
  with = options();
  with.sessions = 300;
  hold_batches_against_singles(with, NatVerdict::sessions_full);
  with = options();
  with.pool.ranges = {{Ipv4Range{pool_address, pool_address}, {1024, 1063}}};
  hold_batches_against_singles(with, NatVerdict::ports_exhausted);
}

// ---- Against a plain model ----

TEST(Nat, NoTwoInsideEndsShareAnOutsideOne) {
  auto with = options();
  with.pool.ranges = {{*Ipv4Range::parse("198.51.100.1-198.51.100.2"), {1024, 1151}}};
  with.pool.hold_down = 0s;
  with.sessions = 4096;
  Nat nat(with);
  std::mt19937 random(5);
  const auto below = [&](unsigned n) { return static_cast<std::uint16_t>(random() % n); };
  struct Model {
    End seen;
    std::map<std::pair<std::uint32_t, std::uint16_t>, Time> sessions;  // by remote: the last packet from inside
  };
  std::map<std::pair<std::uint32_t, std::uint16_t>, Model> mappings;
  int made = 0, exhausted = 0, reached = 0;
  for (int step = 0; step < 60'000; ++step) {
    const End inside{Ipv4Address(10, 0, 0, static_cast<std::uint8_t>(below(20))), below(30)};
    const End remote{Ipv4Address(203, 0, 113, static_cast<std::uint8_t>(below(3))), below(3)};
    const auto key = std::pair(inside.address.number(), inside.port);
    const auto far = std::pair(remote.address.number(), remote.port);
    if (below(8) == 0) {
      nat.advance(std::chrono::seconds(below(20)));
      for (auto it = mappings.begin(); it != mappings.end();) {
        std::erase_if(it->second.sessions, [&](const auto& session) { return nat.now - session.second > 301s; });
        // Within a second of its end a session may be there or not: ask no more about it.
        it = it->second.sessions.empty() ? mappings.erase(it) : std::next(it);
      }
    }
    Bytes frame = udp(inside, remote);
    const NatVerdict verdict = nat.outward(frame);
    const auto known = mappings.find(key);
    if (verdict == NatVerdict::ports_exhausted) {
      ++exhausted;
      EXPECT_GE(mappings.size(), 200U);
      continue;
    }
    ASSERT_EQ(verdict, NatVerdict::translated);
    ASSERT_EQ(verify_frame(frame), ChecksumState::right);
    const bool surely_alive =
        known != mappings.end() && std::any_of(known->second.sessions.begin(), known->second.sessions.end(),
                                               [&](const auto& session) { return nat.now - session.second < 299s; });
    if (surely_alive) {
      ASSERT_EQ(from_of(frame), known->second.seen);
    }
    Model& model = mappings[key];
    if (!(model.seen == from_of(frame))) {
      ++made;
      model = {.seen = from_of(frame)};
    }
    model.sessions[far] = nat.now;
    for (const auto& [others, mapping] : mappings) {
      if (others == key || mapping.seen != model.seen) continue;
      for (const auto& session : mapping.sessions) ASSERT_GT(nat.now - session.second, 299s);
    }
    if (below(4) == 0) {
      ASSERT_EQ(nat.received(udp_protocol, remote, model.seen), NatVerdict::translated);
      ASSERT_EQ(nat.last, inside);
      ++reached;
    }
  }
  EXPECT_GT(made, 1000);
  EXPECT_GT(exhausted, 100);
  EXPECT_GT(reached, 1000);
  nat.expect_sums();
}

}  // namespace
