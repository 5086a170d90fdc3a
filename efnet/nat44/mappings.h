#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "efio/result.h"
#include "efnet/nat44/deterministic.h"
#include "efnet/nat44/options.h"
#include "efnet/nat44/verdict.h"
#include "efnet/tables/ipp_pool.h"
#include "efnet/tables/session_table.h"

// Which outside address and port stands for which inside one: the same towards everybody (RFC 4787, REQ-1; RFC 5382,
// REQ-1; RFC 5508, REQ-1). A mapping lives as long as it has sessions; a static one for ever.

namespace efnet {

struct NatMapping {
  Ipv4Address inside;
  Ipv4Address outside;
  std::uint16_t inside_port = 0;
  std::uint16_t outside_port = 0;
  std::uint32_t number = 0;
  bool open = false;  // static: everybody may send to it
};

class NatMappings {
 public:
  // Errors: usage, memory.
  static efio::Result<NatMappings> create(const Nat44Options& options);

  std::optional<NatMapping> find_inside(IpProtocol protocol, Ipv4Address address, std::uint16_t port) const noexcept;
  std::optional<NatMapping> find_outside(IpProtocol protocol, Ipv4Address address, std::uint16_t port) const noexcept;

  struct Made {
    NatVerdict verdict = NatVerdict::translated;  // or why there is none
    NatMapping mapping;
  };
  static constexpr std::size_t most_at_once = 64;
  // For the sources of flows from inside, up to `most_at_once`: the one that there is, or a new one without sessions,
  // to be acquired or abandoned.
  void find_or_make(std::span<const FlowKey4> flows, Time now, std::span<Made> made);
  Made find_or_make(IpProtocol protocol, Ipv4Address inside, std::uint16_t port, Time now) {
    FlowKey4 flow;
    flow.src = inside, flow.src_port = port, flow.protocol = protocol;
    Made made;
    find_or_make({&flow, 1}, now, {&made, 1});
    return made;
  }
  // For what came in to an address that is one inside address's own.
  Made make_paired(IpProtocol protocol, Ipv4Address outside, std::uint16_t port, Time now);

  // One session more, one less.
  void acquire(std::uint32_t number) noexcept { ++table_.value(number); }
  void release(std::uint32_t number, Time now);
  // Ends a mapping that has no session, never had one, and is not static.
  void abandon(std::uint32_t number, Time now) { end(number, false, now); }

  bool owns(Ipv4Address outside) const noexcept;
  std::optional<Ipv4Address> paired_inside(Ipv4Address outside) const noexcept;
  std::optional<Ipv4Address> paired_outside(Ipv4Address inside) const noexcept;

  const SessionTable4& table() const noexcept { return table_; }
  IppPool& pool() noexcept { return pool_; }
  const IppPool& pool() const noexcept { return pool_; }
  std::uint64_t made() const noexcept { return made_; }
  std::uint64_t ended() const noexcept { return ended_; }
  NatMapping mapping(std::uint32_t number) const noexcept;
  // The block of an inside address, and whose a port is, where that is fixed (RFC 7422).
  std::optional<NatFixedBlocks::Block> fixed_block(Ipv4Address inside) const noexcept;
  std::optional<Ipv4Address> fixed_owner(Ipv4Address outside, std::uint16_t port) const noexcept;
  // Takes back a mapping of an earlier life, to be acquired or abandoned; none where it is not to be had, or would not
  // be made so now.
  std::optional<NatMapping> restore(IpProtocol protocol, const NatMapping& mapping, Time now);

 private:
  static constexpr std::uint64_t is_static = std::uint64_t{1} << 63;
  static constexpr std::uint64_t sessions_mask = 0xFFFF'FFFF;

  NatMappings(SessionTable4 table, IppPool pool, const Nat44Options& options);
  std::optional<NatMapping> find(const FlowKey4& key) const noexcept;
  IppRequest request_of(const FlowKey4& key) const noexcept;
  template <std::size_t room>
  void find_or_make_of(std::span<const FlowKey4> flows, Time now, std::span<Made> made);
  Made insert(IpProtocol protocol, const NatMapping& mapping, std::uint64_t value, Time now);
  Made inserted(IpProtocol protocol, NatMapping mapping, const SessionTable4::Inserted& result, Time now);
  void end(std::uint32_t number, bool was_used, Time now);
  void undo(IpProtocol protocol, const NatMapping& mapping, Time now);
  bool is_open(std::uint32_t number, Ipv4Address outside) const noexcept;
  bool add_forward(const NatForward& forward);
  void tell(NatEvent::Kind kind, IpProtocol protocol, const NatMapping& mapping, Time now) const;
  void tell_block(NatEvent::Kind kind, const NatMapping& mapping, Time now) const;

  SessionTable4 table_;  // an inside end and an outside end as the two directions
  IppPool pool_;
  std::vector<NatPair> by_inside_, by_outside_;
  std::vector<Ipv4Address> forward_addresses_;
  std::vector<NatFixedBlocks> fixed_;
  std::function<void(const NatEvent&)> log_;
  std::uint32_t block_size_;
  bool preserve_port_, preserve_parity_;
  std::uint64_t made_ = 0, ended_ = 0;
};

}  // namespace efnet
