// A ring of slots mapped twice in a row, so that any `size` of them are contiguous wherever they start.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "efio/export.h"
#include "efio/result.h"
#include "efio/slot.h"

namespace efio {

class EFIO_EXPORT SlotRing {
 public:
  static constexpr std::size_t smallest = 128;  // one page of slots
  static constexpr std::size_t largest = 65536;

  // The size is rounded up to a power of two within [smallest, largest]. Errors: memory.
  static Result<SlotRing> create(std::size_t size);
  static constexpr std::size_t rounded(std::size_t size) noexcept {
    return size <= smallest ? smallest : size >= largest ? largest : std::bit_ceil(size);
  }

  SlotRing() = default;
  SlotRing(SlotRing&& other) noexcept;
  SlotRing& operator=(SlotRing&& other) noexcept;
  ~SlotRing();

  Slot* data() const noexcept { return slots_; }
  std::size_t size() const noexcept { return size_; }
  std::uint32_t mask() const noexcept { return static_cast<std::uint32_t>(size_ - 1); }
  std::size_t bytes() const noexcept { return size_ * sizeof(Slot); }

 private:
  Slot* slots_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace efio
