// Takes a device's frames, keeps some (here: counts UDP to ports 4000 to 5000), and leaves the rest to the host, whose own
// traffic goes on through the same program.
//
//   beside_the_host eth0 [SECONDS]        needs root
#include <cstdio>
#include <cstdlib>

#include "efio/forward.h"
#include "efio/poller.h"
#include "efio/port.h"

namespace {

// Untagged IPv4 without options, which is what this example knows.
bool is_ours(std::span<const std::byte> frame) {
  const auto at = [&](std::size_t i) { return std::to_integer<unsigned>(frame[i]); };
  if (frame.size() < 42 || at(12) != 8 || at(13) != 0 || at(14) != 0x45 || at(23) != 17) return false;
  const unsigned port = at(36) << 8 | at(37);
  return port >= 4000 && port <= 5000;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::puts("beside_the_host DEVICE [SECONDS]");
    return 0;
  }
  const std::string device = argv[1];
  auto wire = efio::Port::open("xdp:" + device);
  auto host = efio::Port::open("host:" + device);
  auto poller = efio::Poller::create();
  for (const auto* port : {&wire, &host})
    if (!*port) return std::fprintf(stderr, "%s\n", port->error().message().c_str()), 1;
  if (!poller) return 1;
  for (std::size_t q = 0; q < wire->rx_queues(); ++q)
    if (!poller->add(wire->rx(q))) return 1;
  if (!poller->add(host->rx())) return 1;
  std::printf("%s, %s\n", wire->info().mode.c_str(), host->info().mode.c_str());
  std::fflush(stdout);

  unsigned long ours = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(argc > 2 ? std::atoi(argv[2]) : 3600);
  while (std::chrono::steady_clock::now() < end && host->rx().status()) {
    poller->wait(std::chrono::milliseconds(100));
    for (std::size_t q = 0; q < wire->rx_queues(); ++q) {
      auto batch = wire->rx(q).receive(256);
      for (std::size_t i = 0; i < batch.size(); ++i)
        if (is_ours(batch[i].bytes())) batch.drop(i, efio::DropReason::program), ++ours;
      efio::forward(batch, host->tx());  // what the host has no room for stays for the next round
      host->tx().flush();
    }
    auto batch = host->rx().receive(256);
    efio::forward(batch, wire->tx());
    wire->tx().flush();
  }
  std::printf("%lu frames were ours\n", ours);
  return 0;
}
