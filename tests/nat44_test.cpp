#include "efnet/nat44/nat44.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/support/nat44.h"

using namespace nat_test;
using testing::SizeIs;

namespace {

constexpr auto udp_protocol = IpProtocol::udp;
constexpr auto tcp_protocol = IpProtocol::tcp;

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

constexpr std::uint8_t ack = tcp_flag::ack, syn = tcp_flag::syn, fin = tcp_flag::fin, rst = tcp_flag::rst;

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

// ---- Fragments ----

// The payload of a whole packet in fragments of `size` bytes.
std::vector<Bytes> fragments(const Bytes& whole, std::size_t size, std::uint16_t identification) {
  const Ipv4View ip = ip_of(whole);
  std::vector<Bytes> result;
  for (std::size_t at = 0; at < ip.payload().size(); at += size) {
    const auto part = ip.payload().subspan(at, std::min(size, ip.payload().size() - at));
    Bytes header(Ipv4View::min_header);
    Ipv4Header{.src = ip.src(),
               .dst = ip.dst(),
               .protocol = ip.protocol(),
               .payload_length = part.size(),
               .identification = identification,
               .more_fragments = at + size < ip.payload().size(),
               .fragment_offset = static_cast<std::uint16_t>(at)}
        .emit(header);
    result.push_back(in_frame(header + Bytes(part.begin(), part.end())));
  }
  return result;
}

// What the fragments make together; they must be all of one datagram, with right headers.
Bytes whole_of(const std::vector<Bytes>& parts) {
  Bytes payload(2000);
  std::size_t size = 0;
  for (const Bytes& part : parts) {
    const Ipv4View ip = ip_of(part);
    EXPECT_TRUE(verify_header(ip));
    EXPECT_EQ(ip.src(), ip_of(parts[0]).src());
    EXPECT_EQ(ip.dst(), ip_of(parts[0]).dst());
    EXPECT_EQ(ip.identification(), ip_of(parts[0]).identification());
    std::copy(ip.payload().begin(), ip.payload().end(), payload.begin() + ip.fragment_offset());
    size = std::max(size, ip.fragment_offset() + ip.payload().size());
  }
  payload.resize(size);
  const Ipv4View ip = ip_of(parts[0]);
  Bytes header(Ipv4View::min_header);
  Ipv4Header{.src = ip.src(), .dst = ip.dst(), .protocol = ip.protocol(), .payload_length = size, .ttl = ip.ttl()}.emit(
      header);
  return in_frame(header + payload);
}

TEST(Nat, FragmentsPassInAnyOrder) {
  for (const auto protocol : {IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmp}) {
    std::vector<int> order{0, 1, 2, 3};
    do {
      Nat nat;
      const Bytes whole = packet(protocol, {host, 5000}, {server, 53}, {.payload = 300});
      auto parts = fragments(whole, 80, 9);
      ASSERT_THAT(parts, SizeIs(4));
      std::vector<Bytes> passed;
      for (const int i : order) {
        const NatVerdict verdict = nat.outward(parts[static_cast<std::size_t>(i)]);
        ASSERT_TRUE(passes(verdict) || verdict == NatVerdict::kept);
        if (passes(verdict)) passed.push_back(parts[static_cast<std::size_t>(i)]);
        for (Bytes& released : nat.collect(NatSide::outside)) passed.push_back(std::move(released));
      }
      ASSERT_THAT(passed, SizeIs(4));
      const Bytes together = whole_of(passed);
      EXPECT_EQ(verify_frame(together), ChecksumState::right);
      EXPECT_EQ(from_of(together).address, pool_address);
      EXPECT_EQ(ip_of(together).ttl(), 63);
      // The answer, in the same order.
      const End seen = from_of(together);
      Bytes back = packet(protocol, {server, protocol == IpProtocol::icmp ? seen.port : std::uint16_t{53}}, seen,
                          {.payload = 300, .flags = syn | ack, .icmp = IcmpType::echo_reply});
      parts = fragments(back, 80, 10);
      passed.clear();
      for (const int i : order) {
        if (passes(nat.inward(parts[static_cast<std::size_t>(i)])))
          passed.push_back(parts[static_cast<std::size_t>(i)]);
        for (Bytes& released : nat.collect(NatSide::inside)) passed.push_back(std::move(released));
      }
      ASSERT_THAT(passed, SizeIs(4));
      EXPECT_EQ(verify_frame(whole_of(passed)), ChecksumState::right);
      EXPECT_EQ(to_of(whole_of(passed)), (End{host, 5000}));
      EXPECT_EQ(nat->counters().fragments_given_up, 0U);
      nat.expect_sums();
    } while (std::next_permutation(order.begin(), order.end()));
  }
}

TEST(Nat, FragmentsAreHairpinned) {
  Nat nat;
  const End seen = nat.sent(udp_protocol, {host, 5000}, {server, 53});
  auto parts = fragments(packet(udp_protocol, {other_host, 6000}, seen, {.payload = 100}), 64, 3);
  ASSERT_THAT(parts, SizeIs(2));
  EXPECT_EQ(nat.outward(parts[1]), NatVerdict::kept);
  EXPECT_EQ(nat.outward(parts[0]), NatVerdict::hairpinned);
  const auto released = nat.collect(NatSide::inside);
  ASSERT_THAT(released, SizeIs(1));
  const Bytes together = whole_of({parts[0], released[0]});
  EXPECT_EQ(verify_frame(together), ChecksumState::right);
  EXPECT_EQ(to_of(together), (End{host, 5000}));
}

TEST(Nat, OverlappingFragmentsAreDropped) {
  Nat nat;
  const auto parts = fragments(packet(udp_protocol, {host, 5000}, {server, 53}, {.payload = 300}), 80, 9);
  const auto again = fragments(packet(udp_protocol, {host, 5000}, {server, 53}, {.payload = 300}), 120, 9);
  const auto verdict = [&](Bytes frame) { return nat.outward(frame); };
  EXPECT_EQ(verdict(parts[0]), NatVerdict::translated);
  EXPECT_EQ(verdict(parts[0]), NatVerdict::fragment_invalid);
  EXPECT_EQ(verdict(again[0]), NatVerdict::fragment_invalid);
  EXPECT_EQ(verdict(parts[3]), NatVerdict::translated);
  EXPECT_EQ(verdict(again[2]), NatVerdict::fragment_invalid);
  EXPECT_EQ(verdict(parts[1]), NatVerdict::translated);
}

TEST(Nat, FragmentsOfWhatIsDroppedAreDropped) {
  Nat nat;
  auto parts = fragments(packet(udp_protocol, {server, 53}, {pool_address, 4000}, {.payload = 100}), 64, 3);
  EXPECT_EQ(nat.inward(parts[1]), NatVerdict::kept);
  EXPECT_EQ(nat.inward(parts[0]), NatVerdict::no_mapping);
  EXPECT_EQ(nat->counters().fragments_given_up, 1U);
  EXPECT_TRUE(nat.collect(NatSide::inside).empty());
}

TEST(Nat, FragmentsThatWaitAreBounded) {
  Nat nat;
  std::uint64_t kept = 0;
  for (std::uint16_t i = 0; i < 5000; ++i) {
    auto parts = fragments(packet(udp_protocol, {host, 5000}, {server, 53}, {.payload = 100}), 64, i);
    const NatVerdict verdict = nat.outward(parts[1]);
    ASSERT_TRUE(verdict == NatVerdict::kept || verdict == NatVerdict::fragment_limit);
    kept += verdict == NatVerdict::kept;
  }
  EXPECT_GE(kept, NatFragments::places);
  nat.advance(16s);
  EXPECT_EQ(nat->counters().fragments_given_up, kept);
  auto parts = fragments(packet(udp_protocol, {host, 5000}, {server, 53}, {.payload = 100}), 64, 1);
  EXPECT_EQ(nat.outward(parts[1]), NatVerdict::kept);
  EXPECT_EQ(nat.outward(parts[0]), NatVerdict::translated);
  nat.expect_sums();
}

TEST(Nat, HostsThatShareAnAddressDoNotShareIdentifications) {
  Nat nat;
  auto one = fragments(packet(udp_protocol, {host, 5000}, {server, 53}, {.payload = 100}), 64, 77);
  auto two = fragments(packet(udp_protocol, {other_host, 5000}, {server, 53}, {.payload = 100}), 64, 77);
  for (std::size_t i = 0; i < 2; ++i) {
    ASSERT_EQ(nat.outward(one[i]), NatVerdict::translated);
    ASSERT_EQ(nat.outward(two[i]), NatVerdict::translated);
  }
  EXPECT_EQ(verify_frame(whole_of(one)), ChecksumState::right);
  EXPECT_EQ(verify_frame(whole_of(two)), ChecksumState::right);
  EXPECT_NE(ip_of(one[0]).identification(), ip_of(two[0]).identification());
}

// ---- ICMP ----

TEST(Nat, IcmpQueriesAreMappedByIdentifier) {
  Nat nat;
  Bytes ping = echo(IcmpType::echo_request, host, server, 77);
  ASSERT_EQ(nat.outward(ping), NatVerdict::translated);
  EXPECT_EQ(verify_frame(ping), ChecksumState::right);
  const End seen = from_of(ping);
  EXPECT_EQ(seen.address, pool_address);
  Bytes other = echo(IcmpType::echo_request, other_host, server, 77);
  ASSERT_EQ(nat.outward(other), NatVerdict::translated);
  EXPECT_NE(from_of(other), seen);
  Bytes answer = echo(IcmpType::echo_reply, server, pool_address, seen.port);
  ASSERT_EQ(nat.inward(answer), NatVerdict::translated);
  EXPECT_EQ(to_of(answer), (End{host, 77}));
  EXPECT_EQ(verify_frame(answer), ChecksumState::right);
  nat.advance(59s);
  answer = echo(IcmpType::echo_reply, server, pool_address, seen.port);
  EXPECT_EQ(nat.inward(answer), NatVerdict::translated);
  nat.advance(2s);
  answer = echo(IcmpType::echo_reply, server, pool_address, seen.port);
  EXPECT_EQ(nat.inward(answer), NatVerdict::no_mapping);
}

TEST(Nat, PingFromOutsideIsNotForTheInside) {
  Nat nat;
  Bytes ping = echo(IcmpType::echo_request, host, server, 77);
  ASSERT_EQ(nat.outward(ping), NatVerdict::translated);
  Bytes stranger = echo(IcmpType::echo_request, other_server, pool_address, from_of(ping).port);
  EXPECT_EQ(nat.inward(stranger), NatVerdict::no_session);
  Bytes reply = echo(IcmpType::echo_reply, host, server, 5);
  EXPECT_EQ(nat.outward(reply), NatVerdict::no_session);
}

TEST(Nat, IcmpWithAWrongChecksumIsDropped) {
  Nat nat;
  Bytes ping = echo(IcmpType::echo_request, host, server, 77);
  ping.back() ^= std::byte{1};
  EXPECT_EQ(nat.outward(ping), NatVerdict::icmp_checksum);
}

TEST_P(NatProtocols, IcmpErrorFromOutsideReachesTheInsideWithItsOwnPacket) {
  Nat nat;
  const Bytes original = packet(GetParam(), {host, 5000}, {server, 53});
  for (const std::size_t quoted : {28U, 40U, 60U}) {
    Bytes sent = original;
    ASSERT_EQ(nat.outward(sent), NatVerdict::translated);
    Bytes error = error_about(sent, other_server, pool_address, IcmpType::time_exceeded, 0, quoted);
    ASSERT_EQ(nat.inward(error), NatVerdict::translated);
    EXPECT_EQ(verify_frame(error), ChecksumState::right);
    EXPECT_EQ(ip_of(error).src(), other_server);
    EXPECT_EQ(ip_of(error).dst(), host);
    const auto inner = *Ipv4View::parse_truncated(IcmpView::parse(ip_of(error).payload())->payload());
    EXPECT_EQ(inner.src(), host);
    EXPECT_EQ(inner.dst(), server);
    EXPECT_TRUE(verify_header(inner));
    EXPECT_EQ(load16(inner.payload().data()), 5000);
    // All that is quoted is as the host sent it, but for the time to live and the checksum over that.
    const auto own = ip_of(original).payload().first(inner.payload().size());
    EXPECT_TRUE(std::equal(inner.payload().begin(), inner.payload().end(), own.begin()));
  }
}

TEST_P(NatProtocols, IcmpErrorNeitherRefreshesNorEnds) {
  Nat nat;
  Bytes sent = packet(GetParam(), {host, 5000}, {server, 53});
  ASSERT_EQ(nat.outward(sent), NatVerdict::translated);
  const End seen = from_of(sent);
  const Time timeout = GetParam() == IpProtocol::udp ? 300s : 240s;
  nat.advance(timeout - 1s);
  Bytes error = error_about(sent, server, pool_address, IcmpType::destination_unreachable, 3);
  EXPECT_EQ(nat.inward(error), NatVerdict::translated);
  EXPECT_EQ(nat.received(GetParam(), {server, 53}, seen, {.flags = ack}), NatVerdict::translated);
  nat.advance(2s);
  error = error_about(sent, server, pool_address, IcmpType::destination_unreachable, 3);
  EXPECT_EQ(nat.inward(error), NatVerdict::icmp_unmatched);
}

TEST_P(NatProtocols, IcmpErrorFromInsideLeavesWithTheOutsideAddress) {
  Nat nat;
  const End seen = nat.sent(GetParam(), {host, 5000}, {server, 53});
  const Bytes incoming = packet(GetParam(), {server, 53}, seen, {.flags = syn | ack});
  Bytes received = incoming;
  ASSERT_EQ(nat.inward(received), NatVerdict::translated);
  Bytes error = error_about(received, host, server, IcmpType::destination_unreachable, 3);
  ASSERT_EQ(nat.outward(error), NatVerdict::translated);
  EXPECT_EQ(verify_frame(error), ChecksumState::right);
  EXPECT_EQ(ip_of(error).src(), pool_address);
  EXPECT_EQ(ip_of(error).dst(), server);
  const auto inner = *Ipv4View::parse_truncated(IcmpView::parse(ip_of(error).payload())->payload());
  EXPECT_EQ(inner.src(), server);
  EXPECT_EQ(inner.dst(), seen.address);
  EXPECT_EQ(load16(inner.payload().data() + 2), seen.port);
  EXPECT_TRUE(verify_header(inner));
}

TEST_P(NatProtocols, IcmpErrorIsHairpinnedToo) {
  Nat nat;
  const End seen = nat.sent(GetParam(), {host, 5000}, {server, 53});
  Bytes frame = packet(GetParam(), {other_host, 6000}, seen);
  ASSERT_EQ(nat.outward(frame), NatVerdict::hairpinned);
  const End other = from_of(frame);
  Bytes error = error_about(frame, host, other.address, IcmpType::destination_unreachable, 3);
  ASSERT_EQ(nat.outward(error), NatVerdict::hairpinned);
  EXPECT_EQ(verify_frame(error), ChecksumState::right);
  EXPECT_EQ(ip_of(error).src(), seen.address);
  EXPECT_EQ(ip_of(error).dst(), other_host);
  const auto inner = *Ipv4View::parse_truncated(IcmpView::parse(ip_of(error).payload())->payload());
  EXPECT_EQ(inner.src(), other_host);
  EXPECT_EQ(inner.dst(), seen.address);
  EXPECT_EQ(load16(inner.payload().data()), 6000);
  EXPECT_EQ(load16(inner.payload().data() + 2), seen.port);
}

TEST(Nat, IcmpErrorsWithLiesAreDropped) {
  Nat nat;
  Bytes sent = udp({host, 5000}, {server, 53});
  ASSERT_EQ(nat.outward(sent), NatVerdict::translated);
  const auto verdict = [&](Bytes error) { return nat.inward(error); };
  const auto about = [&](const Bytes& frame, std::size_t quoted = 28) {
    return error_about(frame, other_server, pool_address, IcmpType::time_exceeded, 0, quoted);
  };
  Bytes wrong = about(sent);
  wrong.back() ^= std::byte{1};
  EXPECT_EQ(verdict(wrong), NatVerdict::icmp_checksum);
  Bytes changed = sent;
  changed[14 + 12] ^= std::byte{1};  // the quoted source, without its checksum
  EXPECT_EQ(verdict(about(changed)), NatVerdict::icmp_malformed);
  EXPECT_EQ(verdict(about(sent, 27)), NatVerdict::icmp_malformed);
  EXPECT_EQ(verdict(about(sent, 12)), NatVerdict::icmp_malformed);
  EXPECT_EQ(verdict(about(udp({pool_address, 1}, {server, 53}))), NatVerdict::icmp_unmatched);
  EXPECT_EQ(verdict(about(udp({server, 1}, {pool_address, 53}))), NatVerdict::icmp_malformed);
  nat.expect_sums();
}

// ---- Routing ----

TEST(Nat, TimeToLiveIsCountedAndItsEndTold) {
  Nat nat;
  Bytes frame = udp({host, 5000}, {server, 53}, {.ttl = 2});
  ASSERT_EQ(nat.outward(frame), NatVerdict::translated);
  EXPECT_EQ(ip_of(frame).ttl(), 1);
  frame = udp({host, 5000}, {server, 53}, {.ttl = 1});
  EXPECT_EQ(nat.outward(frame), NatVerdict::ttl_exceeded);
  const End seen = nat.sent(udp_protocol, {host, 5000}, {server, 53});
  frame = udp({server, 53}, seen, {.ttl = 1});
  EXPECT_EQ(nat.inward(frame), NatVerdict::ttl_exceeded);
  for (const NatSide side : {NatSide::inside, NatSide::outside}) {
    const auto errors = nat.collect(side);
    ASSERT_THAT(errors, SizeIs(1));
    EXPECT_EQ(verify_frame(errors[0]), ChecksumState::right);
    EXPECT_EQ(IcmpView::parse(ip_of(errors[0]).payload())->type(), IcmpType::time_exceeded);
    EXPECT_EQ(ip_of(errors[0]).src(), side == NatSide::inside ? inside_router : outside_router);
    EXPECT_EQ(ip_of(errors[0]).dst(), side == NatSide::inside ? host : server);
  }
}

TEST(Nat, TooBigIsToldWithTheMtu) {
  auto with = options();
  with.outside_mtu = 600;
  with.inside_mtu = 500;
  Nat nat(with);
  Bytes frame = udp({host, 5000}, {server, 53}, {.payload = 600, .dont_fragment = true});
  EXPECT_EQ(nat.outward(frame), NatVerdict::too_big);
  const auto errors = nat.collect(NatSide::inside);
  ASSERT_THAT(errors, SizeIs(1));
  const auto message = *IcmpView::parse(ip_of(errors[0]).payload());
  EXPECT_EQ(message.type(), IcmpType::destination_unreachable);
  EXPECT_EQ(message.code(), 4);
  EXPECT_EQ(message.mtu(), 600U);
  const End seen = nat.sent(udp_protocol, {host, 5000}, {server, 53});
  frame = udp({server, 53}, seen, {.payload = 500, .dont_fragment = true});
  EXPECT_EQ(nat.inward(frame), NatVerdict::too_big);
  const auto outside = nat.collect(NatSide::outside);
  ASSERT_THAT(outside, SizeIs(1));
  EXPECT_EQ(IcmpView::parse(ip_of(outside[0]).payload())->mtu(), 500U);
}

TEST(Nat, ErrorsOfOurOwnAreLimited) {
  auto with = options();
  with.errors_per_second = 10;
  Nat nat(with);
  for (int i = 0; i < 100; ++i) {
    Bytes frame = udp({host, 5000}, {server, 53}, {.ttl = 1});
    nat.outward(frame);
  }
  EXPECT_EQ(nat->counters().errors_sent, 1U);
  EXPECT_EQ(nat->counters().errors_suppressed, 99U);
}

TEST(Nat, BypassAndForeignersAreNotTranslated) {
  auto with = options();
  with.bypass = {*Ipv4Prefix::parse("192.168.0.0/16")};
  Nat nat(with);
  const Ipv4Address peer(192, 168, 3, 4);
  Bytes frame = udp({host, 1}, {peer, 2});
  EXPECT_EQ(nat.outward(frame), NatVerdict::bypassed);
  EXPECT_EQ(from_of(frame), (End{host, 1}));
  EXPECT_EQ(verify_frame(frame), ChecksumState::right);
  frame = udp({peer, 2}, {host, 1});
  EXPECT_EQ(nat.inward(frame), NatVerdict::bypassed);
  frame = udp({server, 2}, {host, 1});
  EXPECT_EQ(nat.inward(frame), NatVerdict::not_ours);
  frame = udp({server, 2}, {peer, 1});
  EXPECT_EQ(nat.outward(frame), NatVerdict::not_inside);
  frame = udp({host, 2}, {Ipv4Address(127, 0, 0, 1), 1});
  EXPECT_EQ(nat.outward(frame), NatVerdict::martian);
  frame = udp({host, 2}, {server, 1});
  frame[14 + 10] ^= std::byte{1};
  EXPECT_EQ(nat.outward(frame), NatVerdict::header_checksum);
  frame = wire_test::framed(EtherType::ipv6, wire_test::packet6(IpProtocol::udp, 5));
  EXPECT_EQ(nat.outward(frame), NatVerdict::not_ipv4);
  EXPECT_EQ(nat->counters().sessions_made, 0U);
  nat.expect_sums();
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
