#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "efio/export.h"
#include "efio/pool.h"
#include "efio/result.h"
#include "efnet/tables/keyed_hash.h"
#include "efnet/tables/table_memory.h"
#include "efnet/tables/tag_index.h"
#include "efnet/tables/time.h"
#include "efnet/tables/timeout_wheels.h"
#include "efnet/wire/address.h"

// What ArpTable and NdpTable share: which link-layer address an address on the link has, and what waits to know it.
// The states are those of RFC 4861, 7.3.2, with DELAY and PROBE in one; RFC 1122, 2.3.2, asks no less of ARP.

namespace efnet {

enum class NeighbourState : std::uint8_t {
  none,        // not in the table
  incomplete,  // asked for, no answer yet
  reachable,   // confirmed within the reachable time
  stale,       // known, not confirmed lately and not in use
  probe,       // known, in use and being asked again, by unicast
  failed,      // asked for in vain
  fixed,       // static: never aged, changed, or evicted
};
EFIO_EXPORT std::string_view to_string(NeighbourState state) noexcept;

// What a lookup says. There is a `mac` to send to where usable().
struct Neighbour {
  MacAddress mac;
  NeighbourState state = NeighbourState::none;

  constexpr bool usable() const noexcept {
    return state == NeighbourState::reachable || state == NeighbourState::stale || state == NeighbourState::probe ||
           state == NeighbourState::fixed;
  }
};

struct NeighbourOptions {
  std::size_t capacity = 4096;                // addresses, static ones included; at most 2^24
  Time reachable = std::chrono::seconds(30);  // from a confirmation until it is asked again (in use) or stale (not)
  Time stale = std::chrono::seconds(300);     // until an unused one is forgotten
  Time retry = std::chrono::seconds(1);    // between requests to one address (RFC 1122, 2.3.2.1: one a second at most)
  std::uint8_t tries = 3;                  // requests without an answer until it has failed
  Time failed = std::chrono::seconds(20);  // until a failure is forgotten
  std::size_t waiting = 1024;              // frames kept for unresolved addresses, all together
  std::size_t waiting_each = 3;            // and for one address; RFC 1122, 2.3.2.2: one at least, the latest
  std::optional<HashSeed> seed;            // drawn where none is given
};

// Why a frame that waited is let go.
enum class ReleaseReason : std::uint8_t {
  resolved,     // send it to `mac`
  unreachable,  // no answer
  replaced,     // later frames for the same address took its place
  flushed,      // the address was flushed
  evicted,      // the address made room for another
};
inline constexpr std::size_t release_reasons = 5;
EFIO_EXPORT std::string_view to_string(ReleaseReason reason) noexcept;

// Who may enter what, when learning.
enum class Learn : std::uint8_t {
  update,   // change an entry that is there (RFC 826: "merge"); it counts as confirmed where it was waited for
  create,   // make a new one also; unconfirmed
  confirm,  // the answer to a request: reachable from now on. Changes only an entry that is there.
  hearsay,  // as update, but unconfirmed also where it was waited for
  doubt,    // no longer confirmed, if it is there
};
enum class Learned : std::uint8_t {
  nothing,  // no such entry, and none was to be made
  same,     // known already
  changed,  // the entry has another MAC now
  created,
  fixed,  // a static entry says otherwise, and stays
  full,   // nothing that may be evicted
};
// The same as an event of ARP or neighbour discovery.
template <class Event>
constexpr Event event_of(Learned learned) noexcept {
  switch (learned) {
    case Learned::same:
      return Event::known;
    case Learned::changed:
      return Event::changed;
    case Learned::created:
      return Event::learned;
    case Learned::fixed:
      return Event::fixed;
    case Learned::full:
      return Event::full;
    default:
      return Event::ignored;
  }
}

template <class Address>
class NeighbourTable {
 public:
  static constexpr std::size_t chunk = 32;
  static constexpr std::uint16_t no_vlan = 0;

  struct Key {
    Address address;
    std::uint16_t vlan = no_vlan;
    friend constexpr bool operator==(const Key&, const Key&) noexcept = default;
  };
  struct Solicit {  // a request that is due: to `mac`, or to all where that is zero
    Key key;
    MacAddress mac;
  };
  struct Released {
    efio::Frame frame;
    Key key;
    MacAddress mac;
    ReleaseReason reason = ReleaseReason::resolved;
  };
  enum class Resolution : std::uint8_t {
    ready,    // `neighbour` has the MAC; the frame stays the caller's
    queued,   // the frame is kept and comes out of release()
    refused,  // no room for the address or the frame, which stays the caller's
  };

  // Errors: usage (sizes, times), memory.
  EFIO_EXPORT static efio::Result<NeighbourTable> create(NeighbourOptions options = {});

  std::size_t capacity() const noexcept { return records_.size(); }
  std::size_t size() const noexcept { return size_; }
  std::size_t waiting() const noexcept { return waiting_; }  // frames, those to be fetched by release() included
  std::size_t bytes() const noexcept { return index_.bytes() + records_.bytes() + wheels_.bytes(); }
  const NeighbourOptions& options() const noexcept { return options_; }

  // The packet path: found[i] for keys[i], as many as the shorter of both has. What is found counts as in use.
  EFIO_EXPORT void lookup(std::span<const Key> keys, Time now, std::span<Neighbour> found) noexcept;
  Neighbour lookup(const Key& key, Time now) noexcept {
    Neighbour found;
    lookup({&key, 1}, now, {&found, 1});
    return found;
  }

  // For a frame whose lookup found nothing usable: asks for the address if nobody does yet, and keeps the frame.
  // Several frames of one address cause one request; the oldest goes when there are too many. An empty frame only asks.
  EFIO_EXPORT Resolution resolve(const Key& key, efio::Frame& frame, Time now, Neighbour& neighbour) noexcept;

  // A static entry; it takes the place of a learned one. False where the table is full of what may not be evicted.
  EFIO_EXPORT bool add(const Key& key, MacAddress mac, Time now) noexcept;
  EFIO_EXPORT Learned learn(const Key& key, MacAddress mac, Learn how, Time now) noexcept;
  // Somebody above the link heard from it (RFC 4861, 7.3.1): as good as an answer. False where it is not known.
  EFIO_EXPORT bool confirm(const Key& key, Time now) noexcept;

  struct Flush {
    std::optional<Address> address;
    std::optional<std::uint16_t> vlan;
    bool learned_only = false;  // static entries stay
  };
  // Forgets the entries that fit; how many. All of the table is looked at unless both address and VLAN are given.
  EFIO_EXPORT std::size_t flush(const Flush& which) noexcept;
  std::size_t flush() noexcept { return flush(Flush{}); }

  // What is due by `now`: requests to send, as many as `due` holds, and everything that ages. A request counts as sent.
  // Call it every 100 ms or so.
  EFIO_EXPORT std::size_t poll(Time now, std::span<Solicit> due) noexcept;
  // The same as messages, which make(solicit) returns, or nothing where there is nobody to ask it; the address then
  // fails in time.
  template <class Message, class Make>
  std::size_t poll(Time now, std::span<Message> out, Make make) noexcept {
    std::size_t count = 0;
    std::array<Solicit, chunk> due;
    while (count < out.size()) {
      const std::size_t most = std::min(due.size(), out.size() - count);
      const std::size_t asked = poll(now, std::span(due).first(most));
      for (std::size_t i = 0; i < asked; ++i)
        if (const std::optional<Message> message = make(due[i])) out[count++] = *message;
      if (asked < most) break;
    }
    return count;
  }

  // Frames that wait no longer, in the order in which that was decided: as many as `out` holds.
  EFIO_EXPORT std::size_t release(std::span<Released> out) noexcept;

  struct Entry {
    Key key;
    Neighbour neighbour;
    Time idle{};       // since the last use, or since it was made
    Time confirmed{};  // since it was confirmed, or learned
    std::size_t waiting = 0;
    std::uint8_t tries = 0;
  };
  // Entry number `at` of capacity(), where there is one: for reports and iteration while running.
  EFIO_EXPORT std::optional<Entry> entry(std::size_t at, Time now) const noexcept;
  EFIO_EXPORT std::optional<Entry> find(const Key& key, Time now) const noexcept;

 private:
  static constexpr std::uint32_t none = TagIndex::none;
  // The wheels, and the order of eviction: the first three may go.
  enum Wheel : std::uint8_t { failing, ageing, asking, probing, reaching, wheels };
  static constexpr std::size_t key_words = sizeof(Address) == 4 ? 1 : 3;

  struct alignas(sizeof(Address) == 4 ? 32 : 64) Record {
    Address address;
    std::uint16_t vlan;
    MacAddress mac;
    NeighbourState state;
    std::uint8_t tries;
    std::uint16_t waiting;  // frames
    std::uint32_t used;     // ticks
    std::uint32_t confirmed;
    std::uint32_t asked;
    std::uint32_t first;  // frame
  };
  static_assert(sizeof(Record) == (sizeof(Address) == 4 ? 32 : 64));

  struct Node {
    efio::Frame frame;
    std::uint32_t next = none;
    Key key;
    MacAddress mac;
    ReleaseReason reason{};
  };

  using Words = std::array<std::uint64_t, key_words>;
  static Words words(const Key& key) noexcept;
  static Key key_of(const Record& record) noexcept { return {record.address, record.vlan}; }
  TagIndex::Place place(const Key& key) const noexcept { return index_.place(hash_(words(key))); }
  bool is(std::uint32_t number, const Key& key) const noexcept {
    const Record& record = records_[number];
    return record.address == key.address && record.vlan == key.vlan;
  }
  std::uint32_t find_number(const Key& key) const noexcept;
  std::uint32_t make(const Key& key, std::uint64_t now) noexcept;
  bool evict() noexcept;
  void remove(std::uint32_t number, ReleaseReason reason) noexcept;
  void set_state(std::uint32_t number, NeighbourState state, std::uint64_t now) noexcept;
  void unschedule(std::uint32_t number) noexcept;
  void ask(std::uint32_t number, NeighbourState state, std::uint64_t now) noexcept;
  void settle(std::uint32_t number, MacAddress mac, NeighbourState state, std::uint64_t now) noexcept;
  void let_go(std::uint32_t number, ReleaseReason reason) noexcept;
  void let_go_first(std::uint32_t number, ReleaseReason reason) noexcept;
  bool step(std::uint32_t number, std::uint64_t now, Solicit& due) noexcept;
  Entry describe(const Record& record, Time now) const noexcept;

  NeighbourOptions options_;
  std::array<std::uint64_t, wheels> timeouts_{};  // ticks
  KeyedHash hash_;
  TagIndex index_;
  TableArray<Record> records_;
  TimeoutWheels wheels_;
  std::size_t size_ = 0;
  std::vector<Node> nodes_;
  std::uint32_t free_node_ = none;
  std::uint32_t out_first_ = none;
  std::uint32_t out_last_ = none;
  std::size_t waiting_ = 0;
};

extern template class NeighbourTable<Ipv4Address>;
extern template class NeighbourTable<Ipv6Address>;

}  // namespace efnet
