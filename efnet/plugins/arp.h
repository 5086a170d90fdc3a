#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/plugins/plugin.h"
#include "efnet/tables/arp_table.h"

namespace efnet {

struct ArpPluginOptions {
  std::vector<ArpLocal> locals;  // our addresses, by VLAN; 0: untagged
  bool probe = false;            // ask first whether they are free (RFC 5227)
  // The address on the link through which `dst` is reached from `vlan`; nothing where there is no route. The default:
  // the destination itself where it is on a subnet of ours, else `gateway`.
  std::function<std::optional<Ipv4Address>(Ipv4Address dst, std::uint16_t vlan)> next_hop;
  std::optional<Ipv4Address> gateway;
  NeighbourOptions neighbours;
  ArpConflictOptions conflicts;
};

// Speaks ARP for a port. In: answers for our addresses, learns, and takes in what concerns us; packets about others
// pass, those that no station may send are dropped as `malformed`, or `filtered` where their sender is not of our
// subnets. Out: IPv4 frames whose destination MAC is zero are for it to complete: it looks up the next hop, writes both
// MAC addresses (a source that is not zero stays), and lets the frame pass; or keeps it until the hop has answered, and
// gives it up as `unresolved` if that does not. Without a route a frame is dropped as `no_route`.
class EFIO_EXPORT ArpPlugin final : public Plugin {
 public:
  // Errors: usage (no address), memory.
  static efio::Result<std::unique_ptr<ArpPlugin>> create(ArpPluginOptions options);
  // ADDRESS/LENGTH?mac=MAC[&gateway=ADDRESS&vlan=ID&probe=on]. Errors: usage.
  static efio::Result<std::unique_ptr<ArpPlugin>> parse(std::string_view arguments);

  std::string_view name() const noexcept override { return "arp"; }
  void ingate(PacketBatch& packets, Gate& gate) noexcept override;
  void outgate(PacketBatch& packets, Gate& gate) noexcept override;
  void tick(Gate& gate) noexcept override;

  // The owner's thread only: static entries, flush, what is known.
  ArpTable& table() noexcept { return table_; }

 private:
  ArpPlugin(ArpTable table, ArpPluginOptions options) noexcept
      : table_(std::move(table)), options_(std::move(options)) {}

  void start(Time now) noexcept;
  void receive(PacketBatch& packets, std::size_t i, Gate& gate) noexcept;
  const ArpLocal* local_on(Ipv4Address address, std::uint16_t vlan) const noexcept;
  struct Way;
  std::optional<Ipv4Address> hop_to(Ipv4Address dst, std::uint16_t vlan) const;
  Way way_to(Ipv4Address dst, std::uint16_t vlan) const;
  void keep(PacketBatch& packets, std::size_t i, const ArpTable::Key& key, Gate& gate) noexcept;
  void send_due(Gate& gate) noexcept;
  void release(Gate& gate) noexcept;

  ArpTable table_;
  ArpPluginOptions options_;
  bool started_ = false;
};

}  // namespace efnet
