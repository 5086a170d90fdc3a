#include "efio/engines/capture_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace efio {

namespace {

constexpr std::uint32_t magic_us = 0xa1b2c3d4, magic_ns = 0xa1b23c4d;
constexpr std::uint32_t magic_patched = 0xa1b2cd34;  // a longer record header, of a libpcap patched in 1998
constexpr std::size_t file_header = 24;

constexpr std::uint32_t section_header = 0x0a0d0d0a;  // the same in both byte orders
constexpr std::uint32_t byte_order_mark = 0x1a2b3c4d;
constexpr std::uint32_t interface_description = 1, obsolete_packet = 2, simple_packet = 3, enhanced_packet = 6;
constexpr std::uint16_t option_end = 0, option_resolution = 9, option_fcs_length = 13, option_time_offset = 14;

std::uint32_t native32(const std::byte* from) noexcept {
  std::uint32_t value = 0;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// What a file that is no capture may be instead.
std::string_view compression(std::uint32_t first) noexcept {
  if ((first & 0xffff) == 0x8b1f) return "gzip";
  if (first == 0xfd2fb528) return "zstd";
  if (first == 0x184d2204) return "lz4";
  if (first == 0x587a37fd) return "xz";
  return {};
}

constexpr std::uint32_t padded(std::uint32_t length) noexcept { return (length + 3) & ~3U; }

}  // namespace

CaptureParser::Found CaptureParser::damage(std::string problem) {
  state_ = State::damaged;
  problem_ = std::move(problem);
  return Found::damaged;
}

CaptureParser::Found CaptureParser::damaged_record(std::uint32_t captured) {
  return damage(fmt::format("a record that claims {} bytes, where {} are the most", captured, largest_record));
}

bool CaptureParser::may_end(std::size_t left) {
  if (state_ == State::damaged) return false;
  if (state_ == State::start) problem_ = offset_ + left == 0 ? "it is empty" : "it ends in the file header";
  else if (state_ == State::skipping) problem_ = fmt::format("it ends in a block of {} bytes", skip_total_);
  else if (left > 0) problem_ = fmt::format("it ends {} bytes into a {}", left, blocks_ ? "block" : "record");
  else return true;
  state_ = State::damaged;
  return false;
}

std::string_view CaptureParser::format() const noexcept {
  if (state_ == State::start) return {};
  return blocks_ ? "pcapng" : "pcap";
}

std::optional<std::uint16_t> CaptureParser::foreign_link_type() const noexcept {
  return any_ethernet_ ? std::nullopt : first_link_type_;
}

CaptureParser::Found CaptureParser::next_slowly(const std::byte*& at, const std::byte* end, Frame& frame) {
  for (;;) {
    std::optional<Found> found;
    switch (state_) {
      case State::start: found = start(at, end); break;
      case State::records: return next(at, end, frame);
      case State::skipping: found = skip(at, end); break;
      case State::blocks: found = block(at, end, frame); break;
      case State::damaged: return Found::damaged;
    }
    if (found) return *found;
  }
}

// --- the first bytes ---

std::optional<CaptureParser::Found> CaptureParser::start(const std::byte*& at, const std::byte* end) {
  const auto left = static_cast<std::size_t>(end - at);
  if (left < 4) return need(4);
  const std::uint32_t first = native32(at);
  if (first == section_header) {
    state_ = State::blocks;
    blocks_ = true;
    return std::nullopt;
  }
  const std::uint32_t turned = __builtin_bswap32(first);
  swapped_ = turned == magic_us || turned == magic_ns;
  const std::uint32_t magic = swapped_ ? turned : first;
  if (magic != magic_us && magic != magic_ns) {
    if (const auto name = compression(first); !name.empty()) return damage(fmt::format("it is compressed ({})", name));
    if (first == magic_patched || turned == magic_patched) return damage("the patched libpcap format of 1998");
    return damage("neither pcap nor pcapng");
  }
  if (left < file_header) return need(file_header);
  const auto major = load16(at + 4), minor = load16(at + 6);
  if (major != 2 || (minor != 3 && minor != 4)) return damage(fmt::format("pcap of version {}.{}", major, minor));
  fraction_ns_ = magic == magic_ns ? 1 : 1000;
  const std::uint32_t link = load32(at + 20);
  link_type_ = static_cast<std::uint16_t>(link);
  fcs_bytes_ = (link & 0x04000000) != 0 ? (link >> 28) * 2 : 0;  // stated in 16-bit units
  first_link_type_ = link_type_;
  any_ethernet_ = link_type_ == ethernet;
  at += file_header;
  offset_ += file_header;
  state_ = State::records;
  return std::nullopt;
}

// --- pcapng ---

std::optional<CaptureParser::Found> CaptureParser::skip(const std::byte*& at, const std::byte* end) {
  const auto n = std::min<std::size_t>(skip_left_, static_cast<std::size_t>(end - at));
  at += n;
  skip_left_ -= static_cast<std::uint32_t>(n);
  if (skip_left_ > 0) return need(1);
  if (end - at < 4) return need(4);
  if (load32(at) != skip_total_)
    return damage(fmt::format("a block whose two lengths differ: {} and {}", skip_total_, load32(at)));
  at += 4;
  offset_ += skip_total_;
  state_ = State::blocks;
  return std::nullopt;
}

std::optional<CaptureParser::Found> CaptureParser::block(const std::byte*& at, const std::byte* end, Frame& frame) {
  const auto left = static_cast<std::size_t>(end - at);
  if (left < 12) return need(12);  // the shortest block
  const std::uint32_t type = load32(at);
  if (type == section_header) {
    const std::uint32_t mark = native32(at + 8);
    if (mark != byte_order_mark && mark != __builtin_bswap32(byte_order_mark))
      return damage("a section header without a byte order");
    swapped_ = mark != byte_order_mark;
  }
  const std::uint32_t total = load32(at + 4);
  if (total < 12 || total % 4 != 0) return damage(fmt::format("a block that claims {} bytes", total));

  std::uint32_t least = 0;
  switch (type) {
    case section_header: least = 28; break;
    case interface_description: least = 20; break;
    case obsolete_packet: least = 32; break;
    case simple_packet: least = 16; break;
    case enhanced_packet: least = 32; break;
    default:  // name resolution, statistics, secrets, custom, unknown
      skip_total_ = total;
      skip_left_ = total - 12;
      at += 8;
      state_ = State::skipping;
      return std::nullopt;
  }
  if (total < least || total > largest_block)
    return damage(fmt::format("a block of type {} that claims {} bytes", type, total));
  if (left < total) return need(total);
  if (const auto trailer = load32(at + total - 4); trailer != total)
    return damage(fmt::format("a block whose two lengths differ: {} and {}", total, trailer));

  std::optional<Found> found;
  if (type == section_header) found = section(at, total);
  else if (type == interface_description) found = interface(at, total);
  else found = packet(at, type, total, frame);
  if (found == Found::damaged) return found;
  at += total;
  offset_ += total;
  return found;
}

std::optional<CaptureParser::Found> CaptureParser::section(const std::byte* block, std::uint32_t) {
  const auto major = load16(block + 12), minor = load16(block + 14);
  if (major != 1) return damage(fmt::format("pcapng of version {}.{}", major, minor));
  interfaces_.clear();
  return std::nullopt;
}

std::optional<CaptureParser::Found> CaptureParser::interface(const std::byte* block, std::uint32_t total) {
  Interface made;
  made.link_type = load16(block + 8);
  made.snaplen = load32(block + 12);
  const std::byte* at = block + 16;
  const std::byte* const end = block + total - 4;
  while (end - at >= 4) {
    const auto code = load16(at), length = load16(at + 2);
    at += 4;
    if (code == option_end) break;
    if (end - at < static_cast<std::ptrdiff_t>(padded(length))) return damage("an interface with an option that leaves its block");
    if (code == option_resolution && length == 1) {
      const auto resolution = std::to_integer<unsigned>(*at);
      const unsigned exponent = resolution & 0x7f;
      made.multiply = 1'000'000'000, made.divide = 1, made.shift = 0;
      if ((resolution & 0x80) != 0) {
        made.shift = exponent;
      } else {
        for (unsigned i = 0; i < exponent && made.multiply > 1 && i < 9; ++i) made.multiply /= 10;
        // Finer than 10^-28 s: no 64-bit count of it reaches one ns.
        if (exponent > 28) made.multiply = 0;
        else for (unsigned i = 9; i < exponent; ++i) made.divide *= 10;
      }
    } else if (code == option_fcs_length && length == 1) {
      made.fcs_bytes = std::to_integer<std::uint32_t>(*at);
    } else if (code == option_time_offset && length == 8) {
      const std::uint64_t first = load32(at), second = load32(at + 4);
      const bool big = swapped_ == (std::endian::native == std::endian::little);
      made.offset_ns = (big ? first << 32 | second : second << 32 | first) * 1'000'000'000;  // seconds, negative ones too
    }
    at += padded(length);
  }
  interfaces_.push_back(made);
  if (!first_link_type_) first_link_type_ = made.link_type;
  any_ethernet_ = any_ethernet_ || made.link_type == ethernet;
  return std::nullopt;
}

CaptureParser::Found CaptureParser::packet(const std::byte* block, std::uint32_t type, std::uint32_t total, Frame& frame) {
  const std::uint32_t id = type == enhanced_packet ? load32(block + 8) : type == obsolete_packet ? load16(block + 8) : 0;
  if (id >= interfaces_.size())
    return damage(fmt::format("a packet of interface {}, where {} are described", id, interfaces_.size()));
  const Interface& from = interfaces_[id];
  frame.link_type = from.link_type;
  frame.timed = type != simple_packet;
  if (type == simple_packet) {
    const std::uint32_t length = load32(block + 8);
    const std::uint32_t kept = from.snaplen == 0 ? length : std::min(length, from.snaplen);
    if (kept > total - 16) return damage(fmt::format("a packet of {} bytes in a block of {}", kept, total));
    frame.data = block + 12;
    frame.time = 0;
    set_lengths(frame, kept, length, from.fcs_bytes);
    return Found::frame;
  }
  const std::uint32_t captured = load32(block + 20);
  if (captured > total - 32) return damage(fmt::format("a packet of {} bytes in a block of {}", captured, total));
  const std::uint64_t ticks = std::uint64_t{load32(block + 12)} << 32 | load32(block + 16);
  if (from.shift != 0) {
    __extension__ using Wide = unsigned __int128;
    frame.time = static_cast<std::uint64_t>(Wide{ticks} * 1'000'000'000 >> from.shift) + from.offset_ns;
  } else {
    frame.time = (from.divide == 1 ? ticks * from.multiply : ticks * from.multiply / from.divide) + from.offset_ns;
  }
  frame.data = block + 28;
  set_lengths(frame, captured, load32(block + 24), from.fcs_bytes);
  return Found::frame;
}

}  // namespace efio
