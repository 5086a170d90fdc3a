#include "efnet/nat44/mappings.h"

#include <algorithm>

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
  IppOptions pool_options = options.pool;
  if (!pool_options.seed) pool_options.seed = options.seed;
  auto pool = IppPool::create(std::move(pool_options));
  if (!pool) return std::unexpected(std::move(pool.error()));
  NatMappings mappings(std::move(*table), std::move(*pool), options);
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
          .open = (table_.state(number).value & is_static) != 0 ||
                  find_pair<&NatPair::outside>(by_outside_, outside.src) != nullptr};
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

auto NatMappings::find_or_make(IpProtocol protocol, Ipv4Address inside, std::uint16_t port, Time now) -> Made {
  if (const auto found = find_inside(protocol, inside, port)) return {.mapping = *found};
  if (const auto outside = paired_outside(inside))
    return insert(protocol, {.inside = inside, .outside = *outside, .inside_port = port, .outside_port = port}, 0, now);
  if (table_.size() == table_.capacity()) return {.verdict = NatVerdict::sessions_full};
  const FlowKey4 key = inside_end(protocol, inside, port);
  if (const auto limit = table_.options().per_source; limit != 0 && table_.sessions_of(key) >= limit)
    return {.verdict = NatVerdict::subscriber_limit};
  const PortParity parity = !preserve_parity_ ? PortParity::any : port % 2 == 0 ? PortParity::even : PortParity::odd;
  const IppAcquired got = pool_.acquire({.subscriber = inside.number(),
                                         .protocol = protocol,
                                         .port = preserve_port_ ? port : std::uint16_t{0},
                                         .parity = parity},
                                        now);
  if (!got)
    return {.verdict = got.status == IppStatus::limited ? NatVerdict::subscriber_limit : NatVerdict::ports_exhausted};
  const NatMapping mapping{
      .inside = inside, .outside = got.binding.address, .inside_port = port, .outside_port = got.binding.port};
  if (got.opened_block) tell_block(NatEvent::Kind::block_opened, mapping, now);
  Made made = insert(protocol, mapping, 0, now);
  if (made.verdict != NatVerdict::translated && pool_.release(got.binding, now).closed_block)
    tell_block(NatEvent::Kind::block_closed, mapping, now);
  return made;
}

auto NatMappings::make_paired(IpProtocol protocol, Ipv4Address outside, std::uint16_t port, Time now) -> Made {
  const auto inside = paired_inside(outside);
  if (!inside) return {.verdict = NatVerdict::no_mapping};
  return find_or_make(protocol, *inside, port, now);
}

auto NatMappings::insert(IpProtocol protocol, const NatMapping& mapping, std::uint64_t value, Time now) -> Made {
  const auto inserted = table_.insert({.key = inside_end(protocol, mapping.inside, mapping.inside_port),
                                       .reverse = outside_end(protocol, mapping.outside, mapping.outside_port),
                                       .value = value},
                                      now);
  if (inserted.status != InsertStatus::inserted)
    return {.verdict = inserted.status == InsertStatus::source_limit ? NatVerdict::subscriber_limit
                                                                     : NatVerdict::sessions_full};
  ++made_;
  const NatMapping made = this->mapping(inserted.session.session());
  tell(NatEvent::Kind::mapped, protocol, made, now);
  return {.mapping = made};
}

void NatMappings::release(std::uint32_t number, Time now) {
  if (!table_.is_live(number)) return;
  std::uint64_t& value = table_.value(number);
  if ((value & sessions_mask) != 0) --value;
  abandon(number, now);
}

void NatMappings::abandon(std::uint32_t number, Time now) {
  if (!table_.is_live(number) || table_.value(number) != 0) return;
  const NatMapping ended = mapping(number);
  const IpProtocol protocol = table_.key(number).protocol;
  table_.erase(number);
  ++ended_;
  tell(NatEvent::Kind::unmapped, protocol, ended, now);
  if (pool_.release({ended.outside, ended.outside_port, protocol}, now).closed_block)
    tell_block(NatEvent::Kind::block_closed, ended, now);
}

std::optional<NatMapping> NatMappings::restore(IpProtocol protocol, const NatMapping& mapping, Time now) {
  if (const auto found = find_inside(protocol, mapping.inside, mapping.inside_port)) {
    const bool same = found->outside == mapping.outside && found->outside_port == mapping.outside_port;
    return same ? found : std::nullopt;
  }
  const bool is_pair = paired_outside(mapping.inside) == mapping.outside && mapping.inside_port == mapping.outside_port;
  if (!is_pair && !pool_.take({mapping.outside, mapping.outside_port, protocol}, now)) return std::nullopt;
  const Made made = insert(protocol, mapping, 0, now);
  if (made.verdict == NatVerdict::translated) return made.mapping;
  if (!is_pair) pool_.release({mapping.outside, mapping.outside_port, protocol}, now);
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
  if (!log_ || block_size_ != 0) return;
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
