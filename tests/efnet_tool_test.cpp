#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>
#include <thread>

#include "efio/clock.h"
#include "tests/support/directory.h"
#include "tests/support/nat44.h"
#include "tools/common/unix_socket.h"
#include "tools/efnet/config.h"
#include "tools/efnet/control.h"
#include "tools/efnet/mapping_log.h"
#include "tools/efnet/run.h"

namespace {

using namespace efio::gate;
using namespace std::chrono_literals;
using efnet::Ipv4Address;
using testing::HasSubstr;

const std::string smallest = R"([inside]
port = "xdp:eth1"
address = "10.0.0.1/24"
[outside]
port = "xdp:eth0"
address = "198.51.100.2/24"
gateway = "198.51.100.1"
)";

std::string complaint(const std::string& text) {
  const auto config = parse_config(text, "g.toml");
  return config ? "" : config.error().message();
}
std::string complaint_with(const std::string& more) { return complaint(smallest + more); }
std::string with(std::string from, const std::string& to) {
  std::string text = smallest;
  return text.replace(text.find(from), from.size(), to);
}

TEST(GatewayConfig, TheSmallestFileIsEnough) {
  const auto config = parse_config(smallest, "g.toml");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->inside.uri, "xdp:eth1?ring=2048");
  EXPECT_EQ(to_string(config->gateway.inside.address), "10.0.0.1/24");
  EXPECT_EQ(config->gateway.gateway, Ipv4Address(198, 51, 100, 1));
  ASSERT_EQ(config->gateway.nat.pool.ranges.size(), 1U);  // the outside address itself
  EXPECT_EQ(to_string(config->gateway.nat.pool.ranges[0].addresses), "198.51.100.2");
  EXPECT_EQ(config->gateway.nat.timeouts[0].timeout, 300s);
}

TEST(GatewayConfig, EveryKeyArrives) {
  const auto config = parse_config(R"(
[inside]
port = "packet:a"
address = "10.0.0.1/24"
mac = "02:00:00:00:00:01"
mtu = 1400
vlan = 7
[outside]
port = "packet:b"
address = "198.51.100.2/24"
[nat]
pool = ["198.51.100.16-198.51.100.31:2048-4095", "198.51.100.2"]
inside = ["10.0.0.0/8"]
bypass = ["192.0.2.0/24"]
filtering = "address-dependent"
ports = "sequential"
preserve_port = true
preserve_parity = true
hold_down = "30s"
block_size = 512
blocks_each = 2
sessions = "1Mi"
sessions_each = 1000
mappings_each = 500
errors_per_second = 20
[nat.timeouts]
udp = "2min"
tcp_established = 10000
[[route]]
to = "10.9.0.0/16"
by = "10.0.0.9"
[[forward]]
protocol = "both"
outside = "198.51.100.2:8000-8001"
inside = "10.0.0.5:80-81"
[[pair]]
outside = "198.51.100.3"
inside = "10.0.0.6"
[[deterministic]]
inside = "10.0.1.0/24"
outside = "198.51.100.40-198.51.100.47"
[log]
file = "/var/log/efnet.jsonl"
rotate = "100Mi"
keep = 3
[arp]
entries = 1000
reachable = "20s"
waiting_each = 5
[run]
control = ""
cpu = "1"
spin = true
)",
                                   "g.toml");
  ASSERT_TRUE(config) << config.error().message();
  const auto& gateway = config->gateway;
  EXPECT_EQ(config->inside.mtu, 1400);
  EXPECT_EQ(gateway.inside.vlan, 7);
  EXPECT_EQ(gateway.nat.pool.ranges[0].ports, (efnet::PortRange{2048, 4095}));
  EXPECT_EQ(to_string(gateway.nat.pool.ranges[0].addresses), "198.51.100.16-198.51.100.31");
  EXPECT_EQ(gateway.nat.filtering, efnet::NatFiltering::address_dependent);
  EXPECT_TRUE(gateway.nat.pool.sequential && gateway.nat.preserve_port && gateway.nat.preserve_parity);
  EXPECT_EQ(gateway.nat.pool.hold_down, 30s);
  EXPECT_EQ(gateway.nat.pool.block_size, 512U);
  EXPECT_EQ(gateway.nat.sessions, 1U << 20);
  EXPECT_EQ(gateway.nat.timeouts[0].timeout, 120s);
  EXPECT_EQ(gateway.nat.timeouts[2].timeout, 10'000s);
  ASSERT_EQ(gateway.nat.forwards.size(), 4U);
  EXPECT_EQ(gateway.nat.forwards[1].outside_port, 8001);
  EXPECT_EQ(gateway.nat.forwards[1].inside_port, 81);
  EXPECT_EQ(gateway.nat.pairs[0].inside, Ipv4Address(10, 0, 0, 6));
  EXPECT_EQ(gateway.routes[0].gateway, Ipv4Address(10, 0, 0, 9));
  EXPECT_EQ(gateway.neighbours.waiting_each, 5U);
  EXPECT_EQ(to_string(gateway.nat.deterministic[0].outside), "198.51.100.40-198.51.100.47");
  EXPECT_EQ(config->log.file, "/var/log/efnet.jsonl");
  EXPECT_EQ(config->log.rotate, std::uint64_t{100} << 20);
  EXPECT_EQ(config->control, "");
  EXPECT_EQ(config->cpus, (std::vector<int>{1}));
}

TEST(GatewayConfig, MistakesAreToldWithTheirLineAndWhatWouldBeRight) {
  EXPECT_THAT(complaint("[inside]\n[outside]\n"), HasSubstr("g.toml:1: port is missing; port = \"packet:eth0\""));
  EXPECT_THAT(complaint(with("10.0.0.1/24", "10.0.0.1")),
              HasSubstr("g.toml:3: address is wrong: 10.0.0.1/32 is a subnet without any other host"));
  EXPECT_THAT(complaint(with("10.0.0.1/24", "10.0.0/24")), HasSubstr("g.toml:3: address is \"10.0.0/24\"; such as"));
  EXPECT_THAT(complaint(with("10.0.0.1/24", "10.0.0.0/24")), HasSubstr("g.toml:3: address is wrong"));
  EXPECT_THAT(complaint(with("10.0.0.1/24", "198.51.100.129/25")), HasSubstr("g.toml:6: address is wrong"));
  EXPECT_THAT(complaint(with("198.51.100.1\"", "10.0.0.9\"")), HasSubstr("g.toml:7: gateway is wrong"));
  EXPECT_THAT(complaint(with("xdp:eth0", "nosuch")), testing::IsEmpty());  // a device name
  EXPECT_THAT(complaint_with("[nat]\npool = [\"198.51.100.2:0\"]\n"), HasSubstr("g.toml:9: pool holds"));
  EXPECT_THAT(complaint_with("[nat]\npool = [\n\"198.51.100.9\",\n\"198.51.100.1\"]\n"),
              HasSubstr("g.toml:11: pool is wrong"));
  EXPECT_THAT(complaint_with("[nat]\nblock_size = 100\n"),
              HasSubstr("g.toml:9: block_size is 100; 0, or a power of two"));
  EXPECT_THAT(complaint_with("[nat]\nfilterin = 1\n"), HasSubstr("is filtering meant?"));
  EXPECT_THAT(complaint_with("[nat.timeouts]\nudp = \"fast\"\n"), HasSubstr("g.toml:9: udp is \"fast\", not a time"));
  EXPECT_THAT(complaint_with("[[route]]\nto = \"10.9.0.0/16\"\nby = \"10.7.0.1\"\n"),
              HasSubstr("g.toml:10: by is wrong"));
  EXPECT_THAT(complaint_with("[[forward]]\noutside = \"198.51.100.2\"\ninside = \"10.0.0.5:80\"\n"),
              HasSubstr("g.toml:9: outside is \"198.51.100.2\"; such as \"198.51.100.2:443\""));
  const std::string forward = "[[forward]]\noutside = \"198.51.100.2:80\"\ninside = \"10.0.0.5:80\"\n";
  EXPECT_THAT(complaint_with(forward + forward),
              HasSubstr("g.toml:12: outside has port 80, which is forwarded already"));
  EXPECT_THAT(complaint_with("[[forward]]\noutside = \"198.51.100.2:80-81\"\ninside = \"10.0.0.5:80\"\n"),
              HasSubstr("g.toml:10: inside has not the 2 ports"));
  EXPECT_THAT(complaint_with("[[pair]]\noutside = \"198.51.100.2\"\ninside = \"10.0.0.5\"\n"),
              HasSubstr("g.toml:9: outside is 198.51.100.2, which the pool lends"));
  EXPECT_THAT(complaint_with("[run]\ncpu = \"x\"\n"), HasSubstr("g.toml:9: cpu"));
  EXPECT_THAT(complaint(with("xdp:eth1", "packet:eth1?offload=on")), HasSubstr("g.toml:5: port has not offload=on"));
}

// Of each indented example that begins with a table [inside].
std::vector<std::string> examples(const std::string& page) {
  std::ifstream file(std::string(EFIO_SOURCE_DIR) + "/" + page);
  std::vector<std::string> all;
  bool within = false;
  for (std::string line; std::getline(file, line);) {
    const bool indented = line.starts_with("    ");
    if (line.starts_with("    [inside]")) all.emplace_back(), within = true;
    within &= indented || line.empty();
    if (within && indented) all.back() += line.substr(4) + "\n";
  }
  return all;
}

TEST(GatewayConfig, ExamplesInTheDocumentsAreRight) {
  for (const std::string page : {"README.md", "docs/gateway.md"}) {
    const auto found = examples(page);
    EXPECT_FALSE(found.empty()) << page;
    for (const auto& text : found) EXPECT_EQ(complaint(text), "") << page << ":\n" << text;
  }
}

TEST(MappingLog, TellsWhoHadAPortWhenAlsoInWhatWasRotatedAway) {
  const efio::test::Directory directory("mapping_log");
  const std::string file = directory.file("log");
  const auto start = static_cast<std::int64_t>(efio::Clock::now());
  const auto ahead = start - static_cast<std::int64_t>(efio::Clock::monotonic());
  const Ipv4Address outside(198, 51, 100, 2);
  efnet::NatEvent event{.kind = efnet::NatEvent::Kind::mapped, .protocol = efnet::IpProtocol::udp, .outside = outside};
  const auto at = [&](std::int64_t ms) { return efnet::Time(start + ms * 1'000'000 - ahead); };
  {
    auto log = MappingLog::open({.file = file, .rotate = 65'536, .keep = 20}).value();
    // Port 1000 is 10.0.0.1's for the first second, then that of 10.0.0.2; many others in between.
    const auto add = [&](efnet::NatEvent::Kind kind, Ipv4Address inside, std::uint16_t port, std::int64_t ms) {
      event.kind = kind, event.inside = inside, event.inside_port = 7, event.ports = {port, port}, event.at = at(ms);
      log->add(event);
    };
    add(efnet::NatEvent::Kind::mapped, Ipv4Address(10, 0, 0, 1), 1000, 0);
    for (std::uint16_t i = 0; i < 3000; ++i)
      add(efnet::NatEvent::Kind::mapped, Ipv4Address(10, 0, 0, 9), static_cast<std::uint16_t>(2000 + i), 500);
    add(efnet::NatEvent::Kind::unmapped, Ipv4Address(10, 0, 0, 1), 1000, 1000);
    add(efnet::NatEvent::Kind::mapped, Ipv4Address(10, 0, 0, 2), 1000, 2000);
    add(efnet::NatEvent::Kind::block_opened, Ipv4Address(10, 0, 0, 3), 9000, 3000);
  }
  EXPECT_TRUE(std::ifstream(file + ".1").good());
  const auto owner = [&](std::uint16_t port, std::int64_t ms) {
    const auto line = find_owner(file, efnet::IpProtocol::udp, outside, port, start + ms * 1'000'000).value();
    return line ? Json::parse(*line)["inside"].get<std::string>() : "";
  };
  EXPECT_EQ(owner(1000, -1), "");
  EXPECT_EQ(owner(1000, 700), "10.0.0.1:7");
  EXPECT_EQ(owner(1000, 1500), "");
  EXPECT_EQ(owner(1000, 9000), "10.0.0.2:7");
  EXPECT_EQ(owner(4999, 600), "10.0.0.9:7");
  EXPECT_EQ(owner(9000, 9000), "10.0.0.3");
  EXPECT_EQ(parse_instant("2026-11-25T10:00:00.25Z"), 1'795'600'800'250'000'000);
  EXPECT_EQ(parse_instant("1795600800"), 1'795'600'800'000'000'000);
  EXPECT_FALSE(parse_instant("yesterday"));
}

// ---- A gateway at work over pipes ----

class Asking {
 public:
  explicit Asking(const std::string& path) : socket_(efio::tools::connect_to(path, SOCK_STREAM).value()) {}
  // The lines up to the closing one.
  std::vector<Json> operator()(const std::string& request) {
    EXPECT_EQ(::send(socket_.get(), (request + "\n").data(), request.size() + 1, 0),
              static_cast<ssize_t>(request.size() + 1));
    std::vector<Json> lines;
    for (;;) {
      const auto end = pending_.find('\n');
      if (end == std::string::npos) {
        char part[4096];
        const auto n = ::recv(socket_.get(), part, sizeof part, 0);
        if (n <= 0) return lines;
        pending_.append(part, static_cast<std::size_t>(n));
        continue;
      }
      lines.push_back(Json::parse(pending_.substr(0, end)));
      pending_.erase(0, end + 1);
      if (lines.back().contains("done") || lines.back().contains("error")) return lines;
    }
  }

 private:
  efio::Fd socket_;
  std::string pending_;
};

class RunningGateway : public testing::Test {
 protected:
  // Runs while `meanwhile` speaks to it.
  void work(const std::function<void(Asking&)>& meanwhile) {
    const std::string file = directory_.file("g.toml"), control = directory_.file("control");
    std::ofstream(file) << R"(
[inside]
port = "pipe:tool_inside/a"
address = "10.0.0.1/24"
mac = "02:00:00:00:01:01"
[outside]
port = "pipe:tool_outside/a"
address = "198.51.100.2/24"
gateway = "198.51.100.1"
mac = "02:00:00:00:02:01"
[nat]
sessions = 20000
)" << "[run]\ncontrol = \""
                        << control << "\"\n";
    efio::gate::Run run({.file = file, .control = {}, .cpus = {}, .duration = 60s});
    const auto ready = run.prepare();
    ASSERT_TRUE(ready) << ready.error().message();
    auto inside = efio::Port::open("pipe:tool_inside/b").value();
    auto outside = efio::Port::open("pipe:tool_outside/b").value();
    inside_ = &inside, outside_ = &outside;
    {
      const std::jthread asking([&] {
        Asking ask(control);
        meanwhile(ask);
        ::kill(::getpid(), SIGTERM);  // ends the run, as it would the program's
      });
      run.perform();
    }
    EXPECT_FALSE(std::ifstream(control).good());
  }
  void send_inside(std::uint16_t port) {
    auto frame = nat_test::udp({nat_test::host, port}, {nat_test::server, 53});
    efnet::MacAddress(2, 0, 0, 0, 1, 1).store(frame.data());
    EXPECT_TRUE(inside_->tx().send(frame));
    inside_->tx().flush();
  }

  efio::test::Directory directory_{"efnet_tool"};
  efio::Port *inside_ = nullptr, *outside_ = nullptr;
};

TEST_F(RunningGateway, AnswersWhileItWorks) {
  work([&](Asking& ask) {
    for (std::uint16_t i = 0; i < 100; ++i) send_inside(static_cast<std::uint16_t>(1000 + i));
    std::vector<Json> sessions;
    for (int i = 0; i < 500 && sessions.size() != 101; ++i) sessions = ask(R"({"command":"show","what":"sessions"})");
    ASSERT_EQ(sessions.size(), 101U);
    EXPECT_EQ(sessions.back(), (Json{{"done", true}, {"rows", 100}}));
    EXPECT_EQ(sessions.front()["remote"], "203.0.113.5:53");
    EXPECT_EQ(ask(R"({"command":"show","what":"mappings","port":1007})").size(), 2U);
    EXPECT_EQ(ask(R"({"command":"show","what":"sessions","limit":3})").back()["rows"], 3);
    EXPECT_EQ(ask(R"({"command":"show","what":"sessions","inside":"10.0.0.9"})").back()["rows"], 0);
    const std::string outside = sessions.front()["outside"];
    const auto owner = ask(R"({"command":"explain","address":"198.51.100.2","port":)" + outside.substr(13) + "}");
    ASSERT_EQ(owner.size(), 2U);
    EXPECT_EQ(owner.front()["inside"], sessions.front()["inside"]);
    EXPECT_EQ(ask(R"({"command":"flush","inside":"10.0.0.7"})").front()["ended"], 100);
    EXPECT_EQ(ask(R"({"command":"drain"})").size(), 1U);
    EXPECT_EQ(ask(R"({"command":"show","what":"counters"})").front()["nat"]["inside"]["translated"], 100);
    for (const char* what : {"pool", "arp", "routes", "ports"})
      EXPECT_GT(ask(std::string(R"({"command":"show","what":")") + what + "\"}").size(), 1U) << what;
  });
}

TEST_F(RunningGateway, RefusesWithAReason) {
  work([&](Asking& ask) {
    for (const auto& [request, why] :
         {std::pair("nonsense", "no JSON object"), std::pair("[]", "no JSON object"),
          std::pair(R"({"command":"dance"})", "no command"), std::pair(R"({"command":7})", "no text"),
          std::pair(R"({"command":"show","what":"dogs"})", "dogs"),
          std::pair(R"({"command":"show","what":"sessions","inside":"x"})", "inside is"),
          std::pair(R"({"command":"show","what":"sessions","port":70000})", "port is"),
          std::pair(R"({"command":"show","what":"sessions","limit":-1})", "limit is"),
          std::pair(R"({"command":"explain","address":"x","port":1})", "which port"),
          std::pair(R"({"command":"arp_flush","address":"10.0.0.0/8"})", "prefix"),
          std::pair(R"({"command":"drain","on":"yes"})", "neither")}) {
      const auto lines = ask(request);
      ASSERT_EQ(lines.size(), 1U) << request;
      EXPECT_THAT(lines[0].value("error", ""), HasSubstr(why)) << request;
    }
  });
}

}  // namespace
