#pragma once

#include <cstdint>
#include <optional>

#include "efio/export.h"
#include "efnet/nat44/options.h"

// Ports that follow from the inside address alone (RFC 7422): who had one needs no log.

namespace efnet {

class EFIO_EXPORT NatFixedBlocks {
 public:
  // None where the ports do not suffice: two for each inside address at least.
  static std::optional<NatFixedBlocks> make(const NatDeterministic& rule) noexcept;

  struct Block {
    Ipv4Address address;
    PortRange ports;  // from an even one to an odd one
  };
  // None for addresses that the rule is not about.
  std::optional<Block> block_of(Ipv4Address inside) const noexcept;
  std::optional<Ipv4Address> owner_of(Ipv4Address outside, std::uint16_t port) const noexcept;

  const Ipv4Range& outside() const noexcept { return rule_.outside; }

 private:
  explicit NatFixedBlocks(const NatDeterministic& rule) noexcept : rule_(rule) {}

  NatDeterministic rule_;
  std::uint64_t owners_each_ = 0;  // of one outside address
  std::uint32_t block_size_ = 0;
  std::uint32_t first_port_ = 0;
};

}  // namespace efnet
