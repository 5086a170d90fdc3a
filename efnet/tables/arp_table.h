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
#include "efnet/wire/arp.h"
#include "efnet/wire/ethernet.h"

// ARP for a host or router of any number of addresses on any number of VLANs: RFC 826, RFC 1122 (2.3.2), RFC 5227.
// Plain: packets and times go in, packets come out; nothing is sent here.

namespace efnet {

// A packet to be sent: its Ethernet destination, and the VLAN, 0 where there is no tag. Who wants
// two tags inserts the outer one (vlan.h).
struct ArpMessage {
  ArpPacket packet;
  MacAddress dst;
  std::uint16_t vlan = 0;

  // With its tag, and padded to 60 bytes: what a minimal frame without FCS has.
  static constexpr std::size_t frame_size = 60;
  // Writes the frame from `tag`'s TPID and priority and our VLAN; returns frame_size, or 0 where `out` is shorter.
  EFIO_EXPORT std::size_t emit(std::span<std::byte> out, VlanTag tag = {}) const noexcept;
};

// Builders. `sender` is ours; a zero `to` is everybody.
EFIO_EXPORT ArpMessage arp_request(MacAddress sender_mac, Ipv4Address sender_ip, Ipv4Address target,
                                   std::uint16_t vlan = 0, MacAddress to = {}) noexcept;
// The answer to `request`: fields swapped, unicast (RFC 826).
EFIO_EXPORT ArpMessage arp_reply(ArpView request, MacAddress sender_mac, std::uint16_t vlan = 0) noexcept;
// RFC 5227, 2.1.1: from 0.0.0.0.
EFIO_EXPORT ArpMessage arp_probe(MacAddress sender_mac, Ipv4Address address, std::uint16_t vlan = 0) noexcept;
// RFC 5227, 2.3: sender and target the same address.
EFIO_EXPORT ArpMessage arp_announcement(MacAddress sender_mac, Ipv4Address address, std::uint16_t vlan = 0) noexcept;

// RFC 5227, 1.1, and the policy of 2.4.
struct ArpConflictOptions {
  Time probe_wait = std::chrono::seconds(1);  // before the first probe, at random up to
  unsigned probe_count = 3;
  Time probe_min = std::chrono::seconds(1);
  Time probe_max = std::chrono::seconds(2);
  Time announce_wait = std::chrono::seconds(2);
  unsigned announce_count = 2;
  Time announce_interval = std::chrono::seconds(2);
  unsigned max_conflicts = 10;  // after so many, an address is tried again after
  Time rate_limit = std::chrono::seconds(60);
  Time defend_interval = std::chrono::seconds(10);
  // On a second conflict within the defend interval: (b) give the address up, or (c) keep it and stay silent until the
  // interval has passed, as a router or server does that others rely on.
  bool give_up = false;
};

enum class ArpLocalState : std::uint8_t {
  probing,     // is it free? Not ours yet: not answered for, not used as a sender
  announcing,  // ours
  bound,       // ours
  conflict,    // somebody else has it; tried again, if it was being probed
};
EFIO_EXPORT std::string_view to_string(ArpLocalState state) noexcept;

// What became of a packet, and why.
enum class ArpEvent : std::uint8_t {
  ignored,     // about others, whom we do not know
  known,       // the sender's entry was confirmed
  changed,     // the sender's entry has another MAC now
  learned,     // the sender has an entry now
  probe,       // from 0.0.0.0: never learned from (RFC 5227, 2.1)
  own,         // one of our own packets came back
  conflict,    // somebody else uses, or probes for, an address of ours
  bad_sender,  // the sender's MAC or IP is a group's, zero, broadcast or loopback
  off_subnet,  // the sender is on none of our subnets of the VLAN: not learned
  fixed,       // contradicts a static entry, which stays
  full,        // no room to learn the sender
};
inline constexpr std::size_t arp_events = 11;
EFIO_EXPORT std::string_view to_string(ArpEvent event) noexcept;

struct ArpReceived {
  ArpEvent event = ArpEvent::ignored;
  std::optional<ArpMessage> reply;  // to be sent
};

struct ArpLocal {
  std::uint16_t vlan = 0;
  Ipv4Prefix prefix;  // the address, and the subnet it is on
  MacAddress mac;
};

class ArpTable {
 public:
  using Table = NeighbourTable<Ipv4Address>;
  using Key = Table::Key;
  using Released = Table::Released;
  using Resolution = Table::Resolution;

  // Errors: usage, memory.
  EFIO_EXPORT static efio::Result<ArpTable> create(NeighbourOptions options = {}, ArpConflictOptions conflicts = {});

  // The neighbours: lookup, resolve, add, flush, release, entry …
  Table& neighbours() noexcept { return table_; }
  const Table& neighbours() const noexcept { return table_; }

  // An address of ours. With `probe` it is ours once nobody objected (RFC 5227, 2.1), else at once; announced either
  // way, by what poll() gives out. False where the address is there already, or is no unicast address.
  EFIO_EXPORT bool add_local(const ArpLocal& local, bool probe, Time now);
  EFIO_EXPORT bool remove_local(Ipv4Address address, std::uint16_t vlan) noexcept;
  struct LocalState {
    ArpLocal local;
    ArpLocalState state;
    unsigned conflicts;
    MacAddress rival;  // the latest
  };
  EFIO_EXPORT std::vector<LocalState> locals() const;

  // Requests for these addresses are answered with `mac`, unless the asker or somebody known on the VLAN has the
  // address (proxy ARP, RFC 1027).
  EFIO_EXPORT void add_proxy(std::uint16_t vlan, Ipv4Range range, MacAddress mac);
  EFIO_EXPORT void clear_proxies() noexcept;

  // A packet that came in on the VLAN, in the order of RFC 826: the sender's entry is updated before the opcode is
  // looked at, a new one made only where we are asked, or were answered.
  EFIO_EXPORT ArpReceived receive(ArpView packet, std::uint16_t vlan, Time now);

  // What is due by `now`: requests, refreshes, probes, announcements; as many as `out` holds. A request goes out from
  // our address on the target's subnet; where we have none, the address is not asked for and fails in time. Call it
  // every 100 ms or so. Times within the table are kept to a millisecond.
  EFIO_EXPORT std::size_t poll(Time now, std::span<ArpMessage> out);

 private:
  struct Local {
    ArpLocal local;
    ArpLocalState state;
    unsigned left;  // probes or announcements to be sent
    unsigned conflicts;
    Time due;       // of the next one, or of the next try; Time::max(): never
    Time defended;  // the latest defence, or Time::min()
    MacAddress rival;
  };
  struct Proxy {
    std::uint16_t vlan;
    Ipv4Range range;
    MacAddress mac;
  };

  ArpTable(Table table, ArpConflictOptions conflicts) noexcept;
  static bool is_ours(const Local& local) noexcept {
    return local.state == ArpLocalState::announcing || local.state == ArpLocalState::bound;
  }
  const Local* local_for(Ipv4Address address, std::uint16_t vlan) const noexcept;
  const Local* subnet_of(Ipv4Address address, std::uint16_t vlan) const noexcept;
  bool notice_conflict(ArpView packet, std::uint16_t vlan, Time now) noexcept;
  std::optional<ArpMessage> answer(ArpView packet, std::uint16_t vlan, Time now) noexcept;
  bool advance(Local& local, Time now, ArpMessage& out) noexcept;
  Time between(Time least, Time most) noexcept;

  Table table_;
  ArpConflictOptions options_;
  std::vector<Local> locals_;
  std::vector<Proxy> proxies_;
  std::uint64_t random_;
};

}  // namespace efnet
