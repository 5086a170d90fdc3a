// What bounds a port or a run: `--rate` and `--count`. Any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>

#include "efnet/tables/token_buckets.h"
#include "tools/common/rate.h"

namespace efio::mbdg {

// What a port may send. A burst of a tenth of a second's worth is let through, and one of the longest frame in any case.
class Policer {
 public:
  // Errors: none that a rate of Rate::parse could bring about.
  static Result<Policer> create(const tools::Rate& rate) {
    constexpr std::uint32_t longest_frame = 65'575;  // of a TAP with offloads
    const auto second = static_cast<double>(rate.per_second);
    auto bucket = efnet::TokenBucket::create(second, std::max(second / 10, static_cast<double>(rate.cost(longest_frame))));
    if (!bucket) return std::unexpected(std::move(bucket.error()));
    return Policer(rate, std::move(*bucket));
  }

  // False: a frame of `length` bytes is above the rate.
  bool take(std::uint32_t length, efnet::Time now) noexcept {
    return bucket_.take(static_cast<double>(rate_.cost(length)), now);
  }
  const tools::Rate& rate() const noexcept { return rate_; }

 private:
  Policer(const tools::Rate& rate, efnet::TokenBucket bucket) : rate_(rate), bucket_(std::move(bucket)) {}

  tools::Rate rate_;
  efnet::TokenBucket bucket_;
};

// Frames that may still come in, by all threads together.
class Budget {
 public:
  Budget(std::uint64_t frames, std::function<void()> when_spent)
      : free_(frames), left_(frames), when_spent_(std::move(when_spent)) {}

  // Up to `most`, for who is about to receive; what he then has not received he gives back.
  std::size_t reserve(std::size_t most) noexcept {
    std::uint64_t free = free_.load(std::memory_order_relaxed);
    while (!free_.compare_exchange_weak(free, free - std::min<std::uint64_t>(free, most), std::memory_order_relaxed)) {
    }
    return static_cast<std::size_t>(std::min<std::uint64_t>(free, most));
  }
  void settle(std::size_t reserved, std::size_t received) {
    free_.fetch_add(reserved - received, std::memory_order_relaxed);
    if (received > 0 && left_.fetch_sub(received) == received) when_spent_();
  }
  bool is_spent() const noexcept { return left_.load() == 0; }

 private:
  std::atomic<std::uint64_t> free_, left_;
  std::function<void()> when_spent_;
};

}  // namespace efio::mbdg
