#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "efnet/wire/address.h"
#include "efnet/wire/bytes.h"
#include "efnet/wire/protocol.h"

namespace efnet {

// Any 16-bit value may be met.
enum class ArpOperation : std::uint16_t { request = 1, reply = 2 };

// Why bytes are no ARP packet for IPv4 over Ethernet (RFC 826), in the order of looking.
enum class ArpFault : std::uint8_t {
  none,
  truncated,        // fewer than 28 bytes
  hardware_type,    // not 1
  protocol_type,    // not 0x0800
  hardware_length,  // not 6
  protocol_length,  // not 4
};

inline ArpFault arp_fault(std::span<const std::byte> bytes) noexcept {
  if (bytes.size() < 28) return ArpFault::truncated;
  if (load16(bytes.data()) != 1) return ArpFault::hardware_type;
  if (load16(bytes.data() + 2) != static_cast<std::uint16_t>(EtherType::ipv4)) return ArpFault::protocol_type;
  if (load8(bytes.data() + 4) != 6) return ArpFault::hardware_length;
  if (load8(bytes.data() + 5) != 4) return ArpFault::protocol_length;
  return ArpFault::none;
}

// An ARP packet (RFC 826) for IPv4 over Ethernet. See ethernet.h for what views promise.
template <ByteLike Byte>
class BasicArp {
 public:
  static constexpr std::size_t size = 28;

  // `bytes` begins with the packet and may go on after it. Refused: what arp_fault() finds fault with.
  static std::optional<BasicArp> parse(std::span<Byte> bytes) noexcept {
    if (arp_fault(bytes) != ArpFault::none) return std::nullopt;
    return BasicArp(bytes.data());
  }

  ArpOperation operation() const noexcept { return ArpOperation{load16(at_ + 6)}; }
  MacAddress sender_mac() const noexcept { return MacAddress::load(at_ + 8); }
  Ipv4Address sender_ip() const noexcept { return Ipv4Address::load(at_ + 14); }
  MacAddress target_mac() const noexcept { return MacAddress::load(at_ + 18); }
  Ipv4Address target_ip() const noexcept { return Ipv4Address::load(at_ + 24); }

  // RFC 5227: a request from 0.0.0.0 asks whether an address is free; a packet whose sender and target are the same
  // address announces it (a "gratuitous" one).
  bool is_probe() const noexcept { return operation() == ArpOperation::request && sender_ip().is_unspecified(); }
  bool is_announcement() const noexcept { return sender_ip() == target_ip() && !sender_ip().is_unspecified(); }

  std::span<Byte> bytes() const noexcept { return {at_, size}; }

  void set_operation(ArpOperation value) const noexcept requires MutableByte<Byte> {
    store16(at_ + 6, static_cast<std::uint16_t>(value));
  }
  void set_sender_mac(MacAddress value) const noexcept requires MutableByte<Byte> { value.store(at_ + 8); }
  void set_sender_ip(Ipv4Address value) const noexcept requires MutableByte<Byte> { value.store(at_ + 14); }
  void set_target_mac(MacAddress value) const noexcept requires MutableByte<Byte> { value.store(at_ + 18); }
  void set_target_ip(Ipv4Address value) const noexcept requires MutableByte<Byte> { value.store(at_ + 24); }

  operator BasicArp<const std::byte>() const noexcept requires MutableByte<Byte> {
    return BasicArp<const std::byte>(at_);
  }

 private:
  template <ByteLike>
  friend class BasicArp;

  explicit BasicArp(Byte* at) noexcept : at_(at) {}

  Byte* at_;
};

using ArpView = BasicArp<const std::byte>;
using ArpMut = BasicArp<std::byte>;

struct ArpPacket {
  ArpOperation operation = ArpOperation::request;
  MacAddress sender_mac;
  Ipv4Address sender_ip;
  MacAddress target_mac;
  Ipv4Address target_ip;

  static constexpr std::size_t size() noexcept { return ArpView::size; }

  // Returns size(), or 0, with nothing written, where `out` is shorter.
  std::size_t emit(std::span<std::byte> out) const noexcept {
    if (out.size() < size()) return 0;
    std::byte* at = out.data();
    store16(at, 1);
    store16(at + 2, static_cast<std::uint16_t>(EtherType::ipv4));
    store8(at + 4, 6);
    store8(at + 5, 4);
    store16(at + 6, static_cast<std::uint16_t>(operation));
    sender_mac.store(at + 8);
    sender_ip.store(at + 14);
    target_mac.store(at + 18);
    target_ip.store(at + 24);
    return size();
  }
};

}  // namespace efnet
