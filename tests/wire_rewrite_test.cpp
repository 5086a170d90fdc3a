#include "efnet/wire/rewrite.h"

#include <gtest/gtest.h>

#include "tests/support/wire_packets.h"

using namespace efnet;
using wire_test::operator+;
using wire_test::Bytes;
using wire_test::four_a;
using wire_test::four_b;
using wire_test::framed;
using wire_test::hex;
using wire_test::packet4;
using wire_test::packet6;
using wire_test::six_a;
using wire_test::six_b;

namespace {

const FlowKey4 to4{{198, 51, 100, 7}, {203, 0, 113, 9}, 40000, 53};
const FlowKey to6{*Ipv6Address::parse("2001:db8:ffff::7"), *Ipv6Address::parse("2001:db8:eeee::9"), 40000, 53};

Bytes filled4(Bytes packet) {
  fill_transport(*Ipv4Mut::parse(packet));
  return packet;
}
Bytes filled6(Bytes packet) {
  fill_transport(*Ipv6Mut::parse(packet));
  return packet;
}

// What the fields say after a rewrite, with every checksum computed from scratch.
Bytes expected4(Bytes packet, const FlowKey4& to) {
  const auto ip = Ipv4Mut::parse(packet);
  ip->set_src(to.src);
  ip->set_dst(to.dst);
  if (ip->protocol() == IpProtocol::icmp) {
    IcmpMut::parse(ip->payload())->set_identifier(to.src_port);
  } else {
    store16(ip->payload(), 0, to.src_port);
    store16(ip->payload(), 2, to.dst_port);
  }
  fill_header(*ip);
  fill_transport(*ip);
  return packet;
}
Bytes expected6(Bytes packet, const FlowKey& to) {
  const auto ip = Ipv6Mut::parse(packet);
  ip->set_src(to.src);
  ip->set_dst(to.dst);
  const auto chain = ip->chain();
  const auto upper = ip->payload().subspan(chain->length);
  if (chain->protocol == IpProtocol::icmpv6) {
    Icmpv6Mut::parse(upper)->set_identifier(to.src_port);
  } else {
    store16(upper, 0, to.src_port);
    store16(upper, 2, to.dst_port);
  }
  fill_transport(*ip);
  return packet;
}

FlowKey4 random_key(std::mt19937& random) {
  return {Ipv4Address::from_number(random()), Ipv4Address::from_number(random()), static_cast<std::uint16_t>(random()),
          static_cast<std::uint16_t>(random())};
}

TEST(Rewrite, EqualsRecomputingForEveryTransportOfIpv4) {
  std::mt19937 random(3);
  const Bytes options(8, std::byte{1});
  for (const auto protocol : {IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmp})
    for (int round = 0; round < 2000; ++round) {
      const Bytes before = filled4(packet4(protocol, round % 100u, round % 2 ? options : Bytes()));
      const FlowKey4 to = random_key(random);
      Bytes bytes = before;
      ASSERT_TRUE(rewrite(*Ipv4Mut::parse(bytes), to));
      ASSERT_EQ(bytes, expected4(before, to));
    }
}

TEST(Rewrite, EqualsRecomputingForEveryTransportOfIpv6) {
  std::mt19937 random(4);
  Bytes extension = hex("11 00 0104 00000000");
  for (const auto protocol : {IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmpv6})
    for (int round = 0; round < 2000; ++round) {
      extension[0] = static_cast<std::byte>(protocol);
      const Bytes before = filled6(packet6(protocol, round % 100u, round % 2 ? extension : Bytes()));
      const FlowKey to{Ipv6Address::from_numbers(random(), random()), Ipv6Address::from_numbers(random(), random()),
                       static_cast<std::uint16_t>(random()), static_cast<std::uint16_t>(random())};
      Bytes bytes = before;
      ASSERT_TRUE(rewrite(*Ipv6Mut::parse(bytes), to));
      ASSERT_EQ(bytes, expected6(before, to));
    }
}

// K2 in place: whatever one port becomes, the sum is that of a packet made so.
TEST(Rewrite, EqualsRecomputingForEveryPort) {
  const Bytes before = filled4(packet4(IpProtocol::udp, 18));
  Bytes bytes = before;
  for (std::uint32_t port = 0; port <= 0xFFFF; ++port) {
    const FlowKey4 to{four_a, four_b, static_cast<std::uint16_t>(port), 2};
    ASSERT_TRUE(rewrite(*Ipv4Mut::parse(bytes), to));
    ASSERT_EQ(bytes, expected4(before, to)) << port;
  }
}

TEST(Rewrite, NoUdpChecksumStaysNone) {
  Bytes bytes = packet4(IpProtocol::udp, 18);
  ASSERT_TRUE(rewrite(*Ipv4Mut::parse(bytes), to4));
  EXPECT_EQ(UdpView::parse(Ipv4View::parse(bytes)->payload())->checksum(), 0);
  EXPECT_TRUE(verify_header(*Ipv4View::parse(bytes)));
}

TEST(Rewrite, AComputedZeroOfUdpIsSentAsAllOnes) {
  Bytes bytes = filled4(packet4(IpProtocol::udp, 18));
  const auto checksum = [&] { return UdpView::parse(Ipv4View::parse(bytes)->payload())->checksum(); };
  std::size_t met = 0;
  for (std::uint32_t port = 0; port <= 0xFFFF; ++port) {
    ASSERT_TRUE(rewrite(*Ipv4Mut::parse(bytes), {four_a, four_b, static_cast<std::uint16_t>(port), 2}));
    ASSERT_NE(checksum(), 0);
    met += checksum() == 0xFFFF;
  }
  EXPECT_GE(met, 1u);
}

TEST(Rewrite, WrongChecksumsStayWrong) {
  for (const auto protocol : {IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmp}) {
    Bytes bytes = filled4(packet4(protocol, 18));
    bytes.back() ^= std::byte{0x40};
    ASSERT_TRUE(rewrite(*Ipv4Mut::parse(bytes), to4));
    EXPECT_EQ(verify_transport(*Ipv4View::parse(bytes)), ChecksumState::wrong);
  }
}

// Cut in two and rewritten part by part, a datagram is the one that was rewritten whole.
TEST(Rewrite, FragmentsMakeTheWholeDatagram) {
  for (const auto protocol : {IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmp}) {
    const Bytes whole = filled4(packet4(protocol, 100));
    for (const std::size_t cut : {24u, 48u, 96u}) {
      Bytes parts[2];
      for (int later = 0; later < 2; ++later) {
        const auto from = whole.begin() + 20 + static_cast<std::ptrdiff_t>(later ? cut : 0);
        const Bytes data(from, later ? whole.end() : from + static_cast<std::ptrdiff_t>(cut));
        Bytes header(20);
        Ipv4Header{.src = four_a,
                   .dst = four_b,
                   .protocol = protocol,
                   .payload_length = data.size(),
                   .more_fragments = later == 0,
                   .fragment_offset = static_cast<std::uint16_t>(later ? cut : 0)}
            .emit(header);
        parts[later] = header + data;
        ASSERT_TRUE(rewrite(*Ipv4Mut::parse(parts[later]), to4));
        ASSERT_TRUE(verify_header(*Ipv4View::parse(parts[later])));
        ASSERT_EQ(Ipv4View::parse(parts[later])->src(), to4.src);
      }
      const Bytes expected = expected4(whole, to4);
      const Bytes together(parts[0].begin() + 20, parts[0].end());
      const Bytes rest(parts[1].begin() + 20, parts[1].end());
      ASSERT_EQ(together + rest, Bytes(expected.begin() + 20, expected.end()));
    }
  }
}

TEST(Rewrite, FragmentsOfIpv6MakeTheWholeDatagram) {
  const Bytes whole = filled6(packet6(IpProtocol::udp, 100));
  const Bytes expected = expected6(whole, to6);
  for (int later = 0; later < 2; ++later) {
    const Bytes data(whole.begin() + 40 + (later ? 48 : 0), later ? whole.end() : whole.begin() + 88);
    const Bytes rest = hex(later ? "11 00 0030 00000007" : "11 00 0001 00000007") + data;
    Bytes header(40);
    Ipv6Header{.src = six_a, .dst = six_b, .next_header = IpProtocol::ipv6_fragment, .payload_length = rest.size()}
        .emit(header);
    Bytes part = header + rest;
    ASSERT_TRUE(rewrite(*Ipv6Mut::parse(part), to6));
    EXPECT_EQ(Ipv6View::parse(part)->dst(), to6.dst);
    EXPECT_TRUE(std::equal(part.begin() + 48, part.end(), expected.begin() + 40 + (later ? 48 : 0)));
  }
}

// ---- ICMP errors ----

Bytes error4(Ipv4Address src, Ipv4Address dst, const Bytes& quoted, IcmpType type = IcmpType::time_exceeded) {
  Bytes header(28);
  Ipv4Header{.src = src, .dst = dst, .protocol = IpProtocol::icmp, .payload_length = 8 + quoted.size()}.emit(header);
  IcmpHeader{.type = type}.emit(std::span(header).subspan(20));
  return filled4(header + quoted);
}

Bytes error6(const Ipv6Address& src, const Ipv6Address& dst, const Bytes& quoted) {
  Bytes header(48);
  Ipv6Header{.src = src, .dst = dst, .next_header = IpProtocol::icmpv6, .payload_length = 8 + quoted.size()}.emit(
      header);
  Icmpv6Header{.type = Icmpv6Type::time_exceeded}.emit(std::span(header).subspan(40));
  return filled6(header + quoted);
}

Bytes tail(const Bytes& bytes, std::size_t from) {
  return {bytes.begin() + static_cast<std::ptrdiff_t>(from), bytes.end()};
}

std::size_t checksum_at(IpProtocol protocol) {
  return protocol == IpProtocol::udp ? 6 : protocol == IpProtocol::tcp ? 16 : 2;
}

// The error comes from a router, the quoted packet was ours to `four_b`: outside in. At every length that its sender
// may have quoted, the message is the one that quotes as much of the packet inside.
TEST(Rewrite, AnErrorAboutAPacketOfOursLeavesTheRoutersAddress) {
  const Ipv4Address router(192, 0, 2, 1);
  const Ipv4Address inside(10, 9, 8, 7);
  for (const auto protocol : {IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmp}) {
    const Bytes sent = filled4(packet4(protocol, 40));
    const std::uint16_t port = 5000, peer_port = protocol == IpProtocol::icmp ? 5000 : 2;
    const Bytes translated = expected4(sent, {inside, four_b, port, peer_port});
    // Four bytes have the ports; ICMP's identifier and its checksum take eight, which every error quotes (RFC 792).
    for (std::size_t size = protocol == IpProtocol::icmp ? 28 : 24; size <= sent.size(); ++size) {
      if (size == 20 + checksum_at(protocol) + 1) continue;  // half a checksum: nobody can mend that
      const Bytes quote(sent.begin(), sent.begin() + static_cast<std::ptrdiff_t>(size));
      Bytes bytes = error4(router, four_a, quote);
      ASSERT_TRUE(rewrite(*Ipv4Mut::parse(bytes), {four_b, inside, peer_port, port}));
      const Bytes right(translated.begin(), translated.begin() + static_cast<std::ptrdiff_t>(size));
      ASSERT_EQ(bytes, error4(router, inside, right)) << size;
    }
  }
}

// The error comes from inside, about a packet that came to us from `four_b`: all that names the inside changes.
TEST(Rewrite, AnErrorFromInsideHidesTheInside) {
  const Ipv4Address inner_router(10, 0, 0, 254);
  const Ipv4Address outside(198, 51, 100, 2);
  Bytes received = filled4(packet4(IpProtocol::udp, 20));                     // four_a:1 → four_b:2, inside
  Bytes bytes = error4(inner_router, four_a, received);                       // back to four_a
  ASSERT_TRUE(rewrite(*Ipv4Mut::parse(bytes), {outside, four_a, 40000, 1}));  // four_b:2 is outside:40000
  EXPECT_EQ(bytes, error4(outside, four_a, expected4(received, {four_a, outside, 1, 40000})));
}

TEST(Rewrite, ErrorsOfIpv6) {
  const Ipv6Address router = *Ipv6Address::parse("2001:db8:1::1");
  const Ipv6Address inside = *Ipv6Address::parse("fd00::7");
  Bytes extension = hex("11 00 0104 00000000");
  for (const auto protocol : {IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmpv6})
    for (const bool extended : {false, true}) {
      extension[0] = static_cast<std::byte>(protocol);
      const Bytes sent = filled6(packet6(protocol, 41, extended ? extension : Bytes()));
      const std::uint16_t peer_port = protocol == IpProtocol::icmpv6 ? 5000 : 2;
      const Bytes translated = expected6(sent, {inside, six_b, 5000, peer_port});
      for (std::size_t size = 40 + 8 + 8; size <= sent.size(); ++size) {
        if (size == 40u + (extended ? 8 : 0) + checksum_at(protocol) + 1) continue;
        Bytes bytes = error6(router, six_a, {sent.begin(), sent.begin() + static_cast<std::ptrdiff_t>(size)});
        ASSERT_TRUE(rewrite(*Ipv6Mut::parse(bytes), {six_b, inside, peer_port, 5000}));
        ASSERT_EQ(bytes,
                  error6(router, inside, {translated.begin(), translated.begin() + static_cast<std::ptrdiff_t>(size)}))
            << size;
      }
    }
}

TEST(Rewrite, AQuotedLaterFragmentHasNoPorts) {
  Bytes quoted = packet4(IpProtocol::udp, 40);
  Ipv4Mut::parse(quoted)->set_fragment_field(10);
  fill_header(*Ipv4Mut::parse(quoted));
  Bytes bytes = error4({192, 0, 2, 1}, four_a, quoted);
  ASSERT_TRUE(rewrite(*Ipv4Mut::parse(bytes), {four_b, {10, 9, 8, 7}, 2, 5000}));
  EXPECT_EQ(verify_transport(*Ipv4View::parse(bytes)), ChecksumState::right);
  EXPECT_EQ(tail(bytes, 28 + 20), tail(quoted, 20));
}

// ---- Refusals ----

template <class Packet>
void refuses(Packet parse, Bytes bytes, const auto& to) {
  const Bytes before = bytes;
  EXPECT_FALSE(rewrite(*parse(std::span(bytes)), to));
  EXPECT_EQ(bytes, before);
}

TEST(Rewrite, RefusesWhatItCannotMendAndLeavesItAlone) {
  const auto four = [](std::span<std::byte> bytes) { return Ipv4Mut::parse(bytes); };
  const auto six = [](std::span<std::byte> bytes) { return Ipv6Mut::parse(bytes); };
  for (const auto protocol : {IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmp}) {
    const std::size_t header = protocol == IpProtocol::tcp ? 20 : 8;
    for (std::size_t there = 0; there < header; ++there) {
      Bytes bytes(20);
      Ipv4Header{.src = four_a, .dst = four_b, .protocol = protocol, .payload_length = there, .more_fragments = true}
          .emit(bytes);
      refuses(four, bytes + Bytes(there, std::byte{8}), to4);
    }
  }
  Bytes sctp = packet4(IpProtocol::udp, 20);
  Ipv4Mut::parse(sctp)->set_protocol(IpProtocol::sctp);
  refuses(four, sctp, to4);
  refuses(four, error4(four_b, four_a, hex("45 00 00")), to4);
  refuses(four, error4(four_b, four_a, packet6(IpProtocol::udp, 20)), to4);
  refuses(six, error6(six_b, six_a, packet4(IpProtocol::udp, 20)), to6);
  refuses(six, packet6(IpProtocol::udp, 20, hex("2b 00 0104 00000000  11 00 0001 00000000")), to6);
}

TEST(Rewrite, SctpAndOthersChangeTheirAddressesOnly) {
  Bytes bytes = packet4(IpProtocol::udp, 20);
  Ipv4Mut::parse(bytes)->set_protocol(IpProtocol::sctp);
  fill_header(*Ipv4Mut::parse(bytes));
  for (const auto protocol : {IpProtocol::sctp, IpProtocol{47}}) {
    Ipv4Mut::parse(bytes)->set_protocol(protocol);
    fill_header(*Ipv4Mut::parse(bytes));
    const Bytes before = bytes;
    ASSERT_TRUE(rewrite(*Ipv4Mut::parse(bytes), {to4.src, to4.dst, 1, 2}));
    EXPECT_TRUE(verify_header(*Ipv4View::parse(bytes)));
    EXPECT_EQ(tail(bytes, 20), tail(before, 20));
  }
}

// Rewrites the packet, and the frame around it; both must agree, also about refusing. Whether it was done.
template <class Packet>
bool frame_agrees(Bytes packet, EtherType type, std::size_t tag_count, const auto& to) {
  const VlanTag tags[] = {VlanTag::make(5), VlanTag::make(6), VlanTag::make(7)};
  Bytes frame(14 + 4 * tag_count);
  EthernetHeader{.type = type, .tags = std::span(tags).first(tag_count)}.emit(frame);
  const Bytes header = frame;
  frame = frame + packet;
  const auto view = Packet::parse(packet);
  const bool expected = view && rewrite(*view, to);
  EXPECT_EQ(rewrite(std::span(frame), to), expected);
  EXPECT_EQ(frame, header + packet);
  return expected;
}

// The usual frame has a way of its own, which must do what the packet's does: also where the packet is just too
// unusual.
TEST(Rewrite, OfAFrameIsThatOfItsPacket) {
  std::mt19937 random(5);
  constexpr std::size_t fields4[] = {0, 2, 3, 6, 7, 9, 26, 27};    // lengths, fragments, protocol, UDP checksum
  constexpr std::size_t fields6[] = {0, 4, 5, 6, 40, 44, 46, 47};  // version, length, next header, transport
  std::size_t refused = 0, done = 0;
  for (const auto protocol : {IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmp})
    for (std::size_t tags = 0; tags <= 3; ++tags)
      for (const std::size_t room : {0u, 30u})
        for (std::size_t lie = 0; lie < 8 * 256; ++lie) {
          const FlowKey4 to = random_key(random);
          Bytes four = filled4(packet4(protocol, lie % 30));
          if (lie % 64 < 8) store16(four, 26, 0);
          four[fields4[lie % 8]] ^= static_cast<std::byte>(lie / 8);
          four.resize(four.size() + room);
          ++(frame_agrees<Ipv4Mut>(four, EtherType::ipv4, tags, to) ? done : refused);

          FlowKey six_to = to6;
          six_to.src = Ipv6Address::from_numbers(random(), random());
          six_to.version = 6;
          Bytes six = filled6(packet6(protocol == IpProtocol::icmp ? IpProtocol::icmpv6 : protocol, lie % 30));
          six[fields6[lie % 8]] ^= static_cast<std::byte>(lie / 8);
          six.resize(six.size() + room);
          ++(frame_agrees<Ipv6Mut>(six, EtherType::ipv6, tags, six_to) ? done : refused);
        }
  EXPECT_GT(refused, 2000u);
  EXPECT_GT(done, 2000u);
}

TEST(Rewrite, FramesBehindTags) {
  Bytes four = framed(EtherType::ipv4, filled4(packet4(IpProtocol::tcp, 9)));
  ASSERT_TRUE(rewrite(std::span(four), to4));
  EXPECT_EQ(verify_frame(four), ChecksumState::right);
  EXPECT_EQ(parse_flow(four).key.key4().src, to4.src);
  Bytes six = framed(EtherType::ipv6, filled6(packet6(IpProtocol::udp, 9)));
  FlowKey to = to6;
  to.version = 6;
  ASSERT_TRUE(rewrite(std::span(six), to));
  EXPECT_EQ(verify_frame(six), ChecksumState::right);
  EXPECT_EQ(parse_flow(six).key.dst_port, 53);
  EXPECT_FALSE(rewrite(std::span(six), to4));
  EXPECT_FALSE(rewrite(std::span(four), to));
  to.version = 4;
  EXPECT_TRUE(rewrite(std::span(four), to));
}

}  // namespace
