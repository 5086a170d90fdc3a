#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "efio/checksum.h"
#include "efnet/wire/address.h"
#include "efnet/wire/bytes.h"
#include "efnet/wire/options.h"
#include "efnet/wire/protocol.h"

namespace efnet {

// An IPv4 packet (RFC 791). See ethernet.h for what views promise.
template <ByteLike Byte>
class BasicIpv4 {
 public:
  static constexpr std::size_t min_header = 20;
  static constexpr std::size_t max_header = 60;

  // `bytes` begins with the header and may go on after the packet (RFC 894: padding). Refused: another version, a
  // header length below 20 or above the total length, a total length above what is there.
  static std::optional<BasicIpv4> parse(std::span<Byte> bytes) noexcept { return checked(bytes, true); }

  // For a packet quoted in an ICMP error or cut by a capture: its header must be whole, its payload is what is there.
  static std::optional<BasicIpv4> parse_truncated(std::span<Byte> bytes) noexcept { return checked(bytes, false); }

  std::size_t header_length() const noexcept { return header_; }
  std::uint8_t traffic_class() const noexcept { return load8(at_ + 1); }  // DSCP (6 bits) and ECN (2)
  std::uint16_t total_length() const noexcept { return total_length_; }
  std::uint16_t identification() const noexcept { return load16(at_ + 4); }
  bool dont_fragment() const noexcept { return (fragment_field() & 0x4000) != 0; }
  bool more_fragments() const noexcept { return (fragment_field() & 0x2000) != 0; }
  std::uint16_t fragment_offset() const noexcept {  // in bytes
    return static_cast<std::uint16_t>((fragment_field() & 0x1FFF) * 8);
  }
  bool is_fragment() const noexcept { return (fragment_field() & 0x3FFF) != 0; }
  bool is_later_fragment() const noexcept { return (fragment_field() & 0x1FFF) != 0; }  // has no transport header
  std::uint16_t fragment_field() const noexcept { return load16(at_ + 6); }             // flags and offset as they are
  std::uint8_t ttl() const noexcept { return load8(at_ + 8); }
  IpProtocol protocol() const noexcept { return IpProtocol{load8(at_ + 9)}; }
  std::uint16_t checksum() const noexcept { return load16(at_ + 10); }
  Ipv4Address src() const noexcept { return Ipv4Address::load(at_ + 12); }
  Ipv4Address dst() const noexcept { return Ipv4Address::load(at_ + 16); }
  std::span<Byte> options() const noexcept { return {at_ + min_header, header_ - min_header}; }  // OptionWalk

  std::span<Byte> header() const noexcept { return {at_, header_}; }
  // Up to the total length: without padding.
  std::span<Byte> payload() const noexcept { return bytes().subspan(header_); }
  std::span<Byte> bytes() const noexcept { return {at_, size_}; }
  bool is_truncated() const noexcept { return size_ < total_length_; }

  void set_traffic_class(std::uint8_t value) const noexcept requires MutableByte<Byte> { store8(at_ + 1, value); }
  void set_identification(std::uint16_t value) const noexcept requires MutableByte<Byte> { store16(at_ + 4, value); }
  void set_fragment_field(std::uint16_t value) const noexcept requires MutableByte<Byte> { store16(at_ + 6, value); }
  void set_ttl(std::uint8_t value) const noexcept requires MutableByte<Byte> { store8(at_ + 8, value); }
  void set_protocol(IpProtocol value) const noexcept requires MutableByte<Byte> {
    store8(at_ + 9, static_cast<std::uint8_t>(value));
  }
  void set_checksum(std::uint16_t value) const noexcept requires MutableByte<Byte> { store16(at_ + 10, value); }
  void set_src(Ipv4Address value) const noexcept requires MutableByte<Byte> { value.store(at_ + 12); }
  void set_dst(Ipv4Address value) const noexcept requires MutableByte<Byte> { value.store(at_ + 16); }

  operator BasicIpv4<const std::byte>() const noexcept requires MutableByte<Byte> {
    return BasicIpv4<const std::byte>(at_, header_, size_, total_length_);
  }

 private:
  template <ByteLike>
  friend class BasicIpv4;

  [[gnu::always_inline]] static std::optional<BasicIpv4> checked(std::span<Byte> bytes, bool whole) noexcept {
    if (bytes.size() < min_header) return std::nullopt;
    const unsigned first = load8(bytes.data());
    if (first < 0x45 || first > 0x4F) return std::nullopt;  // version 4, header of 5 to 15 words
    const std::size_t header = (first & 15) * 4;
    const std::size_t total = load16(bytes.data() + 2);
    if (total < header || bytes.size() < (whole ? total : header)) return std::nullopt;
    return BasicIpv4(bytes.data(), header, whole || total < bytes.size() ? total : bytes.size(), total);
  }

  BasicIpv4(Byte* at, std::size_t header, std::size_t size, std::size_t total) noexcept
      : at_(at),
        header_(static_cast<std::uint16_t>(header)),
        size_(static_cast<std::uint16_t>(size)),
        total_length_(static_cast<std::uint16_t>(total)) {}

  Byte* at_;
  std::uint16_t header_;
  std::uint16_t size_;
  std::uint16_t total_length_;
};

using Ipv4View = BasicIpv4<const std::byte>;
using Ipv4Mut = BasicIpv4<std::byte>;

struct Ipv4Header {
  Ipv4Address src;
  Ipv4Address dst;
  IpProtocol protocol = IpProtocol::udp;
  std::size_t payload_length = 0;
  std::uint8_t ttl = 64;
  std::uint8_t traffic_class = 0;
  std::uint16_t identification = 0;
  bool dont_fragment = false;
  bool more_fragments = false;
  std::uint16_t fragment_offset = 0;        // in bytes; a multiple of 8
  std::span<const std::byte> options = {};  // at most 40 bytes, padded with zeros to a multiple of 4

  std::size_t size() const noexcept { return Ipv4View::min_header + (options.size() + 3) / 4 * 4; }

  // Returns size(), with the header checksum right; or 0, with nothing written, where `out` is shorter, the options
  // are too long, header and payload exceed 65,535 bytes, or the fragment offset is no multiple of 8.
  std::size_t emit(std::span<std::byte> out) const noexcept {
    const std::size_t header = size();
    if (out.size() < header || header > Ipv4View::max_header || payload_length > 0xFFFF - header ||
        fragment_offset % 8 != 0)
      return 0;
    std::byte* at = out.data();
    const unsigned flags = (dont_fragment ? 0x4000u : 0) | (more_fragments ? 0x2000u : 0);
    store8(at, static_cast<std::uint8_t>(0x40 | header / 4));
    store8(at + 1, traffic_class);
    store16(at + 2, static_cast<std::uint16_t>(header + payload_length));
    store16(at + 4, identification);
    store16(at + 6, static_cast<std::uint16_t>(flags | fragment_offset / 8u));
    store8(at + 8, ttl);
    store8(at + 9, static_cast<std::uint8_t>(protocol));
    store16(at + 10, 0);
    src.store(at + 12);
    dst.store(at + 16);
    if (!options.empty()) {
      std::memset(at + Ipv4View::min_header, 0, header - Ipv4View::min_header);
      std::memcpy(at + Ipv4View::min_header, options.data(), options.size());
    }
    store16(at + 10, efio::checksum(out.first(header)));
    return header;
  }
};

}  // namespace efnet
