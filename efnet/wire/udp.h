#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "efnet/wire/bytes.h"

namespace efnet {

// A UDP datagram (RFC 768). See ethernet.h for what views promise.
template <ByteLike Byte>
class BasicUdp {
 public:
  static constexpr std::size_t min_header = 8;

  // `bytes` begins with the header and may go on after the datagram. Refused: a length below 8 or above what is there.
  static std::optional<BasicUdp> parse(std::span<Byte> bytes) noexcept { return checked(bytes, true); }

  // For a first fragment or a datagram quoted in an ICMP error: its header must be whole, its payload is what is there.
  static std::optional<BasicUdp> parse_truncated(std::span<Byte> bytes) noexcept { return checked(bytes, false); }

  std::uint16_t src_port() const noexcept { return load16(at_); }
  std::uint16_t dst_port() const noexcept { return load16(at_ + 2); }
  std::uint16_t length() const noexcept { return length_; }  // header and payload
  std::uint16_t checksum() const noexcept { return load16(at_ + 6); }

  std::span<Byte> header() const noexcept { return {at_, min_header}; }
  std::span<Byte> payload() const noexcept { return {at_ + min_header, size_ - min_header}; }
  std::span<Byte> bytes() const noexcept { return {at_, size_}; }
  bool is_truncated() const noexcept { return size_ < length_; }

  void set_src_port(std::uint16_t value) const noexcept requires MutableByte<Byte> { store16(at_, value); }
  void set_dst_port(std::uint16_t value) const noexcept requires MutableByte<Byte> { store16(at_ + 2, value); }
  void set_checksum(std::uint16_t value) const noexcept requires MutableByte<Byte> { store16(at_ + 6, value); }

  operator BasicUdp<const std::byte>() const noexcept requires MutableByte<Byte> {
    return BasicUdp<const std::byte>(at_, size_, length_);
  }

 private:
  template <ByteLike>
  friend class BasicUdp;

  [[gnu::always_inline]] static std::optional<BasicUdp> checked(std::span<Byte> bytes, bool whole) noexcept {
    if (bytes.size() < min_header) return std::nullopt;
    const std::uint16_t length = load16(bytes.data() + 4);
    if (length < min_header || (whole && bytes.size() < length)) return std::nullopt;
    return BasicUdp(bytes.data(), length < bytes.size() ? length : bytes.size(), length);
  }

  BasicUdp(Byte* at, std::size_t size, std::uint16_t length) noexcept
      : at_(at), size_(static_cast<std::uint16_t>(size)), length_(length) {}

  Byte* at_;
  std::uint16_t size_;
  std::uint16_t length_;
};

using UdpView = BasicUdp<const std::byte>;
using UdpMut = BasicUdp<std::byte>;

struct UdpHeader {
  std::uint16_t src_port = 0;
  std::uint16_t dst_port = 0;
  std::size_t payload_length = 0;

  static constexpr std::size_t size() noexcept { return UdpView::min_header; }

  // Returns size(), with the checksum 0 (then: fill_transport, once the payload is there); or 0, with nothing written,
  // where `out` is shorter or header and payload exceed 65,535 bytes.
  std::size_t emit(std::span<std::byte> out) const noexcept {
    if (out.size() < size() || payload_length > 0xFFFF - size()) return 0;
    store16(out.data(), src_port);
    store16(out.data() + 2, dst_port);
    store16(out.data() + 4, static_cast<std::uint16_t>(size() + payload_length));
    store16(out.data() + 6, 0);
    return size();
  }
};

}  // namespace efnet
