// pipe: two ends in one process, joined by a ring of slots each way for every queue.
//
// A ring is filled with frames from the start: claimed slots hold free frames, received ones full ones, and the position
// counters say which are which. The sender publishes `tail` at flush, the receiver publishes `head` at finish; nothing
// else is shared while both run. Who sleeps says so in a flag and then makes every other thread of the process pass a
// barrier (membarrier), so that the one who publishes needs no fence: it publishes, then looks at the flag.
#include <linux/membarrier.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <map>
#include <mutex>

#include "efio/descriptor.h"
#include "efio/engines/engine.h"
#include "efio/fail.h"

namespace efio {

namespace {

constexpr std::uint64_t default_ring = 1024;
constexpr std::uint64_t default_frame = 1920;
constexpr std::size_t most_queues = 64;
// Without membarrier a wake-up can be missed; sleep no longer than this then.
constexpr std::uint64_t longest_blind_sleep_ns = 1'000'000;

// Processors fetch lines in pairs: what the two sides write lies in different pairs.
constexpr std::size_t apart = 128;

struct PipeRing {
  alignas(apart) std::atomic<std::uint32_t> tail{0};
  std::atomic<std::uint32_t> fragmented{0};  // a frame of several slots has passed
  alignas(apart) std::atomic<std::uint32_t> head{0};
  alignas(apart) std::atomic<std::uint32_t> reader_waits{0};
  std::atomic<std::uint32_t> writer_waits{0};
  OwnedRing slots;
  Fd readable, writable;
  bool rx_open = false, tx_open = false;  // under the registry's mutex
};

struct PipeLink {
  std::string name;
  std::size_t queues = 1;
  std::size_t capacity = 0;
  std::array<std::vector<std::unique_ptr<PipeRing>>, 2> from;  // from[end][queue]: what that end sends into
};

std::mutex registry_mutex;
std::map<std::string, std::weak_ptr<PipeLink>>& registry() {
  static std::map<std::string, std::weak_ptr<PipeLink>> links;
  return links;
}

bool barrier_available() {
  static const bool available =
      ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
  return available;
}

// Announces a sleep. After it, whoever publishes sees the flag, or what it published is seen here.
void announce(std::atomic<std::uint32_t>& flag, std::uint64_t& deadline) noexcept {
  flag.store(1, std::memory_order_seq_cst);
  if (!barrier_available() || ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0)
    deadline = std::min(deadline, Clock::monotonic() + longest_blind_sleep_ns);
}

void ring_bell(std::atomic<std::uint32_t>& flag, const Fd& event) noexcept {
  if (flag.exchange(0, std::memory_order_acq_rel) == 0) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(event.get(), &one, sizeof one);
}

void silence(std::atomic<std::uint32_t>& flag, const Fd& event) noexcept {
  // A bell rung between waking up and here must not wake the next sleep for nothing.
  if (flag.exchange(0, std::memory_order_acq_rel) != 0) return;
  std::uint64_t value = 0;
  [[maybe_unused]] const auto got = ::read(event.get(), &value, sizeof value);
}

class PipeRx final : public RxQueue {
 public:
  PipeRx(std::shared_ptr<PipeLink> link, PipeRing& ring, std::string label, std::size_t index)
      : link_(std::move(link)), shared_(ring) {
    ring_ = ring.slots.data();
    mask_ = ring.slots.mask();
    pool_ = ring.slots.pool();
    swaps_ = true;
    headroom_ = static_cast<std::uint16_t>(pool_->headroom());
    capacity_ = link_->capacity;
    label_ = std::move(label);
    index_ = index;
    head_ = tail_ = ring.head.load(std::memory_order_acquire);
    published_head_ = &ring.head;
    peer_waits_ = &ring.writer_waits;
  }
  ~PipeRx() override { release(); }
  // The ring keeps what is in it for whoever opens this side next.
  void release() {
    const std::scoped_lock lock(registry_mutex);
    if (!std::exchange(open_, false)) return;
    finish_marked();
    shared_.rx_open = false;
  }

 private:
  void refill(std::size_t) noexcept override {
    const auto tail = shared_.tail.load(std::memory_order_acquire);
    const auto slots = tail - tail_;
    if (slots == 0) return;
    std::uint64_t frames = slots;
    if (shared_.fragmented.load(std::memory_order_relaxed) != 0) {
      fragments_ = true;
      frames = 0;
      for (auto i = tail_; i != tail; ++i) frames += slot_at(i).has(Slot::more) ? 0U : 1U;
    }
    admit(slots, frames);
  }
  void wake_peer() noexcept override { ring_bell(shared_.writer_waits, shared_.writable); }
  WaitSource wait_source() override { return {shared_.readable.get(), EPOLLIN, false}; }
  bool has_work() const override { return shared_.tail.load(std::memory_order_acquire) != head_; }
  bool arm(std::uint64_t& deadline) override {
    announce(shared_.reader_waits, deadline);
    return has_work();
  }
  void disarm() override { silence(shared_.reader_waits, shared_.readable); }

  std::shared_ptr<PipeLink> link_;
  PipeRing& shared_;
  bool open_ = true;
};

class PipeTx final : public TxQueue {
 public:
  PipeTx(std::shared_ptr<PipeLink> link, PipeRing& ring, std::string label, std::size_t index)
      : link_(std::move(link)), shared_(ring) {
    ring_ = ring.slots.data();
    mask_ = ring.slots.mask();
    pool_ = ring.slots.pool();
    swaps_ = true;
    headroom_ = static_cast<std::uint16_t>(pool_->headroom());
    capacity_ = link_->capacity;
    label_ = std::move(label);
    index_ = index;
    tail_ = flushed_ = settled_ = ring.tail.load(std::memory_order_acquire);
    PipeTx::reclaim();
  }
  ~PipeTx() override { release(); }
  // The ring keeps what is in it for whoever opens this side next.
  void release() {
    const std::scoped_lock lock(registry_mutex);
    if (std::exchange(open_, false)) shared_.tx_open = false;
  }

 private:
  void transmit() noexcept override {
    if (fragments_) shared_.fragmented.store(1, std::memory_order_relaxed);
    shared_.tail.store(tail_, std::memory_order_release);
    const auto slots = tail_ - flushed_;
    flushed_ = tail_;
    settle(slots, unsent_frames_, unsent_bytes_);
    unsent_frames_ = unsent_bytes_ = 0;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (shared_.reader_waits.load(std::memory_order_relaxed) != 0) [[unlikely]]
      ring_bell(shared_.reader_waits, shared_.readable);
  }
  void reclaim() noexcept override {
    limit_ = shared_.head.load(std::memory_order_acquire) + static_cast<std::uint32_t>(ring_size());
  }
  WaitSource wait_source() override { return {shared_.writable.get(), EPOLLIN, false}; }
  bool has_work() const override {
    return shared_.head.load(std::memory_order_acquire) + static_cast<std::uint32_t>(ring_size()) != tail_;
  }
  bool arm(std::uint64_t& deadline) override {
    announce(shared_.writer_waits, deadline);
    return has_work();
  }
  void disarm() override { silence(shared_.writer_waits, shared_.writable); }

  std::shared_ptr<PipeLink> link_;
  PipeRing& shared_;
  bool open_ = true;
};

struct PipePort final : PortHandle {
  Result<void> close_device() override {
    for (auto& queue : rx) static_cast<PipeRx&>(*queue).release();
    for (auto& queue : tx) static_cast<PipeTx&>(*queue).release();
    return {};
  }
};

Result<std::shared_ptr<PipeLink>> make_link(const std::string& name, std::size_t queues, std::size_t slots,
                                            std::size_t capacity, std::shared_ptr<Pool> pool) {
  auto link = std::make_shared<PipeLink>();
  link->name = name;
  link->queues = queues;
  if (!pool) {
    auto shared = Pool::shared(capacity + PoolOptions{}.headroom);
    if (!shared) return std::unexpected(shared.error());
    pool = *shared;
  }
  link->capacity = std::min(capacity, pool->frame_size() - pool->headroom());
  for (auto& direction : link->from) {
    for (std::size_t q = 0; q < queues; ++q) {
      auto ring = std::make_unique<PipeRing>();
      auto owned = OwnedRing::create(slots, pool);
      if (!owned) return std::unexpected(owned.error());
      ring->slots = std::move(*owned);
      ring->readable = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
      ring->writable = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
      if (!ring->readable || !ring->writable) return fail(errno, "open pipe:{}", name);
      direction.push_back(std::move(ring));
    }
  }
  return link;
}

bool untouched(const PipeLink& link, std::size_t end) {
  for (const auto& ring : link.from[end])
    if (ring->tx_open) return false;
  for (const auto& ring : link.from[1 - end])
    if (ring->rx_open) return false;
  return true;
}

}  // namespace

Opened open_pipe(Uri& uri, const PortOptions& options) {
  const auto attempted = "open " + uri.text();
  const std::size_t queues = uri.number("queues", 1, 1, most_queues);
  const std::size_t slots = uri.number("ring", default_ring, SlotRing::smallest, SlotRing::largest);
  const std::size_t capacity = uri.number("frame", default_frame, 128, 65536 + 128);
  const std::size_t one_queue = uri.number("queue", most_queues, 0, most_queues - 1);
  const bool all_queues = !uri.has("queue");
  if (auto ok = uri.finish(); !ok) return std::unexpected(ok.error());

  std::string name = uri.name();
  int end = -1;
  if (name.ends_with("/a") || name.ends_with("/b")) {
    end = name.back() - 'a';
    name.resize(name.size() - 2);
  }
  if (name.empty() || name.find('/') != std::string::npos)
    return fail(Error::Kind::usage, attempted, "a pipe's name has no slash but in /a and /b").hint("pipe:x, pipe:x/a or pipe:x/b");

  const std::scoped_lock lock(registry_mutex);
  auto link = registry()[name].lock();
  if (!link) {
    auto made = make_link(name, queues, slots, capacity, options.pool);
    if (!made) return std::unexpected(made.error());
    link = std::move(*made);
    std::erase_if(registry(), [](const auto& known) { return known.second.expired(); });
    registry()[name] = link;
  } else if ((uri.has("queues") && queues != link->queues) ||
             (uri.has("ring") && SlotRing::rounded(slots) != link->from[0][0]->slots.size()) ||
             (uri.has("frame") && capacity != link->capacity)) {
    return fail(Error::Kind::usage, attempted, "its other end has queues={}&ring={}&frame={}", link->queues,
                link->from[0][0]->slots.size(), link->capacity)
        .hint("the same at both ends, or at the first only");
  }
  if (!all_queues && one_queue >= link->queues)
    return fail(Error::Kind::usage, attempted, "queue {} of {}", one_queue, link->queues).hint("queues count from 0");

  if (end < 0) {
    end = untouched(*link, 0) ? 0 : untouched(*link, 1) ? 1 : -1;
    if (end < 0)
      return fail(Error::Kind::device, attempted, "both ends are taken").hint("another name, or pipe:{}/a and /b by direction", name);
  }

  const auto first = all_queues ? 0 : one_queue;
  const auto last = all_queues ? link->queues : one_queue + 1;
  auto& sending = link->from[static_cast<std::size_t>(end)];
  auto& receiving = link->from[static_cast<std::size_t>(1 - end)];
  for (std::size_t q = first; q < last; ++q)
    if ((receives(options.direction) && receiving[q]->rx_open) || (transmits(options.direction) && sending[q]->tx_open))
      return fail(Error::Kind::device, attempted, "queue {} of end {} is open already in this direction", q,
                  static_cast<char>('a' + end))
          .hint("close it first, or open the other direction, end or queue");

  auto port = std::make_unique<PipePort>();
  const auto side = static_cast<char>('a' + end);
  for (std::size_t q = first; q < last; ++q) {
    if (receives(options.direction)) {
      receiving[q]->rx_open = true;
      port->rx.push_back(std::make_unique<PipeRx>(link, *receiving[q], fmt::format("pipe:{}/{} rx {}", name, side, q), q));
    }
    if (transmits(options.direction)) {
      sending[q]->tx_open = true;
      port->tx.push_back(std::make_unique<PipeTx>(link, *sending[q], fmt::format("pipe:{}/{} tx {}", name, side, q), q));
    }
  }
  const auto& ring = *link->from[0][0];
  port->info.mode = fmt::format("end {}, swap", side);
  port->info.rx_ring = port->info.tx_ring = ring.slots.size();
  port->info.frame_size = link->capacity;
  port->info.headroom = ring.slots.pool()->headroom();
  port->info.queue_bytes = ring.slots.bytes();
  port->info.time_source = TimeSource::clock;
  return port;
}

}  // namespace efio
