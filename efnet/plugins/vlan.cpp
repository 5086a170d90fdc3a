#include "efnet/plugins/vlan.h"

#include <charconv>

#include "efnet/plugins/arguments.h"
#include "efnet/wire/vlan.h"

namespace efnet {

efio::Result<std::unique_ptr<VlanPlugin>> VlanPlugin::parse(std::string_view text) {
  auto arguments = PluginArguments::parse("vlan", text);
  if (!arguments) return std::unexpected(std::move(arguments.error()));
  const auto priority = static_cast<std::uint8_t>(arguments->options().number("priority", 0, 0, 7));
  const bool service = arguments->options().choice("tpid", {"802.1q", "802.1ad"}) == "802.1ad";
  if (auto known = arguments->finish(); !known) return std::unexpected(std::move(known.error()));
  const std::string& number = arguments->argument();
  std::uint16_t id = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), id);
  if (error != std::errc{} || end != number.data() + number.size() || id < 1 || id > 4094)
    return arguments->refuse("\"{}\" is no VLAN identifier", number).hint("1 to 4094");
  return std::make_unique<VlanPlugin>(VlanTag::make(id, priority, service ? EtherType::qinq : EtherType::vlan));
}

void VlanPlugin::ingate(PacketBatch& packets, Gate&) noexcept {
  for (const std::size_t i : packets) {
    const auto bytes = packets.bytes(i);
    const bool tagged = bytes.size() >= EthernetView::min_header + VlanTag::size;
    const VlanTag tag = tagged ? VlanTag::load(bytes.data() + 12) : VlanTag{};
    if (tagged && tag.tpid == tag_.tpid && tag.id() == tag_.id())
      strip_vlan(packets[i]);
    else
      packets.drop(i, efio::DropReason::filtered);
  }
}

void VlanPlugin::outgate(PacketBatch& packets, Gate&) noexcept {
  for (const std::size_t i : packets)
    if (!insert_vlan(packets[i], tag_, packets.room(i).behind)) packets.drop(i, efio::DropReason::oversize);
}

}  // namespace efnet
