#pragma once

#include <chrono>
#include <cstdint>

namespace efnet {

// What tables are told instead of asking a clock: ns since whatever epoch their owner keeps to, not negative, and best
// from one that does not jump (efio::Clock::monotonic()): after a step back things last longer by that much, after a
// step forward they end early.
using Time = std::chrono::nanoseconds;

// What records keep: units of 2^20 ns, about a millisecond, in 32 bits. Differences are right within 26 days, either
// way.
namespace table_time {

inline constexpr unsigned tick_bits = 20;

constexpr std::uint64_t ticks(Time time) noexcept { return static_cast<std::uint64_t>(time.count()) >> tick_bits; }
constexpr std::uint64_t ticks_up(Time time) noexcept {
  return (static_cast<std::uint64_t>(time.count()) + (std::uint64_t{1} << tick_bits) - 1) >> tick_bits;
}
constexpr Time from_ticks(std::uint64_t count) noexcept { return Time(static_cast<Time::rep>(count << tick_bits)); }
// The whole number of ticks of which `low` is the low half, nearest to `now`.
constexpr std::uint64_t widened(std::uint32_t low, std::uint64_t now) noexcept {
  const auto age = static_cast<std::int32_t>(static_cast<std::uint32_t>(now) - low);
  return now - static_cast<std::uint64_t>(std::int64_t{age});
}

}  // namespace table_time
}  // namespace efnet
