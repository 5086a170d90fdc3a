// The command line of io_gen.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "efio/result.h"
#include "tools/io_gen/rate.h"
#include "tools/io_gen/replayer.h"
#include "tools/io_gen/rfc2544.h"
#include "tools/io_gen/traffic.h"

namespace efio::io_gen {

enum class Command : std::uint8_t { tx, rx, both, table, rfc2544 };

// What `--expect…` asks of a run; it ends with 1 where it is not met.
struct Expectations {
  std::optional<std::uint64_t> sent, received;  // exactly
  std::optional<std::uint64_t> lost;            // at most
  bool rate = false;                            // what --rate or --burst says
  bool clean = false;                           // nothing lost, duplicated, reordered or with a wrong checksum
};

struct Options {
  Command command = Command::tx;
  std::string tx_port, rx_port;  // for table: "pipe:" or empty: in memory
  Traffic traffic;
  bool src_mac_given = false, dst_mac_given = false;
  std::vector<std::string> traffic_words;  // of table: its options about frames, but --flows and --order, as given
  Rate rate;
  std::string rate_words;  // as given
  std::optional<Replay> replay;
  std::uint64_t count = UINT64_MAX;      // frames
  std::chrono::nanoseconds duration{0};  // 0: no limit; of table: a cell's
  std::size_t batch = 64;
  std::vector<int> cpus;
  unsigned threads = 1;
  bool verify = false;
  std::string write;  // of rx: the capture to write
  bool json = false;
  bool say_ready = false;  // a line on standard error once the ports are open, for scripts
  // So long without a frame, after all was sent: none comes any more.
  std::chrono::nanoseconds quiet{std::chrono::milliseconds(300)};
  Expectations expect;
  Rfc2544 rfc2544;
};

// Nothing where help or a version was asked for, and printed. Errors: usage.
Result<std::optional<Options>> parse_options(int count, const char* const* arguments);

}  // namespace efio::io_gen
