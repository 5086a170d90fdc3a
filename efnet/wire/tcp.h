#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "efnet/wire/bytes.h"
#include "efnet/wire/options.h"

namespace efnet {

// The control bits (RFC 9293, 3.1), to be combined with |.
namespace tcp_flag {
inline constexpr std::uint8_t fin = 0x01;
inline constexpr std::uint8_t syn = 0x02;
inline constexpr std::uint8_t rst = 0x04;
inline constexpr std::uint8_t psh = 0x08;
inline constexpr std::uint8_t ack = 0x10;
inline constexpr std::uint8_t urg = 0x20;
inline constexpr std::uint8_t ece = 0x40;
inline constexpr std::uint8_t cwr = 0x80;
}  // namespace tcp_flag

namespace tcp_option {
inline constexpr std::uint8_t mss = 2;
inline constexpr std::uint8_t window_scale = 3;
inline constexpr std::uint8_t sack_permitted = 4;
inline constexpr std::uint8_t sack = 5;
inline constexpr std::uint8_t timestamps = 8;
}  // namespace tcp_option

// A TCP segment (RFC 9293). See ethernet.h for what views promise.
template <ByteLike Byte>
class BasicTcp {
 public:
  static constexpr std::size_t min_header = 20;
  static constexpr std::size_t max_header = 60;

  // `bytes` is the whole segment: TCP has no length of its own. Refused: a data offset below 20 bytes or above what is
  // there.
  static std::optional<BasicTcp> parse(std::span<Byte> bytes) noexcept {
    if (bytes.size() < min_header) return std::nullopt;
    const std::size_t header = (load8(bytes.data() + 12) >> 4) * std::size_t{4};
    if (header < min_header || header > bytes.size()) return std::nullopt;
    return BasicTcp(bytes, header);
  }

  std::uint16_t src_port() const noexcept { return load16(at()); }
  std::uint16_t dst_port() const noexcept { return load16(at() + 2); }
  std::uint32_t sequence() const noexcept { return load32(at() + 4); }
  std::uint32_t acknowledgment() const noexcept { return load32(at() + 8); }
  std::size_t header_length() const noexcept { return header_; }
  std::uint8_t flags() const noexcept { return load8(at() + 13); }  // tcp_flag
  bool has(std::uint8_t flags_wanted) const noexcept { return (flags() & flags_wanted) == flags_wanted; }
  std::uint16_t window() const noexcept { return load16(at() + 14); }
  std::uint16_t checksum() const noexcept { return load16(at() + 16); }
  std::uint16_t urgent_pointer() const noexcept { return load16(at() + 18); }
  std::span<Byte> options() const noexcept { return bytes_.subspan(min_header, header_ - min_header); }  // OptionWalk

  // The first option of this kind.
  std::optional<HeaderOption> option(std::uint8_t kind) const noexcept {
    OptionWalk walk(options());
    while (auto option = walk.next())
      if (option->kind == kind) return option;
    return std::nullopt;
  }

  std::span<Byte> header() const noexcept { return bytes_.first(header_); }
  std::span<Byte> payload() const noexcept { return bytes_.subspan(header_); }
  std::span<Byte> bytes() const noexcept { return bytes_; }

  void set_src_port(std::uint16_t value) const noexcept requires MutableByte<Byte> { store16(at(), value); }
  void set_dst_port(std::uint16_t value) const noexcept requires MutableByte<Byte> { store16(at() + 2, value); }
  void set_sequence(std::uint32_t value) const noexcept requires MutableByte<Byte> { store32(at() + 4, value); }
  void set_acknowledgment(std::uint32_t value) const noexcept requires MutableByte<Byte> { store32(at() + 8, value); }
  void set_flags(std::uint8_t value) const noexcept requires MutableByte<Byte> { store8(at() + 13, value); }
  void set_window(std::uint16_t value) const noexcept requires MutableByte<Byte> { store16(at() + 14, value); }
  void set_checksum(std::uint16_t value) const noexcept requires MutableByte<Byte> { store16(at() + 16, value); }
  void set_urgent_pointer(std::uint16_t value) const noexcept requires MutableByte<Byte> { store16(at() + 18, value); }

  operator BasicTcp<const std::byte>() const noexcept requires MutableByte<Byte> {
    return BasicTcp<const std::byte>(bytes_, header_);
  }

 private:
  template <ByteLike>
  friend class BasicTcp;

  BasicTcp(std::span<Byte> bytes, std::size_t header) noexcept : bytes_(bytes), header_(header) {}
  Byte* at() const noexcept { return bytes_.data(); }

  std::span<Byte> bytes_;
  std::size_t header_;
};

using TcpView = BasicTcp<const std::byte>;
using TcpMut = BasicTcp<std::byte>;

struct TcpHeader {
  std::uint16_t src_port = 0;
  std::uint16_t dst_port = 0;
  std::uint32_t sequence = 0;
  std::uint32_t acknowledgment = 0;
  std::uint8_t flags = tcp_flag::ack;
  std::uint16_t window = 0xFFFF;
  std::uint16_t urgent_pointer = 0;
  std::span<const std::byte> options = {};  // at most 40 bytes, padded with zeros to a multiple of 4

  std::size_t size() const noexcept { return TcpView::min_header + (options.size() + 3) / 4 * 4; }

  // Returns size(), with the checksum 0 (then: fill_transport, once the payload is there); or 0, with nothing written,
  // where `out` is shorter or the options are too long.
  std::size_t emit(std::span<std::byte> out) const noexcept {
    const std::size_t header = size();
    if (out.size() < header || header > TcpView::max_header) return 0;
    std::byte* at = out.data();
    store16(at, src_port);
    store16(at + 2, dst_port);
    store32(at + 4, sequence);
    store32(at + 8, acknowledgment);
    store8(at + 12, static_cast<std::uint8_t>(header / 4 << 4));
    store8(at + 13, flags);
    store16(at + 14, window);
    store16(at + 16, 0);
    store16(at + 18, urgent_pointer);
    if (!options.empty()) {
      std::memset(at + TcpView::min_header, 0, header - TcpView::min_header);
      std::memcpy(at + TcpView::min_header, options.data(), options.size());
    }
    return header;
  }
};

}  // namespace efnet
