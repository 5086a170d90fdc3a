#include "efnet/tables/ndp_table.h"

#include <algorithm>

#include "efnet/wire/checksum.h"
#include "efnet/wire/icmp.h"

namespace efnet {
namespace {

constexpr std::size_t message_size = 24;  // ICMPv6 header, flags, target
constexpr std::uint32_t solicited_flag = 0x4000'0000;
constexpr std::uint32_t override_bit = 0x2000'0000;
constexpr Ipv6Address all_nodes = Ipv6Address::from_numbers(0xFF02'0000'0000'0000, 1);

struct Options {
  bool valid = true;
  std::optional<MacAddress> source;
  std::optional<MacAddress> target;
};

// An unknown type means nothing; a bad length makes the whole packet invalid (RFC 4861, 4.6).
Options read_options(std::span<const std::byte> bytes) noexcept {
  Options options;
  NdpOptionWalk walk(bytes);
  while (const auto option = walk.next()) {
    if (option->type == NdpOptionType::source_link_address) options.source = option->link_address();
    if (option->type == NdpOptionType::target_link_address) options.target = option->link_address();
  }
  options.valid = !walk.malformed();
  return options;
}

bool may_be_local(const Ipv6Address& address) noexcept {
  return !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
}

}  // namespace

std::string_view to_string(NdpEvent event) noexcept {
  constexpr std::array<std::string_view, ndp_events> names{"not_ndp", "invalid",   "ignored", "known", "changed",
                                                           "learned", "duplicate", "own",     "fixed", "full"};
  return static_cast<std::size_t>(event) < names.size() ? names[static_cast<std::size_t>(event)] : "unknown";
}

// ---- Messages ----

std::size_t NdpMessage::emit(std::span<std::byte> out, VlanTag tag) const noexcept {
  tag.tci = static_cast<std::uint16_t>((tag.tci & 0xF000) | (vlan & 0x0FFF));
  const std::span<const VlanTag> tags(&tag, vlan != 0 ? 1 : 0);
  const EthernetHeader ethernet{.dst = dst_mac, .src = src_mac, .type = EtherType::ipv6, .tags = tags};
  const NdpNeighborMessage message{
      .type = advertisement ? Icmpv6Type::neighbor_advertisement : Icmpv6Type::neighbor_solicitation,
      .target = target,
      .link_address = link_option ? std::optional(src_mac) : std::nullopt,
      .router = router,
      .solicited = solicited,
      .override = override_flag};
  const std::size_t size = ethernet.size() + Ipv6Header::size() + message.size();
  if (out.size() < size) return 0;
  std::size_t at = ethernet.emit(out);
  const std::size_t network = at;
  const Ipv6Header header{
      .src = src, .dst = dst, .next_header = IpProtocol::icmpv6, .payload_length = message.size(), .hop_limit = 255};
  at += header.emit(out.subspan(at));
  message.emit(out.subspan(at));
  if (const auto packet = Ipv6Mut::parse(out.subspan(network, size - network))) fill_transport(*packet);
  return size;
}

NdpMessage neighbor_solicitation(MacAddress src_mac, const Ipv6Address& src, const Ipv6Address& target,
                                 std::uint16_t vlan, MacAddress to) noexcept {
  const bool unicast = !to.is_zero();
  const Ipv6Address dst = unicast ? target : solicited_node(target);
  return {.src_mac = src_mac,
          .dst_mac = unicast ? to : group_mac(dst),
          .src = src,
          .dst = dst,
          .target = target,
          .vlan = vlan};
}

NdpMessage duplicate_probe(MacAddress src_mac, const Ipv6Address& target, std::uint16_t vlan) noexcept {
  NdpMessage message = neighbor_solicitation(src_mac, {}, target, vlan);
  message.link_option = false;
  return message;
}

NdpMessage neighbor_announcement(MacAddress src_mac, const Ipv6Address& address, bool router,
                                 std::uint16_t vlan) noexcept {
  return {.advertisement = true,
          .src_mac = src_mac,
          .dst_mac = group_mac(all_nodes),
          .src = address,
          .dst = all_nodes,
          .target = address,
          .router = router,
          .override_flag = true,
          .vlan = vlan};
}

// ---- The table ----

efio::Result<NdpTable> NdpTable::create(NeighbourOptions neighbours, NdpOptions options) {
  auto table = Table::create(std::move(neighbours));
  if (!table) return std::unexpected(std::move(table.error()));
  return NdpTable(std::move(*table), options);
}

bool NdpTable::add_local(const NdpLocal& local, bool probe, Time now) {
  if (!may_be_local(local.prefix.address) || local.mac.is_group() || local.mac.is_zero() ||
      local_for(local.prefix.address, local.vlan) != nullptr)
    return false;
  const bool tentative = probe && options_.probes != 0;
  locals_.push_back(
      {local, tentative ? NdpLocalState::tentative : NdpLocalState::preferred, tentative ? options_.probes : 1, now});
  return true;
}

bool NdpTable::remove_local(const Ipv6Address& address, std::uint16_t vlan) noexcept {
  return std::erase_if(locals_, [&](const Local& local) {
           return local.local.prefix.address == address && local.local.vlan == vlan;
         }) != 0;
}

std::vector<NdpTable::LocalState> NdpTable::locals() const {
  std::vector<LocalState> all;
  for (const Local& local : locals_) all.push_back({local.local, local.state});
  return all;
}

NdpTable::Local* NdpTable::local_for(const Ipv6Address& address, std::uint16_t vlan) noexcept {
  for (Local& local : locals_)
    if (local.local.vlan == vlan && local.local.prefix.address == address) return &local;
  return nullptr;
}

// Who of us asks for the address: the one on its subnet, else any of the VLAN (a gateway is mostly link-local).
const NdpTable::Local* NdpTable::source_for(const Ipv6Address& address, std::uint16_t vlan) const noexcept {
  const Local* any = nullptr;
  for (const Local& local : locals_) {
    if (local.local.vlan != vlan || local.state != NdpLocalState::preferred) continue;
    if (local.local.prefix.contains(address)) return &local;
    if (any == nullptr) any = &local;
  }
  return any;
}

// ---- In ----

NdpReceived NdpTable::receive(Ipv6View packet, MacAddress src_mac, std::uint16_t vlan, Time now) {
  const auto chain = packet.chain();
  if (!chain || chain->protocol != IpProtocol::icmpv6 || chain->fragmented) return {NdpEvent::not_ndp, {}};
  const auto message = packet.payload().subspan(chain->length);
  const auto icmp = Icmpv6View::parse(message);
  if (!icmp) return {NdpEvent::not_ndp, {}};
  const bool is_advertisement = icmp->type() == Icmpv6Type::neighbor_advertisement;
  if (!is_advertisement && icmp->type() != Icmpv6Type::neighbor_solicitation) return {NdpEvent::not_ndp, {}};

  // RFC 4861, 7.1.1 and 7.1.2. A hop limit of 255 proves that no router was passed.
  if (packet.hop_limit() != 255 || icmp->code() != 0 || message.size() < message_size ||
      verify_transport(packet) != ChecksumState::right)
    return {NdpEvent::invalid, {}};
  const Ipv6Address target = Ipv6Address::load(message.data() + 8);
  const Options options = read_options(message.subspan(message_size));
  if (!options.valid || target.is_multicast()) return {NdpEvent::invalid, {}};
  if (src_mac.is_group() || src_mac.is_zero()) return {NdpEvent::invalid, {}};
  for (const Local& local : locals_)
    if (local.local.vlan == vlan && local.local.mac == src_mac) return {NdpEvent::own, {}};
  const std::optional<MacAddress> option = is_advertisement ? options.target : options.source;
  if (option && (option->is_group() || option->is_zero())) return {NdpEvent::invalid, {}};

  if (!is_advertisement) {
    const bool from_nobody = packet.src().is_unspecified();
    if (packet.src().is_multicast() || (from_nobody && (packet.dst() != solicited_node(target) || option)))
      return {NdpEvent::invalid, {}};
    return solicited(packet, target, option, src_mac, vlan, now);
  }
  const std::uint32_t flags = icmp->rest();
  if (packet.dst().is_multicast() && (flags & solicited_flag) != 0) return {NdpEvent::invalid, {}};
  return advertised(target, option, (flags & solicited_flag) != 0, (flags & override_bit) != 0, vlan, now);
}

void NdpTable::give_up(Local& local) noexcept {
  local.state = NdpLocalState::duplicate;
  local.due = Time::max();
}

// RFC 4861, 7.2.3 and 7.2.4; RFC 4862, 5.4.3.
NdpReceived NdpTable::solicited(Ipv6View packet, const Ipv6Address& target, std::optional<MacAddress> option,
                                MacAddress src_mac, std::uint16_t vlan, Time now) {
  const Ipv6Address src = packet.src();
  Local* const local = local_for(target, vlan);
  if (local == nullptr) return {NdpEvent::ignored, {}};
  if (local->state != NdpLocalState::preferred) {
    if (!src.is_unspecified() || local->state == NdpLocalState::duplicate) return {NdpEvent::ignored, {}};
    give_up(*local);
    return {NdpEvent::duplicate, {}};
  }
  NdpMessage reply{.advertisement = true,
                   .src_mac = local->local.mac,
                   .src = target,
                   .target = target,
                   .router = options_.router,
                   .override_flag = true,
                   .vlan = vlan};
  if (src.is_unspecified()) {
    // Somebody probes for an address that is ours: all are told.
    reply.dst = all_nodes;
    reply.dst_mac = group_mac(all_nodes);
    return {NdpEvent::duplicate, reply};
  }
  reply.solicited = true;
  reply.dst = src;
  reply.dst_mac = option.value_or(src_mac);
  NdpReceived result{NdpEvent::ignored, reply};
  if (!option) return result;
  switch (table_.learn({src, vlan}, *option, Learn::create, now)) {
    case Learned::nothing:
      break;
    case Learned::same:
      result.event = NdpEvent::known;
      break;
    case Learned::changed:
      result.event = NdpEvent::changed;
      break;
    case Learned::created:
      result.event = NdpEvent::learned;
      break;
    case Learned::fixed:
      result.event = NdpEvent::fixed;
      break;
    case Learned::full:
      result.event = NdpEvent::full;
      break;
  }
  return result;
}

// RFC 4861, 7.2.5: the entry is the target's, whoever sent it.
NdpReceived NdpTable::advertised(const Ipv6Address& target, std::optional<MacAddress> option, bool is_solicited,
                                 bool may_override, std::uint16_t vlan, Time now) {
  if (Local* const local = local_for(target, vlan)) {
    if (local->state == NdpLocalState::tentative) give_up(*local);
    return {NdpEvent::duplicate, {}};
  }
  const Key key{target, vlan};
  const auto known = table_.find(key, now);
  if (!known) return {NdpEvent::ignored, {}};
  if (!known->neighbour.usable()) {
    if (!option) return {NdpEvent::ignored, {}};
    table_.learn(key, *option, is_solicited ? Learn::confirm : Learn::hearsay, now);
    return {NdpEvent::changed, {}};
  }
  const bool differs = option && *option != known->neighbour.mac;
  if (known->neighbour.state == NeighbourState::fixed) return {differs ? NdpEvent::fixed : NdpEvent::known, {}};
  if (differs && !may_override) {
    // Not believed, but no longer relied upon either.
    if (known->neighbour.state == NeighbourState::reachable) table_.learn(key, known->neighbour.mac, Learn::doubt, now);
    return {NdpEvent::ignored, {}};
  }
  const MacAddress mac = option.value_or(known->neighbour.mac);
  if (is_solicited)
    table_.learn(key, mac, Learn::confirm, now);
  else if (differs)
    table_.learn(key, mac, Learn::update, now);
  return {differs ? NdpEvent::changed : NdpEvent::known, {}};
}

// ---- Out ----

std::size_t NdpTable::poll(Time now, std::span<NdpMessage> out) {
  std::size_t count = 0;
  for (Local& local : locals_) {
    while (count < out.size() && local.due <= now) {
      const NdpLocal& own = local.local;
      if (local.state == NdpLocalState::tentative && local.left == 0) {  // nobody objected
        local.state = NdpLocalState::preferred;
        local.left = 1;
        continue;
      }
      if (local.left == 0) {
        local.due = Time::max();
        continue;
      }
      --local.left;
      out[count++] = local.state == NdpLocalState::tentative
                         ? duplicate_probe(own.mac, own.prefix.address, own.vlan)
                         : neighbor_announcement(own.mac, own.prefix.address, options_.router, own.vlan);
      local.due = now + options_.retransmit;
    }
    if (count == out.size()) return count;
  }
  std::array<Table::Solicit, 32> due;
  while (count < out.size()) {
    const std::size_t most = std::min(due.size(), out.size() - count);
    const std::size_t asked = table_.poll(now, std::span(due).first(most));
    for (const Table::Solicit& solicit : std::span(due).first(asked)) {
      const Local* const from = source_for(solicit.key.address, solicit.key.vlan);
      if (from == nullptr) continue;
      out[count++] = neighbor_solicitation(from->local.mac, from->local.prefix.address, solicit.key.address,
                                           solicit.key.vlan, solicit.mac);
    }
    if (asked < most) break;
  }
  return count;
}

}  // namespace efnet
