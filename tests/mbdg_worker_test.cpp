// The bridge's thread over pipes: every frame where it belongs, in order, and counters that add up.
#include "tools/mbdg/worker.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <thread>

#include "efnet/wire/address.h"
#include "tests/support/privilege.h"
#include "tools/mbdg/conservation.h"

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
  Bridged(std::size_t ports, Options options, std::optional<efnet::SwitchOptions> bridging = {}, int ring = 1024,
          efio::mbdg::Dumper* dumper = nullptr)
      : options_(std::move(options)) {
    static int number = 0;
    if (bridging) {
      auto made = Switch::create(*bridging);
      EXPECT_TRUE(made) << made.error().message();
      bridge_.emplace(std::move(*made));
    }
    worker_ = std::make_unique<Worker>(options_, bridge_ ? &*bridge_ : nullptr, dumper);
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

// received + made + copied = sent + pending + waiting + consumed + dropped, over all ports of the bridge.
void expect_conserved(Bridged& bridged) {
  efio::mbdg::Conservation sum;
  sum.copied = bridged.worker().copied();
  for (auto& end : bridged.ends) sum.add(end.stats());
  for (const auto* gates : {&bridged.worker().wiring().ingates, &bridged.worker().wiring().outgates})
    for (const auto& pipeline : *gates)
      if (pipeline) sum.add(*pipeline);
  EXPECT_EQ(sum.in(), sum.out());
}

std::uint64_t count_of(const efio::DropCounts& dropped, DropReason reason) {
  return dropped[static_cast<std::size_t>(reason)];
}

TEST(MbdgWire, EveryFrameBothWaysInOrder) {
  Bridged bridged(2, waits());
  bridged.start();
  const std::uint32_t frames = efio::test::is_long_run() ? 10'000'000 : 500'000;
  std::array<std::uint32_t, 2> sent{}, received{};
  const auto end = std::chrono::steady_clock::now() + 600s;
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
  const std::uint32_t frames = efio::test::is_long_run() ? 10'000'000 : 100'000;
  for (std::uint32_t sequence = 1; sequence <= frames; ++sequence) {
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

// --- rates, counts, plugins, the dump: one thread, step by step ---

// Two stations that are known: 1 behind port 0, 2 behind port 1.
void introduce(Bridged& bridged) {
  for (std::size_t host = 0; host < 2; ++host) {
    ASSERT_TRUE(bridged.send(host, broadcast, 0x0200'0000'0001 + host, 0));
    bridged.hosts[host].tx().flush();
  }
  while (bridged.worker().round() > 0) {
  }
  for (auto& host : bridged.hosts) host.rx().receive(64).finish();
}

void send_all(Bridged& bridged, std::uint32_t frames, std::uint64_t to = 0x0200'0000'0002) {
  for (std::uint32_t i = 1; i <= frames; ++i) ASSERT_TRUE(bridged.send(0, to, 0x0200'0000'0001, i));
  bridged.hosts[0].tx().flush();
  while (bridged.worker().round() > 0) {
  }
}

struct OddOnes final : efnet::Plugin {
  std::string_view name() const noexcept override { return "odd"; }
  void ingate(efnet::PacketBatch& packets, efnet::Gate&) noexcept override { look(packets); }
  void outgate(efnet::PacketBatch& packets, efnet::Gate& gate) noexcept override {
    look(packets);
    if (auto bytes = gate.make(60); !bytes.empty()) std::memset(bytes.data(), 1, bytes.size());
  }
  // Of the numbered: drops every second, and takes for itself every fifth of the others.
  static void look(efnet::PacketBatch& packets) {
    for (const auto i : packets) {
      Content content;
      std::memcpy(&content, packets.bytes(i).data() + 14, sizeof content);
      if (content.sequence == 0) continue;
      if (content.sequence % 2 == 0) packets.drop(i, DropReason::filtered);
      else if (content.sequence % 5 == 0) packets.consume(i);
    }
  }
};

// Drops what other plugins make.
struct Censor final : efnet::Plugin {
  std::string_view name() const noexcept override { return "censor"; }
  void outgate(efnet::PacketBatch& packets, efnet::Gate&) noexcept override {
    for (const auto i : packets)
      if (packets.bytes(i)[0] == std::byte{1}) packets.drop(i, DropReason::refused);
  }
};

efnet::SwitchOptions plain_switch(std::size_t ports) {
  return {.ports = std::vector<SwitchPortOptions>(ports)};
}

void keep_to_the_rate(std::optional<efnet::SwitchOptions> bridging, bool with_gates, Options options, std::uint64_t to) {
  Bridged bridged(bridging ? 3 : 2, std::move(options), bridging, 4096);
  introduce(bridged);
  auto policer = efio::mbdg::Policer::create(*efio::tools::Rate::parse("1000"));
  ASSERT_TRUE(policer);
  bridged.worker().wiring().rates[1] = &*policer;
  if (with_gates) {
    auto& gates = bridged.worker().wiring().outgates[1];
    gates = std::make_unique<efnet::Pipeline>(&bridged.ends[1].tx());
    ASSERT_TRUE(gates->add("count"));
  }
  const auto before = bridged.ends[1].stats().tx;
  const auto start = std::chrono::steady_clock::now();
  send_all(bridged, 1000, to);
  const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const auto after = bridged.ends[1].stats().tx;
  const auto sent = after.sent - before.sent, dropped = count_of(after.dropped, DropReason::rate_limit);
  EXPECT_EQ(sent + dropped, 1000U);
  EXPECT_GE(sent, 100U);  // a burst of a tenth of a second
  EXPECT_LE(static_cast<double>(sent), 101 + 1000 * elapsed);
  if (bridging) {
    EXPECT_EQ(bridged.ends[2].stats().tx.sent, to == broadcast ? 1002U : 2U);
  }
  expect_conserved(bridged);
}

TEST(MbdgRate, AWireKeepsToIt) { keep_to_the_rate({}, false, drops(), 2); }
TEST(MbdgRate, AWireWithPluginsKeepsToIt) { keep_to_the_rate({}, true, drops(), 2); }
TEST(MbdgRate, ASwitchKeepsToIt) { keep_to_the_rate(plain_switch(3), false, drops(), 0x0200'0000'0002); }
TEST(MbdgRate, ASwitchThatWaitsKeepsToIt) { keep_to_the_rate(plain_switch(3), false, waits(), 0x0200'0000'0002); }
TEST(MbdgRate, ASwitchWithPluginsKeepsToIt) { keep_to_the_rate(plain_switch(3), true, drops(), 0x0200'0000'0002); }
TEST(MbdgRate, FloodedFramesKeepToIt) { keep_to_the_rate(plain_switch(3), false, drops(), broadcast); }
TEST(MbdgRate, FloodedFramesKeepToItBehindPlugins) { keep_to_the_rate(plain_switch(3), true, waits(), broadcast); }

TEST(MbdgRate, BitsCountTheFcs) {
  auto policer = efio::mbdg::Policer::create(*efio::tools::Rate::parse("10Gbit"));
  ASSERT_TRUE(policer);
  int frames = 0;
  while (policer->take(1246, 1s)) ++frames;  // 10,000 bits
  EXPECT_EQ(frames, 100'000);
}

TEST(MbdgCount, SoManyComeInAndNoMore) {
  for (const bool is_wire : {true, false}) {
    Bridged bridged(2, waits(), is_wire ? std::nullopt : std::optional(plain_switch(2)));
    int spent = 0;
    efio::mbdg::Budget budget(150, [&] { ++spent; });
    bridged.worker().set_budget(&budget);
    send_all(bridged, 100);
    EXPECT_EQ(spent, 0);
    send_all(bridged, 100);
    EXPECT_EQ(spent, 1);
    EXPECT_TRUE(budget.is_spent());
    EXPECT_EQ(bridged.ends[0].stats().rx.delivered, 150U);
    EXPECT_EQ(bridged.ends[1].stats().tx.sent, 150U);
    expect_conserved(bridged);
  }
}

TEST(MbdgGates, OutgatesOfASwitchDropTakeAndMake) {
  Bridged bridged(3, drops(), plain_switch(3));
  introduce(bridged);
  auto& gates = bridged.worker().wiring().outgates[1];
  gates = std::make_unique<efnet::Pipeline>(&bridged.ends[1].tx());
  gates->add(std::make_shared<OddOnes>());
  send_all(bridged, 100);  // in two batches, of which the second leaves room for what the plugin makes
  auto stats = bridged.ends[1].stats().tx;
  EXPECT_EQ(count_of(stats.dropped, DropReason::filtered), 50U);
  EXPECT_EQ(stats.made, 1U);
  EXPECT_EQ(stats.sent, 1 + 40 + 1U);  // and what introduced them
  expect_conserved(bridged);

  send_all(bridged, 10, broadcast);  // port 2 has no plugin
  EXPECT_EQ(bridged.ends[2].stats().tx.sent, 2 + 10U);
  EXPECT_EQ(bridged.ends[1].stats().tx.sent, stats.sent + 4 + bridged.ends[1].stats().tx.made - stats.made);
  expect_conserved(bridged);

  // What one plugin makes and another drops is made and dropped; it does not count as made at the port.
  gates = std::make_unique<efnet::Pipeline>(&bridged.ends[1].tx());
  gates->add(std::make_shared<Censor>());
  gates->add(std::make_shared<OddOnes>());
  const auto before = bridged.ends[1].stats().tx;
  send_all(bridged, 100);
  stats = bridged.ends[1].stats().tx;
  EXPECT_EQ(count_of(stats.dropped, DropReason::refused), 1U);
  EXPECT_EQ(stats.made, before.made);
  EXPECT_EQ(gates->made(), 0U);
  EXPECT_EQ(gates->stats()[1].made, 1U);
}

TEST(MbdgGates, WhatIngatesTakeIsConsumed) {
  for (const bool is_wire : {true, false}) {
    Bridged bridged(is_wire ? 2 : 3, drops(), is_wire ? std::nullopt : std::optional(plain_switch(3)));
    introduce(bridged);
    auto& wiring = bridged.worker().wiring();
    for (auto* gates : {&wiring.ingates[0], &wiring.outgates[0]}) {
      *gates = std::make_unique<efnet::Pipeline>(&bridged.ends[0].tx());
      (*gates)->add(std::make_shared<OddOnes>());
    }
    send_all(bridged, 100);
    EXPECT_EQ(count_of(bridged.ends[0].stats().rx.dropped, DropReason::filtered), 50U);
    EXPECT_EQ(bridged.ends[1].stats().tx.sent, 1 + 40U);
    const auto plugin = wiring.ingates[0]->stats().front();
    EXPECT_EQ(plugin.in.taken, 10U);
    expect_conserved(bridged);
  }
}

// Keeps every third of the numbered, and hands them on inwards: behind the batch they go where the others went.
struct Holds final : efnet::Plugin {
  std::string_view name() const noexcept override { return "holds"; }
  void ingate(efnet::PacketBatch& packets, efnet::Gate& gate) noexcept override {
    for (const auto i : packets) {
      Content content;
      std::memcpy(&content, packets.bytes(i).data() + 14, sizeof content);
      if (content.sequence % 3 != 0 || content.sequence == 0) continue;
      auto frame = packets.take(i);
      if (frame) gate.release_inwards(*frame);
    }
  }
};

TEST(MbdgGates, WhatIngatesHandOnInwardsGoesOn) {
  for (const bool is_wire : {true, false})
    for (const std::uint64_t to : {std::uint64_t{0x0200'0000'0002}, broadcast, std::uint64_t{0x0200'0000'0001}}) {
      Bridged bridged(is_wire ? 2 : 3, drops(), is_wire ? std::nullopt : std::optional(plain_switch(3)));
      introduce(bridged);
      auto& wiring = bridged.worker().wiring();
      wiring.ingates[0] = std::make_unique<efnet::Pipeline>(&bridged.ends[0].tx());
      wiring.ingates[0]->add(std::make_shared<Holds>());
      wiring.outgates[1] = std::make_unique<efnet::Pipeline>(&bridged.ends[1].tx());
      ASSERT_TRUE(wiring.outgates[1]->add("count:"));
      send_all(bridged, 99, to);
      EXPECT_EQ(wiring.ingates[0]->stats().front().released, 33U);
      const bool goes_back = !is_wire && to == 0x0200'0000'0001;  // to who sent it
      EXPECT_EQ(bridged.ends[1].stats().tx.sent, 1 + (goes_back ? 0U : 99U));
      EXPECT_EQ(wiring.outgates[1]->stats().front().out.passed, goes_back ? 0U : 99U);
      if (!is_wire && to == broadcast) {
        EXPECT_EQ(bridged.ends[2].stats().tx.sent, 2 + 99U);
      }
      if (goes_back) {
        EXPECT_EQ(count_of(bridged.ends[0].stats().tx.dropped, DropReason::filtered), 33U);
      }
      expect_conserved(bridged);
    }
}

// The dump of dropped frames has those of plugins and of rates, each with its reason.
TEST(MbdgDump, HasWhatWasDroppedAndWhy) {
  const auto path = testing::TempDir() + "efio_mbdg_worker_test.pcapng";
  for (const bool is_wire : {true, false}) {
    Options options = drops();
    options.dump = path;
    options.dump_what = efio::mbdg::Dump::dropped;
    for (const char* name : {"zero", "one", "two"}) options.ports.push_back({.uri = name, .where = {}});
    auto dumper = efio::mbdg::Dumper::create(options);
    ASSERT_TRUE(dumper) << dumper.error().message();
    {
      Bridged bridged(is_wire ? 2 : 3, options, is_wire ? std::nullopt : std::optional(plain_switch(3)), 1024, dumper->get());
      introduce(bridged);
      auto& wiring = bridged.worker().wiring();
      wiring.ingates[0] = std::make_unique<efnet::Pipeline>(&bridged.ends[0].tx());
      wiring.ingates[0]->add(std::make_shared<OddOnes>());
      wiring.outgates[1] = std::make_unique<efnet::Pipeline>(&bridged.ends[1].tx());
      ASSERT_TRUE(wiring.outgates[1]->add("limit:1?burst=7&key=all&gate=out"));
      auto policer = efio::mbdg::Policer::create(*efio::tools::Rate::parse("10"));
      ASSERT_TRUE(policer);
      for (int i = 0; i < 1; ++i) policer->take(60, efnet::Time(efio::Clock::monotonic()));  // its burst
      wiring.rates[1] = &*policer;
      send_all(bridged, 100);
      EXPECT_EQ(bridged.ends[1].stats().tx.sent, 1U);
      expect_conserved(bridged);
    }
    ASSERT_TRUE((*dumper)->close());
    EXPECT_EQ((*dumper)->frames(), 50 + 33 + 7U);  // by the plugin at port 0, by the one at port 1, by its rate
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    const auto times = [&](std::string_view word) {
      std::size_t count = 0;
      for (std::size_t at = 0; (at = bytes.find(word, at)) != std::string::npos; ++at) ++count;
      return count;
    };
    EXPECT_EQ(times("filtered"), 50U);
    EXPECT_EQ(times("rate_limit"), 40U);
  }
  std::remove(path.c_str());
}

}  // namespace
