// A firewall between a NIC and its host, by netmap: what comes in for a blocked TCP port goes no further, all else passes in
// both directions. Frames are exchanged between the rings, not copied.
//
//   firewall eth7 [SECONDS]        needs root and the netmap module; the host's traffic of eth7 runs through it meanwhile
//
// Where nothing has to be changed or answered, one line is enough: open "netmap:eth7*?pass=on" for rx, and drop() what is
// not to pass; what is finished goes on to the other side by itself.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "efio/forward.h"
#include "efio/poller.h"
#include "efio/port.h"

namespace {

constexpr unsigned blocked[] = {23, 445, 3389};

// Untagged IPv4 without options, which is what this example knows.
bool is_blocked(std::span<const std::byte> frame) {
  const auto at = [&](std::size_t i) { return std::to_integer<unsigned>(frame[i]); };
  if (frame.size() < 38 || at(12) != 8 || at(13) != 0 || at(14) != 0x45 || at(23) != 6) return false;
  const unsigned port = at(36) << 8 | at(37);
  for (const unsigned one : blocked)
    if (one == port) return true;
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::puts("firewall DEVICE [SECONDS]");
    return 0;
  }
  const std::string device = argv[1];
  auto nic = efio::Port::open("netmap:" + device);
  if (!nic) return std::fprintf(stderr, "%s\n", nic.error().message().c_str()), 1;
  auto host = efio::Port::open("host:" + device);
  if (!host) return std::fprintf(stderr, "%s\n", host.error().message().c_str()), 1;
  auto poller = efio::Poller::create();
  if (!poller || !poller->add(host->rx())) return 1;
  for (std::size_t q = 0; q < nic->rx_queues(); ++q)
    if (!poller->add(nic->rx(q))) return 1;

  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(argc > 2 ? std::atoi(argv[2]) : 3600);
  while (std::chrono::steady_clock::now() < end && nic->rx().status() && host->rx().status()) {
    poller->wait(std::chrono::milliseconds(100));
    for (std::size_t q = 0; q < nic->rx_queues(); ++q) {
      auto batch = nic->rx(q).receive(256);
      for (std::size_t i = 0; i < batch.size(); ++i)
        if (is_blocked(batch[i].bytes())) batch.drop(i, efio::DropReason::filtered);
      efio::forward(batch, host->tx());  // what the host has no room for stays for the next round
    }
    host->tx().flush();
    auto batch = host->rx().receive(256);
    efio::forward(batch, nic->tx());
    nic->tx().flush();
  }
  const auto passed = nic->stats();
  std::printf("in %llu, of these blocked %llu; out %llu\n", static_cast<unsigned long long>(passed.rx.received),
              static_cast<unsigned long long>(passed.rx.dropped[static_cast<std::size_t>(efio::DropReason::filtered)]),
              static_cast<unsigned long long>(passed.tx.sent));
  return 0;
}
