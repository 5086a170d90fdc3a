// A receiver for scripts: opens the port that its argument names, says "ready", and answers the lines of standard input.
//
//   take RULES       "ok", or the error
//   frames N MS      waits until N frames have come, MS at most; then for each that came a line of hexadecimal, and "end" or why there will be no more
//   close            ends, with "closed" or the error
#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <iostream>
#include <string>
#include <thread>

#include "efio/clock.h"
#include "efio/port.h"

namespace {

int complain(const efio::Error& error) {
  std::cout << error.message() << std::endl;
  return 3;
}

void print_frames(efio::Port& port, std::size_t wanted, std::chrono::milliseconds patience) {
  const auto until = std::chrono::steady_clock::now() + patience;
  std::size_t got = 0;
  while (got < wanted && std::chrono::steady_clock::now() < until) {
    std::size_t round = 0;
    for (std::size_t q = 0; q < port.rx_queues(); ++q) {
      auto batch = port.rx(q).receive(64);
      for (const efio::Slot& slot : batch) {
        for (const auto byte : slot.bytes()) std::cout << fmt::format("{:02x}", std::to_integer<unsigned>(byte));
        std::cout << '\n';
      }
      round += batch.finish();
    }
    got += round;
    if (round == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const auto status = port.rx().status();
  std::cout << (status ? "end" : status.error().message()) << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  auto port = efio::Port::open(argv[1], {.direction = efio::Direction::rx});
  if (!port) return complain(port.error());
  std::cout << "ready " << port->info().mode << std::endl;
  for (std::string word; std::cin >> word;) {
    if (word == "take") {
      std::string rules;
      std::cin >> rules;
      const auto set = port->set_option("take", rules);
      std::cout << (set ? "ok" : set.error().message()) << std::endl;
    } else if (word == "frames") {
      std::size_t wanted = 0, patience = 0;
      std::cin >> wanted >> patience;
      print_frames(*port, wanted, std::chrono::milliseconds(patience));
    } else if (word == "close") {
      if (const auto closed = port->close(); !closed) return complain(closed.error());
      std::cout << "closed" << std::endl;
      return 0;
    }
  }
  return 0;
}
