#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "efio/export.h"
#include "efnet/wire/address.h"
#include "efnet/wire/bytes.h"
#include "efnet/wire/icmp.h"
#include "efnet/wire/ipv6.h"

// Neighbor discovery (RFC 4861): five ICMPv6 messages, each a fixed part and options. Views are over the whole ICMPv6
// message; ndp_fault() tells whether it may be believed. See ethernet.h for what views promise.

namespace efnet {

// ---- Options (RFC 4861, 4.6) ----

// Any 8-bit value may be met.
enum class NdpOptionType : std::uint8_t {
  source_link_address = 1,
  target_link_address = 2,
  prefix_information = 3,
  redirected_header = 4,
  mtu = 5,
};

struct NdpOption {
  NdpOptionType type;
  std::span<const std::byte> data;  // without type and length: 6 bytes, or 8 more each

  // Of the two link address options, over Ethernet.
  std::optional<MacAddress> link_address() const noexcept {
    if (type != NdpOptionType::source_link_address && type != NdpOptionType::target_link_address) return std::nullopt;
    if (data.size() != MacAddress::size) return std::nullopt;
    return MacAddress::load(data.data());
  }
  // Of mtu.
  std::optional<std::uint32_t> mtu() const noexcept {
    if (type != NdpOptionType::mtu || data.size() != 6) return std::nullopt;
    return load32(data, 2);
  }
};

// Of prefix_information: what a router says of a prefix.
struct NdpPrefix {
  Ipv6Prefix prefix;
  bool on_link = false;
  bool autonomous = false;  // addresses may be made of it (RFC 4862)
  std::uint32_t valid = 0;  // seconds; all ones: for ever
  std::uint32_t preferred = 0;

  static std::optional<NdpPrefix> parse(const NdpOption& option) noexcept {
    if (option.type != NdpOptionType::prefix_information || option.data.size() != 30) return std::nullopt;
    const std::byte* at = option.data.data();
    const std::uint8_t length = load8(at);
    if (length > Ipv6Address::bits) return std::nullopt;
    const std::uint8_t flags = load8(at + 1);
    return NdpPrefix{.prefix = {Ipv6Address::load(at + 14), length},
                     .on_link = (flags & 0x80) != 0,
                     .autonomous = (flags & 0x40) != 0,
                     .valid = load32(at + 2),
                     .preferred = load32(at + 6)};
  }
};

class NdpOptionWalk {
 public:
  explicit NdpOptionWalk(std::span<const std::byte> options) noexcept : left_(options) {}

  // Nothing at the end, and at an option that is cut short or of no length: then malformed(), and the whole message is
  // to be discarded (RFC 4861, 4.6).
  std::optional<NdpOption> next() noexcept {
    if (left_.empty()) return std::nullopt;
    const std::size_t length = left_.size() < 8 ? 0 : load8(left_.data() + 1) * std::size_t{8};
    if (length == 0 || length > left_.size()) {
      malformed_ = true;
      left_ = {};
      return std::nullopt;
    }
    const NdpOption option{NdpOptionType{load8(left_.data())}, left_.subspan(2, length - 2)};
    left_ = left_.subspan(length);
    return option;
  }
  bool malformed() const noexcept { return malformed_; }

 private:
  std::span<const std::byte> left_;
  bool malformed_ = false;
};

// The first option of a type; a later one of the same is to be ignored.
inline std::optional<NdpOption> find_ndp_option(std::span<const std::byte> options, NdpOptionType type) noexcept {
  NdpOptionWalk walk(options);
  while (const auto option = walk.next())
    if (option->type == type) return option;
  return std::nullopt;
}

// ---- Messages ----

// Solicitation or advertisement of a neighbor (4.3, 4.4): the same bytes, but for the flags of the latter.
class NdpNeighborView {
 public:
  static constexpr std::size_t min_size = 24;

  // Refused: another type, fewer than 24 bytes.
  static std::optional<NdpNeighborView> parse(std::span<const std::byte> message) noexcept {
    if (message.size() < min_size) return std::nullopt;
    const Icmpv6Type type{load8(message.data())};
    if (type != Icmpv6Type::neighbor_solicitation && type != Icmpv6Type::neighbor_advertisement) return std::nullopt;
    return NdpNeighborView(message);
  }

  bool is_solicitation() const noexcept {
    return Icmpv6Type{load8(bytes_.data())} == Icmpv6Type::neighbor_solicitation;
  }
  bool is_router() const noexcept { return (load8(bytes_.data() + 4) & 0x80) != 0; }
  bool is_solicited() const noexcept { return (load8(bytes_.data() + 4) & 0x40) != 0; }
  bool overrides() const noexcept { return (load8(bytes_.data() + 4) & 0x20) != 0; }
  Ipv6Address target() const noexcept { return Ipv6Address::load(bytes_.data() + 8); }
  std::span<const std::byte> options() const noexcept { return bytes_.subspan(min_size); }

  // The MAC that the message tells: the source's of a solicitation, the target's of an advertisement.
  std::optional<MacAddress> link_address() const noexcept {
    const auto option = find_ndp_option(
        options(), is_solicitation() ? NdpOptionType::source_link_address : NdpOptionType::target_link_address);
    return option ? option->link_address() : std::nullopt;
  }

 private:
  explicit NdpNeighborView(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  std::span<const std::byte> bytes_;
};

// 4.2
class NdpRouterView {
 public:
  static constexpr std::size_t min_size = 16;

  // Of an advertisement. Refused: another type, fewer than 16 bytes.
  static std::optional<NdpRouterView> parse(std::span<const std::byte> message) noexcept {
    if (message.size() < min_size || Icmpv6Type{load8(message.data())} != Icmpv6Type::router_advertisement)
      return std::nullopt;
    return NdpRouterView(message);
  }

  std::uint8_t hop_limit() const noexcept { return load8(bytes_.data() + 4); }  // 0: says nothing of it
  bool managed() const noexcept { return (load8(bytes_.data() + 5) & 0x80) != 0; }
  bool other() const noexcept { return (load8(bytes_.data() + 5) & 0x40) != 0; }
  std::uint16_t lifetime() const noexcept { return load16(bytes_.data() + 6); }        // seconds; 0: no default router
  std::uint32_t reachable_ms() const noexcept { return load32(bytes_.data() + 8); }    // 0: says nothing
  std::uint32_t retransmit_ms() const noexcept { return load32(bytes_.data() + 12); }  // 0: says nothing
  std::span<const std::byte> options() const noexcept { return bytes_.subspan(min_size); }

 private:
  explicit NdpRouterView(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  std::span<const std::byte> bytes_;
};

// 4.5: packets to `destination` had better go to `target`.
class NdpRedirectView {
 public:
  static constexpr std::size_t min_size = 40;

  // Refused: another type, fewer than 40 bytes.
  static std::optional<NdpRedirectView> parse(std::span<const std::byte> message) noexcept {
    if (message.size() < min_size || Icmpv6Type{load8(message.data())} != Icmpv6Type::redirect) return std::nullopt;
    return NdpRedirectView(message);
  }

  Ipv6Address target() const noexcept { return Ipv6Address::load(bytes_.data() + 8); }
  Ipv6Address destination() const noexcept { return Ipv6Address::load(bytes_.data() + 24); }
  std::span<const std::byte> options() const noexcept { return bytes_.subspan(min_size); }

 private:
  explicit NdpRedirectView(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  std::span<const std::byte> bytes_;
};

// Why a message of neighbor discovery is to be discarded in silence (RFC 4861: 6.1, 7.1, 8.1), in the order of looking.
enum class NdpFault : std::uint8_t {
  none,
  not_ndp,      // no message of neighbor discovery at all
  hop_limit,    // not 255: it came through a router
  truncated,    // shorter than its fixed part
  checksum,     // wrong
  code,         // not 0
  options,      // one of length 0, or cut short
  target,       // a target that is a group's
  source,       // from a router: not link-local. A solicitation from :: that is not to a solicited-node address
  link_option,  // a solicitation from :: with a source link address
  solicited,    // an advertisement to a group that claims to be solicited
};
EFIO_EXPORT NdpFault ndp_fault(Ipv6View packet) noexcept;

// ---- Making them ----

// ff02::1:ffXX:XXXX, where solicitations for an address go (RFC 4291, 2.7.1).
constexpr Ipv6Address solicited_node(const Ipv6Address& address) noexcept {
  return Ipv6Address::from_numbers(0xFF02'0000'0000'0000, 0x1'FF00'0000 | (address.low() & 0xFF'FFFF));
}
// 33:33:XX:XX:XX:XX (RFC 2464, 7).
constexpr MacAddress group_mac(const Ipv6Address& group) noexcept {
  return MacAddress::from_number(0x3333'0000'0000 | (group.low() & 0xFFFF'FFFF));
}

// An ICMPv6 message to be put behind an Ipv6Header with a hop limit of 255.
struct NdpNeighborMessage {
  Icmpv6Type type = Icmpv6Type::neighbor_solicitation;
  Ipv6Address target;
  std::optional<MacAddress> link_address = {};  // left out where the source is ::
  bool router = false;                          // of an advertisement, as the next two
  bool solicited = false;
  bool override = false;

  std::size_t size() const noexcept { return NdpNeighborView::min_size + (link_address ? 8 : 0); }

  // Returns size(), with the checksum 0 (then: fill_transport); or 0, with nothing written, where `out` is shorter.
  std::size_t emit(std::span<std::byte> out) const noexcept {
    if (out.size() < size()) return 0;
    const bool solicits = type == Icmpv6Type::neighbor_solicitation;
    const std::uint32_t flags =
        (router ? 0x8000'0000u : 0) | (solicited ? 0x4000'0000u : 0) | (override ? 0x2000'0000u : 0);
    Icmpv6Header{.type = type, .rest = solicits ? 0 : flags}.emit(out);
    target.store(out.data() + 8);
    if (link_address) {
      const auto option = solicits ? NdpOptionType::source_link_address : NdpOptionType::target_link_address;
      store8(out.data() + 24, static_cast<std::uint8_t>(option));
      store8(out.data() + 25, 1);
      link_address->store(out.data() + 26);
    }
    return size();
  }
};

}  // namespace efnet
