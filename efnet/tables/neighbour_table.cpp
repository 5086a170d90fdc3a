#include "efnet/tables/neighbour_table.h"

#include <algorithm>

#include "efio/fail.h"

namespace efnet {

using table_time::ticks;
using table_time::ticks_up;
using table_time::widened;

std::string_view to_string(NeighbourState state) noexcept {
  constexpr std::array<std::string_view, 7> names{"none",  "incomplete", "reachable", "stale",
                                                  "probe", "failed",     "static"};
  return static_cast<std::size_t>(state) < names.size() ? names[static_cast<std::size_t>(state)] : "invalid";
}

std::string_view to_string(ReleaseReason reason) noexcept {
  constexpr std::array<std::string_view, release_reasons> names{"resolved", "unreachable", "replaced", "flushed",
                                                                "evicted"};
  return static_cast<std::size_t>(reason) < names.size() ? names[static_cast<std::size_t>(reason)] : "invalid";
}

template <class Address>
auto NeighbourTable<Address>::words(const Key& key) noexcept -> Words {
  if constexpr (key_words == 1)
    return {std::uint64_t{key.address.number()} << 16 | key.vlan};
  else
    return {key.address.high(), key.address.low(), key.vlan};
}

template <class Address>
efio::Result<NeighbourTable<Address>> NeighbourTable<Address>::create(NeighbourOptions options) {
  constexpr Time longest = std::chrono::hours(24 * 24);
  const auto usage = [](std::string_view why) {
    return efio::fail(efio::Error::Kind::usage, "create a table of neighbours", "{}", why);
  };
  if (options.capacity == 0 || options.capacity > std::size_t{1} << 24)
    return usage("the capacity is not between 1 and 2^24");
  for (const Time time : {options.reachable, options.stale, options.retry, options.failed})
    if (time <= Time::zero() || time > longest) return usage("a time is not between 1 ns and 24 days");
  if (options.tries == 0) return usage("no requests allowed (tries = 0)");
  if (options.waiting_each == 0 || options.waiting == 0 || options.waiting_each > 0xFFFF || options.waiting >= none)
    return usage("no frame may wait, or too many").hint("RFC 1122 asks for one per address at least");

  NeighbourTable table;
  table.timeouts_[failing] = ticks_up(options.failed);
  table.timeouts_[ageing] = ticks_up(options.stale);
  table.timeouts_[asking] = table.timeouts_[probing] = ticks_up(options.retry);
  table.timeouts_[reaching] = ticks_up(options.reachable);
  if (!options.seed) {
    auto seed = HashSeed::random();
    if (!seed) return std::unexpected(std::move(seed.error()));
    options.seed = *seed;
  }
  table.hash_ = KeyedHash(*options.seed);
  auto index = TagIndex::create(options.capacity);
  if (!index) return std::unexpected(std::move(index.error()));
  auto records = TableArray<Record>::create(options.capacity);
  if (!records) return std::unexpected(std::move(records.error()));
  auto timers = TimeoutWheels::create(options.capacity, table.timeouts_);
  if (!timers) return std::unexpected(std::move(timers.error()));
  table.index_ = std::move(*index);
  table.records_ = std::move(*records);
  table.wheels_ = std::move(*timers);
  table.wheels_.free_all();
  table.nodes_.resize(options.waiting);
  for (std::size_t i = options.waiting; i-- > 0;) {
    table.nodes_[i].next = table.free_node_;
    table.free_node_ = static_cast<std::uint32_t>(i);
  }
  table.options_ = std::move(options);
  return table;
}

// ---- The packet path ----

template <class Address>
void NeighbourTable<Address>::lookup(std::span<const Key> keys, Time now, std::span<Neighbour> found) noexcept {
  const std::uint64_t at = ticks(now);
  const std::size_t count = std::min(keys.size(), found.size());
  for (std::size_t done = 0; done < count; done += chunk) {
    const std::size_t these = std::min(chunk, count - done);
    const Key* const wanted = keys.data() + done;
    std::array<Words, chunk> key_words_of;
    std::array<std::uint64_t, chunk> hashes;
    std::array<TagIndex::Place, chunk> places;
    std::array<std::uint32_t, chunk> candidates;
    for (std::size_t i = 0; i < these; ++i) key_words_of[i] = words(wanted[i]);
    hash_.template batch<key_words>(key_words_of.data(), these, hashes.data());
    for (std::size_t i = 0; i < these; ++i) {
      places[i] = index_.place(hashes[i]);
      index_.prefetch(places[i]);
    }
    for (std::size_t i = 0; i < these; ++i) {
      std::uint32_t candidate = index_.first_candidate(places[i]);
      if (candidate == none && index_.overflows(places[i])) candidate = index_.other_candidate(places[i]);
      candidates[i] = candidate;
      __builtin_prefetch(records_.data() + (candidate == none ? 0 : candidate), 1);
    }
    for (std::size_t i = 0; i < these; ++i) {
      std::uint32_t number = candidates[i];
      if (number != none && !is(number, wanted[i])) [[unlikely]]
        number = index_.find(places[i], [&](std::uint32_t other) { return is(other, wanted[i]); });
      if (number == none) {
        found[done + i] = {};
        continue;
      }
      Record& record = records_[number];
      if (record.state == NeighbourState::stale) [[unlikely]]
        ask(number, NeighbourState::probe, at);
      record.used = static_cast<std::uint32_t>(at);
      found[done + i].mac = record.mac;
      found[done + i].state = record.state;
    }
  }
}

template <class Address>
std::uint32_t NeighbourTable<Address>::find_number(const Key& key) const noexcept {
  return index_.find(place(key), [&](std::uint32_t number) { return is(number, key); });
}

// ---- States and times ----

template <class Address>
void NeighbourTable<Address>::unschedule(std::uint32_t number) noexcept {
  const NeighbourState state = records_[number].state;
  if (state != NeighbourState::none && state != NeighbourState::fixed) wheels_.unlink(number);
}

// The state, and when it ends.
template <class Address>
void NeighbourTable<Address>::set_state(std::uint32_t number, NeighbourState state, std::uint64_t now) noexcept {
  unschedule(number);
  Record& record = records_[number];
  record.state = state;
  Wheel wheel = reaching;
  std::uint64_t begin = now;
  switch (state) {
    case NeighbourState::incomplete:
    case NeighbourState::probe:
      wheel = state == NeighbourState::probe ? probing : asking;
      // The first request is due at once, but not within the retry time after one of an earlier attempt.
      begin = std::min(now, widened(record.asked, now));
      break;
    case NeighbourState::reachable:
      break;
    case NeighbourState::stale:
      wheel = ageing;
      break;
    case NeighbourState::failed:
      wheel = failing;
      break;
    case NeighbourState::none:
    case NeighbourState::fixed:
      return;
  }
  wheels_.link(number, wheel, begin + timeouts_[wheel]);
}

// Begins to ask: poll() gives out the request.
template <class Address>
void NeighbourTable<Address>::ask(std::uint32_t number, NeighbourState state, std::uint64_t now) noexcept {
  records_[number].tries = 0;
  set_state(number, state, now);
}

// The address has this MAC.
template <class Address>
void NeighbourTable<Address>::settle(std::uint32_t number, MacAddress mac, NeighbourState state,
                                     std::uint64_t now) noexcept {
  Record& record = records_[number];
  record.mac = mac;
  record.confirmed = static_cast<std::uint32_t>(now);
  record.tries = 0;
  set_state(number, state, now);
  let_go(number, ReleaseReason::resolved);
}

template <class Address>
std::uint32_t NeighbourTable<Address>::make(const Key& key, std::uint64_t now) noexcept {
  if (wheels_.top_free() == TimeoutWheels::none && !evict()) return none;
  const std::uint32_t number = wheels_.pop_free();
  if (!index_.insert(place(key), number)) [[unlikely]] {
    wheels_.push_free(number);
    return none;
  }
  const auto at = static_cast<std::uint32_t>(now);
  // `asked` lies a retry back: a first request is due now.
  records_[number] = {.address = key.address,
                      .vlan = key.vlan,
                      .mac = {},
                      .state = NeighbourState::none,
                      .tries = 0,
                      .waiting = 0,
                      .used = at,
                      .confirmed = at,
                      .asked = static_cast<std::uint32_t>(now - timeouts_[asking]),
                      .first = none};
  ++size_;
  return number;
}

// What nobody needs goes first: failures, what is known but not in use, then the oldest question. What is in use, and
// what is static, stays: a flood of addresses fills the rest of the table only.
template <class Address>
bool NeighbourTable<Address>::evict() noexcept {
  for (const Wheel wheel : {failing, ageing, asking}) {
    const std::uint32_t number = wheels_.soonest(wheel);
    if (number == TimeoutWheels::none) continue;
    records_[number].state = NeighbourState::none;  // out of its wheel already
    remove(number, ReleaseReason::evicted);
    return true;
  }
  return false;
}

template <class Address>
void NeighbourTable<Address>::remove(std::uint32_t number, ReleaseReason reason) noexcept {
  unschedule(number);
  let_go(number, reason);
  Record& record = records_[number];
  index_.erase(place(key_of(record)), number);
  record.state = NeighbourState::none;
  wheels_.push_free(number);
  --size_;
}

// ---- Frames that wait ----

template <class Address>
void NeighbourTable<Address>::let_go_first(std::uint32_t number, ReleaseReason reason) noexcept {
  Record& record = records_[number];
  const std::uint32_t at = record.first;
  Node& node = nodes_[at];
  record.first = node.next;
  --record.waiting;
  node.next = none;
  node.key = key_of(record);
  node.mac = record.mac;
  node.reason = reason;
  (out_last_ == none ? out_first_ : nodes_[out_last_].next) = at;
  out_last_ = at;
}

template <class Address>
void NeighbourTable<Address>::let_go(std::uint32_t number, ReleaseReason reason) noexcept {
  while (records_[number].first != none) let_go_first(number, reason);
}

template <class Address>
auto NeighbourTable<Address>::resolve(const Key& key, efio::Frame& frame, Time now, Neighbour& neighbour) noexcept
    -> Resolution {
  neighbour = lookup(key, now);
  if (neighbour.usable()) return Resolution::ready;
  const std::uint64_t at = ticks(now);
  std::uint32_t number = find_number(key);
  const bool wait = static_cast<bool>(frame);
  // What would be refused leaves no trace.
  const bool replace = number != none && records_[number].waiting >= options_.waiting_each;
  if (wait && free_node_ == none && !replace) return Resolution::refused;
  if (number == none) number = make(key, at);
  if (number == none) return Resolution::refused;
  Record& record = records_[number];
  if (record.state == NeighbourState::none || record.state == NeighbourState::failed)
    ask(number, NeighbourState::incomplete, at);
  neighbour.state = record.state;
  if (!wait) return Resolution::queued;

  if (replace) {
    // Handing the replaced frame out takes a node too, which may be the last one: then the two change places in it.
    if (free_node_ == none) return Resolution::refused;
    let_go_first(number, ReleaseReason::replaced);
  }
  const std::uint32_t node = free_node_;
  free_node_ = nodes_[node].next;
  nodes_[node].frame = std::move(frame);
  nodes_[node].next = none;
  std::uint32_t* link = &record.first;
  while (*link != none) link = &nodes_[*link].next;
  *link = node;
  ++record.waiting;
  ++waiting_;
  return Resolution::queued;
}

template <class Address>
std::size_t NeighbourTable<Address>::release(std::span<Released> out) noexcept {
  std::size_t count = 0;
  while (count < out.size() && out_first_ != none) {
    const std::uint32_t at = out_first_;
    Node& node = nodes_[at];
    out[count++] = {std::move(node.frame), node.key, node.mac, node.reason};
    node.frame = efio::Frame();
    out_first_ = node.next;
    if (out_first_ == none) out_last_ = none;
    node.next = free_node_;
    free_node_ = at;
    --waiting_;
  }
  return count;
}

// ---- Learning ----

template <class Address>
bool NeighbourTable<Address>::add(const Key& key, MacAddress mac, Time now) noexcept {
  const std::uint64_t at = ticks(now);
  std::uint32_t number = find_number(key);
  if (number == none) number = make(key, at);
  if (number == none) return false;
  settle(number, mac, NeighbourState::fixed, at);
  return true;
}

template <class Address>
Learned NeighbourTable<Address>::learn(const Key& key, MacAddress mac, Learn how, Time now) noexcept {
  const std::uint64_t at = ticks(now);
  std::uint32_t number = find_number(key);
  if (number == none) {
    if (how != Learn::create) return Learned::nothing;
    number = make(key, at);
    if (number == none) return Learned::full;
    settle(number, mac, NeighbourState::stale, at);
    return Learned::created;
  }
  Record& record = records_[number];
  const bool same = record.mac == mac;
  if (record.state == NeighbourState::fixed) return same ? Learned::same : Learned::fixed;
  const bool asked = record.state == NeighbourState::incomplete || record.state == NeighbourState::failed;
  if (how == Learn::doubt) {
    if (record.state == NeighbourState::reachable) set_state(number, NeighbourState::stale, at);
    return Learned::same;
  }
  if (how == Learn::confirm || (asked && how != Learn::hearsay)) {
    settle(number, mac, NeighbourState::reachable, at);
  } else if (!same) {
    // Said unasked: good enough to send to, and to be verified when it is used.
    settle(number, mac, NeighbourState::stale, at);
  } else if (record.state == NeighbourState::stale) {
    settle(number, mac, NeighbourState::stale, at);
  }
  return same && !asked ? Learned::same : Learned::changed;
}

template <class Address>
bool NeighbourTable<Address>::confirm(const Key& key, Time now) noexcept {
  const std::uint32_t number = find_number(key);
  if (number == none) return false;
  const Record& record = records_[number];
  if (record.state == NeighbourState::fixed) return true;
  if (!Neighbour{record.mac, record.state}.usable()) return false;
  settle(number, record.mac, NeighbourState::reachable, ticks(now));
  return true;
}

template <class Address>
std::size_t NeighbourTable<Address>::flush(const Flush& which) noexcept {
  const auto fits = [&](const Record& record) {
    return record.state != NeighbourState::none && (!which.address || record.address == *which.address) &&
           (!which.vlan || record.vlan == *which.vlan) &&
           !(which.learned_only && record.state == NeighbourState::fixed);
  };
  if (which.address && which.vlan) {
    const std::uint32_t number = find_number({*which.address, *which.vlan});
    if (number == none || !fits(records_[number])) return 0;
    remove(number, ReleaseReason::flushed);
    return 1;
  }
  std::size_t count = 0;
  for (std::size_t i = 0; i < records_.size(); ++i) {
    if (!fits(records_[i])) continue;
    remove(static_cast<std::uint32_t>(i), ReleaseReason::flushed);
    ++count;
  }
  return count;
}

// ---- Time ----

// A record whose time has come and which is in no wheel now. True where `due` is a request to send.
template <class Address>
bool NeighbourTable<Address>::step(std::uint32_t number, std::uint64_t now, Solicit& due) noexcept {
  Record& record = records_[number];
  const NeighbourState state = std::exchange(record.state, NeighbourState::none);  // none: in no wheel
  switch (state) {
    case NeighbourState::incomplete:
    case NeighbourState::probe:
      // After a long time without poll() the wheels may be early.
      if (widened(record.asked, now) + timeouts_[asking] > now) {
        set_state(number, state, now);
        return false;
      }
      if (record.tries >= options_.tries) {
        record.mac = {};
        set_state(number, NeighbourState::failed, now);
        let_go(number, ReleaseReason::unreachable);
        return false;
      }
      ++record.tries;
      record.asked = static_cast<std::uint32_t>(now);
      set_state(number, state, now);
      due = {key_of(record), state == NeighbourState::probe ? record.mac : MacAddress()};
      return true;
    case NeighbourState::reachable: {
      // In use since it was confirmed: ask again before it is too old. Else let it be.
      const bool in_use = static_cast<std::int32_t>(record.used - record.confirmed) > 0;
      if (in_use)
        ask(number, NeighbourState::probe, now);
      else
        set_state(number, NeighbourState::stale, now);
      return false;
    }
    case NeighbourState::stale:
    case NeighbourState::failed:
      remove(number, ReleaseReason::unreachable);
      return false;
    case NeighbourState::none:
    case NeighbourState::fixed:
      break;
  }
  return false;
}

template <class Address>
std::size_t NeighbourTable<Address>::poll(Time now, std::span<Solicit> due) noexcept {
  const std::uint64_t at = ticks(now);
  std::size_t count = 0;
  for (const Wheel wheel : {reaching, ageing, failing, probing, asking}) {
    while (count < due.size()) {
      const std::uint32_t number = wheels_.next_due(wheel, at);
      if (number == TimeoutWheels::none) break;
      if (step(number, at, due[count])) ++count;
    }
  }
  return count;
}

// ---- Reports ----

template <class Address>
auto NeighbourTable<Address>::describe(const Record& record, Time now) const noexcept -> Entry {
  const std::uint64_t at = ticks(now);
  const auto since = [at](std::uint32_t then) { return table_time::from_ticks(at - std::min(at, widened(then, at))); };
  return {.key = key_of(record),
          .neighbour = {record.mac, record.state},
          .idle = since(record.used),
          .confirmed = since(record.confirmed),
          .waiting = record.waiting,
          .tries = record.tries};
}

template <class Address>
auto NeighbourTable<Address>::entry(std::size_t at, Time now) const noexcept -> std::optional<Entry> {
  if (at >= records_.size() || records_[at].state == NeighbourState::none) return std::nullopt;
  return describe(records_[at], now);
}

template <class Address>
auto NeighbourTable<Address>::find(const Key& key, Time now) const noexcept -> std::optional<Entry> {
  const std::uint32_t number = find_number(key);
  if (number == none) return std::nullopt;
  return describe(records_[number], now);
}

template class NeighbourTable<Ipv4Address>;
template class NeighbourTable<Ipv6Address>;

}  // namespace efnet
