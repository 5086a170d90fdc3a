#include "efio/poller.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <vector>

#include "efio/descriptor.h"
#include "efio/fail.h"

namespace efio {

namespace {
constexpr std::uint64_t for_ever = UINT64_MAX;
constexpr std::uint64_t wake_mark = UINT64_MAX;
}  // namespace

struct Poller::State {
  struct Entry {
    Queue* queue = nullptr;
    RxQueue* rx = nullptr;
    TxQueue* tx = nullptr;
    Fd fd;  // a duplicate: one descriptor may serve two queues, and epoll takes each once
    std::uint32_t events = 0;
    // A socket that epoll watches for room wakes it for every packet that leaves, 150 ns each: watched only while asleep.
    bool only_asleep = false;
    bool watched = false;
    bool always_ready = false;
    bool signalled = false;
  };

  PollerOptions options;
  Fd epoll, event;
  std::vector<std::unique_ptr<Entry>> entries;
  std::vector<Ready> ready;

  static bool has_work(const Entry& e) {
    if (e.always_ready || e.signalled || e.queue->failed()) return true;
    if (e.rx != nullptr) return e.rx->tail_ != e.rx->head_ || e.rx->exhausted() || e.queue->has_work();
    return e.tx->limit_ != e.tx->tail_ || e.queue->has_work();
  }

  bool watch(Entry& e) const {
    epoll_event what{.events = e.events, .data = {.ptr = &e}};
    e.watched = ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, e.fd.get(), &what) == 0;
    return e.watched;
  }
  void unwatch(Entry& e) const {
    if (std::exchange(e.watched, false)) ::epoll_ctl(epoll.get(), EPOLL_CTL_DEL, e.fd.get(), nullptr);
  }

  // Prepares every queue for sleep; true if one has work after all.
  bool arm(std::uint64_t& deadline) {
    bool awake = false;
    for (auto& e : entries) {
      awake = e->queue->arm(deadline) || awake;
      if (e->only_asleep && !e->queue->naps_) watch(*e);
    }
    return awake;
  }
  void disarm() {
    for (auto& e : entries) {
      if (e->only_asleep) unwatch(*e);
      e->queue->disarm();
    }
  }

  bool collect() {
    ready.clear();
    for (auto& entry : entries)
      if (has_work(*entry)) ready.push_back({entry->rx, entry->tx});
    return !ready.empty();
  }

  Result<void> add(Queue& queue, RxQueue* rx, TxQueue* tx, Queue::WaitSource source) {
    if (std::ranges::any_of(entries, [&](const auto& e) { return e->queue == &queue; }))
      return fail(Error::Kind::usage, "add " + queue.label() + " to a poller", "it is there already");
    auto entry = std::make_unique<Entry>();
    entry->queue = &queue, entry->rx = rx, entry->tx = tx, entry->always_ready = source.always_ready;
    if (source.fd >= 0) {
      entry->fd = Fd(::fcntl(source.fd, F_DUPFD_CLOEXEC, 0));
      entry->events = source.events;
      entry->only_asleep = source.only_asleep || (source.events & EPOLLOUT) != 0;
      if (!entry->fd || !watch(*entry)) return fail(errno, "add {} to a poller", queue.label());
      if (entry->only_asleep) unwatch(*entry);
    }
    entries.push_back(std::move(entry));
    return {};
  }
};

Poller::Poller(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Poller::Poller(Poller&&) noexcept = default;
Poller& Poller::operator=(Poller&&) noexcept = default;
Poller::~Poller() = default;

Result<Poller> Poller::create(const PollerOptions& options) {
  auto state = std::make_unique<State>();
  state->options = options;
  state->epoll = Fd(::epoll_create1(EPOLL_CLOEXEC));
  state->event = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!state->epoll || !state->event) return fail(errno, "make a poller");
  epoll_event what{.events = EPOLLIN, .data = {.u64 = wake_mark}};
  if (::epoll_ctl(state->epoll.get(), EPOLL_CTL_ADD, state->event.get(), &what) != 0) return fail(errno, "make a poller");
  return Poller(std::move(state));
}

Result<void> Poller::add(RxQueue& queue) {
  return state_->add(queue, &queue, nullptr, static_cast<Queue&>(queue).wait_source());
}

Result<void> Poller::add(TxQueue& queue) {
  return state_->add(queue, nullptr, &queue, static_cast<Queue&>(queue).wait_source());
}

void Poller::remove(const Queue& queue) noexcept {
  std::erase_if(state_->entries, [&](const auto& e) { return e->queue == &queue; });  // closing the duplicate ends the watch
}

std::span<const Poller::Ready> Poller::wait(std::chrono::nanoseconds timeout) {
  State& s = *state_;
  std::uint64_t entered = 0;
  for (auto& e : s.entries) {
    e->signalled = false;
    if (!static_cast<Queue*>(e->queue)->enter()) break;
    ++entered;
  }
  const auto leave = [&] {
    for (std::uint64_t i = 0; i < entered; ++i) s.entries[i]->queue->leave();
  };
  // A queue that another thread is using has just failed: that is an answer.
  if (entered < s.entries.size() || s.collect()) {
    leave();
    s.collect();
    return s.ready;
  }

  const auto start = timeout.count() == 0 && s.options.busy_poll.count() == 0 ? 0 : Clock::monotonic();
  const std::uint64_t until =
      timeout.count() < 0 ? for_ever : start + static_cast<std::uint64_t>(timeout.count());
  if (s.options.busy_poll.count() > 0) {
    const auto spin_until = std::min(until, start + static_cast<std::uint64_t>(s.options.busy_poll.count()));
    while (Clock::monotonic() < spin_until) {
      if (s.collect()) {
        leave();
        return s.ready;
      }
    }
  }

  for (;;) {
    std::uint64_t deadline = until;
    const bool awake = s.arm(deadline);
    int count = 0;
    std::array<epoll_event, 32> events;
    timespec limit{};
    bool limited = true;
    if (!awake && !(timeout.count() == 0)) {
      const auto now = Clock::monotonic();
      const auto left = deadline == for_ever ? 0 : deadline > now ? deadline - now : 0;
      limited = deadline != for_ever;
      limit = {static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
    }
    count = ::epoll_pwait2(s.epoll.get(), events.data(), static_cast<int>(events.size()), limited ? &limit : nullptr, nullptr);
    s.disarm();
    bool woken = count < 0;
    for (int i = 0; i < count; ++i) {
      const auto& event = events[static_cast<std::size_t>(i)];
      if (event.data.u64 == wake_mark) {
        std::uint64_t value = 0;
        woken = ::read(s.event.get(), &value, sizeof value) > 0 || woken;
      } else {
        static_cast<State::Entry*>(event.data.ptr)->signalled = true;
      }
    }
    if (awake) {
      // arm() saw something that has_work() may not see without the kernel: the queue's own receive() or claim() tells.
      s.ready.clear();
      for (auto& e : s.entries) {
        std::uint64_t unused = for_ever;
        if (State::has_work(*e) || e->queue->arm(unused)) s.ready.push_back({e->rx, e->tx});
        e->queue->disarm();
      }
      if (!s.ready.empty() || woken) break;
      continue;
    }
    if (s.collect() || woken || (until != for_ever && Clock::monotonic() >= until)) break;
  }
  leave();
  return s.ready;
}

void Poller::wake() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(state_->event.get(), &one, sizeof one);
}

}  // namespace efio
