#include "efnet/plugins/ready.h"

#include "efnet/plugins/arp.h"
#include "efnet/plugins/count.h"
#include "efnet/plugins/filter.h"
#include "efnet/plugins/icmp_echo.h"
#include "efnet/plugins/limit.h"
#include "efnet/plugins/mirror.h"
#include "efnet/plugins/nat44.h"
#include "efnet/plugins/vlan.h"

namespace efnet {
namespace {

template <class Kind>
efio::Result<std::unique_ptr<Plugin>> create(std::string_view arguments) {
  return Kind::parse(arguments);
}

constexpr ReadyPlugin plugins[] = {
    {"arp", "ADDRESS/LENGTH?mac=MAC[&gateway=ADDRESS&vlan=ID&probe=on]",
     "answers and asks ARP, and completes outgoing frames", create<ArpPlugin>},
    {"count", "", "counts frames and bytes, each way", create<CountPlugin>},
    {"filter", "EXPRESSION[?gate=both|in|out]", "passes what a libpcap expression matches", create<FilterPlugin>},
    {"icmp_echo", "ADDRESS[,ADDRESS…]", "answers echo requests to IPv4 and IPv6 addresses", create<IcmpEchoPlugin>},
    {"limit", "RATE[?burst=N&key=source|destination|flow|all&gate=both|in|out&keys=N]",
     "passes each key's frames, or bits, up to a rate", create<LimitPlugin>},
    {"mirror", "[in@|out@]PORT", "copies every frame to another port", create<MirrorPlugin>},
    {"nat44", "inside|outside[@NAME][?pool=RANGE[:PORTS],…&hosts=PREFIX,…&filtering=…&sessions=N]",
     "one half of a NAT44 between two ports", create<Nat44Plugin>},
    {"vlan", "ID[?priority=0-7&tpid=802.1q|802.1ad]", "one VLAN of a port: strips its tag, and puts it on",
     create<VlanPlugin>},
};

}  // namespace

std::span<const ReadyPlugin> ready_plugins() noexcept { return plugins; }

}  // namespace efnet
