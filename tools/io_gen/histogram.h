// Counts of times by size, in steps of less than one percent: 128 and more to every doubling, as HdrHistogram has them.
// All of 64 bits fits; memory is touched only where something was counted.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace efio::io_gen {

class Histogram {
 public:
  static constexpr unsigned exact_bits = 7;  // numbers below 2^8 have a step of their own
  static constexpr std::size_t steps = std::size_t{64 - exact_bits + 1} << exact_bits;

  Histogram() : counts_(steps) {}

  void add(std::uint64_t value, std::uint64_t times = 1) noexcept {
    counts_[step_of(value)] += times;
    total_ += times;
    sum_ += static_cast<double>(value) * static_cast<double>(times);
    least_ = value < least_ ? value : least_;
    most_ = value > most_ ? value : most_;
  }

  std::uint64_t count() const noexcept { return total_; }
  std::uint64_t least() const noexcept { return total_ == 0 ? 0 : least_; }
  std::uint64_t most() const noexcept { return most_; }
  double mean() const noexcept { return total_ == 0 ? 0 : sum_ / static_cast<double>(total_); }
  // The smallest value that at least this share (0 to 1) of all do not exceed, to the upper end of its step.
  std::uint64_t quantile(double share) const noexcept;

  // The steps in which there is something: (first value, last value, count).
  template <class See>
  void each(See see) const {
    for (std::size_t i = 0; i < steps; ++i)
      if (counts_[i] > 0) see(first_of(i), last_of(i), counts_[i]);
  }

 private:
  static constexpr std::size_t step_of(std::uint64_t value) noexcept {
    if (value < std::uint64_t{2} << exact_bits) return value;
    const auto shift = static_cast<unsigned>(63 - std::countl_zero(value)) - exact_bits;
    return (std::size_t{shift} << exact_bits) + static_cast<std::size_t>(value >> shift);
  }
  static constexpr std::uint64_t first_of(std::size_t step) noexcept {
    if (step < std::size_t{2} << exact_bits) return step;
    const std::size_t shift = (step >> exact_bits) - 1;
    return std::uint64_t{step - (shift << exact_bits)} << shift;
  }
  static constexpr std::uint64_t last_of(std::size_t step) noexcept {
    if (step < std::size_t{2} << exact_bits) return step;
    const std::size_t shift = (step >> exact_bits) - 1;
    return first_of(step) + ((std::uint64_t{1} << shift) - 1);
  }

  std::vector<std::uint64_t> counts_;
  std::uint64_t total_ = 0, least_ = UINT64_MAX, most_ = 0;
  double sum_ = 0;
};

}  // namespace efio::io_gen
