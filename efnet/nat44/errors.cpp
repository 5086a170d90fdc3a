#include "efnet/nat44/errors.h"

#include <algorithm>
#include <cstring>

namespace efnet {

namespace {

constexpr std::size_t longest_error = 576;  // RFC 1812, 4.3.2.3
constexpr std::uint8_t error_ttl = 64;

}  // namespace

efio::Result<NatErrors> NatErrors::create(const Nat44Options& options) {
  auto buckets = TokenBuckets::create({.rate = options.errors_per_second,
                                       .burst = std::max(1.0, options.errors_per_second / 10),
                                       .capacity = 4096,
                                       .seed = options.seed});
  if (!buckets) return std::unexpected(std::move(buckets.error()));
  return NatErrors(std::move(*buckets), options);
}

void NatErrors::send(NatSide to, const NatPacket& about, IcmpType type, std::uint8_t code, std::uint16_t mtu, Time now,
                     NatCounters& counters) noexcept {
  const Ipv4Address ours = addresses_[static_cast<std::size_t>(to)];
  const Ipv4View quoted = *Ipv4View::parse_truncated(about.frame.subspan(about.network));
  if (ours.is_unspecified() || is_martian(quoted.src(), quoted.dst()) || quoted.is_later_fragment()) return;
  if (about.kind == FlowClass::icmp_error || about.kind == FlowClass::icmp_other) return;
  const std::array<std::uint64_t, 1> key{quoted.src().number()};
  std::uint64_t hash = 0;
  buckets_.hash<1>({&key, 1}, &hash);
  if (!buckets_.take(hash, 1, now)) {
    ++counters.errors_suppressed;
    return;
  }
  const std::size_t headers = Ipv4View::min_header + IcmpHeader::size();
  const auto copied = quoted.bytes().first(std::min<std::size_t>(quoted.bytes().size(), longest_error - headers));
  const std::size_t link = about.network;
  const auto frame = outbox(to).next(link + headers + copied.size());
  if (frame.empty()) {
    ++counters.outbox_full;
    return;
  }
  std::memcpy(frame.data(), about.frame.data(), link);
  const EthernetMut ethernet = *EthernetMut::parse(frame);
  const MacAddress sender = ethernet.src();
  ethernet.set_src(clear_macs_ ? MacAddress() : ethernet.dst());
  ethernet.set_dst(clear_macs_ ? MacAddress() : sender);
  const auto packet = frame.subspan(link);
  Ipv4Header{.src = ours,
             .dst = quoted.src(),
             .protocol = IpProtocol::icmp,
             .payload_length = IcmpHeader::size() + copied.size(),
             .ttl = error_ttl,
             .traffic_class = 0xC0,  // RFC 1812, 4.3.2.5: internetwork control
             .dont_fragment = true}  // so that an identification of 0 will do (RFC 6864, 4.1)
      .emit(packet);
  IcmpHeader{.type = type, .code = code, .rest = mtu}.emit(packet.subspan(Ipv4View::min_header));
  std::memcpy(packet.data() + headers, copied.data(), copied.size());
  fill_transport(*Ipv4Mut::parse(packet));
  outbox(to).push(frame.size());
  ++counters.errors_sent;
}

}  // namespace efnet
