#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/tables/table_memory.h"
#include "efnet/wire/address.h"

// For those who want routes: the longest prefix that contains an address says what to do with it. What that is belongs
// to the owner: a number, such as that of a gateway, whose MAC its ArpTable knows.

namespace efnet {

using RouteNumber = std::uint32_t;                   // the owner's, below max_route
inline constexpr RouteNumber max_route = 0x7F'FFFF;  // 2^23 - 1
inline constexpr RouteNumber no_route = 0xFFFF'FFFF;

struct RouteOptions {
  std::size_t capacity = 65'536;  // prefixes
  // Blocks of 256 entries for prefixes that are longer than the first step (16 bits): one per distinct start of 16, 24,
  // … bits that longer prefixes have.
  std::size_t blocks = 8'192;
};

enum class RouteStatus : std::uint8_t {
  done,
  full,     // no room for a prefix more, or for its blocks; nothing was changed
  absent,   // remove: there is no such prefix
  invalid,  // a length above the address's bits, or a number above max_route
};

// A trie of 16 bits and then of 8 at a time: IPv4 is looked up in 1 to 3 steps, IPv6 in as many as its prefix needs.
// The shorter prefix is pushed down into the entries of the longer ones, so that a lookup never goes back. 256 KiB, and
// 1 KiB a block; prefixes are kept beside it to find again what a removed one covered.
template <class Address>
class Routes {
 public:
  // Errors: usage, memory.
  EFIO_EXPORT static efio::Result<Routes> create(RouteOptions options = {});

  // The host bits of the prefix count for nothing. A prefix that is there gets the new number.
  EFIO_EXPORT RouteStatus add(const Prefix<Address>& prefix, RouteNumber number) noexcept;
  EFIO_EXPORT RouteStatus remove(const Prefix<Address>& prefix) noexcept;
  // Of exactly this prefix; no_route where it is absent.
  EFIO_EXPORT RouteNumber find(const Prefix<Address>& prefix) const noexcept;

  // numbers[i] of the longest prefix that contains addresses[i], or no_route; as many as the shorter of both has.
  EFIO_EXPORT void lookup(std::span<const Address> addresses, std::span<RouteNumber> numbers) const noexcept;
  RouteNumber lookup(const Address& address) const noexcept {
    RouteNumber number;
    lookup({&address, 1}, {&number, 1});
    return number;
  }

  std::size_t size() const noexcept { return size_; }
  std::size_t capacity() const noexcept { return rules_.size(); }
  std::size_t bytes() const noexcept { return root_.bytes() + blocks_.bytes() + rules_.bytes() + heads_.bytes(); }
  std::size_t blocks_free() const noexcept { return free_blocks_; }

  struct Route {
    Prefix<Address> prefix;
    RouteNumber number;
  };
  EFIO_EXPORT std::vector<Route> all() const;

 private:
  // Bit 31: the rest is a block's number. Else bits 0-22: the route's number + 1, 0 for none; bits 23-30: the prefix's
  // length, by which a shorter prefix knows what it must not overwrite.
  using Entry = std::uint32_t;
  static constexpr Entry is_block = 0x8000'0000;
  static constexpr unsigned length_shift = 23;
  static constexpr unsigned root_bits = 16;
  static constexpr unsigned block_bits = 8;
  static constexpr std::size_t block_size = 1U << block_bits;
  static constexpr std::uint32_t none = 0xFFFF'FFFF;

  struct Rule {
    Address address;
    std::uint32_t next;  // of the same bucket, or of the free
    RouteNumber number;
    std::uint8_t length;
    bool live;
  };

  static Entry entry_of(RouteNumber number, unsigned length) noexcept { return length << length_shift | (number + 1); }
  static RouteNumber number_of(Entry entry) noexcept { return (entry & ((1U << length_shift) - 1)) - 1; }
  static unsigned length_of(Entry entry) noexcept { return entry >> length_shift; }
  static unsigned step(const Address& address, unsigned level) noexcept;

  std::size_t bucket(const Prefix<Address>& prefix) const noexcept;
  std::uint32_t find_rule(const Prefix<Address>& prefix) const noexcept;
  std::uint32_t covering(const Prefix<Address>& prefix) const noexcept;
  std::span<Entry> block(std::uint32_t number) const noexcept { return {&blocks_[number * block_size], block_size}; }
  std::size_t blocks_missing(const Prefix<Address>& prefix) const noexcept;
  void write(const Prefix<Address>& prefix, Entry entry) noexcept;
  void fill(std::span<Entry> entries, Entry entry, unsigned length) noexcept;
  void fold(const Prefix<Address>& prefix) noexcept;

  TableArray<Entry> root_;
  TableArray<Entry> blocks_;
  std::uint32_t free_block_ = none;
  std::size_t free_blocks_ = 0;
  TableArray<Rule> rules_;
  TableArray<std::uint32_t> heads_;
  std::uint32_t free_rule_ = none;
  std::size_t size_ = 0;
};

extern template class Routes<Ipv4Address>;
extern template class Routes<Ipv6Address>;

using Routes4 = Routes<Ipv4Address>;
using Routes6 = Routes<Ipv6Address>;

}  // namespace efnet
