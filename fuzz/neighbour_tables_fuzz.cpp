#include <map>
#include <vector>

#include "efnet/tables/arp_table.h"
#include "efnet/tables/ndp_table.h"
#include "fuzz/operations.h"

// Any sequence of packets, questions, flushes and waits on the ARP and NDP tables, against what must hold always:
// static entries stay, one request a second per address, frames neither lost nor doubled, capacities kept.

namespace {

using namespace efnet;
using namespace std::chrono_literals;
using fuzz::check;

constexpr std::size_t capacity = 6;
constexpr std::size_t waiting = 5;
constexpr MacAddress ours{2, 0, 0, 0, 0, 1};
constexpr MacAddress fixed{2, 0, 0, 0, 0, 99};

const std::shared_ptr<efio::Pool>& pool() {
  static const auto made =
      *efio::Pool::create({.frame_size = 256, .headroom = 64, .frames = 64, .spares = 64, .growable = false});
  return made;
}

MacAddress mac(std::uint8_t number) { return {static_cast<std::uint8_t>(number % 5 == 0 ? 1 : 2), 0, 0, 0, 0, number}; }

// What both families have in common. Address 2 is static.
template <class Table>
class Rules {
 public:
  using Key = typename Table::Key;

  Rules(Table& table, Key fixed_key) : table_(table), fixed_key_(fixed_key) {
    check(table_.add(fixed_key_, fixed, now));
  }
  void resolve(const Key& key, bool with_frame) {
    efio::Frame frame = with_frame ? pool()->acquire() : efio::Frame();
    const bool had = static_cast<bool>(frame);
    Neighbour neighbour;
    const auto result = table_.resolve(key, frame, now, neighbour);
    check((result == Table::Resolution::ready) == neighbour.usable());
    check(static_cast<bool>(frame) == (had && result != Table::Resolution::queued));
    in_ += had && result == Table::Resolution::queued;
  }
  void release(std::size_t most) {
    std::vector<typename Table::Released> out(most);
    const std::size_t count = table_.release(out);
    for (std::size_t i = 0; i < count; ++i) {
      check(static_cast<bool>(out[i].frame));
      check((out[i].reason == ReleaseReason::resolved) == !out[i].mac.is_zero() ||
            out[i].reason == ReleaseReason::flushed);
    }
    out_ += count;
  }
  void flush(const typename Table::Flush& which) {
    table_.flush(which);
    asked_.clear();
    if (!which.learned_only) check(table_.add(fixed_key_, fixed, now));
  }
  void asked(const Key& key) {
    const auto number = std::pair{key.address, key.vlan};
    const auto last = asked_.find(number);
    if (last != asked_.end()) check(now - last->second >= 1s - 2ms);
    asked_[number] = now;
  }
  void hold() {
    check(table_.size() <= capacity && table_.waiting() <= waiting && in_ == out_ + table_.waiting());
    const auto one = table_.find(fixed_key_, now);
    check(one && one->neighbour.state == NeighbourState::fixed && one->neighbour.mac == fixed);
    // An address that was forgotten may be asked for anew: the table cannot know.
    std::erase_if(asked_, [&](const auto& one) { return !table_.find({one.first.first, one.first.second}, now); });
  }
  Time now = 1000s;

 private:
  Table& table_;
  Key fixed_key_;
  std::size_t in_ = 0;
  std::size_t out_ = 0;
  std::map<std::pair<decltype(Key::address), std::uint16_t>, Time> asked_;
};

NeighbourOptions options() {
  return {.capacity = capacity,
          .reachable = 5s,
          .stale = 20s,
          .failed = 3s,
          .waiting = waiting,
          .waiting_each = 2,
          .seed = HashSeed::from(3)};
}

template <class Table, class Address>
void common(Rules<Table>& rules, Table& table, std::uint8_t operation, fuzz::Operations& input, Address address) {
  const std::uint8_t number = input.byte();
  const typename Table::Key key{address(number % 12), static_cast<std::uint16_t>(number / 12 % 2)};
  switch (operation) {
    case 0:
      rules.resolve(key, number % 2 != 0);
      break;
    case 1:
      table.lookup(key, rules.now);
      break;
    case 2:
      rules.release(input.below(4));
      break;
    case 3:
      rules.now += std::chrono::milliseconds(input.word() / 16);
      break;
    case 4:
      table.confirm(key, rules.now);
      break;
    default:
      if (number % 16 == 0)
        rules.flush({.learned_only = (number & 16) != 0});
      else if (number % 16 == 1)
        rules.flush({.address = key.address, .learned_only = true});
  }
}

void arp(fuzz::Operations input) {
  auto created = ArpTable::create(options(), {.give_up = (input.byte() & 1) != 0});
  check(created.has_value());
  ArpTable& arp = *created;
  const auto address = [](std::uint8_t number) { return Ipv4Address(10, 0, 0, number); };
  Rules rules(arp.neighbours(), {address(2), 0});
  check(arp.add_local({0, {address(1), 29}, ours}, false, rules.now));
  check(arp.add_local({1, {address(1), 24}, ours}, true, rules.now));
  while (input.more()) {
    const std::uint8_t operation = input.byte() % 8;
    if (operation < 6) {
      common(rules, arp.neighbours(), operation, input, address);
    } else if (operation == 6) {
      const ArpPacket packet{ArpOperation{static_cast<std::uint16_t>(input.below(3))}, mac(input.byte() % 16),
                             input.byte() % 7 == 0 ? Ipv4Address() : address(input.byte() % 12), ours,
                             address(input.byte() % 4)};
      std::array<std::byte, 28> bytes;
      packet.emit(bytes);
      const auto received = arp.receive(*ArpView::parse(bytes), input.byte() % 2, rules.now);
      if (received.reply)
        check(received.reply->packet.operation == ArpOperation::reply && received.reply->dst == packet.sender_mac);
    } else {
      std::array<ArpMessage, 3> out;
      const std::size_t count = arp.poll(rules.now, std::span(out).first(input.below(4)));
      for (std::size_t i = 0; i < count; ++i) {
        std::array<std::byte, 60> frame;
        check(out[i].emit(frame) == 60);
        if (out[i].packet.sender_ip != out[i].packet.target_ip && !out[i].packet.sender_ip.is_unspecified())
          rules.asked({out[i].packet.target_ip, out[i].vlan});
      }
    }
    rules.hold();
  }
}

void ndp(fuzz::Operations input) {
  auto created = NdpTable::create(options(), {.router = (input.byte() & 1) != 0});
  check(created.has_value());
  NdpTable& ndp = *created;
  const auto address = [](std::uint8_t number) { return Ipv6Address::from_numbers(0x2001'0db8'0000'0000, number); };
  Rules rules(ndp.neighbours(), {address(2), 0});
  check(ndp.add_local({0, {address(1), 64}, ours}, false, rules.now));
  check(ndp.add_local({1, {address(1), 64}, ours}, true, rules.now));
  while (input.more()) {
    const std::uint8_t operation = input.byte() % 8;
    if (operation < 6) {
      common(rules, ndp.neighbours(), operation, input, address);
    } else if (operation == 6) {
      const std::uint8_t flags = input.byte();
      const NdpMessage message{.advertisement = (flags & 1) != 0,
                               .src_mac = mac(input.byte() % 16),
                               .dst_mac = ours,
                               .src = (flags & 64) != 0 ? Ipv6Address() : address(input.byte() % 12),
                               .dst = address(1),
                               .target = address(input.byte() % 12),
                               .link_option = (flags & 2) != 0,
                               .solicited = (flags & 8) != 0,
                               .override_flag = (flags & 16) != 0};
      std::array<std::byte, NdpMessage::max_frame> frame;
      const std::size_t size = message.emit(frame);
      check(size != 0);
      const std::span packet = std::span(frame).first(size).subspan(14);
      if ((flags & 128) != 0) packet[40 + input.byte() % (packet.size() - 40)] = std::byte{input.byte()};
      const auto received = ndp.receive(*Ipv6View::parse(packet), message.src_mac, input.byte() % 2, rules.now);
      if (received.reply) check(received.reply->advertisement && received.reply->emit(frame) != 0);
    } else {
      std::array<NdpMessage, 3> out;
      const std::size_t count = ndp.poll(rules.now, std::span(out).first(input.below(4)));
      for (std::size_t i = 0; i < count; ++i)
        if (!out[i].advertisement && !out[i].src.is_unspecified()) rules.asked({out[i].target, out[i].vlan});
    }
    rules.hold();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  arp({data, size});
  ndp({data, size});
  return 0;
}
