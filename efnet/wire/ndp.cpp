#include "efnet/wire/ndp.h"

#include "efnet/wire/checksum.h"

namespace efnet {
namespace {

// What must be there before the options; 0 for what is no neighbor discovery.
std::size_t fixed_size(Icmpv6Type type) noexcept {
  switch (type) {
    case Icmpv6Type::router_solicitation:
      return 8;
    case Icmpv6Type::router_advertisement:
      return NdpRouterView::min_size;
    case Icmpv6Type::neighbor_solicitation:
    case Icmpv6Type::neighbor_advertisement:
      return NdpNeighborView::min_size;
    case Icmpv6Type::redirect:
      return NdpRedirectView::min_size;
    default:
      return 0;
  }
}

NdpFault solicitation_fault(Ipv6View packet, std::span<const std::byte> options, bool of_neighbor) noexcept {
  if (!packet.src().is_unspecified()) return NdpFault::none;
  const Ipv6Address dst = packet.dst();
  if (of_neighbor && dst != solicited_node(dst)) return NdpFault::source;
  if (find_ndp_option(options, NdpOptionType::source_link_address)) return NdpFault::link_option;
  return NdpFault::none;
}

}  // namespace

NdpFault ndp_fault(Ipv6View packet) noexcept {
  const auto chain = packet.chain();
  if (!chain || chain->protocol != IpProtocol::icmpv6 || chain->fragmented) return NdpFault::not_ndp;  // RFC 6980
  const auto message = packet.payload().subspan(chain->length);
  if (message.empty()) return NdpFault::not_ndp;
  const Icmpv6Type type{load8(message.data())};
  const std::size_t fixed = fixed_size(type);
  if (fixed == 0) return NdpFault::not_ndp;

  if (packet.hop_limit() != 255) return NdpFault::hop_limit;
  if (message.size() < fixed) return NdpFault::truncated;
  if (verify_transport(packet) != ChecksumState::right) return NdpFault::checksum;
  if (load8(message.data() + 1) != 0) return NdpFault::code;
  const auto options = message.subspan(fixed);
  NdpOptionWalk walk(options);
  while (walk.next()) {}
  if (walk.malformed()) return NdpFault::options;

  switch (type) {
    case Icmpv6Type::router_solicitation:
      return solicitation_fault(packet, options, false);
    case Icmpv6Type::router_advertisement:
      return packet.src().is_link_local() ? NdpFault::none : NdpFault::source;
    case Icmpv6Type::neighbor_solicitation:
      if (Ipv6Address::load(message.data() + 8).is_multicast()) return NdpFault::target;
      return solicitation_fault(packet, options, true);
    case Icmpv6Type::neighbor_advertisement: {
      const auto view = NdpNeighborView::parse(message);
      if (view->target().is_multicast()) return NdpFault::target;
      return packet.dst().is_multicast() && view->is_solicited() ? NdpFault::solicited : NdpFault::none;
    }
    default: {  // 8.1: the target is link-local (a router) or the destination itself (on the link)
      const auto view = NdpRedirectView::parse(message);
      if (!packet.src().is_link_local()) return NdpFault::source;
      const bool right = view->target().is_link_local() || view->target() == view->destination();
      return right && !view->destination().is_multicast() ? NdpFault::none : NdpFault::target;
    }
  }
}

}  // namespace efnet
