// Moving frames from a receive queue to a transmit queue: by swapping slots where both can and share a pool, else by one
// copy. Nothing leaves before the transmit queue is flushed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "efio/export.h"
#include "efio/queue.h"

namespace efio {

// Whether forward() between the two moves frames without a copy.
EFIO_EXPORT bool forwards_by_swap(const RxQueue& from, const TxQueue& to) noexcept;

// Commits a prefix of the batch to `tx`, as much as there is room for, and finishes it: the batch keeps the rest.
// Slots marked moved or dropped are skipped, and finished. Frames longer than tx can hold (in several slots, where a
// device sends them so: xdp: with jumbo=) are dropped there as oversize.
// Returns the slots that left the batch.
EFIO_EXPORT std::size_t forward(RxBatch& batch, TxQueue& tx) noexcept;

// Commits the frames whose first slots stand at `indices` (ascending), in that order, marks their slots `moved`, and
// finishes nothing. Returns how many of the indices went; the others may be tried again, taken, or dropped.
EFIO_EXPORT std::size_t forward(RxBatch& batch, std::span<const std::uint32_t> indices, TxQueue& tx) noexcept;

// Commits copies of the frames whose first slots stand at `indices` (ascending), in that order; the frames stay in the
// batch as they are. Returns how many of the indices went; a frame longer than tx can hold is dropped there as oversize.
EFIO_EXPORT std::size_t copy(const RxBatch& batch, std::span<const std::uint32_t> indices, TxQueue& tx) noexcept;

}  // namespace efio
