#include "efnet/gateway/gateway.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "efio/fail.h"
#include "efnet/gateway/offload.h"
#include "efnet/plugins/icmp_echo.h"
#include "efnet/plugins/vlan.h"
#include "efnet/wire/checksum.h"
#include "efnet/wire/ethernet.h"
#include "efnet/wire/format.h"

namespace efnet {

using efio::DropReason;
using efio::Error;
using efio::fail;
using efio::Slot;

namespace {

constexpr std::uint8_t port_unreachable = 3;  // of "destination unreachable"
constexpr std::uint8_t fragmentation_needed = 4;
constexpr std::size_t most_announced = 256;   // addresses of the pool that are announced one by one
constexpr std::size_t room_for_requests = 7;  // slots beside that of a frame, for what ARP may have to ask
constexpr std::size_t most_ended = 4096;      // sessions a call of tick()
constexpr Time nat_period = std::chrono::milliseconds(1);
constexpr Time sides_period = std::chrono::milliseconds(100);

constexpr std::uint64_t mac_mask =
    std::endian::native == std::endian::little ? 0x0000'FFFF'FFFF'FFFF : ~std::uint64_t{0xFFFF};
std::uint64_t first_mac(std::span<const std::byte> frame) noexcept {  // of a frame of 14 bytes at least
  std::uint64_t word;
  std::memcpy(&word, frame.data(), sizeof word);
  return word & mac_mask;
}

constexpr std::uint64_t bit(std::size_t i) noexcept { return std::uint64_t{1} << i; }

bool is_broadcast_of(const Ipv4Prefix& subnet, Ipv4Address address) noexcept {
  return subnet.length < 31 && (address == subnet.last() || address == subnet.first());
}

// What is not the address of a host on the subnet is nobody's to announce.
void add_locals(ArpPluginOptions& options, const Ipv4Prefix& subnet, MacAddress mac, Ipv4Range range,
                std::vector<Ipv4Range>& too_many) {
  if (!subnet.contains(range.first) && !subnet.contains(range.last)) return;
  range.first = std::max(range.first, subnet.first());
  range.last = std::min(range.last, subnet.last());
  if (options.locals.size() + range.first.count_to(range.last) > most_announced) {
    too_many.push_back(range);
    return;
  }
  for (std::uint64_t i = 0, count = range.first.count_to(range.last); i < count; ++i) {
    const Ipv4Address address = range.first.advanced(i);
    const bool is_there =
        std::ranges::any_of(options.locals, [&](const ArpLocal& local) { return local.prefix.address == address; });
    if (!is_there && !is_broadcast_of(subnet, address))
      options.locals.push_back({.prefix = {address, subnet.length}, .mac = mac});
  }
}

void add_up(PluginStats& sum, const PluginStats& more) {
  const auto add_gate = [](GateStats& into, const GateStats& from) {
    into.seen += from.seen;
    into.passed += from.passed;
    into.taken += from.taken;
    for (std::size_t i = 0; i < into.dropped.size(); ++i) into.dropped[i] += from.dropped[i];
  };
  add_gate(sum.in, more.in);
  add_gate(sum.out, more.out);
  sum.made += more.made;
  sum.not_made += more.not_made;
  sum.kept += more.kept;
  sum.released += more.released;
  sum.discarded += more.discarded;
}

void add_up(NatCounters& sum, const NatCounters& more) noexcept {
  for (std::size_t side = 0; side < sum.verdicts.size(); ++side)
    for (std::size_t i = 0; i < nat_verdicts; ++i) sum.verdicts[side][i] += more.verdicts[side][i];
  for (const auto count : {&NatCounters::mappings_made, &NatCounters::mappings_ended, &NatCounters::sessions_made,
                           &NatCounters::sessions_ended, &NatCounters::errors_sent, &NatCounters::errors_suppressed,
                           &NatCounters::outbox_full, &NatCounters::fragments_released,
                           &NatCounters::fragments_given_up, &NatCounters::syns_answered, &NatCounters::syns_forgotten})
    sum.*count += more.*count;
}

std::vector<PluginStats> add_up(std::vector<PluginStats> sum, const std::vector<PluginStats>& more) {
  if (sum.empty()) return more;
  for (std::size_t i = 0; i < more.size(); ++i) add_up(sum[i], more[i]);
  return sum;
}

}  // namespace

// ---- Set-up ----

efio::Result<std::unique_ptr<Gateway>> Gateway::create(GatewayOptions options) {
  if (const auto fault = options.find_fault()) return fail(Error::Kind::usage, "set up the gateway", "{}", fault->why);
  auto routes = Routes4::create({.capacity = options.routes.size() + 1, .blocks = 4 * (options.routes.size() + 1)});
  if (!routes) return std::unexpected(std::move(routes.error()));
  Nat44Options& nat_options = options.nat;
  nat_options.inside_address = options.inside.address.address;
  nat_options.outside_address = options.outside.address.address;
  // Segments are longer than the MTU until they are cut: then we look at lengths, not the NAT.
  const bool offloads = options.inside.offloads || options.outside.offloads;
  nat_options.inside_mtu = offloads ? std::uint16_t{0} : options.inside.mtu;
  nat_options.outside_mtu = offloads ? std::uint16_t{0} : options.outside.mtu;
  nat_options.clear_macs = true;
  const bool whole = nat_options.inside.empty();
  if (whole) nat_options.inside.push_back({options.inside.address.first(), options.inside.address.length});
  for (RouteNumber i = 0; i < options.routes.size(); ++i) {
    const GatewayRoute& route = options.routes[i];
    if (routes->find(route.prefix) != no_route)
      return fail(Error::Kind::usage, "set up the gateway", "two routes to {}", route.prefix);
    if (routes->add(route.prefix, i) != RouteStatus::done)
      return fail(Error::Kind::usage, "set up the gateway", "no room for the route to {}", route.prefix);
    if (whole && options.inside.address.contains(route.gateway)) nat_options.inside.push_back(route.prefix);
  }
  auto errors = NatErrors::create(nat_options);
  if (!errors) return std::unexpected(std::move(errors.error()));
  auto nat = Nat44::create(nat_options);
  if (!nat) return std::unexpected(std::move(nat.error()));
  return std::unique_ptr<Gateway>(
      new Gateway(std::move(options), std::move(*nat), std::move(*errors), std::move(*routes)));
}

Gateway::Gateway(GatewayOptions options, std::unique_ptr<Nat44> nat, NatErrors errors, Routes4 routes)
    : options_(std::move(options)), nat_(std::move(nat)), errors_(std::move(errors)), routes_(std::move(routes)) {
  offloads_ = options_.inside.offloads || options_.outside.offloads;
  for (const NatSide which : {NatSide::inside, NatSide::outside}) {
    side(which).address = options_.port(which).address;
    side(which).tagged = options_.port(which).vlan != 0;
  }
}

Gateway::~Gateway() = default;

efio::Result<void> Gateway::attach(NatSide which, efio::TxQueue& tx, MacAddress mac) {
  const GatewayPort& port = options_.port(which);
  if (mac.is_group() || mac.is_zero())
    return fail(Error::Kind::usage, "set up the gateway", "{} is no station's MAC address", mac);
  ArpPluginOptions options{.locals = {{.prefix = port.address, .mac = mac}}};
  options.neighbours = options_.neighbours;
  options.next_hop = [this, which](Ipv4Address dst, std::uint16_t) -> std::optional<Ipv4Address> {
    const auto hop = hop_to(dst);
    return hop && hop->side == which ? std::optional(hop->address) : std::nullopt;
  };
  std::vector<Ipv4Range> proxies;
  if (which == NatSide::outside) {
    const auto add = [&](Ipv4Range range) { add_locals(options, port.address, mac, range, proxies); };
    for (const auto& range : options_.nat.pool.ranges) add(range.addresses);
    for (const auto& rule : options_.nat.deterministic) add(rule.outside);
    for (const auto& fixed : options_.nat.deterministic) add(fixed.outside);
    for (const auto& pair : options_.nat.pairs) add({pair.outside, pair.outside});
    for (const auto& forward : options_.nat.forwards) add({forward.outside, forward.outside});
  }
  auto arp = ArpPlugin::create(std::move(options));
  if (!arp) return std::unexpected(std::move(arp.error()));
  for (const Ipv4Range& range : proxies) (*arp)->table().add_proxy(0, range, mac);
  std::vector<Ipv4Address> pinged{port.address.address};
  if (which == NatSide::inside) pinged.push_back(options_.outside.address.address);

  detach(which);
  Side& it = side(which);
  it.pipeline.emplace(&tx, PipelineOptions{.port = static_cast<std::uint32_t>(which)});
  if (port.vlan != 0) it.pipeline->add(std::make_shared<VlanPlugin>(VlanTag::make(port.vlan)));
  it.arp = std::move(*arp);
  for (const auto& [key, neighbour] : it.known)  // unconfirmed: they are asked again when they are used
    if (port.address.contains(key.address))
      it.arp->table().neighbours().learn(key, neighbour, Learn::create, it.known_at);
  it.known.clear();
  it.pipeline->add(it.arp);
  it.pipeline->add(std::make_shared<IcmpEchoPlugin>(std::move(pinged), std::vector<Ipv6Address>()));
  it.tx = &tx;
  std::array<std::byte, 8> bytes{};
  mac.store(bytes.data());
  it.mac = first_mac(bytes);
  sides_due_ = {};
  return {};
}

NatCounters Gateway::nat_counters() const noexcept {
  NatCounters sum = nat_before_;
  add_up(sum, nat_->counters());
  return sum;
}

efio::Result<NatRestored> Gateway::take_over(Gateway& old, Time now, std::chrono::nanoseconds unix_time) {
  std::vector<std::byte> bytes;
  old.nat_->snapshot(now, unix_time,
                     [&](std::span<const std::byte> part) { bytes.insert(bytes.end(), part.begin(), part.end()); });
  old.nat_->flush(std::nullopt, now);  // there, mappings end; here they are made: a log sees both
  auto restored = nat_->restore(bytes, now, unix_time);
  if (!restored) return restored;
  old.send_own(now);
  for (const NatSide which : {NatSide::inside, NatSide::outside}) {
    Side& to = side(which);
    Side& from = old.side(which);
    to.known_at = now;
    if (from.arp) {
      const auto& neighbours = from.arp->table().neighbours();
      for (std::size_t i = 0; i < neighbours.capacity(); ++i)
        if (const auto entry = neighbours.entry(i, now); entry && entry->neighbour.usable())
          to.known.emplace_back(entry->key, entry->neighbour.mac);
    }
    old.detach(which);
    to.before = std::move(from.before);
  }
  counters_ = old.counters_;
  router_counters_ = old.router_counters_;
  nat_before_ = old.nat_counters();
  return restored;
}

void Gateway::detach(NatSide which) noexcept {
  Side& it = side(which);
  if (!it.pipeline) return;
  it.arp->table().neighbours().flush();  // frames that wait for a neighbour are given up, and counted
  it.pipeline->tick(sides_due_);
  it.tx->flush();
  it.before = add_up(std::move(it.before), it.pipeline->stats());
  it.pipeline.reset();
  it.arp.reset();
  it.tx = nullptr;
}

ArpTable* Gateway::arp(NatSide which) noexcept {
  Side& it = side(which);
  return it.arp ? &it.arp->table() : nullptr;
}

std::vector<PluginStats> Gateway::plugin_stats(NatSide which) const {
  const Side& it = side(which);
  return it.pipeline ? add_up(it.before, it.pipeline->stats()) : it.before;
}

// ---- A packet's way ----

void Gateway::pass(NatSide from, efio::RxBatch& batch, Time now) noexcept {
  batch.prefetch();
  RxPackets packets(batch);
  counters_.sides[static_cast<std::size_t>(from)].received += packets.count();
  meet(from, packets, batch, now);
  translate(from, packets, batch, now);
  leave(other(from), packets, now);
  packets.finish();
  send_own(now);
}

// ---- What is for us ----

Gateway::Towards Gateway::towards(NatSide from, const Side& near, std::span<const std::byte> frame) const noexcept {
  std::size_t network = EthernetView::min_header;
  if (load16(frame.data() + 12) != static_cast<std::uint16_t>(EtherType::ipv4)) [[unlikely]] {
    const auto ethernet = EthernetView::parse(frame);
    if (!ethernet) return Towards::through;  // the NAT says why it is none
    if (const auto tag = ethernet->tag(0); tag && tag->id() != 0) return Towards::vlan;
    if (ethernet->type() == EtherType::arp) return Towards::us;
    if (ethernet->type() != EtherType::ipv4) return Towards::through;
    network = ethernet->header_length();
  }
  if (frame.size() < network + Ipv4View::min_header) return Towards::through;
  const Ipv4Address dst = Ipv4Address::load(frame.data() + network + 16);
  if (dst == near.address.address) return Towards::us;
  if (from == NatSide::outside) return Towards::through;
  if (dst == options_.outside.address.address) return Towards::us;
  if (is_broadcast_of(options_.outside.address, dst)) return Towards::broadcast;
  return leads_inside(dst) ? Towards::back : Towards::through;
}

bool Gateway::leads_inside(Ipv4Address dst) const noexcept {
  if (options_.routes.empty()) [[likely]]
    return options_.inside.address.contains(dst);
  const auto hop = hop_to(dst);
  return hop && hop->side == NatSide::inside;
}

std::optional<Gateway::Hop> Gateway::hop_to(Ipv4Address dst) const noexcept {
  if (!options_.routes.empty()) {
    const RouteNumber number = routes_.lookup(dst);
    if (number != no_route) {
      // A route to a part of a subnet of ours goes before the subnet; else the subnet goes first.
      const GatewayRoute& route = options_.routes[number];
      const auto narrower = [&](const Ipv4Prefix& subnet) {
        return !subnet.contains(dst) || route.prefix.length > subnet.length;
      };
      if (narrower(options_.inside.address) && narrower(options_.outside.address))
        return Hop{options_.inside.address.contains(route.gateway) ? NatSide::inside : NatSide::outside, route.gateway};
    }
  }
  if (options_.inside.address.contains(dst)) return Hop{NatSide::inside, dst};
  if (options_.outside.address.contains(dst)) return Hop{NatSide::outside, dst};
  if (options_.gateway) return Hop{NatSide::outside, *options_.gateway};
  return std::nullopt;
}

// Gives up what another station is meant by, and hands ARP and ping theirs. What is plainly on its way through, as
// nearly everything is, costs two comparisons.
void Gateway::meet(NatSide from, RxPackets& packets, efio::RxBatch& batch, Time now) noexcept {
  Side& near = side(from);
  if (!near.pipeline) return;
  std::uint64_t ours = 0;
  const auto sort = [&](std::size_t i) {
    const Towards way = towards(from, near, packets.bytes(i));
    if (way == Towards::vlan) return give_up(from, packets, batch, i, GatewayDrop::vlan);
    if (way == Towards::broadcast) return give_up(from, packets, batch, i, GatewayDrop::broadcast);
    if (way != Towards::through) ours |= bit(i);
  };
  for (const std::size_t i : packets) {
    const auto frame = packets.bytes(i);
    if (packets[i].has(Slot::more)) [[unlikely]] {
      give_up(from, packets, batch, i, GatewayDrop::split);
      continue;
    }
    if (frame.size() < EthernetView::min_header) [[unlikely]]
      continue;  // the NAT counts it as malformed
    if (first_mac(frame) != near.mac) [[unlikely]] {
      const auto ethernet = EthernetView::parse(frame);
      if (!MacAddress::load(frame.data()).is_group()) {
        give_up(from, packets, batch, i, GatewayDrop::other_station);
        continue;
      }
      if (ethernet && ethernet->type() == EtherType::ipv4) {
        give_up(from, packets, batch, i, GatewayDrop::broadcast);
        continue;
      }
    }
    if (!near.tagged) [[likely]]
      sort(i);
  }
  if (near.tagged) [[unlikely]] {
    near.pipeline->ingate(packets, now);
    for (const std::size_t i : packets)
      if (packets.bytes(i).size() >= EthernetView::min_header) sort(i);
  } else if (ours != 0) [[unlikely]] {
    near.pipeline->ingate(packets, now);
  }
  if (ours != 0) [[unlikely]]
    answer(from, packets, batch, ours, now);
}

// Neither ARP nor ping wanted these.
void Gateway::answer(NatSide from, RxPackets& packets, efio::RxBatch& batch, std::uint64_t ours, Time now) noexcept {
  for (; ours != 0; ours &= ours - 1) {
    const auto i = static_cast<std::size_t>(std::countr_zero(ours));
    if (!packets.has(i)) continue;
    NatPacket packet;
    FlowKey4 key;
    classify(packets.bytes(i), packet, key);
    if (packet.refused == NatVerdict::not_ipv4) continue;  // the NAT says so
    const Ipv4Address dst = key.dst;
    const bool to_us = dst == options_.inside.address.address || dst == options_.outside.address.address;
    if (to_us && nat_->mappings().owns(dst)) continue;  // an address that the NAT uses too
    if (to_us || packet.refused != NatVerdict::translated) {
      // Whoever is inside is told that nobody listens here; outside we are silent.
      if (packet.refused == NatVerdict::translated && packet.kind == FlowClass::ports && from == NatSide::inside)
        errors_.send(from, packet, IcmpType::destination_unreachable, port_unreachable, 0, now, router_counters_);
      give_up(from, packets, batch, i,
              packet.refused == NatVerdict::translated ? GatewayDrop::own_address : GatewayDrop::turned_malformed);
    } else {
      turn_back(from, packets, batch, i, now);
    }
  }
}

// From an inside network to another one, by us: as it is.
void Gateway::turn_back(NatSide from, RxPackets& packets, efio::RxBatch& batch, std::size_t i, Time now) noexcept {
  NatPacket packet;
  FlowKey4 key;
  const auto frame = packets.bytes(i);
  classify(frame, packet, key);
  const Ipv4Mut ip = packet.ip();
  if (is_martian(ip.src(), ip.dst()) || is_broadcast_of(side(from).address, ip.dst()))
    return give_up(from, packets, batch, i, GatewayDrop::broadcast);
  if (ip.ttl() <= 1) {
    errors_.send(from, packet, IcmpType::time_exceeded, 0, 0, now, router_counters_);
    return give_up(from, packets, batch, i, GatewayDrop::turned_ttl);
  }
  const std::uint16_t before = load16(ip.header().data() + 8);
  ip.set_ttl(static_cast<std::uint8_t>(ip.ttl() - 1));
  ip.set_checksum(update16(ip.checksum(), before, static_cast<std::uint16_t>(before - 0x100)));
  std::memset(frame.data(), 0, 2 * MacAddress::size);
  ++counters_.sides[static_cast<std::size_t>(from)].turned;
  send_copy(from, frame, now, &packets[i]);
  packets.consume(i);
}

void Gateway::give_up(NatSide from, RxPackets& packets, efio::RxBatch& batch, std::size_t i,
                      GatewayDrop drop) noexcept {
  ++counters_.sides[static_cast<std::size_t>(from)].dropped[static_cast<std::size_t>(drop)];
  batch.drop(i, drop_reason(drop));
  packets.consume(i);
}

// ---- What goes through ----

void Gateway::refuse_too_big(NatSide from, RxPackets& packets, efio::RxBatch& batch, Time now) noexcept {
  const std::uint16_t mtu = options_.port(other(from)).mtu;
  if (mtu == 0) return;
  for (const std::size_t i : packets) {
    if (packet_length(packets[i], packets.bytes(i)) <= mtu) [[likely]]
      continue;
    NatPacket packet;
    FlowKey4 key;
    classify(packets.bytes(i), packet, key);
    if (packet.refused == NatVerdict::translated && packet.ip().dont_fragment())
      errors_.send(from, packet, IcmpType::destination_unreachable, fragmentation_needed, mtu, now, router_counters_);
    give_up(from, packets, batch, i, GatewayDrop::too_big);
  }
}

void Gateway::translate(NatSide from, RxPackets& packets, efio::RxBatch& batch, Time now) noexcept {
  if (offloads_) [[unlikely]]
    refuse_too_big(from, packets, batch, now);
  std::array<std::span<std::byte>, PacketBatch::capacity> frames;
  std::array<std::uint8_t, PacketBatch::capacity> indices;
  std::array<NatVerdict, PacketBatch::capacity> verdicts;
  std::size_t count = 0;
  for (const std::size_t i : packets) {
    indices[count] = static_cast<std::uint8_t>(i);
    frames[count++] = packets.bytes(i);
  }
  const auto all = std::span(frames).first(count);
  if (from == NatSide::inside)
    nat_->outward(all, now, verdicts);
  else
    nat_->inward(all, now, verdicts);
  if (offloads_) [[unlikely]]
    for (std::size_t k = 0; k < count; ++k)
      if (packets[indices[k]].has(Slot::metadata) && !is_drop(verdicts[k]))
        renew_pending_checksum(packets[indices[k]], frames[k]);
  for (std::size_t k = 0; k < count; ++k) {
    if (passes(verdicts[k])) [[likely]]
      continue;
    if (is_drop(verdicts[k]))
      batch.drop(indices[k], drop_reason(verdicts[k]));
    else if (verdicts[k] == NatVerdict::hairpinned)
      send_copy(from, frames[k], now, &packets[indices[k]]);
    packets.consume(indices[k]);  // what is kept has been copied
  }
}

void Gateway::leave(NatSide to, RxPackets& packets, Time now) noexcept {
  if (packets.empty()) return;
  Side& far = side(to);
  if (far.tx == nullptr) return packets.drop_rest(DropReason::device_gone);
  far.pipeline->outgate(packets, now);
  forward(packets, *far.tx);
  far.tx->flush();
  if (packets.empty()) [[likely]]
    return;
  forward(packets, *far.tx);
  far.tx->flush();
  for (const std::size_t i : packets) {
    far.tx->drop(1, far.tx->failed() ? DropReason::device_gone : DropReason::not_forwarded);
    ++counters_.sides[static_cast<std::size_t>(to)].no_room;
    packets.consume(i);
  }
}

// A frame of ours, or one that goes back to where it came from in `slot`: both MAC addresses are the ARP plugin's to
// fill in.
void Gateway::send_copy(NatSide to, std::span<const std::byte> frame, Time now, const Slot* slot) noexcept {
  Side& it = side(to);
  if (it.tx == nullptr) return;
  auto claimed = it.tx->claim(1 + room_for_requests);
  if (claimed.empty()) {
    it.tx->flush();
    claimed = it.tx->claim(1 + room_for_requests);
  }
  if (claimed.empty() || frame.size() > claimed.space(0).size()) {
    it.tx->drop(1, !claimed.empty()  ? DropReason::oversize
                   : it.tx->failed() ? DropReason::device_gone
                                     : DropReason::not_forwarded);
    ++counters_.sides[static_cast<std::size_t>(to)].no_room;
    return;
  }
  std::memcpy(claimed[0].bytes().data(), frame.data(), frame.size());
  claimed[0].length = static_cast<std::uint32_t>(frame.size());
  if (slot != nullptr && slot->has(Slot::metadata)) write_metadata(claimed[0], read_metadata(*slot));
  TxPackets out(claimed, 1);
  it.pipeline->outgate(out, now);
  out.commit();
}

// ICMP errors, fragments that the NAT has let go, and what ARP and ping had to say.
void Gateway::send_own(Time now) noexcept {
  for (const NatSide to : {NatSide::inside, NatSide::outside}) {
    const auto send = [&](std::span<const std::byte> frame) {
      if (side(to).tx != nullptr) {
        ++counters_.sides[static_cast<std::size_t>(to)].made;
        send_copy(to, frame, now);
      }
      return true;
    };
    nat_->collect(to, send);
    errors_.outbox(to).collect(send);
    if (side(to).tx != nullptr) side(to).tx->flush();
  }
}

// ---- Time ----

bool Gateway::tick(Time now) noexcept {
  bool more = false;
  if (now >= nat_due_) {
    more = nat_->tick(now, most_ended);
    nat_due_ = now + (more ? Time(0) : nat_period);
  }
  if (now >= sides_due_) {
    for (Side& it : sides_)
      if (it.pipeline) it.pipeline->tick(now);
    sides_due_ = now + sides_period;
  }
  send_own(now);
  return more;
}

}  // namespace efnet
