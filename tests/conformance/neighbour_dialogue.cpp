#include <fmt/format.h>

#include <charconv>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "efnet/tables/arp_table.h"
#include "efnet/tables/ndp_table.h"
#include "efnet/wire/format.h"

// An ArpTable or NdpTable for a partner in another language: one command a line on standard input, one answer a line on
// standard output. Frames are hexadecimal, with their VLAN tag; times are milliseconds.
//   neighbour_dialogue arp|ndp|ndp-router CAPACITY
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

template <class Message>
std::string frame_of(const Message& message) {
  std::array<std::byte, 128> bytes;
  std::string text = " ";
  for (const std::byte byte : std::span(bytes).first(message.emit(bytes)))
    text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

struct Arp {
  using Table = ArpTable;
  using Local = ArpLocal;
  using Message = ArpMessage;
  using Address = Ipv4Address;
  using Prefix = Ipv4Prefix;
  static constexpr EtherType type = EtherType::arp;
  static std::optional<ArpReceived> receive(Table& table, EthernetView frame, std::uint16_t vlan, Time now) {
    const auto packet = ArpView::parse(frame.payload());
    return packet ? std::optional(table.receive(*packet, vlan, now)) : std::nullopt;
  }
};

struct Ndp {
  using Table = NdpTable;
  using Local = NdpLocal;
  using Message = NdpMessage;
  using Address = Ipv6Address;
  using Prefix = Ipv6Prefix;
  static constexpr EtherType type = EtherType::ipv6;
  static std::optional<NdpReceived> receive(Table& table, EthernetView frame, std::uint16_t vlan, Time now) {
    const auto packet = Ipv6View::parse(frame.payload());
    return packet ? std::optional(table.receive(*packet, frame.src(), vlan, now)) : std::nullopt;
  }
};

template <class Protocol>
class Dialogue {
 public:
  explicit Dialogue(typename Protocol::Table table) : table_(std::move(table)) {}

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
      const typename Protocol::Local local{vlan, *Protocol::Prefix::parse(prefix), *MacAddress::parse(mac)};
      return table_.add_local(local, how == "probe", time(words)) ? "added" : "refused";
    }
    if (command == "frame") {
      const Time now = time(words);
      std::string hex;
      words >> hex;
      return frame(from_hex(hex), now);
    }
    if (command == "poll") {
      const Time now = time(words);
      std::array<typename Protocol::Message, 64> out;
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
    typename Protocol::Table::Key key;
    std::string address;
    words >> key.vlan >> address;
    key.address = *Protocol::Address::parse(address);
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
    if (!ethernet || ethernet->type() != Protocol::type) return "other";
    const auto tag = ethernet->tag(0);
    const auto received = Protocol::receive(table_, *ethernet, tag ? tag->id() : std::uint16_t{0}, now);
    if (!received) return "fault";
    return std::string(to_string(received->event)) + (received->reply ? frame_of(*received->reply) : "");
  }

  typename Protocol::Table table_;
};

template <class Protocol>
int talk(efio::Result<typename Protocol::Table> table) {
  if (!table) {
    std::cerr << table.error().message() << '\n';
    return 3;
  }
  Dialogue<Protocol> dialogue(std::move(*table));
  for (std::string line; std::getline(std::cin, line);) std::cout << dialogue.answer(line) << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view protocol = argc > 1 ? argv[1] : "";
  const NeighbourOptions options{.capacity = argc > 2 ? std::stoul(argv[2]) : 1024};
  if (protocol == "arp") return talk<Arp>(ArpTable::create(options));
  if (protocol.starts_with("ndp")) return talk<Ndp>(NdpTable::create(options, {.router = protocol == "ndp-router"}));
  std::cerr << "neighbour_dialogue arp|ndp|ndp-router CAPACITY\n";
  return 2;
}
