#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "efio/export.h"
#include "efio/prefetch.h"
#include "efio/result.h"
#include "efnet/tables/keyed_hash.h"
#include "efnet/tables/table_memory.h"
#include "efnet/tables/tag_index.h"
#include "efnet/tables/tcp_state.h"
#include "efnet/wire/flow.h"

// Where SessionTable keeps sessions and finds them by either key. A session has a number; a key's number is twice the
// session's, plus 1 for the reverse direction.

namespace efnet {

// What is kept of a session besides its keys. `value` is the owner's.
struct SessionState {
  std::uint64_t value = 0;
  std::uint32_t seen = 0;  // ticks of table_time: the last refresh, and the making
  std::uint32_t made = 0;
  std::uint32_t source = 0;
  std::uint8_t timeout_class = 0;
  TcpState tcp = TcpState::closed;
  bool live = false;
  std::uint8_t spare = 0;
};
static_assert(sizeof(SessionState) == 24);

template <class Key>
class SessionStore;

// IPv4: a key is 16 bytes, and three of them lie in a cache line beside their numbers; the state, 32 bytes, is another
// line. An entry lies in the first or the second line that the hash names. Two bits per line, an array that stays in
// the second-level cache, tell whether any entry of it lies elsewhere, in a line of even or of odd number: so a lookup
// knows before it reads memory which lines it needs (1.2 of them in a full table), asks for them at once, and compares
// without branches, which leaves the processor free to begin the next batch meanwhile. Where a session's keys lie is
// kept in its record.
//
// `reserved` is 0 in the keys of sessions: a free entry is told by it.
template <>
class SessionStore<FlowKey4> {
 public:
  static constexpr std::uint32_t none = TagIndex::none;

  // Errors: memory.
  static efio::Result<SessionStore> create(std::size_t capacity, const KeyedHash& hash, bool baseline);

  std::size_t capacity() const noexcept { return records_.size(); }
  std::size_t bytes() const noexcept { return lines_.bytes() + overflowing_.bytes() + records_.bytes(); }
  SessionState& state(std::uint32_t session) noexcept { return records_[session].state; }
  const SessionState& state(std::uint32_t session) const noexcept { return records_[session].state; }
  // Of a session that lives.
  const FlowKey4& key(std::uint32_t session, bool reverse) const noexcept {
    const std::uint32_t at = records_[session].position[reverse ? 1 : 0];
    return lines_[at / 4].key[at % 4];
  }

  struct Place {
    std::uint32_t line;
    std::uint32_t second;
  };
  Place place(std::uint64_t hash) const noexcept {
    return {static_cast<std::uint32_t>(((hash >> 32) * line_count_) >> 32),
            static_cast<std::uint32_t>(((hash & 0xFFFF'FFFF) * line_count_) >> 32)};
  }
  // For find(): `second` is where it must look too, which is `line` again where nothing of that lies elsewhere.
  Place search_place(std::uint64_t hash) const noexcept {
    Place found = place(hash);
    const std::uint64_t bit = std::uint64_t{found.line} * 2 + found.second % 2;
    const std::uint64_t elsewhere = overflowing_[bit / 64] >> bit % 64 & 1;
    found.second = elsewhere != 0 ? found.second : found.line;
    return found;
  }
  void prefetch(Place place) const noexcept {
    __builtin_prefetch(lines_.data() + place.line);
    __builtin_prefetch(lines_.data() + place.second);
  }
  void prefetch_state(std::uint32_t session) const noexcept { __builtin_prefetch(records_.data() + session); }
  // What find_homes() and key() will read; the state is there.
  void prefetch_keys(std::uint32_t session) const noexcept {
    for (const std::uint32_t at : records_[session].position) efio::prefetch_for_writing(lines_.data() + at / 4);
  }

  // numbers[i] of the key keys[i], whose lines (of search_place) have been prefetched. With `fetch`, the states are on
  // their way afterwards.
  template <bool fetch>
  void find(const FlowKey4* keys, const Place* places, std::size_t count, std::uint32_t* numbers) const noexcept {
    find_[fetch ? 1 : 0](*this, keys, places, count, numbers);
  }

  // Both keys, which are not there; or false, and nothing done, where no room was found.
  bool insert(std::uint32_t session, const FlowKey4& forward, Place place, const FlowKey4& backward,
              Place reverse_place) noexcept;
  // To end up to 32 sessions at once: find_homes() has all that erase() will touch on its way into the cache; nothing
  // may be inserted in between.
  static constexpr std::size_t most_erased = 32;
  struct Homes {  // first lines of keys that lie in their second one
    std::size_t count = 0;
    std::array<std::uint32_t, 2 * most_erased> line;
    std::array<std::uint32_t, 2 * most_erased> second;
  };
  void find_homes(std::span<const std::uint32_t> sessions, Homes& homes) const noexcept;
  void erase(std::span<const std::uint32_t> sessions, const Homes& homes) noexcept;
  void clear() noexcept;

 private:
  static constexpr unsigned ways = 3;
  static constexpr unsigned all = (1U << ways) - 1;

  struct alignas(64) Line {
    std::array<FlowKey4, ways> key;
    std::array<std::uint32_t, ways> number;
    std::array<std::uint8_t, 2> overflow;  // how many entries of this line lie in their second one, even or odd
    std::uint8_t used;                     // which of the three are entries
    std::uint8_t displaced;                // which of them belong to other lines
  };
  static_assert(sizeof(Line) == 64);
  struct Record {
    SessionState state;
    std::array<std::uint32_t, 2> position;  // line * 4 + way, of both keys
  };
  static_assert(sizeof(Record) == 32);

  using Find = void (*)(const SessionStore&, const FlowKey4*, const Place*, std::size_t, std::uint32_t*) noexcept;
  template <bool fetch>
  static void find_plain(const SessionStore&, const FlowKey4*, const Place*, std::size_t, std::uint32_t*) noexcept;
  template <bool fetch>
  static void find_avx512(const SessionStore&, const FlowKey4*, const Place*, std::size_t, std::uint32_t*) noexcept;
  static std::array<Find, 2> choose_find(bool baseline) noexcept;
  Place place_of(const FlowKey4& key) const noexcept { return place(hash_(key.words())); }
  bool insert_key(std::uint32_t number, const FlowKey4& key, Place place) noexcept;
  void erase_key(std::uint32_t number) noexcept;
  bool put(std::uint32_t at, const FlowKey4& key, std::uint32_t number, bool displaced) noexcept;
  static void free_way(Line& line, unsigned way) noexcept;
  // An entry of the line may lie in its second one: the count has room.
  bool may_overflow(std::uint32_t line, std::uint32_t second) const noexcept {
    return second != line && lines_[line].overflow[second % 2] != 0xFF;
  }
  void add_overflow(std::uint32_t line, std::uint32_t second, int by) noexcept;
  void move(std::uint32_t from, unsigned way, std::uint32_t to) noexcept;
  bool make_room(Place place) noexcept;

  KeyedHash hash_;
  std::array<Find, 2> find_{};  // without and with fetching
  TableArray<Line> lines_;
  TableArray<std::uint64_t> overflowing_;  // two bits a line: overflow != 0
  std::uint64_t line_count_ = 1;
  TableArray<Record> records_;
};

// Longer keys lie in the record, a direction's in each of its two lines, and are found by their tags: a lookup reads a
// line of the index and one of the record, which for the forward direction has the state too.
template <>
class SessionStore<FlowKey> {
 public:
  static constexpr std::uint32_t none = TagIndex::none;
  using Place = TagIndex::Place;

  // Errors: memory.
  static efio::Result<SessionStore> create(std::size_t capacity, const KeyedHash& hash, bool baseline);

  std::size_t capacity() const noexcept { return records_.size(); }
  std::size_t bytes() const noexcept { return index_.bytes() + records_.bytes(); }
  SessionState& state(std::uint32_t session) noexcept { return records_[session].state; }
  const SessionState& state(std::uint32_t session) const noexcept { return records_[session].state; }
  const FlowKey& key(std::uint32_t session, bool reverse) const noexcept {
    const Record& record = records_[session];
    return reverse ? record.backward : record.forward;
  }

  Place place(std::uint64_t hash) const noexcept { return index_.place(hash); }
  Place search_place(std::uint64_t hash) const noexcept { return place(hash); }
  void prefetch(Place place) const noexcept { index_.prefetch(place); }
  void prefetch_state(std::uint32_t session) const noexcept {
    __builtin_prefetch(&records_[session].forward);
    __builtin_prefetch(&records_[session].backward);
  }
  void prefetch_keys(std::uint32_t) const noexcept {}  // prefetch_state() has them

  template <bool fetch>
  void find(const FlowKey* keys, const Place* places, std::size_t count, std::uint32_t* numbers) const noexcept;
  std::uint32_t find(const FlowKey& key, Place place) const noexcept {
    return index_.find(place, [&](std::uint32_t number) { return this->key(number >> 1, (number & 1) != 0) == key; });
  }

  bool insert(std::uint32_t session, const FlowKey& forward, Place place, const FlowKey& backward,
              Place reverse_place) noexcept;
  static constexpr std::size_t most_erased = 32;
  struct Homes {
    std::array<Place, 2 * most_erased> places;
  };
  void find_homes(std::span<const std::uint32_t> sessions, Homes& homes) const noexcept;
  void erase(std::span<const std::uint32_t> sessions, const Homes& homes) noexcept;
  void clear() noexcept;

 private:
  struct alignas(64) Record {
    FlowKey forward;
    SessionState state;
    FlowKey backward;
    std::array<std::uint64_t, 3> spare;
  };
  static_assert(sizeof(Record) == 128);

  KeyedHash hash_;
  TagIndex index_;
  TableArray<Record> records_;
};

}  // namespace efnet
