#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "efnet/bridge/switch.h"
#include "fuzz/operations.h"

// Any sequence of operations on a table of addresses and on a switch, against a map and a switch that looks at one frame
// after the other.

namespace {

using namespace efnet;
using namespace std::chrono_literals;
using efio::DropReason;
using efio::Slot;
using fuzz::check;
using Tagging = SwitchPortOptions::Tagging;

struct Known {
  std::uint16_t port;
  std::int64_t second;
  bool fixed;
};

// What a table with room for all would know.
struct Naive {
  std::map<std::uint64_t, Known> known;
  std::int64_t ageing;

  bool lives(const Known& entry, std::int64_t second) const {
    return entry.fixed || ageing == 0 || second - entry.second <= ageing;
  }
  std::uint16_t find(std::uint64_t key, std::int64_t second) const {
    const auto at = known.find(key);
    return at != known.end() && lives(at->second, second) ? at->second.port : MacTable::nowhere;
  }
  void learn(std::uint64_t key, std::uint16_t port, std::int64_t second) {
    const auto at = known.find(key);
    if (at == known.end() || !at->second.fixed) known[key] = {port, second, false};
  }
  std::size_t size(std::int64_t second) const {
    return static_cast<std::size_t>(std::ranges::count_if(known, [&](const auto& e) { return lives(e.second, second); }));
  }
};

// A table of 1 to 64 places: it fills, ages and is flushed all the time.
void table(fuzz::Operations& input) {
  const std::int64_t ageing = input.below(4);
  auto table = MacTable::create({.capacity = 1 + input.below(64), .ageing = std::chrono::seconds(ageing), .seed = HashSeed::from(1)});
  check(table.has_value());
  Naive naive{{}, ageing};
  std::int64_t second = 10;
  const auto any_key = [&] { return MacTable::key(0x0200'0000'0000 + input.byte(), input.below(2) == 0 ? 0 : 7); };
  while (input.more()) {
    const auto now = std::chrono::seconds(second);
    switch (input.byte() % 8) {
      case 0:
        second += input.below(5);
        break;
      case 1: {
        const auto key = any_key();
        const auto port = static_cast<std::uint16_t>(input.below(4));
        const bool added = table->add(key, port);
        check(added || naive.find(key, second) == MacTable::nowhere);
        if (added) naive.known[key] = {port, second, true};
        // One that was learned may have had to go.
        const auto gone = std::erase_if(naive.known, [&](const auto& entry) {
          return !entry.second.fixed && naive.lives(entry.second, second) && table->find(entry.first, now) == MacTable::nowhere;
        });
        check(gone <= (added ? 1U : 0U));
        break;
      }
      case 2: {
        const auto port = static_cast<std::uint16_t>(input.below(4));
        std::size_t living = 0;
        std::erase_if(naive.known, [&](const auto& entry) {
          const bool goes = !entry.second.fixed && entry.second.port == port;
          living += goes && naive.lives(entry.second, second);
          return goes;
        });
        check(table->flush(port) >= living);  // and what had aged
        break;
      }
      case 3:
        check(table->size(now) == naive.size(second) && table->entries(now).size() == naive.size(second));
        break;
      default: {  // a batch of pairs, as frames bring them
        std::array<std::uint64_t, 2 * MacTable::most_pairs> keys;
        std::array<std::uint16_t, MacTable::most_pairs> found;
        const std::size_t pairs = input.below(MacTable::most_pairs + 1);
        const auto port = static_cast<std::uint16_t>(input.below(4));
        for (std::size_t i = 0; i < 2 * pairs; ++i) keys[i] = any_key();
        const auto refused = table->not_learned(), moves = table->moves();
        table->learn_and_find(keys.data(), pairs, port, now, found.data());
        std::uint64_t moved = 0, absent = 0;
        for (std::size_t i = 0; i < 2 * pairs; i += 2) {
          const auto before = naive.find(keys[i], second);
          const auto at = naive.known.find(keys[i]);
          moved += before != MacTable::nowhere && before != port && !at->second.fixed;
          naive.learn(keys[i], port, second);
        }
        for (std::size_t i = 0; i < 2 * pairs; i += 2) {
          // What found no place is not there, and was told.
          if (table->find(keys[i], now) != MacTable::nowhere || !naive.known.contains(keys[i])) continue;
          naive.known.erase(keys[i]);
          ++absent;
        }
        check(table->not_learned() - refused >= absent && table->moves() - moves == moved);
        for (std::size_t i = 0; i < pairs; ++i) check(found[i] == naive.find(keys[2 * i + 1], second));
      }
    }
    const auto key = any_key();
    check(table->find(key, std::chrono::seconds(second)) == naive.find(key, second));
  }
}

constexpr std::uint64_t stations = 0x0200'0000'0000;
constexpr std::array<std::uint64_t, 4> groups = {0xFFFF'FFFF'FFFF, 0x0180'C200'0000, 0x0180'C200'0010, 0x0100'5E00'0001};

struct Frame {
  std::array<std::byte, 128> memory{};
  std::uint64_t to = 0, from = 0;
  std::optional<std::uint16_t> tag;
  Slot slot{memory.data(), 60, 32, 0, 0, 0};
};

void draw(fuzz::Operations& input, Frame& frame, bool continues) {
  const std::uint8_t kind = input.byte();
  frame.to = kind % 5 == 0 ? groups[input.below(groups.size())] : stations + input.below(24);
  frame.from = kind % 61 == 1 ? groups[input.below(groups.size())] : stations + input.below(24);
  frame.tag.reset();
  if (kind % 3 == 2) frame.tag = static_cast<std::uint16_t>(input.below(4) * 10);
  frame.slot = {frame.memory.data(), kind % 37 == 3 ? input.below(18) : 60, 32, 0, 0, 0};
  if (kind % 41 == 4) frame.slot.flags |= Slot::moved;
  if (kind % 43 == 5) frame.slot.flags |= Slot::dropped;
  if (continues && kind % 29 == 6) frame.slot.flags |= Slot::more;
  auto* bytes = frame.memory.data() + frame.slot.offset;
  MacAddress::from_number(frame.to).store(bytes);
  MacAddress::from_number(frame.from).store(bytes + 6);
  bytes[12] = frame.tag ? std::byte{0x81} : std::byte{8};
  bytes[13] = std::byte{0};
  bytes[14] = std::byte{0x60};  // a priority, which is no part of the VLAN
  bytes[15] = static_cast<std::byte>(frame.tag.value_or(0));
}

struct NaiveSwitch {
  const SwitchOptions& options;
  Naive table;

  bool in_vlan(std::size_t port, std::uint16_t vlan) const {
    const auto& p = options.ports[port];
    return p.tagging == Tagging::unaware || (p.tagging == Tagging::access ? p.vlan == vlan : p.vlans[vlan]);
  }
  // Whether the frame is taken, and its VLAN.
  std::optional<std::uint16_t> vlan_of(const Frame& frame, std::uint16_t port) const {
    const auto& p = options.ports[port];
    const auto tag = frame.slot.length >= 18 ? frame.tag : std::nullopt;
    if (p.tagging == Tagging::unaware) return std::uint16_t{0};
    if (p.tagging == Tagging::access)
      return !tag || *tag == 0 || *tag == p.vlan ? std::optional(p.vlan) : std::nullopt;
    return tag && *tag != 0 && p.vlans[*tag] ? tag : std::nullopt;
  }
  // Why it goes no further than the port; count_: it does.
  DropReason objection(const Frame& frame, std::uint16_t port) const {
    if (frame.slot.length < 14) return DropReason::undersize;
    if (options.mirror == port || !vlan_of(frame, port)) return DropReason::filtered;
    if ((frame.from >> 40 & 1) != 0) return DropReason::malformed;
    if (frame.to >> 4 == 0x0180'C200'000 && !options.pass_reserved) return DropReason::filtered;
    return DropReason::count_;
  }
  void learn(const Frame& frame, std::uint16_t port, std::int64_t second) {
    if (objection(frame, port) == DropReason::count_)
      table.learn(MacTable::key(frame.from, *vlan_of(frame, port)), port, second);
  }
  std::uint64_t ports_of(const Frame& frame, std::uint16_t port, std::int64_t second) const {
    const auto vlan = *vlan_of(frame, port);
    const bool group = (frame.to >> 40 & 1) != 0;
    const auto place = group ? MacTable::nowhere : table.find(MacTable::key(frame.to, vlan), second);
    std::uint64_t ports = 0;
    for (std::size_t p = 0; p < options.ports.size(); ++p) {
      const bool apart = options.ports[p].isolated && options.ports[port].isolated;
      const bool wanted = (place == MacTable::nowhere || place == p) && p != port && !apart && in_vlan(p, vlan);
      if (options.mirror == p || wanted) ports |= std::uint64_t{1} << p;
    }
    return ports;
  }
};

void whole_switch(fuzz::Operations& input) {
  SwitchOptions options{.ports = std::vector<SwitchPortOptions>(2 + input.below(6)),
                        .mirror = {},
                        .table = {.ageing = 3s, .seed = HashSeed::from(2)}};
  const std::uint8_t flags = input.byte();
  if ((flags & 1) != 0) options.mirror = static_cast<std::uint16_t>(input.below(static_cast<std::uint32_t>(options.ports.size())));
  options.pass_reserved = (flags & 2) != 0;
  for (auto& port : options.ports) {
    const std::uint8_t kind = input.byte();
    port.isolated = (kind & 1) != 0;
    if ((flags & 4) == 0) continue;
    port.tagging = (kind & 2) != 0 ? Tagging::access : Tagging::trunk;
    port.vlan = (kind & 4) != 0 ? 10 : 20;
    port.vlans[10] = true;
    port.vlans[30] = (kind & 8) != 0;
  }
  auto made = Switch::create(options);
  check(made.has_value());
  NaiveSwitch naive{options, {{}, 3}};
  std::int64_t second = 10;
  static std::array<Frame, Switch::batch> frames;
  while (input.more()) {
    second += input.below(8) == 0 ? input.below(5) : 0;
    const std::size_t n = 1 + input.below(Switch::batch);
    const auto port = static_cast<std::uint16_t>(input.below(static_cast<std::uint32_t>(options.ports.size())));
    std::array<Slot, Switch::batch> slots;
    std::array<SwitchVerdict, Switch::batch> verdicts;
    for (std::size_t i = 0; i < n; ++i) {
      draw(input, frames[i], i + 1 < n);
      slots[i] = frames[i].slot;
    }
    made->decide({slots.data(), n}, port, std::chrono::seconds(second), verdicts.data());
    const auto counts = [&](std::size_t i) {
      return !slots[i].has(Slot::moved | Slot::dropped) && (i == 0 || !slots[i - 1].has(Slot::more));
    };
    for (std::size_t i = 0; i < n; ++i)
      if (counts(i)) naive.learn(frames[i], port, second);
    for (std::size_t i = 0; i < n; ++i) {
      const auto& verdict = verdicts[i];
      const auto objection = counts(i) ? naive.objection(frames[i], port) : DropReason::count_;
      if (!counts(i) || objection != DropReason::count_) {
        check(verdict.ports == 0 && verdict.reason == objection);
        continue;
      }
      check(verdict.ports == naive.ports_of(frames[i], port, second));
      check(verdict.ports != 0 || verdict.reason == DropReason::filtered);
      check(verdict.vlan == *naive.vlan_of(frames[i], port));
    }
    check(made->table().size(std::chrono::seconds(second)) == naive.table.size(second));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Operations input(data, size);
  if (input.byte() % 2 == 0) table(input);
  else whole_switch(input);
  return 0;
}
