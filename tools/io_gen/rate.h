// `--rate`, `--burst` and `--gaps`: how many frames, or bits, are to go by when.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "efio/result.h"
#include "tools/common/rate.h"

namespace efio::io_gen {

struct Rate {
  using Unit = tools::Rate::Unit;
  // Units in every `per` ns, changing evenly from the one to the other within `ns`; the last step goes on for ever at
  // `to`.
  struct Step {
    std::uint64_t from = 0, to = 0;
    std::uint64_t per = 1'000'000'000;
    std::uint64_t ns = 0;
  };
  std::vector<Step> steps;  // none: as fast as possible
  Unit unit = Unit::frames;
  std::uint64_t burst = 1;  // frames that go together
  bool poisson = false;     // gaps are exponential about the rate, independent of each other
  std::uint64_t seed = 1;   // of them

  bool limited() const noexcept { return !steps.empty(); }
  // One rate for ever.
  bool constant() const noexcept { return steps.size() == 1 && steps[0].from == steps[0].to; }
  // What a frame of `length` bytes (without FCS) uses up.
  std::uint64_t cost(std::uint32_t length) const noexcept { return tools::Rate::cost(unit, length); }
  // ns between the beginnings of frames of `length` bytes that go alone; 0: no such number.
  double gap(std::uint32_t length) const noexcept;

  // "1M" (frames a second), "2Gbit" (layer 2 with FCS), "2GbitL1" (with preamble and gap too), "line". Steps and ramps,
  // one after the other: "1M@2s,1M-5M@10s,5M". Errors: usage.
  static Result<Rate> parse(std::string_view text);
  // "32" frames together at the mean rate there is, or "32@1ms", beginning every 1 ms. Errors: usage.
  Result<void> parse_burst(std::string_view text);
};

}  // namespace efio::io_gen
