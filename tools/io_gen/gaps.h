// The gaps between frames as they were handed to the device, all of them.
#pragma once

#include <cmath>
#include <cstdint>

#include "tools/io_gen/histogram.h"

namespace efio::io_gen {

class Gaps {
 public:
  static constexpr double near_ns = 100;

  // `asked`: ns; 0: no such number.
  explicit Gaps(double asked) : asked_(asked) {}

  // So many frames were handed over at once. `now`: Clock::monotonic().
  void sent(std::uint64_t now, std::size_t frames) noexcept {
    if (last_ != 0) {
      const std::uint64_t gap = now - last_;
      all_.add(gap);
      if (std::abs(static_cast<double>(gap) - asked_) <= near_ns) ++near_;
    }
    last_ = now;
    if (frames > 1) {
      all_.add(0, frames - 1);
      if (asked_ <= near_ns) near_ += frames - 1;
    }
  }

  double asked() const noexcept { return asked_; }
  const Histogram& all() const noexcept { return all_; }
  // The share of gaps within near_ns of what was asked.
  double near() const noexcept {
    return all_.count() == 0 ? 0 : static_cast<double>(near_) / static_cast<double>(all_.count());
  }

 private:
  double asked_;
  std::uint64_t last_ = 0, near_ = 0;
  Histogram all_;
};

}  // namespace efio::io_gen
