// What the NAT costs: 60-byte UDP frames from one end of a pipe to the other through Nat44, per direction; through the
// plugins nat44 and arp of two ports, next hop, MAC addresses and forwarding included; and by step.
#include <benchmark/benchmark.h>

#include <x86intrin.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <numeric>
#include <random>
#include <vector>

#include "efio/forward.h"
#include "efio/port.h"
#include "efnet/nat44/nat44.h"
#include "efnet/plugins/arp.h"
#include "efnet/plugins/nat44.h"
#include "efnet/plugins/pipeline.h"
#include "efnet/tables/table_memory.h"

namespace {

using namespace efnet;
using namespace std::chrono_literals;

constexpr std::size_t frame_size = 60;
constexpr Time start = 1000s;

FlowKey4 flow(std::uint32_t i) noexcept {
  return {.src = Ipv4Address(10, 0, 0, 0).advanced(1 + i / 1000),
          .dst = Ipv4Address(203, 0, 113, 5),
          .src_port = static_cast<std::uint16_t>(2000 + i % 1000),
          .dst_port = 53,
          .protocol = IpProtocol::udp};
}

void fill(std::span<std::byte> frame, const FlowKey4& key) {
  EthernetHeader{.dst = MacAddress(2, 0, 0, 0, 0, 1), .src = MacAddress(2, 0, 0, 0, 0, 2)}.emit(frame);
  constexpr std::size_t payload = frame_size - 14 - 20 - 8;
  const auto ip = frame.subspan(14);
  Ipv4Header{.src = key.src, .dst = key.dst, .protocol = key.protocol, .payload_length = 8 + payload}.emit(ip);
  UdpHeader{.src_port = key.src_port, .dst_port = key.dst_port, .payload_length = payload}.emit(ip.subspan(20));
  fill_frame(frame.first(frame_size));
}

// In a line of its own, and in huge pages, so that fetching it costs the generator, and not the NAT, as little as can
// be.
struct alignas(64) Frame : std::array<std::byte, frame_size> {};

// A NAT with this many sessions, and a frame of each as it comes from inside and as its answer comes from outside.
struct Gateway {
  explicit Gateway(std::uint32_t sessions)
      : inside(TableArray<Frame>::create(sessions).value()), outside(TableArray<Frame>::create(sessions).value()) {
    Nat44Options options;
    options.pool.ranges = {
        {Ipv4Range{Ipv4Address(198, 18, 0, 1), Ipv4Address(198, 18, 0, 1).advanced(sessions / 50'000)}}};
    options.sessions = sessions;
    options.pool.protocols = {IpProtocol::udp};
    auto halves = Nat44Plugin::create(std::move(options)).value();
    inside_half = std::move(halves.inside);
    outside_half = std::move(halves.outside);
    nat = &inside_half->nat();
    for (std::uint32_t begin = 0; begin < sessions; begin += Nat44::batch) {
      const std::uint32_t end = std::min<std::uint32_t>(begin + Nat44::batch, sessions);
      std::array<Frame, Nat44::batch> sent;
      std::array<std::span<std::byte>, Nat44::batch> spans;
      std::array<NatVerdict, Nat44::batch> verdicts;
      for (std::uint32_t i = begin; i < end; ++i) {
        fill(inside[i], flow(i));
        sent[i - begin] = inside[i];
        spans[i - begin] = sent[i - begin];
      }
      nat->outward(std::span(spans).first(end - begin), start, verdicts);
      for (std::uint32_t i = begin; i < end; ++i) {
        if (verdicts[i - begin] != NatVerdict::translated) std::abort();
        fill(outside[i], parse_flow(sent[i - begin]).key.key4().reversed());
      }
    }
    order.resize(sessions);
    std::iota(order.begin(), order.end(), 0U);
    std::shuffle(order.begin(), order.end(), std::mt19937(7));
  }

  const TableArray<Frame>& from(NatSide side) const { return side == NatSide::inside ? inside : outside; }

  std::shared_ptr<Nat44Plugin> inside_half, outside_half;
  Nat44* nat = nullptr;
  TableArray<Frame> inside, outside;
  std::vector<std::uint32_t> order;  // all sessions, at random
};

Gateway& gateway(std::uint32_t sessions) {
  static std::unique_ptr<Gateway> last;
  if (!last || last->inside.size() != sessions) last = std::make_unique<Gateway>(sessions);
  return *last;
}

void translate(Nat44& nat, NatSide from, std::span<const std::span<std::byte>> frames, Time now,
               std::span<NatVerdict> verdicts) {
  if (from == NatSide::inside)
    nat.outward(frames, now, verdicts);
  else
    nat.inward(frames, now, verdicts);
}

// Puts a batch of frames into the pipe. What comes next is fetched, as a card's direct cache access would have it.
class Source {
 public:
  Source(Gateway& gate, NatSide side, efio::Port& port) : frames_(gate.from(side)), order_(gate.order), port_(port) {}
  void send() {
    auto room = port_.tx().claim(Nat44::batch);
    for (efio::Slot& slot : room) {
      __builtin_prefetch(frames_[order_[(at_ + ahead) % order_.size()]].data());
      slot.length = frame_size;
      std::memcpy(slot.bytes().data(), frames_[order_[at_]].data(), frame_size);
      if (++at_ == order_.size()) at_ = 0;
    }
    room.commit(room.size());
    port_.tx().flush();
  }

 private:
  static constexpr std::size_t ahead = 32;
  const TableArray<Frame>& frames_;
  const std::vector<std::uint32_t>& order_;
  efio::Port& port_;
  std::size_t at_ = 0;
};

// Frames are written into the pipe, received, translated and given back. The copy that puts a frame into the pipe is
// measured alone too (`translates` false).
void through_pipe(benchmark::State& state, NatSide from, bool translates) {
  Gateway& gate = gateway(static_cast<std::uint32_t>(state.range(0)));
  auto near = efio::Port::open("pipe:nat_bench/a").value();
  auto far = efio::Port::open("pipe:nat_bench/b").value();
  Source source(gate, from, near);
  std::uint64_t count = 0;
  std::uint64_t translated = 0;
  for (auto _ : state) {
    source.send();
    auto batch = far.rx().receive(Nat44::batch);
    std::array<std::span<std::byte>, Nat44::batch> spans;
    std::array<NatVerdict, Nat44::batch> verdicts;
    for (std::size_t i = 0; i < batch.size(); ++i) spans[i] = batch[i].bytes();
    if (translates) {
      translate(*gate.nat, from, std::span(spans).first(batch.size()), start, verdicts);
      for (std::size_t i = 0; i < batch.size(); ++i) translated += passes(verdicts[i]) ? 1 : 0;
    } else {
      benchmark::DoNotOptimize(spans);
    }
    count += batch.size();
    batch.finish(batch.size());
  }
  if (translates && translated != count) state.SkipWithError("a packet was not translated");
  state.SetItemsProcessed(static_cast<std::int64_t>(count));
}

// What a router does: in through the pipeline of one port (parse, session, rewrite), out through that of the other
// (next hop, MAC addresses), forwarded and sent; whoever is there takes it. `time_steps`: cycles of the TSC by step.
void through_gates(benchmark::State& state, NatSide from, bool time_steps) {
  Gateway& gate = gateway(static_cast<std::uint32_t>(state.range(0)));
  std::array<efio::Port, 2> hosts{efio::Port::open("pipe:nat_bench_in/a").value(),
                                  efio::Port::open("pipe:nat_bench_out/a").value()};
  std::array<efio::Port, 2> ports{efio::Port::open("pipe:nat_bench_in/b").value(),
                                  efio::Port::open("pipe:nat_bench_out/b").value()};
  std::vector<Pipeline> pipelines;
  for (std::size_t side = 0; side < 2; ++side) {
    ArpPluginOptions options{.locals = {{.prefix = *Ipv4Prefix::parse(side == 0 ? "10.255.255.1/30" : "203.0.113.1/24"),
                                         .mac = MacAddress(2, 0, 0, 0, 0, 9)}},
                             .gateway = *Ipv4Address::parse(side == 0 ? "10.255.255.2" : "203.0.113.2")};
    std::shared_ptr<ArpPlugin> arp = ArpPlugin::create(options).value();
    for (const char* neighbour : {"10.255.255.2", "203.0.113.2", "203.0.113.5"})
      arp->table().neighbours().add({.address = *Ipv4Address::parse(neighbour), .vlan = 0},
                                    MacAddress(2, 0, 0, 0, 0, 7), start);
    pipelines.emplace_back(&ports[side].tx());
    pipelines.back().add(arp);
    pipelines.back().add(side == 0 ? gate.inside_half : gate.outside_half);
  }
  const auto near = static_cast<std::size_t>(from);
  const std::size_t far = 1 - near;
  Source source(gate, from, hosts[near]);
  std::uint64_t count = 0;
  std::uint64_t arrived = 0;
  std::array<std::uint64_t, 5> cycles{};
  std::uint64_t last = 0;
  const auto step = [&](std::size_t which) {
    if (!time_steps) return;
    const std::uint64_t now = __rdtsc();
    if (which != 0) cycles[which] += now - last;
    last = now;
  };
  for (auto _ : state) {
    source.send();
    step(0);
    auto batch = ports[near].rx().receive(PacketBatch::capacity);
    RxPackets packets(batch);
    step(1);
    pipelines[near].ingate(packets, start);
    step(2);
    pipelines[far].outgate(packets, start);
    step(3);
    count += forward(packets, ports[far].tx());
    packets.finish();
    ports[far].tx().flush();
    step(4);
    auto sent = hosts[far].rx().receive(PacketBatch::capacity);
    arrived += sent.size();
    sent.finish();
  }
  const bool is_complete = count != 0 && arrived == count && count == state.iterations() * Nat44::batch;
  if (!is_complete) state.SkipWithError("a packet was lost");
  state.SetItemsProcessed(static_cast<std::int64_t>(count));
  constexpr const char* names[] = {"", "receive", "ingate", "outgate", "forward"};
  for (std::size_t i = 1; time_steps && i < cycles.size(); ++i)
    state.counters[names[i]] = static_cast<double>(cycles[i]) / static_cast<double>(count);
}

// First packets of sessions that there are not yet, until the table is full; it is emptied outside of the time.
void begin_sessions(benchmark::State& state) {
  constexpr std::uint32_t sessions = 1'000'000;
  Nat44Options options;
  options.pool.ranges = {{Ipv4Range{Ipv4Address(198, 18, 0, 1), Ipv4Address(198, 18, 0, 32)}}};
  options.pool.protocols = {IpProtocol::udp};
  options.pool.hold_down = 0s;
  options.sessions = sessions;
  auto nat = Nat44::create(std::move(options)).value();
  std::vector<Frame> frames(sessions);
  Time now = start;
  for (auto _ : state) {
    state.PauseTiming();
    nat->flush(std::nullopt, now);
    now += 1s;
    for (std::uint32_t i = 0; i < sessions; ++i) fill(frames[i], flow(i));
    state.ResumeTiming();
    std::array<std::span<std::byte>, Nat44::batch> spans;
    std::array<NatVerdict, Nat44::batch> verdicts;
    for (std::size_t at = 0; at + Nat44::batch <= frames.size(); at += Nat44::batch) {
      for (std::size_t i = 0; i < Nat44::batch; ++i) spans[i] = frames[at + i];
      nat->outward(spans, now, verdicts);
    }
    if (nat->sessions().size() != sessions / Nat44::batch * Nat44::batch) state.SkipWithError("a session was not made");
  }
  state.SetItemsProcessed(state.iterations() * sessions);
  state.counters["bytes_per_session"] = static_cast<double>(nat->bytes()) / sessions;
}

void sizes(benchmark::internal::Benchmark* bench) { bench->Arg(16'384)->Arg(1'000'000)->Arg(10'000'000); }

BENCHMARK_CAPTURE(through_pipe, pipe_alone, NatSide::inside, false)->Apply(sizes);
BENCHMARK_CAPTURE(through_pipe, outward, NatSide::inside, true)->Apply(sizes);
BENCHMARK_CAPTURE(through_pipe, inward, NatSide::outside, true)->Apply(sizes);
BENCHMARK_CAPTURE(through_gates, outward, NatSide::inside, false)->Apply(sizes);
BENCHMARK_CAPTURE(through_gates, inward, NatSide::outside, false)->Apply(sizes);
BENCHMARK_CAPTURE(through_gates, cycles_outward, NatSide::inside, true)->Apply(sizes);
BENCHMARK(begin_sessions)->Iterations(4)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
