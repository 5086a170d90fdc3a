// sim: another port, whose frames are lost, doubled, late and damaged on their way (impairment.h).
//
// It is a port before a port: it receives what the inner queue lends, and commits to the inner queue what it sends, both
// by exchanging slots where the inner port has frames of a pool, else by copying. Its counters start from the inner
// queue's: received is what reached that, its drops are ours, and sent is what the inner device took.
#include "efio/sim.h"

#include "efio/engines/engine.h"
#include "efio/engines/impairment.h"
#include "efio/fail.h"

namespace efio {

namespace {

// A queue's frames: exchanged with the inner queue's where both are of one pool.
struct SimMemory {
  OwnedRing ring;
  std::unique_ptr<ImpairedPath> path;
  bool swaps = false;
};

// Where frames come from: the inner queue's pool, the one that was given, or one of their own, whichever has room first.
Result<SimMemory> make_memory(const Queue& inner, const std::shared_ptr<Pool>& given, const Impairments& what,
                              const SimClock& clock, Direction way) {
  const auto take_from = [&](const std::shared_ptr<Pool>& pool) -> Result<SimMemory> {
    auto ring = OwnedRing::create(inner.ring_size(), pool);
    if (!ring) return std::unexpected(ring.error());
    auto path = ImpairedPath::create(what, clock, way, inner.index(), pool);
    if (!path) return std::unexpected(path.error());
    return SimMemory{std::move(*ring), std::move(*path), inner.swaps() && pool == inner.pool()};
  };
  if (inner.swaps())
    if (auto memory = take_from(inner.pool())) return memory;
  if (given && given->frame_size() >= inner.capacity() + given->headroom())
    if (auto memory = take_from(given)) return memory;
  auto own = Pool::shared(inner.capacity() + PoolOptions{}.headroom);
  if (!own) return std::unexpected(own.error());
  return take_from(*own);
}

class SimRx final : public RxQueue {
 public:
  SimRx(RxQueue& inner, SimMemory memory, const SimClock& clock)
      : inner_(inner), memory_(std::move(memory)), clock_(clock) {
    ring_ = memory_.ring.data();
    mask_ = memory_.ring.mask();
    pool_ = memory_.ring.pool();
    swaps_ = true;
    headroom_ = static_cast<std::uint16_t>(pool_->headroom());
    capacity_ = inner.capacity();
    index_ = inner.index();
    label_ = "sim: " + inner.label();
  }

  void sample() noexcept override {
    inner_.sample();
    count(0);
  }

  // What is here is lost; the inner queue keeps or counts its own.
  void give_up() noexcept {
    finish_marked();
    memory_.path->drop(DropReason::closed, tail_ - head_);
    head_ = tail_;
    memory_.path->close();
    count(0);
  }
  void count(std::uint32_t admitted) noexcept {
    const auto now = inner_.stats();
    tail_ += admitted;
    backlog_ = memory_.path->held() + now.waiting;
    counters_.begin();
    counters_.add_in(now.received + now.made - counted_.received - counted_.made);
    counters_.add_made(memory_.path->take_made());
    for (std::size_t i = 0; i < drop_reasons; ++i)
      if (const auto lost = now.dropped[i] - counted_.dropped[i]; lost > 0)
        counters_.add_dropped(static_cast<DropReason>(i), lost);
    memory_.path->count_into(counters_);
    counters_.set_queued(all_waiting());
    counters_.set_sampled_at(now.sampled_at);
    counters_.end();
    counted_ = now;
  }

 private:
  void refill(std::size_t want) noexcept override {
    const auto now = clock_.now();
    const auto room = static_cast<std::uint32_t>(vacant());
    std::uint32_t used = 0;
    const auto out = [&](Slot& frame) {
      if (used == room) return false;
      std::swap(slot_at(tail_ + used++), frame);
      return true;
    };
    memory_.path->release(now, out);
    // Bounded: where every frame is lost, a fast peer would keep us here.
    for (std::size_t taken = 0; used < want && used < room && taken < 8 * ring_size();) {
      auto batch = inner_.receive(std::min<std::size_t>(want - used, room - used));
      if (batch.empty()) break;
      std::size_t done = 0;
      while (done < batch.size() && used < room) {
        Slot& first = batch[done];
        const Slot lent = first;
        std::size_t slots = 1;
        while (batch[done + slots - 1].has(Slot::more)) ++slots;
        if (Slot* frame = memory_.path->whole(&first, slots, memory_.swaps)) memory_.path->arrive(*frame, now, out);
        first.length = lent.length;  // what finish() counts there
        first.flags = lent.flags;
        done += slots;
      }
      taken += batch.finish(done);
    }
    count(used);
    if (tail_ != head_ || memory_.path->held() > 0) return;
    if (inner_.exhausted()) exhausted_.store(true, std::memory_order_release);
    if (inner_.failed()) set_failed(inner_.status().error());
  }

  WaitSource wait_source() override { return wait_source_of(inner_); }
  bool has_work() const override { return memory_.path->is_due() || inner_has_work(inner_); }
  bool arm(std::uint64_t& deadline) override {
    const bool work = arm_inner(inner_, deadline);
    if (memory_.path->held() > 0) deadline = std::min(deadline, clock_.look_again(memory_.path->next_due()));
    return work || has_work();
  }
  void disarm() override { disarm_inner(inner_); }

  RxQueue& inner_;
  SimMemory memory_;
  const SimClock& clock_;
  RxStats counted_;
};

class SimTx final : public TxQueue {
 public:
  SimTx(TxQueue& inner, SimMemory memory, const SimClock& clock)
      : inner_(inner), memory_(std::move(memory)), clock_(clock) {
    ring_ = memory_.ring.data();
    mask_ = memory_.ring.mask();
    pool_ = memory_.ring.pool();
    swaps_ = true;
    headroom_ = static_cast<std::uint16_t>(pool_->headroom());
    capacity_ = inner.capacity();
    index_ = inner.index();
    label_ = "sim: " + inner.label();
    limit_ = static_cast<std::uint32_t>(ring_size());
  }

  void count() noexcept {
    const auto now = inner_.stats();
    held_ = memory_.path->held() + now.pending;
    counters_.begin();
    counters_.add_made(memory_.path->take_made() + now.made - counted_.made);  // a sim: inside makes some too
    counters_.add_out(now.sent - counted_.sent);
    counters_.add_bytes(now.bytes - counted_.bytes);
    for (std::size_t i = 0; i < drop_reasons; ++i)
      if (const auto lost = now.dropped[i] - counted_.dropped[i]; lost > 0)
        counters_.add_dropped(static_cast<DropReason>(i), lost);
    memory_.path->count_into(counters_);
    counters_.set_queued(all_pending());
    counters_.set_sampled_at(now.sampled_at);
    counters_.end();
    counted_ = now;
  }

 private:
  static constexpr std::size_t claimed_at_once = 64;

  void transmit() noexcept override {
    const auto now = clock_.now();
    auto batch = inner_.claim(claimed_at_once);
    std::size_t used = 0;
    const auto room = [&] {
      if (used < batch.size()) return true;
      batch.commit(std::exchange(used, 0));
      batch = inner_.claim(claimed_at_once);
      return !batch.empty();
    };
    const auto out = [&](Slot& frame) {
      if (!room()) return false;
      if (memory_.swaps) std::swap(batch[used], frame);
      else if (frame.length <= batch.space(used).size()) copy_slot(frame, batch[used]);
      else return memory_.path->drop(DropReason::oversize), true;
      ++used;
      return true;
    };
    memory_.path->release(now, out);
    while (flushed_ != tail_ && room()) {
      std::uint32_t slots = 1;
      while (slot_at(flushed_ + slots - 1).has(Slot::more)) ++slots;
      if (Slot* frame = memory_.path->whole(&slot_at(flushed_), slots, true)) memory_.path->arrive(*frame, now, out);
      flushed_ += slots;
      settled_ += slots;  // it has left the ring; held_ and the inner queue's counters have it
    }
    batch.commit(used);
    inner_.flush();
    unsent_frames_ = unsent_bytes_ = 0;
    limit_ = flushed_ + static_cast<std::uint32_t>(ring_size());
    count();
    if (inner_.failed()) set_failed(inner_.status().error());
  }

  void reclaim() noexcept override {
    reclaim_inner(inner_);
    count();
    if (inner_.failed()) set_failed(inner_.status().error());
  }

  void abandon() noexcept override {
    memory_.path->drop(DropReason::closed, pending_frames());
    settled_ = flushed_ = limit_ = tail_;
    memory_.path->close();
    count();
  }

  WaitSource wait_source() override { return wait_source_of(inner_); }
  bool has_work() const override { return memory_.path->is_due() || inner_has_work(inner_); }
  bool arm(std::uint64_t& deadline) override {
    const bool work = arm_inner(inner_, deadline);
    if (memory_.path->held() > 0) deadline = std::min(deadline, clock_.look_again(memory_.path->next_due()));
    return work || has_work();
  }
  void disarm() override { disarm_inner(inner_); }

  TxQueue& inner_;
  SimMemory memory_;
  const SimClock& clock_;
  TxStats counted_;
};

struct SimPort final : PortHandle {
  SimPort(Port port, bool virtual_time) : inner(std::move(port)), clock(virtual_time) {}
  ~SimPort() override {
    rx.clear(), tx.clear();  // they refer to what follows
  }

  Result<void> close_device() override {
    for (auto& queue : rx) static_cast<SimRx&>(*queue).give_up();
    auto outcome = inner.close();
    for (auto& queue : rx) static_cast<SimRx&>(*queue).count(0);
    for (auto& queue : tx) static_cast<SimTx&>(*queue).count();
    return outcome;
  }

  Result<void> set_option(std::string_view key, std::string_view value) override { return inner.set_option(key, value); }

  // Errors: memory.
  template <class SimQueue, class Inner>
  Result<std::unique_ptr<SimQueue>> wrap(Inner& queue, Direction way, const Impairments& what,
                                         const std::shared_ptr<Pool>& pool) {
    auto memory = make_memory(queue, pool, what, clock, way);
    if (!memory) return std::unexpected(memory.error());
    info.queue_bytes += memory->ring.bytes();
    return std::make_unique<SimQueue>(queue, std::move(*memory), clock);
  }

  Port inner;
  SimClock clock;
};

}  // namespace

Opened open_sim(Uri& uri, const PortOptions& options) {
  const auto what = Impairments::read(uri);
  if (!what) return std::unexpected(what.error());
  auto inner = Port::open(uri.inner(), options);
  if (!inner) return std::unexpected(inner.error());

  auto port = std::make_unique<SimPort>(std::move(*inner), what->virtual_time);
  port->info = port->inner.info();
  port->info.mode = fmt::format("{} over {}: {}", what->describe(), port->info.engine, port->info.mode);
  for (std::size_t q = 0; q < port->inner.rx_queues(); ++q) {
    auto queue = port->wrap<SimRx>(port->inner.rx(q), Direction::rx, *what, options.pool);
    if (!queue) return std::unexpected(queue.error());
    port->rx.push_back(std::move(*queue));
    port->info.rx_ring = port->rx[q]->ring_size();
    port->info.frame_size = std::min(port->info.frame_size, port->rx[q]->capacity());
    port->info.headroom = port->rx[q]->headroom();
  }
  for (std::size_t q = 0; q < port->inner.tx_queues(); ++q) {
    auto queue = port->wrap<SimTx>(port->inner.tx(q), Direction::tx, *what, options.pool);
    if (!queue) return std::unexpected(queue.error());
    port->tx.push_back(std::move(*queue));
    port->info.tx_ring = port->tx[q]->ring_size();
    port->info.frame_size = std::min(port->info.frame_size, port->tx[q]->capacity());
  }
  return port;
}

Result<void> sim_advance(Port& port, std::chrono::nanoseconds by) {
  bool advanced = false;
  for (auto* next = &port; next != nullptr;) {
    auto* sim = dynamic_cast<SimPort*>(next->handle_.get());
    if (sim != nullptr && sim->clock.is_virtual()) sim->clock.advance(static_cast<std::uint64_t>(by.count())), advanced = true;
    next = sim != nullptr ? &sim->inner : nullptr;
  }
  if (advanced && by.count() >= 0) return {};
  return fail(Error::Kind::usage, "advance the time of " + port.info().uri, "its clock is not a virtual one")
      .hint("sim:clock=virtual&...@PORT");
}

}  // namespace efio
