#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/tables/neighbour_table.h"
#include "efnet/tables/time.h"
#include "efnet/wire/address.h"
#include "efnet/wire/ethernet.h"
#include "efnet/wire/ipv6.h"
#include "efnet/wire/ndp.h"

// Neighbour discovery (RFC 4861) and duplicate address detection (RFC 4862, 5.4) for a host or router: what ArpTable is
// for IPv4. Router and prefix discovery are the owner's.

namespace efnet {

// A solicitation or advertisement to be sent. It has one VLAN tag at most; who wants two inserts the outer one
// (vlan.h).
struct NdpMessage {
  bool advertisement = false;
  MacAddress src_mac;  // ours: the source, and the link-layer address option where there is one
  MacAddress dst_mac;
  Ipv6Address src;
  Ipv6Address dst;
  Ipv6Address target;
  bool link_option = true;  // none in a probe for a duplicate (RFC 4862, 5.4.2)
  bool router = false;      // flags of an advertisement
  bool solicited = false;
  bool override_flag = false;
  std::uint16_t vlan = 0;

  static constexpr std::size_t max_frame = 14 + 4 + 40 + 24 + 8;
  // Writes the frame, checksum included: its size, or 0 where `out` is shorter.
  EFIO_EXPORT std::size_t emit(std::span<std::byte> out, VlanTag tag = {}) const noexcept;
};

// Builders.
EFIO_EXPORT NdpMessage neighbor_solicitation(MacAddress src_mac, const Ipv6Address& src, const Ipv6Address& target,
                                             std::uint16_t vlan = 0, MacAddress to = {}) noexcept;
EFIO_EXPORT NdpMessage duplicate_probe(MacAddress src_mac, const Ipv6Address& target, std::uint16_t vlan = 0) noexcept;
// To all nodes, unasked (RFC 4861, 7.2.6).
EFIO_EXPORT NdpMessage neighbor_announcement(MacAddress src_mac, const Ipv6Address& address, bool router,
                                             std::uint16_t vlan = 0) noexcept;

enum class NdpEvent : std::uint8_t {
  not_ndp,    // no solicitation or advertisement
  invalid,    // fails a check of RFC 4861, 7.1: hop limit 255, code 0, checksum, length, target, options
  ignored,    // about others, whom we do not know
  known,      // confirmed
  changed,    // another MAC now
  learned,    // the sender of a solicitation has an entry now
  duplicate,  // somebody else has, or probes for, an address of ours
  own,        // one of our own came back
  fixed,      // contradicts a static entry, which stays
  full,
};
inline constexpr std::size_t ndp_events = 10;
EFIO_EXPORT std::string_view to_string(NdpEvent event) noexcept;

struct NdpReceived {
  NdpEvent event = NdpEvent::ignored;
  std::optional<NdpMessage> reply;
};

struct NdpLocal {
  std::uint16_t vlan = 0;
  Ipv6Prefix prefix;
  MacAddress mac;
};

enum class NdpLocalState : std::uint8_t {
  tentative,  // being probed for: not ours yet
  preferred,  // ours
  duplicate,  // somebody else's; to be removed by the owner (RFC 4862, 5.4.5)
};
EFIO_EXPORT std::string_view to_string(NdpLocalState state) noexcept;

struct NdpOptions {
  bool router = false;                        // said in advertisements
  unsigned probes = 1;                        // DupAddrDetectTransmits
  Time retransmit = std::chrono::seconds(1);  // RetransTimer
};

class NdpTable {
 public:
  using Table = NeighbourTable<Ipv6Address>;
  using Key = Table::Key;
  using Released = Table::Released;
  using Resolution = Table::Resolution;

  // Errors: usage, memory.
  EFIO_EXPORT static efio::Result<NdpTable> create(NeighbourOptions neighbours = {}, NdpOptions options = {});

  Table& neighbours() noexcept { return table_; }
  const Table& neighbours() const noexcept { return table_; }

  // As ArpTable::add_local(). An interface should have a link-local address too.
  EFIO_EXPORT bool add_local(const NdpLocal& local, bool probe, Time now);
  EFIO_EXPORT bool remove_local(const Ipv6Address& address, std::uint16_t vlan) noexcept;
  struct LocalState {
    NdpLocal local;
    NdpLocalState state;
  };
  EFIO_EXPORT std::vector<LocalState> locals() const;

  // A packet that came in from this Ethernet source on the VLAN, and passed its checks or did not. An answer is matched
  // with a question by its target, not by who sent it.
  EFIO_EXPORT NdpReceived receive(Ipv6View packet, MacAddress src_mac, std::uint16_t vlan, Time now);

  // What is due by `now`, as of ArpTable::poll().
  EFIO_EXPORT std::size_t poll(Time now, std::span<NdpMessage> out);

 private:
  struct Local {
    NdpLocal local;
    NdpLocalState state;
    unsigned left;  // probes, or one announcement
    Time due;       // Time::max(): never
  };

  NdpTable(Table table, NdpOptions options) noexcept : table_(std::move(table)), options_(options) {}
  Local* local_for(const Ipv6Address& address, std::uint16_t vlan) noexcept;
  static void give_up(Local& local) noexcept;
  const Local* source_for(const Ipv6Address& address, std::uint16_t vlan) const noexcept;
  NdpReceived solicited(Ipv6View packet, NdpNeighborView message, MacAddress src_mac, std::uint16_t vlan, Time now);
  NdpReceived advertised(NdpNeighborView message, std::uint16_t vlan, Time now);

  Table table_;
  NdpOptions options_;
  std::vector<Local> locals_;
};

}  // namespace efnet
