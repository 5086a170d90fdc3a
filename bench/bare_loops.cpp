// The least code that uses each kernel interface, to compare the library with: no counters but one, no checks, no slots.
//
//   bare_loops send IF SECONDS            sendmmsg of 64 with qdisc bypass
//   bare_loops receive IF SECONDS         TPACKET_V3, poll when empty
//   bare_loops forward IF SECONDS IF2     the two together, from the receive ring
//
// Prints frames a second between the first and the last frame. 60-byte UDP frames to 02:02:02:02:02:77.
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr std::size_t batch = 64;
constexpr std::size_t frame_length = 60;
using Clock = std::chrono::steady_clock;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(3);
}

std::array<unsigned char, frame_length> example_frame() {
  std::array<unsigned char, frame_length> frame = {2, 2, 2, 2, 2, 0x77, 2, 2, 2, 2, 2, 1, 8, 0, 0x45, 0, 0, 46,
                                                   0, 0, 0, 0, 64, 17, 0x66, 0xb7, 10, 0, 0, 1, 10, 9, 9, 2,
                                                   3, 0xe8, 0, 9, 0, 26, 0, 0};
  return frame;
}

// Counts frames, and the time from the first to the last.
class Meter {
 public:
  explicit Meter(double seconds) : start_(Clock::now()), end_(start_ + std::chrono::duration<double>(seconds)) {}
  void add(std::size_t n) {
    last_ = Clock::now();
    if (frames_ == 0) first_ = last_, first_count_ = n;
    frames_ += n;
  }
  bool running() const { return Clock::now() < end_; }
  int report() const {
    const double span = std::chrono::duration<double>(last_ - first_).count();
    std::printf("%.0f\n", span > 0 ? static_cast<double>(frames_ - first_count_) / span : 0.0);
    return 0;
  }

 private:
  Clock::time_point start_;
  std::chrono::time_point<Clock, std::chrono::duration<double>> end_;
  Clock::time_point first_{}, last_{};
  std::size_t frames_ = 0, first_count_ = 0;
};

int packet_socket() {
  const int fd = ::socket(AF_PACKET, SOCK_RAW, 0);
  if (fd < 0) die("socket");
  return fd;
}

void bind_to(int fd, const char* interface, int protocol) {
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(static_cast<std::uint16_t>(protocol));
  address.sll_ifindex = static_cast<int>(::if_nametoindex(interface));
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) die(interface);
}

int sending_socket(const char* interface) {
  const int fd = packet_socket();
  const int on = 1, size = 1 << 24;
  if (::setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on) != 0) die("PACKET_QDISC_BYPASS");
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
  bind_to(fd, interface, 0);
  return fd;
}

struct Messages {
  Messages() {
    for (std::size_t i = 0; i < batch; ++i) headers[i].msg_hdr.msg_iov = &parts[i], headers[i].msg_hdr.msg_iovlen = 1;
  }
  std::array<mmsghdr, batch> headers{};
  std::array<iovec, batch> parts{};
};

int send(const char* interface, double seconds) {
  const int fd = sending_socket(interface);
  std::vector<std::array<unsigned char, frame_length>> frames(batch, example_frame());
  Messages messages;
  for (std::size_t i = 0; i < batch; ++i) messages.parts[i] = {frames[i].data(), frame_length};
  Meter meter(seconds);
  while (meter.running())
    for (int i = 0; i < 16; ++i)
      if (const int sent = ::sendmmsg(fd, messages.headers.data(), batch, 0); sent > 0) meter.add(static_cast<std::size_t>(sent));
  return meter.report();
}

int receive(const char* interface, double seconds, const char* to) {
  constexpr unsigned block_size = 1 << 18, blocks = 64;
  const int fd = packet_socket();
  const int version = TPACKET_V3, on = 1;
  ::setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version);
  ::setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
  tpacket_req3 request{};
  request.tp_block_size = block_size, request.tp_block_nr = blocks, request.tp_frame_size = 2048;
  request.tp_frame_nr = block_size / 2048 * blocks, request.tp_retire_blk_tov = 1;
  if (::setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) != 0) die("PACKET_RX_RING");
  auto* ring = static_cast<char*>(::mmap(nullptr, std::size_t{block_size} * blocks, PROT_READ | PROT_WRITE,
                                         MAP_SHARED | MAP_POPULATE, fd, 0));
  if (ring == MAP_FAILED) die("mmap");
  bind_to(fd, interface, ETH_P_ALL);
  const int out = to != nullptr ? sending_socket(to) : -1;
  Messages messages;

  Meter meter(seconds);
  for (unsigned at = 0; meter.running();) {
    auto* block = reinterpret_cast<tpacket_block_desc*>(ring + std::size_t{at} * block_size);
    if ((__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) == 0) {
      pollfd wait = {fd, POLLIN, 0};
      ::poll(&wait, 1, 10);
      continue;
    }
    const unsigned count = block->hdr.bh1.num_pkts;
    auto* packet = reinterpret_cast<char*>(block) + block->hdr.bh1.offset_to_first_pkt;
    unsigned queued = 0;
    std::size_t bytes = 0;
    for (unsigned i = 0; i < count; ++i) {
      const auto* header = reinterpret_cast<const tpacket3_hdr*>(packet);
      bytes += header->tp_snaplen;
      if (out >= 0) {
        messages.parts[queued] = {packet + header->tp_mac, header->tp_snaplen};
        if (++queued == batch || i + 1 == count) ::sendmmsg(out, messages.headers.data(), queued, 0), queued = 0;
      }
      packet += header->tp_next_offset;
    }
    asm volatile("" : : "r"(bytes));
    __atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    if (count > 0) meter.add(count);
    at = (at + 1) % blocks;
  }
  return meter.report();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return std::fputs("usage: bare_loops send|receive|forward IF SECONDS [IF2]\n", stderr), 2;
  const std::string mode = argv[1];
  const double seconds = std::atof(argv[3]);
  if (mode == "send") return send(argv[2], seconds);
  if (mode == "receive") return receive(argv[2], seconds, nullptr);
  if (mode == "forward" && argc > 4) return receive(argv[2], seconds, argv[4]);
  return 2;
}
