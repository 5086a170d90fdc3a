#include "tools/io_gen/traffic.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "efio/fail.h"
#include "efnet/wire/ethernet.h"
#include "efnet/wire/icmp.h"
#include "efnet/wire/ipv4.h"
#include "efnet/wire/ipv6.h"
#include "efnet/wire/tcp.h"
#include "efnet/wire/udp.h"
#include "tools/io_gen/tag.h"

namespace efio::io_gen {

namespace {

constexpr std::uint32_t smallest_size = smallest_frame + fcs;
constexpr std::uint32_t largest_size = 14 + most_vlans * 4 + 40 + 65535 + fcs;

// RFC 2544's neighbours call it the simple IMIX: 7, 4 and 1 of these sizes, spread over twelve frames.
constexpr std::array<std::uint32_t, 12> imix = {64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 64, 594};

std::optional<std::uint32_t> size_number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

// --- Sizes ---

Result<Sizes> Sizes::parse(std::string_view text) {
  const auto attempted = fmt::format("--size {}", text);
  std::vector<std::uint32_t> lengths;
  if (text == "imix") {
    lengths.assign(imix.begin(), imix.end());
  } else {
    const auto dash = text.find('-');
    const auto first = size_number(text.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : size_number(text.substr(dash + 1));
    if (!first || !last)
      return fail(Error::Kind::usage, attempted, "not a size").hint("64, 64-1518 or imix (bytes, FCS counted)");
    if (*first > *last) return fail(Error::Kind::usage, attempted, "the first is above the last").hint("64-1518");
    if (*first < smallest_size || *last > largest_size)
      return fail(Error::Kind::usage, attempted, "out of range")
          .hint("{} to {}, FCS counted", smallest_size, largest_size);
    for (auto size = *first; size <= *last; ++size) lengths.push_back(size);
  }
  for (auto& length : lengths) length -= fcs;
  return Sizes(std::move(lengths));
}

std::uint32_t Sizes::smallest() const noexcept { return *std::ranges::min_element(lengths_); }
std::uint32_t Sizes::largest() const noexcept { return *std::ranges::max_element(lengths_); }

// --- Addresses ---

Result<Addresses> Addresses::parse(std::string_view what, std::string_view text) {
  const auto attempted = fmt::format("{} {}", what, text);
  if (const auto range = efnet::Ipv4Range::parse(text))
    return Addresses{false, efnet::Ipv6Address::mapped(range->first), range->size()};
  const auto range = efnet::Ipv6Range::parse(text);
  if (!range)
    return fail(Error::Kind::usage, attempted, "not an address, range or prefix")
        .hint("10.0.0.1, 10.0.0.1-10.0.0.99, 10.0.0.0/24 or 2001:db8::1-2001:db8::99");
  if (range->first.high() != range->last.high() || range->first.low() >> 32 != range->last.low() >> 32)
    return fail(Error::Kind::usage, attempted, "more than the last 32 bits differ").hint("a /96 or less");
  return Addresses{true, range->first, range->size()};
}

Addresses benchmark_sources(bool ipv6) {
  if (ipv6) return {true, efnet::Ipv6Address::from_numbers(0x2001'0002'0000'0001, 1), 65535};
  return {false, efnet::Ipv6Address::mapped({198, 18, 0, 1}), 254};
}

Addresses benchmark_destination(bool ipv6) {
  if (ipv6) return {true, efnet::Ipv6Address::from_numbers(0x2001'0002'0000'0002, 1), 1};
  return {false, efnet::Ipv6Address::mapped({198, 19, 0, 1}), 1};
}

// --- Traffic ---

std::size_t Traffic::headers() const noexcept {
  const std::size_t ip = ipv6() ? efnet::Ipv6View::min_header : efnet::Ipv4View::min_header;
  const std::size_t transport_header =
      transport == Transport::tcp ? efnet::TcpView::min_header : efnet::UdpView::min_header;
  return efnet::EthernetView::min_header + vlans.size() * efnet::VlanTag::size + ip + transport_header;
}

std::size_t Traffic::shortest() const noexcept {
  return std::max<std::size_t>(smallest_frame, headers() + (tag ? Tag::size : 0));
}

Result<void> Traffic::check() const {
  if (src.ipv6 != dst.ipv6)
    return fail(Error::Kind::usage, "--src and --dst", "one is IPv4 and the other IPv6")
        .hint("the same family for both");
  if (transport == Transport::icmp && dport.size() != 1)
    return fail(Error::Kind::usage, "--dport with --proto icmp", "ICMP has no ports")
        .hint("--sport gives the range of echo identifiers");
  const auto combinations = [&] {
    __extension__ using Wide = unsigned __int128;
    const Wide all = Wide{src.count} * dst.count * sport.size() * dport.size();
    return all > UINT64_MAX ? UINT64_MAX : static_cast<std::uint64_t>(all);
  }();
  if (flows > combinations)
    return fail(Error::Kind::usage, fmt::format("--flows {}", flows), "addresses and ports give {}", combinations)
        .hint("wider ranges for --src, --dst, --sport or --dport");
  if (sizes.smallest() < shortest())
    return fail(Error::Kind::usage, fmt::format("--size {}", sizes.smallest() + fcs), "{}headers{} need {} bytes",
                ipv6() ? "IPv6 " : "", tag ? " and tag" : "", shortest() + fcs)
        .hint("--size {}{}", shortest() + fcs, tag ? ", or --no-tag" : "");
  if (const auto packet = sizes.largest() - efnet::EthernetView::min_header - vlans.size() * efnet::VlanTag::size;
      packet > 65535)
    return fail(Error::Kind::usage, fmt::format("--size {}", sizes.largest() + fcs),
                "an IP packet ends at 65,535 bytes")
        .hint("--size {}", sizes.largest() + fcs - (packet - 65535));
  return {};
}

}  // namespace efio::io_gen
