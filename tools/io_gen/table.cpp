#include "tools/io_gen/table.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "efio/clock.h"
#include "efio/fail.h"
#include "efio/version.h"
#include "tools/common/cpus.h"
#include "tools/common/exit_code.h"
#include "tools/common/port_report.h"
#include "tools/io_gen/table_cells.h"

namespace efio::io_gen {

namespace {

using tools::grouped;
using tools::Json;

constexpr std::array rows = {Row::rx_only, Row::tx_only, Row::one_thread, Row::two_threads};

std::string_view key(Row row) {
  switch (row) {
    case Row::rx_only:
      return "rx_only";
    case Row::tx_only:
      return "tx_only";
    case Row::one_thread:
      return "both_one_thread";
    case Row::two_threads:
      break;
  }
  return "both_two_threads";
}

std::string_view words(Row row) {
  switch (row) {
    case Row::rx_only:
      return "rx only";
    case Row::tx_only:
      return "tx only";
    case Row::one_thread:
      return "both, one thread";
    case Row::two_threads:
      break;
  }
  return "both, two threads";
}

struct Line {
  Row row;
  std::uint64_t flows;
  Cell cell;
};

Json cell_json(const Line& line) {
  const Cell& cell = line.cell;
  Json json = {{"row", key(line.row)},
               {"flows", line.flows},
               {"pps", cell.rate},
               {"ns_per_packet", cell.rate > 0 ? 1e9 / cell.rate : 0.0},
               {"packets", cell.frames},
               {"sequence",
                {{"lost", cell.sequence.lost},
                 {"duplicated", cell.sequence.duplicated},
                 {"reordered", cell.sequence.reordered}}},
               {"checksums", {{"right", cell.checks.right}, {"wrong", cell.checks.wrong}}},
               {"clean", cell.clean()}};
  if (cell.other_rate) json["other_process_pps"] = *cell.other_rate;
  return json;
}

std::string cell_text(const Cell& cell) {
  auto text = fmt::format("{:8.2f} M/s {:8.2f} ns", cell.rate / 1e6, cell.rate > 0 ? 1e9 / cell.rate : 0.0);
  if (cell.other_rate) text += fmt::format(" ({:.2f})", *cell.other_rate / 1e6);
  return text;
}

std::string table_text(const Options& options, const std::vector<Line>& lines, bool in_memory) {
  std::string text;
  const auto& lengths = options.traffic.sizes.lengths();
  text += fmt::format("{}, frames of {} bytes with FCS{}, batches of {}\n",
             in_memory ? "in memory (pipe:)" : fmt::format("{} to {}", options.tx_port, options.rx_port),
             lengths[0] + fcs, lengths.size() > 1 ? " and more" : "", options.batch);
  if (!in_memory) text += fmt::format("in brackets: what the other process sent or received, M/s\n");
  text += fmt::format("{:<18} {:>26}   {:>26}\n", "", "one flow",
             fmt::format("{} random flows", grouped(options.traffic.flows)));
  for (std::size_t i = 0; i < lines.size(); i += 2)
    text += fmt::format("{:<18} {:>26}   {:>26}\n", words(lines[i].row), cell_text(lines[i].cell), cell_text(lines[i + 1].cell));
  std::uint64_t checked = 0;
  bool clean = true;
  for (const auto& line : lines) checked += line.cell.checks.frames, clean = clean && line.cell.clean();
  if (clean) {
    text += fmt::format("{} frames checked on arrival: none lost, duplicated, reordered or with a wrong checksum\n",
               grouped(checked));
    return text;
  }
  for (const auto& [row, flows, cell] : lines)
    if (!cell.clean())
      text += fmt::format("{}, {} flow{}: {} lost, {} duplicated, {} reordered, {} untagged, {} checksums wrong\n", words(row),
                 grouped(flows), flows == 1 ? "" : "s", grouped(cell.sequence.lost), grouped(cell.sequence.duplicated),
                 grouped(cell.sequence.reordered), grouped(cell.checks.untagged), grouped(cell.checks.wrong));
  return text;
}

}  // namespace

int run_table(const Options& options) {
  if (auto ok = tools::check_cpus(options.cpus); !ok) return tools::complain("io_gen", ok.error());
  const bool in_memory = options.tx_port.empty();
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const std::uint64_t start = Clock::monotonic();
  std::vector<Line> lines;
  for (const Row row : rows)
    for (const std::uint64_t flows : {std::uint64_t{1}, options.traffic.flows}) {
      if (terminal) fmt::print(stderr, "\r{}, {} flows\x1b[K", words(row), flows);
      auto cell = in_memory ? measure_in_memory(options, row, flows) : measure_over_device(options, row, flows);
      if (terminal) fmt::print(stderr, "\r\x1b[K");
      if (!cell) return tools::complain("io_gen", cell.error());
      lines.push_back({row, flows, std::move(*cell)});
    }

  std::string report;
  if (options.json) {
    Json json = {{"version", version()}, {"elapsed_s", static_cast<double>(Clock::monotonic() - start) / 1e9}};
    json["ports"] = Json::array();
    auto& table = json["table"] = Json::array();
    for (const auto& line : lines) table.push_back(cell_json(line));
    report = json.dump() + "\n";
  } else {
    report = table_text(options, lines, in_memory);
  }
  std::vector<std::string> not_met;
  if (in_memory && !std::ranges::all_of(lines, [](const Line& line) { return line.cell.clean(); }))
    not_met.emplace_back("table: frames were lost or damaged in memory");
  return tools::end_run("io_gen", report, not_met, {});
}

}  // namespace efio::io_gen
