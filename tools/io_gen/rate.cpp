#include "tools/io_gen/rate.h"

#include <algorithm>
#include <optional>

#include "efio/fail.h"
#include "efio/text.h"
#include "tools/io_gen/traffic.h"

namespace efio::io_gen {

namespace {

constexpr std::uint64_t second = 1'000'000'000;
constexpr std::uint64_t longest_step = 366 * 24 * 3600 * second;
constexpr std::uint64_t most_burst = 1'000'000;

constexpr const char* examples =
    "1M (frames a second), 2Gbit, 2GbitL1 (with preamble and gap), line, or 1M@2s,1M-5M@10s,5M";

// The part before the separator; the rest stays.
std::string_view cut(std::string_view& text, char separator) {
  const auto at = text.find(separator);
  const auto first = text.substr(0, at);
  text = at == std::string_view::npos ? std::string_view{} : text.substr(at + 1);
  return first;
}

std::optional<std::uint64_t> positive_ns(std::string_view text) {
  const auto time = parse_duration(text);
  if (!time || time->count() <= 0 || static_cast<std::uint64_t>(time->count()) > longest_step) return std::nullopt;
  return static_cast<std::uint64_t>(time->count());
}

// One rate of the list, which is not `line`.
Result<tools::Rate> amount(std::string_view text, const std::string& attempted) {
  auto rate = tools::Rate::parse(text);
  if (rate && rate->limited()) return rate;
  Error error = rate ? fail(Error::Kind::usage, attempted, "not a rate").error() : std::move(rate.error());
  error.attempted = attempted;
  if (error.why == "not a rate") error.hint = examples;
  return std::unexpected(std::move(error));
}

}  // namespace

Result<Rate> Rate::parse(std::string_view text) {
  const auto attempted = fmt::format("--rate {}", text);
  Rate rate;
  if (text == "line") return rate;
  if (text.ends_with(',')) return fail(Error::Kind::usage, attempted, "not a rate").hint("{}", examples);
  std::optional<Unit> unit;
  do {
    auto part = cut(text, ',');
    auto from_to = cut(part, '@');
    const bool ramp = from_to.find('-') != std::string_view::npos;
    const auto from = amount(cut(from_to, '-'), attempted);
    if (!from) return std::unexpected(from.error());
    const auto to = ramp ? amount(from_to, attempted) : from;
    if (!to) return std::unexpected(to.error());
    if (from->unit != to->unit || unit.value_or(from->unit) != from->unit)
      return fail(Error::Kind::usage, attempted, "its rates are of different kinds")
          .hint("all in frames, or all in bits");
    unit = from->unit;
    Step step{from->per_second, to->per_second, second, 0};
    if (!part.empty()) {
      const auto ns = positive_ns(part);
      if (!ns) return fail(Error::Kind::usage, attempted, "\"{}\" is not a time", part).hint("{}", examples);
      step.ns = *ns;
    } else if (ramp || !text.empty()) {
      return fail(Error::Kind::usage, attempted, "a step that does not say how long it is").hint("{}", examples);
    }
    rate.steps.push_back(step);
  } while (!text.empty());
  rate.unit = *unit;
  return rate;
}

Result<void> Rate::parse_burst(std::string_view text) {
  const auto attempted = fmt::format("--burst {}", text);
  constexpr const char* hint = "--burst 32@1ms, or --burst 32 --rate 1M";
  auto rest = text;
  const bool timed = rest.find('@') != std::string_view::npos;
  const auto frames = parse_count(cut(rest, '@'));
  if (!frames || *frames == 0 || *frames > most_burst)
    return fail(Error::Kind::usage, attempted, "not a number of frames up to {}", most_burst).hint("{}", hint);
  if (timed) {
    const auto ns = positive_ns(rest);
    if (!ns) return fail(Error::Kind::usage, attempted, "\"{}\" is not a time", rest).hint("{}", hint);
    if (limited()) return fail(Error::Kind::usage, attempted, "--rate says another rate").hint("{}", hint);
    steps = {{*frames, *frames, *ns, 0}};
  } else if (!limited()) {
    return fail(Error::Kind::usage, attempted, "how often?").hint("{}", hint);
  }
  burst = *frames;
  return {};
}

double Rate::gap(std::uint32_t length) const noexcept {
  if (!constant() || burst > 1 || poisson) return 0;
  return static_cast<double>(cost(length)) * static_cast<double>(steps[0].per) / static_cast<double>(steps[0].from);
}

}  // namespace efio::io_gen
