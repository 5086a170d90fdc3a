#pragma once

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "efnet/nat44/nat44.h"
#include "tests/support/wire_packets.h"

// A NAT, and packets that meet it: from builders, judged by views.

namespace nat_test {

using namespace efnet;
using namespace std::chrono_literals;
using wire_test::Bytes;
using wire_test::operator+;

inline const Ipv4Address host(10, 0, 0, 7);
inline const Ipv4Address other_host(10, 0, 0, 8);
inline const Ipv4Address server(203, 0, 113, 5);
inline const Ipv4Address other_server(203, 0, 113, 9);
inline const Ipv4Address pool_address(198, 51, 100, 1);
inline const Ipv4Address inside_router(10, 0, 0, 1);
inline const Ipv4Address outside_router(198, 51, 100, 254);

inline constexpr auto udp_protocol = IpProtocol::udp;
inline constexpr auto tcp_protocol = IpProtocol::tcp;
inline constexpr std::uint8_t ack = tcp_flag::ack, syn = tcp_flag::syn, fin = tcp_flag::fin, rst = tcp_flag::rst;

struct End {
  Ipv4Address address;
  std::uint16_t port = 0;
  friend bool operator==(const End&, const End&) = default;
};

struct Wish {
  std::uint8_t ttl = 64;
  std::size_t payload = 20;
  bool dont_fragment = false;
  std::uint8_t flags = tcp_flag::syn;
  IcmpType icmp = IcmpType::echo_request;
};

inline Bytes ip_packet(IpProtocol protocol, End from, End to, const Wish& wish = {}) {
  Bytes transport(20);
  std::size_t size = 0;
  if (protocol == IpProtocol::udp)
    size = UdpHeader{.src_port = from.port, .dst_port = to.port, .payload_length = wish.payload}.emit(transport);
  if (protocol == IpProtocol::tcp)
    size = TcpHeader{.src_port = from.port, .dst_port = to.port, .sequence = 1, .flags = wish.flags}.emit(transport);
  if (protocol == IpProtocol::icmp) size = IcmpHeader::echo(wish.icmp, from.port, 1).emit(transport);
  transport.resize(size);
  const Bytes body = transport + wire_test::random_bytes(wish.payload, 7);
  const Ipv4Header header{.src = from.address,
                          .dst = to.address,
                          .protocol = protocol,
                          .payload_length = body.size(),
                          .ttl = wish.ttl,
                          .dont_fragment = wish.dont_fragment};
  Bytes bytes(header.size());
  header.emit(bytes);
  return bytes + body;
}

inline Bytes in_frame(const Bytes& packet) {
  Bytes frame(EthernetView::min_header);
  EthernetHeader{.dst = MacAddress(2, 0, 0, 0, 0, 1), .src = MacAddress(2, 0, 0, 0, 0, 2)}.emit(frame);
  return frame + packet;
}
inline Bytes packet(IpProtocol protocol, End from, End to, const Wish& wish = {}) {
  Bytes frame = in_frame(ip_packet(protocol, from, to, wish));
  fill_frame(frame);
  return frame;
}
inline Bytes udp(End from, End to, const Wish& wish = {}) { return packet(IpProtocol::udp, from, to, wish); }
inline Bytes tcp(End from, End to, std::uint8_t flags) { return packet(IpProtocol::tcp, from, to, {.flags = flags}); }
inline Bytes echo(IcmpType type, Ipv4Address from, Ipv4Address to, std::uint16_t identifier) {
  return packet(IpProtocol::icmp, {from, identifier}, {to, identifier}, {.icmp = type});
}
// An ICMP error that quotes a frame's IP packet, its first `quoted` bytes.
inline Bytes error_about(const Bytes& frame, Ipv4Address from, Ipv4Address to, IcmpType type, std::uint8_t code,
                         std::size_t quoted = 28) {
  Bytes message(IcmpHeader::size());
  IcmpHeader{.type = type, .code = code}.emit(message);
  const auto begin = frame.begin() + EthernetView::min_header;
  message = message + Bytes(begin, begin + static_cast<std::ptrdiff_t>(std::min(quoted, frame.size() - 14)));
  Bytes header(Ipv4View::min_header);
  Ipv4Header{.src = from, .dst = to, .protocol = IpProtocol::icmp, .payload_length = message.size()}.emit(header);
  Bytes whole = in_frame(header + message);
  fill_frame(whole);
  return whole;
}

inline Ipv4View ip_of(const Bytes& frame) {
  return *Ipv4View::parse(std::span<const std::byte>(frame).subspan(EthernetView::min_header));
}
inline End from_of(const Bytes& frame) { return {parse_flow(frame).key.key4().src, parse_flow(frame).key.src_port}; }
inline End to_of(const Bytes& frame) { return {parse_flow(frame).key.key4().dst, parse_flow(frame).key.dst_port}; }

inline Nat44Options options() {
  Nat44Options result;
  result.pool.ranges = {{Ipv4Range{pool_address, pool_address}}};
  result.pool.seed = result.seed = HashSeed::from(1);
  result.inside = {*Ipv4Prefix::parse("10.0.0.0/8")};
  result.sessions = 1024;
  result.inside_address = inside_router;
  result.outside_address = outside_router;
  return result;
}

class Nat {
 public:
  explicit Nat(Nat44Options with = options()) : nat_(std::move(Nat44::create(std::move(with)).value())) {}

  NatVerdict outward(Bytes& frame) { return pass(NatSide::inside, frame); }
  NatVerdict inward(Bytes& frame) { return pass(NatSide::outside, frame); }

  // From `from` to `to`, which must pass; where it seems to come from.
  End sent(IpProtocol protocol, End from, End to, const Wish& wish = {}) {
    Bytes frame = packet(protocol, from, to, wish);
    EXPECT_EQ(outward(frame), NatVerdict::translated);
    EXPECT_EQ(verify_frame(frame), ChecksumState::right);
    EXPECT_EQ(to_of(frame).address, to.address);
    return from_of(frame);
  }
  // What became of a packet from outside, and where it went if it passed.
  NatVerdict received(IpProtocol protocol, End from, End to, const Wish& wish = {}) {
    Bytes frame = packet(protocol, from, to, wish);
    const NatVerdict verdict = inward(frame);
    if (verdict == NatVerdict::translated) {
      EXPECT_EQ(verify_frame(frame), ChecksumState::right);
      EXPECT_EQ(from_of(frame).address, from.address);
      last = to_of(frame);
    }
    return verdict;
  }
  std::vector<Bytes> collect(NatSide side) {
    std::vector<Bytes> frames;
    nat_->collect(side, [&](std::span<const std::byte> frame) {
      frames.emplace_back(frame.begin(), frame.end());
      return true;
    });
    return frames;
  }
  void advance(Time by) {
    now += by;
    while (nat_->tick(now)) {}
  }
  // Every packet was counted once.
  void expect_sums() const {
    const NatCounters counters = nat_->counters();
    for (const NatSide side : {NatSide::inside, NatSide::outside}) {
      std::uint64_t sum = 0;
      for (const std::uint64_t n : counters.verdicts[static_cast<std::size_t>(side)]) sum += n;
      EXPECT_EQ(sum, seen_[static_cast<std::size_t>(side)]);
    }
  }

  Nat44& operator*() { return *nat_; }
  Nat44* operator->() { return nat_.get(); }

  Time now = 1000s;
  End last;

 private:
  NatVerdict pass(NatSide side, Bytes& frame) {
    const std::span<std::byte> frames[] = {frame};
    NatVerdict verdict{};
    ++seen_[static_cast<std::size_t>(side)];
    if (side == NatSide::inside)
      nat_->outward(frames, now, {&verdict, 1});
    else
      nat_->inward(frames, now, {&verdict, 1});
    return verdict;
  }

  std::unique_ptr<Nat44> nat_;
  std::array<std::uint64_t, 2> seen_{};
};

}  // namespace nat_test
