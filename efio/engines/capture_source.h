// Internal: a capture file's bytes, through a buffer.
//
// By read() into a buffer that stays in the cache, not through a mapping: it costs one copy more, and nothing less is
// seen of a file that shrinks meanwhile than its end, where a mapping would end the program by SIGBUS. Pipes and FIFOs
// are read the same way, as far as they have something.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "efio/descriptor.h"
#include "efio/result.h"

namespace efio {

class CaptureSource {
 public:
  enum class Filled : std::uint8_t { data, nothing, end, failed };

  // "-" is standard input. `attempted` is for the error.
  static Result<CaptureSource> open(const std::string& path, const std::string& attempted);

  // What was read and not consumed: [at(), end()). The parser moves at() on.
  const std::byte*& at() noexcept { return at_; }
  const std::byte* end() const noexcept { return end_; }

  int fd() const noexcept { return fd_.get(); }
  bool is_stream() const noexcept { return stream_; }  // a pipe: cannot go back, may have nothing now
  std::size_t bytes() const noexcept { return capacity_; }

  // Reads more behind what is left, so that `wanted` bytes from at() on are there sooner or later; `wanted` is more than
  // there are now. Never waits for a pipe. errno tells why it failed.
  Filled fill(std::size_t wanted) noexcept;
  // To the start; false, with errno, where that fails.
  bool rewind() noexcept;

 private:
  bool grow(std::size_t size) noexcept;

  Fd fd_;
  bool stream_ = false;
  std::unique_ptr<std::byte[]> buffer_;
  std::size_t capacity_ = 0;
  const std::byte* at_ = nullptr;
  const std::byte* end_ = nullptr;
};

}  // namespace efio
