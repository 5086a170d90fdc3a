#include "efnet/plugins/limit.h"

#include <algorithm>
#include <array>

#include "efio/text.h"
#include "efnet/plugins/arguments.h"
#include "efnet/wire/flow.h"

namespace efnet {

namespace {

constexpr double fcs = 4;
constexpr double longest_frame_bits = (1514 + fcs) * 8;

// What the key has of a frame, as words; the rest of the key stays 0.
std::array<std::uint64_t, 5> key_words(LimitKey key, std::span<const std::byte> frame) noexcept {
  if (key == LimitKey::all) return {};
  FlowKey flow = parse_flow(frame).key;
  if (key == LimitKey::source) flow = FlowKey{.src = flow.src};
  if (key == LimitKey::destination) flow = FlowKey{.dst = flow.dst};
  return flow.words();
}

}  // namespace

efio::Result<std::unique_ptr<LimitPlugin>> LimitPlugin::create(const LimitOptions& options) {
  auto buckets = TokenBuckets::create(options.buckets);
  if (!buckets) return std::unexpected(std::move(buckets.error()));
  return std::unique_ptr<LimitPlugin>(new LimitPlugin(std::move(*buckets), options));
}

efio::Result<std::unique_ptr<LimitPlugin>> LimitPlugin::parse(std::string_view text) {
  auto arguments = PluginArguments::parse("limit", text);
  if (!arguments) return std::unexpected(std::move(arguments.error()));
  LimitOptions options;
  const std::uint64_t burst = arguments->options().number("burst", 0, 1, 1'000'000'000'000);
  const std::string key = arguments->options().choice("key", {"source", "destination", "flow", "all"});
  options.key = key == "source"        ? LimitKey::source
                : key == "destination" ? LimitKey::destination
                : key == "flow"        ? LimitKey::flow
                                       : LimitKey::all;
  const std::string gate = arguments->options().choice("gate", {"both", "in", "out"});
  if (gate != "both") options.gates = gate == "in" ? efio::Direction::rx : efio::Direction::tx;
  options.buckets.capacity = arguments->options().number("keys", 65'536, 1, std::uint64_t{1} << 28);
  if (auto known = arguments->finish(); !known) return std::unexpected(std::move(known.error()));

  std::string_view rate = arguments->argument();
  options.bits = rate.ends_with("bit");
  if (options.bits) rate.remove_suffix(3);
  const auto number = efio::parse_count(rate);
  if (!number || *number == 0 || *number > 1'000'000'000'000)
    return arguments->refuse("\"{}\" is not a rate", arguments->argument()).hint("10k (frames a second) or 2Gbit");
  options.buckets.rate = static_cast<double>(*number);
  const double least = options.bits ? longest_frame_bits : 1;
  options.buckets.burst = burst > 0 ? static_cast<double>(burst) : std::max(options.buckets.rate / 10, least);
  return create(options);
}

void LimitPlugin::apply(PacketBatch& packets, Time now) noexcept {
  std::array<std::array<std::uint64_t, 5>, PacketBatch::capacity> keys;
  std::array<std::uint64_t, PacketBatch::capacity> hashes;
  std::size_t count = 0;
  for (const std::size_t i : packets) keys[count++] = key_words(options_.key, packets.bytes(i));
  buckets_.hash<5>(std::span<const std::array<std::uint64_t, 5>>(keys.data(), count), hashes.data());
  std::size_t next = 0;
  for (const std::size_t i : packets) {
    const double cost = options_.bits ? (static_cast<double>(packets.length(i)) + fcs) * 8 : 1;
    if (!buckets_.take(hashes[next++], cost, now)) packets.drop(i, efio::DropReason::rate_limit);
  }
}

void LimitPlugin::ingate(PacketBatch& packets, Gate& gate) noexcept {
  if (efio::receives(options_.gates)) apply(packets, gate.now());
}
void LimitPlugin::outgate(PacketBatch& packets, Gate& gate) noexcept {
  if (efio::transmits(options_.gates)) apply(packets, gate.now());
}

}  // namespace efnet
