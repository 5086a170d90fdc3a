#include <sched.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "efio/clock.h"
#include "efio/fail.h"
#include "efio/port.h"
#include "tools/common/cpus.h"
#include "tools/io_gen/generator.h"
#include "tools/io_gen/receiver.h"
#include "tools/io_gen/sender.h"
#include "tools/io_gen/table_cells.h"

namespace efio::io_gen {

namespace {

constexpr std::size_t runs = 5;  // odd: the median is one of them

// Slots of the ring: few where one thread has the frames back at once, so that they stay in its nearest cache; many
// where two threads must not wait for each other.
constexpr std::size_t ring_of(Row row) {
  switch (row) {
    case Row::rx_only:
      return 1024;
    case Row::two_threads:
      return 4096;
    default:
      return 256;
  }
}

// Who finds less than a batch has caught up with the other thread. Waiting about a microsecond lets a few batches come
// together; running on its heels, each line is fetched from the other's cache alone: a quarter of the rate. Who finds
// nothing several times over may hold the very processor that the other one needs, and hands it over.
class Patience {
 public:
  void after(std::size_t moved, std::size_t batch) noexcept {
    if (moved > 0) empty_ = 0;
    if (moved == batch) return;
    for (int i = 0; i < 50; ++i) __builtin_ia32_pause();
    if (moved == 0 && ++empty_ % most_empty == 0) ::sched_yield();
  }

 private:
  static constexpr unsigned most_empty = 8;
  unsigned empty_ = 0;
};

struct Timed {
  std::uint64_t frames = 0, ns = 0;
  double rate() const noexcept { return ns == 0 ? 0 : static_cast<double>(frames) * 1e9 / static_cast<double>(ns); }
};

// A pipe, what fills it and what empties it.
class Bench {
 public:
  static Result<std::unique_ptr<Bench>> create(const Options& options, Row row, std::uint64_t flows) {
    Traffic traffic = options.traffic;
    traffic.flows = flows;
    auto generator = Generator::create(traffic);
    if (!generator) return std::unexpected(generator.error());
    if (row == Row::two_threads) generator->expect_reader_elsewhere();
    const auto uri = fmt::format("pipe:io_gen_table?ring={}&frame={}", ring_of(row),
                                 std::max<std::size_t>(1920, traffic.sizes.largest()));
    auto tx = Port::open(uri, {.direction = Direction::tx});
    if (!tx) return std::unexpected(tx.error());
    auto rx = Port::open(uri, {.direction = Direction::rx});
    if (!rx) return std::unexpected(rx.error());
    return std::make_unique<Bench>(options, row, std::move(*tx), std::move(*rx), std::move(*generator));
  }
  Bench(const Options& options, Row row, Port tx, Port rx, Generator generator)
      : options_(options),
        tx_(std::move(tx)),
        rx_(std::move(rx)),
        generator_(std::move(generator)),
        checker_(Sequences::Start::zero, true),
        sender_(tx_.tx(), generator_, Rate{}, UINT64_MAX, options.batch),
        receiver_(rx_, checker_, UINT64_MAX, options.batch) {
    if (row == Row::two_threads) checker_.expect_writer_elsewhere();
  }

  Result<Timed> run(Row row, std::uint64_t ns) {
    switch (row) {
      case Row::rx_only:
        return rx_only(ns);
      case Row::tx_only:
        return tx_only(ns);
      case Row::one_thread:
        return one_thread(ns);
      case Row::two_threads:
        break;
    }
    return two_threads(ns);
  }

  void tell(Cell& cell, Row row) {
    if (row != Row::tx_only && options_.traffic.tag)
      for (std::size_t i = 0; i < generator_.streams(); ++i)
        checker_.sequences().expect_until(generator_.stream(i), generator_.next_sequence(i));
    cell.checks = checker_.counts();
    cell.sequence = checker_.sequences().counts();
  }

 private:
  static constexpr int rounds = 256;  // between two looks at the clock

  Timed rx_only(std::uint64_t ns) {
    Timed timed;
    while (timed.ns < ns) {
      while (sender_.step() > 0) {}
      const std::uint64_t start = Clock::monotonic();
      for (std::size_t taken = receiver_.step(); taken > 0; taken = receiver_.step()) timed.frames += taken;
      timed.ns += Clock::monotonic() - start;
    }
    return timed;
  }

  Timed tx_only(std::uint64_t ns) {
    Timed timed;
    RxQueue& other = rx_.rx();
    const std::uint64_t start = Clock::monotonic();
    do {
      for (int i = 0; i < rounds; ++i) {
        timed.frames += sender_.step();
        other.receive(options_.batch).finish();
      }
      timed.ns = Clock::monotonic() - start;
    } while (timed.ns < ns);
    return timed;
  }

  Timed one_thread(std::uint64_t ns) {
    Timed timed;
    const std::uint64_t start = Clock::monotonic();
    do {
      for (int i = 0; i < rounds; ++i) {
        sender_.step();
        timed.frames += receiver_.step();
      }
      timed.ns = Clock::monotonic() - start;
    } while (timed.ns < ns);
    return timed;
  }

  Result<Timed> two_threads(std::uint64_t ns) {
    // What one thread writes for every batch lies in no line that the other one reads.
    alignas(64) std::atomic<bool> go{false}, stop{false}, stopped{false};
    Result<void> pinned;
    alignas(64) Timed timed;
    {
      std::jthread sending([&] {
        pinned = tools::pin_thread(options_.cpus, 0);
        while (!go.load(std::memory_order_acquire)) std::this_thread::yield();
        Patience patience;
        while (!stop.load(std::memory_order_relaxed)) patience.after(sender_.step(), options_.batch);
        stopped.store(true, std::memory_order_release);
      });
      std::jthread receiving([&] {
        const auto here = tools::pin_thread(options_.cpus, 1);
        Patience patience;
        const std::uint64_t start = Clock::monotonic();
        go.store(true, std::memory_order_release);
        for (;;) {
          for (int i = 0; i < rounds; ++i) {
            const auto taken = receiver_.step();
            timed.frames += taken;
            patience.after(taken, options_.batch);
          }
          timed.ns = Clock::monotonic() - start;
          if (timed.ns >= ns) break;
        }
        stop.store(true, std::memory_order_relaxed);
        while (!stopped.load(std::memory_order_acquire)) std::this_thread::yield();
        while (receiver_.step() > 0) {}
      });
    }
    if (!pinned) return std::unexpected(pinned.error());
    return timed;
  }

  const Options& options_;
  Port tx_, rx_;
  Generator generator_;
  Checker checker_;
  Sender sender_;
  Receiver receiver_;
};

}  // namespace

Result<Cell> measure_in_memory(const Options& options, Row row, std::uint64_t flows) {
  Result<Cell> outcome;
  // In a thread of its own, so that binding it to a processor ends with it.
  std::jthread([&] {
    const auto measure = [&]() -> Result<Cell> {
      if (auto ok = tools::pin_thread(options.cpus, 0); !ok) return std::unexpected(ok.error());
      auto bench = Bench::create(options, row, flows);
      if (!bench) return std::unexpected(bench.error());
      const auto ns = static_cast<std::uint64_t>(options.duration.count());
      Cell cell;
      if (auto warm = (*bench)->run(row, ns / 10); !warm) return std::unexpected(warm.error());
      std::vector<double> rates;
      for (std::size_t i = 0; i < runs; ++i) {
        const auto timed = (*bench)->run(row, ns / runs);
        if (!timed) return std::unexpected(timed.error());
        cell.frames += timed->frames;
        rates.push_back(timed->rate());
      }
      std::ranges::sort(rates);
      cell.rate = rates[runs / 2];
      (*bench)->tell(cell, row);
      return cell;
    };
    outcome = measure();
  }).join();
  return outcome;
}

}  // namespace efio::io_gen
