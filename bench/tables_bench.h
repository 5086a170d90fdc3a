#pragma once

#include <benchmark/benchmark.h>
#include <rte_eal.h>

#include <array>
#include <cstddef>
#include <vector>

// What the benchmarks of tables share: batches of keys round and round, and DPDK, of which some peers are, in ordinary
// memory.

namespace tables_bench {

inline constexpr std::size_t batch = 32;

// Calls job(batch of keys) round and round.
template <class Key, class Job>
void over(benchmark::State& state, const std::vector<Key>& keys, Job job) {
  std::size_t at = 0;
  for (auto _ : state) {
    job(keys.data() + at);
    at += batch;
    if (at + batch > keys.size()) at = 0;
  }
}

// main(), with so many MiB for DPDK.
inline int run(int argc, char** argv, const char* memory) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  std::array<char*, 8> eal{argv[0],
                           const_cast<char*>("--no-huge"),
                           const_cast<char*>("--no-pci"),
                           const_cast<char*>("--no-telemetry"),
                           const_cast<char*>("-m"),
                           const_cast<char*>(memory),
                           const_cast<char*>("--log-level=1"),
                           nullptr};
  if (rte_eal_init(7, eal.data()) < 0) return 3;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace tables_bench
