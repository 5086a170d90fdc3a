#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <iterator>
#include <span>

#include "efio/pool.h"
#include "efio/queue.h"
#include "efio/slot.h"
#include "efio/stats.h"

// The batch that goes through a pipeline: up to 64 slots, and for each frame in them what became of it. Frames that are
// still `here` pass; a plugin says of the others, and only of them,
//
//   drop(i, reason)   given up, counted under the reason where the frame came from
//   consume(i)        this was for me: neither passed on nor lost
//   take(i)           the same, and the frame itself is mine now
//
// Everything that plugins call is in line or virtual: a shared object needs no library for it.

namespace efnet {

class PacketBatch {
 public:
  static constexpr std::size_t capacity = 64;

  // Over indices in ascending order: those of the frames that are here when begin() is called, each by its first slot.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = std::size_t;

    constexpr explicit Iterator(std::uint64_t left) noexcept : left_(left) {}
    constexpr std::size_t operator*() const noexcept { return static_cast<std::size_t>(std::countr_zero(left_)); }
    constexpr Iterator& operator++() noexcept {
      left_ &= left_ - 1;
      return *this;
    }
    constexpr Iterator operator++(int) noexcept {
      const Iterator before = *this;
      ++*this;
      return before;
    }
    friend constexpr bool operator==(Iterator, Iterator) noexcept = default;

   private:
    std::uint64_t left_;
  };
  Iterator begin() const noexcept { return Iterator(here_); }
  Iterator end() const noexcept { return Iterator(0); }

  PacketBatch(const PacketBatch&) = delete;
  PacketBatch& operator=(const PacketBatch&) = delete;
  virtual ~PacketBatch() = default;

  std::size_t size() const noexcept { return size_; }                                            // slots
  std::size_t count() const noexcept { return static_cast<std::size_t>(std::popcount(here_)); }  // frames that are here
  bool empty() const noexcept { return here_ == 0; }
  bool has(std::size_t i) const noexcept { return i < size_ && (here_ >> i & 1) != 0; }

  efio::Slot& operator[](std::size_t i) const noexcept { return slots_[i]; }
  // The bytes of slot i: of the whole frame, or of its first 128 bytes at least where it spans slots (Slot::more).
  std::span<std::byte> bytes(std::size_t i) const noexcept { return slots_[i].bytes(); }
  // Of frame i, over all its slots.
  std::size_t length(std::size_t i) const noexcept {
    std::size_t sum = slots_[i].length;
    for (; slots_[i].has(efio::Slot::more) && i + 1 < size_; ++i) sum += slots_[i + 1].length;
    return sum;
  }
  // Bytes before and behind the data of slot i that an insert may use.
  virtual efio::Room room(std::size_t i) const noexcept = 0;

  // Each does nothing, or fails as `refused`, where frame i is not here.
  void drop(std::size_t i, efio::DropReason reason) noexcept {
    if (!leave(i)) return;
    dropped_ |= std::uint64_t{1} << i;
    reasons_[i] = reason;
  }
  void consume(std::size_t i) noexcept { leave(i); }
  // Fails with no_buffer when no spare frame is left or the plugin has as many as it may, oversize, or refused for a
  // frame of several slots; the frame then stays. Whoever has it gives it to Gate::release or Gate::discard in the end.
  std::expected<efio::Frame, efio::DropReason> take(std::size_t i) noexcept {
    if (!has(i)) return std::unexpected(efio::DropReason::refused);
    if (takes_left_ == 0) return std::unexpected(efio::DropReason::no_buffer);
    auto frame = take_slot(i);
    if (frame) {
      leave(i);
      --takes_left_;
    }
    return frame;
  }

  // Why frame i was dropped since the batch was begun, for who shows dropped frames; count_ where it was not.
  efio::DropReason why_dropped(std::size_t i) const noexcept { return reasons_[i]; }

 protected:
  PacketBatch(efio::Slot* slots, std::size_t size) noexcept { assign(slots, size); }

  // Rounded down to whole frames, those moved or dropped before left out.
  void assign(efio::Slot* slots, std::size_t size) noexcept {
    slots_ = slots;
    size_ = size < capacity ? size : capacity;
    const bool plain = (efio::summarize(slots_, size_).flags & efio::Slot::marks) == 0;
    here_ = plain ? mask(size_) : marked_mask();
    reasons_.fill(efio::DropReason::count_);
  }
  static constexpr std::uint64_t mask(std::size_t size) noexcept {
    return size == capacity ? ~std::uint64_t{0} : (std::uint64_t{1} << size) - 1;
  }

  virtual std::expected<efio::Frame, efio::DropReason> take_slot(std::size_t i) noexcept = 0;
  // Frame i was dropped by a plugin: counts it.
  virtual void settle_drop(std::size_t i, efio::DropReason reason) noexcept = 0;

  efio::Slot* slots_ = nullptr;
  std::size_t size_ = 0;
  std::uint64_t here_ = 0;

 private:
  friend class Pipeline;

  bool leave(std::size_t i) noexcept {
    const bool was = has(i);
    if (was) here_ &= ~(std::uint64_t{1} << i);
    return was;
  }
  std::uint64_t marked_mask() noexcept {
    while (size_ > 0 && slots_[size_ - 1].has(efio::Slot::more)) --size_;
    std::uint64_t starts = 0;
    for (std::size_t i = 0; i < size_; ++i) {
      const bool starts_frame = i == 0 || !slots_[i - 1].has(efio::Slot::more);
      if (starts_frame && !slots_[i].has(efio::Slot::moved | efio::Slot::dropped)) starts |= std::uint64_t{1} << i;
    }
    return starts;
  }

  std::uint64_t dropped_ = 0;                       // since the pipeline last looked
  std::size_t takes_left_ = 0;                      // what the plugin at work may still take
  std::array<efio::DropReason, capacity> reasons_;  // of what was dropped
};

// Received slots on their way through pipelines: the first 64 of a batch, whose owner forwards and finishes through
// this.
//
//     auto batch = port.rx().receive(efnet::PacketBatch::capacity);
//     efnet::RxPackets packets(batch);
//     inside.ingate(packets, now);
//     outside.outgate(packets, now);
//     efnet::forward(packets, other.tx());
//     packets.finish();
class EFIO_EXPORT RxPackets final : public PacketBatch {
 public:
  explicit RxPackets(efio::RxBatch& batch) noexcept : PacketBatch(batch.begin(), batch.size()), batch_(&batch) {}

  efio::Room room(std::size_t i) const noexcept override;

  // Gives all slots back. Frames that are still here have been delivered to the program; drop_rest() says otherwise.
  void finish() noexcept;
  void drop_rest(efio::DropReason reason) noexcept;

 private:
  friend EFIO_EXPORT std::size_t forward(RxPackets& packets, efio::TxQueue& tx) noexcept;
  std::expected<efio::Frame, efio::DropReason> take_slot(std::size_t i) noexcept override;
  void settle_drop(std::size_t i, efio::DropReason reason) noexcept override;

  efio::RxBatch* batch_;
};

// Commits the frames that are here to `tx`, by swap where that can be, else by one copy; they are here no longer.
// Returns how many. What found no room stays: to be tried again, taken, or given up by drop_rest(not_forwarded).
EFIO_EXPORT std::size_t forward(RxPackets& packets, efio::TxQueue& tx) noexcept;

// Claimed slots that the program has filled, on their way out: the first `n` of a batch, at most 64. What plugins make
// meanwhile, such as an ARP request, goes into the slots behind them, up to the 64th: claim some more than you fill.
//
//     auto batch = port.tx().claim(16);         // fill three of them
//     efnet::TxPackets packets(batch, 3);
//     pipeline.outgate(packets, now);           // the pipeline of the same port
//     packets.commit();
class EFIO_EXPORT TxPackets final : public PacketBatch {
 public:
  TxPackets(efio::TxBatch& batch, std::size_t n) noexcept : TxPackets(batch, 0, n, nullptr) {}

  efio::Room room(std::size_t i) const noexcept override;

  // Queues the frames that are here, closed up where others have left, and those that were made, for the next flush.
  // Returns how many. All others of the batch's slots are as they were claimed.
  std::size_t commit() noexcept { return commit(*batch_, used_, here_ | staged_, made_); }

 private:
  friend class Pipeline;
  // `spares`: what take() copies into where the queue's own frames cannot be swapped.
  TxPackets(efio::TxBatch& batch, std::size_t first, std::size_t n, efio::Pool* spares) noexcept
      : PacketBatch(batch.begin() + first,
                    first < batch.size() ? (n < batch.size() - first ? n : batch.size() - first) : 0),
        batch_(&batch),
        spares_(spares),
        used_(size_) {}
  // Of the first `size` slots, the frames that start at the bits of `here`; those of `made` count as made.
  static std::size_t commit(efio::TxBatch& batch, std::size_t size, std::uint64_t here, std::uint64_t made) noexcept;

  std::expected<efio::Frame, efio::DropReason> take_slot(std::size_t i) noexcept override;
  void settle_drop(std::size_t i, efio::DropReason reason) noexcept override;

  efio::TxBatch* batch_;
  efio::Pool* spares_;
  // Slots [size_, used_) hold what plugins made or released; of these, those that came through, and those that were
  // made.
  std::size_t used_;
  std::uint64_t staged_ = 0, made_ = 0;
};

// Frames that plugins had kept and handed on inwards; the program asks for them after each ingate() and tick().
//
//     efnet::ReturnedPackets more;
//     while (pipeline.returned(more, now)) {
//       efnet::forward(more, other.tx());
//       more.finish();
//     }
//
// For the queue that they came from they had been delivered when they were kept: what is dropped now is counted at the
// port's outgoing queue, as what Gate::discard() gives up.
class EFIO_EXPORT ReturnedPackets final : public PacketBatch {
 public:
  ReturnedPackets() noexcept : PacketBatch(nullptr, 0) {}
  ~ReturnedPackets() override { finish(); }

  efio::Room room(std::size_t i) const noexcept override;

  // Gives all frames back. Those that are still here have been delivered to the program; drop_rest() says otherwise.
  void finish() noexcept;
  void drop_rest(efio::DropReason reason) noexcept;

 private:
  friend class Pipeline;
  friend EFIO_EXPORT std::size_t forward(ReturnedPackets& packets, efio::TxQueue& tx) noexcept;
  // In place of what was here; `first[i]` is the first plugin whose ingate frame i has not seen.
  void fill(std::span<efio::Frame> frames, std::span<const std::size_t> first, efio::TxQueue* counted_at) noexcept;
  efio::Frame& frame(std::size_t i) noexcept;
  std::expected<efio::Frame, efio::DropReason> take_slot(std::size_t i) noexcept override;
  void settle_drop(std::size_t i, efio::DropReason reason) noexcept override;

  std::array<efio::Slot, capacity> own_slots_;
  std::array<efio::Frame, capacity> frames_;
  std::array<std::size_t, capacity> first_;
  efio::TxQueue* counted_at_ = nullptr;
};

EFIO_EXPORT std::size_t forward(ReturnedPackets& packets, efio::TxQueue& tx) noexcept;

}  // namespace efnet
