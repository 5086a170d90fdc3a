// The receiving half of a loop: receive, check, write if asked to, finish. All receive queues of a port in turn.
#pragma once

#include <cstdint>

#include "efio/port.h"
#include "tools/io_gen/checker.h"

namespace efio::io_gen {

// Lines of its own: the sending thread's state may lie beside it.
class alignas(64) Receiver {
 public:
  // `copy`: where received frames go after they were looked at; null: nowhere.
  Receiver(Port& port, Checker& checker, std::uint64_t count, std::size_t batch, TxQueue* copy = nullptr)
      : port_(port), checker_(checker), copy_(copy), left_(count), batch_(batch), queues_(port.rx_queues()) {}

  // Takes up to a batch from each queue; the slots. 0: nothing is there now.
  std::size_t step() noexcept;

  // The count is reached, every queue has come to its end or has failed, or the copy cannot be written.
  bool done() const noexcept;
  Port& port() const noexcept { return port_; }

  // Clock::now() of the first and the newest batch; 0: none yet.
  std::uint64_t first() const noexcept { return first_; }
  std::uint64_t newest() const noexcept { return newest_; }

 private:
  std::size_t take(RxQueue& queue) noexcept;
  bool copied(RxBatch& batch) noexcept;

  Port& port_;
  Checker& checker_;
  TxQueue* copy_;
  std::uint64_t left_;
  std::size_t batch_;
  std::size_t queues_;
  std::uint64_t first_ = 0, newest_ = 0;
};

}  // namespace efio::io_gen
