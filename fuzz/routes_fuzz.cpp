#include <map>

#include "efnet/tables/routes.h"
#include "fuzz/operations.h"

// Any sequence of prefixes added and removed against a list of them.

namespace {

using namespace efnet;
using fuzz::check;

template <class Address>
Address address(fuzz::Operations& input) {
  if constexpr (sizeof(Address) == 4)
    return {input.byte(), static_cast<std::uint8_t>(input.byte() & 3), input.byte(), input.byte()};
  else
    return Ipv6Address::from_numbers(std::uint64_t{input.byte()} << 56 | input.byte(),
                                     std::uint64_t{input.byte()} << 56 | input.byte());
}

template <class Address>
void run(fuzz::Operations input) {
  auto routes = Routes<Address>::create({.capacity = 12, .blocks = 40});
  check(routes.has_value());
  std::map<std::pair<Address, unsigned>, RouteNumber> model;
  while (input.more()) {
    const std::uint8_t operation = input.byte();
    const Prefix<Address> prefix{address<Address>(input),
                                 static_cast<std::uint8_t>(input.byte() % (Address::bits + 2))};
    if (prefix.length > Address::bits) {
      check(routes->add(prefix, 1) == RouteStatus::invalid && routes->remove(prefix) == RouteStatus::invalid);
      continue;
    }
    const std::pair key{prefix.first(), unsigned{prefix.length}};
    if (operation % 3 != 0) {
      if (routes->add(prefix, operation) == RouteStatus::done)
        model[key] = operation;
      else
        check(!model.contains(key));
    } else {
      check(routes->remove(prefix) == (model.erase(key) != 0 ? RouteStatus::done : RouteStatus::absent));
    }
    for (const Address& wanted : {prefix.first(), prefix.last(), prefix.last().advanced(1)}) {
      RouteNumber expected = no_route;
      int longest = -1;
      for (const auto& [rule, number] : model)
        if (static_cast<int>(rule.second) > longest && wanted.first_of(rule.second) == rule.first) {
          longest = static_cast<int>(rule.second);
          expected = number;
        }
      check(routes->lookup(wanted) == expected);
    }
    check(routes->size() == model.size());
  }
  for (const auto& [rule, number] : model)
    check(routes->remove({rule.first, static_cast<std::uint8_t>(rule.second)}) == RouteStatus::done);
  check(routes->blocks_free() == 40);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  run<Ipv4Address>({data, size});
  run<Ipv6Address>({data, size});
  return 0;
}
