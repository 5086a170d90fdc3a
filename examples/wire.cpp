// A wire between two ports, both directions in one thread: receive, forward (by swap where the memory is shared), flush.
// Without arguments it joins two pipes and sends 100,000 frames through itself, to show that none is lost.
#include <array>
#include <cstdio>
#include <thread>

#include "efio/forward.h"
#include "efio/poller.h"
#include "efio/port.h"

using efio::Port;

namespace {

void carry(efio::RxQueue& from, efio::TxQueue& to) {
  auto batch = from.receive(64);
  efio::forward(batch, to);  // what found no room stays in `from`, and is lent again
  to.flush();
}

void run_wire(Port& left, Port& right, const std::stop_token& stop) {
  auto poller = efio::Poller::create();
  if (!poller || !poller->add(left.rx()) || !poller->add(right.rx())) return;
  while (!stop.stop_requested()) {
    poller->wait(std::chrono::milliseconds(10));
    carry(left.rx(), right.tx());
    carry(right.rx(), left.tx());
  }
}

bool send_through(Port& in, Port& out, unsigned total) {
  unsigned sent = 0, received = 0;
  const auto until = efio::Clock::monotonic() + 20'000'000'000;
  while (received < total && efio::Clock::monotonic() < until) {
    auto free = in.tx().claim(std::min(64U, total - sent));
    for (auto& slot : free) slot.length = 60;
    sent += static_cast<unsigned>(free.commit());
    in.tx().flush();
    received += static_cast<unsigned>(out.rx().receive(64).finish());
  }
  return received == total;
}

}  // namespace

int main(int argc, char** argv) {
  const bool given = argc == 3;
  auto left = Port::open(given ? argv[1] : "pipe:left/b");
  auto right = Port::open(given ? argv[2] : "pipe:right/b");
  if (!left || !right) return std::puts((left ? right.error() : left.error()).message().c_str()), 1;
  std::printf("%s <-> %s, %s\n", left->info().uri.c_str(), right->info().uri.c_str(),
              efio::forwards_by_swap(left->rx(), right->tx()) ? "by swap" : "by copy");
  if (given) return run_wire(*left, *right, std::stop_token()), 0;

  std::jthread wire([&](const std::stop_token& stop) { run_wire(*left, *right, stop); });
  auto a = Port::open("pipe:left/a");
  auto b = Port::open("pipe:right/a");
  return a && b && send_through(*a, *b, 100'000) ? std::puts("100,000 frames, none lost"), 0 : 1;
}
