#include "efnet/wire/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace efnet {
namespace {

// A decimal number and nothing else.
template <class T>
std::optional<T> parse_number(std::string_view text) noexcept {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// inet_pton wants a terminated string.
template <class Address>
std::optional<Address> parse_address(int family, std::string_view text) noexcept {
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  if (text.size() >= buffer.size() || text.find('\0') != std::string_view::npos) return std::nullopt;
  std::ranges::copy(text, buffer.begin());
  std::array<std::uint8_t, Address::size> bytes;
  if (::inet_pton(family, buffer.data(), bytes.data()) != 1) return std::nullopt;
  return Address(bytes);
}

template <class Address>
std::string text_of(int family, const Address& address) {
  std::array<char, INET6_ADDRSTRLEN> buffer;
  ::inet_ntop(family, address.bytes().data(), buffer.data(), buffer.size());
  return buffer.data();
}

template <class T>
std::string range_text(const T& first, const T& last) {
  return first == last ? to_string(first) : to_string(first) + '-' + to_string(last);
}

}  // namespace

std::optional<MacAddress> MacAddress::parse(std::string_view text) noexcept {
  if (text.size() != 3 * size - 1) return std::nullopt;
  const char separator = text[2];
  if (separator != ':' && separator != '-') return std::nullopt;
  std::array<std::uint8_t, size> bytes{};
  for (std::size_t i = 0; i < size; ++i) {
    const char* pair = text.data() + 3 * i;
    const auto [end, error] = std::from_chars(pair, pair + 2, bytes[i], 16);
    if (error != std::errc{} || end != pair + 2) return std::nullopt;
    if (i + 1 < size && pair[2] != separator) return std::nullopt;
  }
  return MacAddress(bytes);
}

std::optional<Ipv4Address> Ipv4Address::parse(std::string_view text) noexcept {
  return parse_address<Ipv4Address>(AF_INET, text);
}

std::optional<Ipv6Address> Ipv6Address::parse(std::string_view text) noexcept {
  return parse_address<Ipv6Address>(AF_INET6, text);
}

template <class Address>
std::optional<Prefix<Address>> Prefix<Address>::parse(std::string_view text) noexcept {
  const std::size_t slash = text.find('/');
  const auto address = Address::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  if (slash == std::string_view::npos) return Prefix{*address, Address::bits};
  const auto length = parse_number<std::uint8_t>(text.substr(slash + 1));
  if (!length || *length > Address::bits) return std::nullopt;
  return Prefix{*address, *length};
}

template <class Address>
std::optional<AddressRange<Address>> AddressRange<Address>::parse(std::string_view text) noexcept {
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos) {
    const auto prefix = Prefix<Address>::parse(text);
    if (!prefix) return std::nullopt;
    return AddressRange{prefix->first(), prefix->last()};
  }
  const auto first = Address::parse(text.substr(0, dash));
  const auto last = Address::parse(text.substr(dash + 1));
  if (!first || !last || *last < *first) return std::nullopt;
  return AddressRange{*first, *last};
}

// The attribute of parse() alone does not reach instantiations over types that are hidden themselves.
template struct EFIO_EXPORT Prefix<Ipv4Address>;
template struct EFIO_EXPORT Prefix<Ipv6Address>;
template struct EFIO_EXPORT AddressRange<Ipv4Address>;
template struct EFIO_EXPORT AddressRange<Ipv6Address>;

std::optional<PortRange> PortRange::parse(std::string_view text) noexcept {
  const std::size_t dash = text.find('-');
  const auto first = parse_number<std::uint16_t>(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : parse_number<std::uint16_t>(text.substr(dash + 1));
  if (!first || !last || *last < *first) return std::nullopt;
  return PortRange{*first, *last};
}

std::string to_string(const MacAddress& address) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : address.bytes()) {
    if (!text.empty()) text += ':';
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

std::string to_string(const Ipv4Address& address) { return text_of(AF_INET, address); }
std::string to_string(const Ipv6Address& address) { return text_of(AF_INET6, address); }
std::string to_string(const Ipv4Prefix& prefix) {
  return to_string(prefix.address) + '/' + std::to_string(prefix.length);
}
std::string to_string(const Ipv6Prefix& prefix) {
  return to_string(prefix.address) + '/' + std::to_string(prefix.length);
}
std::string to_string(const Ipv4Range& range) { return range_text(range.first, range.last); }
std::string to_string(const Ipv6Range& range) { return range_text(range.first, range.last); }
std::string to_string(const PortRange& range) {
  using std::to_string;
  return range.first == range.last ? to_string(range.first) : to_string(range.first) + '-' + to_string(range.last);
}

}  // namespace efnet
