// Sends the frames of a capture: with the gaps that were recorded or a factor of them, at a rate, or as fast as
// possible.
#pragma once

#include <cstdint>
#include <string>

#include "efio/port.h"
#include "tools/io_gen/pacer.h"
#include "tools/io_gen/rewriting.h"
#include "tools/io_gen/sending.h"

namespace efio::io_gen {

struct Replay {
  static constexpr std::size_t most_batch = 256;  // the ring of a pcap: port

  std::string file;         // or a pcap: URI
  double factor = 0;        // of the recorded speed; 0: not by recorded times
  std::uint64_t loops = 1;  // 0: for ever
  Rewriting rewriting;
};

class Replayer final : public Sending {
 public:
  // `from`: of a pcap: port with timing=full. `rate`: where replay.factor is 0.
  Replayer(RxQueue& from, TxQueue& to, const Replay& replay, const Rate& rate, std::uint64_t count, std::size_t batch);

  std::size_t step() noexcept override;
  bool done() const noexcept override { return left_ == 0 || to_.failed() || from_.failed() || from_.exhausted(); }
  double behind(std::uint64_t now) noexcept override;

 private:
  std::size_t due(const RxBatch& batch) noexcept;
  std::size_t due_as_recorded(const RxBatch& batch) noexcept;
  std::uint64_t scheduled(std::uint64_t recorded, std::uint64_t before, std::uint64_t then) const noexcept;

  RxQueue& from_;
  TxQueue& to_;
  const Replay& replay_;
  Pacer pacer_;
  std::uint64_t left_;
  std::size_t batch_;
  std::size_t owed_ = 0;       // frames taken off the schedule that found no room yet
  std::size_t rewritten_ = 0;  // frames at the head of the queue that are as they will be sent
  // As recorded: when the schedule began (Clock::monotonic), and of the frame sent last its recorded time and when it
  // was due, in ns since the start.
  std::uint64_t start_ = 0, recorded_ = 0, then_ = 0;
  std::uint64_t late_ = 0;  // ns that the next frame is late by
  std::uint64_t recorded_of_[Replay::most_batch] = {}, due_of_[Replay::most_batch] = {};
};

}  // namespace efio::io_gen
