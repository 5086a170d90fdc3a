// A run of mbdg over pipes: SIGHUP with changes, and a loop.
#include "tools/mbdg/run.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <thread>

#include "efnet/wire/address.h"

using efio::Port;
using efio::mbdg::Options;
using efio::mbdg::Run;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t broadcast = 0xFFFF'FFFF'FFFF;

Port open_host(const std::string& name) {
  auto port = Port::open("pipe:" + name + "/a?ring=4096");
  EXPECT_TRUE(port) << port.error().message();
  return std::move(*port);
}

std::string port_text(const std::string& name, const std::string& more = {}) {
  return "[[port]]\nuri = \"pipe:" + name + "/b?ring=4096\"\n" + more + "\n";
}

void send(Port& host, std::uint64_t to, std::uint64_t from, std::uint32_t number) {
  std::array<std::byte, 60> frame{};
  efnet::MacAddress::from_number(to).store(frame.data());
  efnet::MacAddress::from_number(from).store(frame.data() + 6);
  std::memcpy(frame.data() + 14, &number, sizeof number);
  while (!host.tx().send(frame)) host.tx().flush();
  host.tx().flush();
}

template <class Condition>
bool wait_for(Condition condition) {
  for (const auto end = std::chrono::steady_clock::now() + 20s; !condition(); std::this_thread::sleep_for(1ms))
    if (std::chrono::steady_clock::now() > end) return false;
  return true;
}

// mbdg with this file, in a thread; what it says is kept.
class Running {
 public:
  explicit Running(const std::string& text) {
    write(text);
    auto options = read();
    EXPECT_TRUE(options) << options.error().message();
    testing::internal::CaptureStderr();
    options->say_ready = true;
    run_ = std::make_unique<Run>(std::move(*options), [this] { return read(); });
    const auto ready = run_->prepare();
    EXPECT_TRUE(ready) << ready.error().message();
    thread_ = std::jthread([this] { run_->perform(); });
    // Its handlers are there when it says so; the output is still being kept, so look at them.
    EXPECT_TRUE(wait_for([] {
      struct sigaction action{};
      ::sigaction(SIGHUP, nullptr, &action);
      return action.sa_handler != SIG_DFL;
    }));
  }
  ~Running() {
    std::remove(path_.c_str());
    if (thread_.joinable()) stop();
  }

  void write(const std::string& text) { std::ofstream(path_) << text; }
  // SIGHUP with another file, and until it has been taken in, or refused.
  bool change(const std::string& text) { return hang_up(text, &Run::reloads); }
  bool refuse(const std::string& text) { return hang_up(text, &Run::refusals); }
  efio::tools::Json stop() {
    ::kill(::getpid(), SIGINT);
    thread_.join();
    said = testing::internal::GetCapturedStderr();
    return run_->json();
  }

  std::string said;

 private:
  bool hang_up(const std::string& text, std::uint64_t (Run::*count)() const noexcept) {
    const auto before = (*run_.*count)();
    write(text);
    ::kill(::getpid(), SIGHUP);
    return wait_for([&] { return (*run_.*count)() != before; });
  }
  efio::Result<Options> read() {
    const char* const words[] = {"mbdg", "--config", path_.c_str()};
    auto options = efio::mbdg::parse_options(std::size(words), words);
    if (!options) return std::unexpected(options.error());
    return **options;
  }

  std::string path_ = testing::TempDir() + "efio_mbdg_run_test.toml";
  std::unique_ptr<Run> run_;
  std::jthread thread_;
};

void expect_conserved(const efio::tools::Json& json) {
  const auto& sum = json["conservation"];
  const auto of = [&](const char* key) { return sum[key].get<std::uint64_t>(); };
  EXPECT_EQ(of("received") + of("made") + of("copied"),
            of("sent") + of("pending") + of("waiting") + of("consumed") + of("dropped"))
      << sum.dump();
}

// A numbered flow from port to port, while others come and go around it: as a wire, and as a switch.
TEST(MbdgReload, PortsThatStayLoseNothing) {
  auto a = open_host("reload-a"), b = open_host("reload-b"), c = open_host("reload-c");
  const auto two = "full = \"wait\"\n" + port_text("reload-a") + port_text("reload-b");
  const auto three = two + port_text("reload-c");
  const auto limited = "full = \"wait\"\n" + port_text("reload-a", "storm = 100000\nfilter = \"not udp\"") +
                       port_text("reload-c", "isolate = true") + port_text("reload-b", "static = [\"02:00:00:00:00:02\"]");
  Running mbdg(two);

  std::atomic<bool> done{false}, all_here{false};
  std::uint32_t sent = 0, wrong = 0;
  std::atomic<std::uint32_t> received{0}, at_c{0};
  std::jthread sender([&] {
    while (!done) {
      // Never more than the rings hold: with plugins, frames wait 10 ms at most for one that is full.
      while (sent - received > 1024) std::this_thread::yield();
      for (int i = 0; i < 32; ++i) {
        ++sent;
        send(a, sent % 64 == 0 ? broadcast : 0x0200'0000'0002, 0x0200'0000'0001, sent);
      }
      std::this_thread::sleep_for(50us);
    }
  });
  const auto receive = [&] {
    auto batch = b.rx().receive(64);
    for (const auto& slot : batch) {
      std::uint32_t number;
      std::memcpy(&number, slot.bytes().data() + 14, sizeof number);
      wrong += number != ++received ? 1 : 0;
    }
    batch.finish();
    at_c += static_cast<std::uint32_t>(c.rx().receive(64).finish());
  };
  std::jthread receiver([&] {
    while (!all_here) receive();
  });

  const auto flow_goes_on = [&] {
    const auto before = at_c.load();
    return wait_for([&] { return at_c > before; });
  };
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(mbdg.change(three));
    EXPECT_TRUE(flow_goes_on());  // the third port gets the broadcasts
    ASSERT_TRUE(mbdg.change(limited));
    EXPECT_TRUE(flow_goes_on());
    ASSERT_TRUE(mbdg.change(two));
  }
  ASSERT_TRUE(mbdg.refuse(three + "[[port]]\nuri = \"pipe:reload-d\"\nvlna = 10\n"));
  ASSERT_TRUE(mbdg.change(three));  // nothing of the wrong file is in the way

  done = true;
  sender.join();
  EXPECT_TRUE(wait_for([&] { return received == sent; }));
  all_here = true;
  receiver.join();
  const auto json = mbdg.stop();
  EXPECT_EQ(received, sent);
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(json["reloads"]["taken"], 10);
  EXPECT_EQ(json["mode"], "switch");
  EXPECT_EQ(json["ports"].size(), 6U);  // the third one four times, three of them removed
  expect_conserved(json);
  EXPECT_NE(mbdg.said.find("efio_mbdg_run_test.toml:13: there is no key vlna; is vlan meant?"), std::string::npos) << mbdg.said;
}

TEST(MbdgReload, WhatCannotChangeIsRefused) {
  auto a = open_host("fixed-a"), b = open_host("fixed-b");
  const auto ports = port_text("fixed-a") + port_text("fixed-b");
  Running mbdg(ports);
  for (const char* text : {"cpu = [0]\n", "table-size = 1000\n", "count = 5\n", "dump = \"x.pcapng\"\n"})
    EXPECT_TRUE(mbdg.refuse(text + ports));
  EXPECT_TRUE(mbdg.refuse(ports + port_text("fixed-c", "filter = \"not a filter\"")));
  EXPECT_TRUE(mbdg.refuse(ports + "[[port]]\nuri = \"packet:no-such-device\"\n"));
  EXPECT_TRUE(mbdg.change("batch = 16\nageing = 10\nspin = true\n" + port_text("fixed-b", "rate = 1000") + port_text("fixed-a")));
  const auto json = mbdg.stop();
  EXPECT_EQ(json["reloads"]["taken"], 1);
  EXPECT_EQ(json["reloads"]["refused"], 6);
  EXPECT_EQ(json["ports"].size(), 2U);
  EXPECT_EQ(json["mode"], "wire");
  for (const char* text : {"cpu cannot change", "table-size cannot change", "count cannot change", "dump cannot change",
                           "efio_mbdg_run_test.toml:9: plugin filter:not a filter", "toml:8: open packet:no-such-device"})
    EXPECT_NE(mbdg.said.find(text), std::string::npos) << text << " in " << mbdg.said;
}

// Two ports joined to each other: what is flooded comes back, for ever. The limit bounds it, and the loop is named.
TEST(MbdgLoop, IsNamedAndBounded) {
  auto host = open_host("loop-host");
  const std::string limit = "storm = 100\n";
  Running mbdg(port_text("loop-host", limit) + "[[port]]\nuri = \"pipe:loop/a\"\n" + limit + "[[port]]\nuri = \"pipe:loop/b\"\n" + limit);
  send(host, broadcast, 0x0200'0000'0001, 1);
  const auto start = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(1300ms);
  const auto json = mbdg.stop();
  const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  EXPECT_GE(json["table"]["loops_suspected"].get<int>(), 1);
  EXPECT_NE(mbdg.said.find("is there a loop? 02:00:00:00:00:01 moved"), std::string::npos) << mbdg.said;
  EXPECT_NE(mbdg.said.find("(pipe:loop/"), std::string::npos) << mbdg.said;
  std::uint64_t received = 0, limited = 0;
  for (const std::size_t port : {1, 2}) {
    const auto& rx = json["ports"][port]["rx"];
    received += rx["received"].get<std::uint64_t>();
    limited += rx["dropped"].value("rate_limit", std::uint64_t{0});
  }
  EXPECT_GT(received, 20U);
  EXPECT_GT(limited, 0U);
  // Each of the two may flood 10 at once and 100 a second, and each flooded frame comes in once more.
  EXPECT_LT(static_cast<double>(received), 2 + 2 * (11 + 100 * elapsed));
  expect_conserved(json);
}

TEST(MbdgScreen, ShowsDropsByReason) {
  efio::mbdg::BridgePort port;
  port.settings.uri = "packet:eth0";
  port.is_open = true;
  efio::PortStats before, now;
  now.rx.delivered = 2'000'000;
  now.rx.bytes = 120'000'000;
  now.rx.dropped[static_cast<std::size_t>(efio::DropReason::filtered)] = 1000;
  now.tx.dropped[static_cast<std::size_t>(efio::DropReason::filtered)] = 234;
  now.tx.dropped[static_cast<std::size_t>(efio::DropReason::rate_limit)] = 5;
  EXPECT_EQ(efio::mbdg::live_line(3, port, now, before, 2.0),
            " 3 packet:eth0              in    1.000 M/s    480.0 Mbit/s  out    0.000 M/s      0.0 Mbit/s  "
            "dropped 1,239 (filtered 1,234, rate_limit 5)");
  EXPECT_EQ(efio::tools::dropped_line({}), "dropped 0");
}

}  // namespace
