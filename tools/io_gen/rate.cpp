#include "tools/io_gen/rate.h"

#include <time.h>

#include <algorithm>

#include "efio/clock.h"
#include "efio/fail.h"
#include "efio/text.h"
#include "tools/io_gen/traffic.h"

namespace efio::io_gen {

namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t second = 1'000'000'000;
constexpr std::uint64_t most_frames = 10'000'000'000;
constexpr std::uint64_t most_bits = 10'000'000'000'000;
constexpr std::uint64_t longest_sleep = 50'000'000;
constexpr std::uint64_t wake_early = 80'000;  // what a sleep may last too long

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

std::uint64_t Rate::cost(std::uint32_t length) const noexcept {
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

std::uint64_t Pacer::wait(std::uint64_t now) noexcept {
  if (!started_) started_ = true, start_ = now;
  const std::uint64_t elapsed = now - start_;
  allowed_ = static_cast<std::uint64_t>(Wide{elapsed} * rate_.per_second / second);
  if (spent_ <= allowed_) return 0;
  const auto due = static_cast<std::uint64_t>((Wide{spent_} * second + rate_.per_second - 1) / rate_.per_second);
  return due - elapsed;
}

bool Pacer::take(std::uint32_t length) noexcept {
  if (spent_ > allowed_) return false;
  spent_ += rate_.cost(length);
  return true;
}

void wait_for(std::uint64_t ns) noexcept {
  ns = std::min(ns, longest_sleep);
  const std::uint64_t until = Clock::monotonic() + ns;
  if (ns > wake_early) {
    const std::uint64_t asleep = ns - wake_early;
    const timespec time{static_cast<time_t>(asleep / second), static_cast<long>(asleep % second)};
    ::nanosleep(&time, nullptr);
  }
  while (Clock::monotonic() < until) __builtin_ia32_pause();
}

}  // namespace efio::io_gen
