// Frames as they are made: every checksum right, every flow and stream where it belongs; and what the checker makes of
// them, whole and damaged.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <set>
#include <tuple>

#include "efio/port.h"
#include "efnet/wire/checksum.h"
#include "tools/io_gen/checker.h"
#include "tools/io_gen/generator.h"

namespace {

using efio::Port;
using efio::io_gen::Addresses;
using efio::io_gen::Checker;
using efio::io_gen::Generator;
using efio::io_gen::Sequences;
using efio::io_gen::Sizes;
using efio::io_gen::Tag;
using efio::io_gen::Traffic;
using efio::io_gen::Transport;

// A pipe between a generator and whoever looks.
class Line {
 public:
  explicit Line(const Traffic& traffic)
      : generator(*Generator::create(traffic)),
        tx(*Port::open("pipe:line?ring=1024&frame=9216", {.direction = efio::Direction::tx})),
        rx(*Port::open("pipe:line", {.direction = efio::Direction::rx})) {}
  efio::RxBatch next(std::size_t n) {
    auto batch = tx.tx().claim(n);
    generator.fill(batch);
    batch.commit();
    tx.tx().flush();
    return rx.rx().receive(n);
  }
  Generator generator;
  Port tx, rx;
};

Addresses addresses(std::string_view text) { return *Addresses::parse("", text); }

struct Kind {
  const char* name;
  Transport transport;
  bool ipv6;
  std::size_t vlans;
  bool tag;
  const char* size;
};

Traffic traffic_of(const Kind& kind) {
  Traffic traffic;
  traffic.transport = kind.transport;
  if (kind.ipv6) {
    traffic.src = addresses("2001:db8::ffff:fff0-2001:db8::ffff:ffff");
    traffic.dst = addresses("2001:db8:1::1-2001:db8:1::4");
  } else {
    traffic.src = addresses("10.255.255.200-10.255.255.255");
    traffic.dst = addresses("192.168.0.0/30");
  }
  traffic.sport = {65000, 65535};
  for (std::size_t i = 0; i < kind.vlans; ++i) traffic.vlans.push_back(static_cast<std::uint16_t>(100 * (i + 1)));
  traffic.tag = kind.tag;
  traffic.sizes = *Sizes::parse(kind.size);
  traffic.flows = 5000;
  traffic.random = true;
  traffic.stream_base = 65000;
  return traffic;
}

class Frames : public testing::TestWithParam<Kind> {};

TEST_P(Frames, HaveRightChecksumsAndPassTheChecker) {
  const auto traffic = traffic_of(GetParam());
  Line line(traffic);
  Checker checker(Sequences::Start::zero, true);
  for (int round = 0; round < 200; ++round) {
    auto batch = line.next(64);
    ASSERT_EQ(batch.size(), 64U);
    for (const auto& slot : batch) {
      ASSERT_EQ(efnet::verify_frame(slot.bytes()), efnet::ChecksumState::right);
      const auto ethernet = efnet::EthernetView::parse(slot.bytes());
      ASSERT_EQ(ethernet->tag_count(), GetParam().vlans);
      ASSERT_EQ(ethernet->dst(), traffic.dst_mac);
    }
    checker.check(batch, 0);
    batch.finish();
  }
  const auto& counts = checker.counts();
  EXPECT_EQ(counts.frames, 200U * 64);
  EXPECT_EQ(counts.right, counts.frames);
  EXPECT_EQ(counts.tagged, GetParam().tag ? counts.frames : 0);
  EXPECT_EQ(counts.untagged, GetParam().tag ? 0 : counts.frames);
  EXPECT_EQ(counts.bytes, line.rx.stats().rx.bytes);
  const auto sequence = checker.sequences().counts();
  EXPECT_EQ(sequence.lost + sequence.duplicated + sequence.reordered + sequence.stale, 0U);
  EXPECT_EQ(sequence.streams > 4000, GetParam().tag);
}

INSTANTIATE_TEST_SUITE_P(All, Frames,
                         testing::Values(Kind{"udp4", Transport::udp, false, 0, true, "64"},
                                         Kind{"udp4_imix", Transport::udp, false, 0, true, "imix"},
                                         Kind{"udp4_sizes", Transport::udp, false, 0, true, "64-300"},
                                         Kind{"udp4_untagged", Transport::udp, false, 0, false, "64-127"},
                                         Kind{"udp4_vlan", Transport::udp, false, 1, true, "68"},
                                         Kind{"tcp4", Transport::tcp, false, 0, true, "76-1518"},
                                         Kind{"tcp4_qinq", Transport::tcp, false, 2, true, "84"},
                                         Kind{"icmp4", Transport::icmp, false, 0, true, "64-101"},
                                         Kind{"udp6", Transport::udp, true, 0, true, "84-1518"},
                                         Kind{"tcp6", Transport::tcp, true, 4, true, "9000"},
                                         Kind{"icmp6", Transport::icmp, true, 2, true, "92"},
                                         Kind{"udp6_untagged", Transport::udp, true, 0, false, "66-70"}),
                         [](const auto& instance) { return instance.param.name; });

TEST(Generator, SpreadsFlowsEvenlyOverAddressesAndPorts) {
  Traffic traffic;
  traffic.flows = 1000;
  Line line(traffic);
  std::map<std::tuple<efnet::Ipv4Address, efnet::Ipv4Address, std::uint16_t, std::uint16_t>, int> flows;
  std::set<efnet::Ipv4Address> sources;
  for (int round = 0; round < 20; ++round) {
    auto batch = line.next(100);
    for (const auto& slot : batch) {
      const auto ip = *efnet::Ipv4View::parse(efnet::EthernetView::parse(slot.bytes())->payload());
      const auto udp = *efnet::UdpView::parse(ip.payload());
      ++flows[{ip.src(), ip.dst(), udp.src_port(), udp.dst_port()}];
      sources.insert(ip.src());
    }
    batch.finish();
  }
  EXPECT_EQ(flows.size(), 1000U);
  EXPECT_EQ(sources.size(), 254U);
  for (const auto& [flow, frames] : flows) EXPECT_EQ(frames, 2);
}

TEST(Generator, MoreFlowsThanStreamsShareThem) {
  Traffic traffic;
  traffic.flows = 65536 + 10;
  Line line(traffic);
  Checker checker(Sequences::Start::zero, true);
  for (std::size_t i = 0; i < traffic.flows * 2; i += 137) {
    auto batch = line.next(137);
    checker.check(batch, 0);
    batch.finish();
  }
  EXPECT_EQ(line.generator.streams(), Tag::streams);
  const auto sequence = checker.sequences().counts();
  EXPECT_EQ(sequence.streams, Tag::streams);
  EXPECT_EQ(sequence.lost + sequence.reordered + sequence.duplicated, 0U);
  EXPECT_GE(line.generator.next_sequence(0), 4U);
}

TEST(Generator, SameSeedSameFrames) {
  Traffic traffic;
  traffic.flows = 100;
  traffic.random = true;
  traffic.tag = false;
  const auto sources = [&](std::uint64_t seed) {
    traffic.seed = seed;
    Line line(traffic);
    std::vector<efnet::Ipv4Address> all;
    auto batch = line.next(500);
    for (const auto& slot : batch) all.push_back(efnet::Ipv4View::parse(slot.bytes().subspan(14))->src());
    return all;
  };
  EXPECT_EQ(sources(3), sources(3));
  EXPECT_NE(sources(3), sources(4));
}

// One bit of a frame, each in turn, is turned over: the checker says so.
TEST(Checker, FindsEveryFlippedBit) {
  Line line(Traffic{});
  for (std::size_t bit = 12 * 8; bit < 60 * 8; ++bit) {
    Checker checker(Sequences::Start::first_seen, true);
    auto batch = line.next(3);
    batch[1].bytes()[bit / 8] ^= std::byte{1} << (bit % 8);
    checker.check(batch, 0);
    const auto& counts = checker.counts();
    EXPECT_EQ(counts.frames, 3U);
    EXPECT_EQ(counts.right, 2U) << "bit " << bit % 8 << " of byte " << bit / 8;
    batch.finish();
  }
}

TEST(Checker, TellsRightWrongAbsentAndUnknownApart) {
  Line line(Traffic{});
  Checker checker(Sequences::Start::zero, true);
  auto batch = line.next(4);
  efnet::store16(batch[1].bytes(), 40, 0);                                                 // UDP without a checksum
  efnet::store16(batch[2].bytes(), 40, efnet::load16(batch[2].bytes(), 40) == 1 ? 2 : 1);  // a wrong one
  efnet::store16(batch[3].bytes(), 12, 0x88CC);                                            // not IP
  checker.check(batch, 0);
  const auto& counts = checker.counts();
  EXPECT_EQ(std::tuple(counts.right, counts.absent, counts.wrong, counts.unknown), std::tuple(1U, 1U, 1U, 1U));
  EXPECT_EQ(counts.tagged, 3U);
  EXPECT_EQ(counts.untagged, 1U);
  batch.finish();
}

TEST(Checker, SeesLossDuplicationAndOrder) {
  Line line(Traffic{});
  Checker checker(Sequences::Start::zero, false);
  auto batch = line.next(10);
  std::swap(batch[2], batch[3]);
  std::memcpy(batch[6].bytes().data(), batch[5].bytes().data(), 60);
  checker.check(batch, 0);
  const auto sequence = checker.sequences().counts();
  EXPECT_EQ(sequence.reordered, 1U);
  EXPECT_EQ(sequence.duplicated, 1U);
  EXPECT_EQ(sequence.lost, 1U);
  batch.finish();
}

}  // namespace
