#include "tools/io_gen/sequence.h"

#include <algorithm>
#include <new>

namespace efio::io_gen {

namespace {

// a - b of 48-bit numbers that wrap: as a signed distance.
std::int64_t distance(std::uint64_t a, std::uint64_t b) noexcept {
  return static_cast<std::int64_t>((a - b) << 16) >> 16;
}

}  // namespace

Sequences::Sequences(Start start)
    : start_(start),
      next_(new std::uint64_t[Tag::streams]),
      windows_(static_cast<Window*>(std::calloc(Tag::streams, sizeof(Window)))) {
  if (!windows_) throw std::bad_alloc();
  for (std::size_t i = 0; i < Tag::streams; ++i) {
    const auto stream = static_cast<std::uint16_t>(i);
    next_[i] = start == Start::zero ? Tag::name(stream, 0) : unseen(stream);
  }
}

// All numbers of the window count as seen, but those before the base.
void Sequences::open_window(Window& w, std::uint64_t next) noexcept {
  w.next = next;
  w.missing = 0;
  if (distance(next, w.base) < 0) w.base = (next - window) & Tag::sequence_mask;  // half round
  std::ranges::fill(w.seen, ~std::uint64_t{0});
  for (std::uint64_t back = window; back > 0; --back) {
    const std::uint64_t s = (next - back) & Tag::sequence_mask;
    if (distance(s, w.base) >= 0) break;
    w.clear(s);
  }
}

// The window's front moves to `sequence`, which is seen; what lies between is missing.
void Sequences::advance(Window& w, std::uint64_t sequence) noexcept {
  const auto gap = static_cast<std::uint64_t>(distance(sequence, w.next));
  counts_.lost += gap;
  if (gap >= window) {
    std::ranges::fill(w.seen, 0);
    w.missing = window - 1;
  } else {
    for (std::uint64_t s = w.next; s != sequence; s = (s + 1) & Tag::sequence_mask) {
      const bool leaving_is_missing = !w.has(s) && distance((s - window) & Tag::sequence_mask, w.base) >= 0;
      w.missing += leaving_is_missing ? 0 : 1;
      w.clear(s);
    }
    if (!w.has(sequence) && distance((sequence - window) & Tag::sequence_mask, w.base) >= 0) --w.missing;
  }
  w.set(sequence);
  w.next = (sequence + 1) & Tag::sequence_mask;
}

void Sequences::see_slowly(std::uint16_t stream, std::uint64_t sequence) noexcept {
  std::uint64_t& next = next_[stream];
  Window& w = windows_[stream];
  const auto expect = [&](std::uint64_t number) { next = Tag::name(stream, number); };
  if (next == other(stream)) expect(0);  // wrapped
  if (next == unseen(stream)) {
    w.base = sequence;
    expect((sequence + 1) & Tag::sequence_mask);
    ++counts_.streams;
    return;
  }
  if (next == Tag::name(stream, sequence)) {
    expect((sequence + 1) & Tag::sequence_mask);
    return;
  }
  if (next != slow(stream)) {
    open_window(w, next & Tag::sequence_mask);
    next = slow(stream);
  }
  const std::int64_t ahead = distance(sequence, w.next);
  if (ahead >= 0) {
    advance(w, sequence);
  } else if (static_cast<std::uint64_t>(-ahead) > window) {
    ++counts_.stale;
  } else if (w.has(sequence)) {
    ++counts_.duplicated;
  } else {
    w.set(sequence);
    ++counts_.reordered;
    if (distance(sequence, w.base) >= 0) {  // else it was never counted as lost
      --counts_.lost;
      --w.missing;
    }
  }
  // Numbers before the base stay zero without being missing: the window must live while it covers any of them.
  const bool past_base = distance((w.next - window) & Tag::sequence_mask, w.base) >= 0;
  if (past_base) w.base = (w.next - window) & Tag::sequence_mask;
  if (w.missing == 0 && (past_base || start_ == Start::zero)) expect(w.next);
}

void Sequences::expect_until(std::uint16_t stream, std::uint64_t end) noexcept {
  std::uint64_t next = next_[stream];
  if (next == unseen(stream) || next == other(stream))
    next = 0;
  else if (next == slow(stream))
    next = windows_[stream].next;
  if (const auto behind = distance(end, next & Tag::sequence_mask); behind > 0)
    counts_.lost += static_cast<std::uint64_t>(behind);
}

SequenceCounts Sequences::counts() const noexcept {
  SequenceCounts counts = counts_;
  if (start_ == Start::zero)
    for (std::size_t i = 0; i < Tag::streams; ++i)
      counts.streams += next_[i] == Tag::name(static_cast<std::uint16_t>(i), 0) ? 0U : 1U;
  return counts;
}

}  // namespace efio::io_gen
