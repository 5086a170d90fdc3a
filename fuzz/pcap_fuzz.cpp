// Any bytes as a capture file, in pieces whose size the first byte chooses: the parser neither reads outside what it was
// given nor stands still, and finds the same frames as it does with the file in one piece.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "efio/engines/capture_parser.h"

namespace {

using efio::CaptureParser;

struct Seen {
  std::uint64_t frames = 0, sum = 0;
  bool operator==(const Seen&) const = default;
};

Seen parse(const std::byte* file, std::size_t size, std::size_t piece) {
  Seen seen;
  CaptureParser parser;
  std::size_t begin = 0, end = 0;
  for (std::size_t round = 0;; ++round) {
    if (round > 3 * size + 10) std::abort();
    // Memory of its own for each piece: the address sanitizer sees one byte too many.
    const std::vector<std::byte> memory(file + begin, file + end);
    const std::byte* at = memory.data();
    CaptureParser::Frame frame;
    const auto found = parser.next(at, memory.data() + memory.size(), frame);
    if (found == CaptureParser::Found::damaged) {
      if (parser.problem().empty() || parser.offset() > size) std::abort();
      return seen;
    }
    begin += static_cast<std::size_t>(at - memory.data());
    if (found == CaptureParser::Found::frame) {
      if (frame.captured > frame.length) std::abort();
      ++seen.frames;
      seen.sum += frame.time + frame.length;
      for (std::uint32_t i = 0; i < frame.captured; ++i) seen.sum = seen.sum * 31 + std::to_integer<unsigned>(frame.data[i]);
      continue;
    }
    if (parser.wanted() <= end - begin) std::abort();
    if (end == size) {
      if (parser.may_end(end - begin) != parser.problem().empty()) std::abort();
      return seen;
    }
    end = size - end < piece ? size : end + piece;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto* file = reinterpret_cast<const std::byte*>(data) + 1;
  const auto whole = parse(file, size - 1, size);
  if (whole != parse(file, size - 1, std::size_t{data[0]} + 1)) std::abort();
  return 0;
}
