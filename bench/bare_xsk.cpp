// The least code that uses AF_XDP, on libxdp, to compare xdp: with: no counters but one, no checks, no slots.
//
//   bare_xsk send IF SECONDS                  60-byte UDP frames to 02:02:02:02:02:77
//   bare_xsk receive|wait IF SECONDS          spinning, or by poll()
//   bare_xsk forward IF SECONDS IF2           from one to the other, on one UMEM
//
// ATTACH=generic in the environment for the generic hook. Prints frames a second between the first and the last frame.
#include <linux/if_link.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xdp/xsk.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

namespace {

constexpr std::uint32_t batch = 64, chunk = 2048, ring_size = 2048, chunks = 4096;
constexpr std::uint32_t frame_size = 60;
using Clock = std::chrono::steady_clock;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(3);
}

struct Memory {
  Memory() {
    auto* buffer = ::mmap(nullptr, std::size_t{chunk} * chunks, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (buffer == MAP_FAILED) die("mmap");
    data = static_cast<unsigned char*>(buffer);
    const xsk_umem_config config{.fill_size = chunks, .comp_size = ring_size, .frame_size = chunk, .frame_headroom = 0, .flags = 0};
    if (::xsk_umem__create(&umem, buffer, std::size_t{chunk} * chunks, &fill, &completion, &config) != 0) die("umem");
  }
  unsigned char* data = nullptr;
  xsk_umem* umem = nullptr;
  xsk_ring_prod fill{};
  xsk_ring_cons completion{};
};

struct Socket {
  Socket(Memory& memory, const char* interface, bool first, bool receives) {
    const char* attach = std::getenv("ATTACH");
    xsk_socket_config config{};
    config.rx_size = config.tx_size = ring_size;
    config.bind_flags = XDP_COPY | XDP_USE_NEED_WAKEUP;
    config.xdp_flags = attach != nullptr && std::strcmp(attach, "generic") == 0 ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
    if (!receives) config.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD;
    int error = -EBUSY;  // for some time after another program has let go of the queue
    for (int i = 0; i < 200 && error == -EBUSY; ++i) {
      if (i > 0) ::usleep(5000);
      error = first ? ::xsk_socket__create(&socket, interface, 0, memory.umem, receives ? &rx : nullptr, &tx, &config)
                    : ::xsk_socket__create_shared(&socket, interface, 0, memory.umem, &rx, &tx, &fill, &completion, &config);
    }
    if (error != 0) {
      errno = -error;
      die(interface);
    }
    fd = ::xsk_socket__fd(socket);
  }
  ~Socket() { ::xsk_socket__delete(socket); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  void kick() const { ::sendto(fd, nullptr, 0, MSG_DONTWAIT, nullptr, 0); }

  xsk_socket* socket = nullptr;
  int fd = -1;
  xsk_ring_cons rx{};
  xsk_ring_prod tx{};
  xsk_ring_prod fill{};
  xsk_ring_cons completion{};
};

std::atomic<bool> stopped{false};  // a program that ends without a word leaves its XDP program attached

class Meter {
 public:
  explicit Meter(double seconds) : end_(Clock::now() + std::chrono::duration<double>(seconds)) {}
  void add(std::size_t n) {
    if (frames_ == 0) first_ = Clock::now(), before_ = n;
    frames_ += n;
  }
  bool running() {
    if (++calls_ % 16 != 0) return !stopped;
    const auto now = Clock::now();
    if (frames_ != seen_) last_ = now, seen_ = frames_;
    return now < end_ && !stopped;
  }
  void report() const {
    const double span = std::chrono::duration<double>(last_ - first_).count();
    std::printf("%.0f\n", span > 0 ? static_cast<double>(seen_ - before_) / span : 0.0);
  }

 private:
  std::chrono::time_point<Clock, std::chrono::duration<double>> end_;
  Clock::time_point first_{}, last_{};
  std::size_t frames_ = 0, seen_ = 0, before_ = 0;
  unsigned calls_ = 0;
};

void post_all(Memory& memory, std::uint32_t count) {
  std::uint32_t at = 0;
  ::xsk_ring_prod__reserve(&memory.fill, count, &at);
  for (std::uint32_t i = 0; i < count; ++i) *::xsk_ring_prod__fill_addr(&memory.fill, at + i) = std::uint64_t{i} * chunk;
  ::xsk_ring_prod__submit(&memory.fill, count);
}

void send(const char* interface, Meter& meter) {
  constexpr std::array<unsigned char, frame_size> frame = {2, 2, 2, 2, 2, 0x77, 2, 2, 2, 2, 2, 1, 8, 0, 0x45, 0, 0, 46,
                                                           0, 0, 0, 0, 64, 17, 0x66, 0xb7, 10, 0, 0, 1, 10, 9, 9, 2,
                                                           3, 0xe8, 0, 9, 0, 26, 0, 0};
  Memory memory;
  const auto socket = std::make_unique<Socket>(memory, interface, true, false);
  for (std::uint32_t i = 0; i < chunks; ++i) std::memcpy(memory.data + std::size_t{i} * chunk, frame.data(), frame.size());
  std::uint32_t next = 0, under_way = 0;
  while (meter.running()) {
    std::uint32_t at = 0;
    if (under_way + batch <= ring_size && ::xsk_ring_prod__reserve(&socket->tx, batch, &at) == batch) {
      for (std::uint32_t i = 0; i < batch; ++i) {
        *::xsk_ring_prod__tx_desc(&socket->tx, at + i) = {.addr = std::uint64_t{next} * chunk, .len = frame_size, .options = 0};
        next = (next + 1) % chunks;
      }
      ::xsk_ring_prod__submit(&socket->tx, batch);
      under_way += batch;
    }
    socket->kick();
    const auto back = ::xsk_ring_cons__peek(&memory.completion, ring_size, &at);
    ::xsk_ring_cons__release(&memory.completion, back);
    under_way -= back;
    meter.add(back);
  }
}

void receive(const char* interface, Meter& meter, bool sleeps) {
  Memory memory;
  const auto socket = std::make_unique<Socket>(memory, interface, true, true);
  post_all(memory, chunks);
  while (meter.running()) {
    std::uint32_t at = 0, to = 0;
    const auto n = ::xsk_ring_cons__peek(&socket->rx, batch, &at);
    if (n == 0) {
      pollfd waiting{socket->fd, POLLIN, 0};
      if (sleeps) ::poll(&waiting, 1, 10);
      continue;
    }
    while (::xsk_ring_prod__reserve(&memory.fill, n, &to) != n) {}  // what the kernel has taken it says a little later
    for (std::uint32_t i = 0; i < n; ++i)
      *::xsk_ring_prod__fill_addr(&memory.fill, to + i) = ::xsk_ring_cons__rx_desc(&socket->rx, at + i)->addr / chunk * chunk;
    ::xsk_ring_prod__submit(&memory.fill, n);
    ::xsk_ring_cons__release(&socket->rx, n);
    meter.add(n);
  }
}

void forward(const char* from, const char* to, Meter& meter) {
  Memory memory;
  const auto in = std::make_unique<Socket>(memory, from, true, true), out = std::make_unique<Socket>(memory, to, false, true);
  post_all(memory, chunks);
  std::uint32_t under_way = 0;
  const auto recycle = [&] {
    std::uint32_t at = 0, fill = 0;
    const auto n = ::xsk_ring_cons__peek(&out->completion, ring_size, &at);
    if (n == 0) return;
    while (::xsk_ring_prod__reserve(&memory.fill, n, &fill) != n) {}
    for (std::uint32_t i = 0; i < n; ++i)
      *::xsk_ring_prod__fill_addr(&memory.fill, fill + i) = *::xsk_ring_cons__comp_addr(&out->completion, at + i) / chunk * chunk;
    ::xsk_ring_prod__submit(&memory.fill, n);
    ::xsk_ring_cons__release(&out->completion, n);
    under_way -= n;
  };
  while (meter.running()) {
    recycle();
    std::uint32_t at = 0, sending = 0;
    const auto n = ::xsk_ring_cons__peek(&in->rx, batch, &at);
    if (n == 0) {
      if (under_way > 0) out->kick();  // a call takes 32 frames
      continue;
    }
    while (::xsk_ring_prod__reserve(&out->tx, n, &sending) != n) {
      out->kick();
      recycle();
    }
    for (std::uint32_t i = 0; i < n; ++i) {
      const auto* descriptor = ::xsk_ring_cons__rx_desc(&in->rx, at + i);
      *::xsk_ring_prod__tx_desc(&out->tx, sending + i) = {.addr = descriptor->addr, .len = descriptor->len, .options = 0};
    }
    ::xsk_ring_prod__submit(&out->tx, n);
    ::xsk_ring_cons__release(&in->rx, n);
    under_way += n;
    out->kick();
    meter.add(n);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return std::fputs("usage: bare_xsk send|receive|wait|forward IF SECONDS [IF2]\n", stderr), 2;
  const std::string mode = argv[1];
  std::signal(SIGINT, [](int) { stopped = true; });
  Meter meter(std::atof(argv[3]));
  if (mode == "send") send(argv[2], meter);
  else if (mode == "receive" || mode == "wait") receive(argv[2], meter, mode == "wait");
  else if (mode == "forward" && argc > 4) forward(argv[2], argv[4], meter);
  else return 2;
  meter.report();
  return 0;
}
