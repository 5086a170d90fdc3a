#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "efnet/nat44/nat44.h"
#include "tests/support/nat44.h"

// What is asked of single packets: fragments, ICMP, routing. nat44_test.cpp has mappings, sessions and time.

using namespace nat_test;
using testing::SizeIs;

namespace {

class NatProtocols : public testing::TestWithParam<IpProtocol> {};
INSTANTIATE_TEST_SUITE_P(, NatProtocols, testing::Values(IpProtocol::udp, IpProtocol::tcp),
                         [](const auto& protocol) { return protocol.param == IpProtocol::udp ? "Udp" : "Tcp"; });

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

// Also of whole packets, unless they say that they will never be in fragments (RFC 6864, 4.1 and 5.3).
TEST(Nat, IdentificationsOfWhatMayBeFragmentedAreOurs) {
  Nat nat;
  std::set<std::uint16_t> used;
  for (std::uint16_t i = 0; i < 50; ++i)
    for (const auto protocol : {udp_protocol, tcp_protocol, IpProtocol::icmp})
      for (const Ipv4Address from : {host, other_host}) {
        Bytes frame = packet(protocol, {from, 5000}, {server, std::uint16_t(protocol == IpProtocol::icmp ? 5000 : 53)});
        const Ipv4Mut ip = *Ipv4Mut::parse(std::span(frame).subspan(14));
        ip.set_identification(77);
        fill_frame(frame);
        ASSERT_EQ(nat.outward(frame), NatVerdict::translated);
        EXPECT_EQ(verify_frame(frame), ChecksumState::right);
        EXPECT_TRUE(used.insert(ip_of(frame).identification()).second);
      }
  Bytes atomic = udp({host, 5000}, {server, 53}, {.dont_fragment = true});
  ASSERT_EQ(nat.outward(atomic), NatVerdict::translated);
  EXPECT_EQ(ip_of(atomic).identification(), 0);
  // The other way a packet keeps what its sender chose.
  Bytes answer = udp({server, 53}, from_of(atomic));
  Ipv4Mut::parse(std::span(answer).subspan(14))->set_identification(88);
  fill_frame(answer);
  ASSERT_EQ(nat.inward(answer), NatVerdict::translated);
  EXPECT_EQ(ip_of(answer).identification(), 88);
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

// Without DF: in fragments of at most the MTU, which make the whole packet.
TEST(Nat, WhatMayBeFragmentedLeavesInFragments) {
  auto with = options();
  with.outside_mtu = 576;
  with.inside_mtu = 300;
  Nat nat(with);
  for (const std::size_t payload : {549U, 1100U, 1472U}) {
    Bytes frame = udp({host, 5000}, {server, 53}, {.payload = payload});
    EXPECT_EQ(nat.outward(frame), NatVerdict::fragmented);
    auto parts = nat.collect(NatSide::outside);
    ASSERT_THAT(parts, SizeIs((payload + 8 + 551) / 552));
    for (const Bytes& part : parts) EXPECT_LE(ip_of(part).total_length(), 576);
    const Bytes together = whole_of(parts);
    EXPECT_EQ(verify_frame(together), ChecksumState::right);
    EXPECT_EQ(ip_of(together).payload().size(), payload + 8);
    EXPECT_EQ(ip_of(together).ttl(), 63);
    const End seen = from_of(together);
    frame = udp({server, 53}, seen, {.payload = payload});
    EXPECT_EQ(nat.inward(frame), NatVerdict::fragmented);
    parts = nat.collect(NatSide::inside);
    for (const Bytes& part : parts) EXPECT_LE(ip_of(part).total_length(), 300);
    EXPECT_EQ(verify_frame(whole_of(parts)), ChecksumState::right);
    EXPECT_EQ(to_of(whole_of(parts)), (End{host, 5000}));
  }
  Bytes fits = udp({host, 5000}, {server, 53}, {.payload = 548});
  EXPECT_EQ(nat.outward(fits), NatVerdict::translated);
  nat.expect_sums();
}

TEST(Nat, FragmentsAreFragmentedAgainInAnyOrder) {
  auto with = options();
  with.outside_mtu = 100;
  const Bytes whole = udp({host, 5000}, {server, 53}, {.payload = 900});
  for (const bool last_first : {false, true}) {
    Nat nat(with);
    auto parts = fragments(whole, 400, 9);
    ASSERT_THAT(parts, SizeIs(3));
    if (last_first) std::reverse(parts.begin(), parts.end());
    std::vector<Bytes> passed;
    for (Bytes& part : parts) {
      const NatVerdict verdict = nat.outward(part);
      ASSERT_TRUE(verdict == NatVerdict::fragmented || verdict == NatVerdict::kept ||
                  verdict == NatVerdict::translated);
      for (Bytes& piece : nat.collect(NatSide::outside)) passed.push_back(std::move(piece));
      if (verdict == NatVerdict::translated) passed.push_back(part);
    }
    for (const Bytes& piece : passed) EXPECT_LE(ip_of(piece).total_length(), 100);
    std::sort(passed.begin(), passed.end(),
              [](const Bytes& a, const Bytes& b) { return ip_of(a).fragment_offset() < ip_of(b).fragment_offset(); });
    EXPECT_EQ(verify_frame(whole_of(passed)), ChecksumState::right);
    EXPECT_EQ(ip_of(whole_of(passed)).payload().size(), 908U);
    EXPECT_FALSE(ip_of(passed.back()).more_fragments());
  }
}

// RFC 791, 3.1: options whose kind has bit 7 go with every fragment, the others with the first.
TEST(Nat, OptionsGoWithTheFragmentsTheyAreFor) {
  auto with = options();
  with.outside_mtu = 200;
  Nat nat(with);
  const Bytes plain = udp({host, 5000}, {server, 53}, {.payload = 400});
  const Bytes both = wire_test::hex("44 04 05 00 94 04 00 00");  // a full timestamp, a router alert
  Bytes header(28);
  const Ipv4View ip = ip_of(plain);
  Ipv4Header{.src = host, .dst = server, .payload_length = ip.payload().size(), .options = both}.emit(header);
  Bytes frame = in_frame(header + Bytes(ip.payload().begin(), ip.payload().end()));
  ASSERT_EQ(verify_frame(frame), ChecksumState::right);
  EXPECT_EQ(nat.outward(frame), NatVerdict::fragmented);
  const auto parts = nat.collect(NatSide::outside);
  ASSERT_THAT(parts, SizeIs(3));
  EXPECT_EQ(ip_of(parts[0]).header_length(), 28U);
  for (std::size_t i = 1; i < 3; ++i) {
    const auto options = ip_of(parts[i]).options();
    EXPECT_EQ(Bytes(options.begin(), options.end()), Bytes(both.begin() + 4, both.end()));
  }
  EXPECT_EQ(verify_frame(whole_of(parts)), ChecksumState::right);
}

TEST(Nat, FragmentsThatFindNoRoomAreNotSentInPart) {
  auto with = options();
  with.outside_mtu = 100;
  Nat nat(with);
  std::size_t fragmented = 0;
  for (int i = 0; i < 20; ++i) {
    Bytes frame = udp({host, 5000}, {server, 53}, {.payload = 1400});
    const NatVerdict verdict = nat.outward(frame);
    ASSERT_TRUE(verdict == NatVerdict::fragmented || verdict == NatVerdict::too_big);
    fragmented += verdict == NatVerdict::fragmented;
  }
  EXPECT_LT(fragmented, 20U);
  EXPECT_THAT(nat.collect(NatSide::outside), SizeIs(fragmented * 18));
  EXPECT_EQ(nat->counters().outbox_full, 20 - fragmented);
  nat.expect_sums();
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

}  // namespace
