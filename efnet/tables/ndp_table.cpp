#include "efnet/tables/ndp_table.h"

#include <algorithm>

#include "efnet/wire/checksum.h"
#include "efnet/wire/icmp.h"

namespace efnet {
namespace {

constexpr Ipv6Address all_nodes = Ipv6Address::from_numbers(0xFF02'0000'0000'0000, 1);

bool may_be_local(const Ipv6Address& address) noexcept {
  return !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
}

}  // namespace

std::string_view to_string(NdpEvent event) noexcept {
  constexpr std::array<std::string_view, ndp_events> names{"not_ndp", "invalid",   "ignored", "known", "changed",
                                                           "learned", "duplicate", "own",     "fixed", "full"};
  return static_cast<std::size_t>(event) < names.size() ? names[static_cast<std::size_t>(event)] : "unknown";
}

std::string_view to_string(NdpLocalState state) noexcept {
  constexpr std::array<std::string_view, 3> names{"tentative", "preferred", "duplicate"};
  return static_cast<std::size_t>(state) < names.size() ? names[static_cast<std::size_t>(state)] : "unknown";
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
  if (message.empty()) return {NdpEvent::not_ndp, {}};
  const Icmpv6Type type{load8(message.data())};
  const bool is_advertisement = type == Icmpv6Type::neighbor_advertisement;
  if (!is_advertisement && type != Icmpv6Type::neighbor_solicitation) return {NdpEvent::not_ndp, {}};
  const auto neighbor = NdpNeighborView::parse(message);
  if (!neighbor || ndp_fault(packet) != NdpFault::none) return {NdpEvent::invalid, {}};

  if (src_mac.is_group() || src_mac.is_zero()) return {NdpEvent::invalid, {}};
  for (const Local& local : locals_)
    if (local.local.vlan == vlan && local.local.mac == src_mac) return {NdpEvent::own, {}};
  const auto option = neighbor->link_address();
  if (option && (option->is_group() || option->is_zero())) return {NdpEvent::invalid, {}};
  if (is_advertisement) return advertised(*neighbor, vlan, now);

  const Ipv6Address src = packet.src();
  if (src.is_multicast() || (src.is_unspecified() && packet.dst() != solicited_node(neighbor->target())))
    return {NdpEvent::invalid, {}};
  return solicited(packet, *neighbor, src_mac, vlan, now);
}

void NdpTable::give_up(Local& local) noexcept {
  local.state = NdpLocalState::duplicate;
  local.due = Time::max();
}

// RFC 4861, 7.2.3 and 7.2.4; RFC 4862, 5.4.3.
NdpReceived NdpTable::solicited(Ipv6View packet, NdpNeighborView message, MacAddress src_mac, std::uint16_t vlan,
                                Time now) {
  const Ipv6Address src = packet.src();
  const Ipv6Address target = message.target();
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
  const auto option = message.link_address();
  reply.dst_mac = option.value_or(src_mac);
  if (!option) return {NdpEvent::ignored, reply};
  return {event_of<NdpEvent>(table_.learn({src, vlan}, *option, Learn::create, now)), reply};
}

// RFC 4861, 7.2.5: the entry is the target's, whoever sent it.
NdpReceived NdpTable::advertised(NdpNeighborView message, std::uint16_t vlan, Time now) {
  const Ipv6Address target = message.target();
  const auto option = message.link_address();
  if (Local* const local = local_for(target, vlan)) {
    if (local->state == NdpLocalState::tentative) give_up(*local);
    return {NdpEvent::duplicate, {}};
  }
  const Key key{target, vlan};
  const auto known = table_.find(key, now);
  if (!known) return {NdpEvent::ignored, {}};
  if (!known->neighbour.usable()) {
    if (!option) return {NdpEvent::ignored, {}};
    table_.learn(key, *option, message.is_solicited() ? Learn::confirm : Learn::hearsay, now);
    return {NdpEvent::changed, {}};
  }
  const bool differs = option && *option != known->neighbour.mac;
  if (known->neighbour.state == NeighbourState::fixed) return {differs ? NdpEvent::fixed : NdpEvent::known, {}};
  if (differs && !message.overrides()) {
    // Not believed, but no longer relied upon either.
    if (known->neighbour.state == NeighbourState::reachable) table_.learn(key, known->neighbour.mac, Learn::doubt, now);
    return {NdpEvent::ignored, {}};
  }
  const MacAddress mac = option.value_or(known->neighbour.mac);
  if (message.is_solicited())
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
  return count + table_.poll(now, out.subspan(count), [&](const Table::Solicit& solicit) -> std::optional<NdpMessage> {
    const Local* const from = source_for(solicit.key.address, solicit.key.vlan);
    if (from == nullptr) return std::nullopt;
    return neighbor_solicitation(from->local.mac, from->local.prefix.address, solicit.key.address, solicit.key.vlan,
                                 solicit.mac);
  });
}

}  // namespace efnet
