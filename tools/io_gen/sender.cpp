#include "tools/io_gen/sender.h"

#include <algorithm>

#include "efio/clock.h"

namespace efio::io_gen {

// How many frames may go now.
std::size_t Sender::due() noexcept {
  const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(batch_, left_));
  if (!pacer_.limited()) return most;
  idle_ = pacer_.wait(Clock::monotonic());
  while (owed_ < most && pacer_.take(generator_.length(owed_))) ++owed_;
  return std::min(owed_, most);
}

std::size_t Sender::step() noexcept {
  idle_ = 0;
  const std::size_t wanted = due();
  if (wanted == 0) return 0;
  idle_ = 0;
  TxBatch batch = queue_.claim(wanted);
  if (batch.empty()) {
    queue_.flush();  // what an earlier flush could not hand over
    return 0;
  }
  generator_.fill(batch);
  const std::size_t sent = batch.commit();
  queue_.flush();
  left_ -= sent;
  if (pacer_.limited()) {
    owed_ -= sent;
    gaps_->sent(Clock::monotonic(), sent);
  }
  return sent;
}

double Sender::behind(std::uint64_t now) noexcept { return pacer_.limited() ? pacer_.behind(now, owed_) : 0; }

}  // namespace efio::io_gen
