#include <gtest/gtest.h>

#include "efnet/wire/icmp.h"
#include "efnet/wire/tcp.h"
#include "efnet/wire/udp.h"
#include "tests/support/wire_bytes.h"

using namespace efnet;
using wire_test::operator+;
using wire_test::Bytes;
using wire_test::hex;
using wire_test::random_bytes;

namespace {

TEST(Udp, ReadsWhatItEmits) {
  Bytes bytes(8);
  EXPECT_EQ((UdpHeader{.src_port = 1024, .dst_port = 53, .payload_length = 10}.emit(bytes)), 8u);
  EXPECT_EQ(bytes, hex("0400 0035 0012 0000"));
  bytes = bytes + random_bytes(10) + Bytes(8);
  const auto view = UdpView::parse(bytes);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->src_port(), 1024);
  EXPECT_EQ(view->dst_port(), 53);
  EXPECT_EQ(view->length(), 18);
  EXPECT_EQ(view->checksum(), 0);
  EXPECT_EQ(view->payload().size(), 10u);
  EXPECT_EQ(view->bytes().size(), 18u);
}

TEST(Udp, RefusesEveryTruncationAndBadLengths) {
  const Bytes bytes = hex("0400 0035 000a 0000 0102");
  wire_test::for_every_truncation(bytes, [](auto cut) {
    EXPECT_FALSE(UdpView::parse(cut));
    const auto quoted = UdpView::parse_truncated(cut);
    EXPECT_EQ(quoted.has_value(), cut.size() >= 8);
    if (quoted) {
      EXPECT_EQ(quoted->payload().size(), cut.size() - 8);
    }
  });
  EXPECT_FALSE(UdpView::parse(hex("0400 0035 0007 0000")));
  EXPECT_FALSE(UdpView::parse(hex("0400 0035 0000 0000")));
  EXPECT_FALSE(UdpView::parse(hex("0400 0035 0009 0000")));
}

TEST(Udp, SettersWriteTheirFieldOnly) {
  Bytes bytes = hex("0400 0035 0008 0000");
  const auto view = UdpMut::parse(bytes);
  view->set_src_port(0x1111);
  view->set_dst_port(0x2222);
  view->set_checksum(0x3333);
  EXPECT_EQ(bytes, hex("1111 2222 0008 3333"));
  EXPECT_EQ(UdpView(*view).dst_port(), 0x2222);
}

TEST(Udp, EmitRefusesWhatCannotBe) {
  Bytes room(8);
  EXPECT_EQ((UdpHeader{.payload_length = 65527}.emit(room)), 8u);
  EXPECT_EQ((UdpHeader{.payload_length = 65528}.emit(room)), 0u);
  EXPECT_EQ((UdpHeader{}.emit(std::span(room).first(7))), 0u);
}

const Bytes mss_and_scale = hex("02 04 05b4 01 03 03 07");

Bytes tcp_segment() {
  const TcpHeader header{.src_port = 1024,
                         .dst_port = 80,
                         .sequence = 0x01020304,
                         .acknowledgment = 0x05060708,
                         .flags = tcp_flag::syn | tcp_flag::ack,
                         .window = 0x7210,
                         .urgent_pointer = 0x99,
                         .options = mss_and_scale};
  Bytes bytes(header.size());
  EXPECT_EQ(header.emit(bytes), 28u);
  return bytes;
}

TEST(Tcp, ReadsWhatItEmits) {
  const Bytes bytes = tcp_segment() + random_bytes(5);
  EXPECT_EQ(Bytes(bytes.begin(), bytes.begin() + 28),
            hex("0400 0050 01020304 05060708 7012 7210 0000 0099 020405b4 01030307"));
  const auto view = TcpView::parse(bytes);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->src_port(), 1024);
  EXPECT_EQ(view->dst_port(), 80);
  EXPECT_EQ(view->sequence(), 0x01020304u);
  EXPECT_EQ(view->acknowledgment(), 0x05060708u);
  EXPECT_EQ(view->header_length(), 28u);
  EXPECT_TRUE(view->has(tcp_flag::syn));
  EXPECT_TRUE(view->has(tcp_flag::syn | tcp_flag::ack));
  EXPECT_FALSE(view->has(tcp_flag::syn | tcp_flag::fin));
  EXPECT_EQ(view->window(), 0x7210);
  EXPECT_EQ(view->urgent_pointer(), 0x99);
  EXPECT_EQ(view->payload().size(), 5u);
  ASSERT_TRUE(view->option(tcp_option::mss));
  EXPECT_EQ(load16(view->option(tcp_option::mss)->data), 1460);
  EXPECT_EQ(view->option(tcp_option::window_scale)->data.size(), 1u);
  EXPECT_FALSE(view->option(tcp_option::timestamps));
}

TEST(Tcp, RefusesEveryTruncationAndBadOffsets) {
  wire_test::for_every_truncation(tcp_segment(), [](auto cut) { EXPECT_FALSE(TcpView::parse(cut)); });
  for (unsigned offset = 0; offset < 16; ++offset) {
    Bytes bytes = tcp_segment();
    bytes[12] = static_cast<std::byte>(offset << 4);
    EXPECT_EQ(TcpView::parse(bytes).has_value(), offset >= 5 && offset <= 7) << offset;
  }
}

TEST(Tcp, SettersWriteTheirFieldOnly) {
  Bytes bytes = tcp_segment();
  const auto view = TcpMut::parse(bytes);
  view->set_src_port(0x1111);
  view->set_dst_port(0x2222);
  view->set_sequence(0x33333333);
  view->set_acknowledgment(0x44444444);
  view->set_flags(tcp_flag::rst);
  view->set_window(0x5555);
  view->set_checksum(0x6666);
  view->set_urgent_pointer(0x7777);
  EXPECT_EQ(bytes, hex("1111 2222 33333333 44444444 7004 5555 6666 7777 020405b4 01030307"));
}

TEST(Tcp, EmitRefusesWhatCannotBe) {
  Bytes room(100);
  const Bytes options(41);
  EXPECT_EQ((TcpHeader{.options = std::span(options).first(40)}.emit(room)), 60u);
  EXPECT_EQ((TcpHeader{.options = options}.emit(room)), 0u);
  EXPECT_EQ((TcpHeader{.options = std::span(options).first(1)}.emit(room)), 24u);
  EXPECT_EQ((TcpHeader{}.emit(std::span(room).first(19))), 0u);
}

TEST(Icmp, EchoReadsWhatItEmits) {
  Bytes bytes(8);
  EXPECT_EQ(IcmpHeader::echo(IcmpType::echo_request, 0x1234, 7).emit(bytes), 8u);
  EXPECT_EQ(bytes, hex("08 00 0000 1234 0007"));
  bytes = bytes + random_bytes(3);
  const auto view = IcmpView::parse(bytes);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->type(), IcmpType::echo_request);
  EXPECT_EQ(view->code(), 0);
  EXPECT_EQ(view->identifier(), 0x1234);
  EXPECT_EQ(view->sequence(), 7);
  EXPECT_EQ(view->payload().size(), 3u);
  Bytes six(8);
  Icmpv6Header::echo(Icmpv6Type::echo_reply, 0x1234, 7).emit(six);
  EXPECT_EQ(six, hex("81 00 0000 1234 0007"));
}

TEST(Icmp, ErrorsQuoteAndHaveAnMtu) {
  const Bytes four = hex("03 04 0000 0000 05dc 45");
  EXPECT_EQ(IcmpView::parse(four)->mtu(), 1500u);
  EXPECT_EQ(IcmpView::parse(four)->payload().size(), 1u);
  EXPECT_EQ(Icmpv6View::parse(hex("02 00 0000 00010000"))->mtu(), 65536u);
  EXPECT_TRUE(is_error(IcmpType::destination_unreachable));
  EXPECT_FALSE(is_error(IcmpType::echo_reply));
  EXPECT_TRUE(is_query(IcmpType::timestamp_reply));
  EXPECT_FALSE(is_query(IcmpType::time_exceeded));
  EXPECT_TRUE(is_error(Icmpv6Type::packet_too_big));
  EXPECT_TRUE(is_query(Icmpv6Type::echo_request));
  EXPECT_FALSE(is_query(Icmpv6Type::neighbor_solicitation));
}

TEST(Icmp, RefusesEveryTruncation) {
  wire_test::for_every_truncation(hex("08 00 0000 1234 0007"), [](auto cut) {
    EXPECT_FALSE(IcmpView::parse(cut));
    EXPECT_FALSE(Icmpv6View::parse(cut));
    EXPECT_EQ(IcmpHeader{}.emit(cut), 0u);
  });
}

TEST(Icmp, SettersWriteTheirFieldOnly) {
  Bytes bytes(8);
  const auto view = IcmpMut::parse(bytes);
  view->set_type(IcmpType::redirect);
  view->set_code(1);
  view->set_checksum(0x2222);
  view->set_rest(0x33334444);
  EXPECT_EQ(bytes, hex("05 01 2222 3333 4444"));
  view->set_identifier(0x5555);
  view->set_sequence(0x6666);
  EXPECT_EQ(bytes, hex("05 01 2222 5555 6666"));
}

}  // namespace
