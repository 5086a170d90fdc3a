#pragma once

#include <memory>
#include <string_view>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/plugins/plugin.h"
#include "efnet/wire/ethernet.h"

namespace efnet {

// Makes of a port one of its VLANs: in, takes the tag off frames that have it outermost and drops all others as
// `filtered`; out, puts it on, with its priority. Tags further in are left as they are.
class EFIO_EXPORT VlanPlugin final : public Plugin {
 public:
  explicit VlanPlugin(VlanTag tag) noexcept : tag_(tag) {}
  // ID[?priority=0-7&tpid=802.1q|802.1ad], where ID is 1 to 4094. Errors: usage.
  static efio::Result<std::unique_ptr<VlanPlugin>> parse(std::string_view arguments);

  std::string_view name() const noexcept override { return "vlan"; }
  void ingate(PacketBatch& packets, Gate& gate) noexcept override;
  // A frame for which its slot has no four bytes more is dropped as `oversize`.
  void outgate(PacketBatch& packets, Gate& gate) noexcept override;

 private:
  VlanTag tag_;
};

}  // namespace efnet
