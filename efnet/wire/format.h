#pragma once

#include <fmt/format.h>

#include <concepts>

#include "efnet/wire/address.h"

// fmt::format("{}", address) for all that address.h can write; width and alignment as for strings.

namespace efnet::format_detail {

template <class T, class... Types>
concept OneOf = (std::same_as<T, Types> || ...);

}  // namespace efnet::format_detail

template <efnet::format_detail::OneOf<efnet::MacAddress, efnet::Ipv4Address, efnet::Ipv6Address, efnet::Ipv4Prefix,
                                      efnet::Ipv6Prefix, efnet::Ipv4Range, efnet::Ipv6Range, efnet::PortRange>
              T>
struct fmt::formatter<T> : fmt::formatter<fmt::string_view> {
  template <class Context>
  auto format(const T& value, Context& context) const {
    return fmt::formatter<fmt::string_view>::format(to_string(value), context);
  }
};
