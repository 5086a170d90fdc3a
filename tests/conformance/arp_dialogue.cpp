#include <fmt/format.h>

#include <charconv>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "efnet/tables/arp_table.h"
#include "efnet/wire/format.h"

// An ArpTable for a partner in another language: one command a line on standard input, one answer a line on standard
// output. Frames are hexadecimal, with their VLAN tag; times are milliseconds.
//   local VLAN PREFIX MAC probe|now TIME       frame TIME HEX → event frames…       poll TIME → frames…
//   resolve VLAN ADDRESS TIME → state          state VLAN ADDRESS TIME → state MAC   static VLAN ADDRESS MAC TIME
//   flush → count                              size → count                          locals → states…

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

std::string frame_of(const ArpMessage& message) {
  std::array<std::byte, ArpMessage::frame_size> bytes;
  message.emit(bytes);
  std::string text = " ";
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

class Dialogue {
 public:
  explicit Dialogue(ArpTable table) : table_(std::move(table)) {}

  std::string answer(const std::string& line) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    auto& neighbours = table_.neighbours();
    if (command == "local") {
      std::string prefix;
      std::string mac;
      std::string how;
      std::uint16_t vlan = 0;
      words >> vlan >> prefix >> mac >> how;
      const bool added =
          table_.add_local({vlan, *Ipv4Prefix::parse(prefix), *MacAddress::parse(mac)}, how == "probe", time(words));
      return added ? "added" : "refused";
    }
    if (command == "frame") {
      const Time now = time(words);
      std::string hex;
      words >> hex;
      return frame(from_hex(hex), now);
    }
    if (command == "poll") {
      const Time now = time(words);
      std::array<ArpMessage, 64> out;
      std::string text = "sent";
      for (std::size_t count = out.size(); count == out.size();) {
        count = table_.poll(now, out);
        for (std::size_t i = 0; i < count; ++i) text += frame_of(out[i]);
      }
      return text;
    }
    if (command == "flush") return fmt::format("{}", neighbours.flush());
    if (command == "size") return fmt::format("{}", neighbours.size());
    if (command == "locals") {
      std::string text;
      for (const auto& local : table_.locals()) text += fmt::format("{} ", to_string(local.state));
      return text;
    }
    ArpTable::Key key;
    std::string address;
    words >> key.vlan >> address;
    key.address = *Ipv4Address::parse(address);
    if (command == "static") {
      std::string mac;
      words >> mac;
      return neighbours.add(key, *MacAddress::parse(mac), time(words)) ? "added" : "full";
    }
    const Time now = time(words);
    if (command == "resolve") {
      efio::Frame none;
      Neighbour neighbour;
      neighbours.resolve(key, none, now, neighbour);
      return std::string(to_string(neighbour.state));
    }
    if (command == "state") {
      const auto found = neighbours.find(key, now);
      const Neighbour neighbour = found ? found->neighbour : Neighbour{};
      return fmt::format("{} {}", to_string(neighbour.state), neighbour.mac);
    }
    return "what?";
  }

 private:
  static Time time(std::istringstream& words) {
    std::int64_t number = 0;
    words >> number;
    return std::chrono::milliseconds(number);
  }

  std::string frame(const std::vector<std::byte>& bytes, Time now) {
    const auto ethernet = EthernetView::parse(bytes);
    if (!ethernet || ethernet->type() != EtherType::arp) return "no_arp";
    const auto packet = ArpView::parse(ethernet->payload());
    if (!packet) return "fault";
    const auto tag = ethernet->tag(0);
    const ArpReceived received = table_.receive(*packet, tag ? tag->id() : std::uint16_t{0}, now);
    return std::string(to_string(received.event)) + (received.reply ? frame_of(*received.reply) : "");
  }

  ArpTable table_;
};

}  // namespace

int main(int argc, char** argv) {
  auto table = ArpTable::create({.capacity = argc > 1 ? std::stoul(argv[1]) : 1024});
  if (!table) {
    std::cerr << table.error().message() << '\n';
    return 3;
  }
  Dialogue dialogue(std::move(*table));
  for (std::string line; std::getline(std::cin, line);) std::cout << dialogue.answer(line) << std::endl;
  return 0;
}
