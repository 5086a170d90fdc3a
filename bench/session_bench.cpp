#include <benchmark/benchmark.h>

#include <absl/container/flat_hash_map.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "bench/tables_bench.h"
#include "efnet/tables/session_table.h"

// SessionTable beside absl::flat_hash_map and DPDK's rte_hash (CRC, bulk of 32), keys of 16 bytes in random order. The
// peers map one key to a number; SessionTable finds a session by either direction's key, keeps its timeout, and has its
// line in the cache when it answers.

namespace {

using namespace efnet;
using namespace std::chrono_literals;
using tables_bench::batch;

std::vector<FlowKey4> make_keys(std::size_t count, std::uint32_t seed = 1) {
  std::mt19937_64 random(seed);
  std::vector<FlowKey4> keys(count);
  for (std::size_t i = 0; i < count; ++i)
    keys[i] = {Ipv4Address::from_number(static_cast<std::uint32_t>(0x0A000000 + i)),
               Ipv4Address::from_number(static_cast<std::uint32_t>(random())),
               static_cast<std::uint16_t>(random()),
               443,
               IpProtocol::udp,
               0,
               static_cast<std::uint16_t>(seed)};
  return keys;
}

FlowKey wide(const FlowKey4& key) {
  return {Ipv6Address::from_numbers(0x2001'0db8'0000'0000, key.src.number()),
          Ipv6Address::from_numbers(0x2001'0db8'0000'0001, key.dst.number()),
          key.src_port,
          key.dst_port,
          key.protocol,
          6,
          key.domain};
}
std::vector<FlowKey> wide(const std::vector<FlowKey4>& keys) {
  std::vector<FlowKey> all;
  for (const FlowKey4& key : keys) all.push_back(wide(key));
  return all;
}

template <class Key>
SessionTable<Key> filled(const std::vector<Key>& keys, std::size_t capacity) {
  auto table = SessionTable<Key>::create({.capacity = capacity});
  std::vector<typename SessionTable<Key>::New> news;
  for (const Key& key : keys) news.push_back({key, key.reversed()});
  std::vector<typename SessionTable<Key>::Inserted> made(news.size());
  table->insert(news, 1s, made);
  for (const auto& one : made)
    if (one.status != InsertStatus::inserted) std::abort();
  return std::move(*table);
}

template <class Key>
std::vector<Key> shuffled(std::vector<Key> keys, bool both_directions = false) {
  std::mt19937_64 random(7);
  std::shuffle(keys.begin(), keys.end(), random);
  if (both_directions)
    for (std::size_t i = 0; i < keys.size(); i += 2) keys[i] = keys[i].reversed();
  return keys;
}

void rate(benchmark::State& state, std::size_t each = batch) {
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * each));
}

template <class Key, class Job>
void over(benchmark::State& state, const std::vector<Key>& keys, Job job) {
  tables_bench::over(state, keys, job);
  rate(state);
}

template <class Key>
void lookup(benchmark::State& state, const std::vector<Key>& keys, const std::vector<Key>& wanted, std::size_t capacity,
            bool expected, bool touched) {
  auto table = filled(keys, capacity);
  std::array<SessionRef, batch> found;
  std::uint64_t sum = 0;
  over(state, wanted, [&](const Key* at) {
    touched ? table.lookup({at, batch}, found) : table.lookup_only({at, batch}, found);
    if (touched)
      for (const SessionRef ref : found) table.touch(ref, 2s);
    benchmark::DoNotOptimize(found.data());
    benchmark::ClobberMemory();
    for (const SessionRef ref : found) sum += bool(ref);
  });
  if (sum != (expected ? state.iterations() * batch : 0)) state.SkipWithError("wrong answers");
  state.counters["bytes_a_session"] = static_cast<double>(table.bytes()) / static_cast<double>(table.capacity());
}

void hit(benchmark::State& state) {
  const auto keys = make_keys(static_cast<std::size_t>(state.range(0)));
  lookup(state, keys, shuffled(keys, true), keys.size(), true, false);
}
void hit_touch(benchmark::State& state) {
  const auto keys = make_keys(static_cast<std::size_t>(state.range(0)));
  lookup(state, keys, shuffled(keys, true), keys.size(), true, true);
}
void miss(benchmark::State& state) {
  const auto keys = make_keys(static_cast<std::size_t>(state.range(0)));
  lookup(state, keys, make_keys(keys.size(), 2), keys.size(), false, false);
}
void hit_ipv6(benchmark::State& state) {
  const auto keys = wide(make_keys(static_cast<std::size_t>(state.range(0))));
  lookup(state, keys, shuffled(keys, true), keys.size(), true, true);
}
// Of a capacity of 1 M, filled to so many per cent.
void hit_filled(benchmark::State& state) {
  constexpr std::size_t capacity = 1 << 20;
  const auto keys = make_keys(capacity / 100 * static_cast<std::size_t>(state.range(0)));
  lookup(state, keys, shuffled(keys, true), capacity, true, true);
}
#define SIZES ->Arg(16 << 10)->Arg(1 << 20)->Arg(10 << 20)
BENCHMARK(hit) SIZES;
BENCHMARK(hit_touch) SIZES;
BENCHMARK(miss) SIZES;
BENCHMARK(hit_ipv6)->Arg(16 << 10)->Arg(1 << 20);
BENCHMARK(hit_filled)->Arg(50)->Arg(95)->Arg(100);

// From empty to full, in batches.
template <class Key>
void insert_all(benchmark::State& state, const std::vector<Key>& keys) {
  auto table = SessionTable<Key>::create({.capacity = keys.size()});
  std::vector<typename SessionTable<Key>::New> news;
  for (const Key& key : keys) news.push_back({key, key.reversed()});
  std::array<typename SessionTable<Key>::Inserted, batch> made;
  for (auto _ : state) {
    for (std::size_t at = 0; at < news.size(); at += batch) table->insert({news.data() + at, batch}, 1s, made);
    state.PauseTiming();
    if (table->size() != keys.size()) state.SkipWithError("not all inserted");
    table->clear();
    state.ResumeTiming();
  }
  rate(state, keys.size());
}
void insert(benchmark::State& state) { insert_all(state, make_keys(static_cast<std::size_t>(state.range(0)))); }
void insert_ipv6(benchmark::State& state) {
  insert_all(state, wide(make_keys(static_cast<std::size_t>(state.range(0)))));
}
BENCHMARK(insert)->Arg(16 << 10)->Arg(1 << 20);
BENCHMARK(insert_ipv6)->Arg(1 << 20);

// All of a table expires: sessions that were made in the order of their numbers, as in a table that fills for the first
// time, or in a random one, as in a table that has been in use for a while.
template <class Key>
void expire_all(benchmark::State& state, const std::vector<Key>& keys, bool random_order) {
  using Table = SessionTable<Key>;
  auto table = Table::create({.capacity = keys.size()});
  std::vector<typename Table::New> news;
  for (const Key& key : keys) news.push_back({key, key.reversed()});
  std::vector<typename Table::Inserted> made(news.size());
  std::vector<std::uint32_t> order(keys.size());
  for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::mt19937_64 random(3);
  std::shuffle(order.begin(), order.end(), random);
  std::vector<Session<Key>> gone(256);
  Time now = 1s;
  for (auto _ : state) {
    state.PauseTiming();
    if (random_order) {  // the numbers that were given back last are given out first
      table->insert(news, now, made);
      for (const std::uint32_t session : order) table->erase(session);
    }
    table->insert(news, now, made);
    now += 1000s;
    state.ResumeTiming();
    while (table->expire(now, gone).ended != 0) {}
    if (table->size() != 0) state.SkipWithError("not all expired");
  }
  rate(state, keys.size());
}
void expire(benchmark::State& state, bool random_order) {
  expire_all(state, make_keys(static_cast<std::size_t>(state.range(0))), random_order);
}
void expire_ipv6(benchmark::State& state, bool random_order) {
  expire_all(state, wide(make_keys(static_cast<std::size_t>(state.range(0)))), random_order);
}
BENCHMARK_CAPTURE(expire, in_order, false)->Arg(16 << 10)->Arg(1 << 20);
BENCHMARK_CAPTURE(expire, random_order, true)->Arg(16 << 10)->Arg(1 << 20);
BENCHMARK_CAPTURE(expire_ipv6, random_order, true)->Arg(1 << 20);

void expire_nothing(benchmark::State& state) {
  auto table = filled(make_keys(1 << 20), 1 << 20);
  std::array<Session<FlowKey4>, 64> gone;
  Time now = 1s;
  for (auto _ : state) benchmark::DoNotOptimize(table.expire(now += 1us, gone));
}
BENCHMARK(expire_nothing);

// A segment of an established connection, of sessions in random order, window checks included or not.
void track_tcp(benchmark::State& state, bool windows) {
  const auto keys = make_keys(static_cast<std::size_t>(state.range(0)));
  auto table = SessionTable4::create({.capacity = keys.size(), .tcp_windows = windows});
  for (const FlowKey4& key : keys) {
    const SessionRef ref = table->insert({key, key.reversed()}, 1s).session;
    const SessionRef back(ref.session(), true);
    table->track_tcp(ref, {.sequence = 1, .window = 1000, .flags = tcp_flag::syn}, 1s);
    table->track_tcp(back, {.acknowledgment = 2, .window = 1000, .flags = tcp_flag::syn | tcp_flag::ack}, 1s);
  }
  std::array<SessionRef, batch> found;
  over(state, shuffled(keys, true), [&](const FlowKey4* at) {
    table->lookup({at, batch}, found);
    for (const SessionRef ref : found)
      benchmark::DoNotOptimize(
          table->track_tcp(ref, {.sequence = ref.is_reverse() ? 1U : 2U, .window = 1000, .flags = tcp_flag::ack}, 2s));
  });
}
BENCHMARK_CAPTURE(track_tcp, states, false)->Arg(16 << 10)->Arg(1 << 20);
BENCHMARK_CAPTURE(track_tcp, states_and_windows, true)->Arg(16 << 10)->Arg(1 << 20);

// A full table: each new session takes the place of one that is evicted.
void evict_and_insert(benchmark::State& state) {
  const auto keys = make_keys(static_cast<std::size_t>(state.range(0)));
  auto table = filled(keys, keys.size());
  const std::array<std::uint8_t, 1> classes{0};
  FlowKey4 fresh = keys[0];
  fresh.domain = 2;
  for (auto _ : state) {
    benchmark::DoNotOptimize(table.evict(classes, 2s));
    fresh.dst = fresh.dst.advanced(1);
    table.insert({fresh, fresh.reversed()}, 2s);
  }
  if (table.size() != keys.size()) state.SkipWithError("not full");
  rate(state, 1);
}
BENCHMARK(evict_and_insert)->Arg(16 << 10)->Arg(1 << 20);

// Sessions that end by themselves, in random order, and as many that begin.
void erase_and_insert(benchmark::State& state) {
  const auto keys = make_keys(static_cast<std::size_t>(state.range(0)));
  auto table = filled(keys, keys.size());
  std::array<SessionRef, batch> found;
  std::array<SessionTable4::New, batch> news;
  std::array<SessionTable4::Inserted, batch> made;
  over(state, shuffled(keys), [&](const FlowKey4* at) {
    table.lookup({at, batch}, found);
    for (std::size_t i = 0; i < batch; ++i) {
      table.erase(found[i].session());
      news[i] = {at[i], at[i].reversed()};
    }
    table.insert(news, 1s, made);
  });
  if (table.size() != keys.size()) state.SkipWithError("not full");
}
BENCHMARK(erase_and_insert)->Arg(16 << 10)->Arg(1 << 20);

// All sessions looked at, for a report.
void scan(benchmark::State& state) {
  auto table = filled(make_keys(1 << 20), 1 << 20);
  for (auto _ : state) {
    std::uint64_t sum = 0;
    table.scan(0, table.capacity(), [&](std::uint32_t, const SessionState& one) { sum += one.value; });
    benchmark::DoNotOptimize(sum);
  }
  rate(state, table.capacity());
}
BENCHMARK(scan);

// ---- Peers ----

void absl_hit(benchmark::State& state) {
  const auto keys = make_keys(static_cast<std::size_t>(state.range(0)));
  struct Hash {
    std::size_t operator()(const FlowKey4& key) const { return absl::HashOf(key.words()[0], key.words()[1]); }
  };
  absl::flat_hash_map<FlowKey4, std::uint32_t, Hash> map;
  map.reserve(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) map[keys[i]] = static_cast<std::uint32_t>(i);
  over(state, shuffled(keys), [&](const FlowKey4* at) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < batch; ++i) sum += map.find(at[i])->second;
    benchmark::DoNotOptimize(sum);
  });
}
BENCHMARK(absl_hit) SIZES;

void absl_insert(benchmark::State& state) {
  const auto keys = make_keys(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) {
    state.PauseTiming();
    absl::flat_hash_map<std::uint64_t, std::uint32_t> map;
    map.reserve(keys.size() * 2);
    state.ResumeTiming();
    for (std::size_t i = 0; i < keys.size(); ++i) {
      map[keys[i].words()[0]] = static_cast<std::uint32_t>(i);
      map[keys[i].reversed().words()[0] ^ 1] = static_cast<std::uint32_t>(i);
    }
  }
  rate(state, keys.size());
}
BENCHMARK(absl_insert)->Arg(1 << 20);

rte_hash* make_rte_hash(std::size_t entries) {
  const rte_hash_parameters parameters{.name = "peer",
                                       .entries = static_cast<std::uint32_t>(entries),
                                       .reserved = 0,
                                       .key_len = sizeof(FlowKey4),
                                       .hash_func = rte_hash_crc,
                                       .hash_func_init_val = 0,
                                       .socket_id = 0,
                                       .extra_flag = 0};
  return rte_hash_create(&parameters);
}

void rte_hash_hit(benchmark::State& state) {
  const auto keys = make_keys(static_cast<std::size_t>(state.range(0)));
  rte_hash* const table = make_rte_hash(keys.size() * 5 / 4);
  if (table == nullptr) return state.SkipWithError("rte_hash_create failed");
  for (const FlowKey4& key : keys)
    if (rte_hash_add_key(table, &key) < 0) return state.SkipWithError("rte_hash is full");
  over(state, shuffled(keys), [&](const FlowKey4* at) {
    std::array<const void*, batch> pointers;
    std::array<std::int32_t, batch> positions;
    for (std::size_t i = 0; i < batch; ++i) pointers[i] = at + i;
    rte_hash_lookup_bulk(table, pointers.data(), batch, positions.data());
    benchmark::DoNotOptimize(positions.data());
    benchmark::ClobberMemory();
  });
  rte_hash_free(table);
}
BENCHMARK(rte_hash_hit) SIZES;

void rte_hash_insert(benchmark::State& state) {
  const auto keys = make_keys(static_cast<std::size_t>(state.range(0)));
  rte_hash* const table = make_rte_hash(keys.size() * 5 / 4);
  if (table == nullptr) return state.SkipWithError("rte_hash_create failed");
  for (auto _ : state) {
    for (const FlowKey4& key : keys) benchmark::DoNotOptimize(rte_hash_add_key(table, &key));
    state.PauseTiming();
    rte_hash_reset(table);
    state.ResumeTiming();
  }
  rate(state, keys.size());
  rte_hash_free(table);
}
BENCHMARK(rte_hash_insert)->Arg(1 << 20);

}  // namespace

int main(int argc, char** argv) { return tables_bench::run(argc, argv, "4096"); }
