#include "efnet/tables/arp_table.h"

#include <algorithm>

namespace efnet {

std::string_view to_string(ArpLocalState state) noexcept {
  constexpr std::array<std::string_view, 4> names{"probing", "announcing", "bound", "conflict"};
  return static_cast<std::size_t>(state) < names.size() ? names[static_cast<std::size_t>(state)] : "invalid";
}

std::string_view to_string(ArpEvent event) noexcept {
  constexpr std::array<std::string_view, arp_events> names{"ignored",    "known", "changed",  "learned",
                                                           "probe",      "own",   "conflict", "bad_sender",
                                                           "off_subnet", "fixed", "full"};
  return static_cast<std::size_t>(event) < names.size() ? names[static_cast<std::size_t>(event)] : "invalid";
}

// ---- Messages ----

std::size_t ArpMessage::emit(std::span<std::byte> out, VlanTag tag) const noexcept {
  if (out.size() < frame_size) return 0;
  tag.tci = static_cast<std::uint16_t>((tag.tci & 0xF000) | (vlan & 0x0FFF));
  const std::span<const VlanTag> tags(&tag, vlan != 0 ? 1 : 0);
  const EthernetHeader header{.dst = dst, .src = packet.sender_mac, .type = EtherType::arp, .tags = tags};
  std::size_t at = header.emit(out);
  at += packet.emit(out.subspan(at));
  std::ranges::fill(out.subspan(at, frame_size - at), std::byte{0});
  return frame_size;
}

ArpMessage arp_request(MacAddress sender_mac, Ipv4Address sender_ip, Ipv4Address target, std::uint16_t vlan,
                       MacAddress to) noexcept {
  return {.packet = {.operation = ArpOperation::request,
                     .sender_mac = sender_mac,
                     .sender_ip = sender_ip,
                     .target_mac = to,
                     .target_ip = target},
          .dst = to.is_zero() ? MacAddress::broadcast() : to,
          .vlan = vlan};
}

ArpMessage arp_reply(ArpView request, MacAddress sender_mac, std::uint16_t vlan) noexcept {
  return {.packet = {.operation = ArpOperation::reply,
                     .sender_mac = sender_mac,
                     .sender_ip = request.target_ip(),
                     .target_mac = request.sender_mac(),
                     .target_ip = request.sender_ip()},
          .dst = request.sender_mac(),
          .vlan = vlan};
}

ArpMessage arp_probe(MacAddress sender_mac, Ipv4Address address, std::uint16_t vlan) noexcept {
  return arp_request(sender_mac, {}, address, vlan);
}

ArpMessage arp_announcement(MacAddress sender_mac, Ipv4Address address, std::uint16_t vlan) noexcept {
  return arp_request(sender_mac, address, address, vlan);
}

// ---- The table ----

ArpTable::ArpTable(Table table, ArpConflictOptions conflicts) noexcept
    : table_(std::move(table)), options_(conflicts), random_(table_.options().seed->words[9] | 1) {}

efio::Result<ArpTable> ArpTable::create(NeighbourOptions options, ArpConflictOptions conflicts) {
  auto table = Table::create(std::move(options));
  if (!table) return std::unexpected(std::move(table.error()));
  return ArpTable(std::move(*table), conflicts);
}

// The waits of RFC 5227 only spread hosts that start together; an attacker gains nothing by guessing them (xorshift64).
Time ArpTable::between(Time least, Time most) noexcept {
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  const auto span = static_cast<std::uint64_t>(std::max<Time::rep>((most - least).count(), 0)) + 1;
  return least + Time(static_cast<Time::rep>(random_ % span));
}

bool ArpTable::add_local(const ArpLocal& local, bool probe, Time now) {
  const Ipv4Address address = local.prefix.address;
  if (address.is_unspecified() || address.is_multicast() || address.is_broadcast() || local.mac.is_group() ||
      local.mac.is_zero() || local_for(address, local.vlan) != nullptr)
    return false;
  Local added{.local = local,
              .state = probe ? ArpLocalState::probing : ArpLocalState::announcing,
              .left = probe ? options_.probe_count : options_.announce_count,
              .conflicts = 0,
              .due = probe ? now + between(Time::zero(), options_.probe_wait) : now,
              .defended = Time::min(),
              .rival = {}};
  locals_.push_back(added);
  return true;
}

bool ArpTable::remove_local(Ipv4Address address, std::uint16_t vlan) noexcept {
  return std::erase_if(locals_, [&](const Local& local) {
           return local.local.prefix.address == address && local.local.vlan == vlan;
         }) != 0;
}

std::vector<ArpTable::LocalState> ArpTable::locals() const {
  std::vector<LocalState> all;
  for (const Local& local : locals_) all.push_back({local.local, local.state, local.conflicts, local.rival});
  return all;
}

void ArpTable::add_proxy(std::uint16_t vlan, Ipv4Range range, MacAddress mac) {
  proxies_.push_back({vlan, range, mac});
}
void ArpTable::clear_proxies() noexcept { proxies_.clear(); }

const ArpTable::Local* ArpTable::local_for(Ipv4Address address, std::uint16_t vlan) const noexcept {
  for (const Local& local : locals_)
    if (local.local.vlan == vlan && local.local.prefix.address == address) return &local;
  return nullptr;
}

const ArpTable::Local* ArpTable::subnet_of(Ipv4Address address, std::uint16_t vlan) const noexcept {
  for (const Local& local : locals_)
    if (local.local.vlan == vlan && is_ours(local) && local.local.prefix.contains(address)) return &local;
  return nullptr;
}

// ---- In ----

// RFC 5227, 2.1.1 and 2.4: an address that is probed for conflicts with any packet of it, and with another host's probe
// for it; one of ours with any packet of it by somebody else.
bool ArpTable::notice_conflict(ArpView packet, std::uint16_t vlan, Time now) noexcept {
  bool found = false;
  for (Local& local : locals_) {
    if (local.local.vlan != vlan || local.local.mac == packet.sender_mac()) continue;
    const Ipv4Address address = local.local.prefix.address;
    const bool used = packet.sender_ip() == address;
    if (local.state == ArpLocalState::probing) {
      if (!used && !(packet.is_probe() && packet.target_ip() == address)) continue;
      found = true;
      local.rival = packet.sender_mac();
      local.state = ArpLocalState::conflict;
      ++local.conflicts;
      // Tried again: the same address may come free. RFC 5227, 2.1.1 limits the rate after so many conflicts.
      local.due = now + (local.conflicts >= options_.max_conflicts ? options_.rate_limit
                                                                   : options_.announce_wait + options_.probe_wait);
    } else if (is_ours(local) && used) {
      found = true;
      local.rival = packet.sender_mac();
      ++local.conflicts;
      const bool lately = local.defended != Time::min() && now - local.defended < options_.defend_interval;
      if (!lately) {
        local.defended = now;
        local.left = std::max(local.left, 1U);  // one announcement, now
        local.due = now;
        local.state = ArpLocalState::announcing;
      } else if (options_.give_up) {
        local.state = ArpLocalState::conflict;
        local.due = Time::max();
      }
    }
  }
  return found;
}

std::optional<ArpMessage> ArpTable::answer(ArpView packet, std::uint16_t vlan, Time now) noexcept {
  if (packet.operation() != ArpOperation::request) return std::nullopt;
  const Ipv4Address target = packet.target_ip();
  if (const Local* local = local_for(target, vlan)) {
    if (!is_ours(*local)) return std::nullopt;
    return arp_reply(packet, local->local.mac, vlan);
  }
  if (packet.is_announcement()) return std::nullopt;
  for (const Proxy& proxy : proxies_) {
    if (proxy.vlan != vlan || !proxy.range.contains(target)) continue;
    const auto known = table_.find({target, vlan}, now);
    if (known && known->neighbour.usable()) return std::nullopt;
    return arp_reply(packet, proxy.mac, vlan);
  }
  return std::nullopt;
}

ArpReceived ArpTable::receive(ArpView packet, std::uint16_t vlan, Time now) {
  const MacAddress mac = packet.sender_mac();
  const Ipv4Address sender = packet.sender_ip();
  for (const Local& local : locals_)
    if (local.local.vlan == vlan && local.local.mac == mac) return {ArpEvent::own, {}};
  if (mac.is_group() || mac.is_zero()) return {ArpEvent::bad_sender, {}};
  if (notice_conflict(packet, vlan, now)) return {ArpEvent::conflict, {}};
  if (sender.is_unspecified()) return {ArpEvent::probe, answer(packet, vlan, now)};

  const Local* const subnet = subnet_of(sender, vlan);
  const bool edge = subnet != nullptr && subnet->local.prefix.length < 31 &&
                    (sender == subnet->local.prefix.first() || sender == subnet->local.prefix.last());
  if (sender.is_multicast() || sender.is_broadcast() || sender.is_loopback() || edge) return {ArpEvent::bad_sender, {}};

  // The sender's entry first, whatever the packet is for (RFC 826); a new one only if it speaks to us.
  ArpReceived result{ArpEvent::ignored, answer(packet, vlan, now)};
  const Local* const target = local_for(packet.target_ip(), vlan);
  const bool to_us = target != nullptr && is_ours(*target);
  const bool answers = packet.operation() == ArpOperation::reply && to_us;
  if (subnet == nullptr) {
    // A static or learned entry of somebody off the subnet may be refreshed by nobody: it would be a way in.
    result.event = ArpEvent::off_subnet;
    return result;
  }
  const Learn how = answers ? Learn::confirm : result.reply && to_us ? Learn::create : Learn::update;
  result.event = event_of<ArpEvent>(table_.learn({sender, vlan}, mac, how, now));
  return result;
}

// ---- Out ----

// One of our addresses whose time has come. True where a message goes out.
bool ArpTable::advance(Local& local, Time now, ArpMessage& out) noexcept {
  const ArpLocal& own = local.local;
  if (local.state == ArpLocalState::conflict) {  // once more from the beginning
    local.state = ArpLocalState::probing;
    local.left = options_.probe_count;
    local.due = now + between(Time::zero(), options_.probe_wait);
    return false;
  }
  if (local.state == ArpLocalState::probing) {
    if (local.left == 0) {
      local.state = ArpLocalState::announcing;
      local.left = options_.announce_count;
      local.due = now;
      return false;
    }
    --local.left;
    out = arp_probe(own.mac, own.prefix.address, own.vlan);
    local.due = now + (local.left == 0 ? options_.announce_wait : between(options_.probe_min, options_.probe_max));
    return true;
  }
  if (local.left == 0) {
    local.state = ArpLocalState::bound;
    local.due = Time::max();
    return false;
  }
  --local.left;
  out = arp_announcement(own.mac, own.prefix.address, own.vlan);
  local.due = now + options_.announce_interval;
  return true;
}

std::size_t ArpTable::poll(Time now, std::span<ArpMessage> out) {
  std::size_t count = 0;
  for (Local& local : locals_) {
    while (count < out.size() && local.due <= now)
      if (advance(local, now, out[count])) ++count;
    if (count == out.size()) return count;
  }
  return count + table_.poll(now, out.subspan(count), [&](const Table::Solicit& solicit) -> std::optional<ArpMessage> {
    const Local* const from = subnet_of(solicit.key.address, solicit.key.vlan);
    if (from == nullptr) return std::nullopt;
    return arp_request(from->local.mac, from->local.prefix.address, solicit.key.address, solicit.key.vlan, solicit.mac);
  });
}

}  // namespace efnet
