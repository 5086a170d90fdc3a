#include "efio/pool.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "efio/fail.h"

namespace efio {

namespace {

constexpr std::size_t cache_line = 64;
constexpr std::size_t page = 4096;
constexpr std::size_t smallest_frame = 256;
constexpr std::size_t largest_frame = 256 * 1024;
// Address space set aside for a pool that may grow; nothing of it is memory before a region is mapped.
constexpr std::size_t address_space = std::size_t{64} << 30;
constexpr std::size_t smallest_address_space = std::size_t{1} << 28;

constexpr std::size_t round_up(std::size_t value, std::size_t to) { return (value + to - 1) / to * to; }

// Frames a power of two apart would all start in the same few cache sets; an odd number of lines spreads them.
constexpr std::size_t spread(std::size_t size) {
  const auto lines = round_up(size, cache_line) / cache_line;
  return (lines | 1) * cache_line;
}

}  // namespace

Frame::Frame(Frame&& other) noexcept : slot_(other.slot_), pool_(std::move(other.pool_)) {}

Frame& Frame::operator=(Frame&& other) noexcept {
  std::swap(slot_, other.slot_);
  std::swap(pool_, other.pool_);
  return *this;
}

Frame::~Frame() {
  if (pool_) pool_->give_back(slot_.frame);
}

Result<std::shared_ptr<Pool>> Pool::create(const PoolOptions& options) {
  if (options.frame_size < smallest_frame || options.frame_size > largest_frame)
    return fail(Error::Kind::usage, "create a pool", "a frame of {} bytes", options.frame_size)
        .hint("between {} and {} bytes", smallest_frame, largest_frame);
  if (options.headroom % cache_line != 0 || options.headroom + cache_line > options.frame_size)
    return fail(Error::Kind::usage, "create a pool", "a headroom of {} bytes in frames of {}", options.headroom,
                options.frame_size)
        .hint("a multiple of 64 that leaves room for data");

  std::shared_ptr<Pool> pool(new Pool(options));
  pool->stride_ = options.packed ? options.frame_size : spread(options.frame_size);
  pool->fd_ = ::memfd_create("efio-pool", MFD_CLOEXEC);
  if (pool->fd_ < 0) return fail(errno, "create a pool: memfd_create");

  // A pool that cannot grow still has room for its spares and for the frames of the queues that are opened on it.
  std::size_t bytes = options.growable ? address_space : round_up(options.frames * pool->stride_, page);
  void* base = MAP_FAILED;
  for (; bytes > 0; bytes /= 2) {
    base = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base != MAP_FAILED || !options.growable || bytes <= smallest_address_space) break;
  }
  if (base == MAP_FAILED)
    return fail(bytes == 0 ? EINVAL : errno, "create a pool of {} frames of {} bytes", options.frames, options.frame_size);
  pool->base_ = static_cast<std::byte*>(base);
  pool->reserved_bytes_ = bytes;
  if (options.frames > 0)
    if (auto grown = pool->grow(options.frames); !grown) return std::unexpected(grown.error());
  return pool;
}

Result<std::shared_ptr<Pool>> Pool::shared(std::size_t frame_size) {
  static std::mutex mutex;
  static std::map<std::size_t, std::weak_ptr<Pool>> pools;
  const std::scoped_lock lock(mutex);
  auto& known = pools[frame_size];
  if (auto pool = known.lock()) return pool;
  auto pool = create({.frame_size = frame_size});
  if (pool) known = *pool;
  return pool;
}

std::shared_ptr<Pool> Pool::over(std::shared_ptr<PoolMemory> memory, std::byte* base, const PoolOptions& options) {
  std::shared_ptr<Pool> pool(new Pool(options));
  pool->options_.growable = false;
  pool->stride_ = options.frame_size;
  pool->base_ = base;
  pool->memory_ = std::move(memory);
  return pool;
}

void Pool::add(std::span<const std::uint64_t> frames) {
  const std::scoped_lock lock(mutex_);
  free_.reserve(frames_ + frames.size());
  free_.insert(free_.end(), frames.rbegin(), frames.rend());
  frames_ += frames.size();
}

Pool::~Pool() {
  if (memory_) memory_->give_back(free_);
  else if (base_ != nullptr) ::munmap(base_, reserved_bytes_);
  if (fd_ >= 0) ::close(fd_);
}

std::size_t Pool::frames() const {
  const std::scoped_lock lock(mutex_);
  return frames_;
}

std::size_t Pool::unused() const {
  const std::scoped_lock lock(mutex_);
  return free_.size();
}

std::size_t Pool::mapped_bytes() const {
  const std::scoped_lock lock(mutex_);
  return mapped_;
}

// Called with the mutex held, or before anyone else knows the pool.
Result<void> Pool::grow(std::size_t frames) {
  const std::size_t bytes = round_up((frames_ + frames) * stride_, page);
  if (bytes > reserved_bytes_)
    return fail(ENOMEM, "grow a pool to {} frames of {} bytes", frames_ + frames, options_.frame_size)
        .hint("fewer or smaller rings (ring=, frame=)");
  if (bytes > mapped_) {
    // Pages are taken now: a full machine is told here, not by a fault among the packets.
    if (::posix_fallocate(fd_, static_cast<off_t>(mapped_), static_cast<off_t>(bytes - mapped_)) != 0 ||
        ::mmap(base_ + mapped_, bytes - mapped_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd_,
               static_cast<off_t>(mapped_)) == MAP_FAILED)
      return fail(ENOMEM, "grow a pool to {} frames of {} bytes", frames_ + frames, options_.frame_size)
          .hint("fewer or smaller rings (ring=, frame=)");
    mapped_ = bytes;
  }
  free_.reserve(frames_ + frames);
  // Handed out from the back: lower numbers first.
  for (std::size_t i = frames; i > 0; --i) free_.push_back(frames_ + i - 1);
  frames_ += frames;
  return {};
}

Result<std::vector<std::uint64_t>> Pool::reserve(std::size_t n) {
  const std::scoped_lock lock(mutex_);
  const std::size_t needed = n + (options_.growable ? options_.spares : 0);
  if (free_.size() < needed) {
    if (!options_.growable)
      return fail(Error::Kind::memory, "reserve frames", "{} asked of a fixed pool with {} left", n, free_.size())
          .hint("a larger pool, or smaller rings (ring=)");
    if (auto grown = grow(needed - free_.size()); !grown) return std::unexpected(grown.error());
  }
  std::vector<std::uint64_t> taken(free_.rbegin(), free_.rbegin() + static_cast<std::ptrdiff_t>(n));
  free_.resize(free_.size() - n);
  lent_to_queues_ += n;
  return taken;
}

void Pool::release(std::span<const std::uint64_t> frames) noexcept {
  const std::scoped_lock lock(mutex_);
  lent_to_queues_ -= frames.size();
  free_.insert(free_.end(), frames.rbegin(), frames.rend());  // capacity was reserved when they were mapped
}

Frame Pool::acquire() {
  const std::scoped_lock lock(mutex_);
  if (free_.empty()) return {};
  const auto frame = free_.back();
  free_.pop_back();
  return {shared_from_this(), slot(frame)};
}

void Pool::give_back(std::uint64_t frame) noexcept {
  const std::scoped_lock lock(mutex_);
  free_.push_back(frame);
}

}  // namespace efio
