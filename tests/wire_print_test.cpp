#include "efnet/wire/print.h"

#include <gtest/gtest.h>

#include "tests/support/wire_bytes.h"

using efnet::frame_text;
using wire_test::Bytes;
using wire_test::hex;
using wire_test::operator+;

namespace {

const char macs[] = "02:00:00:00:00:01 > 02:00:00:00:00:02, ";
const Bytes ethernet = hex("020000000002 020000000001");

// The text after the addresses.
std::string text(const Bytes& rest) {
  const std::string line = frame_text(ethernet + rest);
  EXPECT_TRUE(line.starts_with(macs)) << line;
  return line.substr(sizeof macs - 1);
}

TEST(Print, Udp) {
  EXPECT_EQ(text(hex("0800 4500 0020 0000 0000 4011 0000 0a000001 0a000002 0400 0035 000c 0000 01020304") + Bytes(14)),
            "ethertype IPv4 (0x0800), length 60: 10.0.0.1.1024 > 10.0.0.2.53: UDP, length 4");
}

TEST(Print, TcpWithOptionsBehindTags) {
  EXPECT_EQ(text(hex("88a8 2064 8100 10c8 86dd 60000000 001c 06 40 20010db8000000000000000000000001"
                     "20010db8000000000000000000000002 0400 0050 00000001 00000002 7012 ffff 0000 0000"
                     "020405b4 01 030307")),
            "ethertype 802.1Q-QinQ (0x88a8), length 90: vlan 100, p 1, ethertype 802.1Q (0x8100), vlan 200, p 0, DEI, "
            "ethertype IPv6 (0x86dd), 2001:db8::1.1024 > 2001:db8::2.80: Flags [S.], seq 1, ack 2, win 65535, "
            "options [mss 1460,nop,wscale 7], length 0");
}

TEST(Print, Arp) {
  EXPECT_EQ(text(hex("0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002")),
            "ethertype ARP (0x0806), length 42: Request who-has 10.0.0.2 tell 10.0.0.1, length 28");
  EXPECT_EQ(text(hex("0806 0001 0800 06 04 0002 020000000001 0a000001 020000000002 0a000002")),
            "ethertype ARP (0x0806), length 42: Reply 10.0.0.1 is-at 02:00:00:00:00:01, length 28");
}

TEST(Print, Icmp) {
  EXPECT_EQ(text(hex("0800 4500 001c 0000 0000 4001 0000 0a000001 0a000002 0800 0000 1234 0007")),
            "ethertype IPv4 (0x0800), length 42: 10.0.0.1 > 10.0.0.2: ICMP echo request, id 4660, seq 7, length 8");
  EXPECT_EQ(text(hex("86dd 60000000 0008 3a 40 20010db8000000000000000000000001 20010db8000000000000000000000002"
                     "0200 0000 00000500")),
            "ethertype IPv6 (0x86dd), length 62: 2001:db8::1 > 2001:db8::2: ICMP6, packet too big, mtu 1280, length 8");
}

TEST(Print, Fragments) {
  EXPECT_EQ(text(hex("0800 4500 001c 0007 2001 4011 0000 0a000001 0a000002 0000000000000000")),
            "ethertype IPv4 (0x0800), length 42: 10.0.0.1 > 10.0.0.2: ip-proto-17 (frag 7:8@8+)");
  EXPECT_EQ(text(hex("0800 4500 001c 0007 2000 4011 0000 0a000001 0a000002 0400 0035 0100 0000")),
            "ethertype IPv4 (0x0800), length 42: 10.0.0.1.1024 > 10.0.0.2.53: UDP, length 248 (frag 7:8@0+)");
}

TEST(Print, WhatCannotBeRead) {
  EXPECT_EQ(frame_text(hex("0200")), "[malformed Ethernet header], length 2");
  EXPECT_EQ(text(hex("0026 4242 03")), "802.3, length 17: 3 bytes");
  EXPECT_EQ(text(hex("0800 45")), "ethertype IPv4 (0x0800), length 15: IP [malformed]");
  EXPECT_EQ(text(hex("0800 4500 0060 0000 0000 4011 0000 0a000001 0a000002 0400 0035 004c 0000")),
            "ethertype IPv4 (0x0800), length 42: 10.0.0.1.1024 > 10.0.0.2.53: UDP, length 68 "
            "[truncated: 28 of 96 bytes of IP]");
}

TEST(Print, EveryTruncationHasAText) {
  const Bytes frame =
      ethernet + hex("88a8 2064 8100 10c8 86dd 60000000 0028 00 40 20010db8000000000000000000000001"
                     "20010db8000000000000000000000002 3c00010400000000 2c00010400000000 0600000112345678"
                     "0400 0050 00000001 00000002 7012 ffff 0000 0000 020405b4 01 030307");
  wire_test::for_every_truncation(frame, [](auto cut) { EXPECT_FALSE(frame_text(cut).empty()); });
}

}  // namespace
