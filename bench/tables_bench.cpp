#include <benchmark/benchmark.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <vector>

#include "bench/tables_bench.h"
#include "efnet/tables/arp_table.h"
#include "efnet/tables/ipp_pool.h"
#include "efnet/tables/ndp_table.h"
#include "efnet/tables/routes.h"

// ArpTable beside absl::flat_hash_map, IppPool beside a plain list of free ports, Routes beside DPDK's rte_lpm and
// rte_lpm6; batches of 32, keys in random order. `each` is the time per key.

namespace {

using namespace efnet;
using namespace std::chrono_literals;
using tables_bench::batch;

void each(benchmark::State& state, std::size_t count = batch) {
  state.counters["each"] = benchmark::Counter(static_cast<double>(state.iterations()) * static_cast<double>(count),
                                              benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

template <class Key, class Job>
void over(benchmark::State& state, const std::vector<Key>& keys, Job job) {
  tables_bench::over(state, keys, job);
  each(state);
}

template <class Table>
void neighbour_hit(benchmark::State& state, auto address) {
  const auto count = static_cast<std::uint32_t>(state.range(0));
  auto table = Table::create({.capacity = count});
  std::vector<typename Table::Key> keys;
  for (std::uint32_t i = 0; i < count; ++i) {
    keys.push_back({address(i), 0});
    table->add(keys.back(), MacAddress::from_number(i), 1s);
  }
  std::mt19937 random(1);
  std::shuffle(keys.begin(), keys.end(), random);
  std::array<Neighbour, batch> found;
  over(state, keys, [&](const auto* at) {
    table->lookup({at, batch}, 2s, found);
    benchmark::DoNotOptimize(found.data());
    benchmark::ClobberMemory();
  });
}
void arp_hit(benchmark::State& state) {
  neighbour_hit<ArpTable::Table>(state, [](std::uint32_t i) { return Ipv4Address(10, 0, 0, 0).advanced(i); });
}
void ndp_hit(benchmark::State& state) {
  neighbour_hit<NdpTable::Table>(state,
                                 [](std::uint32_t i) { return Ipv6Address::from_numbers(0x2001'0db8'0000'0000, i); });
}
BENCHMARK(arp_hit)->Arg(1'000)->Arg(100'000);
BENCHMARK(ndp_hit)->Arg(1'000)->Arg(100'000);

void absl_arp_hit(benchmark::State& state) {
  const auto count = static_cast<std::uint32_t>(state.range(0));
  absl::flat_hash_map<std::uint64_t, std::uint64_t> map;
  std::vector<std::uint64_t> keys;
  for (std::uint32_t i = 0; i < count; ++i) {
    keys.push_back((std::uint64_t{0x0A000000} + i) << 16);
    map[keys.back()] = i;
  }
  std::mt19937 random(1);
  std::shuffle(keys.begin(), keys.end(), random);
  over(state, keys, [&](const std::uint64_t* at) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < batch; ++i) sum += map.find(at[i])->second;
    benchmark::DoNotOptimize(sum);
  });
}
BENCHMARK(absl_arp_hit)->Arg(1'000)->Arg(100'000);

// A packet from whom we know, the way a conversation's every minute is; and the question that nobody answers.
void arp_receive(benchmark::State& state) {
  auto table = ArpTable::create();
  const MacAddress ours{2, 0, 0, 0, 0, 1};
  table->add_local({0, {{10, 0, 0, 1}, 24}, ours}, false, 1s);
  std::array<std::byte, 28> bytes;
  ArpPacket{ArpOperation::request, {2, 0, 0, 0, 0, 2}, {10, 0, 0, 2}, {}, {10, 0, 0, 1}}.emit(bytes);
  const auto packet = *ArpView::parse(bytes);
  for (auto _ : state) benchmark::DoNotOptimize(table->receive(packet, 0, 2s));
}
BENCHMARK(arp_receive);

void ndp_receive(benchmark::State& state) {
  auto table = NdpTable::create();
  const Ipv6Address ours = Ipv6Address::from_numbers(0x2001'0db8'0000'0000, 1);
  const MacAddress theirs{2, 0, 0, 0, 0, 2};
  table->add_local({0, {ours, 64}, {2, 0, 0, 0, 0, 1}}, false, 1s);
  std::array<std::byte, NdpMessage::max_frame> frame;
  const auto asked = neighbor_solicitation(theirs, Ipv6Address::from_numbers(0x2001'0db8'0000'0000, 2), ours);
  const std::size_t size = asked.emit(frame);
  const auto packet = *Ipv6View::parse(std::span(frame).first(size).subspan(14));
  for (auto _ : state) benchmark::DoNotOptimize(table->receive(packet, theirs, 0, 2s));
}
BENCHMARK(ndp_receive);

// Addresses that nobody has yet: a batch asked for, the requests fetched, each answered and forgotten.
void resolve_and_answer(benchmark::State& state) {
  auto table = ArpTable::Table::create({.capacity = 4096});
  std::vector<ArpTable::Key> keys;
  for (std::uint32_t i = 0; i < 4096; ++i) keys.push_back({Ipv4Address(10, 0, 0, 0).advanced(i), 0});
  std::array<ArpTable::Table::Solicit, batch> due;
  Time now = 1s;
  over(state, keys, [&](const ArpTable::Key* at) {
    efio::Frame none;
    Neighbour neighbour;
    now += 10ms;
    for (std::size_t i = 0; i < batch; ++i) table->resolve(at[i], none, now, neighbour);
    if (table->poll(now, due) != batch) state.SkipWithError("not all were asked for");
    for (std::size_t i = 0; i < batch; ++i) {
      table->learn(at[i], MacAddress::from_number(i), Learn::confirm, now);
      table->flush({.address = at[i].address, .vlan = at[i].vlan});
    }
  });
}
BENCHMARK(resolve_and_answer);

void arp_poll_idle(benchmark::State& state) {
  auto table = ArpTable::create({.capacity = 100'000});
  for (std::uint32_t i = 0; i < 100'000; ++i)
    table->neighbours().learn({Ipv4Address(10, 0, 0, 0).advanced(i), 0}, MacAddress::from_number(i), Learn::create, 1s);
  std::array<ArpMessage, 32> out;
  for (auto _ : state) benchmark::DoNotOptimize(table->poll(2s, out));
}
BENCHMARK(arp_poll_idle);

// ---- Pool ----

// Acquire and release, with so many per thousand of all addresses' ports lent all the time. There is a block for two of
// the 4,096 subscribers': with 500, the one that each has is nearly full, or is and a second one is open.
void pool_acquire_release(benchmark::State& state, bool sequential, std::uint32_t block_size,
                          std::uint32_t addresses = 64) {
  const Ipv4Address outside{198, 51, 100, 0};
  auto pool = IppPool::create({.ranges = {{{outside, outside.advanced(addresses - 1)}}},
                               .protocols = {IpProtocol::udp},
                               .sequential = sequential,
                               .hold_down = 0s,
                               .block_size = block_size,
                               .blocks_each = 64});
  const std::size_t all = pool->free(IpProtocol::udp, 1s);
  std::mt19937_64 random(1);
  for (std::size_t i = 0; i < all * static_cast<std::size_t>(state.range(0)) / 1000; ++i)
    if (!pool->acquire({.subscriber = random() % 4096}, 1s)) return state.SkipWithError("exhausted early");
  std::vector<IppRequest> requests(4096);
  for (IppRequest& request : requests) request.subscriber = random() % 4096;
  std::array<IppAcquired, batch> got;
  std::array<IppBinding, batch> bindings;
  std::array<IppReleased, batch> released;
  over(state, requests, [&](const IppRequest* at) {
    pool->acquire({at, batch}, 1s, got);
    for (std::size_t i = 0; i < batch; ++i) bindings[i] = got[i].binding;
    pool->release(bindings, 1s, released);
    benchmark::DoNotOptimize(released.data());
  });
}
BENCHMARK_CAPTURE(pool_acquire_release, random_1_address, false, 0, 1)->Arg(0)->Arg(500)->Arg(999);
BENCHMARK_CAPTURE(pool_acquire_release, random, false, 0)->Arg(0)->Arg(500)->Arg(999);
BENCHMARK_CAPTURE(pool_acquire_release, sequential, true, 0)->Arg(0)->Arg(999);
BENCHMARK_CAPTURE(pool_acquire_release, blocks_of_512, false, 512)->Arg(250)->Arg(500);

// This port and no other, as a static mapping has it.
void pool_take_and_release(benchmark::State& state) {
  auto pool = IppPool::create({.ranges = {{{{198, 51, 100, 0}, {198, 51, 100, 63}}}}, .hold_down = 0s});
  std::mt19937 random(1);
  std::vector<IppBinding> wanted(4096);
  for (IppBinding& one : wanted)
    one = {Ipv4Address(198, 51, 100, static_cast<std::uint8_t>(random() % 64)),
           static_cast<std::uint16_t>(1024 + random() % 60'000), IpProtocol::udp};
  over(state, wanted, [&](const IppBinding* at) {
    std::array<IppReleased, batch> released;
    for (std::size_t i = 0; i < batch; ++i) benchmark::DoNotOptimize(pool->take(at[i], 1s));
    pool->release({at, batch}, 1s, released);
  });
}
BENCHMARK(pool_take_and_release);

// The least that a pool must do: a port from a list, and back; no subscriber, no address, nothing checked.
void list_acquire_release(benchmark::State& state) {
  std::vector<std::uint32_t> free(64 * 64'512);
  for (std::uint32_t i = 0; i < free.size(); ++i) free[i] = i;
  std::mt19937_64 random(1);
  std::array<std::uint32_t, batch> got;
  for (auto _ : state) {
    for (std::uint32_t& one : got) {
      std::swap(free[random() % free.size()], free.back());
      one = free.back();
      free.pop_back();
    }
    for (const std::uint32_t one : got) free.push_back(one);
  }
  each(state);
}
BENCHMARK(list_acquire_release);

// ---- Routes ----

// Prefixes as a full table has them: mostly /24 to /16, some longer.
std::vector<Ipv4Prefix> prefixes(std::size_t count) {
  std::mt19937_64 random(1);
  constexpr std::array<std::uint8_t, 8> lengths{24, 24, 24, 24, 22, 20, 16, 28};
  std::vector<Ipv4Prefix> all;
  for (std::size_t i = 0; i < count; ++i) {
    const Ipv4Prefix prefix{Ipv4Address::from_number(static_cast<std::uint32_t>(random())), lengths[random() % 8]};
    all.push_back({prefix.first(), prefix.length});
  }
  return all;
}
std::vector<Ipv4Address> targets(const std::vector<Ipv4Prefix>& routes) {
  std::mt19937_64 random(2);
  std::vector<Ipv4Address> all(1 << 16);
  for (Ipv4Address& one : all) one = routes[random() % routes.size()].address.advanced(random() % 16);
  return all;
}

void routes_lookup(benchmark::State& state) {
  const auto all = prefixes(static_cast<std::size_t>(state.range(0)));
  auto routes = Routes4::create({.capacity = all.size(), .blocks = 400'000});
  for (std::size_t i = 0; i < all.size(); ++i)
    if (routes->add(all[i], static_cast<RouteNumber>(i % 200)) != RouteStatus::done) return state.SkipWithError("full");
  std::array<RouteNumber, batch> numbers;
  over(state, targets(all), [&](const Ipv4Address* at) {
    routes->lookup({at, batch}, numbers);
    benchmark::DoNotOptimize(numbers.data());
    benchmark::ClobberMemory();
  });
}
BENCHMARK(routes_lookup)->Arg(1'000)->Arg(100'000);

void rte_lpm_lookup(benchmark::State& state) {
  const auto all = prefixes(static_cast<std::size_t>(state.range(0)));
  const rte_lpm_config config{.max_rules = static_cast<std::uint32_t>(all.size()), .number_tbl8s = 1 << 16, .flags = 0};
  rte_lpm* const lpm = rte_lpm_create("peer", 0, &config);
  if (lpm == nullptr) return state.SkipWithError("rte_lpm_create failed");
  for (std::size_t i = 0; i < all.size(); ++i)
    if (rte_lpm_add(lpm, all[i].address.number(), all[i].length, static_cast<std::uint32_t>(i % 200)) < 0)
      return state.SkipWithError("rte_lpm is full");
  std::vector<std::uint32_t> numbers;
  for (const Ipv4Address address : targets(all)) numbers.push_back(address.number());
  std::array<std::uint32_t, batch> hops;
  over(state, numbers, [&](const std::uint32_t* at) {
    rte_lpm_lookup_bulk(lpm, at, hops.data(), batch);
    benchmark::DoNotOptimize(hops.data());
    benchmark::ClobberMemory();
  });
  rte_lpm_free(lpm);
}
BENCHMARK(rte_lpm_lookup)->Arg(1'000)->Arg(100'000);

// Of 2000::/3, mostly /48 to /32.
std::vector<Ipv6Prefix> prefixes6(std::size_t count) {
  std::mt19937_64 random(1);
  constexpr std::array<std::uint8_t, 8> lengths{48, 48, 48, 48, 32, 40, 44, 64};
  std::vector<Ipv6Prefix> all;
  for (std::size_t i = 0; i < count; ++i) {
    const auto address = Ipv6Address::from_numbers(random() >> 3 | std::uint64_t{1} << 61, 0);
    const Ipv6Prefix prefix{address, lengths[random() % 8]};
    all.push_back({prefix.first(), prefix.length});
  }
  return all;
}
std::vector<Ipv6Address> targets6(const std::vector<Ipv6Prefix>& routes) {
  std::mt19937_64 random(2);
  std::vector<Ipv6Address> all(1 << 16);
  for (Ipv6Address& one : all) one = routes[random() % routes.size()].address.advanced(random() % 16);
  return all;
}

void routes6_lookup(benchmark::State& state) {
  const auto all = prefixes6(static_cast<std::size_t>(state.range(0)));
  auto routes = Routes6::create({.capacity = all.size(), .blocks = 400'000});
  for (std::size_t i = 0; i < all.size(); ++i)
    if (routes->add(all[i], static_cast<RouteNumber>(i % 200)) != RouteStatus::done) return state.SkipWithError("full");
  std::array<RouteNumber, batch> numbers;
  over(state, targets6(all), [&](const Ipv6Address* at) {
    routes->lookup({at, batch}, numbers);
    benchmark::DoNotOptimize(numbers.data());
    benchmark::ClobberMemory();
  });
}
BENCHMARK(routes6_lookup)->Arg(1'000)->Arg(100'000);

void rte_lpm6_lookup(benchmark::State& state) {
  const auto all = prefixes6(static_cast<std::size_t>(state.range(0)));
  const rte_lpm6_config config{
      .max_rules = static_cast<std::uint32_t>(all.size()), .number_tbl8s = 1 << 19, .flags = 0};
  rte_lpm6* const lpm = rte_lpm6_create("peer6", 0, &config);
  if (lpm == nullptr) return state.SkipWithError("rte_lpm6_create failed");
  using Bytes = std::uint8_t[16];
  for (std::size_t i = 0; i < all.size(); ++i) {
    Bytes address;
    std::memcpy(address, &all[i].address, sizeof address);
    if (rte_lpm6_add(lpm, address, all[i].length, static_cast<std::uint32_t>(i % 200)) < 0)
      return state.SkipWithError("rte_lpm6 is full");
  }
  std::array<std::int32_t, batch> hops;
  over(state, targets6(all), [&](const Ipv6Address* at) {
    auto* const bytes = reinterpret_cast<Bytes*>(const_cast<Ipv6Address*>(at));  // which it only reads
    rte_lpm6_lookup_bulk_func(lpm, bytes, hops.data(), batch);
    benchmark::DoNotOptimize(hops.data());
    benchmark::ClobberMemory();
  });
  rte_lpm6_free(lpm);
}
BENCHMARK(rte_lpm6_lookup)->Arg(1'000)->Arg(100'000);

}  // namespace

int main(int argc, char** argv) { return tables_bench::run(argc, argv, "2048"); }
