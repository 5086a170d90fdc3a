// Internal: the two queues of xdp:, each a socket of its own (xdp_rx.cpp, xdp_tx.cpp), and what xdp.cpp asks them for.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "efio/engines/engine.h"
#include "efio/engines/link.h"
#include "efio/engines/xdp_kernel.h"
#include "efio/engines/xdp_rules.h"
#include "efio/engines/xdp_umem.h"

namespace efio {

// Frames that a receive queue has beside those of its ring: the kernel always finds one to receive into, and a receiver
// that is too slow shows as a full ring.
inline constexpr std::size_t xdp_surplus = 64;

struct XdpSetup {
  std::string attempted;  // "open xdp:eth0", for errors
  std::shared_ptr<Link> link;
  std::shared_ptr<Pool> pool;
  XdpStock stock;  // of it, for the queues
  std::size_t rx_slots = 0, tx_slots = 0;
  XdpCopy copy = XdpCopy::best;
  bool fragments = false;
  std::chrono::microseconds busy{0};  // let receive() drive the device for so long, 0: never
  unsigned budget = 0;                // frames that it takes from the device each time
  XdpRules take;                      // which frames
  bool hardware_time = false;         // the program writes an efio_xdp_time before each
  std::shared_ptr<XdpBroker> broker;  // who does what needs a privilege, where this process has none

  XdpSocketWish wish(unsigned queue, Direction direction) const;
  // Bytes of data that a slot holds, received or sent.
  std::size_t rx_capacity() const noexcept { return pool->frame_size() - xdp_kernel_headroom; }
  std::size_t tx_capacity() const noexcept { return pool->frame_size() - pool->headroom(); }
};

// The device's time of a frame, in ns, as our program wrote it right before the data; 0: it had none.
inline std::uint64_t xdp_hardware_time(const std::byte* data) noexcept {
  efio_xdp_time time;
  __builtin_memcpy(&time, data - sizeof time, sizeof time);
  return time.mark == EFIO_XDP_TIME_MARK ? time.nanoseconds : 0;
}

class XdpRx final : public RxQueue {
 public:
  static Result<std::unique_ptr<XdpRx>> create(XdpSetup& setup, unsigned queue, std::string label, std::size_t index);
  ~XdpRx() override { (void)close(); }
  Result<void> close();

  void sample() noexcept override;
  const XdpSocket& socket() const noexcept { return socket_; }
  std::size_t memory() const noexcept { return socket_.bytes() + slots_.bytes() + frames_ * pool_->stride(); }

 private:
  void refill(std::size_t want) noexcept override;
  WaitSource wait_source() override;
  bool has_work() const override;
  bool arm(std::uint64_t& deadline) override;
  void disarm() override { naps_ = false; }

  void give_back() noexcept;
  void read_times(std::uint32_t first, std::uint32_t n) noexcept;
  std::uint32_t mark_fragments(std::uint32_t first, std::uint32_t n) noexcept;
  void ask_driver() noexcept;
  void look_around() noexcept;
  void watch_link() noexcept;
  std::uint64_t nap(std::uint64_t now) noexcept;

  std::shared_ptr<Link> link_;
  std::shared_ptr<XdpBroker> broker_;
  XdpSocket socket_;
  SlotRing slots_;
  std::size_t frames_ = 0;           // that this queue has, wherever they are
  std::vector<std::uint8_t> lent_;   // by frame: 1 while the kernel has it
  unsigned shift_ = 0;               // address to frame number
  bool hardware_time_ = false;
  bool drives_ = false;              // busy polling, or a driver that asks to be woken
  std::uint32_t filled_ = 0;         // position in the fill ring
  std::uint32_t returned_ = 0;       // slots before it are given back
  std::uint64_t look_again_ = 0;     // Clock::monotonic
  xdp_statistics seen_{};
  std::uint32_t pace_from_ = 0;      // tail_ when its measurement began,
  std::uint64_t pace_since_ = 0;     // at this time (Clock::monotonic)
};

class XdpTx final : public TxQueue {
 public:
  static Result<std::unique_ptr<XdpTx>> create(XdpSetup& setup, unsigned queue, std::string label, std::size_t index);
  ~XdpTx() override { (void)close(); }
  Result<void> close();

  const XdpSocket& socket() const noexcept { return socket_; }
  std::size_t memory() const noexcept { return socket_.bytes() + slots_.bytes() + slots_.size() * pool_->stride(); }

 private:
  void transmit() noexcept override;
  void reclaim() noexcept override;
  void abandon() noexcept override;
  WaitSource wait_source() override { return {}; }  // no event tells of a completed frame: arm() has it looked for
  bool has_work() const override;
  bool arm(std::uint64_t& deadline) override;

  void publish() noexcept;
  std::uint32_t publish_plain(std::uint32_t most) noexcept;
  std::uint32_t publish_frame() noexcept;
  std::optional<DropReason> objection(const Slot* slots, std::uint32_t n) noexcept;
  void kick() noexcept;
  bool advance(bool refused) noexcept;
  void complete() noexcept;
  bool match(std::uint64_t frame) noexcept;
  void settle_in_turn() noexcept;
  void give_up(std::uint32_t position, DropReason reason) noexcept;
  bool link_is_down() noexcept;
  std::uint32_t slots_of_frame(std::uint32_t position) const noexcept;

  std::shared_ptr<Link> link_;
  XdpSocket socket_;
  SlotRing slots_;
  unsigned shift_ = 0;
  std::size_t longest_ = 0;          // frame that the device takes
  std::uint32_t published_ = 0;      // slots before it are in the kernel's ring; flushed_: it has taken them from there
  std::uint32_t matched_ = 0;        // slots before it have come back
  std::uint32_t marked_ = 0;         // slots from settled_ on that were given up
  std::uint32_t produced_ = 0, consumed_ = 0;  // positions in the kernel's ring
  std::uint32_t completed_ = 0;      // and in the completion ring
  std::uint32_t taken_ = 0;          // at close: flushed_
  bool down_ = false;                // as the last call said
  std::uint64_t ask_link_again_ = 0; // Clock::monotonic
  std::uint64_t pause_ = 0;          // of the next sleep
};

}  // namespace efio
