#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "efnet/wire/address.h"
#include "efnet/wire/arp.h"
#include "efnet/wire/checksum.h"
#include "efnet/wire/flow.h"
#include "efnet/wire/ndp.h"
#include "efnet/wire/print.h"
#include "efnet/wire/rewrite.h"

// Any bytes through every parser, walk, setter and printer of efnet/wire, and through what must hold between them.

namespace {

using namespace efnet;
using Bytes = std::vector<std::byte>;

void check(bool holds) {
  if (!holds) std::abort();
}

// Reads all that it is given, for the sanitizer to see.
unsigned touch(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const std::byte byte : bytes) sum += std::to_integer<unsigned>(byte);
  return sum;
}

void inside(std::span<const std::byte> part, std::span<const std::byte> whole) {
  touch(part);
  check(part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

void walk(std::span<const std::byte> options) {
  OptionWalk walk(options);
  std::size_t count = 0;
  while (const auto option = walk.next()) {
    inside(option->data, options);
    check(++count <= options.size());
  }
}

void transports(std::span<const std::byte> bytes) {
  for (const auto udp : {UdpView::parse(bytes), UdpView::parse_truncated(bytes)})
    if (udp) {
      inside(udp->bytes(), bytes);
      inside(udp->payload(), bytes);
      check(udp->is_truncated() || udp->bytes().size() == udp->length());
    }
  if (const auto tcp = TcpView::parse(bytes)) {
    inside(tcp->payload(), bytes);
    walk(tcp->options());
    if (const auto mss = tcp->option(tcp_option::mss)) inside(mss->data, bytes);
  }
  if (const auto icmp = IcmpView::parse(bytes)) inside(icmp->payload(), bytes);
  if (const auto icmp = Icmpv6View::parse(bytes)) check(icmp->mtu() == icmp->rest());
}

void neighbors(std::span<const std::byte> bytes) {
  std::span<const std::byte> options;
  if (const auto view = NdpNeighborView::parse(bytes)) {
    view->link_address();
    view->target();
    options = view->options();
  }
  if (const auto view = NdpRouterView::parse(bytes)) {
    check(view->retransmit_ms() == load32(bytes, 12));
    options = view->options();
  }
  if (const auto view = NdpRedirectView::parse(bytes)) options = view->options();
  inside(options, options.empty() ? options : bytes);
  NdpOptionWalk walk(options);
  std::size_t sum = 0;
  while (const auto option = walk.next()) {
    inside(option->data, options);
    sum += option->data.size() + 2;
    option->link_address();
    option->mtu();
    NdpPrefix::parse(*option);
  }
  check(walk.malformed() ? sum < options.size() : sum == options.size());
}

void packets(std::span<const std::byte> bytes) {
  if (const auto arp = ArpView::parse(bytes)) inside(arp->bytes(), bytes);
  for (const auto ip : {Ipv4View::parse(bytes), Ipv4View::parse_truncated(bytes)})
    if (ip) {
      inside(ip->bytes(), bytes);
      inside(ip->payload(), bytes);
      walk(ip->options());
      transports(ip->payload());
      verify_header(*ip);
      verify_transport(*ip);
    }
  for (const auto ip : {Ipv6View::parse(bytes), Ipv6View::parse_truncated(bytes)})
    if (ip) {
      inside(ip->bytes(), bytes);
      verify_transport(*ip);
      ndp_fault(*ip);
      if (const auto chain = ip->chain()) {
        inside(ip->payload().subspan(chain->length), bytes);
        transports(ip->payload().subspan(chain->length));
      }
    }
}

void flow(std::span<const std::byte> bytes) {
  const Flow flow = parse_flow(bytes);
  if (flow.kind == FlowClass::malformed) {
    check(flow.fault != FlowFault::none);
    return;
  }
  check(flow.fault == FlowFault::none);
  check(flow.network <= bytes.size());
  check(flow.end <= bytes.size());
  check(flow.transport <= flow.end && flow.payload <= flow.end);
  check(flow.key == flow.key.reversed().reversed());
  if (flow.kind == FlowClass::ports) check(flow.payload >= flow.transport + 8u);
  // The views agree.
  const auto ethernet = EthernetView::parse(bytes);
  check(ethernet && ethernet->tag_count() == flow.tag_count());
  if (flow.key.version == 4) {
    const auto ip = Ipv4View::parse(ethernet->payload());
    check(ip && ip->src() == flow.key.key4().src && ip->dst() == flow.key.key4().dst);
  }
  if (flow.key.version == 6) {
    const auto ip = Ipv6View::parse(ethernet->payload());
    check(ip && ip->src() == flow.key.src && ip->chain());
  }
}

void changes(std::span<const std::byte> bytes) {
  Bytes copy(bytes.begin(), bytes.end());
  const ChecksumState before = verify_frame(copy);
  if (fill_frame(copy)) {
    check(before != ChecksumState::unknown);
    check(verify_frame(copy) == ChecksumState::right);
  }
  Bytes room(4);
  room.insert(room.end(), copy.begin(), copy.end());
  if (insert_vlan(room, VlanTag::make(7, 1, EtherType::qinq))) {
    check(strip_vlan(room) == VlanTag::make(7, 1, EtherType::qinq));
    check(std::equal(copy.begin(), copy.end(), room.begin() + 4, room.end()));
  }
  copy.resize(copy.size() + 4);
  if (insert_vlan_moving_payload(copy, VlanTag::make(7))) strip_vlan(copy);

  // A rewrite leaves right what was right and wrong what was wrong, and all else alone.
  Bytes rewritten(bytes.begin(), bytes.end());
  const Flow flow = parse_flow(rewritten);
  FlowKey to{Ipv6Address::mapped({198, 51, 100, 1}), Ipv6Address::mapped({203, 0, 113, 1}), 1000, 1000};
  to.version = flow.key.version;
  const ChecksumState state = verify_frame(rewritten);
  if (rewrite(std::span(rewritten), to)) {
    const Flow now = parse_flow(rewritten);
    check(now.kind == flow.kind && now.key.dst == to.dst && now.transport == flow.transport && now.end == flow.end);
    if (flow.kind != FlowClass::icmp_error) check(now.key.src == to.src);
    if (state == ChecksumState::right) check(verify_frame(rewritten) == ChecksumState::right);
  } else {
    check(std::equal(rewritten.begin(), rewritten.end(), bytes.begin()));
  }

  // A view holds although all bytes under it change.
  Bytes changing(bytes.begin(), bytes.end());
  if (const auto ethernet = EthernetMut::parse(changing)) {
    const auto ip4 = Ipv4Mut::parse(ethernet->payload());
    const auto ip6 = Ipv6Mut::parse(ethernet->payload());
    for (std::byte& byte : changing) byte = ~byte;
    inside(ethernet->payload(), changing);
    for (std::size_t i = 0; i < EthernetMut::max_tags; ++i) ethernet->set_tci(i, 0xFFFF);
    if (ip4) {
      inside(ip4->payload(), changing);
      walk(ip4->options());
      ip4->set_dst(ip4->src());
      fill_header(*ip4);
      fill_transport(*ip4);
    }
    if (ip6) {
      inside(ip6->payload(), changing);
      ip6->set_dst(ip6->src());
      fill_transport(*ip6);
    }
  }
}

// What a text says is what it is written as, and that reads back.
template <class T>
void text(std::string_view input) {
  if (const auto value = T::parse(input)) check(T::parse(to_string(*value)) == value);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  packets(bytes);
  transports(bytes);
  neighbors(bytes);
  walk(bytes);
  if (const auto ethernet = EthernetView::parse(bytes)) {
    inside(ethernet->payload(), bytes);
    packets(ethernet->payload());
  }
  flow(bytes);
  changes(bytes);
  check(!frame_text(bytes).empty());
  if (size > 0)
    for (int protocol = 0; protocol < 256; ++protocol)
      if (const auto chain = walk_ipv6_extensions(bytes, IpProtocol(protocol))) check(chain->length <= size);

  const std::string_view input(reinterpret_cast<const char*>(data), size);
  text<MacAddress>(input);
  text<Ipv4Address>(input);
  text<Ipv6Address>(input);
  text<Ipv4Prefix>(input);
  text<Ipv6Prefix>(input);
  text<Ipv4Range>(input);
  text<Ipv6Range>(input);
  text<PortRange>(input);
  return 0;
}
