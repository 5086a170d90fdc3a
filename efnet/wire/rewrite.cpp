#include "efnet/wire/rewrite.h"

#include <algorithm>

namespace efnet::rewrite_detail {
namespace {

// A quoted transport header: the ports where there are any, and the checksum if it is there too. What is missing was
// cut off by who sent the error, and nobody can sum it.
template <bool ipv6>
void mend_quoted_transport(std::span<std::byte> bytes, IpProtocol protocol, std::uint32_t ports,
                           ChecksumDelta addresses) noexcept {
  const bool has_ports = protocol == IpProtocol::udp || protocol == IpProtocol::udp_lite ||
                         protocol == IpProtocol::tcp || protocol == IpProtocol::sctp;
  if (!has_ports) {
    mend_transport<ipv6>(bytes, protocol, ports, addresses);
    return;
  }
  const std::size_t field = checksum_detail::field_offset(protocol == IpProtocol::tcp ? protocol : IpProtocol::udp);
  if (protocol != IpProtocol::sctp && bytes.size() >= field + 2) {
    mend_ports(bytes.data(), field, ports, addresses, protocol != IpProtocol::tcp);
  } else if (bytes.size() >= 4) {
    store32(bytes.data(), ports);
  }
}

// Calls `change`, which changes what lies in `bytes` at any even offsets, and tells what that does to a checksum over
// them. Only the first bytes change: the longest header with as much of a transport header as has a checksum.
template <class Change>
ChecksumDelta delta_of(std::span<std::byte> bytes, std::size_t header, Change change) noexcept {
  const auto changing = bytes.first(std::min(bytes.size(), header + TcpView::min_header) / 2 * 2);
  const std::uint16_t before = efio::checksum_fold(efio::checksum_partial(changing));
  change();
  return checksum_delta(before, efio::checksum_fold(efio::checksum_partial(changing)));
}

}  // namespace

bool rewrite_error(Ipv4Mut packet, const FlowKey4& to) noexcept {
  const auto message = IcmpMut::parse(packet.payload());
  if (!message) return false;
  const auto quoted = Ipv4Mut::parse_truncated(message->payload());
  if (!quoted) return false;
  const Ipv4Address src = quoted->dst() == to.src ? packet.src() : to.src;
  const ChecksumDelta inner = checksum_delta(quoted->src(), to.dst) + checksum_delta(quoted->dst(), to.src);
  const ChecksumDelta delta = delta_of(quoted->bytes(), quoted->header_length(), [&] {
    if (!quoted->is_later_fragment())
      mend_quoted_transport<false>(quoted->payload(), quoted->protocol(), ports_of(to.dst_port, to.src_port), inner);
    set_addresses(*quoted, to.dst, to.src, inner);
  });
  message->set_checksum(update(message->checksum(), delta));
  set_addresses(packet, src, to.dst, checksum_delta(packet.src(), src) + checksum_delta(packet.dst(), to.dst));
  return true;
}

bool rewrite_error(Ipv6Mut packet, std::span<std::byte> bytes, const FlowKey& to) noexcept {
  const auto message = Icmpv6Mut::parse(bytes);
  if (!message) return false;
  const auto quoted = Ipv6Mut::parse_truncated(message->payload());
  if (!quoted) return false;
  const auto chain = quoted->chain();
  if (!chain) return false;
  const Ipv6Address src = quoted->dst() == to.src ? packet.src() : to.src;
  const ChecksumDelta inner = checksum_delta(quoted->src(), to.dst) + checksum_delta(quoted->dst(), to.src);
  ChecksumDelta delta = delta_of(quoted->bytes(), Ipv6View::min_header + chain->length, [&] {
    if (!chain->is_later_fragment() && chain->segments_left == 0)
      mend_quoted_transport<true>(quoted->payload().subspan(chain->length), chain->protocol,
                                  ports_of(to.dst_port, to.src_port), inner);
    quoted->set_src(to.dst);
    quoted->set_dst(to.src);
  });
  delta += checksum_delta(packet.src(), src) + checksum_delta(packet.dst(), to.dst);  // of the pseudo-header
  message->set_checksum(update(message->checksum(), delta));
  packet.set_src(src);
  packet.set_dst(to.dst);
  return true;
}

}  // namespace efnet::rewrite_detail
