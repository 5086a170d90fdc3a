#include "efnet/wire/flow.h"

#include <gtest/gtest.h>

#include <unordered_set>

#include "tests/support/wire_bytes.h"

using namespace efnet;
using wire_test::operator+;
using wire_test::Bytes;
using wire_test::hex;
using wire_test::random_bytes;

namespace {

const Ipv4Address four_a(10, 0, 0, 1);
const Ipv4Address four_b(198, 51, 100, 2);
const Ipv6Address six_a = *Ipv6Address::parse("2001:db8::1");
const Ipv6Address six_b = *Ipv6Address::parse("2001:db8::2");

template <class Header>
Bytes emitted(const Header& header) {
  Bytes bytes(header.size());
  EXPECT_EQ(header.emit(bytes), header.size());
  return bytes;
}

Bytes ethernet(EtherType type, const Bytes& payload, std::span<const VlanTag> tags = {}) {
  return emitted(EthernetHeader{.type = type, .tags = tags}) + payload;
}

Bytes ipv4(IpProtocol protocol, const Bytes& payload, std::uint16_t fragment_offset = 0, bool more = false) {
  return emitted(Ipv4Header{.src = four_a,
                            .dst = four_b,
                            .protocol = protocol,
                            .payload_length = payload.size(),
                            .identification = 0xBEEF,
                            .more_fragments = more,
                            .fragment_offset = fragment_offset}) +
         payload;
}

Bytes ipv6(IpProtocol next, const Bytes& payload) {
  return emitted(Ipv6Header{.src = six_a, .dst = six_b, .next_header = next, .payload_length = payload.size()}) +
         payload;
}

Bytes udp(std::size_t payload = 10) {
  return emitted(UdpHeader{.src_port = 1024, .dst_port = 53, .payload_length = payload}) + random_bytes(payload);
}

Bytes tcp(std::size_t payload = 10) {
  return emitted(TcpHeader{.src_port = 1024, .dst_port = 53}) + random_bytes(payload);
}

TEST(Flow, UdpOverIpv4WithPadding) {
  const Flow flow = parse_flow(ethernet(EtherType::ipv4, ipv4(IpProtocol::udp, udp(4)) + Bytes(14)));
  EXPECT_EQ(flow.kind, FlowClass::ports);
  EXPECT_EQ(flow.fault, FlowFault::none);
  EXPECT_EQ(flow.key.src, Ipv6Address::mapped(four_a));
  EXPECT_EQ(flow.key.dst, Ipv6Address::mapped(four_b));
  EXPECT_EQ(flow.key.src_port, 1024);
  EXPECT_EQ(flow.key.dst_port, 53);
  EXPECT_EQ(flow.key.protocol, IpProtocol::udp);
  EXPECT_EQ(flow.key.version, 4);
  EXPECT_EQ(flow.type, EtherType::ipv4);
  EXPECT_EQ(flow.network, 14);
  EXPECT_EQ(flow.transport, 34);
  EXPECT_EQ(flow.payload, 42);
  EXPECT_EQ(flow.end, 46u);
  EXPECT_FALSE(flow.is_fragmented());
  EXPECT_EQ(flow.identification, 0u);
  const FlowKey4 expected{four_a, four_b, 1024, 53, IpProtocol::udp};
  EXPECT_EQ(flow.key.key4(), expected);
}

TEST(Flow, EveryProtocolBehindEveryStackOfTags) {
  const VlanTag tags[] = {VlanTag::make(100, 1, EtherType::qinq), VlanTag::make(200)};
  const struct {
    IpProtocol protocol;
    Bytes bytes;
    FlowClass kind;
    std::size_t header;
  } cases[] = {{IpProtocol::udp, udp(), FlowClass::ports, 8},
               {IpProtocol::tcp, tcp(), FlowClass::ports, 20},
               {IpProtocol::udp_lite, udp(), FlowClass::ports, 8},
               {IpProtocol::sctp, udp(), FlowClass::ports, 12},
               {IpProtocol::esp, udp(), FlowClass::protocol, 0}};
  for (const auto& [protocol, bytes, kind, header] : cases)
    for (const bool four : {true, false})
      for (std::size_t count = 0; count <= 2; ++count) {
        const auto stack = std::span(tags).first(count);
        const Flow flow = parse_flow(four ? ethernet(EtherType::ipv4, ipv4(protocol, bytes), stack)
                                          : ethernet(EtherType::ipv6, ipv6(protocol, bytes), stack));
        EXPECT_EQ(flow.kind, kind);
        EXPECT_EQ(flow.key.protocol, protocol);
        EXPECT_EQ(flow.key.version, four ? 4 : 6);
        EXPECT_EQ(flow.tag_count(), count);
        EXPECT_EQ(flow.tci, count == 0 ? 0 : tags[0].tci);
        EXPECT_EQ(flow.network, 14 + 4 * count);
        EXPECT_EQ(flow.transport, flow.network + (four ? 20 : 40));
        EXPECT_EQ(flow.payload, header == 0 ? 0 : flow.transport + header);
        EXPECT_EQ(flow.end, flow.transport + bytes.size());
        if (kind == FlowClass::ports) {
          EXPECT_EQ(flow.key.src_port, 1024);
          EXPECT_EQ(flow.key.dst_port, 53);
        } else {
          EXPECT_EQ(flow.key.src_port, 0);
        }
        if (!four) {
          EXPECT_EQ(flow.key.src, six_a);
          EXPECT_EQ(flow.key.dst, six_b);
        }
      }
}

TEST(Flow, IcmpQueriesHaveTheirIdentifierAndErrorsTheirQuote) {
  const auto four = [](IcmpType type) {
    return parse_flow(
        ethernet(EtherType::ipv4, ipv4(IpProtocol::icmp, emitted(IcmpHeader::echo(type, 0x1234, 7)) + Bytes(28))));
  };
  for (const auto type : {IcmpType::echo_request, IcmpType::echo_reply, IcmpType::timestamp_request}) {
    const Flow flow = four(type);
    EXPECT_EQ(flow.kind, FlowClass::icmp_query);
    EXPECT_EQ(flow.key.src_port, 0x1234);
    EXPECT_EQ(flow.key.dst_port, 0x1234);
  }
  EXPECT_EQ(four(IcmpType::time_exceeded).kind, FlowClass::icmp_error);
  EXPECT_EQ(four(IcmpType::time_exceeded).payload, 42);
  EXPECT_EQ(four(IcmpType::time_exceeded).key.src_port, 0);
  EXPECT_EQ(four(IcmpType{9}).kind, FlowClass::icmp_other);

  const auto six = [](Icmpv6Type type) {
    return parse_flow(
        ethernet(EtherType::ipv6, ipv6(IpProtocol::icmpv6, emitted(Icmpv6Header::echo(type, 0x1234, 7)))));
  };
  EXPECT_EQ(six(Icmpv6Type::echo_reply).kind, FlowClass::icmp_query);
  EXPECT_EQ(six(Icmpv6Type::echo_reply).key.src_port, 0x1234);
  EXPECT_EQ(six(Icmpv6Type::packet_too_big).kind, FlowClass::icmp_error);
  EXPECT_EQ(six(Icmpv6Type::neighbor_solicitation).kind, FlowClass::icmp_other);
  const Flow crossed = parse_flow(ethernet(EtherType::ipv6, ipv6(IpProtocol::icmp, Bytes(8))));
  EXPECT_EQ(crossed.kind, FlowClass::protocol);
}

TEST(Flow, FragmentsOfIpv4) {
  const Bytes whole = udp(64);
  const Flow first =
      parse_flow(ethernet(EtherType::ipv4, ipv4(IpProtocol::udp, Bytes(whole.begin(), whole.begin() + 32), 0, true)));
  EXPECT_EQ(first.kind, FlowClass::ports);
  EXPECT_TRUE(first.more_fragments);
  EXPECT_TRUE(first.is_fragmented());
  EXPECT_EQ(first.key.dst_port, 53);
  EXPECT_EQ(first.identification, 0xBEEFu);
  const Flow last = parse_flow(ethernet(EtherType::ipv4, ipv4(IpProtocol::udp, Bytes(40), 32)));
  EXPECT_EQ(last.kind, FlowClass::fragment);
  EXPECT_FALSE(last.more_fragments);
  EXPECT_EQ(last.fragment_offset, 32);
  EXPECT_EQ(last.identification, 0xBEEFu);
  EXPECT_EQ(last.key.src_port, 0);
  EXPECT_EQ(last.key.protocol, IpProtocol::udp);
  EXPECT_EQ(last.transport, 34);
  EXPECT_EQ(last.payload, 0);
}

TEST(Flow, FragmentsOfIpv6) {
  const Bytes first_header = hex("11 00 0001 12345678");
  const Flow first = parse_flow(ethernet(
      EtherType::ipv6, ipv6(IpProtocol::ipv6_fragment, first_header + hex("0400 0035 0100 0000 0102030405060708"))));
  EXPECT_EQ(first.kind, FlowClass::ports);
  EXPECT_TRUE(first.more_fragments);
  EXPECT_EQ(first.transport, 14 + 40 + 8);
  EXPECT_EQ(first.identification, 0x12345678u);
  const Flow later =
      parse_flow(ethernet(EtherType::ipv6, ipv6(IpProtocol::ipv6_fragment, hex("11 00 0010 12345678") + Bytes(16))));
  EXPECT_EQ(later.kind, FlowClass::fragment);
  EXPECT_EQ(later.fragment_offset, 16);
  EXPECT_EQ(later.key.protocol, IpProtocol::udp);
}

// RFC 1858: a first fragment too small for its ports serves no honest purpose.
TEST(Flow, RefusesTinyFirstFragments) {
  for (const auto protocol : {IpProtocol::tcp, IpProtocol::udp}) {
    const Bytes start = protocol == IpProtocol::tcp ? tcp(20) : udp(20);
    const Flow flow =
        parse_flow(ethernet(EtherType::ipv4, ipv4(protocol, Bytes(start.begin(), start.begin() + 7), 0, true)));
    EXPECT_EQ(flow.kind, FlowClass::malformed);
    EXPECT_EQ(flow.fault, FlowFault::transport);
  }
  const Bytes options(40, std::byte{1});
  const Bytes segment = emitted(TcpHeader{.src_port = 5, .options = options});
  const Flow cut = parse_flow(
      ethernet(EtherType::ipv4, ipv4(IpProtocol::tcp, Bytes(segment.begin(), segment.begin() + 48), 0, true)));
  EXPECT_EQ(cut.kind, FlowClass::ports);
  EXPECT_EQ(cut.key.src_port, 5);
  EXPECT_EQ(cut.payload, 34 + 48);
}

TEST(Flow, EveryTruncationIsMalformedAndSaysWhere) {
  const VlanTag tags[] = {VlanTag::make(100)};
  const auto faults = [](const Bytes& frame) {
    std::string text;
    wire_test::for_every_truncation(frame, [&](auto cut) {
      const Flow flow = parse_flow(cut);
      EXPECT_EQ(flow.kind, FlowClass::malformed) << cut.size();
      const std::string letter(1, "-eixt"[static_cast<std::size_t>(flow.fault)]);
      if (!text.ends_with(letter)) text += letter;
    });
    return text;
  };
  EXPECT_EQ(faults(ethernet(EtherType::ipv4, ipv4(IpProtocol::tcp, tcp(0)), tags)), "ei");
  EXPECT_EQ(faults(ethernet(EtherType::ipv6, ipv6(IpProtocol::tcp, tcp(0)), tags)), "ei");
}

// A frame that ends with its packet, and the same with room behind it, go different ways through the code.
TEST(Flow, RoomBehindThePacketChangesNothing) {
  const VlanTag tags[] = {VlanTag::make(100), VlanTag::make(200), VlanTag::make(300)};
  constexpr std::size_t fields[] = {0, 2, 3, 6, 7, 24, 25, 32};  // lengths and fragments, of IP, UDP and TCP
  std::size_t malformed = 0, well = 0;
  for (const auto protocol : {IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmp})
    for (std::size_t count = 0; count <= 3; ++count)
      for (const bool is_udp : {false, true})
        for (std::size_t lie = 0; lie < 8 * 256; ++lie) {
          Bytes packet = ipv4(protocol, is_udp ? udp() : tcp());
          packet[fields[lie % 8]] ^= static_cast<std::byte>(lie / 8);
          Bytes frame = ethernet(EtherType::ipv4, packet, std::span(tags).first(count));
          const Flow tight = parse_flow(frame);
          if (tight.fault == FlowFault::ip) continue;  // a total length that there may be room for
          frame.resize(frame.size() + 30);
          const Flow roomy = parse_flow(frame);
          ASSERT_EQ(tight.kind, roomy.kind);
          ASSERT_EQ(tight.fault, roomy.fault);
          ASSERT_EQ(tight.key, roomy.key);
          ASSERT_EQ(tight.payload, roomy.payload);
          ASSERT_EQ(tight.end, roomy.end);
          ASSERT_EQ(tight.tci, roomy.tci);
          ++(tight.kind == FlowClass::malformed ? malformed : well);
        }
  EXPECT_GT(malformed, 1000u);
  EXPECT_GT(well, 1000u);
}

TEST(Flow, LyingLengthsAreMalformed) {
  const auto kind = [](const Bytes& frame) {
    const Flow flow = parse_flow(frame);
    return flow.kind == FlowClass::malformed ? flow.fault : FlowFault::none;
  };
  EXPECT_EQ(kind(ethernet(EtherType::ipv4, ipv4(IpProtocol::udp, hex("0400 0035 0007 0000")))), FlowFault::transport);
  EXPECT_EQ(kind(ethernet(EtherType::ipv4, ipv4(IpProtocol::udp, hex("0400 0035 0009 0000")))), FlowFault::transport);
  EXPECT_EQ(kind(ethernet(EtherType::ipv4, ipv4(IpProtocol::icmp, Bytes(7)))), FlowFault::transport);
  EXPECT_EQ(kind(ethernet(EtherType::ipv4, ipv4(IpProtocol::sctp, Bytes(11)))), FlowFault::transport);
  EXPECT_EQ(kind(ethernet(EtherType::ipv6, ipv6(IpProtocol::hop_by_hop, Bytes(7)))), FlowFault::extension);
  Bytes offset = ethernet(EtherType::ipv4, ipv4(IpProtocol::tcp, tcp()));
  offset[34 + 12] = std::byte{0x40};
  EXPECT_EQ(kind(offset), FlowFault::transport);
  offset[34 + 12] = std::byte{0x80};
  EXPECT_EQ(kind(offset), FlowFault::transport);
}

TEST(Flow, OtherFramesAreNamedToo) {
  const Flow arp = parse_flow(ethernet(EtherType::arp, Bytes(28)));
  EXPECT_EQ(arp.kind, FlowClass::arp);
  EXPECT_EQ(arp.network, 14);
  EXPECT_EQ(arp.key.version, 0);
  EXPECT_EQ(parse_flow(ethernet(EtherType::lldp, Bytes(28))).kind, FlowClass::other);
  EXPECT_EQ(parse_flow({}).kind, FlowClass::malformed);
  EXPECT_EQ(parse_flow({}).fault, FlowFault::ethernet);
}

TEST(Flow, NothingIsLeftOverFromTheFrameBefore) {
  const VlanTag tags[] = {VlanTag::make(100)};
  const Bytes many[] = {ethernet(EtherType::ipv6, ipv6(IpProtocol::tcp, tcp()), tags),
                        ethernet(EtherType::ipv4, ipv4(IpProtocol::udp, udp())),
                        ethernet(EtherType::ipv4, ipv4(IpProtocol::udp, Bytes(16), 32)), ethernet(EtherType::arp, {}),
                        Bytes(3)};
  for (const Bytes& before : many)
    for (const Bytes& after : many) {
      Flow flow = parse_flow(before);
      parse_flow(after, flow);
      const Flow fresh = parse_flow(after);
      EXPECT_EQ(flow.key, fresh.key);
      EXPECT_EQ(flow.kind, fresh.kind);
      EXPECT_EQ(flow.fault, fresh.fault);
      EXPECT_EQ(flow.tci, fresh.tci);
      EXPECT_EQ(flow.type, fresh.type);
      EXPECT_EQ(flow.network, fresh.network);
      EXPECT_EQ(flow.transport, fresh.transport);
      EXPECT_EQ(flow.payload, fresh.payload);
      EXPECT_EQ(flow.end, fresh.end);
      EXPECT_EQ(flow.identification, fresh.identification);
      EXPECT_EQ(flow.fragment_offset, fresh.fragment_offset);
      EXPECT_EQ(flow.more_fragments, fresh.more_fragments);
    }
}

TEST(Flow, BatchesGiveWhatSingleFramesGive) {
  const Bytes a = ethernet(EtherType::ipv4, ipv4(IpProtocol::udp, udp()));
  const Bytes b = ethernet(EtherType::ipv6, ipv6(IpProtocol::tcp, tcp()));
  const std::span<const std::byte> frames[] = {a, b, a};
  Flow flows[2];
  parse_flows(frames, flows);
  EXPECT_EQ(flows[0].key, parse_flow(a).key);
  EXPECT_EQ(flows[1].key, parse_flow(b).key);
}

TEST(FlowKey, ReversesComparesAndHashes) {
  const FlowKey key = parse_flow(ethernet(EtherType::ipv4, ipv4(IpProtocol::udp, udp()))).key;
  EXPECT_NE(key, key.reversed());
  EXPECT_EQ(key, key.reversed().reversed());
  EXPECT_EQ(key.key4().reversed(), key.reversed().key4());
  FlowKey domain = key;
  domain.domain = 7;
  EXPECT_NE(domain, key);
  std::unordered_set<FlowKey> keys;
  std::unordered_set<FlowKey4> keys4;
  std::unordered_set<std::size_t> hashes;
  for (unsigned i = 0; i < 1000; ++i) {
    FlowKey other = key;
    other.src_port = static_cast<std::uint16_t>(i);
    keys.insert(other);
    keys4.insert(other.key4());
    hashes.insert(std::hash<FlowKey>()(other) % 65536);
  }
  EXPECT_EQ(keys.size() + keys4.size(), 2000u);
  EXPECT_GT(hashes.size(), 950u);
}

}  // namespace
