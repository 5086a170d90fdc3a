#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/tables/keyed_hash.h"
#include "efnet/tables/session_store.h"
#include "efnet/tables/table_memory.h"
#include "efnet/tables/tag_index.h"
#include "efnet/tables/tcp_state.h"
#include "efnet/tables/time.h"
#include "efnet/tables/timeout_wheels.h"
#include "efnet/wire/flow.h"

// Who speaks to whom: sessions that are found by the key of either direction.

namespace efnet {

struct TimeoutClass {
  std::string name;  // for people
  Time timeout{};    // since the last packet that refreshed; more than 0, at most 24 days
};

// The classes that RFC 4787, 5382, 5508 and 7857 make of traffic, in the order of this enumeration, with their
// timeouts.
enum class NatClass : std::uint8_t { udp, tcp_transitory, tcp_established, icmp, other };
EFIO_EXPORT std::vector<TimeoutClass> nat_timeout_classes();

struct SessionOptions {
  std::size_t capacity = 65'536;  // sessions, at most 2^30
  std::vector<TimeoutClass> classes = nat_timeout_classes();
  // How many sessions a source may have; 0: as many as there is room for. The source is the first `source_bits` of
  // key.src and the key's domain: all bits of IPv4, /64 of IPv6, where 0 is given.
  std::uint32_t per_source = 0;
  std::uint8_t source_bits = 0;
  std::size_t sources = 0;  // how many may be known at a time; 0: as many as sessions
  // track_tcp(): the classes of connections that are established and of others, and whether windows are checked (32
  // bytes a session more).
  std::uint8_t tcp_established = static_cast<std::uint8_t>(NatClass::tcp_established);
  std::uint8_t tcp_transitory = static_cast<std::uint8_t>(NatClass::tcp_transitory);
  bool tcp_windows = false;
  std::optional<HashSeed> seed;  // the table draws its own where none is given
  bool baseline = false;         // no instructions but those of any x86-64: for tests, and to compare
};

// A session and the direction in which its key was found. Good until the session ends; then the number is used again.
class SessionRef {
 public:
  constexpr SessionRef() noexcept = default;
  constexpr SessionRef(std::uint32_t session, bool reverse) noexcept : bits_(session << 1 | (reverse ? 1 : 0)) {}
  static constexpr SessionRef from_bits(std::uint32_t bits) noexcept {
    SessionRef ref;
    ref.bits_ = bits;
    return ref;
  }
  constexpr explicit operator bool() const noexcept { return bits_ != TagIndex::none; }
  constexpr std::uint32_t session() const noexcept { return bits_ >> 1; }  // below the capacity
  constexpr bool is_reverse() const noexcept { return (bits_ & 1) != 0; }
  constexpr std::uint32_t bits() const noexcept { return bits_; }
  friend constexpr bool operator==(SessionRef, SessionRef) noexcept = default;

 private:
  std::uint32_t bits_ = TagIndex::none;
};

// A session as it was: what expire() and evict() hand back.
template <class Key>
struct Session {
  Key key;
  Key reverse;
  SessionState state;
};

enum class InsertStatus : std::uint8_t {
  inserted,
  exists,        // one of both keys is another session's
  full,          // evict() makes room
  source_limit,  // the source has its number of sessions, or there are too many sources
};

// A table of sessions of one key: FlowKey4, or FlowKey for IPv6 and for both families in one table.
//
// Capacity and memory are fixed at birth: 96 bytes a session of FlowKey4, 152 of FlowKey, with both directions and the
// state; a source limit adds 32 a source. Calls take a batch where a packet's price matters. One thread at a time.
template <class Key>
class SessionTable {
 public:
  static constexpr std::size_t chunk = 32;  // what is in flight at once; any batch may be longer

  // Errors: usage (capacity, classes), memory.
  EFIO_EXPORT static efio::Result<SessionTable> create(SessionOptions options = {});

  std::size_t capacity() const noexcept { return store_.capacity(); }
  std::size_t size() const noexcept { return size_; }
  std::size_t bytes() const noexcept {
    return store_.bytes() + wheels_.bytes() + windows_.bytes() + sources_.bytes() + source_index_.bytes();
  }
  const SessionOptions& options() const noexcept { return options_; }

  // found[i] for keys[i]: a session whose forward or reverse key it is, or none. As many as the shorter of both has.
  // lookup() has the states of those found on their way into the cache; lookup_only() is for who will not look at them.
  EFIO_EXPORT void lookup(std::span<const Key> keys, std::span<SessionRef> found) const noexcept;
  EFIO_EXPORT void lookup_only(std::span<const Key> keys, std::span<SessionRef> found) const noexcept;
  SessionRef lookup(const Key& key) const noexcept {
    SessionRef found;
    lookup({&key, 1}, {&found, 1});
    return found;
  }

  // Of a living session; `value` is the owner's, the rest the table's to change.
  const Key& key(std::uint32_t session, bool reverse = false) const noexcept { return store_.key(session, reverse); }
  const SessionState& state(std::uint32_t session) const noexcept { return store_.state(session); }
  std::uint64_t& value(std::uint32_t session) noexcept { return store_.state(session).value; }
  bool is_live(std::uint32_t session) const noexcept { return session < capacity() && store_.state(session).live; }

  // The session's timeout begins anew. RFC 4787, REQ-6: the owner chooses for which packets; those from inside at
  // least.
  void touch(SessionRef ref, Time now) noexcept {
    store_.state(ref.session()).seen = static_cast<std::uint32_t>(table_time::ticks(now));
  }

  struct New {
    Key key;
    Key reverse;  // key.reversed(), but for a translation
    std::uint8_t timeout_class = 0;
    std::uint64_t value = 0;
  };
  struct Inserted {
    InsertStatus status = InsertStatus::full;
    SessionRef session;  // also where it exists: the one that has the key
  };
  // All that was made of news[i] into made[i], in order. Nothing is changed by those that are not inserted. An unknown
  // class counts as the last one.
  EFIO_EXPORT void insert(std::span<const New> news, Time now, std::span<Inserted> made) noexcept;
  Inserted insert(const New& session, Time now) noexcept {
    Inserted made;
    insert({&session, 1}, now, {&made, 1});
    return made;
  }

  // False where it has ended already.
  EFIO_EXPORT bool erase(std::uint32_t session) noexcept;
  EFIO_EXPORT void clear() noexcept;

  // The class from now on, its timeout counted from the last refresh.
  EFIO_EXPORT void set_class(std::uint32_t session, std::uint8_t timeout_class, Time now) noexcept;

  // As another table knew it: its state, its class, and how long ago it was refreshed.
  EFIO_EXPORT void resume(std::uint32_t session, TcpState tcp, std::uint8_t timeout_class, Time idle,
                          Time now) noexcept;

  struct Tcp {
    bool in_window = true;  // always, without tcp_windows; false: nothing was changed
    TcpState before = TcpState::closed;
    TcpState after = TcpState::closed;
  };
  // A segment of the session, in the direction of the ref: its state, window and class follow. Does not refresh.
  EFIO_EXPORT Tcp track_tcp(SessionRef ref, const TcpSegment& segment, Time now) noexcept;

  struct Expired {
    std::size_t ended = 0;    // the first so many of `gone`
    std::size_t visited = 0;  // looked at, those included that had been refreshed
    bool more = false;        // there may be more due now
  };
  // Ends sessions whose timeout has passed and copies them to `gone`: as many as that holds, and visits at most
  // `most_visits`. A session is looked at once in each of its timeouts, when it falls due; what is not due costs
  // nothing.
  EFIO_EXPORT Expired expire(Time now, std::span<Session<Key>> gone, std::size_t most_visits = SIZE_MAX) noexcept;

  // Ends the session that would expire soonest (of a few that should) in the first of these classes that has any: the
  // order is the policy, and a class that is not named is never evicted. The session as it was.
  EFIO_EXPORT std::optional<Session<Key>> evict(std::span<const std::uint8_t> classes, Time now) noexcept;

  // How many sessions the source of this key has; 0 where no limit is set.
  EFIO_EXPORT std::uint32_t sessions_of(const Key& key) const noexcept;

  // Calls each(session, state) for the living ones from number `from` on, after looking at `most` numbers; returns
  // where to go on, capacity() at the end. Sessions may come and go in between: what lives throughout is met exactly
  // once.
  template <class Each>
  std::uint32_t scan(std::uint32_t from, std::size_t most, Each&& each) const {
    std::uint32_t at = from;
    for (; at < capacity() && most > 0; ++at, --most)
      if (store_.state(at).live) each(at, store_.state(at));
    return at;
  }
  // The same as JSON objects, each followed by a comma: {"src","dst","src_port","dst_port","protocol","domain",
  // "reverse":{…},"class","tcp" (where a state is known),"age_s","idle_s","left_s","value"}.
  EFIO_EXPORT std::uint32_t write_json(std::uint32_t from, std::size_t most, Time now, std::string& out) const;

 private:
  static constexpr std::size_t key_words = sizeof(Key) / 8;

  struct Source {
    std::array<std::uint64_t, 2> key;  // its address bits and the domain: 16 bytes with the count
    std::uint32_t sessions;
    std::uint32_t next_free;
  };

  using Store = SessionStore<Key>;
  using Place = typename Store::Place;

  SessionTable() = default;
  template <bool fetch>
  void lookup_chunks(std::span<const Key> keys, std::span<SessionRef> found) const noexcept;
  Inserted insert_one(const New& session, Place place, Place reverse_place, std::uint64_t now) noexcept;
  std::uint64_t deadline(const SessionState& state, std::uint64_t now) const noexcept;
  Session<Key> copy(std::uint32_t session) const noexcept;
  void forget(std::uint32_t session) noexcept;
  std::array<std::uint64_t, 2> source_key(const Key& key) const noexcept;
  std::uint32_t enter_source(const Key& key) noexcept;
  void leave_source(std::uint32_t source) noexcept;

  SessionOptions options_;
  std::vector<std::uint32_t> timeouts_;  // ticks, by class
  KeyedHash hash_;
  Store store_;
  TimeoutWheels wheels_;
  TableArray<TcpWindows> windows_;
  TagIndex source_index_;
  TableArray<Source> sources_;
  std::uint32_t free_source_ = TagIndex::none;
  std::size_t size_ = 0;
};

extern template class SessionTable<FlowKey4>;
extern template class SessionTable<FlowKey>;

using SessionTable4 = SessionTable<FlowKey4>;
using SessionTable6 = SessionTable<FlowKey>;

}  // namespace efnet
