// A host in user space: answers ARP and ping for an address, over any port.   host PORT ADDRESS/LENGTH
// Without arguments it speaks to itself over a pipe: a second host pings it, by way of ARP, and waits for the answer.
#include <cstdio>
#include <vector>

#include "efio/poller.h"
#include "efnet/plugins/arp.h"
#include "efnet/plugins/icmp_echo.h"
#include "efnet/plugins/pipeline.h"
#include "efnet/wire/checksum.h"

using namespace efnet;
using namespace std::chrono_literals;

namespace {
struct Host {
  static efio::Result<Host> open(const char* uri, const Ipv4Prefix& address, MacAddress mac) {
    auto port = efio::Port::open(uri);
    if (!port) return std::unexpected(port.error());
    auto arp = ArpPlugin::create({.locals = {{.prefix = address, .mac = mac}}});
    if (!arp) return std::unexpected(arp.error());
    Pipeline pipeline(&port->tx());
    pipeline.add(std::move(*arp));
    pipeline.add(std::make_shared<IcmpEchoPlugin>(std::vector{address.address}, std::vector<Ipv6Address>()));
    return Host{std::move(*port), std::move(pipeline)};
  }

  // One round; returns how many frames neither plugin wanted.
  std::size_t round() {
    const Time now(efio::Clock::monotonic());
    auto batch = port.rx().receive(PacketBatch::capacity);
    RxPackets packets(batch);
    pipeline.ingate(packets, now);
    const std::size_t rest = packets.count();
    packets.finish();
    pipeline.tick(now);
    port.tx().flush();
    return rest;
  }

  // An echo request whose destination MAC the arp plugin is to find.
  void ping(Ipv4Address from, Ipv4Address to) {
    auto batch = port.tx().claim(8);  // one for us, the others for what plugins make
    batch[0].length = 60;
    auto left = batch[0].bytes();
    left = left.subspan(EthernetHeader{}.emit(left));
    left =
        left.subspan(Ipv4Header{.src = from, .dst = to, .protocol = IpProtocol::icmp, .payload_length = 26}.emit(left));
    IcmpHeader::echo(IcmpType::echo_request, 1, 1).emit(left);
    fill_frame(batch[0].bytes());
    TxPackets packets(batch, 1);
    pipeline.outgate(packets, Time(efio::Clock::monotonic()));
    packets.commit();
    port.tx().flush();
  }

  efio::Port port;
  Pipeline pipeline;
};
}  // namespace

int main(int argc, char** argv) {
  const auto address = Ipv4Prefix::parse(argc == 3 ? argv[2] : "10.0.0.2/24");
  if (!address || (argc != 1 && argc != 3)) return std::puts("usage: host PORT ADDRESS/LENGTH"), 2;
  auto host = Host::open(argc == 3 ? argv[1] : "pipe:lan", *address, {2, 0, 0, 0, 0, 2});
  if (!host) return std::puts(host.error().message().c_str()), 3;
  if (argc == 3) {
    auto poller = efio::Poller::create();
    if (!poller || !poller->add(host->port.rx())) return 3;
    while (host->port.rx().status()) poller->wait(100ms), host->round();
    return 3;
  }
  auto other = Host::open("pipe:lan", {{10, 0, 0, 1}, 24}, {2, 0, 0, 0, 0, 1});
  if (other) other->ping({10, 0, 0, 1}, {10, 0, 0, 2});
  for (int i = 0; other && i < 100; ++i)
    if (host->round(); other->round() == 1) return std::puts("10.0.0.2 answered"), 0;
  return std::puts("no answer"), 1;
}
