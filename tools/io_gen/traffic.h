// What frames to make: the command line's wishes, checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "efio/result.h"
#include "efnet/wire/address.h"
#include "efnet/wire/protocol.h"
#include "tools/common/rate.h"

namespace efio::io_gen {

enum class Transport : std::uint8_t { udp, tcp, icmp };

using tools::fcs;  // --size counts it
using tools::wire_overhead;
inline constexpr std::uint32_t smallest_frame = 60;
inline constexpr std::size_t most_flows = std::size_t{1} << 24;
inline constexpr std::size_t most_vlans = 4;

// Lengths of frames in slots (without FCS), used in turn, over and over.
class Sizes {
 public:
  // "64", "64-1518", "imix" (7 of 64, 4 of 594, 1 of 1518), FCS counted. Errors: usage.
  static Result<Sizes> parse(std::string_view text);
  static Sizes of(std::vector<std::uint32_t> lengths) { return Sizes(std::move(lengths)); }

  const std::vector<std::uint32_t>& lengths() const noexcept { return lengths_; }
  std::uint32_t smallest() const noexcept;
  std::uint32_t largest() const noexcept;

 private:
  explicit Sizes(std::vector<std::uint32_t> lengths) : lengths_(std::move(lengths)) {}
  std::vector<std::uint32_t> lengths_;
};

// Addresses from `first` on, `count` of them, in which only the last 32 bits differ. IPv4 stands in the last four
// bytes.
struct Addresses {
  bool ipv6 = false;
  efnet::Ipv6Address first;
  std::uint64_t count = 1;

  // An address, a range (a-b) or a prefix, of either family. Errors: usage (`what` is the option's name).
  static Result<Addresses> parse(std::string_view what, std::string_view text);
  // The last 32 bits of address number `index`.
  std::uint32_t last_word(std::uint64_t index) const noexcept {
    return static_cast<std::uint32_t>(first.low() + index);
  }
  efnet::Ipv4Address ipv4() const noexcept { return efnet::Ipv4Address::from_number(last_word(0)); }
};

// The addresses set aside for measuring: 198.18.0.0/15 (RFC 2544, C.2.2) and 2001:2::/48 (RFC 5180, 8).
Addresses benchmark_sources(bool ipv6);
Addresses benchmark_destination(bool ipv6);

struct Traffic {
  Sizes sizes = Sizes::of({smallest_frame});
  Addresses src = benchmark_sources(false), dst = benchmark_destination(false);
  efnet::PortRange sport{1024, 65535};
  efnet::PortRange dport{9, 9};  // discard
  Transport transport = Transport::udp;
  std::vector<std::uint16_t> vlans;  // outermost first
  std::uint64_t flows = 1;
  bool random = false;  // flows in random order, else one after the other
  std::uint64_t seed = 1;
  bool tag = true;
  std::uint16_t stream_base = 0;
  efnet::MacAddress src_mac{2, 0, 0, 0, 0, 1};
  efnet::MacAddress dst_mac{2, 0, 0, 0, 0, 2};

  bool ipv6() const noexcept { return dst.ipv6; }
  // Bytes before the payload, and with the tag.
  std::size_t headers() const noexcept;
  std::size_t shortest() const noexcept;

  // What single options cannot tell: families that differ, more flows than addresses and ports give, a size without
  // room for headers and tag. Errors: usage.
  Result<void> check() const;
};

}  // namespace efio::io_gen
