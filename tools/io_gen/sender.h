// The sending half of a loop: claim, fill, commit, flush.
#pragma once

#include <cstdint>
#include <optional>

#include "efio/queue.h"
#include "tools/io_gen/gaps.h"
#include "tools/io_gen/generator.h"
#include "tools/io_gen/pacer.h"

namespace efio::io_gen {

// Lines of its own: the receiving thread's state may lie beside it.
class alignas(64) Sender {
 public:
  Sender(TxQueue& queue, Generator& generator, const Rate& rate, std::uint64_t count, std::size_t batch)
      : queue_(queue), generator_(generator), pacer_(rate), left_(count), batch_(batch) {
    if (rate.limited()) gaps_.emplace(rate.gap(generator.length(0)));
  }

  // Sends up to a batch. 0: the ring is full, the next frame is not due (see idle()), all is sent, or the queue failed.
  std::size_t step() noexcept;

  bool done() const noexcept { return left_ == 0 || queue_.failed(); }
  // ns until the next frame is due, of the last step that sent nothing; 0: it waits for room.
  std::uint64_t idle() const noexcept { return idle_; }
  TxQueue& queue() const noexcept { return queue_; }

  // Under a rate: the gaps that there were, and the share of what the rate allowed until now that was not sent.
  const std::optional<Gaps>& gaps() const noexcept { return gaps_; }
  double behind(std::uint64_t now) noexcept;

 private:
  std::size_t due() noexcept;

  TxQueue& queue_;
  Generator& generator_;
  Pacer pacer_;
  std::uint64_t left_;
  std::size_t batch_;
  std::size_t owed_ = 0;  // frames taken off the schedule that found no room yet
  std::uint64_t idle_ = 0;
  std::optional<Gaps> gaps_;
};

}  // namespace efio::io_gen
