#include "efnet/plugins/nat44.h"

#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "efnet/plugins/arguments.h"

namespace efnet {
namespace {

efio::Result<Nat44Options> read(PluginArguments& arguments) {
  Nat44Options options;
  efio::Uri& given = arguments.options();
  const std::string pool = given.text_option("pool");
  const std::string hosts = given.text_option("hosts");
  const std::string filtering = given.choice("filtering", {"endpoint", "address", "address_and_port"});
  options.sessions = given.number("sessions", 65'536, 1, std::uint64_t{1} << 28);
  const std::string inside_address = given.text_option("inside_address");
  const std::string outside_address = given.text_option("outside_address");
  if (auto known = arguments.finish(); !known) return std::unexpected(std::move(known.error()));
  options.filtering = filtering == "endpoint"  ? NatFiltering::endpoint_independent
                      : filtering == "address" ? NatFiltering::address_dependent
                                               : NatFiltering::address_and_port_dependent;
  for (const std::string_view part : split_list(pool)) {
    const auto colon = part.find(':');
    const auto addresses = Ipv4Range::parse(part.substr(0, colon));
    const auto ports =
        colon == part.npos ? std::optional(PortRange{1024, 65'535}) : PortRange::parse(part.substr(colon + 1));
    if (!addresses || !ports)
      return arguments.refuse("\"{}\" is not a part of a pool", part)
          .hint("198.51.100.16/28, or 198.51.100.1:1024-2047");
    options.pool.ranges.push_back({*addresses, *ports});
  }
  for (const std::string_view part : split_list(hosts)) {
    const auto prefix = Ipv4Prefix::parse(part);
    if (!prefix) return arguments.refuse("\"{}\" is not a network", part).hint("10.0.0.0/8");
    options.inside.push_back(*prefix);
  }
  const auto address = [&](const std::string& text, Ipv4Address& into) {
    const auto parsed = Ipv4Address::parse(text);
    if (parsed) into = *parsed;
    return text.empty() || parsed;
  };
  if (!address(inside_address, options.inside_address) || !address(outside_address, options.outside_address))
    return arguments.refuse("\"{}\" or \"{}\" is not an address", inside_address, outside_address);
  return options;
}

}  // namespace

auto Nat44Plugin::create(Nat44Options options) -> efio::Result<Halves> {
  auto nat = Nat44::create(std::move(options));
  if (!nat) return std::unexpected(std::move(nat.error()));
  auto shared = std::make_shared<Shared>();
  shared->nat = std::move(*nat);
  shared->has_both = true;
  return Halves{std::unique_ptr<Nat44Plugin>(new Nat44Plugin(shared, NatSide::inside)),
                std::unique_ptr<Nat44Plugin>(new Nat44Plugin(shared, NatSide::outside))};
}

// Halves by text find each other by their name, as the ends of a pipe do: a first one waits for its second.
efio::Result<std::unique_ptr<Nat44Plugin>> Nat44Plugin::parse(std::string_view text) {
  struct Waiting {
    std::weak_ptr<Shared> shared;
    NatSide side;
  };
  static std::mutex mutex;
  static std::map<std::string, Waiting, std::less<>> waiting;

  auto arguments = PluginArguments::parse("nat44", text);
  if (!arguments) return std::unexpected(std::move(arguments.error()));
  const std::string& half = arguments->argument();
  const auto at = half.find('@');
  const std::string which = half.substr(0, at);
  const std::string name = at == half.npos ? "" : half.substr(at + 1);
  if (which != "inside" && which != "outside")
    return arguments->refuse("\"{}\" is not a half", which).hint("nat44:inside?pool=198.51.100.1, and nat44:outside");
  const NatSide side = which == "inside" ? NatSide::inside : NatSide::outside;
  auto options = read(*arguments);
  if (!options) return std::unexpected(std::move(options.error()));

  const std::lock_guard lock(mutex);
  const auto other = waiting.find(name);
  std::shared_ptr<Shared> shared = other != waiting.end() ? other->second.shared.lock() : nullptr;
  if (shared != nullptr) {
    if (other->second.side == side) return arguments->refuse("this half of it is there already");
    if (text.find('?') != text.npos) return arguments->refuse("the other half has said what it is");
    shared->has_both = true;
    waiting.erase(other);
  } else {
    if (options->pool.ranges.empty()) return arguments->refuse("no pool").hint("pool=198.51.100.1");
    auto nat = Nat44::create(std::move(*options));
    if (!nat) return std::unexpected(std::move(nat.error()));
    shared = std::make_shared<Shared>();
    shared->nat = std::move(*nat);
    waiting[name] = {shared, side};
  }
  return std::unique_ptr<Nat44Plugin>(new Nat44Plugin(std::move(shared), side));
}

void Nat44Plugin::ingate(PacketBatch& packets, Gate& gate) noexcept {
  std::array<std::span<std::byte>, PacketBatch::capacity> frames;
  std::array<std::uint8_t, PacketBatch::capacity> indices;
  std::array<NatVerdict, PacketBatch::capacity> verdicts;
  std::size_t count = 0;
  for (const std::size_t i : packets) {
    if (packets[i].has(efio::Slot::more)) [[unlikely]] {
      packets.drop(i, efio::DropReason::oversize);
      continue;
    }
    indices[count] = static_cast<std::uint8_t>(i);
    frames[count++] = packets.bytes(i);
  }
  const auto all = std::span(frames).first(count);
  if (side_ == NatSide::inside)
    nat().outward(all, gate.now(), verdicts);
  else
    nat().inward(all, gate.now(), verdicts);
  bool all_pass = true;
  for (std::size_t k = 0; k < count; ++k) all_pass &= passes(verdicts[k]);
  for (std::size_t k = 0; !all_pass && k < count; ++k) {
    if (passes(verdicts[k])) continue;
    if (is_drop(verdicts[k])) {
      packets.drop(indices[k], drop_reason(verdicts[k]));
      continue;
    }
    if (verdicts[k] == NatVerdict::hairpinned) {
      const auto room = gate.make(frames[k].size());
      if (room.empty()) {
        packets.drop(indices[k], efio::DropReason::no_buffer);
        continue;
      }
      std::memcpy(room.data(), frames[k].data(), frames[k].size());
    }
    packets.consume(indices[k]);  // what waits, or goes in fragments, has been copied
  }
  send_own(gate);
}

void Nat44Plugin::outgate(PacketBatch&, Gate& gate) noexcept { send_own(gate); }

void Nat44Plugin::tick(Gate& gate) noexcept {
  nat().tick(gate.now());
  send_own(gate);
}

// What finds no room stays for the next gate.
void Nat44Plugin::send_own(Gate& gate) noexcept {
  nat().collect(side_, [&](std::span<const std::byte> frame) {
    const auto room = gate.make(frame.size());
    if (room.empty()) return false;
    std::memcpy(room.data(), frame.data(), frame.size());
    return true;
  });
}

}  // namespace efnet
