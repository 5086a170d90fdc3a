// Sending, receiving and forwarding over a device, to be held beside bare_xsk, which takes the same arguments:
//
//   xdp_bench send PORT SECONDS [FLOWS]       60-byte UDP frames to 02:02:02:02:02:77; with flows, in random order: of so many
//                                             source ports, and of half as many MAC addresses each way (BACK=1: the way back)
//   xdp_bench receive PORT SECONDS            spinning
//   xdp_bench wait PORT SECONDS               by a poller
//   xdp_bench forward PORT SECONDS PORT2
//
// Prints frames a second between the first and the last frame, and on standard error what was obtained and counted. With
// PAUSE=MICROSECONDS in the environment receive and forward sleep so long after a batch that was not full, instead of spinning:
// then most batches are, and hardly an instruction is spent on looking (bench/instructions).
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "efio/forward.h"
#include "efio/poller.h"
#include "efio/port.h"

namespace {

constexpr std::size_t batch_size = 64;
constexpr std::uint32_t frame_size = 60;
using Clock = std::chrono::steady_clock;

// Frames, and the time from the first to the last of them. The clock is read once in 16 batches.
class Meter {
 public:
  explicit Meter(double seconds) : end_(Clock::now() + std::chrono::duration<double>(seconds)) {}
  void add(std::size_t n) {
    if (frames_ == 0) first_ = Clock::now(), before_ = n;
    frames_ += n;
  }
  bool running() {
    if (++calls_ % 16 != 0) return true;
    const auto now = Clock::now();
    if (frames_ != seen_) last_ = now, seen_ = frames_;
    return now < end_;
  }
  double rate() const {
    const double span = std::chrono::duration<double>(last_ - first_).count();
    return span > 0 ? static_cast<double>(seen_ - before_) / span : 0.0;
  }

 private:
  std::chrono::time_point<Clock, std::chrono::duration<double>> end_;
  Clock::time_point first_{}, last_{};
  std::size_t frames_ = 0, seen_ = 0, before_ = 0;
  unsigned calls_ = 0;
};

efio::Port open(const char* name, efio::Direction direction) {
  auto port = efio::Port::open(name, {.direction = direction});
  if (!port) {
    std::fprintf(stderr, "%s\n", port.error().message().c_str());
    std::exit(3);
  }
  std::fprintf(stderr, "%s: %s\n", name, port->info().mode.c_str());
  return std::move(*port);
}

void send(efio::Port& port, Meter& meter, std::uint64_t flows) {
  constexpr std::size_t source_port = 34;
  // The bytes of the addresses that tell the flows apart. What goes back has them the other way round.
  const bool back = std::getenv("BACK") != nullptr;
  const std::size_t near = back ? 2 : 8, far = back ? 8 : 2;
  std::array<unsigned char, frame_size> frame = {2, 2, 2, 2, 2, 0x77, 2, 2, 2, 2, 2, 1, 8, 0, 0x45, 0, 0, 46,
                                                 0, 0, 0, 0, 64, 17, 0x66, 0xb7, 10, 0, 0, 1, 10, 9, 9, 2,
                                                 3, 0xe8, 0, 9, 0, 26, 0, 0};
  if (back) std::swap(frame[5], frame[11]);
  const auto put = [&](std::size_t at, std::uint64_t number) {
    frame[at] = static_cast<unsigned char>(number >> 8), frame[at + 1] = static_cast<unsigned char>(number);
  };
  std::uint64_t drawn = 0;
  while (meter.running()) {
    auto batch = port.tx().claim(batch_size);
    for (auto& slot : batch) {
      std::uint64_t random = drawn += 0x9E37'79B9'7F4A'7C15;  // SplitMix64
      random = (random ^ random >> 30) * 0xBF58'476D'1CE4'E5B9;
      random = (random ^ random >> 27) * 0x94D0'49BB'1331'11EB;
      const std::uint64_t flow = (random >> 32) * flows >> 32;
      put(source_port, flow);
      put(near, flow / 2);
      put(far, ((random & UINT32_MAX) * flows >> 32) / 2);
      std::memcpy(slot.buffer + slot.offset, frame.data(), frame_size);
      slot.length = frame_size;
    }
    batch.commit();
    meter.add(port.tx().flush());
  }
}

// What receive and forward do when there is no more.
class Idle {
 public:
  void operator()() const {
    if (pause_.count() > 0) std::this_thread::sleep_for(pause_);
  }

 private:
  static std::chrono::microseconds told() {
    const char* text = std::getenv("PAUSE");
    return std::chrono::microseconds(text == nullptr ? 0 : std::atoi(text));
  }
  const std::chrono::microseconds pause_ = told();
};

void receive(efio::Port& port, Meter& meter) {
  const Idle idle;
  while (meter.running()) {
    const auto n = port.rx().receive(batch_size).finish();
    meter.add(n);
    if (n < batch_size) idle();
  }
}

void wait(efio::Port& port, Meter& meter) {
  auto poller = efio::Poller::create();
  if (!poller || !poller->add(port.rx())) std::exit(3);
  while (meter.running()) {
    std::size_t n = 0;
    do meter.add(n = port.rx().receive(batch_size).finish());
    while (n != 0 && meter.running());
    poller->wait(std::chrono::milliseconds(10));
  }
}

void forward(efio::Port& from, efio::Port& to, Meter& meter) {
  const Idle idle;
  while (meter.running()) {
    auto batch = from.rx().receive(batch_size);
    const auto n = batch.size();
    efio::forward(batch, to.tx());
    to.tx().flush();
    meter.add(n - batch.size());
    if (n < batch_size) idle();
  }
}

void print_counts(efio::Port& port) {
  port.drain();
  const auto [rx, tx] = port.stats();
  std::fprintf(stderr, "received %lu delivered %lu dropped %lu, sent %lu dropped %lu\n", rx.received, rx.delivered,
               rx.total_dropped(), tx.sent, tx.total_dropped());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return std::fputs("usage: xdp_bench send|receive|wait|forward PORT SECONDS [FLOWS|PORT2]\n", stderr), 2;
  const std::string mode = argv[1];
  const double seconds = std::atof(argv[3]);
  auto port = open(argv[2], mode == "send" ? efio::Direction::tx : efio::Direction::rx);
  if (mode == "forward" && argc > 4) {
    auto to = open(argv[4], efio::Direction::tx);
    Meter meter(seconds);
    forward(port, to, meter);
    print_counts(port);
    print_counts(to);
    std::printf("%.0f\n", meter.rate());
    return 0;
  }
  Meter meter(seconds);
  if (mode == "send") send(port, meter, argc > 4 ? static_cast<unsigned>(std::atoi(argv[4])) : 1);
  else if (mode == "receive") receive(port, meter);
  else if (mode == "wait") wait(port, meter);
  else return 2;
  print_counts(port);
  std::printf("%.0f\n", meter.rate());
  return 0;
}
