#include <gtest/gtest.h>

#include "efnet/wire/ipv4.h"
#include "efnet/wire/ipv6.h"
#include "tests/support/wire_bytes.h"

using namespace efnet;
using wire_test::operator+;
using wire_test::Bytes;
using wire_test::hex;
using wire_test::random_bytes;

namespace {

// The example header of many textbooks; its checksum is 0xb861.
const Bytes textbook = hex("4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7") + Bytes(95);

Bytes ipv4(const Ipv4Header& header) {
  Bytes bytes(header.size());
  EXPECT_EQ(header.emit(bytes), header.size());
  return bytes + random_bytes(header.payload_length);
}

TEST(Ipv4, EmitsTheTextbookHeader) {
  const Ipv4Header header{
      .src = {192, 168, 0, 1}, .dst = {192, 168, 0, 199}, .payload_length = 95, .dont_fragment = true};
  Bytes bytes(20);
  EXPECT_EQ(header.emit(bytes), 20u);
  EXPECT_EQ(bytes, Bytes(textbook.begin(), textbook.begin() + 20));
}

TEST(Ipv4, ReadsEveryField) {
  const Bytes options = hex("94 04 00 00 01 00");
  const Bytes bytes = ipv4({.src = {10, 0, 0, 1},
                            .dst = {10, 0, 0, 2},
                            .protocol = IpProtocol::tcp,
                            .payload_length = 40,
                            .ttl = 3,
                            .traffic_class = 0xB9,
                            .identification = 0xBEEF,
                            .more_fragments = true,
                            .fragment_offset = 1480,
                            .options = options});
  const auto view = Ipv4View::parse(bytes);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->header_length(), 28u);
  EXPECT_EQ(view->total_length(), 68);
  EXPECT_EQ(view->traffic_class(), 0xB9);
  EXPECT_EQ(view->identification(), 0xBEEF);
  EXPECT_FALSE(view->dont_fragment());
  EXPECT_TRUE(view->more_fragments());
  EXPECT_EQ(view->fragment_offset(), 1480);
  EXPECT_TRUE(view->is_fragment());
  EXPECT_TRUE(view->is_later_fragment());
  EXPECT_EQ(view->ttl(), 3);
  EXPECT_EQ(view->protocol(), IpProtocol::tcp);
  EXPECT_EQ(view->src(), Ipv4Address(10, 0, 0, 1));
  EXPECT_EQ(view->dst(), Ipv4Address(10, 0, 0, 2));
  EXPECT_EQ(view->payload().size(), 40u);
  EXPECT_EQ(efio::checksum_fold(efio::checksum_partial(view->header())), 0xFFFF);
  OptionWalk walk(view->options());
  const auto alert = walk.next();
  ASSERT_TRUE(alert);
  EXPECT_EQ(alert->kind, 0x94);
  EXPECT_EQ(alert->data.size(), 2u);
  EXPECT_FALSE(walk.next());
  EXPECT_FALSE(walk.malformed());
}

// RFC 894: frames shorter than 60 bytes are padded, and the padding is none of IP's.
TEST(Ipv4, LeavesPaddingOut) {
  const Bytes bytes = ipv4({.payload_length = 8}) + Bytes(18);
  const auto view = Ipv4View::parse(bytes);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->payload().size(), 8u);
  EXPECT_EQ(view->bytes().size(), 28u);
}

TEST(Ipv4, RefusesEveryTruncation) {
  const Bytes options(8);
  const Bytes bytes = ipv4({.payload_length = 30, .options = options});
  wire_test::for_every_truncation(bytes, [](auto cut) {
    EXPECT_FALSE(Ipv4View::parse(cut));
    const auto quoted = Ipv4View::parse_truncated(cut);
    EXPECT_EQ(quoted.has_value(), cut.size() >= 28);
    if (quoted) {
      EXPECT_TRUE(quoted->is_truncated());
      EXPECT_EQ(quoted->payload().size(), cut.size() - 28);
      EXPECT_EQ(quoted->total_length(), 58);
    }
  });
}

TEST(Ipv4, RefusesLyingHeaders) {
  const auto with = [](std::size_t index, std::uint8_t value) {
    Bytes bytes = textbook;
    bytes[index] = std::byte{value};
    return Ipv4View::parse(bytes).has_value();
  };
  EXPECT_TRUE(with(0, 0x45));
  EXPECT_FALSE(with(0, 0x65)) << "version 6";
  EXPECT_FALSE(with(0, 0x44)) << "header of 16 bytes";
  EXPECT_FALSE(with(0, 0x40)) << "header of 0 bytes";
  EXPECT_FALSE(with(3, 0x74)) << "longer than what is there";
  EXPECT_FALSE(with(3, 0x13)) << "shorter than its header";
  EXPECT_FALSE(with(3, 0x00)) << "length 0";
}

TEST(Ipv4, SettersKeepTheViewInside) {
  Bytes bytes = textbook;
  const auto view = Ipv4Mut::parse(bytes);
  view->set_src({1, 2, 3, 4});
  view->set_dst({5, 6, 7, 8});
  view->set_ttl(9);
  view->set_protocol(IpProtocol::icmp);
  view->set_identification(0x1234);
  view->set_fragment_field(0x2001);
  view->set_traffic_class(0xFF);
  view->set_checksum(0xABCD);
  EXPECT_EQ(Bytes(bytes.begin(), bytes.begin() + 20), hex("45ff 0073 1234 2001 0901 abcd 01020304 05060708"));
  bytes[0] = std::byte{0x4F};
  bytes[2] = std::byte{0xFF};
  EXPECT_EQ(view->header_length(), 20u);
  EXPECT_EQ(view->payload().size(), 95u);
  EXPECT_EQ(view->payload().data() + 95, bytes.data() + bytes.size());
}

TEST(Ipv4, EmitRefusesWhatCannotBe) {
  Bytes room(200);
  EXPECT_EQ((Ipv4Header{.payload_length = 65516}.emit(room)), 0u);
  EXPECT_EQ((Ipv4Header{.payload_length = 65515}.emit(room)), 20u);
  EXPECT_EQ((Ipv4Header{.payload_length = ~std::size_t{0}}.emit(room)), 0u);
  EXPECT_EQ((Ipv4Header{.fragment_offset = 4}.emit(room)), 0u);
  EXPECT_EQ((Ipv4Header{.options = std::span(room).first(40)}.emit(std::span(room).subspan(100))), 60u);
  EXPECT_EQ((Ipv4Header{.options = std::span(room).first(41)}.emit(std::span(room).subspan(100))), 0u);
  EXPECT_EQ((Ipv4Header{}.emit(std::span(room).first(19))), 0u);
}

TEST(Options, WalkStopsAtBadLengths) {
  const auto kinds = [](const char* text) {
    const Bytes bytes = hex(text);
    OptionWalk walk(bytes);
    std::string seen;
    while (const auto option = walk.next()) seen += std::to_string(option->kind) + ' ';
    return seen + (walk.malformed() ? "bad" : "");
  };
  EXPECT_EQ(kinds(""), "");
  EXPECT_EQ(kinds("01 01 01 01"), "");
  EXPECT_EQ(kinds("02 04 05b4 01 03 03 07"), "2 3 ");
  EXPECT_EQ(kinds("02 04 05b4 00 03 03 07"), "2 ");
  EXPECT_EQ(kinds("02"), "bad");
  EXPECT_EQ(kinds("02 00"), "bad");
  EXPECT_EQ(kinds("02 01"), "bad");
  EXPECT_EQ(kinds("04 02 02 05 00 00"), "4 bad");
}

const Ipv6Address six_a = *Ipv6Address::parse("2001:db8::1");
const Ipv6Address six_b = *Ipv6Address::parse("2001:db8::2");

Bytes ipv6(IpProtocol next, const Bytes& payload) {
  const Ipv6Header header{.src = six_a,
                          .dst = six_b,
                          .next_header = next,
                          .payload_length = payload.size(),
                          .hop_limit = 7,
                          .traffic_class = 0xB9,
                          .flow_label = 0xABCDE};
  Bytes bytes(header.size());
  EXPECT_EQ(header.emit(bytes), header.size());
  return bytes + payload;
}

TEST(Ipv6, ReadsWhatItEmits) {
  const Bytes bytes = ipv6(IpProtocol::udp, random_bytes(20)) + Bytes(6);
  EXPECT_EQ(Bytes(bytes.begin(), bytes.begin() + 8), hex("6b9abcde 0014 11 07"));
  const auto view = Ipv6View::parse(bytes);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->traffic_class(), 0xB9);
  EXPECT_EQ(view->flow_label(), 0xABCDEu);
  EXPECT_EQ(view->payload_length(), 20);
  EXPECT_EQ(view->next_header(), IpProtocol::udp);
  EXPECT_EQ(view->hop_limit(), 7);
  EXPECT_EQ(view->src(), six_a);
  EXPECT_EQ(view->dst(), six_b);
  EXPECT_EQ(view->payload().size(), 20u);
  EXPECT_EQ(view->chain()->protocol, IpProtocol::udp);
  EXPECT_EQ(view->chain()->length, 0);
}

TEST(Ipv6, RefusesEveryTruncation) {
  wire_test::for_every_truncation(ipv6(IpProtocol::udp, random_bytes(20)), [](auto cut) {
    EXPECT_FALSE(Ipv6View::parse(cut));
    const auto quoted = Ipv6View::parse_truncated(cut);
    EXPECT_EQ(quoted.has_value(), cut.size() >= 40);
    if (quoted) {
      EXPECT_EQ(quoted->payload().size(), cut.size() - 40);
    }
  });
}

TEST(Ipv6, SettersWriteTheirFieldOnly) {
  Bytes bytes = ipv6(IpProtocol::udp, random_bytes(20));
  const auto view = Ipv6Mut::parse(bytes);
  view->set_traffic_class(0x5A);
  view->set_flow_label(0xFFF1'2345);
  view->set_next_header(IpProtocol::tcp);
  view->set_hop_limit(1);
  view->set_src(six_b);
  view->set_dst(six_a);
  EXPECT_EQ(Bytes(bytes.begin(), bytes.begin() + 8), hex("65a12345 0014 06 01"));
  EXPECT_EQ(view->src(), six_b);
  EXPECT_EQ(view->dst(), six_a);
}

const char hop_by_hop_then_routing[] = "2b 00 01 04 00000000";                                    // next: routing
const char routing_then_destination[] = "3c 02 00 01 00000000 20010db8000000000000000000000003";  // 24 bytes
const char destination_then_fragment[] = "2c 00 01 04 00000000";
const char first_fragment_then_ah[] = "33 00 0001 12345678";
const char ah_then_udp[] = "11 04 0000 00000001 00000002 000000000000000000000000";  // 24 bytes

TEST(Ipv6, WalksAllExtensionHeaders) {
  const Bytes headers = hex(hop_by_hop_then_routing) + hex(routing_then_destination) + hex(destination_then_fragment) +
                        hex(first_fragment_then_ah) + hex(ah_then_udp);
  const Bytes bytes = ipv6(IpProtocol::hop_by_hop, headers + random_bytes(8));
  const auto chain = Ipv6View::parse(bytes)->chain();
  ASSERT_TRUE(chain);
  EXPECT_EQ(chain->protocol, IpProtocol::udp);
  EXPECT_EQ(chain->length, headers.size());
  EXPECT_TRUE(chain->fragmented);
  EXPECT_TRUE(chain->more_fragments);
  EXPECT_EQ(chain->fragment_offset, 0);
  EXPECT_EQ(chain->identification, 0x12345678u);
  EXPECT_EQ(chain->segments_left, 1);
  wire_test::for_every_truncation(
      headers, [](auto cut) { EXPECT_FALSE(walk_ipv6_extensions(cut, IpProtocol::hop_by_hop)) << cut.size(); });
}

TEST(Ipv6, StopsAfterTheHeaderOfALaterFragment) {
  const auto chain = walk_ipv6_extensions(hex("3c 00 05a8 00000009 ffffffff"), IpProtocol::ipv6_fragment);
  ASSERT_TRUE(chain);
  EXPECT_TRUE(chain->is_later_fragment());
  EXPECT_EQ(chain->fragment_offset, 1448);
  EXPECT_FALSE(chain->more_fragments);
  EXPECT_EQ(chain->protocol, IpProtocol::ipv6_destination);
  EXPECT_EQ(chain->length, 8);
}

TEST(Ipv6, RefusesHeadersOutOfPlaceAndEndlessChains) {
  EXPECT_FALSE(walk_ipv6_extensions(hex("00 00 0104 00000000 11 00 0104 00000000"), IpProtocol::ipv6_destination));
  EXPECT_FALSE(walk_ipv6_extensions(hex("2c 00 0001 00000000 11 00 0001 00000000"), IpProtocol::ipv6_fragment));
  Bytes chain;
  for (std::size_t i = 0; i < max_ipv6_extensions; ++i) chain = chain + hex("3c 00 0104 00000000");
  chain[8 * (max_ipv6_extensions - 1)] = std::byte{59};
  EXPECT_EQ(walk_ipv6_extensions(chain, IpProtocol::ipv6_destination)->protocol, IpProtocol::ipv6_none);
  chain[8 * (max_ipv6_extensions - 1)] = std::byte{60};
  EXPECT_FALSE(walk_ipv6_extensions(chain + hex("3b 00 0104 00000000"), IpProtocol::ipv6_destination));
}

TEST(Ipv6, EmitRefusesWhatCannotBe) {
  Bytes room(40);
  EXPECT_EQ((Ipv6Header{.payload_length = 65535}.emit(room)), 40u);
  EXPECT_EQ((Ipv6Header{.payload_length = 65536}.emit(room)), 0u);
  EXPECT_EQ((Ipv6Header{}.emit(std::span(room).first(39))), 0u);
}

}  // namespace
