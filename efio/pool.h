// The memory that frames live in. A pool is one memfd, mapped once; every frame has the same size and a number, and
// queues exchange frames of one pool by swapping slots. A queue keeps a constant number of frames from open to close;
// what is left over are the spares, the only list that threads share, touched by `take` and by a Frame's end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "efio/export.h"
#include "efio/result.h"
#include "efio/slot.h"

namespace efio {

class Pool;

// A frame that the caller owns: what `take` gives and `put` accepts. Destroyed, it returns to its pool's spares.
// A frame may be kept longer than the port it came from, not longer than the program.
class EFIO_EXPORT Frame {
 public:
  Frame() noexcept = default;
  Frame(Frame&& other) noexcept;
  Frame& operator=(Frame&& other) noexcept;
  ~Frame();

  explicit operator bool() const noexcept { return pool_ != nullptr; }
  Slot& slot() noexcept { return slot_; }
  const Slot& slot() const noexcept { return slot_; }
  std::span<std::byte> bytes() const noexcept { return slot_.bytes(); }
  const std::shared_ptr<Pool>& pool() const noexcept { return pool_; }

 private:
  friend class Pool;
  friend class RxBatch;
  friend class TxQueue;
  Frame(std::shared_ptr<Pool> pool, const Slot& slot) noexcept : slot_(slot), pool_(std::move(pool)) {}

  Slot slot_{};
  std::shared_ptr<Pool> pool_;
};

// Memory of someone else's that frames lie in (a netmap region): unmapped when this is destroyed.
class EFIO_EXPORT PoolMemory {
 public:
  virtual ~PoolMemory() = default;
  // The pool's end: the frames that were not in use.
  virtual void give_back(std::span<const std::uint64_t> frames) noexcept = 0;
};

struct PoolOptions {
  std::size_t frame_size = 2048;  // bytes of a frame at least, headroom included
  std::size_t headroom = 128;     // bytes before the data of a fresh frame; a multiple of 64
  std::size_t frames = 0;         // mapped at once
  std::size_t spares = 1024;      // frames beside those of the queues, for `take`
  bool growable = true;           // by regions, when a port is opened; false for what is registered once (a UMEM)
  bool packed = false;            // frames lie exactly frame_size apart (a UMEM asks for that), else spread over the cache
};

class EFIO_EXPORT Pool : public std::enable_shared_from_this<Pool> {
 public:
  // Errors: usage (sizes), memory.
  static Result<std::shared_ptr<Pool>> create(const PoolOptions& options);

  // The program's own pool for frames of this size (made on first use, gone with its last user): what pipes use,
  // so that forwarding between them swaps.
  static Result<std::shared_ptr<Pool>> shared(std::size_t frame_size);

  // For engines: a pool over frames that lie in memory which is there already, frame i at base + i * frame_size. It has
  // none but those that add() brings, and does not grow by itself.
  static std::shared_ptr<Pool> over(std::shared_ptr<PoolMemory> memory, std::byte* base, const PoolOptions& options);
  void add(std::span<const std::uint64_t> frames);

  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool();

  std::size_t frame_size() const noexcept { return options_.frame_size; }  // bytes a frame, headroom included
  std::size_t headroom() const noexcept { return options_.headroom; }
  bool growable() const noexcept { return options_.growable; }
  std::size_t stride() const noexcept { return stride_; }  // bytes from one frame to the next
  std::size_t frames() const;                              // mapped now
  std::size_t unused() const;                              // neither in a queue nor with a caller
  std::byte* base() const noexcept { return base_; }
  std::size_t mapped_bytes() const;
  int memfd() const noexcept { return fd_; }
  std::byte* address(std::uint64_t frame) const noexcept { return base_ + frame * stride_; }

  // A fresh slot for a frame of this pool: no data, at the default headroom.
  Slot slot(std::uint64_t frame) const noexcept {
    return {address(frame), 0, static_cast<std::uint16_t>(options_.headroom), 0, 0, frame};
  }

  // For engines: `n` frames to fill a queue's slots with, at open; the pool grows if it may. Errors: memory.
  Result<std::vector<std::uint64_t>> reserve(std::size_t n);
  // Their way home, at close.
  void release(std::span<const std::uint64_t> frames) noexcept;

  // One spare, or an empty Frame when all are out.
  Frame acquire();

 private:
  friend class Frame;
  friend class RxQueue;
  explicit Pool(const PoolOptions& options) : options_(options) {}
  Result<void> grow(std::size_t frames);
  void give_back(std::uint64_t frame) noexcept;

  PoolOptions options_;
  std::size_t stride_ = 0;
  std::byte* base_ = nullptr;
  std::size_t reserved_bytes_ = 0;
  int fd_ = -1;
  std::shared_ptr<PoolMemory> memory_;
  mutable std::mutex mutex_;
  std::size_t frames_ = 0;
  std::size_t mapped_ = 0;
  std::size_t lent_to_queues_ = 0;
  std::vector<std::uint64_t> free_;
};

}  // namespace efio
