#include <map>
#include <set>
#include <tuple>

#include "efnet/tables/ipp_pool.h"
#include "fuzz/operations.h"

// Any sequence of operations on a pool against sets of what is lent and what rests.

namespace {

using namespace efnet;
using namespace std::chrono_literals;
using fuzz::check;

using Lent = std::tuple<Ipv4Address, std::uint16_t, IpProtocol>;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Operations input(data, size);
  const std::uint8_t flags = input.byte();
  const Ipv4Address outside{198, 51, 100, 1};
  const std::uint16_t first = static_cast<std::uint16_t>(1000 + input.below(70));
  const std::uint16_t last = static_cast<std::uint16_t>(first + input.below(100));
  const Time hold = (flags & 1) != 0 ? 4s : 0s;
  const IpProtocol protocols[] = {IpProtocol::udp, IpProtocol::tcp};
  auto pool = IppPool::create({.ranges = {{{outside, outside.advanced(1)}, {first, last}}},
                               .protocols = {protocols[0], protocols[1]},
                               .sequential = (flags & 2) != 0,
                               .hold_down = hold,
                               .block_size = (flags & 4) != 0 ? 64u : 0u,
                               .blocks_each = 2,
                               .subscribers = 4,
                               .seed = HashSeed::from(1)});
  check(pool.has_value());
  std::map<Lent, IppBinding> out;
  std::map<Lent, Time> resting;
  Time now = 100s;
  const auto in_pool = [&](const IppBinding& binding) {
    return (binding.address == outside || binding.address == outside.advanced(1)) && binding.port >= first &&
           binding.port <= last;
  };
  while (input.more()) {
    switch (input.byte() % 4) {
      case 0: {
        const IppRequest request{.subscriber = input.below(6),
                                 .protocol = protocols[input.below(2)],
                                 .port = static_cast<std::uint16_t>(input.byte() + 950),
                                 .parity = static_cast<PortParity>(input.below(3))};
        const auto got = pool->acquire(request, now);
        if (got) {
          const Lent key{got.binding.address, got.binding.port, got.binding.protocol};
          check(in_pool(got.binding) && !out.contains(key));
          check(!resting.contains(key) || now - resting[key] >= hold);
          resting.erase(key);
          out[key] = got.binding;
        } else if ((flags & 4) == 0) {
          std::size_t not_free = 0;
          for (const auto& [key, binding] : out) not_free += std::get<2>(key) == request.protocol;
          for (const auto& [key, since] : resting)
            not_free += std::get<2>(key) == request.protocol && now - since <= hold + hold / 4 + 1ms;
          check(not_free == 2u * (last - first + 1u));
        }
        break;
      }
      case 1: {
        if (out.empty()) break;
        auto which = out.begin();
        std::advance(which, input.word() % out.size());
        check(pool->release(which->second, now).released);
        check(!pool->release(which->second, now).released);
        resting[which->first] = now;
        out.erase(which);
        break;
      }
      case 2:
        now += std::chrono::milliseconds(input.word() / 8);
        break;
      case 3: {
        const IppBinding binding{outside.advanced(input.below(3)), static_cast<std::uint16_t>(input.byte() + 950),
                                 protocols[input.below(2)]};
        const Lent key{binding.address, binding.port, binding.protocol};
        const bool took = pool->take(binding, now);
        check(!took || (in_pool(binding) && !out.contains(key)));
        if (took) {
          resting.erase(key);
          out[key] = binding;
        }
        break;
      }
    }
    check(pool->lent(protocols[0]) + pool->lent(protocols[1]) == out.size());
  }
  return 0;
}
