// `io_gen rfc2544`: what a device between two ports carries, by the methods of RFC 2544 section 26.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "efio/result.h"
#include "tools/io_gen/histogram.h"

namespace efio::io_gen {

struct Options;

struct Rfc2544 {
  enum Test : unsigned { throughput = 1, latency = 2, loss = 4, back_to_back = 8 };
  std::vector<std::uint32_t> sizes = {64, 128, 256, 512, 1024, 1280, 1518};  // bytes with FCS: section 9.1
  unsigned tests = throughput;
  std::chrono::nanoseconds trial{std::chrono::seconds(60)};           // section 24
  std::chrono::nanoseconds latency_trial{std::chrono::seconds(120)};  // section 26.2
  std::chrono::nanoseconds residual{std::chrono::seconds(2)};         // section 23: for frames still on their way
  std::chrono::nanoseconds pause{std::chrono::seconds(5)};            // section 23: until the device is at rest
  unsigned latency_trials = 20, bursts = 50;                          // sections 26.2 and 26.4
  std::uint64_t most = 0;                                             // frames a second; 0: what the sender reaches
  double resolution = 0.001;                                          // of the highest rate
  double tolerated = 0;                                               // share of frames that may be lost

  // "throughput,latency" or "all". False: another word.
  bool parse_tests(std::string_view words);
  // What a run with these options does not do as the RFC asks, a phrase each.
  std::vector<std::string> deviations() const;
};

// One stream of frames of one size.
struct Trial {
  double offered = 0;  // frames a second
  std::uint64_t sent = 0, lost = 0;
  bool reached = true;     // whether the sender held the rate
  bool disturbed = false;  // it stood still for a while, and then caught up in a burst
  bool stopped = false;    // by a signal
  Histogram delays;
  double loss() const noexcept { return sent == 0 ? 0 : static_cast<double>(lost) / static_cast<double>(sent); }
};

// What was found out about one size.
struct SizeFindings {
  std::uint32_t size = 0;
  double most = 0;                  // frames a second that were offered at the most
  double throughput = 0;            // frames a second
  bool sender_bound = false;        // the sender could not offer more than that
  Histogram delays;                 // at that rate
  std::vector<double> mean_delays;  // ns, of each trial
  std::vector<Trial> losses;        // from the highest rate down
  double back_to_back = 0;          // frames, the mean of all bursts
  unsigned trials = 0, repeated = 0;
  bool stopped = false;
};

// Errors: as Port::open.
Result<SizeFindings> measure_size(const Options& options, std::uint32_t size);

// Returns the exit code.
int run_rfc2544(const Options& options);

}  // namespace efio::io_gen
