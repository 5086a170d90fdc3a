#include <map>
#include <vector>

#include "efnet/tables/session_table.h"
#include "fuzz/operations.h"

// Any sequence of operations on a session table against a map of what should be in it.

namespace {

using namespace efnet;
using namespace std::chrono_literals;
using fuzz::check;

FlowKey4 narrow(std::uint32_t number) {
  return {Ipv4Address(10, 0, 0, 0).advanced(number % 5),
          {192, 0, 2, 1},
          static_cast<std::uint16_t>(number),
          80,
          IpProtocol::tcp};
}
FlowKey wide(std::uint32_t number) {
  return {Ipv6Address::from_numbers(number % 5, 0),
          Ipv6Address::from_numbers(1, 2),
          static_cast<std::uint16_t>(number),
          80,
          IpProtocol::tcp,
          6};
}
template <class Key>
Key key(std::uint32_t number) {
  if constexpr (sizeof(Key) == sizeof(FlowKey4))
    return narrow(number);
  else
    return wide(number);
}

struct Model {
  std::uint32_t session;
  Time touched;
  std::uint8_t timeout_class;
};

template <class Key>
void run(fuzz::Operations input) {
  const std::vector<TimeoutClass> classes{{"a", 1s}, {"b", 7s}, {"c", 4000s}};
  const std::uint8_t flags = input.byte();
  const std::uint32_t limit = (flags & 1) != 0 ? 4 : 0;
  auto created = SessionTable<Key>::create({.capacity = 20,
                                            .classes = classes,
                                            .per_source = limit,
                                            .tcp_established = 1,
                                            .tcp_transitory = 0,
                                            .tcp_windows = (flags & 2) != 0,
                                            .seed = HashSeed::from(flags >> 3),
                                            .baseline = (flags & 4) != 0});
  check(created.has_value());
  SessionTable<Key>& table = *created;
  std::map<std::uint32_t, Model> model;
  Time now = 10s;
  while (input.more()) {
    const std::uint8_t operation = input.byte();
    const std::uint32_t number = input.below(40);
    const auto known = model.find(number);
    const SessionRef found = table.lookup(key<Key>(number));
    check(bool(found) == (known != model.end()));
    check(!found || (found.session() == known->second.session && table.value(found.session()) == number));
    check(table.lookup(key<Key>(number).reversed()).bits() == (found ? (found.bits() | 1) : found.bits()));
    switch (operation % 8) {
      case 0:
      case 1: {
        const std::uint8_t timeout_class = input.byte() % 3;
        std::uint32_t of_source = 0;
        for (const auto& [other, one] : model) of_source += other % 5 == number % 5;
        check(limit == 0 || table.sessions_of(key<Key>(number)) == of_source);
        const auto made = table.insert({key<Key>(number), key<Key>(number).reversed(), timeout_class, number}, now);
        check(made.status == (known != model.end()               ? InsertStatus::exists
                              : model.size() == table.capacity() ? InsertStatus::full
                              : limit != 0 && of_source >= limit ? InsertStatus::source_limit
                                                                 : InsertStatus::inserted));
        if (made.status == InsertStatus::inserted) model[number] = {made.session.session(), now, timeout_class};
        break;
      }
      case 2:
        if (known == model.end()) break;
        check(table.erase(known->second.session));
        model.erase(known);
        break;
      case 3:
        now += std::chrono::milliseconds(input.word());
        break;
      case 4:
        if (known == model.end()) break;
        table.touch(found, now);
        known->second.touched = now;
        break;
      case 5: {
        if (known == model.end()) break;
        const TcpSegment segment{
            .sequence = input.word(), .acknowledgment = input.word(), .window = input.byte(), .flags = input.byte()};
        table.track_tcp(SessionRef(found.session(), (segment.sequence & 1) != 0), segment, now);
        known->second.timeout_class = table.state(found.session()).timeout_class;
        break;
      }
      case 6: {
        std::vector<Session<Key>> gone(input.below(8) + 1);
        const auto expired = table.expire(now, gone, input.below(16) + 1);
        for (std::size_t i = 0; i < expired.ended; ++i) {
          const auto which = model.find(static_cast<std::uint32_t>(gone[i].state.value));
          check(which != model.end() && gone[i].key == key<Key>(which->first));
          check(now - which->second.touched >= classes[which->second.timeout_class].timeout - 2ms);
          model.erase(which);
        }
        if (expired.more) break;
        for (const auto& [other, one] : model) {
          const Time timeout = classes[one.timeout_class].timeout;
          check(now - one.touched <= timeout + timeout / 1000 + 4ms);
        }
        break;
      }
      case 7: {
        const std::array<std::uint8_t, 3> order{input.byte(), input.byte(), 2};
        if (const auto gone = table.evict(order, now))
          check(model.erase(static_cast<std::uint32_t>(gone->state.value)) == 1);
        break;
      }
    }
    check(table.size() == model.size());
  }
  std::string json;
  check(table.write_json(0, 100, now, json) == table.capacity());
  table.clear();
  check(table.size() == 0 && !table.lookup(key<Key>(1)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  run<FlowKey4>({data, size});
  run<FlowKey>({data, size});
  return 0;
}
