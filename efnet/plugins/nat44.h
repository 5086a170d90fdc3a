#pragma once

#include <memory>
#include <string_view>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/nat44/nat44.h"
#include "efnet/plugins/plugin.h"

namespace efnet {

// A Nat44 between two ports, a half for the pipeline of each. In: what comes
// from the half's side is translated in place, and passes on to the program,
// which forwards it to the other port; what goes back to where it came from (a
// hairpin), and the NAT's own ICMP errors and fragments, leave through the half
// itself, the latter with the next batch or tick. Both MAC addresses are zero
// then: the plugin arp, nearer to the port, fills them in. Both halves belong
// to one thread.
class EFIO_EXPORT Nat44Plugin final : public Plugin {
 public:
  struct Halves {
    std::unique_ptr<Nat44Plugin> inside, outside;
  };
  // Errors: those of Nat44::create.
  static efio::Result<Halves> create(Nat44Options options);
  // inside[@NAME]|outside[@NAME][?pool=RANGE[:PORTS],…&hosts=PREFIX,…&filtering=endpoint|address|address_and_port&
  // sessions=N&inside_address=ADDRESS&outside_address=ADDRESS]: the half that
  // is made first says what both are, with a pool at least; the second has the
  // same name and no options. Errors: usage.
  static efio::Result<std::unique_ptr<Nat44Plugin>> parse(std::string_view arguments);

  std::string_view name() const noexcept override { return "nat44"; }
  void ingate(PacketBatch& packets, Gate& gate) noexcept override;
  void outgate(PacketBatch& packets, Gate& gate) noexcept override;
  void tick(Gate& gate) noexcept override;

  Nat44& nat() noexcept { return *shared_->nat; }
  NatSide side() const noexcept { return side_; }

 private:
  struct Shared {
    std::unique_ptr<Nat44> nat;
    bool has_both = false;
  };
  Nat44Plugin(std::shared_ptr<Shared> shared, NatSide side) noexcept : shared_(std::move(shared)), side_(side) {}
  void send_own(Gate& gate) noexcept;

  std::shared_ptr<Shared> shared_;
  NatSide side_;
};

}  // namespace efnet
