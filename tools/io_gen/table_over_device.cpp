#include <optional>
#include <utility>

#include "efio/fail.h"
#include "tools/io_gen/child.h"
#include "tools/io_gen/run.h"
#include "tools/io_gen/table_cells.h"

namespace efio::io_gen {

namespace {

// The run that fills a cell: the table's options with another command.
Options options_of_cell(const Options& table, Row row, std::uint64_t flows) {
  Options options = table;
  options.command = row == Row::rx_only ? Command::rx : row == Row::tx_only ? Command::tx : Command::both;
  options.threads = row == Row::two_threads ? 2 : 1;
  options.traffic.flows = flows;
  return options;
}

std::vector<std::string> sender_words(const Options& table, std::uint64_t flows) {
  std::vector<std::string> words = {"tx", table.tx_port, fmt::format("--flows={}", flows), "--order=random"};
  words.insert(words.end(), table.traffic_words.begin(), table.traffic_words.end());
  return words;
}

}  // namespace

Result<Cell> measure_over_device(const Options& table, Row row, std::uint64_t flows) {
  const Options options = options_of_cell(table, row, flows);
  Run run(options);
  std::optional<Child> other;
  const auto start_other = [&](std::vector<std::string> words) -> Result<void> {
    auto child = Child::start(std::move(words));
    if (!child) return std::unexpected(child.error());
    other = std::move(*child);
    return {};
  };

  // The receiver is there before the sender begins.
  if (row == Row::tx_only)
    if (auto ok = start_other({"rx", table.rx_port}); !ok) return std::unexpected(ok.error());
  if (auto ready = run.prepare(); !ready) return std::unexpected(ready.error());
  if (row == Row::rx_only)
    if (auto ok = start_other(sender_words(table, flows)); !ok) return std::unexpected(ok.error());
  run.perform();

  const Outcome& outcome = run.outcome();
  if (!outcome.errors.empty()) return std::unexpected(outcome.errors.front());
  if (outcome.interrupted)
    return fail(Error::Kind::device, fmt::format("table over {} and {}", table.tx_port, table.rx_port), "interrupted");
  Cell cell;
  const bool receives = row != Row::tx_only;
  const Measured& measured = receives ? outcome.rx : outcome.tx;
  const Port& port = receives ? *outcome.rx_port : *outcome.tx_port;
  cell.rate = measured.rate(port.info().link_bits);
  cell.frames = measured.frames;
  if (receives) cell.checks = outcome.checker->counts();
  cell.sequence = outcome.sequence;
  if (other) {
    auto told = other->finish();
    if (!told) return std::unexpected(told.error());
    cell.other_rate = told->at("rate").value(row == Row::rx_only ? "tx_pps" : "rx_pps", 0.0);
  }
  return cell;
}

}  // namespace efio::io_gen
