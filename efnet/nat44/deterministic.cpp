#include "efnet/nat44/deterministic.h"

namespace efnet {

// RFC 7422, 2.2, "sequential": the first inside address has the first block of the first outside one, and so on.
std::optional<NatFixedBlocks> NatFixedBlocks::make(const NatDeterministic& rule) noexcept {
  NatFixedBlocks blocks(rule);
  const std::uint64_t owners = rule.inside.first().count_to(rule.inside.last());
  const std::uint64_t addresses = rule.outside.size();
  if (rule.outside.last < rule.outside.first || rule.ports.last < rule.ports.first) return std::nullopt;
  blocks.owners_each_ = (owners + addresses - 1) / addresses;
  blocks.first_port_ = (std::uint32_t{rule.ports.first} + 1) & ~1U;
  const std::uint32_t end = (std::uint32_t{rule.ports.last} + 1) & ~1U;
  if (end < blocks.first_port_) return std::nullopt;
  blocks.block_size_ = static_cast<std::uint32_t>((end - blocks.first_port_) / blocks.owners_each_) & ~1U;
  if (blocks.block_size_ == 0) return std::nullopt;
  return blocks;
}

auto NatFixedBlocks::block_of(Ipv4Address inside) const noexcept -> std::optional<Block> {
  if (!rule_.inside.contains(inside)) return std::nullopt;
  const std::uint64_t owner = inside.number() - rule_.inside.first().number();
  const auto first = static_cast<std::uint32_t>(first_port_ + owner % owners_each_ * block_size_);
  return Block{rule_.outside.at(owner / owners_each_),
               {static_cast<std::uint16_t>(first), static_cast<std::uint16_t>(first + block_size_ - 1)}};
}

std::optional<Ipv4Address> NatFixedBlocks::owner_of(Ipv4Address outside, std::uint16_t port) const noexcept {
  if (!rule_.outside.contains(outside) || port < first_port_) return std::nullopt;
  const std::uint64_t block = (port - first_port_) / block_size_;
  const std::uint64_t owner = (outside.number() - rule_.outside.first.number()) * owners_each_ + block;
  if (block >= owners_each_ || owner >= rule_.inside.first().count_to(rule_.inside.last())) return std::nullopt;
  return rule_.inside.first().advanced(owner);
}

}  // namespace efnet
