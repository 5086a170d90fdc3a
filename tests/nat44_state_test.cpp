#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "efnet/nat44/nat44.h"
#include "tests/support/nat44.h"

// What outlives packets and processes: snapshots, and mappings that follow from the address alone (RFC 7422).

using namespace nat_test;
using testing::SizeIs;

namespace {

constexpr auto saved_at = 1'700'000'000s;  // Unix time

Bytes saved(Nat& nat) {
  Bytes bytes;
  nat->snapshot(nat.now, saved_at,
                [&](std::span<const std::byte> part) { bytes.insert(bytes.end(), part.begin(), part.end()); });
  return bytes;
}

// A NAT with a few sessions of every kind.
struct Busy {
  explicit Busy(Nat44Options with = options()) : nat(std::move(with)) {
    udp_seen = nat.sent(udp_protocol, {host, 5000}, {server, 53});
    nat.sent(udp_protocol, {host, 5000}, {other_server, 53});
    tcp_seen = nat.sent(tcp_protocol, {host, 6000}, {server, 80});
    nat.received(tcp_protocol, {server, 80}, tcp_seen, {.flags = syn | ack});
    Bytes ping = echo(IcmpType::echo_request, other_host, server, 77);
    nat.outward(ping);
    icmp_seen = from_of(ping);
  }
  Nat nat;
  End udp_seen, tcp_seen, icmp_seen;
};

TEST(NatSnapshot, SessionsGoOnWithTheirPortsStatesAndTimeouts) {
  Busy before;
  before.nat.advance(20s);
  const Bytes bytes = saved(before.nat);
  Nat after;
  after.now = 5s;  // a clock that began anew, and is younger than the sessions
  const auto restored = after->restore(bytes, after.now, saved_at + 30s);
  ASSERT_TRUE(restored) << restored.error().message();
  EXPECT_EQ(restored->restored, 4U);
  EXPECT_EQ(restored->expired, 0U);
  EXPECT_EQ(restored->refused, 0U);
  EXPECT_EQ(after->mappings().table().size(), 3U);
  EXPECT_EQ(after.received(udp_protocol, {other_server, 53}, before.udp_seen), NatVerdict::translated);
  EXPECT_EQ(after.last, (End{host, 5000}));
  Bytes pong = echo(IcmpType::echo_reply, server, pool_address, before.icmp_seen.port);
  EXPECT_EQ(after.inward(pong), NatVerdict::translated);
  // 50 s of its 60 have passed.
  after.advance(11s);
  pong = echo(IcmpType::echo_reply, server, pool_address, before.icmp_seen.port);
  EXPECT_EQ(after.inward(pong), NatVerdict::no_mapping);
  EXPECT_EQ(after.sent(udp_protocol, {host, 5000}, {server, 53}), before.udp_seen);
  after.advance(240s);
  EXPECT_EQ(after->sessions().size(), 2U);  // the refreshed one, and TCP, which is established
  after.advance(3600s);
  EXPECT_EQ(after.received(tcp_protocol, {server, 80}, before.tcp_seen, {.flags = ack}), NatVerdict::translated);
  after.advance(7439s);
  EXPECT_EQ(after->sessions().size(), 1U);
  after.advance(30s);
  EXPECT_EQ(after->sessions().size(), 0U);
  EXPECT_EQ(after->mappings().table().size(), 0U);
  EXPECT_EQ(after->pool().lent(tcp_protocol), 0U);
}

TEST(NatSnapshot, WhatTimedOutMeanwhileIsNotTakenUp) {
  Busy before;
  Nat after;
  const auto restored = after->restore(saved(before.nat), after.now, saved_at + 301s);
  ASSERT_TRUE(restored);
  EXPECT_EQ(restored->expired, 3U);
  EXPECT_EQ(restored->restored, 1U);
  // A wall clock that went back: as if no time had passed.
  Nat other;
  EXPECT_EQ(other->restore(saved(before.nat), other.now, saved_at - 1000s)->restored, 4U);
}

TEST(NatSnapshot, IsNotBelievedWhereAnyByteIsMissingOrWrong) {
  Busy before;
  const Bytes bytes = saved(before.nat);
  Nat after;
  const auto believed = [&](const Bytes& some) { return after->restore(some, after.now, saved_at).has_value(); };
  for (std::size_t size = 0; size < bytes.size(); ++size)
    ASSERT_FALSE(believed(Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)))) << size;
  for (std::size_t at = 0; at < bytes.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      Bytes wrong = bytes;
      wrong[at] ^= std::byte(1 << bit);
      ASSERT_FALSE(believed(wrong)) << at;
    }
  // What a torn write leaves: zeros to the end, or in the middle, or one more piece.
  for (std::size_t at = 0; at < bytes.size(); at += 4) {
    Bytes torn = bytes;
    std::fill(torn.begin() + static_cast<std::ptrdiff_t>(at), torn.end(), std::byte{0});
    ASSERT_FALSE(believed(torn)) << at;
  }
  ASSERT_FALSE(believed(bytes + Bytes(28)));
  EXPECT_EQ(after->sessions().size(), 0U);
  EXPECT_EQ(after->mappings().table().size(), 0U);
  EXPECT_TRUE(believed(bytes));
}

TEST(NatSnapshot, AnEmptyOneIsFine) {
  Nat nat, other;
  const auto restored = other->restore(saved(nat), other.now, saved_at);
  ASSERT_TRUE(restored);
  EXPECT_EQ(restored->restored, 0U);
}

TEST(NatSnapshot, WhatOptionsNoLongerAllowIsRefused) {
  Busy before;
  const Bytes bytes = saved(before.nat);
  const auto refused = [&](Nat44Options with) {
    Nat after(std::move(with));
    const auto restored = after->restore(bytes, after.now, saved_at);
    EXPECT_TRUE(restored);
    EXPECT_EQ(restored->restored + restored->refused, 4U);
    EXPECT_EQ(after->sessions().size(), restored->restored);
    std::size_t lent = 0;
    for (const auto protocol : {udp_protocol, tcp_protocol, IpProtocol::icmp}) lent += after->pool().lent(protocol);
    EXPECT_EQ(lent, after->mappings().table().size());
    return restored->refused;
  };
  auto with = options();
  EXPECT_EQ(refused(with), 0U);
  with.pool.ranges = {{*Ipv4Range::parse("198.51.100.2")}};
  EXPECT_EQ(refused(with), 4U);
  with = options();
  with.inside = {*Ipv4Prefix::parse("10.0.0.8/32")};
  EXPECT_EQ(refused(with), 3U);
  with = options();
  with.bypass = {Ipv4Prefix{server, 32}};
  EXPECT_EQ(refused(with), 3U);
  with = options();
  with.sessions = 2;
  EXPECT_EQ(refused(with), 2U);
  with = options();
  with.mappings_each = 1;
  EXPECT_EQ(refused(with), 1U);
  with = options();
  with.pairs = {{Ipv4Address(198, 51, 100, 77), host}};
  EXPECT_EQ(refused(with), 3U);
  with = options();
  with.forwards = {{udp_protocol, pool_address, before.udp_seen.port, other_host, 1}};
  EXPECT_EQ(refused(with), 2U);
  with = options();
  with.deterministic = {{*Ipv4Prefix::parse("10.0.0.0/29"), *Ipv4Range::parse("198.51.100.9")}};
  EXPECT_EQ(refused(with), 3U);
}

TEST(NatSnapshot, BlocksStayTheirOwners) {
  auto with = options();
  with.pool.block_size = 64;
  Busy before(with);
  std::vector<NatEvent> events;
  with.log = [&](const NatEvent& event) { events.push_back(event); };
  Nat after(with);
  ASSERT_EQ(after->restore(saved(before.nat), after.now, saved_at)->restored, 4U);
  EXPECT_THAT(events, SizeIs(2));  // a block for each of both hosts
  for (const Ipv4Address inside : {host, other_host}) {
    const auto was = before.nat->pool().blocks_of(inside.number());
    const auto is = after->pool().blocks_of(inside.number());
    ASSERT_THAT(is, SizeIs(1));
    EXPECT_EQ(is[0].ports, was[0].ports);
    EXPECT_EQ(is[0].lent, was[0].lent);
  }
  // The next port is out of the same block, and both blocks close in the end.
  const End seen = after.sent(udp_protocol, {host, 1}, {server, 1});
  EXPECT_TRUE(after->pool().blocks_of(host.number())[0].ports.contains(seen.port));
  after.advance(3h);
  EXPECT_THAT(events, SizeIs(4));
}

TEST(NatSnapshot, ManySessionsComeBackAsTheyWere) {
  auto with = options();
  with.sessions = 20'000;
  Nat before(with), after(with);
  for (std::uint16_t i = 0; i < 10'000; ++i) {
    before.now += 1ms;
    before.sent(udp_protocol, {Ipv4Address(10, 0, 1, static_cast<std::uint8_t>(i)), i}, {server, i});
  }
  const Bytes bytes = saved(before);
  EXPECT_EQ(bytes.size(), 40 + 28 * 10'000U);
  ASSERT_EQ(after->restore(bytes, after.now, saved_at)->restored, 10'000U);
  after->sessions().scan(0, 20'000, [&](std::uint32_t session, const SessionState&) {
    const FlowKey4 forward = after->sessions().key(session);
    const SessionRef there = before->sessions().lookup(forward);
    ASSERT_TRUE(there);
    ASSERT_EQ(before->sessions().key(there.session(), true), after->sessions().key(session, true));
  });
}

// ---- Deterministic mapping ----

Nat44Options deterministic() {
  auto with = options();
  with.pool.ranges = {{*Ipv4Range::parse("198.51.100.200")}};
  with.deterministic = {{*Ipv4Prefix::parse("10.1.0.0/24"), *Ipv4Range::parse("198.51.100.8-198.51.100.15")}};
  return with;
}

TEST(NatDeterministic, EachInsideAddressHasPortsOfItsOwn) {
  const auto blocks = NatFixedBlocks::make(deterministic().deterministic[0]);
  ASSERT_TRUE(blocks);
  std::set<std::pair<Ipv4Address, std::uint16_t>> all;
  for (std::uint32_t i = 0; i < 256; ++i) {
    const Ipv4Address inside = Ipv4Address(10, 1, 0, 0).advanced(i);
    const auto block = blocks->block_of(inside);
    ASSERT_TRUE(block);
    EXPECT_EQ(block->ports.size(), 2016U);  // 64,512 ports for 32 addresses
    EXPECT_EQ(block->ports.first % 2, 0);
    for (std::uint32_t port = block->ports.first; port <= block->ports.last; ++port) {
      ASSERT_TRUE(all.insert({block->address, static_cast<std::uint16_t>(port)}).second);
      ASSERT_EQ(blocks->owner_of(block->address, static_cast<std::uint16_t>(port)), inside);
    }
  }
  EXPECT_FALSE(blocks->block_of(host));
  EXPECT_FALSE(blocks->owner_of(pool_address, 5000));
  EXPECT_FALSE(blocks->owner_of(Ipv4Address(198, 51, 100, 8), 80));
}

// RFC 7422, 2.2: 10.0.0.0/8 is not the only way to lose ports to a remainder.
TEST(NatDeterministic, RemaindersBelongToNobody) {
  const auto blocks = NatFixedBlocks::make(
      {*Ipv4Prefix::parse("10.1.0.0/30"), *Ipv4Range::parse("198.51.100.1-198.51.100.3"), {1001, 1011}});
  ASSERT_TRUE(blocks);
  EXPECT_EQ(blocks->block_of(Ipv4Address(10, 1, 0, 0))->ports, (PortRange{1002, 1005}));
  EXPECT_EQ(blocks->block_of(Ipv4Address(10, 1, 0, 1))->ports, (PortRange{1006, 1009}));
  EXPECT_EQ(blocks->block_of(Ipv4Address(10, 1, 0, 2))->address, Ipv4Address(198, 51, 100, 2));
  EXPECT_FALSE(blocks->owner_of(Ipv4Address(198, 51, 100, 1), 1001));
  EXPECT_FALSE(blocks->owner_of(Ipv4Address(198, 51, 100, 1), 1010));
  EXPECT_FALSE(blocks->owner_of(Ipv4Address(198, 51, 100, 3), 1002));
}

TEST(NatDeterministic, PacketsLeaveFromTheBlockAndNothingIsLogged) {
  std::vector<NatEvent> events;
  auto with = deterministic();
  with.log = [&](const NatEvent& event) { events.push_back(event); };
  Nat nat(with);
  std::set<std::uint16_t> ports;
  const Ipv4Address inside(10, 1, 0, 33);
  const auto block = *nat->mappings().fixed_block(inside);
  for (std::uint16_t i = 0; i < 500; ++i) {
    const End seen = nat.sent(udp_protocol, {inside, i}, {server, 53});
    EXPECT_EQ(seen.address, block.address);
    EXPECT_TRUE(block.ports.contains(seen.port));
    EXPECT_TRUE(ports.insert(seen.port).second);
    EXPECT_EQ(nat->mappings().fixed_owner(seen.address, seen.port), inside);
    EXPECT_EQ(nat.received(udp_protocol, {server, 53}, seen), NatVerdict::translated);
  }
  EXPECT_TRUE(events.empty());
  // Others have the pool, and nothing but the pool.
  for (std::uint16_t i = 0; i < 500; ++i)
    EXPECT_EQ(nat.sent(udp_protocol, {host, i}, {server, 53}).address, Ipv4Address(198, 51, 100, 200));
  EXPECT_THAT(events, SizeIs(500));
  nat.advance(301s);
  EXPECT_EQ(nat->pool().lent(udp_protocol), 0U);
}

TEST(NatDeterministic, WhoHasUsedUpItsBlockHasNoMore) {
  auto with = options();
  with.deterministic = {{*Ipv4Prefix::parse("10.1.0.0/30"), *Ipv4Range::parse("198.51.100.9"), {2000, 2015}}};
  with.pool.block_size = 64;
  Nat nat(with);
  const Ipv4Address inside(10, 1, 0, 1);
  for (std::uint16_t i = 0; i < 4; ++i) nat.sent(udp_protocol, {inside, i}, {server, 53});
  Bytes frame = udp({inside, 4}, {server, 53});
  EXPECT_EQ(nat.outward(frame), NatVerdict::subscriber_limit);
  nat.sent(tcp_protocol, {inside, 4}, {server, 53});
  nat.sent(udp_protocol, {Ipv4Address(10, 1, 0, 2), 4}, {server, 53});
  nat.advance(301s);
  nat.advance(151s);
  nat.sent(udp_protocol, {inside, 4}, {server, 53});
}

TEST(NatDeterministic, RulesThatCannotBeAreRefused) {
  auto with = deterministic();
  with.pool.ranges = {{*Ipv4Range::parse("198.51.100.15")}};
  EXPECT_FALSE(Nat44::create(with));
  with = deterministic();
  with.deterministic.push_back({*Ipv4Prefix::parse("10.2.0.0/24"), *Ipv4Range::parse("198.51.100.15")});
  EXPECT_FALSE(Nat44::create(with));
  with = deterministic();
  with.deterministic[0].inside = *Ipv4Prefix::parse("10.0.0.0/8");
  EXPECT_FALSE(Nat44::create(with));
  with = deterministic();
  with.pool.ranges.clear();  // nobody but those of the rule
  Nat nat(with);
  nat.sent(udp_protocol, {Ipv4Address(10, 1, 0, 1), 4}, {server, 53});
  Bytes frame = udp({host, 4}, {server, 53});
  EXPECT_EQ(nat.outward(frame), NatVerdict::ports_exhausted);
}

}  // namespace
