#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "efio/export.h"
#include "efio/queue.h"
#include "efnet/plugins/packets.h"
#include "efnet/plugins/plugin.h"

// Plugins in a row, between one port and the program:
//
//   port.rx ─▶ ingate of plugin 0 ─▶ 1 ─▶ 2 ─▶ program ─▶ outgate of plugin 2 ─▶ 1 ─▶ 0 ─▶ port.tx
//
// What plugin 2 makes goes out through 1 and 0. One thread uses a pipeline, that of the queues; statistics may be read
// by any. Nothing is sent before the program flushes the outgoing queue.

namespace efnet {

// Of one plugin and one gate: seen = passed + taken + dropped.
struct GateStats {
  std::uint64_t seen = 0;
  std::uint64_t passed = 0;
  std::uint64_t taken = 0;  // consumed, or kept by the plugin
  efio::DropCounts dropped{};

  EFIO_EXPORT std::uint64_t total_dropped() const noexcept;
};

// Frames that a plugin keeps: kept = released + discarded + what it has now.
struct PluginStats {
  std::string name;
  GateStats in, out;
  std::uint64_t made = 0;      // of its own, handed to the outgates before it
  std::uint64_t not_made = 0;  // for want of room
  std::uint64_t kept = 0;
  std::uint64_t released = 0;
  std::uint64_t discarded = 0;
};

struct PipelineOptions {
  std::uint32_t port = 0;        // what Gate::port() says
  std::size_t most_kept = 4096;  // frames that one plugin may keep at a time
};

class EFIO_EXPORT Pipeline {
 public:
  // `tx`: the port's outgoing queue, which must live longer; without one plugins cannot make or release frames.
  explicit Pipeline(efio::TxQueue* tx = nullptr, const PipelineOptions& options = {});
  Pipeline(Pipeline&&) noexcept;
  Pipeline& operator=(Pipeline&&) noexcept;
  ~Pipeline();

  // Behind those that are there: nearest to the program. Not while a gate is at work.
  void add(std::shared_ptr<Plugin> plugin);
  // By text, as load.h has it: "filter:udp port 53". Errors: usage, unavailable.
  efio::Result<void> add(std::string_view text);
  std::size_t size() const noexcept;

  void ingate(PacketBatch& packets, std::chrono::nanoseconds now) noexcept;
  void outgate(PacketBatch& packets, std::chrono::nanoseconds now) noexcept;
  void outgate(TxPackets& packets, std::chrono::nanoseconds now) noexcept;
  void tick(std::chrono::nanoseconds now) noexcept;
  // What plugins have handed on inwards since, after the ingates of those behind them; false where there is nothing.
  // `packets` is finished first.
  bool returned(ReturnedPackets& packets, std::chrono::nanoseconds now) noexcept;

  // Frames of plugins' own that came through to the queue; the others of PluginStats::made were given up on their way.
  // Any thread.
  std::uint64_t made() const noexcept;

  // In the order of the plugins. Any thread, but not during add().
  std::vector<PluginStats> stats() const;

 private:
  class Running;
  std::unique_ptr<Running> running_;
};

}  // namespace efnet
