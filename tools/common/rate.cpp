#include "tools/common/rate.h"

#include "efio/fail.h"
#include "efio/text.h"

namespace efio::tools {

namespace {

constexpr std::uint64_t most_frames = 10'000'000'000;
constexpr std::uint64_t most_bits = 10'000'000'000'000;

bool strip(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

}  // namespace

Result<Rate> Rate::parse(std::string_view text) {
  const auto attempted = fmt::format("--rate {}", text);
  if (text == "line") return Rate{};
  Rate rate;
  if (strip(text, "bitL1"))
    rate.unit = Unit::bits_layer1;
  else if (strip(text, "bit"))
    rate.unit = Unit::bits_layer2;
  const auto number = parse_count(text);
  if (!number || *number == 0)
    return fail(Error::Kind::usage, attempted, "not a rate")
        .hint("1M (frames a second), 2Gbit, 2GbitL1 (with preamble and gap) or line");
  const auto most = rate.unit == Unit::frames ? most_frames : most_bits;
  if (*number > most) return fail(Error::Kind::usage, attempted, "out of range").hint("at most {}, or line", most);
  rate.per_second = *number;
  return rate;
}

std::uint64_t Rate::cost(Unit unit, std::uint32_t length) noexcept {
  switch (unit) {
    case Unit::frames:
      return 1;
    case Unit::bits_layer2:
      return (length + fcs) * 8;
    case Unit::bits_layer1:
      break;
  }
  return (length + fcs + wire_overhead) * 8;
}

}  // namespace efio::tools
