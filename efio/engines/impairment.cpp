#include "efio/engines/impairment.h"

#include <cmath>

#include "efio/fail.h"
#include "efio/text.h"

namespace efio {

namespace {

constexpr double one_second = 1e9;  // ns
constexpr std::size_t most_held = 1'000'000;
constexpr std::size_t held_without_delay = 64;  // what duplicates and late frames may need for want of room
constexpr std::uint64_t ethernet_header = 14, frame_check_sequence = 4;

// splitmix64's output function: a full avalanche of 64 bits (Steele, Lea, Flood 2014).
constexpr std::uint64_t mix(std::uint64_t x) noexcept {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

constexpr double unit(std::uint64_t random) noexcept { return static_cast<double>(random >> 11) * 0x1p-53; }

// The kinds of choice: each has random numbers of its own.
enum Kind : unsigned { loss, duplicate, reorder, corrupt, which_bit, truncate, which_length, jitter };

// Options with a value that only sim: has: a part, a colon, another part. Remembers the first that is wrong.
class Reader {
 public:
  explicit Reader(Uri& uri) : uri_(uri) {}

  // "0.01" or "1/100"; what stands behind a colon goes to `rest`.
  Chance chance(std::string_view key, std::string* rest = nullptr) {
    const auto whole = uri_.text_option(key);
    if (whole.empty() && !uri_.has(key)) return {};
    const auto text = split(whole, rest);
    if (text.starts_with("1/"))
      if (const auto every = parse_count(text.substr(2)); every && *every > 0) return {0, *every};
    if (const auto probability = parse_fraction(text); probability && *probability >= 0 && *probability <= 1) return {*probability, 0};
    refuse(key, whole, "a probability such as 0.01, or 1/100 for every 100th frame");
    return {};
  }

  std::uint64_t number(std::string_view key, const std::string& text, std::uint64_t otherwise, std::uint64_t least,
                       std::uint64_t most) {
    if (text.empty()) return otherwise;
    if (const auto value = parse_count(text); value && *value >= least && *value <= most) return *value;
    refuse(key, text, fmt::format("behind the colon a number from {} to {}", least, most));
    return otherwise;
  }

  // "10ms", or "10ms:2ms".
  std::pair<std::uint64_t, std::uint64_t> durations(std::string_view key, bool second_needed) {
    const auto whole = uri_.text_option(key);
    if (whole.empty() && !uri_.has(key)) return {0, 0};
    std::string rest;
    const auto first = parse_duration(split(whole, &rest));
    const auto second = rest.empty() && !second_needed ? std::chrono::nanoseconds(0) : parse_duration(rest);
    constexpr std::chrono::hours longest{24};
    if (first && second && *first <= longest && *second <= longest)
      return {static_cast<std::uint64_t>(first->count()), static_cast<std::uint64_t>(second->count())};
    refuse(key, whole, second_needed ? "two times such as 1s:200ms" : "a time such as 10ms, or time:jitter such as 10ms:2ms");
    return {0, 0};
  }

  // "10Mbit": bits a second of frames with FCS; "5k" or "5kpps": frames a second.
  void rate(std::uint64_t& bits, std::uint64_t& frames) {
    const auto whole = uri_.text_option("rate");
    if (whole.empty() && !uri_.has("rate")) return;
    std::string_view text = whole;
    auto& target = text.ends_with("bit") ? bits : frames;
    if (text.ends_with("bit") || text.ends_with("pps")) text.remove_suffix(3);
    const auto value = parse_count(text);
    if (!value || *value == 0) return refuse("rate", whole, "frames a second such as 5k, or bits such as 10Mbit");
    target = *value;
  }

  Result<void> finish() {
    if (auto ok = uri_.finish(); !ok) return ok;
    if (error_) return std::unexpected(*error_);
    return {};
  }

 private:
  static std::string_view split(std::string_view whole, std::string* rest) {
    const auto colon = rest == nullptr ? std::string_view::npos : whole.find(':');
    if (colon == std::string_view::npos) return whole;
    *rest = whole.substr(colon + 1);
    return whole.substr(0, colon);
  }
  void refuse(std::string_view key, std::string_view value, std::string_view expected) {
    if (error_) return;
    error_ = fail(Error::Kind::usage, "open " + uri_.text(), "{}={} is not possible", key, value).hint("{}", expected).error();
  }

  Uri& uri_;
  std::optional<Error> error_;
};

}  // namespace

Result<Impairments> Impairments::read(Uri& uri) {
  Impairments what;
  Reader reader(uri);
  std::string distance, length;
  what.seed = uri.number("seed", 1, 0, UINT64_MAX);
  const auto direction = uri.choice("direction", {"both", "rx", "tx"});
  what.on_rx = direction != "tx", what.on_tx = direction != "rx";
  what.virtual_time = uri.choice("clock", {"real", "virtual"}) == "virtual";
  what.loss = reader.chance("loss");
  what.duplicate = reader.chance("duplicate");
  what.corrupt = reader.chance("corrupt");
  what.reorder = reader.chance("reorder", &distance);
  what.reorder_distance = reader.number("reorder", distance, 1, 1, most_held);
  what.truncate = reader.chance("truncate", &length);
  what.truncate_to = reader.number("truncate", length, 0, ethernet_header, 65535);
  std::tie(what.delay, what.jitter) = reader.durations("delay", false);
  std::tie(what.down_after, what.down_for) = reader.durations("down", true);
  reader.rate(what.rate_bits, what.rate_frames);
  what.limit = uri.number("limit", what.limit, 1, most_held);
  if (auto ok = reader.finish(); !ok) return std::unexpected(ok.error());
  return what;
}

std::string Impairments::describe() const {
  std::vector<std::string_view> parts;
  const auto add = [&](bool is, std::string_view name) {
    if (is) parts.push_back(name);
  };
  add(static_cast<bool>(loss), "loss");
  add(static_cast<bool>(duplicate), "duplication");
  add(static_cast<bool>(reorder), "reordering");
  add(static_cast<bool>(corrupt), "corruption");
  add(static_cast<bool>(truncate), "truncation");
  add(delay > 0 || jitter > 0, "delay");
  add(rate_bits > 0 || rate_frames > 0, "rate");
  add(down_for > 0, "outage");
  add(virtual_time, "virtual time");
  return parts.empty() ? "nothing" : fmt::format("{}", fmt::join(parts, " "));
}

std::uint64_t SimClock::look_again(std::uint64_t due) const noexcept {
  constexpr std::uint64_t while_time_stands_still = 1'000'000;  // whoever advances it does not wake a poller
  return virtual_ ? Clock::monotonic() + while_time_stands_still : opened_ + due;
}

Result<std::unique_ptr<ImpairedPath>> ImpairedPath::create(const Impairments& what, const SimClock& clock,
                                                           Direction direction, std::size_t queue,
                                                           std::shared_ptr<Pool> pool) {
  const bool applies = receives(direction) ? what.on_rx : what.on_tx;
  std::unique_ptr<ImpairedPath> path(new ImpairedPath(applies ? what : Impairments{}, clock));
  path->stream_ = mix(mix(what.seed) + 2 * queue + (receives(direction) ? 0 : 1));
  if (applies && what.delays()) path->room_ = what.limit;
  else if (applies && (what.duplicate || what.reorder)) path->room_ = held_without_delay;
  const std::size_t others = 3;  // scratch, a duplicate on its way, one held back
  auto frames = pool->reserve(path->room_ + others);
  if (!frames) return std::unexpected(frames.error());
  path->pool_ = std::move(pool);
  for (const auto frame : *frames) path->spares_.push_back(path->pool_->slot(frame));
  path->scratch_ = path->spares_.back();
  path->spares_.pop_back();
  path->line_.reserve(path->room_);
  return path;
}

ImpairedPath::~ImpairedPath() {
  if (!pool_) return;
  close();
  spares_.push_back(scratch_);
  std::vector<std::uint64_t> frames;
  for (const auto& slot : spares_) frames.push_back(slot.frame);
  pool_->release(frames);
}

Slot* ImpairedPath::whole(Slot* first, std::size_t slots, bool own) noexcept {
  if (slots == 1 && own) return first;
  std::size_t length = 0;
  for (std::size_t i = 0; i < slots; ++i) length += first[i].length;
  if (length > capacity()) {
    drop(DropReason::oversize);
    return nullptr;
  }
  scratch_ = pool_->slot(scratch_.frame);
  copy_slot(first[0], scratch_);
  for (std::size_t i = 1; i < slots; ++i) {
    std::memcpy(scratch_.buffer + scratch_.offset + scratch_.length, first[i].buffer + first[i].offset, first[i].length);
    scratch_.length += first[i].length;
  }
  return &scratch_;
}

std::uint64_t ImpairedPath::draw(unsigned kind) const noexcept { return mix(mix(stream_ + kind) + number_); }

bool ImpairedPath::happens(const Chance& chance, unsigned kind) const noexcept {
  if (chance.every > 0) return number_ % chance.every == 0;
  return chance.probability > 0 && unit(draw(kind)) < chance.probability;
}

ImpairedPath::Fate ImpairedPath::decide(const Slot& frame, std::uint64_t now) const noexcept {
  Fate fate{.length = frame.length};
  if (now - what_.down_after < what_.down_for) return {.drop = DropReason::link_down};  // before the outage it wraps
  if (happens(what_.loss, loss)) return {.drop = DropReason::lost};
  if (fate.length > ethernet_header && happens(what_.truncate, truncate)) {
    const auto longest = fate.length - 1;
    const auto shorter = ethernet_header + draw(which_length) % (longest - ethernet_header + 1);
    fate.length = static_cast<std::uint32_t>(std::min<std::uint64_t>(what_.truncate_to > 0 ? what_.truncate_to : shorter, fate.length));
  }
  if (fate.length > 0 && happens(what_.corrupt, corrupt)) fate.flipped_bit = draw(which_bit) % (std::uint64_t{fate.length} * 8);
  fate.duplicate = happens(what_.duplicate, duplicate);
  fate.hold_back = happens(what_.reorder, reorder);
  return fate;
}

std::optional<std::uint64_t> ImpairedPath::departure(std::uint32_t length, std::uint64_t now) noexcept {
  std::uint64_t due = now;
  if (what_.rate_bits > 0 || what_.rate_frames > 0) {
    if (line_.size() >= room_) return std::nullopt;
    const auto bits = static_cast<double>((length + frame_check_sequence) * 8);
    const auto cost = what_.rate_bits > 0 ? bits * one_second / static_cast<double>(what_.rate_bits)
                                          : one_second / static_cast<double>(what_.rate_frames);
    // Fractions of a nanosecond are carried on: rounded away, they would make another rate.
    if (line_free_ < now) line_free_ = now, fraction_ = 0;
    const auto whole_ns = std::floor(cost + fraction_);
    fraction_ += cost - whole_ns;
    line_free_ += static_cast<std::uint64_t>(whole_ns);
    due = line_free_;
  }
  due += what_.delay;
  if (what_.jitter > 0) due += static_cast<std::uint64_t>(unit(draw(jitter)) * static_cast<double>(what_.jitter));
  return due;
}

void ImpairedPath::keep(Slot& frame, std::uint64_t due, std::uint64_t arrived) noexcept {
  if (line_.size() >= room_ || spares_.empty()) return drop(DropReason::queue_limit);
  line_.push_back({due, order_++, arrived, spares_.back()});
  spares_.pop_back();
  std::swap(line_.back().slot, frame);
  std::push_heap(line_.begin(), line_.end());
}

std::uint64_t ImpairedPath::next_due() const noexcept {
  const auto line = line_.empty() ? UINT64_MAX : line_.front().due;
  return held_back_ ? std::min(line, held_back_->until) : line;
}

void ImpairedPath::close() noexcept {
  drop(DropReason::closed, held());
  for (const auto& waiting : line_) spares_.push_back(pool_->slot(waiting.slot.frame));
  line_.clear();
  if (held_back_) spares_.push_back(pool_->slot(held_back_->slot.frame));
  held_back_.reset();
}

void ImpairedPath::count_into(CounterBlock& counters) noexcept {
  for (std::size_t i = 0; i < drop_reasons; ++i)
    if (drops_[i] > 0) counters.add_dropped(static_cast<DropReason>(i), std::exchange(drops_[i], 0));
}

}  // namespace efio
