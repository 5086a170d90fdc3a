#include "efnet/wire/checksum.h"

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
using wire_test::random_bytes;
using wire_test::six_a;
using wire_test::six_b;

namespace {

// The slow way: pseudo-header and data side by side in one buffer.
std::uint16_t slow4(const Bytes& transport, IpProtocol protocol) {
  Bytes all(12);
  four_a.store(all.data());
  four_b.store(all.data() + 4);
  store8(all.data() + 9, static_cast<std::uint8_t>(protocol));
  store16(all.data() + 10, static_cast<std::uint16_t>(transport.size()));
  return efio::checksum(all + transport);
}

std::uint16_t slow6(const Bytes& transport, IpProtocol protocol) {
  Bytes all(40);
  six_a.store(all.data());
  six_b.store(all.data() + 16);
  store32(all.data() + 32, static_cast<std::uint32_t>(transport.size()));
  store8(all.data() + 39, static_cast<std::uint8_t>(protocol));
  return efio::checksum(all + transport);
}

TEST(WireChecksum, PseudoHeadersAreThoseOfTheRfcs) {
  const Bytes transport = random_bytes(33);
  const auto sum = efio::checksum_partial(transport);
  EXPECT_EQ(efio::checksum_finish(sum + pseudo_header(four_a, four_b, IpProtocol::udp, 33)),
            slow4(transport, IpProtocol::udp));
  EXPECT_EQ(efio::checksum_finish(sum + pseudo_header(six_a, six_b, IpProtocol::tcp, 33)),
            slow6(transport, IpProtocol::tcp));
}

TEST(WireChecksum, FillsAndVerifiesEveryTransportOfIpv4) {
  const Bytes options(8);
  for (const auto protocol : {IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmp})
    for (const bool with_options : {false, true})
      for (std::size_t payload = 0; payload < 200; ++payload) {
        Bytes bytes = packet4(protocol, payload, with_options ? std::span(options) : std::span<const std::byte>());
        const auto packet = Ipv4Mut::parse(bytes);
        ASSERT_TRUE(fill_transport(*packet));
        ASSERT_EQ(verify_transport(*packet), ChecksumState::right);
        const std::size_t field = packet->header_length() + (protocol == IpProtocol::udp   ? 6u
                                                             : protocol == IpProtocol::tcp ? 16u
                                                                                           : 2u);
        Bytes transport(packet->payload().begin(), packet->payload().end());
        store16(transport, field - packet->header_length(), 0);
        ASSERT_EQ(load16(bytes, field),
                  protocol == IpProtocol::icmp ? efio::checksum(transport) : slow4(transport, protocol));
        bytes[bytes.size() - 1] ^= std::byte{1};
        ASSERT_EQ(verify_transport(*packet), ChecksumState::wrong);
      }
}

TEST(WireChecksum, FillsAndVerifiesEveryTransportOfIpv6) {
  for (const auto protocol : {IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmpv6})
    for (const bool with_extension : {false, true})
      for (std::size_t payload = 0; payload < 200; ++payload) {
        Bytes extension = hex("11 00 0104 00000000");
        extension[0] = static_cast<std::byte>(protocol);
        Bytes bytes = packet6(protocol, payload, with_extension ? extension : Bytes());
        const auto packet = Ipv6Mut::parse(bytes);
        ASSERT_TRUE(fill_transport(*packet));
        ASSERT_EQ(verify_transport(*packet), ChecksumState::right);
        const std::size_t field = protocol == IpProtocol::udp ? 6 : protocol == IpProtocol::tcp ? 16 : 2;
        const auto transport_bytes = packet->payload().subspan(with_extension ? 8 : 0);
        Bytes transport(transport_bytes.begin(), transport_bytes.end());
        store16(transport, field, 0);
        ASSERT_EQ(load16(transport_bytes, field), slow6(transport, protocol));
        bytes[bytes.size() - 1] ^= std::byte{1};
        ASSERT_EQ(verify_transport(*packet), ChecksumState::wrong);
      }
}

// An echo reply of zeros alone: the only sum that is 0 and not 0xFFFF.
TEST(WireChecksum, IcmpOfZerosAloneHasAllOnes) {
  const Ipv4Header header{.protocol = IpProtocol::icmp, .payload_length = 12};
  Bytes bytes(32);
  header.emit(bytes);
  for (const std::uint16_t before : {0x0000, 0xFFFF, 0x1234}) {
    store16(bytes, 22, before);
    ASSERT_TRUE(fill_transport(*Ipv4Mut::parse(bytes)));
    EXPECT_EQ(load16(bytes, 22), 0xFFFF);
    EXPECT_EQ(verify_transport(*Ipv4View::parse(bytes)), ChecksumState::right);
  }
}

TEST(WireChecksum, FillDoesNotMindWhatWasThere) {
  Bytes bytes = framed(EtherType::ipv4, packet4(IpProtocol::udp, 5));
  fill_frame(bytes);
  const Bytes expected = bytes;
  for (std::uint32_t before = 0; before <= 0xFFFF; ++before) {
    store16(bytes, 18 + 10, static_cast<std::uint16_t>(before));
    store16(bytes, 18 + 26, static_cast<std::uint16_t>(before));
    fill_frame(bytes);
    ASSERT_EQ(bytes, expected) << before;
  }
}

TEST(WireChecksum, SaysUnknownWhereItCannotKnow) {
  Bytes fragment = packet4(IpProtocol::udp, 20);
  Ipv4Mut::parse(fragment)->set_fragment_field(0x2000);
  EXPECT_EQ(verify_transport(*Ipv4View::parse(fragment)), ChecksumState::unknown);
  const Bytes before = fragment;
  EXPECT_FALSE(fill_transport(*Ipv4Mut::parse(fragment)));
  EXPECT_EQ(fragment, before);

  Bytes other = packet4(IpProtocol::udp, 20);
  Ipv4Mut::parse(other)->set_protocol(IpProtocol::sctp);
  EXPECT_EQ(verify_transport(*Ipv4View::parse(other)), ChecksumState::unknown);
  Ipv4Mut::parse(other)->set_protocol(IpProtocol::icmpv6);
  EXPECT_EQ(verify_transport(*Ipv4View::parse(other)), ChecksumState::unknown);

  Bytes cut = packet4(IpProtocol::tcp, 20);
  cut.resize(45);
  EXPECT_EQ(verify_transport(*Ipv4View::parse_truncated(cut)), ChecksumState::unknown);

  Bytes routed = packet6(IpProtocol::udp, 20, hex("2b 00 0104 00000000  11 00 0001 00000000"));
  EXPECT_EQ(verify_transport(*Ipv6View::parse(routed)), ChecksumState::unknown);
}

TEST(WireChecksum, PaddingIsNotSummed) {
  Bytes bytes = packet4(IpProtocol::udp, 1) + random_bytes(17);
  ASSERT_TRUE(fill_transport(*Ipv4Mut::parse(bytes)));
  bytes[40] ^= std::byte{0xFF};
  EXPECT_EQ(verify_transport(*Ipv4View::parse(bytes)), ChecksumState::right);
}

TEST(WireChecksum, FramesAreFilledAndVerifiedBehindTags) {
  for (const bool four : {true, false}) {
    Bytes bytes = four ? framed(EtherType::ipv4, packet4(IpProtocol::tcp, 11))
                       : framed(EtherType::ipv6, packet6(IpProtocol::icmpv6, 11));
    EXPECT_EQ(verify_frame(bytes), ChecksumState::wrong);
    EXPECT_TRUE(fill_frame(bytes));
    EXPECT_EQ(verify_frame(bytes), ChecksumState::right);
    if (four) {
      bytes[18 + 8] ^= std::byte{1};  // TTL: only the header's checksum covers it
      EXPECT_EQ(verify_frame(bytes), ChecksumState::wrong);
    }
    wire_test::for_every_truncation(bytes, [](auto cut) {
      EXPECT_EQ(verify_frame(cut), ChecksumState::unknown);
      EXPECT_FALSE(fill_frame(cut));
    });
  }
}

// RFC 768; RFC 8200, 8.1.
TEST(UdpChecksum, ZeroMeansNoneInIpv4AndIsWrongInIpv6) {
  EXPECT_EQ(verify_transport(*Ipv4View::parse(packet4(IpProtocol::udp, 4))), ChecksumState::absent);
  EXPECT_EQ(verify_transport(*Ipv6View::parse(packet6(IpProtocol::udp, 4))), ChecksumState::wrong);
}

TEST(UdpChecksum, ComputedZeroIsSentAsAllOnes) {
  for (const bool four : {true, false}) {
    Bytes bytes = four ? packet4(IpProtocol::udp, 4) : packet6(IpProtocol::udp, 4);
    const std::size_t udp = four ? 20 : 40;
    const auto fill = [&] {
      if (four)
        ASSERT_TRUE(fill_transport(*Ipv4Mut::parse(bytes)));
      else
        ASSERT_TRUE(fill_transport(*Ipv6Mut::parse(bytes)));
    };
    store32(bytes, udp + 8, 0);
    fill();
    const std::uint16_t without = load16(bytes, udp + 6);
    store16(bytes, udp + 8, without);  // makes the sum all ones
    fill();
    EXPECT_EQ(load16(bytes, udp + 6), 0xFFFF);
    EXPECT_EQ(four ? verify_transport(*Ipv4View::parse(bytes)) : verify_transport(*Ipv6View::parse(bytes)),
              ChecksumState::right);
  }
}

// RFC 1624, 4.
TEST(ChecksumUpdate, ExampleOfRfc1624) {
  EXPECT_EQ(update16(0xDD2F, 0x5555, 0x3285), 0x0000);
  static_assert(update16(0xDD2F, 0x5555, 0x3285) == 0);
}

// Equation 3, as it is written.
std::uint16_t equation_3(std::uint16_t checksum, std::uint16_t before, std::uint16_t after) {
  std::uint32_t sum =
      std::uint32_t{static_cast<std::uint16_t>(~checksum)} + static_cast<std::uint16_t>(~before) + after;
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

TEST(ChecksumUpdate, IsEquation3ForEveryChecksumAndDelta) {
  for (std::uint32_t checksum = 0; checksum <= 0xFFFF; checksum += 1)
    for (std::uint32_t after = checksum % 251; after <= 0xFFFF; after += 251) {
      const auto hc = static_cast<std::uint16_t>(checksum);
      const auto m = static_cast<std::uint16_t>(0x5555);
      const auto m2 = static_cast<std::uint16_t>(after);
      ASSERT_EQ(update16(hc, m, m2), equation_3(hc, m, m2)) << checksum << ' ' << after;
    }
}

TEST(ChecksumUpdate, EqualsRecomputingForAll65536Deltas) {
  for (const char* start : {"0000", "5555", "ffff", "8000"}) {
    Bytes header = hex("4500 0073 0000 4000 4011 0000 c0a8 0001 c0a8 00c7");
    const Bytes value = hex(start);
    std::copy(value.begin(), value.end(), header.begin() + 4);
    const std::uint16_t before = load16(header, 4);
    const std::uint16_t checksum = efio::checksum(header);
    for (std::uint32_t delta = 0; delta <= 0xFFFF; ++delta) {
      const auto after = static_cast<std::uint16_t>(before + delta);
      store16(header, 4, after);
      ASSERT_EQ(update16(checksum, before, after), efio::checksum(header)) << before << ' ' << after;
    }
  }
}

TEST(ChecksumUpdate, WiderFieldsEqualRecomputing) {
  std::mt19937_64 random(1624);
  for (int i = 0; i < 100'000; ++i) {
    Bytes bytes = random_bytes(40, static_cast<unsigned>(i));
    const std::uint16_t checksum = efio::checksum(bytes);
    const std::uint64_t value = i % 3 == 0 ? random() : i % 3 == 1 ? 0 : ~std::uint64_t{0};
    const std::uint32_t before32 = load32(bytes, 4);
    store32(bytes, 4, static_cast<std::uint32_t>(value));
    ASSERT_EQ(update32(checksum, before32, static_cast<std::uint32_t>(value)), efio::checksum(bytes));
    const std::uint16_t now = efio::checksum(bytes);
    const std::uint64_t before64 = load64(bytes, 8);
    store64(bytes, 8, value);
    ASSERT_EQ(update(now, checksum_delta(before64, value)), efio::checksum(bytes));
    const std::uint16_t then = efio::checksum(bytes);
    const auto before128 = Ipv6Address::load(bytes.data() + 16);
    const auto after128 = Ipv6Address::from_numbers(random(), value);
    after128.store(bytes.data() + 16);
    ASSERT_EQ(update(then, checksum_delta(before128, after128)), efio::checksum(bytes));
  }
}

TEST(ChecksumUpdate, AddressAndPortMendBothChecksums) {
  for (const auto protocol : {IpProtocol::udp, IpProtocol::tcp}) {
    Bytes bytes = framed(EtherType::ipv4, packet4(protocol, 13));
    ASSERT_TRUE(fill_frame(bytes));
    const auto packet = Ipv4Mut::parse(std::span(bytes).subspan(18));
    const Ipv4Address to(198, 51, 100, 2);
    const auto address = checksum_delta(packet->src(), to);
    const auto all = address + checksum_delta(load16(packet->payload()), std::uint16_t{40000});
    packet->set_src(to);
    packet->set_checksum(update(packet->checksum(), address));
    if (protocol == IpProtocol::udp) {
      const auto udp = UdpMut::parse(packet->payload());
      udp->set_src_port(40000);
      udp->set_checksum(update_udp(udp->checksum(), all));
    } else {
      const auto tcp = TcpMut::parse(packet->payload());
      tcp->set_src_port(40000);
      tcp->set_checksum(update(tcp->checksum(), all));
    }
    EXPECT_EQ(verify_frame(bytes), ChecksumState::right);
    const Bytes updated = bytes;
    fill_frame(bytes);
    EXPECT_EQ(bytes, updated);
  }
}

// K3: none stays none, and a computed 0 is never sent as none.
TEST(ChecksumUpdate, UdpZeroRule) {
  EXPECT_EQ(update_udp(0, checksum_delta(std::uint16_t{1}, std::uint16_t{2})), 0);
  EXPECT_EQ(update_udp(0xDD2F, checksum_delta(std::uint16_t{0x5555}, std::uint16_t{0x3285})), 0xFFFF);
  Bytes bytes = packet4(IpProtocol::udp, 4);
  ASSERT_TRUE(fill_transport(*Ipv4Mut::parse(bytes)));
  for (std::uint32_t port = 0; port <= 0xFFFF; ++port) {
    const auto udp = UdpMut::parse(Ipv4Mut::parse(bytes)->payload());
    const auto after = static_cast<std::uint16_t>(port);
    const std::uint16_t updated = update_udp(udp->checksum(), checksum_delta(udp->dst_port(), after));
    udp->set_dst_port(after);
    fill_transport(*Ipv4Mut::parse(bytes));
    ASSERT_EQ(updated, udp->checksum()) << port;
    ASSERT_NE(updated, 0);
  }
}

}  // namespace
