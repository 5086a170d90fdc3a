#include <fmt/format.h>

#include <charconv>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "efnet/nat44/nat44.h"
#include "efnet/wire/format.h"

// A Nat44 for a partner in another language: its options as arguments KEY=VALUE, then one command a line on standard
// input and one answer a line on standard output. Frames are hexadecimal, times milliseconds.
//   in TIME HEX…, out TIME HEX…   frames from inside, or outside, as one batch → a word for each: VERDICT or
//   VERDICT=HEX collect inside|outside        → frames of the NAT's own that leave there tick TIME time has passed;
//   everything due is done counter NAME                  → a number: a verdict by its name, with "in." or "out." before
//   it, or a total log                           → what was logged since, a word an event

namespace {

using namespace efnet;

std::vector<std::byte> from_hex(std::string_view text) {
  std::vector<std::byte> bytes(text.size() / 2);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    unsigned value = 0;
    std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, value, 16);
    bytes[i] = static_cast<std::byte>(value);
  }
  return bytes;
}
std::string to_hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

IpProtocol protocol_of(std::string_view name) {
  return name == "tcp" ? IpProtocol::tcp : name == "udp" ? IpProtocol::udp : IpProtocol::icmp;
}

// "a,b,c" to its parts.
std::vector<std::string> split_at(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

bool set(Nat44Options& options, std::string_view key, const std::string& value) {
  const auto parts = split_at(value, ',');
  const auto number = [](const std::string& text) { return static_cast<std::uint16_t>(std::stoul(text)); };
  if (key == "pool") {
    options.pool.ranges.clear();
    for (const std::string& part : parts) {
      const auto range = split_at(part, ':');
      options.pool.ranges.push_back({*Ipv4Range::parse(range[0])});
      if (range.size() > 1) options.pool.ranges.back().ports = *PortRange::parse(range[1]);
    }
  } else if (key == "inside") {
    for (const std::string& part : parts) options.inside.push_back(*Ipv4Prefix::parse(part));
  } else if (key == "bypass") {
    for (const std::string& part : parts) options.bypass.push_back(*Ipv4Prefix::parse(part));
  } else if (key == "forward") {  // tcp,198.51.100.1,8080,10.0.0.7,80
    options.forwards.push_back({protocol_of(parts[0]), *Ipv4Address::parse(parts[1]), number(parts[2]),
                                *Ipv4Address::parse(parts[3]), number(parts[4])});
  } else if (key == "pair") {
    options.pairs.push_back({*Ipv4Address::parse(parts[0]), *Ipv4Address::parse(parts[1])});
  } else if (key == "deterministic") {
    options.deterministic.push_back({*Ipv4Prefix::parse(parts[0]), *Ipv4Range::parse(parts[1])});
  } else if (key == "filtering") {
    options.filtering = value == "address"        ? NatFiltering::address_dependent
                        : value == "address-port" ? NatFiltering::address_and_port_dependent
                                                  : NatFiltering::endpoint_independent;
  } else if (key == "sessions") {
    options.sessions = number(value);
  } else if (key == "sessions_each") {
    options.sessions_each = number(value);
  } else if (key == "mappings_each") {
    options.mappings_each = number(value);
  } else if (key == "blocks") {
    options.pool.block_size = number(value);
  } else if (key == "parity") {
    options.preserve_parity = value == "on";
  } else if (key == "inside_mtu") {
    options.inside_mtu = number(value);
  } else if (key == "outside_mtu") {
    options.outside_mtu = number(value);
  } else {
    return false;
  }
  return true;
}

class Dialogue {
 public:
  explicit Dialogue(Nat44Options options) {
    options.log = [this](const NatEvent& event) { log_ += describe(event); };
    nat_ = Nat44::create(std::move(options)).value();
  }

  std::string answer(const std::string& line) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "in" || command == "out") return pass(command == "in" ? NatSide::inside : NatSide::outside, words);
    if (command == "collect") return collect(words);
    if (command == "counter") return counter(words);
    if (command == "log") return std::exchange(log_, {});
    if (command == "tick") {
      const Time now = time(words);
      while (nat_->tick(now)) {}
      return "ticked";
    }
    return "what?";
  }

 private:
  static Time time(std::istringstream& words) {
    std::int64_t number = 0;
    words >> number;
    return std::chrono::milliseconds(number);
  }
  static std::string describe(const NatEvent& event) {
    constexpr std::string_view kinds[] = {"mapped", "unmapped", "block_opened", "block_closed"};
    return fmt::format("{},{},{},{},{},{},{} ", kinds[static_cast<std::size_t>(event.kind)],
                       static_cast<unsigned>(event.protocol), event.inside, event.inside_port, event.outside,
                       event.ports.first, event.ports.last);
  }

  std::string pass(NatSide from, std::istringstream& words) {
    const Time now = time(words);
    std::vector<std::vector<std::byte>> frames;
    for (std::string hex; words >> hex;) frames.push_back(from_hex(hex));
    std::vector<std::span<std::byte>> spans(frames.begin(), frames.end());
    std::vector<NatVerdict> verdicts(frames.size());
    if (from == NatSide::inside)
      nat_->outward(spans, now, verdicts);
    else
      nat_->inward(spans, now, verdicts);
    std::string text;
    for (std::size_t i = 0; i < frames.size(); ++i) {
      text += name(verdicts[i]);
      if (passes(verdicts[i]) || verdicts[i] == NatVerdict::hairpinned) text += "=" + to_hex(frames[i]);
      text += ' ';
    }
    return text;
  }

  std::string collect(std::istringstream& words) {
    std::string side;
    words >> side;
    std::string text;
    nat_->collect(side == "inside" ? NatSide::inside : NatSide::outside, [&](std::span<const std::byte> frame) {
      text += to_hex(frame) + ' ';
      return true;
    });
    return text;
  }

  std::string counter(std::istringstream& words) {
    std::string wanted;
    words >> wanted;
    const NatCounters counters = nat_->counters();
    for (const NatSide side : {NatSide::inside, NatSide::outside})
      for (std::size_t i = 0; i < nat_verdicts; ++i) {
        const auto verdict = static_cast<NatVerdict>(i);
        if (wanted == fmt::format("{}.{}", side == NatSide::inside ? "in" : "out", name(verdict)))
          return fmt::format("{}", counters.of(side, verdict));
      }
    if (wanted == "sessions") return fmt::format("{}", nat_->sessions().size());
    if (wanted == "mappings") return fmt::format("{}", nat_->mappings().table().size());
    if (wanted == "fragments_given_up") return fmt::format("{}", counters.fragments_given_up);
    return "what?";
  }

  std::string log_;
  std::unique_ptr<Nat44> nat_;
};

}  // namespace

int main(int argc, char** argv) {
  Nat44Options options;
  options.pool.ranges = {{Ipv4Range{Ipv4Address(198, 51, 100, 1), Ipv4Address(198, 51, 100, 1)}}};
  options.inside_address = Ipv4Address(10, 0, 0, 1);
  options.outside_address = Ipv4Address(198, 51, 100, 254);
  for (const std::string_view argument : std::span(argv, static_cast<std::size_t>(argc)).subspan(1)) {
    const std::size_t middle = argument.find('=');
    if (middle == argument.npos ||
        !set(options, argument.substr(0, middle), std::string(argument.substr(middle + 1)))) {
      std::cerr << "what is " << argument << "?\n";
      return 2;
    }
  }
  if (options.inside.empty()) options.inside = {*Ipv4Prefix::parse("10.0.0.0/8")};
  Dialogue dialogue(std::move(options));
  for (std::string line; std::getline(std::cin, line);) std::cout << dialogue.answer(line) << std::endl;
  return 0;
}
