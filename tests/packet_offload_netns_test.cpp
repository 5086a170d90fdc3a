// packet: what the kernel leaves to a device: pending checksums, and segments of up to 64 KiB (offload=on).
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "efio/engines/vnet.h"
#include "efio/forward.h"
#include "efio/poller.h"
#include "efio/port.h"
#include "tests/support/netns.h"

namespace {

using efio::Direction;
using efio::DropReason;
using efio::Fd;
using efio::Port;
using efio::test::Netns;
using efio::test::VethPair;
using namespace std::chrono_literals;

Port open_in(const Netns& ns, const std::string& uri, Direction direction = Direction::both) {
  return ns.run([&] {
    auto port = Port::open(uri, {.direction = direction});
    if (!port) throw std::runtime_error(port.error().message());
    return std::move(*port);
  });
}

std::uint16_t word(std::span<const std::byte> bytes, std::size_t at) {
  return static_cast<std::uint16_t>(std::to_integer<unsigned>(bytes[at]) << 8 | std::to_integer<unsigned>(bytes[at + 1]));
}

// Whether the checksums of an IPv4 packet with UDP or TCP are right, by RFC 1071 written plainly.
bool checksums_are_right(std::span<const std::byte> ip) {
  const auto sum = [](std::span<const std::byte> bytes, std::uint32_t from) {
    for (std::size_t i = 0; i < bytes.size(); ++i) from += std::to_integer<std::uint32_t>(bytes[i]) << (i % 2 == 0 ? 8 : 0);
    while (from >> 16) from = (from & 0xFFFF) + (from >> 16);
    return from;
  };
  const auto header = ip.first(std::to_integer<std::size_t>(ip[0] & std::byte{0x0F}) * 4);
  const auto payload = ip.first(word(ip, 2)).subspan(header.size());
  auto pseudo = sum(ip.subspan(12, 8), 0) + std::to_integer<std::uint32_t>(ip[9]) + static_cast<std::uint32_t>(payload.size());
  return sum(header, 0) == 0xFFFF && sum(payload, pseudo) == 0xFFFF;
}

void send_udp(const Netns& ns, const std::string& to, std::size_t size) {
  ns.run([&] {
    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {}, .sin_zero = {}};
    ::inet_pton(AF_INET, to.c_str(), &address.sin_addr);
    const std::string data(size, 'u');
    ASSERT_EQ(::sendto(socket.get(), data.data(), size, 0, reinterpret_cast<sockaddr*>(&address), sizeof address),
              static_cast<ssize_t>(size));
  });
}

// A tagged UDP datagram of 10 bytes whose checksum is pending: its field holds the pseudo-header's sum.
std::vector<std::byte> tagged_udp() {
  const std::vector<unsigned char> bytes = {
      0x03, 0,    0,    0, 0, 1, 0x02, 0,  0,    0,    0,    2, 0x81, 0, 0x20, 5, 0x08, 0,               // Ethernet, tag
      0x45, 0,    0,    38, 0, 0, 0,   0,  64,   17,   0x66, 0xc5, 10, 0, 0,   2, 10,   0, 0, 1,         // IPv4
      0,    9,    0,    9, 0, 18, 0x14, 0x26, 'e', 'f', 'i', 'o', 0, 1, 2, 3, 4, 5};                     // UDP
  std::vector<std::byte> frame(bytes.size());
  std::memcpy(frame.data(), bytes.data(), bytes.size());
  return frame;
}

class PacketOffload : public testing::Test {
 protected:
  void SetUp() override {
    EFIO_REQUIRE_NETNS();
    pair.emplace();
    pair->b.ip("addr add 10.0.0.2/24 dev vb");
    pair->b.ip("neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev vb");
  }
  // The next frame that is IPv4 behind `tags` VLAN tags.
  template <class Look>
  void expect_ip(Port& port, std::size_t tags, Look look) {
    const auto until = std::chrono::steady_clock::now() + 2s;
    while (std::chrono::steady_clock::now() < until) {
      auto batch = port.rx().receive(1);
      for (auto& slot : batch) {
        if (slot.length < 34 || word(slot.bytes(), 12 + 4 * tags) != 0x0800) continue;
        look(slot, slot.bytes().subspan(14 + 4 * tags));
        batch.finish();
        return;
      }
      batch.finish();
    }
    ADD_FAILURE() << "no IPv4 frame came";
  }
  std::optional<VethPair> pair;
};

TEST_F(PacketOffload, PendingChecksumsAreCompleted) {
  auto a = open_in(pair->a, "packet:va?settle=0", Direction::rx);
  for (const std::size_t size : {0, 1, 18, 255, 1472}) {
    send_udp(pair->b, "10.0.0.1", size);
    expect_ip(a, 0, [&](const efio::Slot& slot, auto ip) {
      EXPECT_EQ(slot.length, 42 + size);
      EXPECT_FALSE(slot.has(efio::Slot::metadata));
      EXPECT_NE(word(ip, 26), 0) << "UDP without a checksum";
      EXPECT_TRUE(checksums_are_right(ip)) << size;
    });
  }
}

TEST_F(PacketOffload, PendingChecksumsAreCompletedBehindATag) {
  auto b = open_in(pair->b, "packet:vb?settle=0&offload=on", Direction::tx);
  const auto send_tagged = [&] {
    auto batch = b.tx().claim(1);
    ASSERT_EQ(batch.size(), 1U);
    const auto frame = tagged_udp();
    std::memcpy(batch.space(0).data(), frame.data(), frame.size());
    batch[0].length = static_cast<std::uint32_t>(frame.size());
    efio::Metadata metadata;
    metadata.checksum_needed = 1;
    metadata.checksum_start = 38;
    metadata.checksum_offset = 6;
    ASSERT_TRUE(efio::write_metadata(batch[0], metadata));
    batch.commit();
    ASSERT_EQ(b.tx().flush(), 1U);
  };
  auto a = open_in(pair->a, "packet:va?settle=0", Direction::rx);
  send_tagged();
  expect_ip(a, 1, [](const efio::Slot& slot, auto ip) {
    EXPECT_EQ(word(slot.bytes(), 12), 0x8100);
    EXPECT_EQ(word(slot.bytes(), 14), 0x2005);
    EXPECT_TRUE(checksums_are_right(ip));
  });
  auto offloading = open_in(pair->a, "packet:va?settle=0&offload=on", Direction::rx);
  send_tagged();
  expect_ip(offloading, 1, [](const efio::Slot& slot, auto) {
    ASSERT_TRUE(slot.has(efio::Slot::metadata));
    EXPECT_EQ(efio::read_metadata(slot).checksum_start, 38) << "counted from the frame as it is lent";
  });
}

TEST_F(PacketOffload, PendingChecksumsAreToldWithOffload) {
  auto a = open_in(pair->a, "packet:va?settle=0&offload=on", Direction::rx);
  EXPECT_EQ(a.info().mode, "TPACKET_V3, offload");
  EXPECT_GE(a.info().frame_size, 65550U);
  send_udp(pair->b, "10.0.0.1", 100);
  expect_ip(a, 0, [](efio::Slot& slot, auto ip) {
    ASSERT_TRUE(slot.has(efio::Slot::metadata));
    const auto metadata = efio::read_metadata(slot);
    EXPECT_EQ(metadata.checksum_needed, 1);
    EXPECT_EQ(metadata.checksum_start, 34);
    EXPECT_EQ(metadata.checksum_offset, 6);
    EXPECT_FALSE(checksums_are_right(ip));
    EXPECT_TRUE(efio::complete_checksum(slot.bytes(), metadata.checksum_start, metadata.checksum_offset));
    EXPECT_TRUE(checksums_are_right(ip));
  });
}

// What an offloading receiver was told, a sender without offload does.
TEST_F(PacketOffload, SenderWithoutOffloadCompletesChecksums) {
  const VethPair out;
  auto in = open_in(pair->a, "packet:va?settle=0&offload=on", Direction::rx);
  auto to = open_in(out.a, "packet:va?settle=0", Direction::tx);
  auto far = open_in(out.b, "packet:vb?settle=0", Direction::rx);
  send_udp(pair->b, "10.0.0.1", 77);
  const auto until = std::chrono::steady_clock::now() + 2s;
  while (to.stats().tx.sent == 0 && std::chrono::steady_clock::now() < until) {
    auto batch = in.rx().receive(16);
    efio::forward(batch, to.tx());
    to.tx().flush();
  }
  expect_ip(far, 0, [](const efio::Slot&, auto ip) { EXPECT_TRUE(checksums_are_right(ip)); });
}

// Two kernels speak TCP through a bridge made of two ports: A (va) – (vb) bridge (va) – (vb) B.
struct TcpThroughABridge {
  static constexpr std::size_t bytes = 32 << 20;

  explicit TcpThroughABridge(const std::string& options, bool segmented = true) {
    left.a.ip("addr add 10.1.0.1/24 dev va");
    right.b.ip("addr add 10.1.0.2/24 dev vb");
    if (!segmented) {
      left.a.ip("link set va gso_max_segs 1");
      right.b.ip("link set vb gso_max_segs 1");
    }
    auto one = open_in(left.b, "packet:vb?settle=0" + options);
    auto two = open_in(right.a, "packet:va?settle=0" + options);
    std::atomic<bool> end = false;
    std::thread bridge([&] {
      auto poller = efio::Poller::create();
      (void)poller->add(one.rx());
      (void)poller->add(two.rx());
      while (!end) {
        poller->wait(20ms);
        for (auto [from, to] : {std::pair{&one, &two}, std::pair{&two, &one}}) {
          auto batch = from->rx().receive(64);
          for (const auto& slot : batch) longest = std::max<std::size_t>(longest, slot.length);
          efio::forward(batch, to->tx());
          to->tx().flush();
        }
      }
    });
    carry();
    end = true;
    bridge.join();
    for (Port* port : {&one, &two}) stats.push_back(port->stats());
  }

  void carry() {
    Fd listener = right.b.run([] {
      Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(5001), .sin_addr = {}, .sin_zero = {}};
      const timeval patience{.tv_sec = 20, .tv_usec = 0};
      ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
      ::listen(socket.get(), 1);
      return socket;
    });
    std::thread sender([&] {
      left.a.run([] {
        const Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const timeval patience{.tv_sec = 20, .tv_usec = 0};
        ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(5001), .sin_addr = {}, .sin_zero = {}};
        ::inet_pton(AF_INET, "10.1.0.2", &address.sin_addr);
        if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return;
        std::vector<std::uint32_t> data(bytes / 4);
        for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::uint32_t>(i * 2654435761U);
        for (std::size_t sent = 0; sent < bytes;) {
          const auto n = ::send(socket.get(), reinterpret_cast<const char*>(data.data()) + sent, bytes - sent, MSG_NOSIGNAL);
          if (n <= 0) return;
          sent += static_cast<std::size_t>(n);
        }
      });
    });
    const Fd peer(::accept(listener.get(), nullptr, nullptr));
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(peer.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    std::vector<std::uint32_t> data(bytes / 4 + 1);
    while (received < bytes) {
      const auto n = ::recv(peer.get(), reinterpret_cast<char*>(data.data()) + received, bytes - received, 0);
      if (n <= 0) break;
      received += static_cast<std::size_t>(n);
    }
    sender.join();
    intact = received == bytes;
    for (std::size_t i = 0; i < bytes / 4 && intact; ++i) intact = data[i] == static_cast<std::uint32_t>(i * 2654435761U);
  }

  VethPair left, right;
  std::size_t received = 0, longest = 0;
  bool intact = false;
  std::vector<efio::PortStats> stats;
};

TEST_F(PacketOffload, TcpSegmentsOf64KiBPassBothWays) {
  const TcpThroughABridge run("&offload=on");
  EXPECT_EQ(run.received, run.bytes);
  EXPECT_TRUE(run.intact);
  EXPECT_GT(run.longest, 32'000U) << "the kernel never made a large segment";
  for (const auto& [rx, tx] : run.stats) {
    EXPECT_EQ(rx.dropped[static_cast<std::size_t>(DropReason::oversize)], 0U);
    EXPECT_EQ(tx.total_dropped(), 0U);
    EXPECT_EQ(rx.received, rx.delivered + rx.waiting + rx.total_dropped());
  }
}

// Kernels that hand over frames as a wire takes them: only their checksums are pending.
TEST_F(PacketOffload, TcpPassesWithoutOffloadWhereNothingIsSegmented) {
  const TcpThroughABridge run("", false);
  EXPECT_EQ(run.received, run.bytes);
  EXPECT_TRUE(run.intact);
  EXPECT_EQ(run.longest, 1514U);
  for (const auto& [rx, tx] : run.stats) EXPECT_EQ(rx.dropped[static_cast<std::size_t>(DropReason::oversize)], 0U);
}

}  // namespace
