// Forwarding between pipes on one core, beside the least that the same work can cost: a bare swap of slots in two plain
// rings. 60-byte frames, batches of 64.
#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "efio/forward.h"
#include "efio/port.h"

namespace {

constexpr std::size_t batch_size = 64;

// The bare loop: one virtual call for each of peek and done, no counters, no flush, no checks.
struct BareRing {
  explicit BareRing(std::uint32_t n) : slots(n), mask(n - 1), memory(n) {
    for (std::uint32_t i = 0; i < n; ++i) {
      memory[i].reset(new (std::align_val_t(64)) std::byte[2112]());
      slots[i] = {memory[i].get(), 60, 0, 0, 0, i};
    }
  }
  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t(64)); }
  };
  std::vector<efio::Slot> slots;
  std::uint32_t head = 0, tail = 0, mask;
  std::vector<std::unique_ptr<std::byte[], Free>> memory;
};
struct BareQueue {
  virtual ~BareQueue() = default;
  virtual std::span<efio::Slot> peek(std::size_t most) = 0;
  virtual void done(std::size_t n) = 0;
};
struct BareRx final : BareQueue {
  explicit BareRx(BareRing& r) : ring(r) {}
  std::span<efio::Slot> peek(std::size_t most) override {
    const auto at = ring.head & ring.mask;
    const auto n = std::min<std::size_t>({ring.tail - ring.head, most, ring.mask + 1 - at});
    return {&ring.slots[at], n};
  }
  void done(std::size_t n) override { ring.head += static_cast<std::uint32_t>(n); }
  BareRing& ring;
};
struct BareTx final : BareQueue {
  explicit BareTx(BareRing& r) : ring(r) {}
  std::span<efio::Slot> peek(std::size_t most) override {
    const auto at = ring.tail & ring.mask;
    const auto n = std::min<std::size_t>({ring.mask + 1 - (ring.tail - ring.head), most, ring.mask + 1 - at});
    return {&ring.slots[at], n};
  }
  void done(std::size_t n) override { ring.tail += static_cast<std::uint32_t>(n); }
  BareRing& ring;
};

[[gnu::noinline]] std::size_t bare_forward(BareQueue& in, BareQueue& out, std::size_t most) {
  auto a = in.peek(most);
  auto b = out.peek(a.size());
  for (std::size_t i = 0; i < b.size(); ++i) std::swap(a[i], b[i]);
  in.done(b.size());
  out.done(b.size());
  return b.size();
}

void swap_macs(std::span<std::byte> frame) {
  std::byte destination[6];
  std::memcpy(destination, frame.data(), 6);
  std::memcpy(frame.data(), frame.data() + 6, 6);
  std::memcpy(frame.data() + 6, destination, 6);
}

void set_rate(benchmark::State& state, std::size_t frames) {
  state.SetItemsProcessed(static_cast<std::int64_t>(frames));
}

template <bool touch>
void bare(benchmark::State& state) {
  const auto size = static_cast<std::uint32_t>(state.range(0));
  BareRing there(size), back(size);
  BareRx from_there(there), from_back(back);
  BareTx to_there(there), to_back(back);
  there.tail = size;
  std::size_t frames = 0;
  for (auto _ : state) {
    if constexpr (touch)
      for (auto& slot : from_there.peek(batch_size)) swap_macs(slot.bytes());
    frames += bare_forward(from_there, to_back, batch_size);
    if constexpr (touch)
      for (auto& slot : from_back.peek(batch_size)) swap_macs(slot.bytes());
    frames += bare_forward(from_back, to_there, batch_size);
  }
  set_rate(state, frames);
}

// A pipe forwards to another and back: a1 → b1 → (forward) → b2 … with both rings full of 60-byte frames.
template <bool touch>
void ours(benchmark::State& state) {
  static int number = 0;
  const auto name = "bench" + std::to_string(number++);
  const auto options = "?ring=" + std::to_string(state.range(0));
  auto a = efio::Port::open("pipe:" + name + options);
  auto b = efio::Port::open("pipe:" + name);
  if (!a || !b) return state.SkipWithError("no pipe");
  for (std::int64_t i = 0; i < state.range(0);) {
    auto batch = a->tx().claim(batch_size);
    for (auto& slot : batch) std::memset(slot.buffer + slot.offset, 0, 60), slot.length = 60;
    i += static_cast<std::int64_t>(batch.commit());
    a->tx().flush();
  }
  std::size_t frames = 0;
  const auto hop = [&](efio::RxQueue& rx, efio::TxQueue& tx) {
    auto batch = rx.receive(batch_size);
    if constexpr (touch)
      for (auto& slot : batch) swap_macs(slot.bytes());
    frames += efio::forward(batch, tx);
    tx.flush();
  };
  for (auto _ : state) {
    hop(b->rx(), b->tx());
    hop(a->rx(), a->tx());
  }
  set_rate(state, frames);
}

BENCHMARK(bare<false>)->Name("forward/bare")->Arg(256)->Arg(1024)->Arg(4096);
BENCHMARK(ours<false>)->Name("forward/pipe")->Arg(256)->Arg(1024)->Arg(4096);
BENCHMARK(bare<true>)->Name("macswap/bare")->Arg(256)->Arg(1024)->Arg(4096);
BENCHMARK(ours<true>)->Name("macswap/pipe")->Arg(256)->Arg(1024)->Arg(4096);

}  // namespace

BENCHMARK_MAIN();
