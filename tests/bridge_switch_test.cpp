#include "efnet/bridge/switch.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <thread>

using namespace std::chrono_literals;
using efio::DropReason;
using efnet::MacAddress;
using efnet::MacTable;
using efnet::Switch;
using efnet::SwitchOptions;
using efnet::SwitchPortOptions;
using efnet::SwitchVerdict;
using Tagging = SwitchPortOptions::Tagging;

namespace {

MacTable make_table(std::size_t capacity, std::chrono::seconds ageing = 300s) {
  auto made = MacTable::create({.capacity = capacity, .ageing = ageing, .seed = efnet::HashSeed::from(3)});
  EXPECT_TRUE(made) << made.error().message();
  return std::move(*made);
}

TEST(MacTable, EqualsAMapOfTimes) {
  auto table = make_table(4096, 10s);
  struct Known {
    std::uint16_t port;
    std::int64_t second;
  };
  std::map<std::uint64_t, Known> naive;
  std::mt19937_64 random(9);
  std::int64_t second = 100;
  for (int i = 0; i < 200'000; ++i) {
    const auto key = MacTable::key(0x0200'0000'0000 + random() % 2000, static_cast<std::uint16_t>(random() % 2));
    second += random() % 500 == 0 ? 1 : 0;
    const auto found = table.find(key, std::chrono::seconds(second));
    const auto known = naive.find(key);
    const bool lives = known != naive.end() && second - known->second.second <= 10;
    ASSERT_EQ(found, lives ? known->second.port : MacTable::nowhere) << i;
    if (random() % 2 == 0) {
      const auto port = static_cast<std::uint16_t>(random() % 8);
      table.learn(key, port, std::chrono::seconds(second));
      naive[key] = {port, second};
    } else if (random() % 1000 == 0) {
      const auto port = static_cast<std::uint16_t>(random() % 8);
      std::size_t lost = 0;
      std::erase_if(naive, [&](const auto& entry) {
        const bool goes = entry.second.port == port;
        lost += goes && second - entry.second.second <= 10 ? 1 : 0;
        return goes;
      });
      ASSERT_GE(table.flush(port), lost);  // and what had aged
    }
  }
  const auto living = std::ranges::count_if(naive, [&](const auto& e) { return second - e.second.second <= 10; });
  EXPECT_EQ(table.size(std::chrono::seconds(second)), static_cast<std::size_t>(living));
  EXPECT_EQ(table.not_learned(), 0U);
}

TEST(MacTable, FillsToItsCapacityAndSaysWhatItCouldNotLearn) {
  auto table = make_table(65'536);
  for (std::uint64_t i = 0; i < 65'536; ++i) table.learn(MacTable::key(0x0200'0000'0000 + i * 7919, 0), 1, 5s);
  EXPECT_LT(table.not_learned(), 65'536U / 1000);
  EXPECT_EQ(table.size(5s) + table.not_learned(), 65'536U);
  for (std::uint64_t i = 0; i < 200'000; ++i) table.learn(MacTable::key(0x0600'0000'0000 + i, 0), 1, 5s);
  EXPECT_EQ(table.size(5s) + table.not_learned(), 65'536U + 200'000U);
  // What has aged makes room.
  const auto before = table.not_learned();
  for (std::uint64_t i = 0; i < 60'000; ++i) table.learn(MacTable::key(0x0A00'0000'0000 + i, 0), 2, 400s);
  EXPECT_LT(table.not_learned() - before, 60U);
}

TEST(MacTable, StaticEntriesStay) {
  auto table = make_table(64);
  const auto key = MacTable::key(MacAddress(2, 0, 0, 0, 0, 9), 7);
  ASSERT_TRUE(table.add(key, 3));
  table.learn(key, 5, 1s);
  EXPECT_EQ(table.find(key, 1'000'000s), 3);
  EXPECT_EQ(table.flush(3), 0U);
  EXPECT_EQ(table.find(key, 1s), 3);
  EXPECT_EQ(table.moves(), 0U);
  const auto entries = table.entries(1s);
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_TRUE(entries[0].fixed);
  EXPECT_EQ(entries[0].vlan, 7);
  EXPECT_EQ(entries[0].address, MacAddress(2, 0, 0, 0, 0, 9));
}

TEST(MacTable, AStaticEntryFindsRoomInAFullTable) {
  auto table = make_table(64);
  for (std::uint64_t i = 0; i < 10'000; ++i) table.learn(MacTable::key(0x0200'0000'0000 + i, 0), 1, 1s);
  ASSERT_GT(table.not_learned(), 0U);
  for (std::uint64_t i = 0; i < 32; ++i) {
    const auto key = MacTable::key(0x0600'0000'0000 + i, 0);
    ASSERT_TRUE(table.add(key, 2));
    EXPECT_EQ(table.find(key, 1s), 2);
  }
  const auto key = MacTable::key(0x0600'0000'0000, 0);
  EXPECT_TRUE(table.remove(key));
  EXPECT_EQ(table.find(key, 1s), MacTable::nowhere);
  EXPECT_FALSE(table.remove(key));
  EXPECT_EQ(table.find(MacTable::key(0x0600'0000'0001, 0), 1s), 2);
}

// Found by bridge_switch_fuzz: its cell had gone to another address of the same batch.
TEST(MacTable, ABatchThatTakesAnAgedAddressesPlaceLearnsThatAddressToo) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    auto table = std::move(*MacTable::create({.capacity = 2, .ageing = 1s, .seed = efnet::HashSeed::from(seed)}));
    std::array<std::uint64_t, 16> keys;
    std::array<std::uint16_t, 8> ports;
    for (std::uint64_t i = 0; i < 4; ++i) table.learn(MacTable::key(0x0200'0000'0000 + i, 0), 1, 1s);
    for (std::size_t i = 0; i < 8; ++i) keys[2 * i] = keys[2 * i + 1] = MacTable::key(0x0200'0000'0000 + (7 - i), 0);
    table.learn_and_find(keys.data(), 8, 1, 10s, ports.data());
    // All are there but those that were told.
    EXPECT_EQ(table.size(10s) + table.not_learned(), 8U) << seed;
    for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(ports[i], table.find(keys[2 * i], 10s)) << seed << ", " << i;
  }
}

TEST(MacTable, AStaticEntryTakesNoLearnedOnesPlaceWhileThereIsAnother) {
  auto table = make_table(64);
  for (std::uint64_t i = 0; i < 20; ++i) table.learn(MacTable::key(0x0200'0000'0000 + i, 0), 1, 1000s);
  for (std::uint64_t i = 20; i < 40; ++i) EXPECT_TRUE(table.add(MacTable::key(0x0200'0000'0000 + i, 0), 2));
  EXPECT_EQ(table.size(1000s), 40U);
}

TEST(MacTable, MovesAreCounted) {
  auto table = make_table(64);
  const auto key = MacTable::key(MacAddress(2, 0, 0, 0, 0, 1), 0);
  table.learn(key, 1, 1s);
  table.learn(key, 2, 2s);
  EXPECT_EQ(table.find(key, 2s), 2);
  EXPECT_EQ(table.moves(), 1U);
  for (int i = 0; i < 5; ++i) table.learn(key, static_cast<std::uint16_t>(2 + i % 2), 3s);
  table.learn(MacTable::key(MacAddress(2, 0, 0, 0, 0, 2), 0), 1, 3s);  // that is no move
  const auto mover = table.most_moved();
  ASSERT_TRUE(mover);
  EXPECT_EQ(mover->address, MacAddress(2, 0, 0, 0, 0, 1));
  EXPECT_EQ(mover->moves, 5U);
  EXPECT_EQ(mover->from, 3);
  EXPECT_EQ(mover->to, 2);
  EXPECT_FALSE(table.most_moved());  // since then
}

// Two threads learn and look up at once. An address's place is a function of the address, so that a mix-up shows.
TEST(MacTable, ThreadsNeverSeeOneAddressesPlaceForAnothers) {
  auto table = make_table(512, 1s);  // small and quickly aged: cells change hands all the time
  std::atomic<std::uint64_t> wrong{0}, found{0};
  const auto work = [&](unsigned seed) {
    std::mt19937_64 random(seed);
    for (int i = 0; i < 300'000; ++i) {
      const std::uint64_t address = random() % 8192;
      const auto key = MacTable::key(address, 0);
      const auto now = std::chrono::seconds(100 + i / 500);
      if (random() % 2 == 0) table.learn(key, static_cast<std::uint16_t>(address % 60), now);
      const auto place = table.find(key, now);
      if (place == MacTable::nowhere) continue;
      found.fetch_add(1, std::memory_order_relaxed);
      if (place != address % 60) wrong.fetch_add(1);
    }
  };
  {
    std::jthread one(work, 1U), two(work, 2U);
  }
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_GT(found.load(), 100'000U);
  EXPECT_EQ(table.moves(), 0U);
}

// --- the switch ---

struct Frame {
  std::array<std::byte, 256> memory{};
  efio::Slot slot{memory.data(), 60, 64, 0, 0, 0};

  Frame(std::uint64_t to, std::uint64_t from, std::optional<std::uint16_t> vlan = {}) {
    auto* bytes = memory.data() + 64;
    MacAddress::from_number(to).store(bytes);
    MacAddress::from_number(from).store(bytes + 6);
    bytes[12] = std::byte{8};
    if (!vlan) return;
    bytes[12] = std::byte{0x81};
    bytes[14] = static_cast<std::byte>(*vlan >> 8);
    bytes[15] = static_cast<std::byte>(*vlan & 0xFF);
  }
};

struct Bench {
  explicit Bench(const SwitchOptions& options) : made(Switch::create(options)) {
    EXPECT_TRUE(made) << made.error().message();
  }
  SwitchVerdict of(const Frame& frame, std::uint16_t port, efnet::Time now = 1s) {
    SwitchVerdict verdict;
    made->decide({&frame.slot, 1}, port, now, &verdict);
    return verdict;
  }
  std::uint64_t ports(const Frame& frame, std::uint16_t port, efnet::Time now = 1s) { return of(frame, port, now).ports; }
  efio::Result<Switch> made;
};

constexpr std::uint64_t broadcast = 0xFFFF'FFFF'FFFF, a = 0x0200'0000'000A, b = 0x0200'0000'000B, c = 0x0200'0000'000C;

TEST(Switch, FloodsWhatItDoesNotKnowAndLearns) {
  Bench s({.ports = std::vector<SwitchPortOptions>(4)});
  EXPECT_EQ(s.ports(Frame(b, a), 0), 0b1110U);
  EXPECT_EQ(s.ports(Frame(a, b), 2), 0b0001U);
  EXPECT_EQ(s.ports(Frame(b, a), 0), 0b0100U);
  EXPECT_EQ(s.ports(Frame(broadcast, a), 0), 0b1110U);
  EXPECT_EQ(s.ports(Frame(b, c), 2), 0U);  // it is there already
  EXPECT_EQ(s.ports(Frame(b, a), 0, 302s), 0b1110U);  // aged
  EXPECT_EQ(s.of(Frame(b, 0x0300'0000'0001), 1).reason, DropReason::malformed);
  EXPECT_EQ(s.ports(Frame(0x0300'0000'0001, a), 1, 302s), 0b1101U);  // group, and `a` is here now
}

TEST(Switch, ReservedAddressesStayUnlessAskedFor) {
  for (const bool pass : {false, true}) {
    Bench s({.ports = std::vector<SwitchPortOptions>(3), .pass_reserved = pass});
    for (std::uint64_t last = 0; last < 32; ++last)
      EXPECT_EQ(s.ports(Frame(0x0180'C200'0000 + last, a), 0), pass || last > 15 ? 0b110U : 0U) << last;
  }
}

TEST(Switch, IsolatedPortsSpeakOnlyToOthers) {
  std::vector<SwitchPortOptions> ports(4);
  ports[1].isolated = ports[2].isolated = true;
  Bench s({.ports = ports});
  EXPECT_EQ(s.ports(Frame(broadcast, a), 1), 0b1001U);
  EXPECT_EQ(s.ports(Frame(broadcast, b), 0), 0b1110U);
  EXPECT_EQ(s.ports(Frame(a, c), 2), 0U);
  EXPECT_EQ(s.ports(Frame(a, b), 0), 0b0010U);
}

TEST(Switch, TheMirrorGetsEverythingAndSaysNothing) {
  Bench s({.ports = std::vector<SwitchPortOptions>(4), .mirror = 3});
  s.ports(Frame(broadcast, b), 1);
  EXPECT_EQ(s.ports(Frame(b, a), 0), 0b1010U);
  EXPECT_EQ(s.ports(Frame(broadcast, a), 0), 0b1110U);
  EXPECT_EQ(s.ports(Frame(b, c), 3), 0U);
  EXPECT_EQ(s.ports(Frame(c, a), 0), 0b1110U);  // what came by the mirror was not learned
}

TEST(Switch, AStormIsLimitedAndKnownTrafficIsNot) {
  std::vector<SwitchPortOptions> ports(2);
  ports[0].flood_rate = 100;
  Bench s({.ports = ports});
  s.ports(Frame(a, b), 1);
  unsigned passed = 0, known = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto verdict = s.of(Frame(broadcast, a), 0, 10s + i * 1ms);
    passed += verdict.ports != 0 ? 1 : 0;
    if (verdict.ports == 0) {
      EXPECT_EQ(verdict.reason, DropReason::rate_limit);
    }
    known += s.ports(Frame(b, a), 0, 10s + i * 1ms) != 0 ? 1 : 0;
  }
  EXPECT_NEAR(passed, 110, 2);  // a burst of a tenth of a second, and one second
  EXPECT_EQ(known, 1000U);
}

TEST(Switch, VlansByAccessAndTrunk) {
  std::vector<SwitchPortOptions> ports(4);
  ports[0] = {.tagging = Tagging::access, .vlan = 10, .vlans = {}};
  ports[1] = {.tagging = Tagging::access, .vlan = 20, .vlans = {}};
  ports[2] = {.tagging = Tagging::trunk, .vlans = {}};
  ports[2].vlans[10] = ports[2].vlans[20] = true;
  ports[3] = {.tagging = Tagging::trunk, .vlans = {}};
  ports[3].vlans[10] = true;
  Bench s({.ports = ports});
  auto verdict = s.of(Frame(broadcast, a), 0);
  EXPECT_EQ(verdict.ports, 0b1100U);
  EXPECT_EQ(verdict.vlan, 10);
  EXPECT_EQ(s.made->tag_change(verdict, 2), Switch::TagChange::push);
  verdict = s.of(Frame(a, b, 10), 2);
  EXPECT_EQ(verdict.ports, 0b0001U);
  EXPECT_EQ(s.made->tag_change(verdict, 0), Switch::TagChange::pop);
  EXPECT_EQ(s.made->tag_change(verdict, 3), Switch::TagChange::none);
  EXPECT_EQ(s.ports(Frame(a, b, 20), 2), 0b0010U);     // the same address in another VLAN is another
  EXPECT_EQ(s.ports(Frame(broadcast, c), 2), 0U);      // untagged on a trunk
  EXPECT_EQ(s.ports(Frame(broadcast, c, 20), 3), 0U);  // not its VLAN
  EXPECT_EQ(s.ports(Frame(broadcast, c, 20), 0), 0U);  // another VLAN's tag on an access port
  verdict = s.of(Frame(broadcast, c, 0), 0);            // a priority tag
  EXPECT_EQ(verdict.ports, 0b1100U);
}

TEST(Switch, BatchesAreDecidedFrameByFrame) {
  Bench batched({.ports = std::vector<SwitchPortOptions>(8)});
  Bench one_by_one({.ports = std::vector<SwitchPortOptions>(8)});
  std::mt19937_64 random(4);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::unique_ptr<Frame>> frames;
    std::vector<efio::Slot> slots;
    const auto port = static_cast<std::uint16_t>(random() % 8);
    for (std::size_t i = 0, n = 1 + random() % 64; i < n; ++i) {
      // Destinations that no frame of this batch teaches.
      const auto to = random() % 10 == 0 ? broadcast : 0x0200'0000'0000 + (random() % 8 * 64 + random() % 64);
      frames.push_back(std::make_unique<Frame>(to, 0x0200'0000'0000 + (std::uint64_t{port} * 64 + random() % 64)));
      slots.push_back(frames.back()->slot);
      if (random() % 20 == 0) slots.back().flags |= efio::Slot::moved;
    }
    std::array<SwitchVerdict, 64> verdicts;
    batched.made->decide(slots, port, 1s, verdicts.data());
    for (std::size_t i = 0; i < slots.size(); ++i) {
      SwitchVerdict alone;
      one_by_one.made->decide({&slots[i], 1}, port, 1s, &alone);
      // Of a batch all sources are learned first.
      const auto to = MacAddress::load(slots[i].bytes().data()).number();
      if (to / 64 * 64 == 0x0200'0000'0000 + std::uint64_t{port} * 64) continue;
      ASSERT_EQ(verdicts[i].ports, alone.ports) << i;
      ASSERT_EQ(verdicts[i].reason, alone.reason) << i;
    }
  }
}

TEST(Switch, ChangesItsPortsAndKeepsWhatItLearned) {
  std::vector<SwitchPortOptions> ports(4);
  ports[3].is_there = false;
  Bench s({.ports = ports});
  s.ports(Frame(broadcast, a), 0);
  EXPECT_EQ(s.ports(Frame(broadcast, b), 1), 0b0101U);  // not to the port that is not there
  ports[3].is_there = true;
  ports[1].isolated = ports[3].isolated = true;
  ASSERT_TRUE(s.made->change({.ports = ports, .pass_reserved = true}));
  EXPECT_EQ(s.ports(Frame(b, a), 0), 0b0010U);
  EXPECT_EQ(s.ports(Frame(broadcast, b), 1), 0b0101U);
  EXPECT_EQ(s.ports(Frame(broadcast, a), 0), 0b1110U);
  EXPECT_EQ(s.ports(Frame(0x0180'C200'0000, a), 0), 0b1110U);
  ports[0].tagging = Tagging::access;  // alone in a VLAN
  EXPECT_FALSE(s.made->change({.ports = ports}));
  EXPECT_EQ(s.ports(Frame(b, a), 0), 0b0010U);
  EXPECT_FALSE(s.made->change({.ports = ports, .mirror = 7}));
}

TEST(Switch, AStormsLimitGoesOnThroughAChange) {
  std::vector<SwitchPortOptions> ports(2);
  ports[0].flood_rate = 100;
  Bench s({.ports = ports});
  const auto flooded = [&] {
    unsigned passed = 0;
    for (int i = 0; i < 100; ++i) passed += s.ports(Frame(broadcast, a), 0, 1s) != 0 ? 1 : 0;
    return passed;
  };
  EXPECT_EQ(flooded(), 10U);
  ASSERT_TRUE(s.made->change({.ports = ports}));
  EXPECT_EQ(flooded(), 0U);
  ports[0].flood_rate = 200;
  ASSERT_TRUE(s.made->change({.ports = ports}));
  EXPECT_EQ(flooded(), 20U);
}

TEST(Switch, RefusesWhatMakesNoSense) {
  EXPECT_FALSE(Switch::create({.ports = std::vector<SwitchPortOptions>(1)}));
  EXPECT_FALSE(Switch::create({.ports = std::vector<SwitchPortOptions>(65)}));
  EXPECT_FALSE(Switch::create({.ports = std::vector<SwitchPortOptions>(3), .mirror = 3}));
  std::vector<SwitchPortOptions> ports(2);
  ports[0].tagging = Tagging::access;
  EXPECT_FALSE(Switch::create({.ports = ports}));  // the other is in no VLAN
  ports[1].tagging = Tagging::trunk;
  EXPECT_FALSE(Switch::create({.ports = ports}));  // a trunk of nothing
  ports[1].vlans[7] = true;
  EXPECT_TRUE(Switch::create({.ports = ports}));
  ports[0].vlan = 4095;
  EXPECT_FALSE(Switch::create({.ports = ports}));
}

}  // namespace
