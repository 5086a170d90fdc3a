#include "efnet/tables/table_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>

#include "efio/fail.h"

namespace efnet {
namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t worth_huge_pages = std::size_t{1} << 20;

constexpr std::size_t round_up(std::size_t value, std::size_t to) { return (value + to - 1) / to * to; }

efio::Failure no_memory(std::size_t bytes, int error) {
  return efio::fail(error, "take {} bytes of memory for a table", bytes);
}

// A mapping that starts at a huge page: the kernel gives none to a range that only lies across them.
std::byte* map_aligned(std::size_t bytes, std::size_t alignment) {
  const std::size_t all = bytes + (alignment > page ? alignment : 0);
  void* mapped = ::mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* const start = static_cast<std::byte*>(mapped);
  if (all == bytes) return start;
  const std::size_t before =
      round_up(reinterpret_cast<std::uintptr_t>(start), alignment) - reinterpret_cast<std::uintptr_t>(start);
  if (before != 0) ::munmap(start, before);
  if (before != alignment) ::munmap(start + before + bytes, alignment - before);
  return start + before;
}

}  // namespace

efio::Result<TableMemory> TableMemory::create(std::size_t bytes) {
  if (bytes > SIZE_MAX / 4) return no_memory(bytes, ENOMEM);
  const bool huge = bytes >= worth_huge_pages;
  const std::size_t alignment = huge ? huge_page : page;
  TableMemory memory;
  memory.bytes_ = round_up(bytes == 0 ? 1 : bytes, alignment);
  memory.data_ = map_aligned(memory.bytes_, alignment);
  if (memory.data_ == nullptr) {
    const int error = errno;
    memory.bytes_ = 0;
    return no_memory(bytes, error);
  }
  // Refused where huge pages are switched off: ordinary ones do, only slower.
  if (huge) (void)::madvise(memory.data_, memory.bytes_, MADV_HUGEPAGE);
#ifdef MADV_POPULATE_WRITE
  if (::madvise(memory.data_, memory.bytes_, MADV_POPULATE_WRITE) == 0) return memory;
  if (errno == ENOMEM || errno == EFAULT) return no_memory(bytes, ENOMEM);
#endif
  // Before Linux 5.14: touched by hand.
  for (std::size_t at = 0; at < memory.bytes_; at += page) {
    volatile std::byte* const first = memory.data_ + at;
    *first = std::byte{0};
  }
  return memory;
}

TableMemory::~TableMemory() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

}  // namespace efnet
