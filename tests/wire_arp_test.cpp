#include "efnet/wire/arp.h"

#include <gtest/gtest.h>

#include "tests/support/wire_bytes.h"

using namespace efnet;
using wire_test::Bytes;
using wire_test::hex;

namespace {

const Bytes request = hex("0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002");

TEST(Arp, EmitsTheBytesOfRfc826) {
  const ArpPacket packet{.sender_mac = {2, 0, 0, 0, 0, 1}, .sender_ip = {10, 0, 0, 1}, .target_ip = {10, 0, 0, 2}};
  Bytes bytes(28);
  EXPECT_EQ(packet.emit(bytes), 28u);
  EXPECT_EQ(bytes, request);
}

TEST(Arp, ReadsEveryField) {
  const Bytes bytes = hex("0001 0800 06 04 0002 020000000002 0a000002 020000000001 0a000001 00000000");
  const auto view = ArpView::parse(bytes);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->operation(), ArpOperation::reply);
  EXPECT_EQ(view->sender_mac(), MacAddress(2, 0, 0, 0, 0, 2));
  EXPECT_EQ(view->sender_ip(), Ipv4Address(10, 0, 0, 2));
  EXPECT_EQ(view->target_mac(), MacAddress(2, 0, 0, 0, 0, 1));
  EXPECT_EQ(view->target_ip(), Ipv4Address(10, 0, 0, 1));
  EXPECT_EQ(view->bytes().size(), 28u);
}

TEST(Arp, RefusesEveryTruncation) {
  wire_test::for_every_truncation(request, [](auto cut) {
    EXPECT_FALSE(ArpView::parse(cut));
    EXPECT_EQ(arp_fault(cut), ArpFault::truncated);
    EXPECT_EQ(ArpPacket{}.emit(cut), 0u);
  });
}

// Requirement A3: each under its own reason.
TEST(Arp, RefusesWhatIsNotIpv4OverEthernet) {
  const auto fault = [](std::size_t index, std::uint8_t value) {
    Bytes bytes = request;
    bytes[index] = std::byte{value};
    EXPECT_EQ(ArpView::parse(bytes).has_value(), arp_fault(bytes) == ArpFault::none);
    return arp_fault(bytes);
  };
  EXPECT_EQ(fault(1, 1), ArpFault::none);
  EXPECT_EQ(fault(1, 6), ArpFault::hardware_type);
  EXPECT_EQ(fault(0, 1), ArpFault::hardware_type);
  EXPECT_EQ(fault(2, 0x86), ArpFault::protocol_type);
  EXPECT_EQ(fault(4, 8), ArpFault::hardware_length);
  EXPECT_EQ(fault(5, 16), ArpFault::protocol_length);
}

TEST(Arp, TellsProbesAndAnnouncements) {
  Bytes bytes = request;
  const auto view = ArpMut::parse(bytes);
  EXPECT_FALSE(view->is_probe());
  EXPECT_FALSE(view->is_announcement());
  view->set_sender_ip({});
  EXPECT_TRUE(view->is_probe());
  view->set_target_ip({});
  EXPECT_FALSE(view->is_announcement());
  view->set_sender_ip({10, 0, 0, 2});
  view->set_target_ip({10, 0, 0, 2});
  EXPECT_TRUE(view->is_announcement());
  EXPECT_FALSE(view->is_probe());
}

TEST(Arp, SettersTurnARequestIntoItsReply) {
  Bytes bytes = request;
  const auto view = ArpMut::parse(bytes);
  view->set_operation(ArpOperation::reply);
  view->set_target_mac(view->sender_mac());
  view->set_target_ip(view->sender_ip());
  view->set_sender_mac({2, 0, 0, 0, 0, 2});
  view->set_sender_ip({10, 0, 0, 2});
  EXPECT_EQ(bytes, hex("0001 0800 06 04 0002 020000000002 0a000002 020000000001 0a000001"));
}

}  // namespace
