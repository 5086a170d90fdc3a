// Keeping a frame beyond its batch, as a queue for an unresolved address does: take it, finish the batch, put it later.
#include <cstdio>
#include <vector>

#include "efio/port.h"

int main() {
  auto a = efio::Port::open("pipe:keep");
  auto b = efio::Port::open("pipe:keep");
  if (!a || !b) return 1;
  const std::vector<std::byte> hello(100, std::byte{0x42});
  for (int i = 0; i < 3; ++i) a->tx().send(hello);
  a->tx().flush();

  std::vector<efio::Frame> kept;
  auto batch = b->rx().receive(64);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    auto frame = batch.take(i);  // by swap against a spare: no copy
    if (frame) kept.push_back(std::move(*frame));
    else std::printf("frame %zu stays: %s\n", i, std::string(efio::name(frame.error())).c_str());
  }
  batch.finish();

  for (auto& frame : kept)
    if (!b->tx().put(frame)) std::puts("no room; the frame is still ours");
  b->tx().flush();
  std::printf("%zu frames kept, %zu came back\n", kept.size(), a->rx().receive(64).size());
  return a->rx().receive(64).size() == 3 ? 0 : 1;
}
