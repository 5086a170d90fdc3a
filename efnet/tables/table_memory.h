#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

#include "efio/export.h"
#include "efio/result.h"

namespace efnet {

// Memory that a table takes at birth and keeps: zeros, at the start of a page, all there from the first moment, so that
// no packet pays for a page fault. From 1 MiB on it asks for huge pages (madvise), because a lookup in a large table
// otherwise misses the TLB as well as the cache.
class EFIO_EXPORT TableMemory {
 public:
  TableMemory() noexcept = default;
  // Errors: memory.
  static efio::Result<TableMemory> create(std::size_t bytes);
  TableMemory(TableMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  TableMemory& operator=(TableMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~TableMemory();

  std::byte* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;  // mapped
};

// `size` plain values in such memory, all of whose bytes are 0 at first.
template <class T>
class TableArray {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  TableArray() noexcept = default;
  // Errors: memory.
  static efio::Result<TableArray> create(std::size_t size) {
    auto memory = TableMemory::create(size * sizeof(T));
    if (!memory) return std::unexpected(std::move(memory.error()));
    TableArray array;
    array.memory_ = std::move(*memory);
    array.size_ = size;
    return array;
  }

  std::size_t size() const noexcept { return size_; }
  std::size_t bytes() const noexcept { return size_ * sizeof(T); }
  T* data() const noexcept { return reinterpret_cast<T*>(memory_.data()); }
  T& operator[](std::size_t index) const noexcept { return data()[index]; }
  T* begin() const noexcept { return data(); }
  T* end() const noexcept { return data() + size_; }

 private:
  TableMemory memory_;
  std::size_t size_ = 0;
};

}  // namespace efnet
