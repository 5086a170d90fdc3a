// What a pipeline costs, in ns a packet and batches of 64: three plugins that do nothing, as classes and from a shared
// object, beside the same three called once a packet; and the ready ones, each alone.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "efio/port.h"
#include "efnet/plugins/arp.h"
#include "efnet/plugins/load.h"
#include "efnet/plugins/pipeline.h"
#include "efnet/wire/checksum.h"

namespace {

using namespace efnet;
using namespace std::chrono_literals;

constexpr std::size_t batch_size = PacketBatch::capacity;

class Nothing final : public Plugin {
 public:
  std::string_view name() const noexcept override { return "nothing"; }
};

// A pipe of whose receiving end 64 UDP frames are lent, again and again.
struct Lent {
  Lent() {
    std::vector<std::byte> frame(60);
    std::span<std::byte> left(frame);
    const auto emit = [&](const auto& header) { left = left.subspan(header.emit(left)); };
    emit(EthernetHeader{.dst = {2, 0, 0, 0, 0, 2}, .src = {2, 0, 0, 0, 0, 1}});
    emit(Ipv4Header{.src = {10, 0, 0, 1}, .dst = {10, 0, 0, 2}, .payload_length = 26});
    emit(UdpHeader{.src_port = 1024, .dst_port = 53, .payload_length = 18});
    fill_frame(frame);
    for (std::size_t i = 0; i < batch_size; ++i) far.tx().send(frame);
    far.tx().flush();
  }

  efio::Port near = *efio::Port::open("pipe:bench/a");
  efio::Port far = *efio::Port::open("pipe:bench/b");
};

void per_packet(benchmark::State& state) {
  state.counters["packet"] = benchmark::Counter(static_cast<double>(state.iterations() * batch_size),
                                                benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void gates(benchmark::State& state, const std::string& plugin, int times) {
  Lent lent;
  Pipeline pipeline(&lent.near.tx());
  for (int i = 0; i < times; ++i) {
    if (plugin == "class") {
      pipeline.add(std::make_shared<Nothing>());
    } else if (const auto added = pipeline.add(plugin); !added) {
      state.SkipWithError(added.error().message().c_str());
      return;
    }
  }
  auto batch = lent.near.rx().receive(batch_size);
  for (auto _ : state) {
    RxPackets packets(batch);
    pipeline.ingate(packets, 1s);
    pipeline.outgate(packets, 1s);
    benchmark::DoNotOptimize(packets.count());
  }
  per_packet(state);
}
BENCHMARK_CAPTURE(gates, none, "class", 0);
BENCHMARK_CAPTURE(gates, three_classes, "class", 3);
BENCHMARK_CAPTURE(gates, three_of_a_shared_object, EFIO_BENCH_PLUGIN, 3);
BENCHMARK_CAPTURE(gates, count, "count", 1);
BENCHMARK_CAPTURE(gates, filter_udp_port, "filter:udp port 53", 1);
BENCHMARK_CAPTURE(gates, limit_by_source, "limit:1T?gate=in", 1);
BENCHMARK_CAPTURE(gates, icmp_echo_not_ours, "icmp_echo:10.0.0.2", 1);

// Outgoing frames without a destination MAC, completed from the table.
class Blank final : public Plugin {
 public:
  std::string_view name() const noexcept override { return "blank"; }
  void outgate(PacketBatch& packets, Gate&) noexcept override {
    for (const std::size_t i : packets) std::fill_n(packets.bytes(i).begin(), 12, std::byte{0});
  }
};

void arp_completes(benchmark::State& state) {
  Lent lent;
  Pipeline pipeline(&lent.near.tx());
  auto arp = ArpPlugin::create({.locals = {{.prefix = {{10, 0, 0, 1}, 24}, .mac = {2, 0, 0, 0, 0, 1}}}});
  (*arp)->table().neighbours().add({{10, 0, 0, 2}}, {2, 0, 0, 0, 0, 2}, 1s);
  pipeline.add(std::shared_ptr<Plugin>(std::move(*arp)));
  pipeline.add(std::make_shared<Blank>());
  auto batch = lent.near.rx().receive(batch_size);
  for (auto _ : state) {
    RxPackets packets(batch);
    pipeline.outgate(packets, 1s);
    if (packets.count() != batch_size) state.SkipWithError("a frame was kept");
  }
  per_packet(state);
}
BENCHMARK(arp_completes);

// The usual other way: one call a packet and plugin, for each gate.
using EachPacket = std::function<bool(efio::Slot&)>;

void a_call_per_packet(benchmark::State& state) {
  Lent lent;
  std::vector<EachPacket> in(3, [](efio::Slot&) { return true; }), out = in;
  auto batch = lent.near.rx().receive(batch_size);
  for (auto _ : state) {
    std::size_t passed = 0;
    for (efio::Slot& slot : batch) {
      const auto passes = [&](const EachPacket& plugin) { return plugin(slot); };
      passed += std::ranges::all_of(in, passes) && std::ranges::all_of(out, passes);
    }
    benchmark::DoNotOptimize(passed);
  }
  per_packet(state);
}
BENCHMARK(a_call_per_packet);

// Each frame dropped, or answered: what the slow ways cost.
class DropAll final : public Plugin {
 public:
  std::string_view name() const noexcept override { return "drop_all"; }
  void ingate(PacketBatch& packets, Gate&) noexcept override {
    for (const std::size_t i : packets) packets.drop(i, efio::DropReason::filtered);
  }
};
class MakeAll final : public Plugin {
 public:
  std::string_view name() const noexcept override { return "make_all"; }
  void ingate(PacketBatch& packets, Gate& gate) noexcept override {
    for (std::size_t i = 0; i < packets.size(); ++i) benchmark::DoNotOptimize(gate.make(60).data());
  }
};

template <class Kind>
void round_trip(benchmark::State& state) {
  Lent lent;
  Pipeline pipeline(&lent.near.tx());
  pipeline.add(std::make_shared<Kind>());
  for (auto _ : state) {
    auto batch = lent.near.rx().receive(batch_size);
    RxPackets packets(batch);
    pipeline.ingate(packets, 1s);
    packets.finish();
    lent.near.tx().flush();
    lent.far.rx().receive(batch_size).finish();
    auto free = lent.far.tx().claim(batch_size);
    for (efio::Slot& slot : free) slot.length = 60;
    free.commit();
    lent.far.tx().flush();
  }
  per_packet(state);
}
BENCHMARK(round_trip<Nothing>);
BENCHMARK(round_trip<DropAll>);
BENCHMARK(round_trip<MakeAll>);

// Each frame kept, and handed on inwards at once.
class KeepAll final : public Plugin {
 public:
  std::string_view name() const noexcept override { return "keep_all"; }
  void ingate(PacketBatch& packets, Gate& gate) noexcept override {
    for (const std::size_t i : packets)
      if (auto frame = packets.take(i)) gate.release_inwards(*frame);
  }
};
void keep_and_return(benchmark::State& state) {
  Lent lent;
  Pipeline pipeline(&lent.near.tx());
  pipeline.add(std::make_shared<KeepAll>());
  ReturnedPackets more;
  for (auto _ : state) {
    auto batch = lent.near.rx().receive(batch_size);
    RxPackets packets(batch);
    pipeline.ingate(packets, 1s);
    packets.finish();
    if (!pipeline.returned(more, 1s) || more.count() != batch_size) state.SkipWithError("a frame is missing");
    forward(more, lent.near.tx());
    more.finish();
    lent.near.tx().flush();
    lent.far.rx().receive(batch_size).finish();
    auto free = lent.far.tx().claim(batch_size);
    for (efio::Slot& slot : free) slot.length = 60;
    free.commit();
    lent.far.tx().flush();
  }
  per_packet(state);
}
BENCHMARK(keep_and_return);

// A port as one of its VLANs: the tag on, on the way out, and off again on the way in.
void vlan_in_and_out(benchmark::State& state) {
  Lent lent;
  Pipeline pipeline(&lent.near.tx());
  if (const auto added = pipeline.add("vlan:7"); !added) return state.SkipWithError(added.error().message().c_str());
  auto batch = lent.near.rx().receive(batch_size);
  for (auto _ : state) {
    RxPackets packets(batch);
    pipeline.outgate(packets, 1s);
    pipeline.ingate(packets, 1s);
    if (packets.count() != batch_size) state.SkipWithError("a frame is missing");
  }
  per_packet(state);
}
BENCHMARK(vlan_in_and_out);

}  // namespace

BENCHMARK_MAIN();
