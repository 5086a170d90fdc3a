// Numbers and durations as people write them on a command line or in a URI.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "efio/export.h"

namespace efio {

// "1000", "1k", "2M", "1.5G" (powers of 1000), "64Ki" (of 1024); whole and non-negative, nothing else around it.
EFIO_EXPORT std::optional<std::uint64_t> parse_count(std::string_view text) noexcept;

// "200ms", "10s", "5us", "7ns", "2min"; a bare number is seconds. Non-negative.
EFIO_EXPORT std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text) noexcept;

// "0.001", "1e-6", "5%". Finite.
EFIO_EXPORT std::optional<double> parse_fraction(std::string_view text) noexcept;

}  // namespace efio
