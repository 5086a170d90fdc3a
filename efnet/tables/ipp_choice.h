#pragma once

#include <algorithm>
#include <cstdint>

#include "efnet/tables/ipp_pool.h"

// Which port is lent: what IppPool and its blocks have in common, in line in both. Not installed.

namespace efnet {

// A place in [low, high] out of the low 16 bits of `number`; its lowest bit is the parity, where none is wished.
[[gnu::always_inline]] inline std::uint32_t IppPool::guess(std::uint64_t number, PortParity parity, std::uint32_t low,
                                                           std::uint32_t high) noexcept {
  const std::uint32_t half = parity == PortParity::any ? number & 1 : parity == PortParity::odd ? 1 : 0;
  const std::uint32_t size = (high - low + 1) / 2;
  return half * PortSet::half_size + low / 2 + static_cast<std::uint32_t>((number & 0xFFFF) * size >> 16);
}

// `place` where it is free, else the first free one of four more guesses at its 63 neighbours in [begin, end), out of
// the upper bits of `number`; `place` where none is. One cache line, and no branch: which one it is cannot be foretold.
[[gnu::always_inline]] inline std::uint32_t IppPool::guess_near(const PortSet& free, std::uint32_t place,
                                                                std::uint32_t begin, std::uint32_t end,
                                                                std::uint64_t number) noexcept {
  const std::uint32_t base = place & ~63U;
  std::uint64_t word = free.word(place / 64);
  if (base < begin) word &= ~std::uint64_t{0} << begin % 64;
  if (base + 64 > end) word &= ~(~std::uint64_t{0} << end % 64);
  std::uint32_t found = place % 64;
  for (unsigned shift = 40; shift >= 22; shift -= 6) {
    const auto other = static_cast<std::uint32_t>(number >> shift & 63);
    const auto taken = static_cast<std::uint32_t>(word >> found & 1) - 1;  // all ones, or 0 where `found` is free
    found = (found & ~taken) | (other & taken);
  }
  return base + ((word >> found & 1) != 0 ? found : place % 64);
}

// The first free place of one parity from `offset` on among `size` that begin at port `low`, and round.
inline std::uint32_t IppPool::search(const PortSet& free, unsigned half, std::uint32_t low, std::uint32_t size,
                                     std::uint32_t offset) noexcept {
  const std::uint32_t begin = half * PortSet::half_size + low / 2;
  return free.free(half) == 0 ? PortSet::none : free.next_round(begin + offset % size, begin, begin + size);
}

inline std::uint32_t IppPool::pick_next(const Set& ports, PortParity parity, std::uint32_t low,
                                        std::uint32_t high) noexcept {
  const std::uint32_t size = (high - low + 1) / 2;
  const std::uint32_t from = ports.cursor >= low && ports.cursor <= high ? ports.cursor : low;
  const std::uint32_t offset = (from - low) / 2;
  const unsigned odd = from & 1;
  const std::uint32_t same = search(ports.free, odd, low, size, offset);
  const std::uint32_t other = search(ports.free, odd ^ 1, low, size, offset + odd);
  if (same == PortSet::none || other == PortSet::none) return same == PortSet::none ? other : same;
  if (parity != PortParity::any) return (parity == PortParity::odd) == (odd == 1) ? same : other;
  const auto distance = [&](std::uint32_t place) { return (PortSet::port(place) - from) & 0xFFFF; };
  return distance(same) <= distance(other) ? same : other;
}

// A free place of [first_port, last_port], whose ends are an even and an odd port; none where there is none.
[[gnu::always_inline]] inline std::uint32_t IppPool::pick(const Set& ports, const IppRequest& request,
                                                          std::uint32_t first_port, std::uint32_t last_port,
                                                          std::uint64_t number) noexcept {
  const std::uint32_t low = std::max<std::uint32_t>(first_port, ports.low & ~1U);
  const std::uint32_t high = std::min<std::uint32_t>(last_port, ports.high | 1U);
  if (ports.free.free() == 0 || low > high) return PortSet::none;
  if (request.port >= low && request.port <= high && request.port != 0) {
    const std::uint32_t wished = PortSet::place(request.port);
    if (ports.free.is_free(wished)) return wished;
  }
  if (options_.sequential) return pick_next(ports, request.parity, low, high);

  // A few guesses first: the search alone would favour ports that come after a gap. In a set that is nearly full they
  // are in vain.
  const std::uint32_t size = (high - low + 1) / 2;  // of one parity
  const std::uint32_t place = guess(number, request.parity, low, high);
  const unsigned half = place / PortSet::half_size;
  const std::uint32_t begin = half * PortSet::half_size + low / 2;
  const bool roomy = ports.free.free(half) >= size / 8;
  const std::uint32_t near = roomy ? guess_near(ports.free, place, begin, begin + size, number) : place;
  if (ports.free.is_free(near)) return near;
  const std::uint32_t found = search(ports.free, half, low, size, place - begin);
  return found != PortSet::none ? found : search(ports.free, half ^ 1, low, size, place - begin);
}

// Into `result`, field by field: put together in a register, it would be read from memory before it has got there.
[[gnu::always_inline]] inline void IppPool::lend(std::uint32_t address, unsigned protocol, std::uint32_t place,
                                                 IppAcquired& result) noexcept {
  Set& ports = set(address, protocol);
  ports.free.remove(place);
  ports.taken[place / 64] |= std::uint64_t{1} << place % 64;
  ++ports.lent;
  const std::uint16_t port = PortSet::port(place);
  ports.cursor = std::uint32_t{port} + 1;
  result.status = IppStatus::acquired;
  result.binding.address = address_of(address);
  result.binding.port = port;
  result.binding.protocol = options_.protocols[protocol];
  result.opened_block = false;
}

}  // namespace efnet
