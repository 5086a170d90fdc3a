// The cells of the table, each measured on ports of its own.
#pragma once

#include <cstdint>
#include <optional>

#include "tools/io_gen/checker.h"
#include "tools/io_gen/options.h"

namespace efio::io_gen {

enum class Row : std::uint8_t { rx_only, tx_only, one_thread, two_threads };

struct Cell {
  double rate = 0;           // frames a second: the median of several runs
  std::uint64_t frames = 0;  // in all of them
  CheckCounts checks;        // of what was looked at on arrival
  SequenceCounts sequence;
  std::optional<double> other_rate;  // what the other process sent or received
  bool clean() const noexcept {
    return sequence.lost + sequence.duplicated + sequence.reordered + sequence.stale + checks.wrong + checks.untagged ==
           0;
  }
};

// rx only: a ring filled beforehand, and refilled outside the timed part. tx only: the other end finishes unread in the
// same thread. Errors: memory, device (threads, processors).
Result<Cell> measure_in_memory(const Options& options, Row row, std::uint64_t flows);

// rx only and tx only: a second process of this program does the other half. Errors: as Port::open.
Result<Cell> measure_over_device(const Options& options, Row row, std::uint64_t flows);

}  // namespace efio::io_gen
