#include "tools/io_gen/pacer.h"

#include <time.h>

#include <algorithm>
#include <cmath>

#include "efio/clock.h"

namespace efio::io_gen {

namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t second = 1'000'000'000;
constexpr std::uint64_t longest_sleep = 50'000'000;
constexpr std::uint64_t wake_early = 80'000;  // what a sleep may last too long
constexpr std::uint64_t spin_hard = 300;      // ns before the moment in which a pause would be too coarse

// What `ns` at an even rate allow, in units with `fraction` bits behind the point; 64 + 44 + 20 bits at the most.
Wide evenly(std::uint64_t ns, std::uint64_t units, std::uint64_t per, unsigned fraction) noexcept {
  return ((Wide{ns} * units) << fraction) / per;
}

// The same where the rate changes evenly. In long double, whose 64 bits of mantissa are exact to a thousandth of a
// frame for 2^54 frames.
Wide changing(const Rate::Step& step, std::uint64_t ns, unsigned fraction) noexcept {
  const auto t = static_cast<long double>(ns);
  const auto from = static_cast<long double>(step.from), to = static_cast<long double>(step.to);
  const auto units = (from + (to - from) * t / (2 * static_cast<long double>(step.ns))) * t;
  return static_cast<Wide>(std::ldexp(units / static_cast<long double>(step.per), static_cast<int>(fraction)));
}

}  // namespace

Pacer::Pacer(const Rate& rate) : rate_(rate), random_(rate.seed) {
  std::uint64_t start = 0;
  Wide allowed = 0;
  for (auto step : rate.steps) {
    segments_.push_back({start, allowed, step});
    start += step.ns;
    allowed +=
        step.from == step.to ? evenly(step.ns, step.from, step.per, fraction) : changing(step, step.ns, fraction);
  }
  // Behind the last step its rate goes on; a step without end needs none.
  if (!rate.steps.empty() && rate.steps.back().ns > 0)
    segments_.push_back({start, allowed, {rate.steps.back().to, rate.steps.back().to, rate.steps.back().per, 0}});
}

Pacer::Wide Pacer::allowed_at(std::uint64_t elapsed) noexcept {
  while (segment_ + 1 < segments_.size() && elapsed >= segments_[segment_ + 1].start) ++segment_;
  const Segment& s = segments_[segment_];
  const std::uint64_t ns = elapsed - s.start;
  return s.allowed +
         (s.step.from == s.step.to ? evenly(ns, s.step.from, s.step.per, fraction) : changing(s.step, ns, fraction));
}

// ns since the start when so much is allowed, rounded up; in the present segment, or at its end where it comes later.
std::uint64_t Pacer::due(Wide allowed) const noexcept {
  const Segment& s = segments_[segment_];
  const Wide more = allowed - s.allowed;
  std::uint64_t ns = 0;
  if (s.step.from == s.step.to) {
    const Wide divisor = Wide{s.step.from} << fraction;
    ns = static_cast<std::uint64_t>((more * s.step.per + divisor - 1) / divisor);
  } else {
    // from·t + (to - from)·t²/(2·ns) = units, solved so that nothing cancels.
    const auto units =
        std::ldexp(static_cast<long double>(more), -static_cast<int>(fraction)) * static_cast<long double>(s.step.per);
    const auto from = static_cast<long double>(s.step.from);
    const auto bend = (static_cast<long double>(s.step.to) - from) / (2 * static_cast<long double>(s.step.ns));
    const auto root = std::sqrt(std::max(0.0L, from * from + 4 * bend * units));
    ns = static_cast<std::uint64_t>(std::ceil(2 * units / (from + root)));
  }
  if (segment_ + 1 < segments_.size()) return std::min(s.start + ns, segments_[segment_ + 1].start);
  return s.start + ns;
}

std::uint64_t Pacer::wait(std::uint64_t now) noexcept {
  if (!started_) started_ = true, start_ = now;
  const std::uint64_t elapsed = now - start_;
  allowed_ = allowed_at(elapsed);
  if (spent_ <= allowed_ || in_burst_ > 0) return 0;
  const std::uint64_t then = due(spent_);
  return then > elapsed ? then - elapsed : 1;
}

bool Pacer::take(std::uint32_t length) noexcept {
  if (in_burst_ > 0)
    --in_burst_;
  else if (spent_ > allowed_)
    return false;
  else
    in_burst_ = rate_.burst - 1;
  last_cost_ = rate_.cost(length);
  const Wide cost = Wide{last_cost_} << fraction;
  if (!rate_.poisson) {
    spent_ += cost;
    return true;
  }
  spent_ += static_cast<Wide>(exponential_(random_) * static_cast<double>(cost));
  return true;
}

double Pacer::behind(std::uint64_t now, std::size_t owed) noexcept {
  if (!started_) return 0;
  const Wide allowed = allowed_at(now - start_);
  const Wide sent = spent_ - std::min(spent_, (Wide{last_cost_} << fraction) * owed);
  if (allowed <= sent) return 0;
  return static_cast<double>(allowed - sent) / static_cast<double>(allowed);
}

void wait_for(std::uint64_t ns) noexcept {
  ns = std::min(ns, longest_sleep);
  const std::uint64_t until = Clock::monotonic() + ns;
  if (ns > wake_early) {
    const std::uint64_t asleep = ns - wake_early;
    const timespec time{static_cast<time_t>(asleep / second), static_cast<long>(asleep % second)};
    ::nanosleep(&time, nullptr);
  }
  for (std::uint64_t now = Clock::monotonic(); now < until; now = Clock::monotonic())
    if (until - now > spin_hard) __builtin_ia32_pause();
}

}  // namespace efio::io_gen
