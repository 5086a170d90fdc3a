// When the next frame is due under a rate.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "tools/io_gen/rate.h"

namespace efio::io_gen {

// Keeps an absolute schedule: a frame is due when all before it have used up what the rate has allowed since the start.
// A late one is caught up, and nothing adds up: the schedule is looked at as a whole each time, in whole numbers.
class Pacer {
 public:
  explicit Pacer(const Rate& rate);

  bool limited() const noexcept { return rate_.limited(); }
  const Rate& rate() const noexcept { return rate_; }

  // ns until the next frame is due; 0: now. The first call starts the schedule. `now`: Clock::monotonic().
  std::uint64_t wait(std::uint64_t now) noexcept;
  // Whether one more frame is due at the time of the last wait(); if so, it is taken off the schedule.
  bool take(std::uint32_t length) noexcept;

  // The share of what the rate has allowed until `now` that was not taken, or taken but not sent (`owed` frames): 0
  // to 1.
  double behind(std::uint64_t now, std::size_t owed) noexcept;

 private:
  __extension__ using Wide = unsigned __int128;
  static constexpr unsigned fraction = 20;  // bits behind the point of what is allowed and spent

  struct Segment {
    std::uint64_t start;  // ns since the schedule's start
    Wide allowed;         // until then
    Rate::Step step;
  };
  Wide allowed_at(std::uint64_t elapsed) noexcept;
  std::uint64_t due(Wide allowed) const noexcept;

  Rate rate_;
  std::vector<Segment> segments_;
  std::size_t segment_ = 0;  // that the last look was in
  bool started_ = false;
  std::uint64_t start_ = 0;
  Wide spent_ = 0, allowed_ = 0;
  std::uint64_t last_cost_ = 0;  // of the frame taken last
  std::uint64_t in_burst_ = 0;   // frames that go with the one before them
  std::mt19937_64 random_;
  std::exponential_distribution<double> exponential_;  // of mean 1
};

// Sleeps most of the time and spins the rest; at most 50 ms, so that a stop is seen.
void wait_for(std::uint64_t ns) noexcept;

}  // namespace efio::io_gen
