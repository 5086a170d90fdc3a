// The bridge's thread over pipes: every frame where it belongs, in order, and counters that add up.
#include "tools/mbdg/worker.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <thread>

#include "efnet/wire/address.h"

using efio::DropReason;
using efio::Port;
using efio::mbdg::Options;
using efio::mbdg::WhenFull;
using efio::mbdg::Worker;
using efnet::MacAddress;
using efnet::Switch;
using efnet::SwitchPortOptions;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t broadcast = 0xFFFF'FFFF'FFFF;

Port open_pipe(const std::string& uri) {
  auto port = Port::open(uri);
  EXPECT_TRUE(port) << port.error().message();
  return std::move(*port);
}

// What a test frame says of itself, behind its addresses and type.
struct Content {
  std::uint32_t from;
  std::uint32_t sequence;
};

// A bridge in a thread of its own, and a host at the far end of each of its ports.
class Bridged {
 public:
  Bridged(std::size_t ports, Options options, std::optional<efnet::SwitchOptions> bridging = {}, int ring = 1024)
      : options_(std::move(options)) {
    static int number = 0;
    if (bridging) {
      auto made = Switch::create(*bridging);
      EXPECT_TRUE(made) << made.error().message();
      bridge_.emplace(std::move(*made));
    }
    worker_ = std::make_unique<Worker>(options_, bridge_ ? &*bridge_ : nullptr, nullptr);
    auto& wiring = worker_->wiring();
    wiring.ingates.resize(ports);
    wiring.outgates.resize(ports);
    for (std::size_t i = 0; i < ports; ++i) {
      const auto uri = "pipe:mbdg-test-" + std::to_string(number++) + "?ring=" + std::to_string(ring);
      hosts.push_back(open_pipe(uri));
      ends.push_back(open_pipe(uri));
    }
    for (std::size_t i = 0; i < ports; ++i) {
      wiring.sources.push_back({&ends[i].rx(), static_cast<std::uint16_t>(i), nullptr});
      wiring.exits.push_back(&ends[i].tx());
    }
  }
  ~Bridged() { stop(); }

  Worker& worker() { return *worker_; }
  Switch& bridge() { return *bridge_; }
  void start() {
    thread_ = std::jthread([this] {
      const auto ok = worker_->run();
      EXPECT_TRUE(ok) << ok.error().message();
    });
  }
  void stop() {
    worker_->stop();
    if (thread_.joinable()) thread_.join();
  }

  bool send(std::size_t host, std::uint64_t to, std::uint64_t from, std::uint32_t sequence, std::size_t length = 60) {
    std::array<std::byte, 1514> frame{};
    MacAddress::from_number(to).store(frame.data());
    MacAddress::from_number(from).store(frame.data() + 6);
    frame[12] = std::byte{8};
    const Content content{static_cast<std::uint32_t>(host), sequence};
    std::memcpy(frame.data() + 14, &content, sizeof content);
    if (!hosts[host].tx().send({frame.data(), length})) {
      hosts[host].tx().flush();
      return false;
    }
    return true;
  }

  std::vector<Port> hosts, ends;

 private:
  Options options_;
  std::optional<Switch> bridge_;
  std::unique_ptr<Worker> worker_;
  std::jthread thread_;
};

Options drops() {
  Options options;
  options.when_full = WhenFull::drop;
  return options;
}
Options waits() {
  Options options;
  options.when_full = WhenFull::wait;
  return options;
}

// received + copied + made = sent + pending + dropped by reason, over all ports of the bridge.
void expect_conserved(Bridged& bridged) {
  std::uint64_t in = bridged.worker().copied(), out = 0;
  for (auto& end : bridged.ends) {
    const auto stats = end.stats();
    in += stats.rx.received + stats.rx.made + stats.tx.made;
    out += stats.rx.waiting + stats.rx.total_dropped() + stats.tx.sent + stats.tx.pending + stats.tx.total_dropped();
  }
  EXPECT_EQ(in, out);
}

TEST(MbdgWire, EveryFrameBothWaysInOrder) {
  Bridged bridged(2, waits());
  bridged.start();
  constexpr std::uint32_t frames = 500'000;
  std::array<std::uint32_t, 2> sent{}, received{};
  const auto end = std::chrono::steady_clock::now() + 60s;
  while (received[0] + received[1] < 2 * frames && std::chrono::steady_clock::now() < end) {
    for (std::size_t host = 0; host < 2; ++host) {
      for (int i = 0; i < 32 && sent[host] < frames; ++i, ++sent[host])
        if (!bridged.send(host, 2, 1, sent[host], 60 + sent[host] % 1400)) break;
      bridged.hosts[host].tx().flush();
      auto batch = bridged.hosts[host].rx().receive(64);
      for (const auto& slot : batch) {
        Content content;
        std::memcpy(&content, slot.bytes().data() + 14, sizeof content);
        ASSERT_EQ(content.from, 1 - host);
        ASSERT_EQ(content.sequence, received[host]++);
        ASSERT_EQ(slot.length, 60 + content.sequence % 1400);
      }
      batch.finish();
    }
  }
  bridged.stop();
  EXPECT_EQ(received[0], frames);
  EXPECT_EQ(received[1], frames);
  expect_conserved(bridged);
}

TEST(MbdgWire, AFullPortDropsAndCountsThere) {
  Bridged bridged(2, drops(), {}, 128);
  bridged.start();
  std::uint32_t sent = 0;
  for (const auto end = std::chrono::steady_clock::now() + 20s; sent < 1000 && std::chrono::steady_clock::now() < end;) {
    sent += bridged.send(0, 2, 1, sent) ? 1 : 0;
    bridged.hosts[0].tx().flush();
  }
  ASSERT_EQ(sent, 1000U);
  for (const auto end = std::chrono::steady_clock::now() + 20s;
       bridged.ends[0].stats().rx.delivered < 1000 && std::chrono::steady_clock::now() < end;)
    std::this_thread::yield();
  bridged.stop();
  const auto stats = bridged.ends[1].stats().tx;
  EXPECT_EQ(bridged.ends[0].stats().rx.delivered, 1000U);
  EXPECT_GT(stats.dropped[static_cast<std::size_t>(DropReason::not_forwarded)], 700U);
  EXPECT_EQ(stats.offered, 1000U);
  expect_conserved(bridged);
}

// Hosts that speak at random to addresses that are known, and to all. Nobody gets what is not theirs, or twice.
void speak_at_random(Options options, bool lossless) {
  constexpr std::size_t ports = 5;
  Bridged bridged(ports, std::move(options), efnet::SwitchOptions{.ports = std::vector<SwitchPortOptions>(ports)}, 256);
  bridged.start();
  const auto address = [](std::size_t host, std::uint64_t station) {
    return 0x0200'0000'0000 + (std::uint64_t{host} << 8) + station;
  };
  std::map<std::pair<std::uint32_t, std::size_t>, std::vector<std::uint32_t>> expected, got;
  const auto receive = [&] {
    std::size_t n = 0;
    for (std::size_t host = 0; host < ports; ++host) {
      auto batch = bridged.hosts[host].rx().receive(64);
      for (const auto& slot : batch) {
        Content content;
        std::memcpy(&content, slot.bytes().data() + 14, sizeof content);
        if (content.sequence != 0) got[{content.from, host}].push_back(content.sequence);
      }
      n += batch.finish();
    }
    return n;
  };
  // Each station says once who it is.
  for (std::size_t host = 0; host < ports; ++host)
    for (std::uint64_t station = 0; station < 16; ++station) {
      while (!bridged.send(host, broadcast, address(host, station), 0)) receive();
      bridged.hosts[host].tx().flush();
    }
  // Until all that was sent has gone through the bridge, and all that left it is here.
  const auto settle = [&] {
    for (auto& host : bridged.hosts) host.tx().flush();
    const auto end = std::chrono::steady_clock::now() + 20s;
    std::uint64_t behind = 1;
    while (behind != 0 && std::chrono::steady_clock::now() < end) {
      receive();
      behind = 0;
      for (std::size_t i = 0; i < ports; ++i) {
        const auto host = bridged.hosts[i].stats(), inside = bridged.ends[i].stats();
        behind += host.tx.offered - inside.rx.delivered - inside.rx.total_dropped();
        behind += inside.tx.offered - inside.tx.total_dropped() - host.rx.delivered;
      }
      std::this_thread::yield();
    }
  };
  settle();
  EXPECT_EQ(bridged.bridge().table().size(std::chrono::nanoseconds(efio::Clock::monotonic())), ports * 16);

  std::mt19937_64 random(6);
  for (std::uint32_t sequence = 1; sequence <= 100'000; ++sequence) {
    const std::size_t from = random() % ports, to = random() % ports;
    const bool to_all = random() % 10 == 0;
    while (!bridged.send(from, to_all ? broadcast : address(to, random() % 16), address(from, random() % 16), sequence))
      receive();
    for (std::size_t host = 0; host < ports; ++host)
      if (host != from && (to_all || host == to)) expected[{static_cast<std::uint32_t>(from), host}].push_back(sequence);
    if (sequence % 32 == 0) {
      for (auto& host : bridged.hosts) host.tx().flush();
      if (sequence % (lossless ? 128 : 8192) == 0) receive();
    }
  }
  for (auto& host : bridged.hosts) host.tx().flush();
  settle();
  bridged.stop();
  receive();
  if (lossless) {
    EXPECT_EQ(got, expected);
  } else {
    std::uint64_t lost = 0;
    for (const auto& [way, sequences] : got) {
      const auto& all = expected[way];
      EXPECT_TRUE(std::ranges::includes(all, sequences)) << way.first << " to " << way.second;  // in order, and none twice
      EXPECT_EQ(std::ranges::adjacent_find(sequences), sequences.end());
      lost += all.size() - sequences.size();
    }
    std::uint64_t counted = 0;
    for (auto& end : bridged.ends) counted += end.stats().tx.total_dropped();
    EXPECT_EQ(lost, counted);
    EXPECT_GT(lost, 0U);
  }
  expect_conserved(bridged);
}

TEST(MbdgSwitch, WaitingLosesNothing) { speak_at_random(waits(), true); }
TEST(MbdgSwitch, WhatIsLostIsCounted) { speak_at_random(drops(), false); }

TEST(MbdgSwitch, TagsAreSetAndTakenAway) {
  using Tagging = SwitchPortOptions::Tagging;
  std::vector<SwitchPortOptions> ports(3);
  ports[0] = {.tagging = Tagging::access, .vlan = 10, .vlans = {}};
  ports[1] = {.tagging = Tagging::trunk, .vlans = {}};
  ports[1].vlans[10] = true;
  ports[2] = {.tagging = Tagging::access, .vlan = 10, .vlans = {}};
  Bridged bridged(3, waits(), efnet::SwitchOptions{.ports = ports});
  bridged.start();
  const auto one = [&](std::size_t host) {
    std::vector<std::byte> frame;
    for (const auto end = std::chrono::steady_clock::now() + 20s; frame.empty() && std::chrono::steady_clock::now() < end;) {
      auto batch = bridged.hosts[host].rx().receive(1);
      if (!batch.empty()) frame.assign(batch[0].bytes().begin(), batch[0].bytes().end());
      batch.finish();
    }
    return frame;
  };
  ASSERT_TRUE(bridged.send(0, broadcast, 0x0200'0000'0001, 5));
  bridged.hosts[0].tx().flush();
  const auto tagged = one(1), plain = one(2);
  ASSERT_EQ(tagged.size(), 64U);
  ASSERT_EQ(plain.size(), 60U);
  const std::array<std::byte, 4> tag{std::byte{0x81}, std::byte{0}, std::byte{0}, std::byte{10}};
  EXPECT_TRUE(std::equal(tag.begin(), tag.end(), tagged.begin() + 12));
  EXPECT_TRUE(std::equal(plain.begin(), plain.begin() + 12, tagged.begin()));
  EXPECT_TRUE(std::equal(plain.begin() + 12, plain.end(), tagged.begin() + 16));
  // And back: from the trunk to both, untagged.
  ASSERT_TRUE(bridged.hosts[1].tx().send(tagged));
  bridged.hosts[1].tx().flush();
  EXPECT_EQ(one(0), plain);
  EXPECT_EQ(one(2), plain);
  bridged.stop();
  EXPECT_EQ(bridged.worker().copied(), 2U);
  expect_conserved(bridged);
}

}  // namespace
