#include "efnet/nat44/mappings.h"

#include <algorithm>
#include <array>

#include "efio/fail.h"

namespace efnet {
namespace {

// The two ends of a mapping, as keys of flows to nobody. The domain keeps them apart where an address is on both sides.
constexpr FlowKey4 inside_end(IpProtocol protocol, Ipv4Address address, std::uint16_t port) noexcept {
  return {.src = address, .dst = {}, .src_port = port, .dst_port = 0, .protocol = protocol, .domain = 0};
}
constexpr FlowKey4 outside_end(IpProtocol protocol, Ipv4Address address, std::uint16_t port) noexcept {
  return {.src = address, .dst = {}, .src_port = port, .dst_port = 0, .protocol = protocol, .domain = 1};
}

template <Ipv4Address NatPair::* by>
bool less(const NatPair& a, const NatPair& b) noexcept {
  return a.*by < b.*by;
}
template <Ipv4Address NatPair::* by>
const NatPair* find_pair(const std::vector<NatPair>& pairs, Ipv4Address address) noexcept {
  const auto at = std::lower_bound(pairs.begin(), pairs.end(), address,
                                   [](const NatPair& pair, Ipv4Address wanted) { return pair.*by < wanted; });
  return at != pairs.end() && (*at).*by == address ? &*at : nullptr;
}

}  // namespace

efio::Result<NatMappings> NatMappings::create(const Nat44Options& options) {
  // Mappings end with their sessions, never by a timeout of their own.
  SessionOptions table_options{.capacity = options.mappings != 0 ? options.mappings : options.sessions,
                               .classes = {{"mapping", std::chrono::hours(24)}},
                               .per_source = options.mappings_each,
                               .seed = options.seed};
  table_options.tcp_established = table_options.tcp_transitory = 0;
  auto table = SessionTable4::create(std::move(table_options));
  if (!table) return std::unexpected(std::move(table.error()));
  std::vector<NatFixedBlocks> fixed;
  IppOptions pool_options = options.pool;
  for (const NatDeterministic& rule : options.deterministic) {
    const auto blocks = NatFixedBlocks::make(rule);
    const auto meets = [&](const IppRange& range) {
      return range.addresses.first <= rule.outside.last && rule.outside.first <= range.addresses.last;
    };
    if (!blocks || std::any_of(pool_options.ranges.begin(), pool_options.ranges.end(), meets))
      return efio::fail(efio::Error::Kind::usage, "set up NAT44", "{}",
                        blocks ? "an outside address of a deterministic mapping is in the pool, or in two rules"
                               : "a deterministic mapping has fewer than two ports for an inside address");
    fixed.push_back(*blocks);
    pool_options.ranges.push_back({rule.outside, rule.ports, true});
  }
  if (!pool_options.seed) pool_options.seed = options.seed;
  auto pool = IppPool::create(std::move(pool_options));
  if (!pool) return std::unexpected(std::move(pool.error()));
  NatMappings mappings(std::move(*table), std::move(*pool), options);
  mappings.fixed_ = std::move(fixed);
  for (const NatPair& pair : options.pairs)
    if (mappings.pool_.contains(pair.outside))
      return efio::fail(efio::Error::Kind::usage, "set up NAT44",
                        "an outside address that is one inside address's is in the pool");
  for (const NatForward& forward : options.forwards)
    if (!mappings.add_forward(forward))
      return efio::fail(efio::Error::Kind::usage, "set up NAT44", "two forwards of one port, or no room for port {}",
                        forward.outside_port);
  return mappings;
}

NatMappings::NatMappings(SessionTable4 table, IppPool pool, const Nat44Options& options)
    : table_(std::move(table)),
      pool_(std::move(pool)),
      by_inside_(options.pairs),
      by_outside_(options.pairs),
      log_(options.log),
      block_size_(options.pool.block_size),
      preserve_port_(options.preserve_port),
      preserve_parity_(options.preserve_parity) {
  std::sort(by_inside_.begin(), by_inside_.end(), less<&NatPair::inside>);
  std::sort(by_outside_.begin(), by_outside_.end(), less<&NatPair::outside>);
}

bool NatMappings::add_forward(const NatForward& forward) {
  // A port that the pool does not lend is nobody else's either.
  pool_.take({forward.outside, forward.outside_port, forward.protocol}, Time(0));
  forward_addresses_.push_back(forward.outside);
  const NatMapping mapping{.inside = forward.inside,
                           .outside = forward.outside,
                           .inside_port = forward.inside_port,
                           .outside_port = forward.outside_port};
  return insert(forward.protocol, mapping, is_static, Time(0)).verdict == NatVerdict::translated;
}

NatMapping NatMappings::mapping(std::uint32_t number) const noexcept {
  const FlowKey4& inside = table_.key(number, false);
  const FlowKey4& outside = table_.key(number, true);
  return {.inside = inside.src,
          .outside = outside.src,
          .inside_port = inside.src_port,
          .outside_port = outside.src_port,
          .number = number,
          .open = is_open(number, outside.src)};
}
bool NatMappings::is_open(std::uint32_t number, Ipv4Address outside) const noexcept {
  return (table_.state(number).value & is_static) != 0 || paired_inside(outside).has_value();
}

std::optional<NatMapping> NatMappings::find(const FlowKey4& key) const noexcept {
  const SessionRef ref = table_.lookup(key);
  if (!ref) return std::nullopt;
  return mapping(ref.session());
}
std::optional<NatMapping> NatMappings::find_inside(IpProtocol protocol, Ipv4Address address,
                                                   std::uint16_t port) const noexcept {
  return find(inside_end(protocol, address, port));
}
std::optional<NatMapping> NatMappings::find_outside(IpProtocol protocol, Ipv4Address address,
                                                    std::uint16_t port) const noexcept {
  return find(outside_end(protocol, address, port));
}

IppRequest NatMappings::request_of(const FlowKey4& key) const noexcept {
  const PortParity same = key.src_port % 2 == 0 ? PortParity::even : PortParity::odd;
  return {.subscriber = key.src.number(),
          .protocol = key.protocol,
          .port = preserve_port_ ? key.src_port : std::uint16_t{0},
          .parity = preserve_parity_ ? same : PortParity::any};
}

void NatMappings::find_or_make(std::span<const FlowKey4> flows, Time now, std::span<Made> made) {
  flows.size() == 1 ? find_or_make_of<1>(flows, now, made) : find_or_make_of<most_at_once>(flows, now, made);
}

// In passes over all that are wanted, so that their lines are fetched at once.
template <std::size_t room>
void NatMappings::find_or_make_of(std::span<const FlowKey4> flows, Time now, std::span<Made> made) {
  std::array<FlowKey4, room> keys;
  std::array<SessionRef, room> found;
  for (std::size_t i = 0; i < flows.size(); ++i)
    keys[i] = inside_end(flows[i].protocol, flows[i].src, flows[i].src_port);
  table_.lookup(std::span(keys).first(flows.size()), found);

  // Those that there are not yet: of a pair, or with a port from the pool.
  std::array<std::uint8_t, room> asking;
  std::array<IppRequest, room> requests;
  std::array<IppAcquired, room> got;
  std::size_t asked = 0;
  std::array<std::uint8_t, room> making;
  std::size_t count = 0;
  const std::uint32_t limit = table_.options().per_source;
  for (std::size_t i = 0; i < flows.size(); ++i) {
    const FlowKey4& key = keys[i];
    if (found[i]) {
      made[i] = {.mapping = mapping(found[i].session())};
      continue;
    }
    made[i] = {.mapping = {.inside = key.src, .inside_port = key.src_port}};
    if (table_.size() == table_.capacity()) {
      made[i].verdict = NatVerdict::sessions_full;
    } else if (limit != 0 && table_.sessions_of(key) >= limit) {
      made[i].verdict = NatVerdict::subscriber_limit;
    } else if (const auto outside = paired_outside(key.src)) {
      made[i].mapping.outside = *outside;
      made[i].mapping.outside_port = key.src_port;
      making[count++] = static_cast<std::uint8_t>(i);
    } else {
      const IppRequest request = request_of(key);
      if (const auto block = fixed_block(key.src)) {
        const IppAcquired got_there = pool_.acquire_from(block->address, block->ports, request, now);
        made[i].mapping.outside = got_there.binding.address;
        made[i].mapping.outside_port = got_there.binding.port;
        if (got_there)
          making[count++] = static_cast<std::uint8_t>(i);
        else
          made[i].verdict = NatVerdict::subscriber_limit;
        continue;
      }
      asking[asked] = static_cast<std::uint8_t>(i);
      requests[asked++] = request;
    }
  }
  pool_.acquire(std::span(requests).first(asked), now, got);
  for (std::size_t n = 0; n < asked; ++n) {
    Made& one = made[asking[n]];
    if (!got[n]) {
      one.verdict = got[n].status == IppStatus::limited ? NatVerdict::subscriber_limit : NatVerdict::ports_exhausted;
      continue;
    }
    one.mapping.outside = got[n].binding.address;
    one.mapping.outside_port = got[n].binding.port;
    if (got[n].opened_block) tell_block(NatEvent::Kind::block_opened, one.mapping, now);
    making[count++] = asking[n];
  }

  std::array<SessionTable4::New, room> news;
  std::array<SessionTable4::Inserted, room> results;
  for (std::size_t n = 0; n < count; ++n) {
    const NatMapping& mapping = made[making[n]].mapping;
    const FlowKey4& key = keys[making[n]];
    news[n] = {.key = key, .reverse = outside_end(key.protocol, mapping.outside, mapping.outside_port)};
  }
  table_.insert(std::span(news).first(count), now, results);
  for (std::size_t n = 0; n < count; ++n) {
    Made& one = made[making[n]];
    const IpProtocol protocol = news[n].key.protocol;
    const NatMapping wanted = one.mapping;
    one = inserted(protocol, wanted, results[n], now);
    if (results[n].status != InsertStatus::inserted) undo(protocol, wanted, now);
    // The same inside end, earlier among the wanted.
    if (results[n].status == InsertStatus::exists && !results[n].session.is_reverse())
      one = {.mapping = mapping(results[n].session.session())};
  }
}

auto NatMappings::make_paired(IpProtocol protocol, Ipv4Address outside, std::uint16_t port, Time now) -> Made {
  const auto inside = paired_inside(outside);
  if (!inside) return {.verdict = NatVerdict::no_mapping};
  return find_or_make(protocol, *inside, port, now);
}

auto NatMappings::insert(IpProtocol protocol, const NatMapping& mapping, std::uint64_t value, Time now) -> Made {
  const auto result = table_.insert({.key = inside_end(protocol, mapping.inside, mapping.inside_port),
                                     .reverse = outside_end(protocol, mapping.outside, mapping.outside_port),
                                     .value = value},
                                    now);
  return inserted(protocol, mapping, result, now);
}

auto NatMappings::inserted(IpProtocol protocol, NatMapping mapping, const SessionTable4::Inserted& result, Time now)
    -> Made {
  if (result.status != InsertStatus::inserted)
    return {.verdict =
                result.status == InsertStatus::source_limit ? NatVerdict::subscriber_limit : NatVerdict::sessions_full};
  ++made_;
  mapping.number = result.session.session();
  mapping.open = is_open(mapping.number, mapping.outside);
  tell(NatEvent::Kind::mapped, protocol, mapping, now);
  return {.mapping = mapping};
}

// The port of a mapping that did not come to be.
void NatMappings::undo(IpProtocol protocol, const NatMapping& mapping, Time now) {
  if (pool_.undo({mapping.outside, mapping.outside_port, protocol}).closed_block)
    tell_block(NatEvent::Kind::block_closed, mapping, now);
}

void NatMappings::release(std::uint32_t number, Time now) {
  if (!table_.is_live(number)) return;
  std::uint64_t& value = table_.value(number);
  if ((value & sessions_mask) != 0) --value;
  end(number, true, now);
}

void NatMappings::end(std::uint32_t number, bool was_used, Time now) {
  if (!table_.is_live(number) || table_.value(number) != 0) return;
  const NatMapping ended = mapping(number);
  const IpProtocol protocol = table_.key(number).protocol;
  table_.erase(number);
  ++ended_;
  tell(NatEvent::Kind::unmapped, protocol, ended, now);
  const IppBinding binding{ended.outside, ended.outside_port, protocol};
  if ((was_used ? pool_.release(binding, now) : pool_.undo(binding)).closed_block)
    tell_block(NatEvent::Kind::block_closed, ended, now);
}

std::optional<NatMapping> NatMappings::restore(IpProtocol protocol, const NatMapping& mapping, Time now) {
  if (const auto found = find_inside(protocol, mapping.inside, mapping.inside_port)) {
    const bool same = found->outside == mapping.outside && found->outside_port == mapping.outside_port;
    return same ? found : std::nullopt;
  }
  const IppBinding binding{mapping.outside, mapping.outside_port, protocol};
  if (const auto outside = paired_outside(mapping.inside)) {
    if (*outside != mapping.outside || mapping.inside_port != mapping.outside_port) return std::nullopt;
  } else if (const auto block = fixed_block(mapping.inside)) {
    const bool is_in = block->address == mapping.outside && block->ports.contains(mapping.outside_port);
    if (!is_in || !pool_.take(binding, now)) return std::nullopt;
  } else {
    if (fixed_owner(mapping.outside, mapping.outside_port)) return std::nullopt;
    const IppAcquired got = pool_.take_for(mapping.inside.number(), binding, now);
    if (!got) return std::nullopt;
    if (got.opened_block) tell_block(NatEvent::Kind::block_opened, mapping, now);
  }
  const Made made = insert(protocol, mapping, 0, now);
  if (made.verdict == NatVerdict::translated) return made.mapping;
  undo(protocol, mapping, now);
  return std::nullopt;
}

std::optional<NatFixedBlocks::Block> NatMappings::fixed_block(Ipv4Address inside) const noexcept {
  for (const NatFixedBlocks& blocks : fixed_)
    if (const auto block = blocks.block_of(inside)) return block;
  return std::nullopt;
}
std::optional<Ipv4Address> NatMappings::fixed_owner(Ipv4Address outside, std::uint16_t port) const noexcept {
  for (const NatFixedBlocks& blocks : fixed_)
    if (const auto owner = blocks.owner_of(outside, port)) return owner;
  return std::nullopt;
}

bool NatMappings::owns(Ipv4Address outside) const noexcept {
  return pool_.contains(outside) || paired_inside(outside) ||
         std::find(forward_addresses_.begin(), forward_addresses_.end(), outside) != forward_addresses_.end();
}
std::optional<Ipv4Address> NatMappings::paired_inside(Ipv4Address outside) const noexcept {
  const NatPair* pair = find_pair<&NatPair::outside>(by_outside_, outside);
  return pair != nullptr ? std::optional(pair->inside) : std::nullopt;
}
std::optional<Ipv4Address> NatMappings::paired_outside(Ipv4Address inside) const noexcept {
  const NatPair* pair = find_pair<&NatPair::inside>(by_inside_, inside);
  return pair != nullptr ? std::optional(pair->outside) : std::nullopt;
}

// With blocks a line per block is enough, and per mapping would be too many (RFC 6888, REQ-12 and REQ-14).
void NatMappings::tell(NatEvent::Kind kind, IpProtocol protocol, const NatMapping& mapping, Time now) const {
  if (!log_ || block_size_ != 0 || fixed_block(mapping.inside)) return;
  log_({.kind = kind,
        .at = now,
        .protocol = protocol,
        .inside = mapping.inside,
        .inside_port = mapping.inside_port,
        .outside = mapping.outside,
        .ports = {mapping.outside_port, mapping.outside_port}});
}
void NatMappings::tell_block(NatEvent::Kind kind, const NatMapping& mapping, Time now) const {
  if (!log_) return;
  const auto first = static_cast<std::uint16_t>(mapping.outside_port & ~(block_size_ - 1));
  const auto last = static_cast<std::uint16_t>(first + (block_size_ - 1));
  log_({.kind = kind, .at = now, .inside = mapping.inside, .outside = mapping.outside, .ports = {first, last}});
}

}  // namespace efnet
