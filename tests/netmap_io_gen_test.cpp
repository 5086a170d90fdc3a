// io_gen on simulated netmap ports: the rows of its table, each clean and complete.
#include <gtest/gtest.h>

#include <thread>

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

TEST(NetmapIoGen, SendsAndReceivesEachAlone) {
  const test::SimulatedNetmap module;
  const auto sending = parse({"io_gen", "tx", "netmap:x{1", "--count", "20000", "--duration", "10s"});
  const auto receiving = parse({"io_gen", "rx", "netmap:x}1", "--count", "20000", "--duration", "10s"});
  io_gen::Run sender(sending), receiver(receiving);
  ASSERT_TRUE(receiver.prepare().has_value());
  ASSERT_TRUE(sender.prepare().has_value());
  std::jthread other([&] { sender.perform(); });
  receiver.perform();
  other.join();
  EXPECT_EQ(sender.outcome().tx.frames, 20'000U);
  EXPECT_EQ(receiver.outcome().rx.frames, 20'000U);
  EXPECT_EQ(receiver.outcome().sequence.lost, 0U);
}

}  // namespace

}  // namespace efio::io_gen
