#include "efnet/plugins/arp.h"

#include <algorithm>
#include <array>

#include "efnet/plugins/arguments.h"
#include "efnet/wire/arp.h"
#include "efnet/wire/ethernet.h"
#include "efnet/wire/ipv4.h"

namespace efnet {

using efio::DropReason;

namespace {

std::uint16_t vlan_of(const EthernetView& ethernet) noexcept {
  const auto tag = ethernet.tag(0);
  return tag ? tag->id() : std::uint16_t{0};
}

// RFC 1112, 6.4.
MacAddress group_mac(Ipv4Address address) noexcept {
  return MacAddress::from_number(0x0100'5E00'0000 | (address.number() & 0x7F'FFFF));
}

// Sends a message of the table's. One that finds no room is as good as lost on the wire: asked again in a second.
void emit(Gate& gate, const ArpMessage& message) noexcept {
  if (const auto bytes = gate.make(ArpMessage::frame_size); !bytes.empty()) message.emit(bytes);
}

}  // namespace

efio::Result<std::unique_ptr<ArpPlugin>> ArpPlugin::create(ArpPluginOptions options) {
  if (options.locals.empty()) return efio::fail(efio::Error::Kind::usage, "plugin arp", "no address");
  auto table = ArpTable::create(options.neighbours, options.conflicts);
  if (!table) return std::unexpected(std::move(table.error()));
  return std::unique_ptr<ArpPlugin>(new ArpPlugin(std::move(*table), std::move(options)));
}

efio::Result<std::unique_ptr<ArpPlugin>> ArpPlugin::parse(std::string_view text) {
  auto arguments = PluginArguments::parse("arp", text);
  if (!arguments) return std::unexpected(std::move(arguments.error()));
  const std::string mac_text = arguments->options().text_option("mac");
  const std::string gateway_text = arguments->options().text_option("gateway");
  const auto vlan = static_cast<std::uint16_t>(arguments->options().number("vlan", 0, 0, 4094));
  const bool probe = arguments->options().flag("probe", false);
  if (auto known = arguments->finish(); !known) return std::unexpected(std::move(known.error()));

  const auto prefix = Ipv4Prefix::parse(arguments->argument());
  if (!prefix)
    return arguments->refuse("\"{}\" is no address with a prefix length", arguments->argument())
        .hint("as arp:10.0.0.2/24?mac=02:00:00:00:00:01");
  const auto mac = MacAddress::parse(mac_text);
  if (!mac || mac->is_group() || mac->is_zero())
    return arguments->refuse("mac=\"{}\" is no station's", mac_text).hint("as mac=02:00:00:00:00:01");
  const auto gateway = Ipv4Address::parse(gateway_text);
  if (!gateway && !gateway_text.empty()) return arguments->refuse("gateway=\"{}\" is no address", gateway_text);
  ArpPluginOptions options{.locals = {{.vlan = vlan, .prefix = *prefix, .mac = *mac}}, .probe = probe};
  options.gateway = gateway;
  return create(std::move(options));
}

// The first that is heard of the time.
void ArpPlugin::start(Time now) noexcept {
  if (started_) [[likely]]
    return;
  started_ = true;
  for (const ArpLocal& local : options_.locals) table_.add_local(local, options_.probe, now);
}

// ---- In ----

void ArpPlugin::ingate(PacketBatch& packets, Gate& gate) noexcept {
  start(gate.now());
  for (const std::size_t i : packets) receive(packets, i, gate);
  release(gate);
}

void ArpPlugin::receive(PacketBatch& packets, std::size_t i, Gate& gate) noexcept {
  const auto frame = packets.bytes(i);
  if (frame.size() >= EthernetView::min_header && load16(frame, 12) == static_cast<std::uint16_t>(EtherType::ipv4))
      [[likely]]
    return;
  const auto ethernet = EthernetView::parse(frame);
  if (!ethernet || ethernet->type() != EtherType::arp) return;
  const auto packet = ArpView::parse(ethernet->payload());
  if (!packet) return packets.drop(i, DropReason::malformed);
  const ArpReceived result = table_.receive(*packet, vlan_of(*ethernet), gate.now());
  if (result.reply) {
    emit(gate, *result.reply);
    return packets.consume(i);
  }
  switch (result.event) {
    case ArpEvent::ignored:
      return;
    case ArpEvent::bad_sender:
      return packets.drop(i, DropReason::malformed);
    case ArpEvent::off_subnet:
      return packets.drop(i, DropReason::filtered);
    default:
      return packets.consume(i);
  }
}

// ---- Out ----

const ArpLocal* ArpPlugin::local_on(Ipv4Address address, std::uint16_t vlan) const noexcept {
  const auto found = std::ranges::find_if(
      options_.locals, [&](const ArpLocal& local) { return local.vlan == vlan && local.prefix.contains(address); });
  return found == options_.locals.end() ? nullptr : &*found;
}

std::optional<Ipv4Address> ArpPlugin::hop_to(Ipv4Address dst, std::uint16_t vlan) const {
  if (options_.next_hop) return options_.next_hop(dst, vlan);
  if (local_on(dst, vlan) != nullptr) return dst;
  return options_.gateway;
}

// Where a packet goes: most often where the one before it went.
struct ArpPlugin::Way {
  Ipv4Address dst;
  std::uint16_t vlan = 0;
  enum class To : std::uint8_t { nowhere, group, everybody, hop } to = To::nowhere;
  Ipv4Address hop;
  MacAddress src;  // ours
};

auto ArpPlugin::way_to(Ipv4Address dst, std::uint16_t vlan) const -> Way {
  const auto hop = hop_to(dst, vlan);
  const ArpLocal* const local = hop ? local_on(*hop, vlan) : nullptr;
  Way way{.dst = dst, .vlan = vlan, .src = local != nullptr ? local->mac : options_.locals.front().mac};
  if (dst.is_multicast()) {
    way.to = Way::To::group;
  } else if (dst.is_broadcast() || (local != nullptr && local->prefix.length < 31 && dst == local->prefix.last())) {
    way.to = Way::To::everybody;
  } else if (hop) {
    way.to = Way::To::hop;
    way.hop = *hop;
  }
  return way;
}

void ArpPlugin::outgate(PacketBatch& packets, Gate& gate) noexcept {
  start(gate.now());
  // Neighbours that are wanted, each once where packets for it follow each other; and which one a frame is for.
  std::array<ArpTable::Key, PacketBatch::capacity> keys;
  std::array<std::uint8_t, PacketBatch::capacity> frames;
  std::array<std::uint8_t, PacketBatch::capacity> key_of;
  std::size_t wanted = 0;
  std::size_t count = 0;
  std::optional<Way> way;
  for (const std::size_t i : packets) {
    const auto bytes = packets.bytes(i);
    std::byte* const at = bytes.data();
    std::uint16_t vlan = 0;
    std::size_t network = EthernetView::min_header;
    if (bytes.size() < network + Ipv4View::min_header || load48(at) != 0 ||
        load16(at + 12) != static_cast<std::uint16_t>(EtherType::ipv4)) [[unlikely]] {
      const auto ethernet = EthernetView::parse(bytes);
      if (!ethernet || !ethernet->dst().is_zero() || ethernet->type() != EtherType::ipv4) continue;
      vlan = vlan_of(*ethernet);
      network = ethernet->header_length();
    }
    // The payload may go on in further slots; the header may not.
    const auto ip = Ipv4View::parse_truncated(std::span<const std::byte>(bytes).subspan(network));
    if (!ip) [[unlikely]] {
      packets.drop(i, DropReason::malformed);
      continue;
    }
    const Ipv4Address dst = ip->dst();
    if (!way || way->dst != dst || way->vlan != vlan) way = way_to(dst, vlan);
    if (load48(at + MacAddress::size) == 0) way->src.store(at + MacAddress::size);
    switch (way->to) {
      case Way::To::hop:
        if (wanted == 0 || keys[wanted - 1].address != way->hop || keys[wanted - 1].vlan != vlan)
          keys[wanted++] = {way->hop, vlan};
        key_of[count] = static_cast<std::uint8_t>(wanted - 1);
        frames[count++] = static_cast<std::uint8_t>(i);
        break;
      case Way::To::group:
        group_mac(dst).store(at);
        break;
      case Way::To::everybody:
        MacAddress::broadcast().store(at);
        break;
      case Way::To::nowhere:
        packets.drop(i, DropReason::no_route);
        break;
    }
  }
  if (count == 0) return;

  std::array<Neighbour, PacketBatch::capacity> found;
  table_.neighbours().lookup(std::span(keys).first(wanted), gate.now(), found);
  bool kept = false;
  for (std::size_t k = 0; k < count; ++k) {
    if (found[key_of[k]].usable()) [[likely]] {
      found[key_of[k]].mac.store(packets.bytes(frames[k]).data());
    } else {
      keep(packets, frames[k], keys[key_of[k]], gate);
      kept = true;
    }
  }
  if (!kept) return;
  release(gate);
  send_due(gate);
}

void ArpPlugin::keep(PacketBatch& packets, std::size_t i, const ArpTable::Key& key, Gate& gate) noexcept {
  auto frame = packets.take(i);
  if (!frame) return packets.drop(i, frame.error());
  Neighbour neighbour;
  if (table_.neighbours().resolve(key, *frame, gate.now(), neighbour) != ArpTable::Resolution::queued)
    gate.discard(std::move(*frame), DropReason::unresolved);
}

// ---- Time ----

void ArpPlugin::tick(Gate& gate) noexcept {
  start(gate.now());
  send_due(gate);
  release(gate);
}

void ArpPlugin::send_due(Gate& gate) noexcept {
  std::array<ArpMessage, 32> due;
  for (std::size_t count = due.size(); count == due.size();) {
    count = table_.poll(gate.now(), due);
    for (const ArpMessage& message : std::span(due).first(count)) emit(gate, message);
  }
}

// Frames that waited: their hop has answered, or will not.
void ArpPlugin::release(Gate& gate) noexcept {
  std::array<ArpTable::Released, 32> out;
  for (std::size_t count = out.size(); count == out.size();) {
    count = table_.neighbours().release(out);
    for (ArpTable::Released& released : std::span(out).first(count)) {
      if (released.reason != ReleaseReason::resolved) {
        gate.discard(std::move(released.frame), DropReason::unresolved);
        continue;
      }
      released.mac.store(released.frame.bytes().data());
      if (!gate.release(released.frame)) gate.discard(std::move(released.frame), DropReason::not_forwarded);
    }
  }
}

}  // namespace efnet
