#include "tools/io_gen/checker.h"

#include <cstring>
#include <optional>
#include <span>

#include "efnet/wire/checksum.h"
#include "tools/io_gen/frame_template.h"
#include "tools/io_gen/tag.h"

namespace efio::io_gen {

namespace {

using Bytes = std::span<const std::byte>;

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

template <class T>
[[gnu::always_inline]] inline T get(const std::byte* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// The header fields that make a frame one of ours, eight bytes at a time: what is compared, and with what. Type of
// service, identification, time to live and the reserved bit and DF may be anything.
struct Expected {
  std::uint64_t mask, value;
};
constexpr std::uint64_t wire64(std::uint64_t value) { return efnet::bytes_detail::swapped(value); }
constexpr Expected bytes_12_to_19 = {wire64(0xFFFF'FF00'FFFF'0000), wire64(0x0800'4500'002E'0000)};
constexpr Expected bytes_16_to_23 = {wire64(0xFFFF'0000'3FFF'00FF), wire64(0x002E'0000'0000'0011)};
constexpr Expected bytes_36_to_43 = {wire64(0x0000'FFFF'0000'FFFF), wire64(0x0000'001A'0000'0000 | Tag::magic)};

[[gnu::always_inline]] inline std::uint64_t differs(const std::byte* at, Expected expected) noexcept {
  return (get<std::uint64_t>(at) & expected.mask) ^ expected.value;
}

// 0 where both checksums of a 60-byte UDP/IPv4 frame are right.
[[gnu::always_inline]] inline std::uint32_t checksum_errors(const std::byte* frame) noexcept {
  constexpr std::uint64_t pseudo = checksum_word(std::uint16_t{17}) + checksum_word(std::uint16_t{26});
  const std::uint64_t header = checksum_partial({frame + 14, 20});
  const std::uint64_t datagram = checksum_partial({frame + 26, 34}, pseudo);
  return (checksum_fold(header) ^ 0xFFFFU) | (checksum_fold(datagram) ^ 0xFFFFU);
}

}  // namespace

void Checker::check_slowly(const Slot& slot) noexcept {
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

template <bool verify>
void Checker::check_all(const Slot* slots, std::size_t n) noexcept {
  std::uint64_t quick = 0, bytes = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const Slot& slot = slots[i];
    const std::byte* const frame = slot.buffer + slot.offset;
    bytes += slot.length;
    if (slot.length != smallest_frame || slot.has(Slot::more) || continued_) [[unlikely]] {
      check_slowly(slot);
      continue;
    }
    std::uint64_t odd =
        differs(frame + 12, bytes_12_to_19) | differs(frame + 16, bytes_16_to_23) | differs(frame + 36, bytes_36_to_43);
    if constexpr (verify) odd |= checksum_errors(frame);
    if (odd != 0) [[unlikely]] {
      check_slowly(slot);
      continue;
    }
    ++quick;
    sequences_.see(efnet::load16(frame + udp4_layout.payload + 2), efnet::load48(frame + udp4_layout.payload + 4));
  }
  counts_.frames += quick;
  counts_.tagged += quick;
  if (verify) counts_.right += quick;
  counts_.bytes += bytes;
}

void Checker::check(const RxBatch& batch) noexcept {
  if (verify_)
    check_all<true>(batch.begin(), batch.size());
  else
    check_all<false>(batch.begin(), batch.size());
}

}  // namespace efio::io_gen
