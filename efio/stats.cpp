#include "efio/stats.h"

#include <algorithm>
#include <numeric>

namespace efio {

namespace {

struct ReasonText {
  std::string_view name, text;
};
constexpr std::array<ReasonText, drop_reasons> reasons = {{
#define EFIO_X(name, text) {#name, text},
    EFIO_DROP_REASONS(EFIO_X)
#undef EFIO_X
}};

std::uint64_t sum(const DropCounts& counts) noexcept {
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

void add(DropCounts& to, const DropCounts& from) noexcept {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

}  // namespace

std::string_view name(DropReason reason) noexcept { return reasons[static_cast<std::size_t>(reason)].name; }
std::string_view describe(DropReason reason) noexcept { return reasons[static_cast<std::size_t>(reason)].text; }

std::uint64_t RxStats::total_dropped() const noexcept { return sum(dropped); }
std::uint64_t TxStats::total_dropped() const noexcept { return sum(dropped); }

RxStats& RxStats::operator+=(const RxStats& other) noexcept {
  received += other.received, made += other.made, delivered += other.delivered, waiting += other.waiting;
  bytes += other.bytes;
  sampled_at = std::max(sampled_at, other.sampled_at);
  add(dropped, other.dropped);
  return *this;
}

TxStats& TxStats::operator+=(const TxStats& other) noexcept {
  offered += other.offered, made += other.made, sent += other.sent, pending += other.pending, bytes += other.bytes;
  sampled_at = std::max(sampled_at, other.sampled_at);
  add(dropped, other.dropped);
  return *this;
}

CounterBlock::Fields CounterBlock::snapshot() const noexcept {
  for (;;) {
    const auto before = sequence_.load(std::memory_order_acquire);
    Fields f;
    f.in = in_.load(std::memory_order_acquire);
    f.made = made_.load(std::memory_order_acquire);
    f.out = out_.load(std::memory_order_acquire);
    f.queued = queued_.load(std::memory_order_acquire);
    f.bytes = bytes_.load(std::memory_order_acquire);
    f.sampled_at = sampled_at_.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < drop_reasons; ++i) f.dropped[i] = dropped_[i].load(std::memory_order_acquire);
    if ((before & 1) == 0 && sequence_.load(std::memory_order_relaxed) == before) return f;
  }
}

RxStats rx_stats(const CounterBlock::Fields& f) noexcept {
  return {f.in, f.made, f.out, f.queued, f.bytes, f.sampled_at, f.dropped};
}

TxStats tx_stats(const CounterBlock::Fields& f) noexcept {
  return {f.in, f.made, f.out, f.queued, f.bytes, f.sampled_at, f.dropped};
}

}  // namespace efio
