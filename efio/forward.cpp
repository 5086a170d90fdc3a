#include "efio/forward.h"

#include <algorithm>
#include <cstring>

#include "efio/engines/engine.h"

namespace efio {

namespace {

using Half = std::uint32_t __attribute__((vector_size(16)));

// Exchanges n slots, and sums up what `from` held.
SlotSum swap_baseline(Slot* from, Slot* to, std::size_t n) noexcept {
  Half sum = {}, any = {};
  for (std::size_t i = 0; i < n; ++i) {
    Half a0, a1, b0, b1;
    std::memcpy(&a0, from + i, 16);
    std::memcpy(&a1, reinterpret_cast<const char*>(from + i) + 16, 16);
    std::memcpy(&b0, to + i, 16);
    std::memcpy(&b1, reinterpret_cast<const char*>(to + i) + 16, 16);
    std::memcpy(to + i, &a0, 16);
    std::memcpy(reinterpret_cast<char*>(to + i) + 16, &a1, 16);
    std::memcpy(from + i, &b0, 16);
    std::memcpy(reinterpret_cast<char*>(from + i) + 16, &b1, 16);
    sum += a0;
    any |= a0;
  }
  return {sum[2], static_cast<std::uint16_t>(any[3] >> 16)};
}

#if defined(__x86_64__)
using Whole = std::uint32_t __attribute__((vector_size(32)));

// One load and one store a slot: a slot is exactly one AVX register.
__attribute__((target("avx2"))) SlotSum swap_avx2(Slot* from, Slot* to, std::size_t n) noexcept {
  Whole sum = {}, any = {};
  for (std::size_t i = 0; i < n; ++i) {
    Whole a, b;
    std::memcpy(&a, from + i, 32);
    std::memcpy(&b, to + i, 32);
    std::memcpy(to + i, &a, 32);
    std::memcpy(from + i, &b, 32);
    sum += a;
    any |= a;
  }
  return {sum[2], static_cast<std::uint16_t>(any[3] >> 16)};
}
#endif

using Swap = SlotSum (*)(Slot*, Slot*, std::size_t) noexcept;

Swap choose_swap() noexcept {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) return swap_avx2;
#endif
  return swap_baseline;
}

const Swap swap_slots = choose_swap();

}  // namespace

// The friend of both kinds of queue that moves frames between them.
struct Forwarding {
  static bool swaps(const RxQueue& rx, const TxQueue& tx) noexcept {
    return rx.swaps_ && tx.swaps_ && rx.pool_.get() == tx.pool_.get();
  }

  // How many of n slots tx has room for now.
  static std::size_t room(TxQueue& tx, std::size_t n) noexcept {
    std::size_t free = tx.limit_ - tx.tail_;
    if (free < n || tx.failed()) free = tx.claim_slowly(n);
    return std::min(n, free);
  }

  // Slots [i, end) are one frame.
  static std::size_t frame_end(const RxBatch& batch, std::size_t i) noexcept {
    while (i < batch.size_ && batch.first_[i].has(Slot::more)) ++i;
    return i + 1;
  }

  static void copy_slot(const Slot& from, Slot& to, const TxQueue& tx) noexcept {
    TxQueue::refresh_slot(to, tx.headroom_, from.time);
    efio::copy_slot(from, to);
    to.flags = static_cast<std::uint16_t>(to.flags | (from.flags & Slot::more));
  }

  // Frames on their way into tx: written behind its tail one by one, committed all at once.
  struct Filling {
    enum class How : std::uint8_t { swap, copy, copy_and_keep };
    static How how_to_move(const RxQueue& from, const TxQueue& to) noexcept {
      return swaps(from, to) ? How::swap : How::copy;
    }

    Filling(TxQueue& queue, How way, std::size_t most) noexcept
        : tx(queue), how(way), free(room(queue, most)), to(queue.ring_ + (queue.tail_ & queue.mask_)) {}
    ~Filling() {
      if (slots != frames) tx.fragments_ = true;
      if (slots > 0) tx.queue_up(static_cast<std::uint32_t>(slots), frames, bytes, false);
      if (oversize > 0) tx.drop(oversize, DropReason::oversize);
    }
    Filling(const Filling&) = delete;
    Filling& operator=(const Filling&) = delete;

    // One frame of `n` slots, by swap or copy. False: there is no room. What is left in `from` is what finish() counts.
    bool add(Slot* from, std::size_t n) noexcept {
      if (how != How::swap && std::any_of(from, from + n, [&](const Slot& s) { return s.length > tx.capacity_; })) [[unlikely]]
        return add_long(from, n);
      if (slots + n > free) return false;
      for (std::size_t k = 0; k < n; ++k, ++slots) {
        const auto length = from[k].length;
        const auto flags = from[k].flags;
        bytes += length;
        if (how == How::swap) {
          std::swap(from[k], to[slots]);
          from[k].length = length;
          from[k].flags = flags & Slot::more;
        } else {
          copy_slot(from[k], to[slots], tx);
          if (how == How::copy) from[k].flags = static_cast<std::uint16_t>(flags | Slot::spent);
        }
      }
      ++frames;
      return true;
    }

    // A slot of it is longer than one of tx: it is laid out anew over as many as it takes.
    bool add_long(Slot* from, std::size_t n) noexcept {
      std::size_t length = 0;
      for (std::size_t k = 0; k < n; ++k) length += from[k].length;
      const std::size_t parts = (length + tx.capacity_ - 1) / tx.capacity_;
      if (!tx.splits_ || parts > tx.ring_size() / 2) {
        ++oversize;
        return true;
      }
      if (slots + parts > free && room(tx, slots + parts) < slots + parts) return false;
      Slot whole = *from;
      whole.length = 0;
      std::size_t k = 0, at = 0;  // byte `at` of from[k] is next
      for (std::size_t left = length, part = 0; part < parts; ++part, ++slots) {
        Slot& slot = to[slots];
        if (part == 0) copy_slot(whole, slot, tx);
        else TxQueue::refresh_slot(slot, tx.headroom_, from->time);
        const std::size_t size = std::min(left, tx.capacity_);
        for (std::size_t done = 0; done < size;) {
          const std::size_t now = std::min(size - done, from[k].length - at);
          std::memcpy(slot.bytes().data() + done, from[k].bytes().data() + at, now);
          done += now, at += now;
          if (at == from[k].length) ++k, at = 0;
        }
        slot.length = static_cast<std::uint32_t>(size);
        left -= size;
        slot.flags = static_cast<std::uint16_t>((slot.flags & ~Slot::more) | (left > 0 ? Slot::more : 0));
      }
      if (how == How::copy)
        for (std::size_t i = 0; i < n; ++i) from[i].flags = static_cast<std::uint16_t>(from[i].flags | Slot::spent);
      bytes += length;
      ++frames;
      return true;
    }

    TxQueue& tx;
    How how;
    std::size_t free;
    Slot* to;
    std::size_t slots = 0;
    std::uint64_t frames = 0, bytes = 0, oversize = 0;
  };

  static std::size_t by_frame(RxBatch& batch, TxQueue& tx) noexcept {
    std::size_t done = 0;
    {
      Filling filling(tx, Filling::how_to_move(batch.queue(), tx), batch.size_);
      while (done < batch.size_) {
        const std::size_t end = frame_end(batch, done);
        if (end > batch.size_) break;
        const bool skip = batch.first_[done].has(Slot::moved | Slot::dropped);
        if (!skip && !filling.add(batch.first_ + done, end - done)) break;
        done = end;
      }
    }
    return batch.finish(done);
  }

  // Every slot is a frame and none is marked: one pass.
  static std::size_t by_batch(RxBatch& batch, TxQueue& tx) noexcept {
    RxQueue& rx = *batch.queue_;
    const std::size_t n = room(tx, batch.size_);
    if (n == 0) return 0;
    const SlotSum sum = swap_slots(batch.first_, tx.ring_ + (tx.tail_ & tx.mask_), n);
    tx.queue_up(static_cast<std::uint32_t>(n), n, sum.bytes, false);
    rx.retire(static_cast<std::uint32_t>(n), n, sum.bytes);
    batch.first_ += n;
    batch.size_ -= n;
    return n;
  }

  static std::size_t all(RxBatch& batch, TxQueue& tx) noexcept {
    if (!batch.is_lent()) return 0;
    const RxQueue& rx = *batch.queue_;
    const bool simple = !rx.fragments_ && rx.marked_ == 0 && !tx.fragments_;
    return simple && swaps(rx, tx) ? by_batch(batch, tx) : by_frame(batch, tx);
  }

  // Every slot is a frame, and swapped.
  static std::size_t chosen_whole(RxBatch& batch, std::span<const std::uint32_t> indices, TxQueue& tx) noexcept {
    const std::size_t most = room(tx, indices.size());
    Slot* const to = tx.ring_ + (tx.tail_ & tx.mask_);
    std::uint64_t bytes = 0;
    std::size_t went = 0;
    for (; went < most; ++went) {
      const std::uint32_t i = indices[went];
      if (i >= batch.size_ || batch.first_[i].has(Slot::moved | Slot::dropped)) break;
      Slot& from = batch.first_[i];
      const auto length = from.length;
      std::swap(from, to[went]);
      from.length = length;  // what finish() counts
      from.flags = Slot::moved;
      bytes += length;
    }
    if (went > 0) tx.queue_up(static_cast<std::uint32_t>(went), went, bytes, false);
    batch.queue_->marked_ += static_cast<std::uint32_t>(went);
    return went;
  }

  static std::size_t chosen(RxBatch& batch, std::span<const std::uint32_t> indices, TxQueue& tx) noexcept {
    if (batch.empty() || !batch.is_lent()) return 0;
    if (swaps(*batch.queue_, tx) && !batch.queue_->fragments_ && !tx.fragments_) return chosen_whole(batch, indices, tx);
    Filling filling(tx, Filling::how_to_move(*batch.queue_, tx), batch.size_);
    std::size_t went = 0;
    for (const auto i : indices) {
      if (!batch.is_frame_start(i) || batch.first_[i].has(Slot::moved | Slot::dropped)) break;
      const std::size_t end = frame_end(batch, i);
      if (end > batch.size_ || !filling.add(batch.first_ + i, end - i)) break;
      for (std::size_t k = i; k < end; ++k)
        batch.first_[k].flags = static_cast<std::uint16_t>(batch.first_[k].flags | Slot::moved);
      batch.queue_->marked_ += static_cast<std::uint32_t>(end - i);
      ++went;
    }
    return went;
  }

  static std::size_t copies(const RxBatch& batch, std::span<const std::uint32_t> indices, TxQueue& tx) noexcept {
    if (batch.empty() || !batch.is_lent()) return 0;
    Filling filling(tx, Filling::How::copy_and_keep, batch.size_);
    std::size_t went = 0;
    for (const auto i : indices) {
      if (!batch.is_frame_start(i) || batch.first_[i].has(Slot::moved | Slot::dropped)) break;
      const std::size_t end = frame_end(batch, i);
      if (end > batch.size_ || !filling.add(batch.first_ + i, end - i)) break;
      ++went;
    }
    return went;
  }
};

std::size_t copy(const RxBatch& batch, std::span<const std::uint32_t> indices, TxQueue& tx) noexcept {
  return Forwarding::copies(batch, indices, tx);
}

bool forwards_by_swap(const RxQueue& from, const TxQueue& to) noexcept { return Forwarding::swaps(from, to); }

std::size_t forward(RxBatch& batch, TxQueue& tx) noexcept { return batch.empty() ? 0 : Forwarding::all(batch, tx); }

std::size_t forward(RxBatch& batch, std::span<const std::uint32_t> indices, TxQueue& tx) noexcept {
  return Forwarding::chosen(batch, indices, tx);
}

}  // namespace efio
