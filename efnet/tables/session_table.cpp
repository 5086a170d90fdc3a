#include "efnet/tables/session_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "efio/fail.h"

namespace efnet {
namespace {

using efio::Error;
using table_time::ticks;
using table_time::widened;

constexpr std::string_view creating = "create a session table";
constexpr std::uint32_t no_source = TagIndex::none;
// Half the range of 32-bit ticks, less the lag of a wheel.
constexpr Time longest_timeout = std::chrono::hours(24 * 24);

// The number of a family's address words that count, and how.
std::uint64_t high_bits(std::uint64_t value, unsigned bits) noexcept {
  return bits == 0 ? 0 : bits >= 64 ? value : value & ~std::uint64_t{0} << (64 - bits);
}

}  // namespace

std::vector<TimeoutClass> nat_timeout_classes() {
  using namespace std::chrono_literals;
  return {{"udp", 300s},               // RFC 4787, REQ-5
          {"tcp_transitory", 240s},    // RFC 5382, REQ-5
          {"tcp_established", 7440s},  // RFC 5382, REQ-5
          {"icmp", 60s},               // RFC 5508, REQ-2
          {"other", 600s}};
}

template <class Key>
efio::Result<SessionTable<Key>> SessionTable<Key>::create(SessionOptions options) {
  const auto usage = [](auto text, auto... arguments) {
    return efio::fail(Error::Kind::usage, std::string(creating), text, arguments...);
  };
  if (options.capacity == 0 || options.capacity > std::size_t{1} << 30)
    return usage(FMT_STRING("a capacity of {}"), options.capacity).hint("between 1 and 2^30 sessions");
  if (options.classes.empty() || options.classes.size() > 255)
    return usage(FMT_STRING("{} timeout classes"), options.classes.size()).hint("between 1 and 255");
  for (const TimeoutClass& timeout : options.classes)
    if (timeout.timeout <= Time::zero() || timeout.timeout > longest_timeout)
      return usage(FMT_STRING("a timeout of {} ns for class \"{}\""), timeout.timeout.count(), timeout.name)
          .hint("more than 0, at most 24 days");
  if (options.tcp_established >= options.classes.size() || options.tcp_transitory >= options.classes.size()) {
    const auto last = static_cast<std::uint8_t>(options.classes.size() - 1);
    options.tcp_established = std::min(options.tcp_established, last);
    options.tcp_transitory = std::min(options.tcp_transitory, last);
  }
  constexpr unsigned address_bits = sizeof(Key) == sizeof(FlowKey4) ? 32 : 128;
  if (options.source_bits > address_bits)
    return usage(FMT_STRING("a source of {} bits"), options.source_bits).hint("at most {}", address_bits);

  SessionTable table;
  std::vector<std::uint64_t> timeouts;
  for (const TimeoutClass& timeout : options.classes) {
    timeouts.push_back(table_time::ticks_up(timeout.timeout));
    table.timeouts_.push_back(static_cast<std::uint32_t>(timeouts.back()));
  }
  if (!options.seed) {
    auto seed = HashSeed::random();
    if (!seed) return std::unexpected(std::move(seed.error()));
    options.seed = *seed;
  }
  table.hash_ = KeyedHash(*options.seed, options.baseline);

  auto store = Store::create(options.capacity, table.hash_, options.baseline);
  if (!store) return std::unexpected(std::move(store.error()));
  auto wheels = TimeoutWheels::create(options.capacity, timeouts);
  if (!wheels) return std::unexpected(std::move(wheels.error()));
  table.store_ = std::move(*store);
  table.wheels_ = std::move(*wheels);
  table.wheels_.free_all();
  if (options.tcp_windows) {
    auto windows = TableArray<TcpWindows>::create(options.capacity);
    if (!windows) return std::unexpected(std::move(windows.error()));
    table.windows_ = std::move(*windows);
  }
  if (options.per_source != 0) {
    const std::size_t count = options.sources != 0 ? options.sources : options.capacity;
    auto sources = TableArray<Source>::create(count);
    if (!sources) return std::unexpected(std::move(sources.error()));
    auto source_index = TagIndex::create(count);
    if (!source_index) return std::unexpected(std::move(source_index.error()));
    table.sources_ = std::move(*sources);
    table.source_index_ = std::move(*source_index);
    for (std::size_t i = count; i-- > 0;) {
      table.sources_[i].next_free = table.free_source_;
      table.free_source_ = static_cast<std::uint32_t>(i);
    }
  }
  table.options_ = std::move(options);
  return table;
}

// In passes over a chunk, so that the lines of all its keys are fetched at once.
template <class Key>
template <bool fetch>
void SessionTable<Key>::lookup_chunks(std::span<const Key> keys, std::span<SessionRef> found) const noexcept {
  const std::size_t count = std::min(keys.size(), found.size());
  for (std::size_t done = 0; done < count; done += chunk) {
    const std::size_t now = std::min(chunk, count - done);
    std::array<std::uint64_t, chunk> hashes;
    std::array<Place, chunk> places;
    std::array<std::uint32_t, chunk> numbers;
    hash_.batch<key_words>(keys.data() + done, now, hashes.data());
    for (std::size_t i = 0; i < now; ++i) {
      places[i] = store_.search_place(hashes[i]);
      store_.prefetch(places[i]);
    }
    store_.template find<fetch>(keys.data() + done, places.data(), now, numbers.data());
    for (std::size_t i = 0; i < now; ++i) found[done + i] = SessionRef::from_bits(numbers[i]);
    if (!fetch || windows_.size() == 0) continue;
    for (std::size_t i = 0; i < now; ++i)
      __builtin_prefetch(&windows_[numbers[i] == Store::none ? 0 : numbers[i] >> 1]);
  }
}

template <class Key>
void SessionTable<Key>::lookup(std::span<const Key> keys, std::span<SessionRef> found) const noexcept {
  lookup_chunks<true>(keys, found);
}
template <class Key>
void SessionTable<Key>::lookup_only(std::span<const Key> keys, std::span<SessionRef> found) const noexcept {
  lookup_chunks<false>(keys, found);
}

template <class Key>
void SessionTable<Key>::insert(std::span<const New> news, Time now, std::span<Inserted> made) noexcept {
  const std::size_t count = std::min(news.size(), made.size());
  for (std::size_t done = 0; done < count; done += chunk) {
    const std::size_t these = std::min(chunk, count - done);
    std::array<Key, chunk * 2> keys;
    std::array<std::uint64_t, chunk * 2> hashes;
    std::array<Place, chunk * 2> places;
    for (std::size_t i = 0; i < these; ++i) {
      keys[2 * i] = news[done + i].key;
      keys[2 * i + 1] = news[done + i].reverse;
    }
    hash_.batch<key_words>(keys.data(), 2 * these, hashes.data());
    for (std::size_t i = 0; i < 2 * these; ++i) {
      places[i] = store_.place(hashes[i]);
      store_.prefetch(places[i]);
    }
    for (std::size_t i = 0; i < these; ++i)
      made[done + i] = insert_one(news[done + i], places[2 * i], places[2 * i + 1], ticks(now));
  }
}

template <class Key>
auto SessionTable<Key>::insert_one(const New& session, Place place, Place reverse_place, std::uint64_t now) noexcept
    -> Inserted {
  const std::array<Key, 2> keys{session.key, session.reverse};
  const std::array<Place, 2> both{place, reverse_place};
  std::array<std::uint32_t, 2> numbers;
  store_.template find<false>(keys.data(), both.data(), 2, numbers.data());
  const std::uint32_t there = numbers[0] != Store::none ? numbers[0] : numbers[1];
  if (there != Store::none) return {InsertStatus::exists, SessionRef::from_bits(there)};
  const std::uint32_t number = wheels_.top_free();
  if (number == TimeoutWheels::none) return {InsertStatus::full, {}};
  std::uint32_t source = no_source;
  if (options_.per_source != 0) {
    source = enter_source(session.key);
    if (source == no_source) return {InsertStatus::source_limit, {}};
  }
  // Practically never refused below the capacity; then the table counts as full.
  if (!store_.insert(number, session.key, place, session.reverse, reverse_place)) [[unlikely]] {
    if (source != no_source) leave_source(source);
    return {InsertStatus::full, {}};
  }
  (void)wheels_.pop_free();
  const auto timeout_class =
      static_cast<std::uint8_t>(std::min<std::size_t>(session.timeout_class, options_.classes.size() - 1));
  store_.state(number) = {.value = session.value,
                          .seen = static_cast<std::uint32_t>(now),
                          .made = static_cast<std::uint32_t>(now),
                          .source = source,
                          .timeout_class = timeout_class,
                          .live = true};
  if (windows_.size() != 0) windows_[number] = {};
  wheels_.link(number, timeout_class, now + timeouts_[timeout_class]);
  ++size_;
  if (const std::uint32_t next = wheels_.top_free(); next != TimeoutWheels::none) store_.prefetch_state(next);
  return {InsertStatus::inserted, SessionRef(number, false)};
}

template <class Key>
Session<Key> SessionTable<Key>::copy(std::uint32_t session) const noexcept {
  return {store_.key(session, false), store_.key(session, true), store_.state(session)};
}

// Out of everything but the wheel and the store.
template <class Key>
void SessionTable<Key>::forget(std::uint32_t session) noexcept {
  SessionState& state = store_.state(session);
  if (state.source != no_source) leave_source(state.source);
  state.live = false;
  wheels_.push_free(session);
  --size_;
}

template <class Key>
bool SessionTable<Key>::erase(std::uint32_t session) noexcept {
  if (!is_live(session)) return false;
  wheels_.unlink(session);
  typename Store::Homes homes;
  store_.find_homes({&session, 1}, homes);
  store_.erase({&session, 1}, homes);
  forget(session);
  return true;
}

template <class Key>
void SessionTable<Key>::clear() noexcept {
  store_.clear();
  wheels_.clear();
  for (std::uint32_t session = 0; session < capacity(); ++session) {
    SessionState& state = store_.state(session);
    if (state.live && state.source != no_source) leave_source(state.source);
    state.live = false;
  }
  wheels_.free_all();
  size_ = 0;
}

template <class Key>
std::uint64_t SessionTable<Key>::deadline(const SessionState& state, std::uint64_t now) const noexcept {
  return widened(state.seen, now) + timeouts_[state.timeout_class];
}

template <class Key>
void SessionTable<Key>::set_class(std::uint32_t session, std::uint8_t timeout_class, Time now) noexcept {
  if (!is_live(session)) return;
  SessionState& state = store_.state(session);
  timeout_class = static_cast<std::uint8_t>(std::min<std::size_t>(timeout_class, options_.classes.size() - 1));
  if (state.timeout_class == timeout_class) return;
  state.timeout_class = timeout_class;
  wheels_.unlink(session);
  wheels_.link(session, timeout_class, deadline(state, ticks(now)));
}

template <class Key>
void SessionTable<Key>::resume(std::uint32_t session, TcpState tcp, std::uint8_t timeout_class, Time idle,
                               Time now) noexcept {
  if (!is_live(session)) return;
  SessionState& state = store_.state(session);
  state.tcp = tcp;
  state.timeout_class = static_cast<std::uint8_t>(std::min<std::size_t>(timeout_class, options_.classes.size() - 1));
  state.seen = static_cast<std::uint32_t>(ticks(now) - ticks(idle));
  wheels_.unlink(session);
  wheels_.link(session, state.timeout_class, deadline(state, ticks(now)));
}

template <class Key>
auto SessionTable<Key>::track_tcp(SessionRef ref, const TcpSegment& segment, Time now) noexcept -> Tcp {
  SessionState& state = store_.state(ref.session());
  Tcp result{.before = state.tcp, .after = state.tcp};
  if (!state.live) return result;
  const bool forward = !ref.is_reverse();
  result.after = next_state(state.tcp, forward, segment.flags);
  if (windows_.size() != 0) {
    TcpWindows& windows = windows_[ref.session()];
    const bool opens =
        result.after != state.tcp && (result.after == TcpState::init_forward || result.after == TcpState::init_reverse);
    if (opens) windows = {};  // the next connection of these ports has windows of its own
    result.in_window = windows.accept(forward, segment);
    if (!result.in_window) {
      result.after = state.tcp;
      return result;
    }
  }
  state.tcp = result.after;
  set_class(ref.session(), is_established(state.tcp) ? options_.tcp_established : options_.tcp_transitory, now);
  return result;
}

// What ending a session touches is told by what was touched before: its state by the wheel, its keys by the state, the
// lines that these belong to by them. So sessions pass through four stages, a group in each; each stage fetches for the
// next one while the other groups are worked on.
template <class Key>
auto SessionTable<Key>::expire(Time now, std::span<Session<Key>> gone, std::size_t most_visits) noexcept -> Expired {
  constexpr std::size_t stages = 4;
  struct Group {
    std::size_t count = 0;
    std::array<std::uint32_t, Store::most_erased> sessions;
    typename Store::Homes homes;
    std::span<const std::uint32_t> all() const noexcept { return {sessions.data(), count}; }
  };
  std::array<Group, stages> groups;
  const std::uint64_t at = ticks(now);
  Expired result;
  std::size_t of_class = 0;
  std::size_t under_way = 0;
  for (std::size_t round = 0; under_way != 0 || (of_class < timeouts_.size() && !result.more); ++round) {
    const auto at_stage = [&](std::size_t stage) -> Group& { return groups[(round + stages - stage) % stages]; };

    Group& fell_due = at_stage(0);
    fell_due.count = 0;
    while (of_class < timeouts_.size() && !result.more) {
      // What is under way may turn out to have been refreshed, and leave room.
      const std::size_t room = std::min(gone.size() - result.ended - under_way, most_visits - result.visited);
      result.more = result.ended == gone.size() || result.visited == most_visits;
      const std::size_t most = std::min(room, fell_due.sessions.size() - fell_due.count);
      if (most == 0) break;
      const std::size_t taken =
          wheels_.take_due(of_class, at, std::span(fell_due.sessions).subspan(fell_due.count, most));
      for (std::size_t i = 0; i < taken; ++i) store_.prefetch_state(fell_due.sessions[fell_due.count + i]);
      fell_due.count += taken;
      under_way += taken;
      result.visited += taken;
      if (taken < most) ++of_class;
    }

    Group& with_state = at_stage(1);
    const std::size_t looked_at = std::exchange(with_state.count, 0);
    for (std::size_t i = 0; i < looked_at; ++i) {
      const std::uint32_t session = with_state.sessions[i];
      const SessionState& state = store_.state(session);
      if (const std::uint64_t until = deadline(state, at); until > at) {
        wheels_.link(session, state.timeout_class, until);
        --under_way;
        continue;
      }
      store_.prefetch_keys(session);
      with_state.sessions[with_state.count++] = session;
    }

    Group& with_keys = at_stage(2);
    store_.find_homes(with_keys.all(), with_keys.homes);

    Group& ending = at_stage(3);
    for (const std::uint32_t session : ending.all()) gone[result.ended++] = copy(session);
    store_.erase(ending.all(), ending.homes);
    for (const std::uint32_t session : ending.all()) forget(session);
    under_way -= std::exchange(ending.count, 0);
  }
  return result;
}

template <class Key>
std::optional<Session<Key>> SessionTable<Key>::evict(std::span<const std::uint8_t> classes, Time now) noexcept {
  constexpr unsigned tries = 16;  // sessions that were refreshed since go to the end of the queue
  const std::uint64_t at = ticks(now);
  for (const std::uint8_t of_class : classes) {
    if (of_class >= timeouts_.size()) continue;
    for (unsigned i = 0; i < tries; ++i) {
      const std::uint32_t number = wheels_.soonest(of_class);
      if (number == TimeoutWheels::none) break;
      const SessionState& state = store_.state(number);
      const std::uint64_t until = deadline(state, at);
      wheels_.link(number, of_class, until);
      const bool refreshed = state.seen != state.made && until > at + timeouts_[of_class] / 2;
      if (refreshed && i + 1 < tries) continue;
      const Session<Key> ended = copy(number);
      erase(number);
      return ended;
    }
  }
  return std::nullopt;
}

template <class Key>
std::array<std::uint64_t, 2> SessionTable<Key>::source_key(const Key& key) const noexcept {
  if constexpr (sizeof(Key) == sizeof(FlowKey4)) {
    const unsigned bits = options_.source_bits == 0 ? 32 : options_.source_bits;
    return {high_bits(std::uint64_t{key.src.number()} << 32, bits), key.domain};
  } else {
    // A source wider than /64 is rare; its low half shares a word with the domain, which is kept apart by a
    // multiplication.
    const unsigned bits = options_.source_bits != 0 ? options_.source_bits : key.version == 4 ? 128 : 64;
    const std::uint64_t low = bits > 64 ? high_bits(key.src.low(), bits - 64) : 0;
    return {high_bits(key.src.high(), bits), low + key.domain * 0x9E37'79B9'7F4A'7C15};
  }
}

template <class Key>
std::uint32_t SessionTable<Key>::sessions_of(const Key& key) const noexcept {
  if (options_.per_source == 0) return 0;
  const auto wanted = source_key(key);
  const std::uint32_t source = source_index_.find(source_index_.place(hash_(wanted)),
                                                  [&](std::uint32_t number) { return sources_[number].key == wanted; });
  return source == no_source ? 0 : sources_[source].sessions;
}

// Counts one session more for the source; none where it may have no more, or is one too many.
template <class Key>
std::uint32_t SessionTable<Key>::enter_source(const Key& key) noexcept {
  const auto wanted = source_key(key);
  const TagIndex::Place place = source_index_.place(hash_(wanted));
  const std::uint32_t known =
      source_index_.find(place, [&](std::uint32_t number) { return sources_[number].key == wanted; });
  if (known != no_source) {
    if (sources_[known].sessions >= options_.per_source) return no_source;
    ++sources_[known].sessions;
    return known;
  }
  const std::uint32_t number = free_source_;
  if (number == no_source || !source_index_.insert(place, number)) return no_source;
  free_source_ = sources_[number].next_free;
  sources_[number] = {wanted, 1, TagIndex::none};
  return number;
}

template <class Key>
void SessionTable<Key>::leave_source(std::uint32_t number) noexcept {
  Source& source = sources_[number];
  if (--source.sessions != 0) return;
  source_index_.erase(source_index_.place(hash_(source.key)), number);
  source.next_free = free_source_;
  free_source_ = number;
}

namespace {

void write_key(std::string& out, const FlowKey4& key) {
  fmt::format_to(std::back_inserter(out),
                 R"("src":"{}","dst":"{}","src_port":{},"dst_port":{},"protocol":{},"domain":{})", to_string(key.src),
                 to_string(key.dst), key.src_port, key.dst_port, static_cast<unsigned>(key.protocol), key.domain);
}
void write_key(std::string& out, const FlowKey& key) {
  if (key.version == 4) return write_key(out, key.key4());
  fmt::format_to(std::back_inserter(out),
                 R"("src":"{}","dst":"{}","src_port":{},"dst_port":{},"protocol":{},"domain":{})", to_string(key.src),
                 to_string(key.dst), key.src_port, key.dst_port, static_cast<unsigned>(key.protocol), key.domain);
}

void write_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20)
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
    else
      out += c;
  }
  out += '"';
}

double seconds(std::uint64_t tick_count) {
  return static_cast<double>(table_time::from_ticks(tick_count).count()) * 1e-9;
}

}  // namespace

template <class Key>
std::uint32_t SessionTable<Key>::write_json(std::uint32_t from, std::size_t most, Time now, std::string& out) const {
  const std::uint64_t at = ticks(now);
  return scan(from, most, [&](std::uint32_t session, const SessionState& state) {
    out += '{';
    write_key(out, key(session));
    out += R"(,"reverse":{)";
    write_key(out, key(session, true));
    out += R"(},"class":)";
    write_string(out, options_.classes[state.timeout_class].name);
    if (state.tcp != TcpState::closed) fmt::format_to(std::back_inserter(out), R"(,"tcp":"{}")", to_string(state.tcp));
    const std::uint64_t until = deadline(state, at);
    fmt::format_to(std::back_inserter(out), R"(,"age_s":{:.3f},"idle_s":{:.3f},"left_s":{:.3f},"value":{}}},)",
                   seconds(at - widened(state.made, at)), seconds(at - widened(state.seen, at)),
                   seconds(until > at ? until - at : 0), state.value);
  });
}

template class SessionTable<FlowKey4>;
template class SessionTable<FlowKey>;

}  // namespace efnet
