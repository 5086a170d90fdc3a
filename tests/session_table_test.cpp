#include "efnet/tables/session_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "efnet/tables/keyed_hash.h"

using namespace efnet;
using namespace std::chrono_literals;

namespace {

template <class Key>
Key key(std::uint32_t number);
template <>
FlowKey4 key(std::uint32_t number) {
  return {Ipv4Address(10, 0, 0, 0).advanced(number % 50),
          Ipv4Address(192, 0, 2, 0).advanced(number),
          static_cast<std::uint16_t>(number),
          443,
          IpProtocol::udp,
          0,
          static_cast<std::uint16_t>(number % 3)};
}
template <>
FlowKey key(std::uint32_t number) {
  return {Ipv6Address::from_numbers(0x2001'0db8'0000'0000 | number % 50, 1),
          Ipv6Address::from_numbers(2, number),
          static_cast<std::uint16_t>(number),
          443,
          IpProtocol::udp,
          6,
          static_cast<std::uint16_t>(number % 3)};
}
// As a NAT would see the other direction.
template <class Key>
Key translated(std::uint32_t number) {
  Key made = key<Key>(number).reversed();
  made.domain = 99;
  made.dst_port = static_cast<std::uint16_t>(number * 7);
  return made;
}

template <class Key>
class SessionTableOf : public ::testing::Test {};
using Keys = ::testing::Types<FlowKey4, FlowKey>;
TYPED_TEST_SUITE(SessionTableOf, Keys);

const std::vector<TimeoutClass> classes{{"short", 10s}, {"long", 100s}, {"transitory", 4s}};

template <class Key>
SessionTable<Key> make(SessionOptions options) {
  if (!options.seed) options.seed = HashSeed::from(4);
  auto made = SessionTable<Key>::create(std::move(options));
  EXPECT_TRUE(made) << made.error().message();
  return std::move(*made);
}

TYPED_TEST(SessionTableOf, FindsBothDirections) {
  auto table = make<TypeParam>({.capacity = 1000});
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const auto made = table.insert({key<TypeParam>(i), translated<TypeParam>(i), 0, i}, 1s);
    ASSERT_EQ(made.status, InsertStatus::inserted) << i;
    EXPECT_FALSE(made.session.is_reverse());
  }
  EXPECT_EQ(table.size(), 1000u);
  EXPECT_EQ(table.insert({key<TypeParam>(1000), translated<TypeParam>(1000)}, 1s).status, InsertStatus::full);
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const SessionRef forward = table.lookup(key<TypeParam>(i));
    const SessionRef reverse = table.lookup(translated<TypeParam>(i));
    ASSERT_TRUE(forward && reverse);
    EXPECT_FALSE(forward.is_reverse());
    EXPECT_TRUE(reverse.is_reverse());
    EXPECT_EQ(forward.session(), reverse.session());
    EXPECT_EQ(table.value(forward.session()), i);
    EXPECT_EQ(table.key(forward.session()), key<TypeParam>(i));
    EXPECT_EQ(table.key(forward.session(), true), translated<TypeParam>(i));
    EXPECT_FALSE(table.lookup(key<TypeParam>(i + 1000)));
  }
}

TYPED_TEST(SessionTableOf, LooksUpBatchesOfAnySize) {
  auto table = make<TypeParam>({.capacity = 500});
  for (std::uint32_t i = 0; i < 500; ++i) table.insert({key<TypeParam>(i), translated<TypeParam>(i)}, 1s);
  for (const std::size_t size : {0, 1, 31, 32, 33, 64, 100, 1000}) {
    std::vector<TypeParam> keys;
    for (std::uint32_t i = 0; i < size; ++i) keys.push_back(i % 2 ? key<TypeParam>(i) : translated<TypeParam>(i));
    std::vector<SessionRef> found(size);
    std::vector<SessionRef> again(size);
    table.lookup(keys, found);
    table.lookup_only(keys, again);
    EXPECT_EQ(found, again);
    for (std::uint32_t i = 0; i < size; ++i) EXPECT_EQ(found[i], table.lookup(keys[i]));
    for (std::uint32_t i = 0; i < size; ++i) EXPECT_EQ(bool(found[i]), i < 500);
  }
}

TYPED_TEST(SessionTableOf, RefusesAKeyThatIsTaken) {
  auto table = make<TypeParam>({.capacity = 10});
  const auto first = table.insert({key<TypeParam>(1), translated<TypeParam>(1)}, 1s);
  for (const auto& [forward, reverse] :
       {std::pair{key<TypeParam>(1), translated<TypeParam>(2)}, std::pair{key<TypeParam>(2), translated<TypeParam>(1)},
        std::pair{translated<TypeParam>(1), key<TypeParam>(2)}}) {
    const auto second = table.insert({forward, reverse}, 1s);
    EXPECT_EQ(second.status, InsertStatus::exists);
    EXPECT_EQ(second.session.session(), first.session.session());
  }
  EXPECT_EQ(table.size(), 1u);
  // Within one batch too.
  const std::array<typename SessionTable<TypeParam>::New, 2> twice{
      {{key<TypeParam>(5), translated<TypeParam>(5)}, {key<TypeParam>(5), translated<TypeParam>(6)}}};
  std::array<typename SessionTable<TypeParam>::Inserted, 2> made;
  table.insert(twice, 1s, made);
  EXPECT_EQ(made[0].status, InsertStatus::inserted);
  EXPECT_EQ(made[1].status, InsertStatus::exists);
}

TYPED_TEST(SessionTableOf, ExpiresByClassNeverEarlyAndHardlyLate) {
  auto table = make<TypeParam>({.capacity = 1000, .classes = classes});
  std::map<TypeParam, std::pair<Time, Time>,
           decltype([](const TypeParam& a, const TypeParam& b) { return a.words() < b.words(); })>
      due;
  std::mt19937 random(3);
  Time now = 5000s;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const auto timeout_class = static_cast<std::uint8_t>(i % 3);
    const Time timeout = classes[timeout_class].timeout;
    ASSERT_EQ(table.insert({key<TypeParam>(i), translated<TypeParam>(i), timeout_class}, now).status,
              InsertStatus::inserted);
    due[key<TypeParam>(i)] = {now + timeout, timeout};
    now += std::chrono::milliseconds(random() % 5);
  }
  // Half of them is refreshed once.
  for (auto& [wanted, when] : due)
    if (random() % 2 != 0) {
      table.touch(table.lookup(wanted), now);
      when.first = now + when.second;
    }
  std::array<Session<TypeParam>, 7> gone;
  const Time start = now;
  std::size_t visited = 0;
  for (; now < start + 200s; now += 10ms) {
    for (bool more = true; more;) {
      const auto expired = table.expire(now, gone);
      visited += expired.visited;
      more = expired.ended == gone.size();
      for (std::size_t i = 0; i < expired.ended; ++i) {
        ASSERT_TRUE(due.contains(gone[i].key));
        const auto [when, timeout] = due[gone[i].key];
        EXPECT_GE(now, when - 2ms);  // ticks are a millisecond
        EXPECT_LE(now, when + timeout / 1000 + 12ms);
        EXPECT_FALSE(table.lookup(gone[i].key));
        EXPECT_FALSE(table.lookup(gone[i].reverse));
        due.erase(gone[i].key);
      }
    }
  }
  EXPECT_TRUE(due.empty());
  EXPECT_EQ(table.size(), 0u);
  EXPECT_LE(visited, 2000u) << "once when due and once more for each refresh";
}

TYPED_TEST(SessionTableOf, ExpiresInBoundedSteps) {
  auto table = make<TypeParam>({.capacity = 1000, .classes = classes});
  for (std::uint32_t i = 0; i < 1000; ++i) table.insert({key<TypeParam>(i), translated<TypeParam>(i)}, 1s);
  std::vector<Session<TypeParam>> gone(100);
  auto expired = table.expire(100s, gone, 33);
  EXPECT_EQ(expired.visited, 33u);
  EXPECT_EQ(expired.ended, 33u);
  EXPECT_TRUE(expired.more);
  expired = table.expire(100s, gone);
  EXPECT_EQ(expired.ended, 100u);
  EXPECT_EQ(table.size(), 867u);
  expired = table.expire(5s, gone);
  EXPECT_LE(expired.visited, 867u) << "time that goes back does no harm";
  gone.resize(1000);
  EXPECT_EQ(table.expire(1000s, gone).ended, 867u);
  EXPECT_FALSE(table.expire(1000s, gone).more);
}

TYPED_TEST(SessionTableOf, AShorterClassEndsItSooner) {
  auto table = make<TypeParam>({.capacity = 10, .classes = classes});
  const auto made = table.insert({key<TypeParam>(1), translated<TypeParam>(1), 1}, 1000s);
  std::array<Session<TypeParam>, 4> gone;
  EXPECT_EQ(table.expire(1050s, gone).ended, 0u);
  table.set_class(made.session.session(), 2, 1050s);  // its 4 s have passed long ago
  EXPECT_EQ(table.expire(1051s, gone).ended, 1u);
  EXPECT_EQ(gone[0].state.timeout_class, 2);
}

TYPED_TEST(SessionTableOf, EvictsInTheOwnersOrder) {
  auto table = make<TypeParam>({.capacity = 30, .classes = classes});
  for (std::uint32_t i = 0; i < 30; ++i)
    table.insert({key<TypeParam>(i), translated<TypeParam>(i), static_cast<std::uint8_t>(i % 2), i}, 1s + i * 1s);
  table.touch(table.lookup(key<TypeParam>(1)), 40s);
  const std::array<std::uint8_t, 2> longs_last{0, 1};
  const std::array<std::uint8_t, 1> only_short{0};
  for (int i = 0; i < 15; ++i) {
    const auto gone = table.evict(only_short, 41s);
    ASSERT_TRUE(gone);
    EXPECT_EQ(gone->state.timeout_class, 0);
    EXPECT_FALSE(table.lookup(gone->key));
  }
  EXPECT_FALSE(table.evict(only_short, 41s));
  EXPECT_EQ(table.size(), 15u);
  const auto oldest = table.evict(longs_last, 41s);
  ASSERT_TRUE(oldest);
  EXPECT_EQ(oldest->state.value, 3u) << "number 1 was refreshed";
  EXPECT_EQ(table.insert({key<TypeParam>(50), translated<TypeParam>(50)}, 41s).status, InsertStatus::inserted);
}

TYPED_TEST(SessionTableOf, LimitsSessionsPerSource) {
  auto table = make<TypeParam>({.capacity = 1000, .per_source = 3, .sources = 2});
  const auto from = [](std::uint32_t source, std::uint32_t number) {
    TypeParam made = key<TypeParam>(source);
    made.dst_port = static_cast<std::uint16_t>(number);
    return typename SessionTable<TypeParam>::New{made, made.reversed()};
  };
  for (std::uint32_t i = 0; i < 3; ++i) EXPECT_EQ(table.insert(from(1, i), 1s).status, InsertStatus::inserted);
  EXPECT_EQ(table.insert(from(1, 4), 1s).status, InsertStatus::source_limit);
  EXPECT_EQ(table.sessions_of(from(1, 9).key), 3u);
  EXPECT_EQ(table.insert(from(2, 0), 1s).status, InsertStatus::inserted);
  EXPECT_EQ(table.insert(from(4, 0), 1s).status, InsertStatus::source_limit) << "a source too many";
  EXPECT_TRUE(table.erase(table.lookup(from(1, 0).key).session()));
  EXPECT_EQ(table.insert(from(1, 4), 1s).status, InsertStatus::inserted);
  EXPECT_TRUE(table.erase(table.lookup(from(2, 0).key).session()));
  EXPECT_EQ(table.sessions_of(from(2, 0).key), 0u);
  EXPECT_EQ(table.insert(from(4, 0), 1s).status, InsertStatus::inserted);
  table.clear();
  for (std::uint32_t i = 0; i < 3; ++i) EXPECT_EQ(table.insert(from(7, i), 1s).status, InsertStatus::inserted);
}

TYPED_TEST(SessionTableOf, ScansWhileSessionsComeAndGo) {
  auto table = make<TypeParam>({.capacity = 1000});
  std::vector<std::uint32_t> stays;
  for (std::uint32_t i = 0; i < 900; ++i) table.insert({key<TypeParam>(i), translated<TypeParam>(i), 0, i}, 1s);
  std::map<std::uint64_t, int> met;
  std::uint32_t fresh = 1000;
  for (std::uint32_t at = 0; at < table.capacity();) {
    at = table.scan(at, 10, [&](std::uint32_t, const SessionState& state) { ++met[state.value]; });
    table.erase(table.lookup(key<TypeParam>(at % 90 * 10)).session());
    table.insert({key<TypeParam>(fresh), translated<TypeParam>(fresh), 0, fresh}, 1s);
    ++fresh;
  }
  for (std::uint32_t i = 0; i < 900; ++i)
    if (i % 10 != 0) {
      EXPECT_EQ(met[i], 1);
    }
}

TYPED_TEST(SessionTableOf, WritesJson) {
  auto table = make<TypeParam>({.capacity = 4, .classes = {{"a \"b\"", 10s}}});
  const auto made = table.insert({key<TypeParam>(7), translated<TypeParam>(7), 0, 42}, 100s);
  table.track_tcp(made.session, {.flags = tcp_flag::syn}, 100s);
  std::string out;
  EXPECT_EQ(table.write_json(0, 100, 103s, out), 4u);
  const std::string src = to_string(key<TypeParam>(7).src);
  EXPECT_NE(out.find("{\"src\":\"" + src + "\","), std::string::npos) << out;
  EXPECT_NE(out.find("\"src_port\":7,\"dst_port\":443,\"protocol\":17,\"domain\":1,\"reverse\":{"), std::string::npos)
      << out;
  EXPECT_NE(out.find("\"class\":\"a \\\"b\\\"\",\"tcp\":\"init_forward\",\"age_s\":3.0"), std::string::npos) << out;
  EXPECT_TRUE(out.ends_with("\"value\":42},")) << out;
}

TYPED_TEST(SessionTableOf, RefusesSetUpThatCannotBe) {
  using Table = SessionTable<TypeParam>;
  EXPECT_FALSE(Table::create({.capacity = 0}));
  EXPECT_FALSE(Table::create({.capacity = std::size_t{1} << 31}));
  EXPECT_FALSE(Table::create({.classes = {}}));
  EXPECT_FALSE(Table::create({.classes = {{"x", 0s}}}));
  EXPECT_FALSE(Table::create({.classes = {{"x", std::chrono::hours(24 * 30)}}}));
  EXPECT_FALSE(Table::create({.source_bits = 200}));
}

TYPED_TEST(SessionTableOf, TakesTheMemoryItSays) {
  auto table = make<TypeParam>({.capacity = 100'000});
  EXPECT_LE(table.bytes(), 100'000u * (sizeof(TypeParam) == 16 ? 96 : 192) + 100'000);
}

// Against a plain map: insert, erase, touch, expire, evict, class changes, at every filling up to full.
template <class Key>
void does_what_a_model_does(bool baseline) {
  struct Model {
    std::uint32_t session;
    Time touched;
    std::uint8_t timeout_class;
  };
  constexpr std::uint32_t capacity = 700;
  auto table = make<Key>({.capacity = capacity, .classes = classes, .per_source = 30, .baseline = baseline});
  std::map<std::uint32_t, Model> model;  // by number of the key
  std::mt19937 random(8);
  Time now = 777s;
  std::vector<Session<Key>> gone(16);
  for (int step = 0; step < 60'000; ++step) {
    now += std::chrono::microseconds(random() % 4000);
    const std::uint32_t number = random() % 1000;
    const auto known = model.find(number);
    const SessionRef found = table.lookup(key<Key>(number));
    ASSERT_EQ(bool(found), known != model.end()) << step;
    ASSERT_EQ(bool(table.lookup(translated<Key>(number))), known != model.end());
    if (found) {
      ASSERT_EQ(found.session(), known->second.session);
    }
    switch (random() % 8) {
      case 0:
      case 1:
      case 2:
      case 3: {
        const auto timeout_class = static_cast<std::uint8_t>(random() % 2);
        const auto of_source = static_cast<std::uint32_t>(std::ranges::count_if(
            model, [&](const auto& one) { return one.first % 50 == number % 50 && one.first % 3 == number % 3; }));
        const auto made = table.insert({key<Key>(number), translated<Key>(number), timeout_class, number}, now);
        const InsertStatus expected = known != model.end()       ? InsertStatus::exists
                                      : model.size() == capacity ? InsertStatus::full
                                      : of_source >= 30          ? InsertStatus::source_limit
                                                                 : InsertStatus::inserted;
        ASSERT_EQ(made.status, expected) << step;
        if (expected == InsertStatus::inserted) model[number] = {made.session.session(), now, timeout_class};
        break;
      }
      case 4:
        if (known == model.end() || random() % 4 != 0) break;
        ASSERT_TRUE(table.erase(known->second.session));
        ASSERT_FALSE(table.erase(known->second.session));
        model.erase(known);
        break;
      case 5:
        if (known == model.end()) break;
        table.touch(found, now);
        known->second.touched = now;
        break;
      case 6:
        if (known == model.end()) break;
        known->second.timeout_class = static_cast<std::uint8_t>(random() % 3);
        table.set_class(known->second.session, known->second.timeout_class, now);
        break;
      case 7: {
        if (random() % 16 == 0) {
          const std::array<std::uint8_t, 2> order{1, 0};
          if (const auto evicted = table.evict(order, now)) {
            ASSERT_EQ(model.erase(static_cast<std::uint32_t>(evicted->state.value)), 1u);
          }
          break;
        }
        const auto expired = table.expire(now, gone);
        for (std::size_t i = 0; i < expired.ended; ++i) {
          const auto which = model.find(static_cast<std::uint32_t>(gone[i].state.value));
          ASSERT_NE(which, model.end());
          ASSERT_EQ(gone[i].key, key<Key>(which->first));
          ASSERT_GE(now - which->second.touched, classes[which->second.timeout_class].timeout - 2ms);
          model.erase(which);
        }
        if (expired.more) break;
        for (const auto& [other, session] : model) {
          const Time timeout = classes[session.timeout_class].timeout;
          ASSERT_LE(now - session.touched, timeout + timeout / 1000 + 4ms) << "should have expired";
        }
        break;
      }
    }
    ASSERT_EQ(table.size(), model.size());
  }
}
TYPED_TEST(SessionTableOf, DoesWhatAModelDoes) { does_what_a_model_does<TypeParam>(false); }
TYPED_TEST(SessionTableOf, DoesSoByBaselineInstructions) { does_what_a_model_does<TypeParam>(true); }

TEST(SessionTable, KeysThatLookAlikeAreApart) {
  auto table = make<FlowKey4>({.capacity = 64});
  const FlowKey4 base = key<FlowKey4>(1);
  std::vector<FlowKey4> variants(6, base);
  variants[1].domain = 7;
  variants[2].protocol = IpProtocol::tcp;
  variants[3].src_port ^= 0x100;
  variants[4].dst_port ^= 1;
  variants[5].src = base.src.advanced(1);
  for (std::size_t i = 0; i < variants.size(); ++i) {
    EXPECT_FALSE(table.lookup(variants[i]));
    ASSERT_EQ(table.insert({variants[i], variants[i].reversed(), 0, i}, 1s).status, InsertStatus::inserted);
  }
  for (std::size_t i = 0; i < variants.size(); ++i) EXPECT_EQ(table.value(table.lookup(variants[i]).session()), i);
}

TEST(KeyedHash, DependsOnEveryBitOfKeyAndSeed) {
  for (const bool baseline : {false, true}) {
    const KeyedHash hash(HashSeed::from(1), baseline);
    const KeyedHash other(HashSeed::from(2), baseline);
    std::mt19937_64 random(1);
    const auto check = [&]<std::size_t words>(std::array<std::uint64_t, words> wanted) {
      for (auto& word : wanted) word = random();
      EXPECT_NE(hash(wanted), other(wanted));
      for (std::size_t bit = 0; bit < words * 64; ++bit) {
        auto changed = wanted;
        changed[bit / 64] ^= std::uint64_t{1} << bit % 64;
        EXPECT_NEAR(std::popcount(hash(wanted) ^ hash(changed)), 32, 28) << "half of the bits change: seven sigma";
      }
    };
    for (int round = 0; round < 50; ++round) {
      check(std::array<std::uint64_t, 1>{});
      check(std::array<std::uint64_t, 2>{});
      check(std::array<std::uint64_t, 3>{});
      check(std::array<std::uint64_t, 5>{});
    }
  }
}

// Keys as a scanner or an attacker without the seed makes them fill lines as evenly as random ones do.
TEST(KeyedHash, SpreadsKeysThatCountUp) {
  const KeyedHash hash(HashSeed::from(3));
  constexpr std::size_t lines = 1024;
  constexpr std::size_t keys = lines * 16;
  for (const unsigned shift : {0, 8, 16, 24, 32, 40}) {
    for (const bool low : {false, true}) {
      std::vector<int> counts(lines);
      for (std::uint64_t i = 0; i < keys; ++i) {
        const std::uint64_t number = hash(std::array<std::uint64_t, 2>{i << shift, i << (63 - shift) | 5});
        ++counts[low ? number % lines : number >> 54];
      }
      double chi = 0;
      for (const int count : counts) chi += (count - 16.0) * (count - 16.0) / 16.0;
      EXPECT_NEAR(chi, lines, 6 * 46) << "six sigma of chi square with 1023 degrees of freedom";
    }
  }
}

}  // namespace
