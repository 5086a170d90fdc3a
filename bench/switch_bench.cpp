// The bridge's thread between pipes on one core: the wire beside a bare forward() of the same pipes, and a switch of eight
// ports with random addresses. 60-byte frames; what comes out is put in again where it belongs, by swap, in the same
// thread and outside of the bridge.
#include <benchmark/benchmark.h>

#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "efio/clock.h"
#include "efio/forward.h"
#include "efio/port.h"
#include "efnet/wire/address.h"
#include "tools/mbdg/worker.h"

namespace {

constexpr std::size_t batch_size = 64;
constexpr std::uint64_t station_bits = 16;

struct Fabric {
  std::vector<efio::Port> hosts, ends;
  efio::mbdg::Options options;
  std::optional<efnet::Switch> bridge;
  std::unique_ptr<efio::mbdg::Worker> worker;

  explicit Fabric(std::size_t ports, std::int64_t ring = 1024) {
    static int number = 0;
    for (std::size_t i = 0; i < ports; ++i) {
      const auto uri = "pipe:switch-bench-" + std::to_string(number++) + "?ring=" + std::to_string(ring);
      hosts.push_back(std::move(*efio::Port::open(uri)));
      ends.push_back(std::move(*efio::Port::open(uri)));
    }
    if (ports > 2) bridge.emplace(std::move(*efnet::Switch::create({.ports = std::vector<efnet::SwitchPortOptions>(ports)})));
    worker = std::make_unique<efio::mbdg::Worker>(options, bridge ? &*bridge : nullptr, nullptr);
    auto& wiring = worker->wiring();
    wiring.ingates.resize(ports);
    wiring.outgates.resize(ports);
    for (std::size_t i = 0; i < ports; ++i) {
      wiring.sources.push_back({&ends[i].rx(), static_cast<std::uint16_t>(i), nullptr});
      wiring.exits.push_back(&ends[i].tx());
    }
  }

  void put(std::size_t host, std::uint64_t to, std::uint64_t from) {
    std::array<std::byte, 60> frame{};
    efnet::MacAddress::from_number(to).store(frame.data());
    efnet::MacAddress::from_number(from).store(frame.data() + 6);
    frame[12] = std::byte{8};
    hosts[host].tx().send(frame);
  }
};

void set_rate(benchmark::State& state, std::size_t frames) { state.SetItemsProcessed(static_cast<std::int64_t>(frames)); }

// What the bridge has sent to a host is turned round and sent again.
void bounce(Fabric& fabric) {
  for (auto& host : fabric.hosts) {
    auto batch = host.rx().receive(batch_size);
    efio::forward(batch, host.tx());
    host.tx().flush();
  }
}

template <bool bridged>
void wire(benchmark::State& state) {
  Fabric fabric(2);
  for (int i = 0; i < 512; ++i) fabric.put(0, 2, 1);
  fabric.hosts[0].tx().flush();
  std::size_t frames = 0;
  for (auto _ : state) {
    if constexpr (bridged)
      frames += fabric.worker->round();
    else
      for (std::size_t p = 0; p < 2; ++p) {
        auto batch = fabric.ends[p].rx().receive(batch_size);
        frames += efio::forward(batch, fabric.ends[1 - p].tx());
        fabric.ends[1 - p].tx().flush();
      }
    bounce(fabric);
  }
  set_rate(state, frames);
}

// Stations speak to stations at random; a host that gets a frame passes it on to another station, as one of its own.
// Writing these addresses is part of what is measured: one line that the switch has just read.
// Of two ports a wire is made: what they cost there is what it looks at.
template <std::size_t ports>
void stations_speak(benchmark::State& state) {
  const auto stations = static_cast<std::uint64_t>(state.range(0));
  Fabric fabric(ports, state.range(1));
  const auto station = [&](std::size_t host, std::uint64_t number) {
    return 0x0200'0000'0000 | (std::uint64_t{host} << station_bits) | number;
  };
  const std::uint64_t each = stations / ports;
  for (std::size_t host = 0; fabric.bridge && host < ports; ++host)
    for (std::uint64_t i = 0; i < each; ++i)
      fabric.bridge->table().learn(efnet::MacTable::key(station(host, i), 0), static_cast<std::uint16_t>(host),
                                   std::chrono::nanoseconds(efio::Clock::monotonic()));
  // Drawn on the way, so that no list of them takes the caches' place (SplitMix64).
  std::uint64_t drawn = 0;
  const auto address = [&](std::size_t host, efio::Slot& slot) {
    std::uint64_t random = drawn += 0x9E37'79B9'7F4A'7C15;
    random = (random ^ random >> 30) * 0xBF58'476D'1CE4'E5B9;
    random = (random ^ random >> 27) * 0x94D0'49BB'1331'11EB;
    const std::size_t to = (host + 1 + (random & 0xFF) % (ports - 1)) % ports;
    auto* const bytes = slot.bytes().data();
    efnet::MacAddress::from_number(station(to, (random >> 8) % each)).store(bytes);
    efnet::MacAddress::from_number(station(host, (random >> 36) % each)).store(bytes + 6);
  };
  for (std::size_t host = 0; host < ports; ++host) {
    auto batch = fabric.hosts[host].tx().claim(128);
    for (auto& slot : batch) {
      std::memset(slot.buffer + slot.offset, 8, 60);
      slot.length = 60;
      address(host, slot);
    }
    batch.commit();
    fabric.hosts[host].tx().flush();
  }
  std::size_t frames = 0;
  double hosts_ns = 0, all_ns = 0;
  for (auto _ : state) {
    const auto start = efio::Clock::monotonic();
    frames += fabric.worker->round();
    const auto middle = efio::Clock::monotonic();
    for (std::size_t host = 0; host < ports; ++host) {
      auto batch = fabric.hosts[host].rx().receive(256);
      for (auto& slot : batch) address(host, slot);
      efio::forward(batch, fabric.hosts[host].tx());
      fabric.hosts[host].tx().flush();
    }
    const auto end = efio::Clock::monotonic();
    hosts_ns += static_cast<double>(end - middle);
    all_ns += static_cast<double>(end - start);
    state.SetIterationTime(static_cast<double>(middle - start) / 1e9);
  }
  set_rate(state, frames);
  state.counters["hosts' share"] = hosts_ns / all_ns;
  state.counters["copied"] = static_cast<double>(fabric.worker->copied());
  state.counters["lost"] = [&] {
    std::uint64_t lost = 0;
    for (auto& end : fabric.ends) lost += end.stats().tx.total_dropped() + end.stats().rx.total_dropped();
    return static_cast<double>(lost);
  }();
}

BENCHMARK(wire<false>)->Name("wire/bare");
BENCHMARK(wire<true>)->Name("wire/mbdg");
BENCHMARK(stations_speak<2>)->Name("wire/stations")->ArgNames({"addresses", "ring"})->ArgsProduct({{2, 65'536}, {1024}})->UseManualTime();
BENCHMARK(stations_speak<8>)->Name("switch/8 ports")
    ->ArgNames({"addresses", "ring"})
    ->ArgsProduct({{16, 1024, 65'536}, {256, 1024}})
    ->UseManualTime();

}  // namespace

BENCHMARK_MAIN();
