#include "tools/io_gen/checker.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <span>
#include <utility>

#include "efnet/wire/checksum.h"
#include "tools/io_gen/short_frames.h"
#include "tools/io_gen/tag.h"
#include "tools/io_gen/traffic.h"

namespace efio::io_gen {

namespace {

using Bytes = std::span<const std::byte>;

constexpr bool quick_way = std::endian::native == std::endian::little;

// Where the payload of the frame's UDP, TCP or ICMP begins.
std::optional<Bytes> transport_payload(efnet::IpProtocol protocol, Bytes bytes) {
  switch (protocol) {
    case efnet::IpProtocol::udp:
      if (const auto udp = efnet::UdpView::parse(bytes)) return udp->payload();
      return std::nullopt;
    case efnet::IpProtocol::tcp:
      if (const auto tcp = efnet::TcpView::parse(bytes)) return tcp->payload();
      return std::nullopt;
    case efnet::IpProtocol::icmp:
    case efnet::IpProtocol::icmpv6:
      if (bytes.size() >= efnet::IcmpView::min_header) return bytes.subspan(efnet::IcmpView::min_header);
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

std::optional<Bytes> payload_of(Bytes frame) {
  const auto ethernet = efnet::EthernetView::parse(frame);
  if (!ethernet) return std::nullopt;
  if (ethernet->type() == efnet::EtherType::ipv4) {
    const auto packet = efnet::Ipv4View::parse(ethernet->payload());
    if (!packet || packet->is_fragment()) return std::nullopt;
    return transport_payload(packet->protocol(), packet->payload());
  }
  if (ethernet->type() == efnet::EtherType::ipv6) {
    const auto packet = efnet::Ipv6View::parse(ethernet->payload());
    if (!packet) return std::nullopt;
    const auto chain = packet->chain();
    if (!chain || chain->fragmented) return std::nullopt;
    return transport_payload(chain->protocol, packet->payload().subspan(chain->length));
  }
  return std::nullopt;
}

}  // namespace

void Checker::check_slowly(const Slot& slot, std::uint64_t looked) noexcept {
  const bool continues = slot.has(Slot::more);
  if (std::exchange(continued_, continues)) {
    // The rest of a frame whose first slot was looked at; the frame counts with its last one.
    counts_.frames += continues ? 0 : 1;
    return;
  }
  counts_.frames += continues ? 0 : 1;
  const Bytes frame = slot.bytes();
  const auto payload = payload_of(frame);
  if (payload && payload->size() >= Tag::size && Tag::is_at(payload->data())) {
    const Tag tag = Tag::load(payload->data());
    ++counts_.tagged;
    sequences_.see(tag.stream, tag.sequence);
    if (delays_) delays_->see(slot, tag.time, tag.stream, looked);
  } else {
    ++counts_.untagged;
  }
  if (!verify_) return;
  switch (efnet::verify_frame(frame)) {
    case efnet::ChecksumState::right:
      ++counts_.right;
      break;
    case efnet::ChecksumState::wrong:
      ++counts_.wrong;
      break;
    case efnet::ChecksumState::absent:
      ++counts_.absent;
      break;
    case efnet::ChecksumState::unknown:
      ++counts_.unknown;
      break;
  }
}

void Checker::check(const RxBatch& batch, std::uint64_t looked) noexcept {
  const auto check_short = short_kernel().check;
  const Slot* const slots = batch.begin();
  const std::size_t n = batch.size();
  std::uint64_t bytes = 0, quick = 0;
  if (written_elsewhere_) batch.prefetch();
  for (std::size_t i = 0; i < n; ++i) bytes += slots[i].length;
  for (std::size_t i = 0; i < n;) {
    if (quick_way && !continued_ && slots[i].length == smallest_frame) [[likely]] {
      const std::size_t found = check_short(slots + i, std::min(n - i, std::size(names_)), names_);
      sequences_.see_all(names_, found);
      if (delays_) delays_->see_short(slots + i, found, names_, looked);
      quick += found;
      i += found;
      if (found > 0) continue;
    }
    check_slowly(slots[i++], looked);
  }
  counts_.frames += quick;
  counts_.tagged += quick;
  if (verify_) counts_.right += quick;
  counts_.bytes += bytes;
}

}  // namespace efio::io_gen
