#include "efio/port.h"

#include <algorithm>

#include "efio/engines/engine.h"
#include "efio/fail.h"

namespace efio {

namespace {

// What a port hands out for a queue that it does not have.
Slot nothing[2];

class NoRx final : public RxQueue {
 public:
  NoRx() {
    ring_ = nothing;
    label_ = "no such receive queue";
    set_failed(fail(Error::Kind::usage, "use a receive queue", "this port has none of that number")
                   .hint("open it for Direction::rx or both, and see rx_queues()")
                   .error());
  }
  void refill(std::size_t) noexcept override {}
};

class NoTx final : public TxQueue {
 public:
  NoTx() {
    ring_ = nothing;
    label_ = "no such transmit queue";
    set_failed(fail(Error::Kind::usage, "use a transmit queue", "this port has none of that number")
                   .hint("open it for Direction::tx or both, and see tx_queues()")
                   .error());
  }
  void transmit() noexcept override {}
  void reclaim() noexcept override {}
};

}  // namespace

Port::Port(std::unique_ptr<PortHandle> handle) noexcept : handle_(std::move(handle)) {}
Port::Port(Port&&) noexcept = default;

Port& Port::operator=(Port&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}

Port::~Port() {
  if (handle_) (void)close();
}

Result<Port> Port::open(std::string_view text, const PortOptions& options) {
  auto uri = Uri::parse(text);
  if (!uri) return std::unexpected(uri.error());
  Opened opened = uri->scheme() == "auto" ? open_auto(*uri, options) : open_engine(*uri, options);
  if (!opened) return std::unexpected(opened.error());
  auto& handle = **opened;
  handle.info.uri = text;
  handle.direction = options.direction;
  return Port(std::move(*opened));
}

const PortInfo& Port::info() const noexcept { return handle_->info; }
Direction Port::direction() const noexcept { return handle_->direction; }
std::size_t Port::rx_queues() const noexcept { return handle_->rx.size(); }
std::size_t Port::tx_queues() const noexcept { return handle_->tx.size(); }

RxQueue& Port::rx(std::size_t i) noexcept {
  static NoRx none;
  return i < handle_->rx.size() ? *handle_->rx[i] : none;
}

TxQueue& Port::tx(std::size_t i) noexcept {
  static NoTx none;
  return i < handle_->tx.size() ? *handle_->tx[i] : none;
}

PortStats Port::stats() const noexcept {
  PortStats sum;
  for (const auto& queue : handle_->rx) sum.rx += queue->stats();
  for (const auto& queue : handle_->tx) sum.tx += queue->stats();
  return sum;
}

std::uint64_t Port::link_downs() const noexcept { return handle_->link_downs(); }

Result<void> Port::set_option(std::string_view key, std::string_view value) {
  if (handle_->closed) return fail(Error::Kind::usage, "use " + handle_->info.uri, "the port is closed");
  return handle_->set_option(key, value);
}

bool Port::drain(std::chrono::nanoseconds timeout) noexcept {
  const auto start = Clock::monotonic();
  bool done = true;
  for (const auto& queue : handle_->tx) {
    const auto spent = std::chrono::nanoseconds(Clock::monotonic() - start);
    done = queue->drain(std::max(timeout - spent, std::chrono::nanoseconds(0))) && done;
  }
  for (const auto& queue : handle_->rx) queue->sample();
  return done;
}

Result<void> Port::close() {
  if (handle_->closed) return {};
  drain();
  handle_->closed = true;
  for (const auto& queue : handle_->tx) queue->abandon();
  auto outcome = handle_->close_device();
  const auto closed = fail(Error::Kind::usage, "use " + handle_->info.uri, "the port is closed").error();
  for (const auto& queue : handle_->rx) {
    queue->tail_ = queue->head_;
    queue->set_failed(closed);
  }
  for (const auto& queue : handle_->tx) {
    queue->limit_ = queue->tail_;
    queue->set_failed(closed);
  }
  return outcome;
}

}  // namespace efio
