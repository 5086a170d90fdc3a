#include "tools/efnet/worker.h"

#include "efio/clock.h"
#include "tools/common/cpus.h"

namespace efio::gate {

namespace {

using std::chrono::nanoseconds;

constexpr nanoseconds longest_sleep = std::chrono::milliseconds(100);  // ARP and timeouts go on without traffic
constexpr nanoseconds busy = std::chrono::microseconds(20);            // look so long before sleeping

}  // namespace

void Worker::set(efnet::Gateway* gateway, std::vector<Source> sources) {
  gateway_ = gateway;
  sources_ = std::move(sources);
  changed_ = true;
}

Result<void> Worker::watch_sources() {
  auto poller = Poller::create({.busy_poll = busy});
  if (!poller) return std::unexpected(std::move(poller.error()));
  for (const Source& source : sources_)
    if (auto ok = poller->add(*source.rx); !ok) return ok;
  const std::scoped_lock lock(poller_mutex_);
  poller_ = std::move(*poller);
  changed_ = false;
  return {};
}

Result<void> Worker::run() {
  {
    const std::scoped_lock lock(poller_mutex_);  // who called before has finished
    running_.store(true);
  }
  auto result = tools::pin_thread(cpus_, 0);
  if (result) result = loop();
  failed_.store(!result);
  {
    const std::scoped_lock lock(poller_mutex_);
    poller_.reset();
    running_.store(false);
  }
  do_called();  // who called meanwhile is not left waiting
  return result;
}

Result<void> Worker::loop() {
  changed_ = true;
  while (!stop_.load(std::memory_order_relaxed)) {
    do_called();
    if (changed_)
      if (auto ok = watch_sources(); !ok) return ok;
    if (!round() && !spin_) poller_->wait(longest_sleep);
  }
  return {};
}

bool Worker::round() {
  const efnet::Time now(static_cast<std::int64_t>(Clock::monotonic()));
  bool busy_now = false;
  for (const Source& source : sources_) {
    auto batch = source.rx->receive(efnet::PacketBatch::capacity);
    if (batch.empty()) continue;
    busy_now = true;
    gateway_->pass(source.side, batch, now);
  }
  return gateway_->tick(now) || busy_now;
}

void Worker::do_called() noexcept {
  const auto* work = called_.load(std::memory_order_acquire);
  if (work == nullptr) [[likely]]
    return;
  (*work)();
  called_.store(nullptr, std::memory_order_release);
  called_.notify_all();
}

void Worker::call(const std::function<void()>& work) {
  const std::scoped_lock one(call_mutex_);
  {
    const std::scoped_lock lock(poller_mutex_);  // it neither begins nor ends now
    if (!running_.load()) return work();
    called_.store(&work, std::memory_order_release);
  }
  wake();
  called_.wait(&work);
}

void Worker::wake() noexcept {
  const std::scoped_lock lock(poller_mutex_);
  if (poller_) poller_->wake();
}

void Worker::stop() noexcept {
  stop_.store(true);
  wake();
}

}  // namespace efio::gate
