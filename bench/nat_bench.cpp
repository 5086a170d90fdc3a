// What the NAT costs: 60-byte UDP frames from one end of a pipe to the other through Nat44, per direction.
#include <benchmark/benchmark.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <random>
#include <vector>

#include "efio/forward.h"
#include "efio/port.h"
#include "efnet/nat44/nat44.h"

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

using Frame = std::array<std::byte, frame_size>;

// A NAT with this many sessions, and a frame of each as it comes from inside and as its answer comes from outside.
struct Gateway {
  explicit Gateway(std::uint32_t sessions) : inside(sessions), outside(sessions) {
    Nat44Options options;
    options.pool.ranges = {
        {Ipv4Range{Ipv4Address(198, 18, 0, 1), Ipv4Address(198, 18, 0, 1).advanced(sessions / 50'000)}}};
    options.sessions = sessions;
    nat = Nat44::create(std::move(options)).value();
    for (std::uint32_t i = 0; i < sessions; ++i) {
      fill(inside[i], flow(i));
      Frame sent = inside[i];
      const std::span<std::byte> frames[] = {sent};
      NatVerdict verdict{};
      nat->outward(frames, start, {&verdict, 1});
      if (verdict != NatVerdict::translated) std::abort();
      fill(outside[i], parse_flow(sent).key.key4().reversed());
    }
  }

  std::unique_ptr<Nat44> nat;
  std::vector<Frame> inside, outside;
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

// Frames are written into the pipe, received, translated and given back. The copy that puts a frame into the pipe is
// measured alone too (`translate` false).
void through_pipe(benchmark::State& state, NatSide from, bool translates) {
  Gateway& gate = gateway(static_cast<std::uint32_t>(state.range(0)));
  auto near = efio::Port::open("pipe:nat_bench/a").value();
  auto far = efio::Port::open("pipe:nat_bench/b").value();
  const auto& frames = from == NatSide::inside ? gate.inside : gate.outside;
  std::mt19937 random(7);
  std::vector<std::uint32_t> order(1 << 16);
  for (auto& index : order) index = static_cast<std::uint32_t>(random() % frames.size());
  std::size_t at = 0;
  std::uint64_t count = 0;
  std::uint64_t translated = 0;
  for (auto _ : state) {
    auto room = near.tx().claim(Nat44::batch);
    for (efio::Slot& slot : room) {
      // What comes next is fetched, as a card's direct cache access would have it.
      __builtin_prefetch(frames[order[(at + 16) % order.size()]].data());
      slot.length = frame_size;
      std::memcpy(slot.bytes().data(), frames[order[at++ % order.size()]].data(), frame_size);
    }
    room.commit(room.size());
    near.tx().flush();
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

// First packets of sessions that there are not yet, until the table is full; it is emptied outside of the time.
void begin_sessions(benchmark::State& state) {
  constexpr std::uint32_t sessions = 1'000'000;
  Nat44Options options;
  options.pool.ranges = {{Ipv4Range{Ipv4Address(198, 18, 0, 1), Ipv4Address(198, 18, 0, 32)}}};
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

BENCHMARK_CAPTURE(through_pipe, pipe_alone, NatSide::inside, false)->Arg(16'384)->Arg(1'000'000);
BENCHMARK_CAPTURE(through_pipe, outward, NatSide::inside, true)->Arg(16'384)->Arg(1'000'000);
BENCHMARK_CAPTURE(through_pipe, inward, NatSide::outside, true)->Arg(16'384)->Arg(1'000'000);
BENCHMARK(begin_sessions)->Iterations(4)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
