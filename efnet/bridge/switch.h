#pragma once

#include <array>
#include <bitset>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "efio/export.h"
#include "efio/result.h"
#include "efio/slot.h"
#include "efio/stats.h"
#include "efnet/bridge/mac_table.h"
#include "efnet/tables/time.h"
#include "efnet/wire/ethernet.h"

// Where a learning bridge sends a frame: IEEE 802.1Q without spanning tree. It decides and moves nothing; what it says is
// for whoever has the queues (mbdg). Time comes in as an argument.

namespace efnet {

struct SwitchPortOptions {
  enum class Tagging : std::uint8_t {
    unaware,  // of a switch without VLANs: tags pass as they are
    access,   // untagged frames belong to `vlan`; out of it they go untagged
    trunk,    // frames carry the tag of one of `vlans`, in and out
  };
  bool is_there = true;           // false: a number without a port, which nothing goes to
  Tagging tagging = Tagging::unaware;
  std::uint16_t vlan = 1;         // access: 1-4094
  std::bitset<4096> vlans;        // trunk
  bool isolated = false;          // exchanges nothing with other isolated ports (split horizon)
  double flood_rate = 0;          // frames a second that it may have flooded (storm limit); 0: no limit

  friend bool operator==(const SwitchPortOptions&, const SwitchPortOptions&) = default;
};

struct SwitchOptions {
  std::vector<SwitchPortOptions> ports;      // 2 to 64
  std::optional<std::uint16_t> mirror;       // a port that gets a copy of everything, and takes part in nothing else
  bool pass_reserved = false;                // 01-80-C2-00-00-00 to 0F: not forwarded by a bridge (802.1Q, 8.6.3)
  MacTableOptions table = {};
};

// What becomes of one frame.
struct SwitchVerdict {
  std::uint64_t ports = 0;      // bit per port that it goes to; 0: `reason` says why not
  std::uint16_t vlan = 0;       // it belongs to; 0 in a switch without VLANs
  bool tagged = false;          // it has that VLAN's tag now
  bool flooded = false;         // its destination is a group, or not known
  efio::DropReason reason = efio::DropReason::filtered;
};

class EFIO_EXPORT Switch {
 public:
  static constexpr std::size_t most_ports = 64;
  static constexpr std::size_t batch = 64;

  // Errors: usage (ports, VLANs; VLANs on some ports only), memory.
  static efio::Result<Switch> create(const SwitchOptions& options);
  Switch(Switch&&) noexcept;
  Switch& operator=(Switch&&) noexcept;
  ~Switch();

  // Other ports and options from here on; what has been learned stays, and the table keeps its size. Not while a
  // thread decides. Errors: as create's, and nothing has changed.
  static efio::Result<void> check(const SwitchOptions& options);
  efio::Result<void> change(const SwitchOptions& options);

  // For up to 64 slots that came in by `port`; learns their sources. Slots that continue a frame, or are marked moved or
  // dropped, get no verdict (no ports, and the reason count_). Threads may call it at once, each for ports of its own.
  void decide(std::span<const efio::Slot> slots, std::uint16_t port, Time now, SwitchVerdict* verdicts) noexcept;

  // What a frame of this VLAN must do about its tag before it leaves by `port`.
  enum class TagChange : std::uint8_t { none, push, pop };
  TagChange tag_change(const SwitchVerdict& verdict, std::uint16_t port) const noexcept;
  bool has_vlans() const noexcept { return !members_.empty(); }  // else there is no change

  MacTable& table() noexcept { return table_; }
  const MacTable& table() const noexcept { return table_; }
  std::size_t ports() const noexcept;

 private:
  struct Port;
  explicit Switch(MacTable table);
  bool decide_plain(std::span<const efio::Slot> slots, std::uint16_t port, Time now, SwitchVerdict* verdicts) noexcept;
  void send_where(SwitchVerdict& verdict, Port& in, std::uint64_t reachable, Time now) const noexcept;
  bool classify(const efio::Slot& slot, const Port& port, SwitchVerdict& verdict) const noexcept;
  std::uint64_t reachable_from(std::uint16_t port) const noexcept;
  std::uint64_t members(std::uint16_t vlan) const noexcept { return members_.empty() ? all_ : members_[vlan]; }

  MacTable table_;
  std::vector<Port> ports_;
  std::vector<std::uint64_t> members_;  // by VLAN; empty: no VLANs
  std::uint64_t all_ = 0;
  std::uint64_t isolated_ = 0;
  std::uint64_t mirror_ = 0;
  bool pass_reserved_ = false;
};

}  // namespace efnet
