#pragma once

#include <memory>
#include <string_view>

#include "efio/export.h"
#include "efio/port.h"
#include "efio/result.h"
#include "efnet/plugins/plugin.h"

namespace efnet {

// Copies every frame that it sees to another port and flushes that; all of them pass. What finds no room there is
// dropped there, as not_forwarded or oversize: a mirror never holds the traffic up.
class EFIO_EXPORT MirrorPlugin final : public Plugin {
 public:
  // `to` has a transmit queue that nobody else uses; `gates`: rx what comes in, tx what goes out.
  explicit MirrorPlugin(efio::Port to, efio::Direction gates = efio::Direction::both) noexcept
      : to_(std::move(to)), gates_(gates) {}
  // [in@|out@]PORT. Errors: those of Port::open.
  static efio::Result<std::unique_ptr<MirrorPlugin>> parse(std::string_view arguments);

  std::string_view name() const noexcept override { return "mirror"; }
  void ingate(PacketBatch& packets, Gate& gate) noexcept override;
  void outgate(PacketBatch& packets, Gate& gate) noexcept override;
  void tick(Gate& gate) noexcept override;

  const efio::Port& port() const noexcept { return to_; }  // for its statistics

 private:
  void copy(const PacketBatch& packets) noexcept;

  efio::Port to_;
  efio::Direction gates_;
};

}  // namespace efnet
