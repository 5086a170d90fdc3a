// What a sending loop drives: frames made here, or those of a capture.
#pragma once

#include <cstdint>
#include <optional>

#include "efio/queue.h"
#include "tools/io_gen/gaps.h"

namespace efio::io_gen {

class Sending {
 public:
  Sending() = default;
  Sending(const Sending&) = delete;
  Sending& operator=(const Sending&) = delete;
  virtual ~Sending() = default;

  // Sends up to a batch, and returns how many frames went. 0: the ring is full, the next frame is not due (see idle()),
  // there is none yet (starved()), all is sent, or a queue failed.
  virtual std::size_t step() noexcept = 0;
  virtual bool done() const noexcept = 0;

  // Of the last step that sent nothing: ns until the next frame is due, 0: something else is missing; and whether what
  // is missing is frames.
  std::uint64_t idle() const noexcept { return idle_; }
  bool starved() const noexcept { return starved_; }

  // Under a rate or a timetable: the gaps that there were, and the share of what was to be sent until now that was not.
  const std::optional<Gaps>& gaps() const noexcept { return gaps_; }
  virtual double behind(std::uint64_t now) noexcept = 0;

 protected:
  std::uint64_t idle_ = 0;
  bool starved_ = false;
  std::optional<Gaps> gaps_;
};

}  // namespace efio::io_gen
