#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "efio/export.h"
#include "efio/queue.h"
#include "efio/result.h"
#include "efnet/gateway/options.h"
#include "efnet/gateway/verdict.h"
#include "efnet/nat44/nat44.h"
#include "efnet/plugins/arp.h"
#include "efnet/plugins/packets.h"
#include "efnet/plugins/pipeline.h"
#include "efnet/tables/routes.h"

// A router with a NAT between two ports: what one thread does with the batches of both. Plain: batches, queues and the
// time come in, nothing waits. docs/gateway.md follows a packet through it.

namespace efnet {

struct GatewayCounters {
  struct Side {
    std::uint64_t received = 0;  // = dropped + turned + what the NAT saw + what ARP and ping took or dropped
    std::array<std::uint64_t, gateway_drops> dropped{};
    std::uint64_t turned = 0;   // routed back to the side that they came from, untranslated
    std::uint64_t made = 0;     // ICMP errors and released fragments that left here
    std::uint64_t no_room = 0;  // of all that left here: no room in the port's queue
  };
  std::array<Side, 2> sides;
  const Side& of(NatSide side) const noexcept { return sides[static_cast<std::size_t>(side)]; }
};

class EFIO_EXPORT Gateway {
 public:
  // Errors: usage (addresses, routes, the NAT's options), memory.
  static efio::Result<std::unique_ptr<Gateway>> create(GatewayOptions options);
  ~Gateway();
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  // The port of a side is there: frames leave by `tx`, which must outlive this or the next detach(), from the address
  // `mac`. Our addresses are announced, neighbours are learned anew. Errors: usage (mac), memory.
  efio::Result<void> attach(NatSide side, efio::TxQueue& tx, MacAddress mac);
  // It has gone: what would leave by it is dropped as device_gone.
  void detach(NatSide side) noexcept;

  // The sessions of another gateway, its counters, and the neighbours that it knows on the ports that will be attached:
  // what goes on when this one takes its place, as far as the options of now would make it so. The other's ports are
  // detached. Errors: memory.
  efio::Result<NatRestored> take_over(Gateway& old, Time now, std::chrono::nanoseconds unix_time);

  // Up to 64 slots that have come in on a side; all are finished, and what leaves is flushed.
  void pass(NatSide from, efio::RxBatch& batch, Time now) noexcept;

  // Time has passed: to be called often; what is not due costs next to nothing. True where it should be called again
  // soon, for there is more to end.
  bool tick(Time now) noexcept;

  // The owner's thread.
  const GatewayOptions& options() const noexcept { return options_; }
  GatewayCounters counters() const noexcept { return counters_; }
  // The NAT's, with those of the gateways that this one has taken over.
  NatCounters nat_counters() const noexcept;
  Nat44& nat() noexcept { return *nat_; }
  const Nat44& nat() const noexcept { return *nat_; }
  // ARP of a side; null while it is detached.
  ArpTable* arp(NatSide side) noexcept;
  // Of ARP and ping, over all attachments.
  std::vector<PluginStats> plugin_stats(NatSide side) const;
  // ICMP errors of the router's own, beside the NAT's.
  const NatCounters& router_errors() const noexcept { return router_counters_; }

  // Which way a destination lies, and the address on that link that packets for it are handed to.
  struct Hop {
    NatSide side = NatSide::outside;
    Ipv4Address address;
  };
  std::optional<Hop> hop_to(Ipv4Address dst) const noexcept;

 private:
  struct Side {
    Ipv4Prefix address;
    std::uint64_t mac = 0;  // as the first six bytes of a frame are read
    std::shared_ptr<ArpPlugin> arp;
    std::optional<Pipeline> pipeline;
    efio::TxQueue* tx = nullptr;
    bool tagged = false;
    std::vector<PluginStats> before;                          // of earlier attachments
    std::vector<std::pair<ArpTable::Key, MacAddress>> known;  // neighbours to begin with
    Time known_at{};
  };
  enum class Towards : std::uint8_t { through, us, back, vlan, broadcast };

  Gateway(GatewayOptions options, std::unique_ptr<Nat44> nat, NatErrors errors, Routes4 routes);

  Side& side(NatSide side) noexcept { return sides_[static_cast<std::size_t>(side)]; }
  const Side& side(NatSide side) const noexcept { return sides_[static_cast<std::size_t>(side)]; }

  // A packet's way, in this order.
  void meet(NatSide from, RxPackets& packets, efio::RxBatch& batch, Time now) noexcept;
  void translate(NatSide from, RxPackets& packets, efio::RxBatch& batch, Time now) noexcept;
  void leave(NatSide to, RxPackets& packets, Time now) noexcept;
  void send_own(Time now) noexcept;

  Towards towards(NatSide from, const Side& near, std::span<const std::byte> frame) const noexcept;
  void answer(NatSide from, RxPackets& packets, efio::RxBatch& batch, std::uint64_t ours, Time now) noexcept;
  void refuse_too_big(NatSide from, RxPackets& packets, efio::RxBatch& batch, Time now) noexcept;
  void turn_back(NatSide from, RxPackets& packets, efio::RxBatch& batch, std::size_t i, Time now) noexcept;
  void give_up(NatSide from, RxPackets& packets, efio::RxBatch& batch, std::size_t i, GatewayDrop drop) noexcept;
  void send_copy(NatSide to, std::span<const std::byte> frame, Time now, const efio::Slot* slot = nullptr) noexcept;
  bool leads_inside(Ipv4Address dst) const noexcept;

  GatewayOptions options_;
  std::unique_ptr<Nat44> nat_;
  NatErrors errors_;  // the router's own
  Routes4 routes_;    // numbers of options_.routes; no more than those
  std::array<Side, 2> sides_;
  GatewayCounters counters_;
  NatCounters router_counters_, nat_before_;
  Time nat_due_{}, sides_due_{};
  bool offloads_ = false;
};

}  // namespace efnet
