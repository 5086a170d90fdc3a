#include "efnet/plugins/packets.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "efio/forward.h"

namespace efnet {

using efio::DropReason;
using efio::Frame;
using efio::Slot;

// ---- Received ----

efio::Room RxPackets::room(std::size_t i) const noexcept { return batch_->queue().room(slots_[i]); }

std::expected<Frame, DropReason> RxPackets::take_slot(std::size_t i) noexcept { return batch_->take(i); }

void RxPackets::settle_drop(std::size_t i, DropReason reason) noexcept { batch_->drop(i, reason); }

void RxPackets::drop_rest(DropReason reason) noexcept {
  for (const std::size_t i : *this) batch_->drop(i, reason);
  here_ = 0;
}

void RxPackets::finish() noexcept {
  batch_->finish(size_);
  assign(batch_->begin(), 0);
}

std::size_t forward(RxPackets& packets, efio::TxQueue& tx) noexcept {
  if (packets.here_ == RxPackets::mask(packets.size_) && packets.size_ == packets.batch_->size()) {
    const std::size_t went = efio::forward(*packets.batch_, tx);
    packets.assign(packets.batch_->begin(), packets.size_ - went);
    return went;
  }
  std::array<std::uint32_t, PacketBatch::capacity> indices;
  std::size_t count = 0;
  for (const std::size_t i : packets) indices[count++] = static_cast<std::uint32_t>(i);
  const std::size_t went = efio::forward(*packets.batch_, std::span(indices).first(count), tx);
  for (std::size_t i = 0; i < went; ++i) packets.here_ &= ~(std::uint64_t{1} << indices[i]);
  return went;
}

// ---- To be sent ----

namespace {

// What `from` holds lies in `to`, at its place in the ring, and the other way round or not at all.
void move_slot(Slot& from, Slot& to, bool swaps) noexcept {
  if (swaps) {
    std::swap(from, to);
    return;
  }
  std::memcpy(to.buffer + to.offset, from.buffer + from.offset, from.length);
  to.length = from.length;
  to.flags = static_cast<std::uint16_t>(from.flags & ~Slot::metadata);
  if (from.has(Slot::metadata)) write_metadata(to, read_metadata(from));
}

}  // namespace

efio::Room TxPackets::room(std::size_t i) const noexcept { return batch_->queue().room(slots_[i]); }

std::expected<Frame, DropReason> TxPackets::take_slot(std::size_t i) noexcept {
  efio::TxQueue& queue = batch_->queue();
  Slot& slot = slots_[i];
  efio::Pool* pool = spares_ != nullptr ? spares_ : queue.pool().get();
  if (slot.has(Slot::more)) return std::unexpected(DropReason::refused);
  if (pool == nullptr) return std::unexpected(DropReason::no_buffer);
  const bool swaps = queue.swaps() && queue.pool().get() == pool;
  if (!swaps && slot.length > pool->frame_size() - pool->headroom()) return std::unexpected(DropReason::oversize);
  Frame frame = pool->acquire();
  if (!frame) return std::unexpected(DropReason::no_buffer);
  move_slot(slot, frame.slot(), swaps);
  return frame;
}

void TxPackets::settle_drop(std::size_t, DropReason reason) noexcept { batch_->queue().drop(1, reason); }

std::size_t TxPackets::commit(efio::TxBatch& batch, std::size_t size, std::uint64_t here, std::uint64_t made) noexcept {
  const bool swaps = batch.queue().swaps();
  std::array<bool, capacity> slot_made;
  std::size_t left = 0;  // slots that stay, closed up
  std::size_t frames = 0;
  bool inside = false;  // a frame, whose first slot was before this one
  bool stays = false;
  bool counts_as_made = false;
  for (std::size_t i = 0; i < size; ++i) {
    if (!inside) {
      stays = (here >> i & 1) != 0;
      counts_as_made = (made >> i & 1) != 0;
      frames += stays;
    }
    inside = batch[i].has(Slot::more);
    if (!stays) continue;
    if (i != left) move_slot(batch[i], batch[left], swaps);
    slot_made[left++] = counts_as_made;
  }
  for (std::size_t i = 0; i < left;) {
    std::size_t run = i + 1;
    while (run < left && slot_made[run] == slot_made[i]) ++run;
    if (slot_made[i])
      batch.commit_made(run - i);
    else
      batch.commit(run - i);
    i = run;
  }
  return frames;
}

// ---- Kept, and handed on ----

void ReturnedPackets::fill(std::span<Frame> frames, std::span<const std::size_t> first,
                           efio::TxQueue* counted_at) noexcept {
  finish();
  for (std::size_t i = 0; i < frames.size(); ++i) {
    frames_[i] = std::move(frames[i]);
    own_slots_[i] = frames_[i].slot();
    first_[i] = first[i];
  }
  counted_at_ = counted_at;
  assign(own_slots_.data(), frames.size());
}

// With what plugins have done to its slot.
Frame& ReturnedPackets::frame(std::size_t i) noexcept {
  frames_[i].slot() = slots_[i];
  return frames_[i];
}

efio::Room ReturnedPackets::room(std::size_t i) const noexcept {
  const Slot& slot = slots_[i];
  const std::size_t behind = frames_[i].pool()->frame_size() - slot.offset - slot.length;
  return {.before = slot.offset, .behind = behind};
}

std::expected<Frame, DropReason> ReturnedPackets::take_slot(std::size_t i) noexcept { return std::move(frame(i)); }

void ReturnedPackets::settle_drop(std::size_t i, DropReason reason) noexcept {
  frames_[i] = Frame();
  if (counted_at_ != nullptr) counted_at_->drop(1, reason);
}

void ReturnedPackets::drop_rest(DropReason reason) noexcept {
  for (const std::size_t i : *this) settle_drop(i, reason);
  here_ = 0;
}

void ReturnedPackets::finish() noexcept {
  for (std::size_t i = 0; i < size_; ++i) frames_[i] = Frame();
  assign(own_slots_.data(), 0);
}

std::size_t forward(ReturnedPackets& packets, efio::TxQueue& tx) noexcept {
  std::size_t went = 0;
  for (const std::size_t i : packets) {
    if (!tx.put(packets.frame(i))) break;
    packets.here_ &= ~(std::uint64_t{1} << i);
    ++went;
  }
  return went;
}

}  // namespace efnet
