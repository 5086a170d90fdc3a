// What a run has to say: one JSON object, or a few lines for people.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "efio/port.h"
#include "tools/common/port_report.h"
#include "tools/io_gen/checker.h"
#include "tools/io_gen/gaps.h"
#include "tools/io_gen/generator.h"
#include "tools/io_gen/options.h"

namespace efio::io_gen {

// One direction of a run.
struct Measured {
  std::uint64_t frames = 0;
  std::uint64_t bytes = 0;  // without FCS
  double seconds = 0;       // tx: from the start until all were handed over; rx: from the first batch to the last

  // Per second. Never above the speed of a physical link (`link_bits`, 0: none).
  double rate(std::uint64_t link_bits) const noexcept;
};

struct Outcome {
  double elapsed = 0;               // s
  const Port* from_port = nullptr;  // of a capture that is replayed
  const Port* tx_port = nullptr;
  const Port* rx_port = nullptr;
  const Port* copy_port = nullptr;
  Measured tx, rx;
  const Generator* generator = nullptr;  // where there is a sender
  const Checker* checker = nullptr;      // where there is a receiver
  SequenceCounts sequence;
  std::string rate_asked;      // empty: none
  const Gaps* gaps = nullptr;  // where a rate was asked for
  double behind = 0;           // the share of it that was not sent
  bool interrupted = false;
  std::vector<Error> errors;
};

// A histogram's ends and quantiles.
tools::Json histogram_json(const Histogram& all);
std::string histogram_text(const Histogram& all);
std::string ns_text(double ns);

std::string report_text(const Outcome& outcome);
tools::Json report_json(const Outcome& outcome);

// Whether what was sent is what the rate asked for, to a ten-thousandth.
bool rate_reached(const Outcome& outcome);

// What was asked for and not met, a sentence each.
std::vector<std::string> not_met(const Options& options, const Outcome& outcome);

// "12.0 s  sent 9,812,345 (0.82 M/s)  received …": for a terminal, once a second.
std::string live_text(double elapsed, double since, const std::optional<TxStats>& tx,
                      const std::optional<TxStats>& tx_before, const std::optional<RxStats>& rx,
                      const std::optional<RxStats>& rx_before);

}  // namespace efio::io_gen
