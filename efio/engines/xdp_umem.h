// Internal: AF_XDP sockets, the memory that they lend to the kernel (a UMEM: one pool), and the rings between.
//
// A socket has one ring of descriptors, for what was received or is to be sent. The frames to receive into and the frames
// that have been sent go through two more rings, fill and completion, which belong to the *queue* of the device: its two
// directions are two sockets here, of which the receiving one writes the fill ring and the sending one reads the
// completion ring. The kernel takes all rings of a queue from whoever binds to it first.
#pragma once

#include <linux/if_xdp.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "efio/descriptor.h"
#include "efio/engines/engine.h"
#include "efio/engines/link.h"
#include "efio/engines/xdp_bind.h"

namespace efio {

// Of linux/if_xdp.h and sys/socket.h, newer than some systems' headers; a kernel that does not know them says so.
inline constexpr std::uint32_t xdp_more = 1;                 // XDP_PKT_CONTD: the frame goes on in the next descriptor
inline constexpr int xdp_send_budget = 9;                    // XDP_MAX_TX_SKB_BUDGET, Linux 6.18

inline constexpr std::size_t xdp_kernel_headroom = 256;      // XDP_PACKET_HEADROOM, before every received frame

// A ring in memory that is shared with the kernel: positions count up for ever, each of them written by one side.
template <class Entry>
class XdpRing {
 public:
  XdpRing() = default;
  XdpRing(Mapping memory, const xdp_ring_offset& at, std::uint32_t entries) noexcept
      : memory_(std::move(memory)),
        producer_(reinterpret_cast<std::uint32_t*>(memory_.data() + at.producer)),
        consumer_(reinterpret_cast<std::uint32_t*>(memory_.data() + at.consumer)),
        flags_(reinterpret_cast<std::uint32_t*>(memory_.data() + at.flags)),
        entries_(reinterpret_cast<Entry*>(memory_.data() + at.desc)),
        mask_(entries - 1) {}

  std::uint32_t produced() const noexcept { return __atomic_load_n(producer_, __ATOMIC_ACQUIRE); }
  std::uint32_t consumed() const noexcept { return __atomic_load_n(consumer_, __ATOMIC_ACQUIRE); }
  void produce(std::uint32_t position) noexcept { __atomic_store_n(producer_, position, __ATOMIC_RELEASE); }
  void consume(std::uint32_t position) noexcept { __atomic_store_n(consumer_, position, __ATOMIC_RELEASE); }
  bool needs_wakeup() const noexcept { return (__atomic_load_n(flags_, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP) != 0; }

  Entry& at(std::uint32_t position) const noexcept { return entries_[position & mask_]; }
  // What lies at [position, position + n), as one array or two: calls visit(entries, how many, how many were before).
  template <class Visit>
  void visit(std::uint32_t position, std::uint32_t n, Visit&& visit) const noexcept {
    const auto first = position & mask_;
    const auto here = std::min(n, mask_ + 1 - first);
    visit(entries_ + first, here, std::uint32_t{0});
    if (here < n) visit(entries_, n - here, here);
  }
  std::size_t size() const noexcept { return std::size_t{mask_} + 1; }
  std::size_t bytes() const noexcept { return memory_.size(); }

 private:
  Mapping memory_;
  std::uint32_t* producer_ = nullptr;
  std::uint32_t* consumer_ = nullptr;
  std::uint32_t* flags_ = nullptr;
  Entry* entries_ = nullptr;
  std::uint32_t mask_ = 0;
};

// Whether the device's own buffers are the frames, or the kernel copies.
enum class XdpCopy : std::uint8_t { best, zero_copy, copy };

// A pool, registered with the kernel in one mode; and the sockets that use it, from which others can take it over.
struct XdpUmem {
  std::shared_ptr<Pool> pool;
  bool zero_copy = false, fragments = false;
  std::vector<int> sockets;
};

// A queue of a device, as far as this process has it open.
struct XdpChannel {
  ~XdpChannel();  // what the kernel still held is free: nobody is bound any more

  std::shared_ptr<XdpUmem> umem;
  XdpRing<std::uint64_t> fill, completion;
  std::vector<int> sockets;
  bool rx_open = false, tx_open = false;
  // Frames of a direction that was closed while the other stayed open: posted in the fill ring, or not yet completed.
  std::vector<std::uint64_t> left_by_rx, left_by_tx;
};

struct XdpSocketWish {
  std::string attempted;  // "open xdp:eth0", for errors
  std::shared_ptr<Link> link;
  std::shared_ptr<Pool> pool;
  unsigned queue = 0;
  Direction direction = Direction::rx;
  XdpCopy copy = XdpCopy::best;
  bool fragments = false;
  std::uint32_t rx_slots = 0, tx_slots = 0;        // of the ring of descriptors, by direction
  std::uint32_t rx_frames = 0, completions = 0;    // what the fill and the completion ring have to hold
  std::shared_ptr<XdpBroker> broker = {};          // who binds it
};

// A socket that is bound to one direction of one queue.
class XdpSocket {
 public:
  // Binds, and tries again for a second while the queue is busy: the kernel lets go of a closed socket's late.
  // Errors: unavailable (no AF_XDP, no zero-copy), permission, memory (the limit of locked memory), device (the queue is
  // in use), usage.
  static Result<XdpSocket> open(const XdpSocketWish& wish);

  XdpSocket() = default;
  XdpSocket(XdpSocket&&) noexcept = default;
  XdpSocket& operator=(XdpSocket&& other) noexcept;
  ~XdpSocket() { close({}); }

  // Leaves the queue. `left` are frames that the kernel holds still: they go home with the queue's last socket, or to
  // who opens this direction next. Nothing is received or sent any more once shut() has returned.
  void shut() noexcept;
  void close(std::vector<std::uint64_t> left) noexcept;

  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }
  int fd() const noexcept { return fd_.get(); }
  bool zero_copy() const noexcept { return channel_->umem->zero_copy; }
  bool fragments() const noexcept { return channel_->umem->fragments; }
  const std::string& why_copy() const noexcept { return why_copy_; }  // what was said to the wish for zero-copy
  std::size_t bytes() const noexcept { return descriptors.bytes() + frames().bytes(); }

  XdpRing<xdp_desc> descriptors;
  // The fill ring of a receiver, the completion ring of a sender.
  XdpRing<std::uint64_t>& frames() const noexcept { return direction_ == Direction::rx ? channel_->fill : channel_->completion; }
  // What an earlier opening left: a receiver has these frames posted already, to a sender they may come back.
  std::vector<std::uint64_t>& left() const noexcept {
    return direction_ == Direction::rx ? channel_->left_by_rx : channel_->left_by_tx;
  }

 private:
  static Result<XdpSocket> attempt(const XdpSocketWish& wish, bool zero_copy);

  Fd fd_;
  std::shared_ptr<XdpChannel> channel_;
  Direction direction_ = Direction::rx;
  std::string why_copy_;
};

// Frames of a pool that are set aside for the queues of one opening, whoever else opens queues meanwhile. Those that were
// not taken go back.
class XdpStock {
 public:
  XdpStock() = default;
  XdpStock(XdpStock&& other) noexcept : pool_(std::move(other.pool_)), frames_(std::move(other.frames_)) {}
  XdpStock& operator=(XdpStock&& other) noexcept;
  ~XdpStock();

  // Errors: memory (the pool is fixed, and has no more).
  static Result<XdpStock> create(std::shared_ptr<Pool> pool, std::size_t frames);
  // Errors: memory (not so many are left).
  Result<std::vector<std::uint64_t>> take(std::size_t n);

  const std::shared_ptr<Pool>& pool() const noexcept { return pool_; }

 private:
  std::shared_ptr<Pool> pool_;
  std::vector<std::uint64_t> frames_;
};

// The frames of a port. They come from the pool that was given if the kernel can use it as it is; where the other direction
// of a queue is open, from that one's; else from one of the program's own, which its xdp: ports share as long as it has
// frames left, so that forwarding between them swaps.
struct XdpPoolWish {
  std::shared_ptr<Pool> given;
  int interface = 0;
  std::vector<unsigned> receiving, sending;   // queues
  std::size_t rx_frames = 0, tx_frames = 0;   // each of them needs
  std::size_t chunk = 0;                      // bytes a frame
  std::size_t frames = 0;                     // of a pool that is made, 0: room for two ports like this
};
Result<XdpStock> stock_xdp_frames(const XdpPoolWish& wish, const std::string& attempted);

// Every frame of a closed queue is home, once. Errors: misuse, with what is missing.
Result<void> audit_frames(std::vector<std::uint64_t> frames, std::size_t expected, const std::string& label);

}  // namespace efio
