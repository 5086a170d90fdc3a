#include "efnet/wire/ndp.h"

#include <gtest/gtest.h>

#include <functional>

#include "efnet/wire/checksum.h"
#include "tests/support/wire_bytes.h"

using namespace efnet;
using wire_test::operator+;
using wire_test::Bytes;
using wire_test::hex;

namespace {

const Ipv6Address us = *Ipv6Address::parse("fe80::1");
const Ipv6Address peer = *Ipv6Address::parse("fe80::ab:cdef");
const MacAddress mac(2, 0, 0, 0, 0, 1);

Bytes packet(const Bytes& message, const Ipv6Address& src = us, const Ipv6Address& dst = peer,
             std::uint8_t hops = 255) {
  Bytes bytes(40);
  Ipv6Header{
      .src = src, .dst = dst, .next_header = IpProtocol::icmpv6, .payload_length = message.size(), .hop_limit = hops}
      .emit(bytes);
  bytes = bytes + message;
  fill_transport(*Ipv6Mut::parse(bytes));
  return bytes;
}

Bytes message_of(const NdpNeighborMessage& message) {
  Bytes bytes(message.size());
  EXPECT_EQ(message.emit(bytes), bytes.size());
  return bytes;
}

const Bytes advertisement =
    hex("86 00 0000 40 c0 0708 0000ea60 000003e8"
        "01 01 02000000000a"
        "05 01 0000 000005dc"
        "03 04 40 c0 00278d00 00093a80 00000000 20010db8000000010000000000000000");
const Bytes redirect = hex("89 00 0000 00000000 fe800000000000000000000000000002 20010db8000000000000000000000009");

NdpFault fault(const Bytes& bytes) { return ndp_fault(*Ipv6View::parse(bytes)); }

TEST(Ndp, SolicitedNodeAndGroupAddresses) {
  EXPECT_EQ(to_string(solicited_node(peer)), "ff02::1:ffab:cdef");
  EXPECT_EQ(to_string(group_mac(solicited_node(peer))), "33:33:ff:ab:cd:ef");
}

TEST(Ndp, EmitsTheBytesOfTheRfc) {
  EXPECT_EQ(message_of({.target = peer, .link_address = mac}),
            hex("87 00 0000 00000000 fe80000000000000 0000000000abcdef 01 01 020000000001"));
  EXPECT_EQ(message_of({.type = Icmpv6Type::neighbor_advertisement,
                        .target = us,
                        .link_address = mac,
                        .router = true,
                        .solicited = true,
                        .override = true}),
            hex("88 00 0000 e0000000 fe80000000000000 0000000000000001 02 01 020000000001"));
  EXPECT_EQ(message_of({.target = peer}).size(), 24U);
  Bytes room(31);
  EXPECT_EQ((NdpNeighborMessage{.target = peer, .link_address = mac}.emit(room)), 0U);
}

TEST(Ndp, ReadsNeighborMessages) {
  const auto bytes =
      message_of({.type = Icmpv6Type::neighbor_advertisement, .target = us, .link_address = mac, .solicited = true});
  const auto view = NdpNeighborView::parse(bytes);
  ASSERT_TRUE(view);
  EXPECT_FALSE(view->is_solicitation());
  EXPECT_FALSE(view->is_router());
  EXPECT_TRUE(view->is_solicited());
  EXPECT_FALSE(view->overrides());
  EXPECT_EQ(view->target(), us);
  EXPECT_EQ(view->link_address(), mac);
  EXPECT_FALSE(NdpNeighborView::parse(message_of({.target = peer}))->link_address());
  EXPECT_FALSE(NdpNeighborView::parse(advertisement));
}

TEST(Ndp, ReadsARouterAdvertisementAndItsOptions) {
  const auto view = NdpRouterView::parse(advertisement);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->hop_limit(), 64);
  EXPECT_TRUE(view->managed());
  EXPECT_TRUE(view->other());
  EXPECT_EQ(view->lifetime(), 1800);
  EXPECT_EQ(view->reachable_ms(), 60'000U);
  EXPECT_EQ(view->retransmit_ms(), 1000U);
  EXPECT_EQ(find_ndp_option(view->options(), NdpOptionType::source_link_address)->link_address(),
            MacAddress(2, 0, 0, 0, 0, 10));
  EXPECT_EQ(find_ndp_option(view->options(), NdpOptionType::mtu)->mtu(), 1500U);
  const auto prefix = NdpPrefix::parse(*find_ndp_option(view->options(), NdpOptionType::prefix_information));
  ASSERT_TRUE(prefix);
  EXPECT_EQ(to_string(prefix->prefix), "2001:db8:0:1::/64");
  EXPECT_TRUE(prefix->on_link);
  EXPECT_TRUE(prefix->autonomous);
  EXPECT_EQ(prefix->valid, 2'592'000U);
  EXPECT_EQ(prefix->preferred, 604'800U);
  EXPECT_FALSE(find_ndp_option(view->options(), NdpOptionType::redirected_header));
}

TEST(Ndp, ReadsARedirect) {
  const auto view = NdpRedirectView::parse(redirect);
  ASSERT_TRUE(view);
  EXPECT_EQ(to_string(view->target()), "fe80::2");
  EXPECT_EQ(to_string(view->destination()), "2001:db8::9");
  EXPECT_TRUE(view->options().empty());
}

TEST(Ndp, RefusesEveryTruncation) {
  wire_test::for_every_truncation(std::span(redirect), [](auto cut) { EXPECT_FALSE(NdpRedirectView::parse(cut)); });
  wire_test::for_every_truncation(std::span(advertisement).first(16),
                                  [](auto cut) { EXPECT_FALSE(NdpRouterView::parse(cut)); });
  wire_test::for_every_truncation(message_of({.target = peer}),
                                  [](auto cut) { EXPECT_FALSE(NdpNeighborView::parse(cut)); });
  wire_test::for_every_truncation(std::span(advertisement).subspan(16), [](auto cut) {
    NdpOptionWalk walk(cut);
    while (walk.next()) {}
    EXPECT_EQ(walk.malformed(), cut.size() != 0 && cut.size() != 8 && cut.size() != 16);
  });
}

TEST(Ndp, BelievesWhatIsRight) {
  EXPECT_EQ(fault(packet(message_of({.target = peer, .link_address = mac}))), NdpFault::none);
  EXPECT_EQ(fault(packet(message_of({.type = Icmpv6Type::neighbor_advertisement, .target = us, .solicited = true}))),
            NdpFault::none);
  EXPECT_EQ(fault(packet(advertisement)), NdpFault::none);
  EXPECT_EQ(fault(packet(redirect)), NdpFault::none);
  EXPECT_EQ(fault(packet(hex("85 00 0000 00000000"), Ipv6Address())), NdpFault::none);
  // Duplicate address detection (RFC 4862): from :: to the solicited-node address.
  EXPECT_EQ(fault(packet(message_of({.target = peer}), Ipv6Address(), solicited_node(peer))), NdpFault::none);
}

TEST(Ndp, FindsEveryFault) {
  const Bytes solicitation = message_of({.target = peer, .link_address = mac});
  const auto changed = [](Bytes bytes, std::size_t at, int value) {
    bytes[at] = static_cast<std::byte>(value);
    return bytes;
  };
  const Ipv6Address all_nodes = *Ipv6Address::parse("ff02::1");
  const Ipv6Address global = *Ipv6Address::parse("2001:db8::1");
  EXPECT_EQ(fault(packet(hex("80 00 0000 00000000"))), NdpFault::not_ndp);
  EXPECT_EQ(fault(packet(solicitation, us, peer, 254)), NdpFault::hop_limit);
  EXPECT_EQ(fault(packet(Bytes(solicitation.begin(), solicitation.begin() + 23))), NdpFault::truncated);
  EXPECT_EQ(fault(changed(packet(solicitation), 44, 1)), NdpFault::checksum);
  EXPECT_EQ(fault(packet(changed(solicitation, 1, 1))), NdpFault::code);
  EXPECT_EQ(fault(packet(changed(solicitation, 25, 0))), NdpFault::options);
  EXPECT_EQ(fault(packet(changed(solicitation, 25, 2))), NdpFault::options);
  EXPECT_EQ(fault(packet(message_of({.target = all_nodes}))), NdpFault::target);
  EXPECT_EQ(fault(packet(message_of({.type = Icmpv6Type::neighbor_advertisement, .target = all_nodes}))),
            NdpFault::target);
  EXPECT_EQ(fault(packet(solicitation, Ipv6Address(), solicited_node(peer))), NdpFault::link_option);
  EXPECT_EQ(fault(packet(message_of({.target = peer}), Ipv6Address(), peer)), NdpFault::source);
  EXPECT_EQ(fault(packet(message_of({.type = Icmpv6Type::neighbor_advertisement, .target = us, .solicited = true}), us,
                         all_nodes)),
            NdpFault::solicited);
  EXPECT_EQ(fault(packet(advertisement, global)), NdpFault::source);
  EXPECT_EQ(fault(packet(redirect, global)), NdpFault::source);
  EXPECT_EQ(fault(packet(changed(redirect, 8, 0x20))), NdpFault::target);
  EXPECT_EQ(fault(packet(changed(redirect, 24, 0xFF))), NdpFault::target);
}

}  // namespace
