// Waiting for queues: epoll over their descriptors, with a wake-up from other threads and a budget of busy polling.
// Waiting never transmits, and a receive queue never wakes for room to transmit, nor the other way round.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>

#include "efio/export.h"
#include "efio/queue.h"
#include "efio/result.h"

namespace efio {

struct PollerOptions {
  std::chrono::nanoseconds busy_poll{0};  // look at the queues for so long before sleeping
};

class EFIO_EXPORT Poller {
 public:
  // One of the two is set: this queue has something to receive, or room to claim, or has failed (see its status()).
  struct Ready {
    RxQueue* rx = nullptr;
    TxQueue* tx = nullptr;
  };

  // Errors: device (no descriptors left).
  static Result<Poller> create(const PollerOptions& options = {});
  Poller(Poller&&) noexcept;
  Poller& operator=(Poller&&) noexcept;
  ~Poller();

  // The queue must outlive the poller, or be removed. Errors: usage (twice), device.
  Result<void> add(RxQueue& queue);
  Result<void> add(TxQueue& queue);
  void remove(const Queue& queue) noexcept;

  // Sleeps until a queue is ready, wake() is called, or the time is up (negative: no limit). Empty in the last two
  // cases, and when a signal came. What it returns is valid until the next call.
  std::span<const Ready> wait(std::chrono::nanoseconds timeout);

  // Ends a wait() that is going on, or the next one. Any thread; async-signal-safe.
  void wake() noexcept;

 private:
  struct State;
  explicit Poller(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace efio
