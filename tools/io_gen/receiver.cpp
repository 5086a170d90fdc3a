#include "tools/io_gen/receiver.h"

#include <algorithm>

#include "efio/clock.h"
#include "efio/forward.h"

namespace efio::io_gen {

// Hands the whole batch to the copy, which finishes it; waits for room where there is none.
bool Receiver::copied(RxBatch& batch) noexcept {
  while (!batch.empty()) {
    forward(batch, *copy_);
    copy_->flush();
    if (copy_->failed()) return false;
  }
  return true;
}

std::size_t Receiver::take(RxQueue& queue) noexcept {
  RxBatch batch = queue.receive(static_cast<std::size_t>(std::min<std::uint64_t>(batch_, left_)));
  const std::size_t slots = batch.size();
  if (slots == 0) return 0;
  newest_ = Clock::now();
  if (first_ == 0) first_ = newest_;
  const std::uint64_t before = checker_.counts().frames;
  checker_.check(batch, newest_);
  left_ -= checker_.counts().frames - before;
  if (copy_ == nullptr)
    batch.finish();
  else
    copied(batch);
  return slots;
}

std::size_t Receiver::step() noexcept {
  std::size_t taken = 0;
  for (std::size_t i = 0; i < queues_ && left_ > 0; ++i) taken += take(port_.rx(i));
  return taken;
}

bool Receiver::done() const noexcept {
  if (left_ == 0 || (copy_ != nullptr && copy_->failed())) return true;
  for (std::size_t i = 0; i < queues_; ++i) {
    const RxQueue& queue = port_.rx(i);
    if (!queue.failed() && !queue.exhausted()) return false;
  }
  return true;
}

}  // namespace efio::io_gen
