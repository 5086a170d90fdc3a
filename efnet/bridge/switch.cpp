#include "efnet/bridge/switch.h"

#include <algorithm>
#include <cstring>

#include "efio/fail.h"
#include "efio/queue.h"
#include "efnet/tables/token_buckets.h"
#include "efnet/wire/bytes.h"

namespace efnet {

namespace {

using efio::DropReason;
using efio::Slot;
using Tagging = SwitchPortOptions::Tagging;

// A frame's two addresses as numbers, each by one load: the bytes that are too many are shifted or masked away.
std::uint64_t destination_of(const std::byte* frame) noexcept { return load64(frame) >> 16; }
std::uint64_t source_of(const std::byte* frame) noexcept { return load64(frame + 4) & 0xFFFF'FFFF'FFFF; }

constexpr std::uint64_t group_bit = std::uint64_t{1} << 40;
constexpr bool is_reserved(std::uint64_t address) noexcept { return address >> 4 == 0x0180'C200'000; }
constexpr std::uint64_t bit(std::size_t port) noexcept { return std::uint64_t{1} << port; }

efio::Failure refuse(std::size_t port, std::string_view why) {
  return efio::fail(efio::Error::Kind::usage, fmt::format("port {} of a switch", port), "{}", why);
}

}  // namespace

struct Switch::Port {
  SwitchPortOptions options;
  std::optional<TokenBucket> storm;
};

Switch::Switch(Switch&&) noexcept = default;
Switch& Switch::operator=(Switch&&) noexcept = default;
Switch::~Switch() = default;

std::size_t Switch::ports() const noexcept { return ports_.size(); }

std::uint64_t Switch::reachable_from(std::uint16_t port) const noexcept {
  return all_ & ~bit(port) & ~(ports_[port].options.isolated ? isolated_ : 0);
}

Switch::Switch(MacTable table) : table_(std::move(table)) {}

efio::Result<void> Switch::check(const SwitchOptions& options) {
  const auto& ports = options.ports;
  if (ports.size() < 2 || ports.size() > most_ports)
    return efio::fail(efio::Error::Kind::usage, "a switch", "{} ports", ports.size())
        .hint("2 to {}", most_ports);
  const bool aware =
      std::ranges::any_of(ports, [](const auto& p) { return p.is_there && p.tagging != Tagging::unaware; });
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const auto& p = ports[i];
    if (!p.is_there) continue;
    const bool is_mirror = options.mirror == i;
    if (aware && p.tagging == Tagging::unaware && !is_mirror)
      return refuse(i, "it is in no VLAN, and others are").hint("an access or a trunk port, every one");
    if (p.tagging == Tagging::access && (p.vlan == 0 || p.vlan > 4094)) return refuse(i, "no such VLAN").hint("1 to 4094");
    if (p.tagging == Tagging::trunk && (p.vlans.none() || p.vlans[0] || p.vlans[4095]))
      return refuse(i, "a trunk without VLANs, or with one that is none").hint("1 to 4094");
    if (p.flood_rate < 0 || p.flood_rate > 1e12) return refuse(i, "its storm limit is out of range");
  }
  if (options.mirror && (*options.mirror >= ports.size() || !ports[*options.mirror].is_there))
    return refuse(*options.mirror, "the mirror is no port");
  return {};
}

efio::Result<Switch> Switch::create(const SwitchOptions& options) {
  if (auto ok = check(options); !ok) return std::unexpected(std::move(ok.error()));
  auto table = MacTable::create(options.table);
  if (!table) return std::unexpected(std::move(table.error()));
  Switch made(std::move(*table));
  if (auto ok = made.change(options); !ok) return std::unexpected(std::move(ok.error()));
  return made;
}

efio::Result<void> Switch::change(const SwitchOptions& options) {
  if (auto ok = check(options); !ok) return ok;
  std::vector<Port> ports;
  for (const auto& port : options.ports) {
    ports.push_back({port, std::nullopt});
    if (port.flood_rate <= 0) continue;
    // A burst of a tenth of a second, so that a handful of ARP requests at once does no harm.
    auto storm = efnet::TokenBucket::create(port.flood_rate, std::max(1.0, port.flood_rate / 10));
    if (!storm) return std::unexpected(std::move(storm.error()));
    ports.back().storm = std::move(*storm);
    // Whose limit stays has what it had left of it.
    const std::size_t i = ports.size() - 1;
    if (i < ports_.size() && ports_[i].storm && ports_[i].options.flood_rate == port.flood_rate)
      ports.back().storm = std::move(*ports_[i].storm);
  }
  ports_ = std::move(ports);
  table_.set_ageing(options.table.ageing);
  pass_reserved_ = options.pass_reserved;
  mirror_ = options.mirror ? bit(*options.mirror) : 0;
  all_ = isolated_ = 0;
  members_.clear();
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    const auto& port = ports_[i].options;
    if (bit(i) == mirror_ || !port.is_there) continue;
    all_ |= bit(i);
    if (port.isolated) isolated_ |= bit(i);
    if (port.tagging == Tagging::unaware) continue;
    members_.resize(4096);
    if (port.tagging == Tagging::access) members_[port.vlan] |= bit(i);
    for (std::size_t vlan = 1; port.tagging == Tagging::trunk && vlan < 4095; ++vlan)
      if (port.vlans[vlan]) members_[vlan] |= bit(i);
  }
  return {};
}

// Which VLAN a frame belongs to, and whether it may come in (802.1Q, 6.9). A tag of VLAN 0 has a priority and no VLAN.
bool Switch::classify(const Slot& slot, const Port& port, SwitchVerdict& verdict) const noexcept {
  const std::byte* const bytes = slot.buffer + slot.offset;
  const bool has_tag = slot.length >= EthernetView::min_header + VlanTag::size && EtherType{load16(bytes + 12)} == EtherType::vlan;
  const std::uint16_t id = has_tag ? load16(bytes + 14) & 0xFFF : 0;
  if (port.options.tagging == Tagging::access) {
    verdict.vlan = port.options.vlan;
    verdict.tagged = has_tag && (id == 0 || id == port.options.vlan);
    return !has_tag || verdict.tagged;
  }
  verdict.vlan = id;
  verdict.tagged = true;
  return id != 0 && port.options.vlans[id];
}

// What is flooded goes to all, within the limit; then only where it may go.
inline void Switch::send_where(SwitchVerdict& verdict, Port& in, std::uint64_t reachable, Time now) const noexcept {
  if (verdict.flooded) {
    if (in.storm && !in.storm->take(1, now)) {
      verdict.reason = DropReason::rate_limit;
      return;
    }
    verdict.ports = all_;
  }
  verdict.ports &= reachable;
  verdict.ports |= mirror_;
}

// A batch of unicast frames between stations, without VLANs: what nearly every batch is. False: it is another one.
bool Switch::decide_plain(std::span<const Slot> slots, std::uint16_t port, Time now, SwitchVerdict* verdicts) noexcept {
  std::array<std::uint64_t, 2 * batch> keys;
  std::array<std::uint16_t, batch> places;
  const std::size_t n = slots.size();
  std::uint64_t any = 0;
  std::uint32_t shortest = UINT32_MAX;
  for (std::size_t i = 0; i < n; ++i) {
    const Slot& slot = slots[i];
    const std::byte* const bytes = slot.buffer + slot.offset;
    const std::uint64_t from = source_of(bytes), to = destination_of(bytes);
    keys[2 * i] = MacTable::key(from, 0);
    keys[2 * i + 1] = MacTable::key(to, 0);
    any |= from | to;
    shortest = std::min(shortest, slot.length);
  }
  if ((any & group_bit) != 0 || shortest < EthernetView::min_header) [[unlikely]] return false;

  table_.learn_and_find(keys.data(), n, port, now, places.data());
  Port& in = ports_[port];
  const std::uint64_t reachable = reachable_from(port);
  for (std::size_t i = 0; i < n; ++i) {
    SwitchVerdict verdict;
    verdict.ports = (bit(places[i] & 63) & reachable) | mirror_;
    if (places[i] == MacTable::nowhere) [[unlikely]] {
      verdict.flooded = true;
      send_where(verdict, in, reachable, now);
    }
    verdicts[i] = verdict;
  }
  return true;
}

void Switch::decide(std::span<const Slot> slots, std::uint16_t port, Time now, SwitchVerdict* verdicts) noexcept {
  const std::size_t n = std::min(slots.size(), batch);
  Port& in = ports_[port];
  const bool aware = !members_.empty();
  const bool plain = (efio::summarize(slots.data(), n).flags & Slot::marks) == 0;
  if (plain && !aware && bit(port) != mirror_ && decide_plain(slots.first(n), port, now, verdicts)) [[likely]] return;
  std::array<std::uint64_t, batch> sources{}, destinations{}, source_hashes, hashes;
  std::array<std::uint16_t, batch> places;
  std::array<std::uint8_t, batch> learned_at, found_at;
  std::size_t learning = 0, finding = 0;

  for (std::size_t i = 0; i < n; ++i) {
    const Slot& slot = slots[i];
    SwitchVerdict& verdict = verdicts[i];
    verdict = {};
    if (!plain) [[unlikely]] {
      if (slot.has(Slot::moved | Slot::dropped) || (i > 0 && slots[i - 1].has(Slot::more))) {
        verdict.reason = DropReason::count_;
        continue;
      }
    }
    if (slot.length < EthernetView::min_header) [[unlikely]] {
      verdict.reason = DropReason::undersize;
      continue;
    }
    if (bit(port) == mirror_) [[unlikely]] continue;
    if (aware && !classify(slot, in, verdict)) continue;
    const std::byte* const bytes = slot.buffer + slot.offset;
    const std::uint64_t to = destination_of(bytes), from = source_of(bytes);
    if ((from & group_bit) != 0) [[unlikely]] {
      verdict.reason = DropReason::malformed;
      continue;
    }
    if (is_reserved(to) && !pass_reserved_) [[unlikely]] continue;
    sources[learning++] = MacTable::key(from, verdict.vlan);
    if ((to & group_bit) != 0) {
      verdict.flooded = true;
    } else {
      found_at[finding] = static_cast<std::uint8_t>(i);
      destinations[finding++] = MacTable::key(to, verdict.vlan);
    }
    learned_at[learning - 1] = static_cast<std::uint8_t>(i);
  }

  table_.hash(sources.data(), learning, source_hashes.data());
  table_.prefetch(source_hashes.data(), learning);
  table_.hash(destinations.data(), finding, hashes.data());
  table_.prefetch(hashes.data(), finding);
  table_.learn(sources.data(), source_hashes.data(), learning, port, now);
  table_.find(destinations.data(), hashes.data(), finding, now, places.data());

  for (std::size_t k = 0; k < finding; ++k) {
    SwitchVerdict& verdict = verdicts[found_at[k]];
    if (places[k] == MacTable::nowhere)
      verdict.flooded = true;
    else
      verdict.ports = bit(places[k]);
  }
  const std::uint64_t reachable = reachable_from(port);
  for (std::size_t k = 0; k < learning; ++k) {
    SwitchVerdict& verdict = verdicts[learned_at[k]];
    send_where(verdict, in, reachable & members(verdict.vlan), now);
  }
}

Switch::TagChange Switch::tag_change(const SwitchVerdict& verdict, std::uint16_t port) const noexcept {
  const Tagging out = ports_[port].options.tagging;
  if (out == Tagging::unaware) return TagChange::none;
  if (verdict.tagged) return out == Tagging::access ? TagChange::pop : TagChange::none;
  return out == Tagging::trunk ? TagChange::push : TagChange::none;
}

}  // namespace efnet
