#include "efio/slot_ring.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "efio/descriptor.h"
#include "efio/fail.h"

namespace efio {

Result<SlotRing> SlotRing::create(std::size_t size) {
  size = rounded(size);
  const std::size_t bytes = size * sizeof(Slot);
  const Fd fd(::memfd_create("efio-ring", MFD_CLOEXEC));
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) return fail(errno, "create a ring of {} slots", size);
  void* base = ::mmap(nullptr, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return fail(errno, "map a ring of {} slots", size);
  SlotRing ring;
  ring.slots_ = static_cast<Slot*>(base);
  ring.size_ = size;
  for (std::size_t half = 0; half < 2; ++half)
    if (::mmap(static_cast<std::byte*>(base) + half * bytes, bytes, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd.get(), 0) == MAP_FAILED)
      return fail(errno, "map a ring of {} slots", size);
  return ring;
}

SlotRing::SlotRing(SlotRing&& other) noexcept
    : slots_(std::exchange(other.slots_, nullptr)), size_(std::exchange(other.size_, 0)) {}

SlotRing& SlotRing::operator=(SlotRing&& other) noexcept {
  std::swap(slots_, other.slots_);
  std::swap(size_, other.size_);
  return *this;
}

SlotRing::~SlotRing() {
  if (slots_ != nullptr) ::munmap(slots_, 2 * bytes());
}

}  // namespace efio
