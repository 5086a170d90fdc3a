// The first program: two ends of a pipe, ten frames across. `first packet:veth0 packet:veth1` does the same over devices.
#include <cstdio>

#include "efio/port.h"

int main(int argc, char** argv) {
  auto out = efio::Port::open(argc > 2 ? argv[1] : "pipe:demo", {.direction = efio::Direction::tx});
  auto in = efio::Port::open(argc > 2 ? argv[2] : "pipe:demo", {.direction = efio::Direction::rx});
  if (!out || !in) return std::puts((out ? in.error() : out.error()).message().c_str()), 1;

  auto free = out->tx().claim(10);                               // ten free slots, lent to us
  for (auto& slot : free) slot.length = 60;                      // fill slot.bytes(); here: ten frames of 60 bytes
  free.commit();                                                 // queued …
  out->tx().flush();                                             // … and sent, all of them

  auto batch = in->rx().receive(64);                             // up to 64, as many as are there
  for (const auto& slot : batch) std::printf("%u bytes at %llu ns\n", slot.length, (unsigned long long)slot.time);
  batch.finish();                                                // given back
  return in->stats().rx.delivered == 10 ? 0 : 1;
}
