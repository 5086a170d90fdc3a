#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/tables/keyed_hash.h"
#include "efnet/tables/port_set.h"
#include "efnet/tables/table_memory.h"
#include "efnet/tables/tag_index.h"
#include "efnet/tables/time.h"
#include "efnet/wire/address.h"
#include "efnet/wire/protocol.h"

// Addresses and ports that a NAT lends: each at most once, until it fails because truly none is left.

namespace efnet {

// Addresses and the ports of theirs that may be lent. Several may name the same address with other ports.
struct IppRange {
  Ipv4Range addresses;
  PortRange ports{1024, 65'535};
  bool reserved = false;  // nothing of these addresses is lent but by acquire_from() and take()
};

struct IppOptions {
  std::vector<IppRange> ranges;  // at most 2^20 addresses in all
  // Each has port numbers (ICMP: identifiers) of its own.
  std::vector<IpProtocol> protocols{IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmp};
  // Random: one that nobody can guess, in a place drawn from all, or one of its 63 neighbours where that is lent; among
  // the last few free ones, the next after such a one (RFC 6056, 3.3.1).
  // Sequential: the next after the latest.
  bool sequential = false;
  // How long a port rests after it was given back, at least, and up to a quarter more (RFC 6888, REQ-8: 120 s).
  Time hold_down = std::chrono::seconds(120);
  // Ports per block; 0: none. With blocks, a subscriber gets ports out of blocks of its own only, at most `blocks_each`
  // (RFC 6888, REQ-13 and 14). A power of two, 64 at least.
  std::uint32_t block_size = 0;
  std::uint32_t blocks_each = 4;
  std::size_t subscribers = 65'536;  // that may hold blocks at a time
  std::optional<HashSeed> seed;      // drawn where none is given
};

enum class PortParity : std::uint8_t { any, even, odd };

struct IppRequest {
  std::uint64_t subscriber = 0;  // whoever: an inside address as a number
  IpProtocol protocol = IpProtocol::udp;
  // Wishes, met where possible: this port, this parity (RFC 4787, REQ-4).
  std::uint16_t port = 0;  // 0: no wish
  PortParity parity = PortParity::any;
};

// What is lent.
struct IppBinding {
  Ipv4Address address;
  std::uint16_t port = 0;
  IpProtocol protocol = IpProtocol::udp;
  friend constexpr bool operator==(const IppBinding&, const IppBinding&) noexcept = default;
};

enum class IppStatus : std::uint8_t {
  acquired,
  exhausted,  // no free port of the protocol is left, or no block
  limited,    // all of the subscriber's blocks are full, and it may have no more
  unknown,    // no such protocol
};

struct IppAcquired {
  IppStatus status = IppStatus::exhausted;
  IppBinding binding;
  // The first port of a new block of the subscriber's: to be logged, one line a block (RFC 6888, REQ-12).
  bool opened_block = false;
  explicit operator bool() const noexcept { return status == IppStatus::acquired; }
};

struct IppReleased {
  bool released = false;  // false: it was not lent
  bool closed_block = false;
};

// A subscriber's ports are all of one address (RFC 4787, REQ-2: paired) as long as that has any: the address follows
// from the subscriber by a keyed hash, others serve where it is exhausted. 17 KiB per address and protocol, and 40 KiB
// more with a hold-down.
class IppPool {
 public:
  // Errors: usage (ranges, protocols, blocks), memory.
  EFIO_EXPORT static efio::Result<IppPool> create(IppOptions options);

  std::size_t addresses() const noexcept { return address_count_; }
  std::size_t bytes() const noexcept {
    return sets_.bytes() + held_.bytes() + blocks_.bytes() + subscribers_.bytes() + subscriber_index_.bytes();
  }

  // results[i] for requests[i], in order; as many as the shorter of both has.
  EFIO_EXPORT void acquire(std::span<const IppRequest> requests, Time now, std::span<IppAcquired> results) noexcept;
  IppAcquired acquire(const IppRequest& request, Time now) noexcept {
    IppAcquired result;
    acquire({&request, 1}, now, {&result, 1});
    return result;
  }
  // Out of these ports of this address only, from an even one to an odd one, outside of blocks.
  EFIO_EXPORT IppAcquired acquire_from(Ipv4Address address, PortRange ports, const IppRequest& request,
                                       Time now) noexcept;
  // Lends exactly this (a static mapping), outside of blocks; false where it is not free or not the pool's.
  EFIO_EXPORT bool take(const IppBinding& binding, Time now) noexcept;
  // The same for a subscriber, in a block of its own where there are blocks: what it had in an earlier life. Exhausted
  // where it is not free or the block is another's.
  EFIO_EXPORT IppAcquired take_for(std::uint64_t subscriber, const IppBinding& binding, Time now) noexcept;
  // results[i] of bindings[i], as above.
  EFIO_EXPORT void release(std::span<const IppBinding> bindings, Time now, std::span<IppReleased> results) noexcept;
  IppReleased release(const IppBinding& binding, Time now) noexcept {
    IppReleased result;
    release({&binding, 1}, now, {&result, 1});
    return result;
  }

  // Gives back what was acquired and never used: nobody has seen the port, so it need not rest.
  EFIO_EXPORT IppReleased undo(const IppBinding& binding) noexcept;

  EFIO_EXPORT bool contains(Ipv4Address address) const noexcept;
  // Of one protocol: lent now; free now; the rest are held down.
  EFIO_EXPORT std::size_t lent(IpProtocol protocol) const noexcept;
  EFIO_EXPORT std::size_t free(IpProtocol protocol, Time now) noexcept;
  // The blocks of a subscriber: the first port of each.
  struct Block {
    Ipv4Address address;
    PortRange ports;
    std::uint32_t lent = 0;  // of all protocols
  };
  EFIO_EXPORT std::vector<Block> blocks_of(std::uint64_t subscriber) const;

 private:
  static constexpr std::uint32_t none = TagIndex::none;
  static constexpr unsigned ages = 4;  // a hold-down is so many epochs and what is left of the current one
  static constexpr unsigned held_sets = ages + 1;

  struct Set {
    std::uint64_t epoch;  // up to which held ports were freed
    std::uint32_t lent;
    std::uint32_t cursor;  // sequential: the port after the latest
    std::uint16_t low;     // of the ports that may be lent
    std::uint16_t high;
    PortSet free;
    std::array<std::uint64_t, 1024> taken;
  };
  using Held = std::array<std::uint64_t, 1024>;
  struct BlockRecord {
    std::uint32_t owner;  // subscriber record, or none
    std::uint32_t lent;
    std::uint32_t next;  // of the same owner
    std::uint8_t full;   // by protocol, a bit: no port is free
  };
  struct Subscriber {
    std::uint64_t key;
    std::uint32_t first;  // block
    std::uint32_t blocks;
    std::uint32_t next_free;
  };
  struct Span {  // a run of addresses and the number of its first
    Ipv4Address first;
    Ipv4Address last;
    std::uint32_t number;
  };

  IppPool() = default;
  static void offer(Set& ports, PortRange range) noexcept;
  int protocol_index(IpProtocol protocol) const noexcept { return index_of_[static_cast<std::size_t>(protocol)]; }
  void lend_outside_blocks(std::uint32_t address, unsigned protocol, std::uint32_t place, IppAcquired& result) noexcept;
  void give_block(std::uint32_t block, std::uint32_t subscriber) noexcept;
  std::uint32_t next_open(unsigned protocol, std::uint32_t from) const noexcept;
  // For prefetching only: an unknown protocol is refused later.
  unsigned protocol_or_0(IpProtocol protocol) const noexcept {
    return static_cast<unsigned>(std::max(protocol_index(protocol), 0));
  }
  std::uint32_t number_of(Ipv4Address address) const noexcept;
  Ipv4Address address_of(std::uint32_t number) const noexcept;
  Set& set(std::uint32_t address, unsigned protocol) noexcept { return sets_[address * protocols_ + protocol]; }
  std::uint64_t epoch(Time now) const noexcept;
  void refresh(std::uint32_t address, unsigned protocol, std::uint64_t epoch) noexcept {
    if (set(address, protocol).epoch < epoch) free_held(address, protocol, epoch);
  }
  void free_held(std::uint32_t address, unsigned protocol, std::uint64_t epoch) noexcept;
  std::uint64_t random() noexcept;
  static std::uint32_t guess(std::uint64_t number, PortParity parity, std::uint32_t low, std::uint32_t high) noexcept;
  static std::uint32_t guess_near(const PortSet& free, std::uint32_t place, std::uint32_t begin, std::uint32_t end,
                                  std::uint64_t number) noexcept;
  static std::uint32_t search(const PortSet& free, unsigned half, std::uint32_t low, std::uint32_t size,
                              std::uint32_t offset) noexcept;
  static std::uint32_t pick_next(const Set& set, PortParity parity, std::uint32_t low, std::uint32_t high) noexcept;
  std::uint32_t pick(const Set& set, const IppRequest& request, std::uint32_t first_port, std::uint32_t last_port,
                     std::uint64_t number) noexcept;
  void lend(std::uint32_t address, unsigned protocol, std::uint32_t place, IppAcquired& result) noexcept;
  void acquire_one(const IppRequest& request, std::uint32_t preferred, std::uint64_t epoch, std::uint64_t number,
                   IppAcquired& result) noexcept;
  template <bool rests>
  IppReleased release_one(const IppBinding& binding, std::uint32_t address, std::uint64_t epoch) noexcept;
  void acquire_from_blocks(const IppRequest& request, std::uint64_t hash, std::uint32_t preferred, std::uint64_t epoch,
                           std::uint64_t random_number, IppAcquired& result) noexcept;
  bool try_block(std::uint32_t block, const IppRequest& request, unsigned protocol, std::uint64_t epoch,
                 std::uint64_t random_number, IppAcquired& result) noexcept;
  void prefetch_blocks(std::span<const IppRequest> requests, std::span<const std::uint64_t> hashes,
                       std::span<const std::uint64_t> random_numbers) noexcept;
  void unmark_full(std::uint32_t block, unsigned protocol) noexcept {
    blocks_[block].full = static_cast<std::uint8_t>(blocks_[block].full & ~(1U << protocol));
  }
  std::uint32_t subscriber(std::uint64_t key, std::uint64_t hash) const noexcept;
  std::uint32_t enter(std::uint64_t key, std::uint64_t hash) noexcept;
  void leave(std::uint32_t number) noexcept;
  bool close_block_if_empty(std::uint32_t block) noexcept;

  IppOptions options_;
  unsigned protocols_ = 0;
  std::uint32_t address_count_ = 0;
  std::vector<Span> spans_;
  KeyedHash hash_;
  KeyedHash random_hash_;
  std::array<std::uint64_t, 64> random_{};
  std::size_t random_left_ = 0;
  std::uint64_t random_count_ = 0;
  TableArray<Set> sets_;
  TableArray<Held> held_;
  // By protocol: addresses that may have a free port; all are again when an epoch begins.
  std::size_t open_words_ = 0;
  std::vector<std::uint64_t> open_;
  std::vector<std::uint64_t> lendable_;        // addresses that are not reserved
  std::array<std::uint64_t, 8> open_epoch_{};  // + 1
  std::array<std::int8_t, 256> index_of_{};    // by protocol number; -1: none
  std::uint32_t blocks_per_address_ = 0;
  TableArray<BlockRecord> blocks_;
  TableArray<Subscriber> subscribers_;
  TagIndex subscriber_index_;
  std::uint32_t free_subscriber_ = none;
};

}  // namespace efnet
