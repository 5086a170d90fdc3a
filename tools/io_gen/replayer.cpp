#include "tools/io_gen/replayer.h"

#include <algorithm>

#include "efio/clock.h"
#include "efio/forward.h"

namespace efio::io_gen {

Replayer::Replayer(RxQueue& from, TxQueue& to, const Replay& replay, const Rate& rate, std::uint64_t count,
                   std::size_t batch)
    : from_(from), to_(to), replay_(replay), pacer_(rate), left_(count), batch_(std::min(batch, Replay::most_batch)) {
  if (rate.limited() || replay.factor > 0) gaps_.emplace(rate.limited() ? rate.gap(0) : 0);
}

// When a frame is due after one that was due at `then`; a time that goes back begins another pass, without a gap.
std::uint64_t Replayer::scheduled(std::uint64_t recorded, std::uint64_t before, std::uint64_t then) const noexcept {
  if (recorded <= before) return then;
  return then + static_cast<std::uint64_t>(static_cast<double>(recorded - before) / replay_.factor);
}

std::size_t Replayer::due_as_recorded(const RxBatch& batch) noexcept {
  if (start_ == 0) {
    start_ = Clock::monotonic();
    recorded_ = batch[0].time;
  }
  const std::uint64_t now = Clock::monotonic() - start_;
  std::uint64_t before = recorded_, then = then_;
  std::size_t n = 0;
  for (; n < batch.size(); ++n) {
    then = scheduled(batch[n].time, before, then);
    before = batch[n].time;
    if (then > now) break;
    recorded_of_[n] = before;
    due_of_[n] = then;
  }
  late_ = n > 0 ? now - due_of_[0] : 0;
  if (n == 0) idle_ = then - now;
  return n;
}

// How many of the frames may go now.
std::size_t Replayer::due(const RxBatch& batch) noexcept {
  if (replay_.factor > 0) return due_as_recorded(batch);
  if (!pacer_.limited()) return batch.size();
  const std::uint64_t wait = pacer_.wait(Clock::monotonic());
  while (owed_ < batch.size() && pacer_.take(batch[owed_].length)) ++owed_;
  if (owed_ == 0) idle_ = wait;
  return std::min(owed_, batch.size());
}

std::size_t Replayer::step() noexcept {
  idle_ = 0;
  RxBatch batch = from_.receive(static_cast<std::size_t>(std::min<std::uint64_t>(batch_, left_)));
  starved_ = batch.empty() && left_ > 0;
  if (batch.empty()) return 0;
  const std::size_t n = due(batch);
  if (n == 0) return 0;
  for (; rewritten_ < n; ++rewritten_) replay_.rewriting.apply(batch[rewritten_].bytes());
  if (n < batch.size()) batch = from_.receive(n);
  const std::size_t gone = forward(batch, to_);
  to_.flush();
  if (gone == 0) return 0;
  rewritten_ -= gone;
  left_ -= gone;
  if (replay_.factor > 0) {
    recorded_ = recorded_of_[gone - 1];
    then_ = due_of_[gone - 1];
  } else if (pacer_.limited()) {
    owed_ -= gone;
  }
  if (gaps_) gaps_->sent(Clock::monotonic(), gone);
  return gone;
}

double Replayer::behind(std::uint64_t now) noexcept {
  if (replay_.factor == 0) return pacer_.limited() ? pacer_.behind(now, owed_) : 0;
  // What counts is how late the last frames went, against all the time there was.
  return then_ == 0 ? 0 : static_cast<double>(late_) / static_cast<double>(then_ + late_);
}

}  // namespace efio::io_gen
