// Reading from and writing to a TAP, beside bare read() and write() loops on a device of the same kind. 60-byte frames.
//
// Writing: the stack drops each frame, whose address is a multicast one that nobody has joined. Reading: a round fills the
// kernel's queue, then reads it, and only the reading is timed. Needs root: it runs in a network namespace of its own.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>

#include "efio/port.h"

namespace {

constexpr std::uint32_t frame_size = 60;
constexpr std::size_t batch_size = 64;
constexpr int kernel_queue = 4096;  // txqueuelen: frames a round

constexpr std::array<unsigned char, frame_size> frame = {0x03, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5};

bool set_up(const char* name) {
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request{};
  std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  request.ifr_qlen = kernel_queue;
  bool ok = ::ioctl(fd, SIOCSIFTXQLEN, &request) == 0;
  ok = ok && ::ioctl(fd, SIOCGIFFLAGS, &request) == 0;
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  ok = ok && ::ioctl(fd, SIOCSIFFLAGS, &request) == 0;
  ::close(fd);
  return ok;
}

// The sender of frames into a device: what the stack would do.
class Feeder {
 public:
  explicit Feeder(const char* name) : fd_(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)) {
    sockaddr_ll at{};
    at.sll_family = AF_PACKET;
    at.sll_ifindex = static_cast<int>(::if_nametoindex(name));
    ok_ = ::bind(fd_, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0;
  }
  ~Feeder() { ::close(fd_); }
  bool ok() const { return ok_; }
  void fill() const {
    for (int i = 0; i < kernel_queue; ++i) [[maybe_unused]]
      const auto sent = ::send(fd_, frame.data(), frame.size(), 0);
  }

 private:
  int fd_;
  bool ok_ = false;
};

// The least code: one descriptor, one buffer.
class Bare {
 public:
  explicit Bare(const char* name) : fd_(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)) {
    ifreq request{};
    std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    ok_ = ::ioctl(fd_, TUNSETIFF, &request) == 0 && set_up(name);
  }
  ~Bare() { ::close(fd_); }
  bool ok() const { return ok_; }
  std::size_t write_batch() {
    std::size_t n = 0;
    for (std::size_t i = 0; i < batch_size; ++i) n += ::write(fd_, frame.data(), frame.size()) == frame_size ? 1U : 0U;
    return n;
  }
  std::size_t read_all() {
    std::size_t n = 0;
    while (::read(fd_, buffer_.data(), buffer_.size()) > 0) ++n;
    return n;
  }

 private:
  int fd_;
  bool ok_ = false;
  std::array<char, 2048> buffer_{};
};

class Ours {
 public:
  explicit Ours(const char* name) {
    auto port = efio::Port::open("tap:" + std::string(name) + "?settle=0");
    if (port && set_up(name)) port_.emplace(std::move(*port));
  }
  bool ok() const { return port_.has_value(); }
  std::size_t write_batch() {
    auto batch = port_->tx().claim(batch_size);
    for (auto& slot : batch) std::memcpy(slot.buffer + slot.offset, frame.data(), frame_size), slot.length = frame_size;
    batch.commit();
    return port_->tx().flush();
  }
  std::size_t read_all() {
    std::size_t n = 0;
    for (auto batch = port_->rx().receive(batch_size); !batch.empty(); batch = port_->rx().receive(batch_size)) n += batch.finish();
    return n;
  }

 private:
  std::optional<efio::Port> port_;
};

template <class Side>
void writing(benchmark::State& state) {
  Side side("bench0");
  if (!side.ok()) return state.SkipWithError("no TAP: needs root and /dev/net/tun");
  std::int64_t frames = 0;
  for (auto _ : state) frames += static_cast<std::int64_t>(side.write_batch());
  state.SetItemsProcessed(frames);
}

template <class Side>
void reading(benchmark::State& state) {
  Side side("bench0");
  const Feeder feeder("bench0");
  if (!side.ok() || !feeder.ok()) return state.SkipWithError("no TAP: needs root and /dev/net/tun");
  std::int64_t frames = 0;
  side.read_all();
  for (auto _ : state) {
    feeder.fill();
    const auto start = std::chrono::steady_clock::now();
    frames += static_cast<std::int64_t>(side.read_all());
    state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  state.SetItemsProcessed(frames);
}

BENCHMARK(writing<Bare>)->Name("write/bare");
BENCHMARK(writing<Ours>)->Name("write/tap");
BENCHMARK(reading<Bare>)->Name("read/bare")->UseManualTime();
BENCHMARK(reading<Ours>)->Name("read/tap")->UseManualTime();

}  // namespace

int main(int argc, char** argv) {
  if (::unshare(CLONE_NEWNET) != 0) {
    std::perror("tap_bench: a network namespace of its own");
    return 3;
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
