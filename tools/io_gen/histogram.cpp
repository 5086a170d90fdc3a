#include "tools/io_gen/histogram.h"

#include <algorithm>
#include <cmath>

namespace efio::io_gen {

std::uint64_t Histogram::quantile(double share) const noexcept {
  if (total_ == 0) return 0;
  const auto wanted =
      std::clamp<std::uint64_t>(static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(total_))), 1, total_);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < steps; ++i) {
    seen += counts_[i];
    if (seen >= wanted) return std::clamp(last_of(i), least_, most_);
  }
  return most_;
}

}  // namespace efio::io_gen
