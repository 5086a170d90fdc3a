#include "tools/io_gen/delays.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "efnet/wire/bytes.h"

namespace efio::io_gen {

namespace {

constexpr std::size_t time_at = 52;  // Ethernet, IPv4, UDP, and the tag up to its time

}  // namespace

Delays::Delays() : streams_(static_cast<Stream*>(std::calloc(Tag::streams, sizeof(Stream)))) {
  if (!streams_) throw std::bad_alloc();
}

void Delays::see_negative(std::int64_t delay) noexcept {
  ++negative_;
  least_ = std::min(least_, delay);
}

void Delays::see_short(const Slot* slots, std::size_t n, const std::uint64_t* names, std::uint64_t looked) noexcept {
  for (std::size_t i = 0; i < n; ++i)
    see(slots[i], efnet::load64(slots[i].buffer + slots[i].offset + time_at),
        static_cast<std::uint16_t>(names[i] >> 48), looked);
}

Jitter Delays::jitter() const noexcept {
  Jitter jitter;
  std::uint64_t streams = 0;
  for (std::size_t i = 0; i < Tag::streams; ++i) {
    const Stream& s = streams_[i];
    if (s.frames < 2) continue;
    ++streams;
    jitter.mean += static_cast<double>(s.jitter);
    jitter.most = std::max(jitter.most, static_cast<double>(s.jitter));
  }
  if (streams > 0) jitter.mean /= static_cast<double>(streams);
  return jitter;
}

}  // namespace efio::io_gen
