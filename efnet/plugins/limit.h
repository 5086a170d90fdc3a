#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/plugins/plugin.h"
#include "efnet/tables/token_buckets.h"

namespace efnet {

// Whose bucket a frame is charged to. Frames that are no IP have one together.
enum class LimitKey : std::uint8_t {
  source,       // the source address
  destination,  // the destination address
  flow,         // addresses, ports and protocol, one direction
  all,          // one for all frames
};

struct LimitOptions {
  TokenBucketOptions buckets;
  bool bits = false;  // tokens are bits at layer 2, the FCS included, instead of frames
  LimitKey key = LimitKey::source;
  efio::Direction gates = efio::Direction::both;  // rx: what comes in, tx: what goes out; both: from the same buckets
};

// Passes each key's frames up to a rate, and drops what is above it as `rate_limit`.
class EFIO_EXPORT LimitPlugin final : public Plugin {
 public:
  // Errors: those of TokenBuckets::create.
  static efio::Result<std::unique_ptr<LimitPlugin>> create(const LimitOptions& options);
  // RATE[?burst=N&key=source|destination|flow|all&gate=both|in|out&keys=N]: "10k" are frames a second, "2Gbit" bits.
  // The burst is in the same unit; the default is a tenth of a second's worth, at least one frame. Errors: usage.
  static efio::Result<std::unique_ptr<LimitPlugin>> parse(std::string_view arguments);

  std::string_view name() const noexcept override { return "limit"; }
  void ingate(PacketBatch& packets, Gate& gate) noexcept override;
  void outgate(PacketBatch& packets, Gate& gate) noexcept override;

 private:
  LimitPlugin(TokenBuckets buckets, const LimitOptions& options) noexcept
      : buckets_(std::move(buckets)), options_(options) {}
  void apply(PacketBatch& packets, Time now) noexcept;

  TokenBuckets buckets_;
  LimitOptions options_;
};

}  // namespace efnet
