// io_gen on simulated netmap ports: the rows of its table, each clean and complete.
#include <gtest/gtest.h>

#include <stdexcept>
#include <thread>
#include <vector>

#include "efio/clock.h"
#include "efio/port.h"
#include "tests/netmap/simulated_netmap.h"
#include "tools/io_gen/options.h"
#include "tools/io_gen/run.h"
#include "tools/io_gen/table_cells.h"

namespace efio::io_gen {

namespace {

Options parse(std::initializer_list<const char*> words) {
  const std::vector<const char*> all(words);
  auto options = parse_options(static_cast<int>(all.size()), all.data());
  if (!options || !*options) throw std::runtime_error("io_gen refuses its words");
  return **options;
}

TEST(NetmapIoGen, FillsTheRowsOfBothDirections) {
  const test::SimulatedNetmap module;
  for (const char* tx : {"netmap:x{1", "netmap:x}1"}) {
    const char* rx = std::string_view(tx) == "netmap:x{1" ? "netmap:x}1" : "netmap:x{1";
    const auto table = parse({"io_gen", "table", "--tx", tx, "--rx", rx, "--duration", "200ms"});
    for (const Row row : {Row::one_thread, Row::two_threads})
      for (const std::uint64_t flows : {1U, 1000U}) {
        const auto cell = measure_over_device(table, row, flows);
        ASSERT_TRUE(cell.has_value()) << cell.error().message();
        EXPECT_GT(cell->frames, 100U);
        EXPECT_GT(cell->rate, 0.0);
        EXPECT_TRUE(cell->clean());
      }
  }
}

// What the sender sends is kept, and then given to the receiver: a run owns the process's signals, so one at a time.
TEST(NetmapIoGen, SendsAndReceivesEachAlone) {
  constexpr std::size_t frames = 5000;
  const test::SimulatedNetmap module;
  const auto sending = parse({"io_gen", "tx", "netmap:x{1", "--count", "5000", "--duration", "10s"});
  const auto receiving = parse({"io_gen", "rx", "netmap:x{1", "--count", "5000", "--duration", "10s"});
  auto far = Port::open("netmap:x}1");
  ASSERT_TRUE(far.has_value()) << far.error().message();
  std::vector<std::vector<std::byte>> kept;
  const auto until = Clock::monotonic() + 20'000'000'000;
  {
    io_gen::Run sender(sending);
    ASSERT_TRUE(sender.prepare().has_value());
    std::jthread other([&] {
      while (kept.size() < frames && Clock::monotonic() < until) {
        auto batch = far->rx().receive(64);
        for (const auto& slot : batch) kept.emplace_back(slot.bytes().begin(), slot.bytes().end());
        batch.finish();
      }
    });
    sender.perform();
    other.join();
    EXPECT_EQ(sender.outcome().tx.frames, frames);
  }
  ASSERT_EQ(kept.size(), frames);
  io_gen::Run receiver(receiving);
  ASSERT_TRUE(receiver.prepare().has_value());
  std::jthread other([&] {
    for (const auto& frame : kept) {
      while (!far->tx().send(frame) && Clock::monotonic() < until) far->tx().flush();
    }
    far->drain();
  });
  receiver.perform();
  other.join();
  EXPECT_EQ(receiver.outcome().rx.frames, frames);
  EXPECT_EQ(receiver.outcome().sequence.lost, 0U);
}

}  // namespace

}  // namespace efio::io_gen
