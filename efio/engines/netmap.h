// Internal: the two queues of netmap: (netmap_rx.cpp, netmap_tx.cpp), and what netmap.cpp gives them.
//
// A queue is one ring, with a descriptor that is bound to this ring in this direction alone: a sync walks every ring that
// its descriptor is bound to, and would send, or skip as busy, what another thread is just writing. It always has the flag
// no_tx_poll, without which every poll sends.
//
// Slots that are lent, or wait to be, hold the buffers of as many slots of the ring. Those, a run of the ring that the
// kernel does not own, are "loaned": what stands in them is void until a buffer is written back. So frames can be swapped,
// and every buffer is in one place only; at close all are written back.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "efio/engines/engine.h"
#include "efio/engines/netmap_region.h"

namespace efio::netmap {

// A ring in shared memory: indices count from 0 to size() - 1 and around.
class RingView {
 public:
  RingView() = default;
  explicit RingView(Ring* ring) noexcept : ring_(ring), size_(ring->slots) {}

  explicit operator bool() const noexcept { return ring_ != nullptr; }
  Ring& ring() const noexcept { return *ring_; }
  std::uint32_t size() const noexcept { return size_; }
  RingSlot& slot(std::uint32_t index) const noexcept { return reinterpret_cast<RingSlot*>(ring_ + 1)[index]; }
  std::uint32_t next(std::uint32_t index) const noexcept { return index + 1 == size_ ? 0 : index + 1; }
  std::uint32_t distance(std::uint32_t from, std::uint32_t to) const noexcept { return to >= from ? to - from : to + size_ - from; }

  // Another program may have left nonsense in head and cur: whoever reads them checks.
  std::uint32_t head() const noexcept { return __atomic_load_n(&ring_->head, __ATOMIC_RELAXED); }
  std::uint32_t tail() const noexcept { return __atomic_load_n(&ring_->tail, __ATOMIC_ACQUIRE); }
  void set(std::uint32_t head, std::uint32_t cur) const noexcept {
    __atomic_store_n(&ring_->cur, cur, __ATOMIC_RELAXED);
    __atomic_store_n(&ring_->head, head, __ATOMIC_RELEASE);
  }
  void set_flags(std::uint32_t flags) const noexcept { __atomic_store_n(&ring_->flags, flags, __ATOMIC_RELAXED); }

 private:
  Ring* ring_ = nullptr;
  std::uint32_t size_ = 0;
};

// Frames that the device counted and no ring got: the kernel says nothing about them, but the device's own counter does.
// What it shows at some moment has been seen, or is lost, once every queue has since found its ring with room left.
class Losses {
 public:
  Losses(Nic& nic, std::size_t queues) : nic_(nic), acknowledged_(queues), waiting_(queues) {}
  void start() { base_ = nic_.received(); }

  void add_seen(std::uint64_t frames) noexcept { seen_.fetch_add(frames, std::memory_order_relaxed); }
  // Queue i has just synced and has so many frames left in a ring that is not full.
  void acknowledge(std::size_t i, std::uint32_t waiting) noexcept {
    waiting_[i].store(waiting, std::memory_order_relaxed);
    acknowledged_[i].store(epoch_.load(std::memory_order_acquire), std::memory_order_release);
  }
  // Begins a reading, unless one is under way; then what is lost and was not told before, or 0.
  void begin() noexcept;
  std::uint64_t end() noexcept;

 private:
  bool all_acknowledged() const noexcept;

  Nic& nic_;
  std::mutex mutex_;
  std::uint64_t base_ = 0, told_ = 0, received_ = 0, begun_at_ = 0;
  std::atomic<std::uint64_t> seen_{0};
  std::atomic<std::uint32_t> epoch_{0};
  std::vector<std::atomic<std::uint32_t>> acknowledged_, waiting_;
};

// One ring and direction is opened once in this program; released with its owner.
class Reservation {
 public:
  static Result<Reservation> make(std::string ring, const std::string& attempted);
  Reservation() = default;
  Reservation(Reservation&& other) noexcept : ring_(std::exchange(other.ring_, {})) {}
  Reservation& operator=(Reservation&& other) noexcept {
    std::swap(ring_, other.ring_);
    return *this;
  }
  ~Reservation();

 private:
  std::string ring_;
};

struct Setup {
  std::string attempted;
  std::shared_ptr<Region> region;
  std::shared_ptr<Pool> pool;
  std::shared_ptr<Nic> nic;        // null: no interface
  std::shared_ptr<Losses> losses;  // null: they cannot be told
  std::size_t longest = 0;         // bytes of a frame that may be sent, without VLAN tags where `tags`
  bool tags = false;               // up to two VLAN tags may come on top
  bool fragments = false;          // frames of several slots can be sent as such
  bool published = false;          // sent is what the far end can read, not what it has taken
  bool keeps = false;              // the ring outlives us: what is not received stays in it
};

// What a ring needs to be used.
struct Binding {
  Reservation reservation;
  Descriptor descriptor;
  RingView ring;
  std::string label;
  std::size_t index = 0;
};

// Of a host ring whose frames pass to the NIC when they are finished: bound to all rings, as the kernel asks for.
struct PassDown {
  Descriptor descriptor;
  std::vector<RingView> to;
};

// What the two kinds have in common: waiting. The poller watches an epoll instance of ours, which holds the descriptor
// only while someone sleeps and the link is up: epoll calls netmap's poll(), which does not return while it is down.
class Waiter {
 public:
  Result<void> create(const std::string& attempted);
  int fd() const noexcept { return epoll_.get(); }
  void watch(const Descriptor& descriptor, std::uint32_t events) noexcept {
    if (descriptor.watch(epoll_.get(), events)) watching_ = true;
  }
  void unwatch(const Descriptor& descriptor) noexcept {
    if (watching_.exchange(false)) descriptor.unwatch(epoll_.get());
  }
  void close() noexcept { epoll_ = Fd(); }

 private:
  Fd epoll_;
  std::atomic<bool> watching_{false};  // a second thread on the queue is an error that is told, not one that corrupts
};

// Longest sleeps: a deleted interface wakes nobody, nor does one that is down.
inline constexpr std::uint64_t longest_sleep_ns = 100'000'000;
inline constexpr std::uint64_t down_interval_ns = 20'000'000;

// Whether the kernel may be entered: on a link that is down it would not come back. Sets gone.
bool may_enter(Nic* nic, bool& gone) noexcept;
// What a queue fails with when a sync has said so.
Error sync_error(const std::string& label, int error);

class NetmapRx final : public RxQueue {
 public:
  static Result<std::unique_ptr<NetmapRx>> create(const Setup& setup, Binding binding, std::unique_ptr<PassDown> down, bool pass);
  ~NetmapRx() override { close(); }
  Result<void> start();  // the link is ready
  void close();
  void sample() noexcept override;
  std::size_t memory() const noexcept { return slots_.bytes() + nm_.size() * (sizeof(RingSlot) + pool_->stride()); }

 private:
  void refill(std::size_t want) noexcept override;
  WaitSource wait_source() override;
  bool has_work() const override { return nm_ && (tail_ != head_ || nm_.tail() != next_); }
  bool arm(std::uint64_t& deadline) override;
  void disarm() override { waiter_.unwatch(bound_.descriptor); }

  bool may_sync() noexcept;
  bool sync() noexcept;
  void give_back() noexcept;
  void skip_kept() noexcept;
  std::uint32_t room_below() noexcept;
  std::size_t room() const noexcept { return ring_size() - (tail_ - released_); }
  std::uint32_t take(std::size_t want) noexcept;
  std::uint32_t frame_slots(std::uint32_t tail, bool& good) const noexcept;
  void look_around() noexcept;

  std::shared_ptr<Region> region_;
  std::shared_ptr<Nic> nic_;
  std::shared_ptr<Losses> losses_;
  Binding bound_;
  std::unique_ptr<PassDown> down_;
  RingView nm_;
  SlotRing slots_;
  Waiter waiter_;
  bool pass_ = false, keeps_ = false;
  std::uint32_t first_loaned_ = 0;     // the ring's head: the first index that is ours
  std::uint32_t next_ = 0;             // behind the last one that was read
  std::uint32_t released_ = 0;         // position whose slot's buffer goes back first
  std::vector<std::uint8_t> kept_;     // of indices in between: they were not loaned, their frames are lost
  std::uint64_t look_again_ = 0;       // Clock::monotonic
};

class NetmapTx final : public TxQueue {
 public:
  static Result<std::unique_ptr<NetmapTx>> create(const Setup& setup, Binding binding);
  ~NetmapTx() override { close(); }
  Result<void> start();
  void close();
  std::size_t memory() const noexcept { return slots_.bytes() + nm_.size() * (sizeof(RingSlot) + pool_->stride()); }

 private:
  // What became of a slot: it went into the ring, or it kept its buffer; and the verdict on a frame, in its last slot.
  struct Fate {
    bool in_ring = false;
    bool dropped = false;
    DropReason reason = DropReason::refused;
  };

  void transmit() noexcept override;
  void reclaim() noexcept override;
  WaitSource wait_source() override;
  bool has_work() const override { return nm_ && in_flight() != under_way_; }
  bool arm(std::uint64_t& deadline) override;
  void disarm() override { waiter_.unwatch(bound_.descriptor); }

  bool may_sync() noexcept;
  bool clean_ring() noexcept;
  Result<void> fill_ring();
  std::uint32_t in_flight() const noexcept { return nm_.size() - 1 - nm_.distance(first_loaned_, nm_.tail()); }
  bool load(std::uint32_t position) noexcept;
  std::uint32_t frame_slots() const noexcept;
  std::size_t allowed(const Slot& first) const noexcept;
  std::optional<DropReason> judge(std::uint32_t slots, std::size_t& length) const noexcept;
  void hand_over(std::uint32_t slots) noexcept;
  void put_together(std::uint32_t slots, std::size_t length) noexcept;
  void put_in_ring(std::uint32_t position, bool more) noexcept;
  void push() noexcept;
  bool taken_by_kernel() const noexcept;
  void collect() noexcept;
  bool reclaim_frame(std::uint32_t end) noexcept;
  void settle_until(std::uint32_t end) noexcept;

  std::shared_ptr<Region> region_;
  std::shared_ptr<Nic> nic_;
  Binding bound_;
  RingView nm_;
  SlotRing slots_;
  Waiter waiter_;
  std::size_t longest_ = 0;
  bool tags_ = false, fragments_allowed_ = false, published_ = false;
  std::uint32_t first_loaned_ = 0;    // the ring's head: where the next frame goes
  std::uint32_t behind_loaned_ = 0;
  std::uint32_t last_ = 0;            // index of the newest slot in the ring
  bool waits_for_kernel_ = false;     // which the kernel has not taken yet
  std::uint32_t taken_ = 0;           // position behind the newest slot that it has
  std::uint32_t under_way_ = 0;       // slots of the ring that are the kernel's
  std::uint32_t foreign_ = 0;         // of these, the first ones are an earlier user's
  std::uint32_t completed_ = 0;       // slots that came back and have no position yet
  std::uint32_t handed_ = 0;          // position behind the newest slot whose fate is known
  std::uint32_t reclaimed_ = 0;       // position of the oldest slot without a buffer
  std::uint32_t missing_ = 0;         // slots that never had one, for want of room in the ring
  std::vector<Fate> fate_;
};

}  // namespace efio::netmap
