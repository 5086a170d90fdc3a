#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/plugins/plugin.h"

namespace efnet {

// Counts frames and bytes, each way; all of them pass.
class EFIO_EXPORT CountPlugin final : public Plugin {
 public:
  struct Totals {
    std::uint64_t frames = 0;
    std::uint64_t bytes = 0;
  };

  // No arguments. Errors: usage.
  static efio::Result<std::unique_ptr<CountPlugin>> parse(std::string_view arguments);

  std::string_view name() const noexcept override { return "count"; }
  void ingate(PacketBatch& packets, Gate& gate) noexcept override;
  void outgate(PacketBatch& packets, Gate& gate) noexcept override;

  // Any thread.
  Totals in() const noexcept { return in_.get(); }
  Totals out() const noexcept { return out_.get(); }

 private:
  struct Cells {
    std::atomic<std::uint64_t> frames{0}, bytes{0};

    void add(const PacketBatch& packets) noexcept;
    Totals get() const noexcept {
      return {frames.load(std::memory_order_relaxed), bytes.load(std::memory_order_relaxed)};
    }
  };

  Cells in_, out_;
};

}  // namespace efnet
