#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/plugins/plugin.h"

namespace efnet {

// Passes the frames that a libpcap expression (pcap-filter(7)) matches, and drops the others as `filtered`.
class EFIO_EXPORT FilterPlugin final : public Plugin {
 public:
  // Which gates are watched: rx the ingate, tx the outgate. Errors: usage, with what libpcap says of the expression.
  static efio::Result<std::unique_ptr<FilterPlugin>> create(const std::string& expression,
                                                            efio::Direction gates = efio::Direction::both);
  // EXPRESSION[?gate=both|in|out]
  static efio::Result<std::unique_ptr<FilterPlugin>> parse(std::string_view arguments);
  ~FilterPlugin() override;

  std::string_view name() const noexcept override { return "filter"; }
  void ingate(PacketBatch& packets, Gate& gate) noexcept override;
  void outgate(PacketBatch& packets, Gate& gate) noexcept override;

 private:
  struct Program;
  FilterPlugin(std::unique_ptr<Program> program, efio::Direction gates) noexcept;
  void apply(PacketBatch& packets) const noexcept;

  std::unique_ptr<Program> program_;
  efio::Direction gates_;
};

}  // namespace efnet
