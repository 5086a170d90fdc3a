// The sending half of a loop: claim, fill, commit, flush.
#pragma once

#include <cstdint>

#include "tools/io_gen/generator.h"
#include "tools/io_gen/pacer.h"
#include "tools/io_gen/sending.h"

namespace efio::io_gen {

// Lines of its own: the receiving thread's state may lie beside it.
class alignas(64) Sender final : public Sending {
 public:
  Sender(TxQueue& queue, Generator& generator, const Rate& rate, std::uint64_t count, std::size_t batch)
      : queue_(queue), generator_(generator), pacer_(rate), left_(count), batch_(batch) {
    if (rate.limited()) gaps_.emplace(rate.gap(generator.length(0)));
  }

  std::size_t step() noexcept override;
  bool done() const noexcept override { return left_ == 0 || queue_.failed(); }
  double behind(std::uint64_t now) noexcept override;

 private:
  std::size_t due() noexcept;

  TxQueue& queue_;
  Generator& generator_;
  Pacer pacer_;
  std::uint64_t left_;
  std::size_t batch_;
  std::size_t owed_ = 0;  // frames taken off the schedule that found no room yet
};

}  // namespace efio::io_gen
