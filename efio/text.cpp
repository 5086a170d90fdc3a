#include "efio/text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace efio {

namespace {

using Unit = std::pair<std::string_view, double>;

constexpr std::array<Unit, 9> count_units = {{{"", 1},
                                              {"k", 1e3},
                                              {"K", 1e3},
                                              {"M", 1e6},
                                              {"G", 1e9},
                                              {"T", 1e12},
                                              {"Ki", 1024},
                                              {"Mi", 1048576},
                                              {"Gi", 1073741824}}};
constexpr std::array<Unit, 6> duration_units = {
    {{"", 1e9}, {"s", 1e9}, {"ms", 1e6}, {"us", 1e3}, {"ns", 1}, {"min", 60e9}}};

// The number at the front of `text`, which is left holding the rest.
std::optional<double> take_number(std::string_view& text) noexcept {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !std::isfinite(value)) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

template <std::size_t N>
std::optional<double> scaled(std::string_view text, const std::array<Unit, N>& units, double limit) noexcept {
  const auto value = take_number(text);
  if (!value || *value < 0 || std::signbit(*value)) return std::nullopt;
  for (const auto& [name, factor] : units)
    if (text == name && *value * factor < limit) return *value * factor;
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> parse_count(std::string_view text) noexcept {
  // Plain digits first: a double would round numbers above 2^53.
  std::uint64_t exact = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), exact);
  if (error == std::errc() && end == text.data() + text.size()) return exact;
  const auto value = scaled(text, count_units, 9.2e18);
  if (!value || *value != std::floor(*value)) return std::nullopt;
  return static_cast<std::uint64_t>(*value);
}

std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text) noexcept {
  const auto value = scaled(text, duration_units, 9.2e18);
  if (!value) return std::nullopt;
  return std::chrono::nanoseconds(std::llround(*value));
}

std::optional<double> parse_fraction(std::string_view text) noexcept {
  const auto value = take_number(text);
  if (!value) return std::nullopt;
  if (text == "%") return *value / 100;
  return text.empty() ? value : std::nullopt;
}

}  // namespace efio
