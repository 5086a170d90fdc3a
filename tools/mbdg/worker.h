// A thread of the bridge: what comes in by its receive queues, and where it goes.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "efio/poller.h"
#include "efio/port.h"
#include "efnet/bridge/switch.h"
#include "efnet/plugins/pipeline.h"
#include "tools/mbdg/dump.h"
#include "tools/mbdg/limits.h"
#include "tools/mbdg/options.h"

namespace efio::mbdg {

// A receive queue that the thread empties.
struct Source {
  RxQueue* rx = nullptr;
  std::uint16_t port = 0;
  TxQueue* relay_to = nullptr;  // what another thread has handed over leaves by this queue, and nothing is asked
};

// What a thread works with; changed only while it rests.
struct Wiring {
  std::vector<Source> sources;
  std::vector<TxQueue*> exits;                             // by port; null: the port is not there now
  std::vector<std::unique_ptr<efnet::Pipeline>> ingates;   // by port; null: none
  std::vector<std::unique_ptr<efnet::Pipeline>> outgates;
  std::array<Policer*, efnet::Switch::most_ports> rates{};       // by port; null: as fast as it can
  std::array<std::uint16_t, efnet::Switch::most_ports> across;   // of a wire: the other port

  Wiring() noexcept {
    for (std::uint16_t port = 0; port < across.size(); ++port) across[port] = port ^ 1U;
  }
};

class Worker {
 public:
  // `bridge`: null for a wire.
  Worker(const Options& options, efnet::Switch* bridge, Dumper* dumper)
      : options_(options), bridge_(bridge), dumper_(dumper) {}

  Wiring& wiring() noexcept { return wiring_; }
  // While it rests. Null: a wire from here on.
  void set_bridge(efnet::Switch* bridge) noexcept { bridge_ = bridge; }
  void set_budget(Budget* budget) noexcept { budget_ = budget; }

  // Works until stop(), on the processor of place `index` in the list. Errors: device (no such processor, no descriptors
  // left).
  Result<void> run(const std::vector<int>& cpus = {}, std::size_t index = 0);
  // One look at each source; returns the slots that left them. What run() repeats, for who has a loop of his own.
  std::size_t round();
  // One other thread. rest() comes back when the worker has let go of all queues, until resume().
  void stop() noexcept;
  void rest() noexcept;
  void resume() noexcept;

  bool failed() const noexcept { return failed_.load(); }  // run() came back with an error

  // Copies that flooding made; any thread.
  std::uint64_t copied() const noexcept { return copied_.load(std::memory_order_relaxed); }

 private:
  Result<void> work();
  void rest_here();
  Result<void> watch_sources();
  void wake() noexcept;

  RxBatch look(const Source& source);
  std::size_t step_within_budget(Source& source);
  std::size_t handle(Source& source, RxBatch& batch);
  std::size_t pass_on(RxBatch& batch, TxQueue& tx, std::uint16_t port);
  std::size_t over_the_wire(RxBatch& batch, std::uint16_t port);
  std::size_t through_gates(RxBatch& batch, std::uint16_t port, TxQueue* tx);
  std::size_t through_switch(RxBatch& batch, std::uint16_t port);
  void take_returned(std::uint16_t port);
  bool leave_returned(const Slot& frame, const efnet::SwitchVerdict& verdict, std::uint16_t port);

  // Of a batch in the switch: unicast frames are gathered by port, and leave in bulk before the next flooded one.
  void send_gathered(RxBatch& batch);
  std::size_t leave_in_bulk(RxBatch& batch, std::span<const std::uint32_t> indices, std::uint16_t port);
  std::size_t leave_by_gates(RxBatch& batch, std::span<const std::uint32_t> indices, std::uint16_t port);
  bool flood(RxBatch& batch, std::size_t i);
  bool leave_flooded(RxBatch& batch, std::uint32_t i, std::uint16_t port, bool as_copy);
  bool change_tag(RxBatch& batch, std::size_t i, std::uint16_t port);
  bool copy_into(TxBatch& claimed, std::size_t k, const Slot& frame, const efnet::SwitchVerdict& verdict, std::uint16_t port);
  void give_up(RxBatch& batch, std::size_t i, std::uint16_t port, DropReason reason);
  void show_dropped(const RxBatch& batch, std::size_t i, std::uint16_t port, DropReason reason);
  void show_dropped(const RxBatch& batch, const efnet::PacketBatch& packets, std::uint16_t port);
  bool is_within_rate(const RxBatch& batch, std::size_t i, std::uint16_t port) noexcept;
  bool has_room(std::uint16_t port, std::size_t slots);
  bool still_waiting(std::uint64_t& since) const noexcept;

  const Options& options_;
  efnet::Switch* bridge_;
  Dumper* dumper_;
  Budget* budget_ = nullptr;  // null: no limit
  Wiring wiring_;
  std::mutex poller_mutex_;  // for those who wake it
  std::optional<Poller> poller_;
  std::uint64_t now_ = 0;  // monotonic ns

  std::uint64_t gathered_ports_ = 0, dirty_ = 0;  // bit per port
  std::array<std::array<std::uint32_t, efnet::Switch::batch>, efnet::Switch::most_ports> gathered_;
  std::array<std::uint32_t, efnet::Switch::most_ports> gathered_count_{};
  std::array<efnet::SwitchVerdict, efnet::Switch::batch> verdicts_;
  // With `--full wait`, frames may stay where they came in and be decided again, unless gates or a dump have seen them.
  bool may_stay_ = false;
  std::size_t first_left_ = 0;  // the first slot that stays; SIZE_MAX: none

  std::atomic<std::uint64_t> copied_{0};
  std::atomic<bool> stop_{false}, failed_{false}, done_{false};
  enum Phase : unsigned { working, asked_to_rest, resting };
  std::atomic<unsigned> phase_{working};
};

}  // namespace efio::mbdg
