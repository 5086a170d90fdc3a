// Statistics from another thread: each snapshot is one moment of the queue, and adds up.
#include <cstdio>
#include <thread>

#include "efio/port.h"

int main() {
  auto a = efio::Port::open("pipe:watch");
  auto b = efio::Port::open("pipe:watch");
  if (!a || !b) return 1;
  std::jthread worker([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      auto free = a->tx().claim(64);
      for (auto& slot : free) slot.length = 60;
      free.commit();
      a->tx().flush();
      auto batch = b->rx().receive(64);
      batch.drop(0, efio::DropReason::filtered);
      batch.finish();
    }
  });
  bool balanced = true;
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const auto rx = b->rx().stats();
    balanced = balanced && rx.received + rx.made == rx.delivered + rx.waiting + rx.total_dropped();
    std::printf("received %llu = delivered %llu + waiting %llu + dropped %llu\n", (unsigned long long)rx.received,
                (unsigned long long)rx.delivered, (unsigned long long)rx.waiting, (unsigned long long)rx.total_dropped());
  }
  return balanced ? 0 : 1;
}
