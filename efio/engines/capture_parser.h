// Internal: capture files, parsed from memory piece by piece. Classic pcap (both byte orders, us and ns) and pcapng, told
// apart by their first bytes. Every length is checked before it is believed; nothing is read outside [at, end).
//
// Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace efio {

class CaptureParser {
 public:
  static constexpr std::uint32_t largest_record = 262144;         // of a classic file, as libpcap has it
  static constexpr std::uint32_t largest_block = 16 * 1024 * 1024;  // of a pcapng block that must be looked into
  static constexpr std::uint16_t ethernet = 1;                    // LINKTYPE_ETHERNET

  struct Frame {
    const std::byte* data = nullptr;  // in the piece that next() was given
    std::uint32_t captured = 0;       // bytes at data
    std::uint32_t length = 0;         // bytes on the wire, without FCS
    std::uint64_t time = 0;           // ns since the Unix epoch, valid if `timed`
    bool timed = false;
    std::uint16_t link_type = ethernet;
  };

  enum class Found : std::uint8_t { frame, more, damaged };

  // Looks for the next frame in [at, end), which goes on where the last call stopped, and moves `at` behind what it has
  // consumed. `more`: at least wanted() bytes from `at` on are needed. `damaged`: see problem(); so is every later answer.
  Found next(const std::byte*& at, const std::byte* end, Frame& frame) {
    if (state_ != State::records) [[unlikely]] return next_slowly(at, end, frame);
    const auto left = static_cast<std::size_t>(end - at);
    if (left < record_header) return need(record_header);
    const std::uint32_t captured = load32(at + 8);
    if (captured > largest_record) [[unlikely]] return damaged_record(captured);
    const std::size_t size = record_header + captured;
    if (left < size) return need(size);
    frame.time = std::uint64_t{load32(at)} * 1'000'000'000 + std::uint64_t{load32(at + 4)} * fraction_ns_;
    frame.timed = true;
    frame.data = at + record_header;
    frame.link_type = link_type_;
    set_lengths(frame, captured, load32(at + 12), fcs_bytes_);
    at += size;
    offset_ += size;
    return Found::frame;
  }

  std::size_t wanted() const noexcept { return wanted_; }
  std::uint64_t offset() const noexcept { return offset_; }  // of the record or block that next() looks at, from the start
  const std::string& problem() const noexcept { return problem_; }
  // Whether the file may end here, where `left` bytes are not consumed; else problem() says what it ends in.
  bool may_end(std::size_t left);

  // "pcap" or "pcapng"; empty before the first bytes were seen.
  std::string_view format() const noexcept;
  // The link type of the file, or of its first interface, where no interface so far is Ethernet.
  std::optional<std::uint16_t> foreign_link_type() const noexcept;

 private:
  static constexpr std::size_t record_header = 16;

  enum class State : std::uint8_t { start, records, blocks, skipping, damaged };
  struct Interface {
    std::uint16_t link_type = 0;
    std::uint32_t snaplen = 0;
    std::uint32_t fcs_bytes = 0;
    std::uint64_t multiply = 1000, divide = 1;  // ticks to ns
    unsigned shift = 0;                         // where the resolution is 2^-shift s
    std::uint64_t offset_ns = 0;
  };

  std::uint16_t load16(const std::byte* from) const noexcept {
    std::uint16_t value = 0;
    std::memcpy(&value, from, sizeof value);
    return swapped_ ? __builtin_bswap16(value) : value;
  }
  std::uint32_t load32(const std::byte* from) const noexcept {
    std::uint32_t value = 0;
    std::memcpy(&value, from, sizeof value);
    return swapped_ ? __builtin_bswap32(value) : value;
  }
  // The FCS is not part of a frame here.
  static void set_lengths(Frame& frame, std::uint32_t captured, std::uint32_t length, std::uint32_t fcs_bytes) noexcept {
    if (length < captured) length = captured;  // some writers leave it 0
    length = length > fcs_bytes ? length - fcs_bytes : 0;
    frame.length = length;
    frame.captured = captured < length ? captured : length;
  }
  Found need(std::size_t bytes) noexcept {
    wanted_ = bytes;
    return Found::more;
  }

  Found next_slowly(const std::byte*& at, const std::byte* end, Frame& frame);
  Found damage(std::string problem);
  Found damaged_record(std::uint32_t captured);
  std::optional<Found> start(const std::byte*& at, const std::byte* end);
  std::optional<Found> skip(const std::byte*& at, const std::byte* end);
  std::optional<Found> block(const std::byte*& at, const std::byte* end, Frame& frame);
  std::optional<Found> section(const std::byte* block, std::uint32_t total);
  std::optional<Found> interface(const std::byte* block, std::uint32_t total);
  Found packet(const std::byte* block, std::uint32_t type, std::uint32_t total, Frame& frame);

  State state_ = State::start;
  bool swapped_ = false;
  std::uint16_t link_type_ = ethernet;  // of a classic file
  std::uint32_t fcs_bytes_ = 0;
  std::uint32_t fraction_ns_ = 1;
  std::size_t wanted_ = 0;
  std::uint64_t offset_ = 0;
  std::uint32_t skip_left_ = 0, skip_total_ = 0;  // of a block that nobody looks into
  bool blocks_ = false;
  std::vector<Interface> interfaces_;  // of this section
  bool any_ethernet_ = false;
  std::optional<std::uint16_t> first_link_type_;
  std::string problem_;
};

}  // namespace efio
