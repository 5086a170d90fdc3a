// `--rate`, and when the next frame is due under it.
#pragma once

#include <cstdint>
#include <string_view>

#include "efio/result.h"

namespace efio::io_gen {

struct Rate {
  enum class Unit : std::uint8_t { frames, bits_layer2, bits_layer1 };
  std::uint64_t per_second = 0;  // 0: as fast as possible
  Unit unit = Unit::frames;

  bool limited() const noexcept { return per_second != 0; }
  // What a frame of `length` bytes (without FCS) uses up.
  std::uint64_t cost(std::uint32_t length) const noexcept;

  // "1M" (frames a second), "2Gbit" (layer 2 with FCS), "2GbitL1" (with preamble and gap too), "line". Errors: usage.
  static Result<Rate> parse(std::string_view text);
};

// Keeps an absolute schedule: a frame is due when all before it have used up the time since the start, so that a late
// one is caught up and the mean does not drift.
class Pacer {
 public:
  explicit Pacer(Rate rate) : rate_(rate) {}

  // ns until the next frame is due; 0: now. The first call starts the schedule. `now`: Clock::monotonic().
  std::uint64_t wait(std::uint64_t now) noexcept;
  // Whether one more frame is due at the time of the last wait(); if so, it is taken off the schedule.
  bool take(std::uint32_t length) noexcept;
  bool limited() const noexcept { return rate_.limited(); }

 private:
  Rate rate_;
  bool started_ = false;
  std::uint64_t start_ = 0;
  std::uint64_t spent_ = 0;    // of the unit, since the start
  std::uint64_t allowed_ = 0;  // at the last wait()
};

// Sleeps most of the time and spins the rest; at most 50 ms, so that a stop is seen.
void wait_for(std::uint64_t ns) noexcept;

}  // namespace efio::io_gen
