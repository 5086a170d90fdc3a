// A rate as people write it: frames a second, or bits of a layer.
#pragma once

#include <cstdint>
#include <string_view>

#include "efio/result.h"

namespace efio::tools {

inline constexpr std::uint32_t fcs = 4;                       // bytes that slots do not hold
inline constexpr std::uint32_t wire_overhead = 7 + 1 + 12;    // preamble, start of frame and gap around each frame

struct Rate {
  enum class Unit : std::uint8_t { frames, bits_layer2, bits_layer1 };
  std::uint64_t per_second = 0;  // 0: as fast as possible
  Unit unit = Unit::frames;

  bool limited() const noexcept { return per_second != 0; }
  // What a frame of `length` bytes (without FCS) uses up.
  static std::uint64_t cost(Unit unit, std::uint32_t length) noexcept;
  std::uint64_t cost(std::uint32_t length) const noexcept { return cost(unit, length); }

  // "1M" (frames a second), "2Gbit" (layer 2 with FCS), "2GbitL1" (with preamble and gap too), "line". Errors: usage.
  static Result<Rate> parse(std::string_view text);

  friend bool operator==(const Rate&, const Rate&) = default;
};

}  // namespace efio::tools
