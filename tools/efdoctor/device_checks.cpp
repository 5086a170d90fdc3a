#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "tools/efdoctor/checks.h"

namespace efio::doctor {

namespace {

using tools::cpu_list_text;

void add(Findings& findings, const DeviceFacts& device, Severity severity, std::string seen, std::string why,
         std::string todo = {}, std::vector<Change> changes = {}) {
  findings.push_back(
      {{}, severity, device.answers.name, std::move(seen), std::move(why), std::move(todo), std::move(changes)});
}

bool contains(const auto& list, const auto& value) { return std::ranges::find(list, value) != std::ranges::end(list); }

// What moves frames between programs of one machine: nothing cuts or completes them on the way.
bool is_local(const DeviceAnswers& a) { return a.driver == "veth" || a.driver == "tun"; }

void link(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& a = device.answers;
  if (!a.up)
    add(findings, device, Severity::problem, "the interface is down", "no frame passes",
        fmt::format("`ip link set {} up`", a.name));
  else if (!a.carrier)
    add(findings, device, Severity::problem, "no carrier",
        "no frame passes; opening a port waits for the link (up=) and then fails",
        "cable, transceiver, the peer's port; for a veth: its other end");
}

void speed(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& mode = device.answers.link;
  if (!mode || !device.answers.carrier || device.answers.driver == "veth") return;
  if (mode->duplex == "half")
    add(findings, device, Severity::problem, "half duplex",
        "sending and receiving take turns, collisions destroy frames",
        "let both ends negotiate: `ethtool -s DEVICE autoneg on`");
  if (mode->speed > 0 && mode->speed < mode->speed_most)
    add(findings, device, Severity::warning,
        fmt::format("the link runs at {} of {} Mbit/s", mode->speed, mode->speed_most),
        fmt::format("at most {:.2f} million frames of 60 bytes a second", mode->speed / 672.0),
        "the peer's speed, cable and transceiver; `ethtool DEVICE` lists what each end offers");
}

void pcie(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& lanes = device.pcie;
  const auto& mode = device.answers.link;
  if (!lanes || lanes->speed <= 0 || lanes->width == 0) return;
  const double now = PcieLink::gigabits(lanes->speed, lanes->width);
  const double most = PcieLink::gigabits(lanes->speed_most, lanes->width_most);
  const double needed = mode ? std::max(mode->speed, mode->speed_most) / 1000.0 : 0;
  // Headers of transactions and descriptors take a fifth and more on top of the frames.
  const bool short_of = now < 1.2 * needed;
  if (!short_of && now >= most) return;
  add(findings, device, short_of ? Severity::problem : Severity::note,
      fmt::format("PCIe: {} GT/s x{} of {} GT/s x{}: {:.0f} Gbit/s", lanes->speed, lanes->width, lanes->speed_most,
                  lanes->width_most, now),
      short_of ? fmt::format("the card's {:.0f} Gbit/s do not fit through: it drops (rx_missed) at rates that the "
                             "processor could take",
                             needed)
               : "enough for this card's link; less than it could have",
      now < most ? "seat the card, choose a slot with all its lanes, look into the firmware's settings"
                 : "a slot with more lanes, a faster board");
}

void numa(const DeviceFacts& device, const HostFacts& facts, const Wishes& wishes, Findings& findings) {
  std::set<int> nodes;
  for (const auto& [cpu, node] : facts.node_of) nodes.insert(node);
  if (device.node < 0 || nodes.size() < 2) return;
  std::vector<int> near, far;
  for (const auto& [cpu, node] : facts.node_of)
    if (node == device.node) near.push_back(cpu);
  for (const int cpu : wishes.cpus)
    if (!contains(near, cpu)) far.push_back(cpu);
  std::ranges::sort(far);
  const auto where = fmt::format("the device is at node {}, whose processors are {}", device.node, cpu_list_text(near));
  if (!far.empty())
    add(findings, device, Severity::warning, fmt::format("{}; chosen are also {}", where, cpu_list_text(far)),
        "each frame crosses the link between the sockets: a fifth to a half of the rate is lost",
        fmt::format("--cpu of {}", cpu_list_text(near)));
  else if (wishes.cpus.empty())
    add(findings, device, Severity::note, where,
        "programs on other nodes lose a fifth to a half of the rate; --cpu checks a choice", "");
}

void interrupts(const DeviceFacts& device, const HostFacts& facts, const Wishes& wishes, Findings& findings) {
  if (device.interrupts.size() < 2 || facts.online.size() < 2) return;
  std::vector<int> near;
  for (const int cpu : facts.online) {
    const auto node = facts.node_of.find(cpu);
    if (device.node < 0 || node == facts.node_of.end() || node->second == device.node) near.push_back(cpu);
  }
  std::set<int> used;
  std::vector<const QueueInterrupt*> far;
  for (const auto& interrupt : device.interrupts) {
    used.insert(interrupt.cpus.begin(), interrupt.cpus.end());
    if (!near.empty() && std::ranges::none_of(interrupt.cpus, [&](int cpu) { return contains(near, cpu); }))
      far.push_back(&interrupt);
  }
  // Where they belong: near the device, and not where the program is, if that leaves any.
  auto places = near;
  std::erase_if(places, [&](int cpu) { return contains(wishes.cpus, cpu); });
  if (places.empty()) places = near;
  const bool heap = used.size() == 1 && places.size() > 1;
  if (places.empty() || (!heap && far.empty())) return;
  std::vector<Change> changes;
  std::size_t next = 0;
  for (const auto& interrupt : device.interrupts) {
    const auto place = std::to_string(places[next++ % places.size()]);
    if (!heap && !contains(far, &interrupt)) continue;
    if (!interrupt.affinity_text.empty() && tools::trimmed(interrupt.affinity_text) != place)
      changes.push_back({Change::Kind::file,
                         fmt::format("/proc/irq/{}/smp_affinity_list", interrupt.number),
                         {},
                         interrupt.affinity_text,
                         place + "\n"});
  }
  add(findings, device, Severity::warning,
      heap ? fmt::format("all {} queues interrupt processor {}", device.interrupts.size(), *used.begin())
           : fmt::format("{} of {} queues interrupt processors of another node than the device's", far.size(),
                         device.interrupts.size()),
      heap ? "one processor does the work of all queues: the others' capacity is not used"
           : "each frame's descriptor is read across the link between the sockets",
      fmt::format("bind them to {}; with irqbalance off", cpu_list_text(places)), std::move(changes));
}

void interrupts_here(const DeviceFacts& device, const HostFacts&, const Wishes& wishes, Findings& findings) {
  std::set<int> shared;
  for (const auto& interrupt : device.interrupts)
    for (const int cpu : interrupt.cpus)
      if (interrupt.cpus.size() == 1 && contains(wishes.cpus, cpu)) shared.insert(cpu);
  if (shared.empty()) return;
  add(findings, device, Severity::note,
      fmt::format("queues interrupt the chosen processors {}", cpu_list_text({shared.begin(), shared.end()})),
      "the kernel's part and the program share a processor: better for one flow and for latency, worse at the highest "
      "rates",
      "measure both ways");
}

void queues(const DeviceFacts& device, const HostFacts& facts, const Wishes& wishes, Findings& findings) {
  const auto& channels = device.answers.channels;
  if (!channels) return;
  const auto now = channels->rx + channels->combined;
  const auto most = std::max(channels->combined_most, channels->rx_most);
  const auto wanted = wishes.cpus.empty() ? 1 : wishes.cpus.size();
  const auto how = fmt::format("`ethtool -L {} {} {}`", device.answers.name,
                               channels->combined_most > 0 ? "combined" : "rx", std::min<std::size_t>(most, wanted));
  if (now < wanted && now < most)
    add(findings, device, Severity::warning,
        fmt::format("{} receive queue(s) of {} for {} chosen processors", now, most, wanted),
        "a queue is one thread's: the other threads receive nothing", how);
  else if (wishes.cpus.empty() && now == 1 && most > 1 && facts.online.size() > 1)
    add(findings, device, Severity::note, fmt::format("1 receive queue of {}", most),
        "one processor takes all that comes in", "");
}

void spread(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& table = device.answers.spread;
  const auto& channels = device.answers.channels;
  if (!table || !channels || table->table.empty()) return;
  const std::set<std::uint32_t> reached(table->table.begin(), table->table.end());
  const auto queues = channels->rx + channels->combined;
  if (reached.size() < std::min<std::size_t>(queues, table->table.size()))
    add(findings, device, Severity::warning, fmt::format("RSS fills {} of {} queues", reached.size(), queues),
        "the other queues, and the processors that serve them, get no frames",
        fmt::format("`ethtool -X {} equal {}`", device.answers.name, queues));
  const auto& key = table->key;
  if (queues > 1 && !key.empty() && key.find_first_not_of('0') == std::string::npos)
    add(findings, device, Severity::problem, "the RSS key is all zero",
        "every flow has the same hash: one queue gets all",
        fmt::format("`ethtool -X {} default`", device.answers.name));
}

// A ring ought to hold what comes at line rate, in the smallest frames, while a thread is away for so long.
constexpr double away_us = 100;

void rings(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& ring = device.answers.rings;
  const auto& mode = device.answers.link;
  if (!ring || ring->rx == 0 || !mode) return;
  const double rate =
      std::max(mode->speed, mode->speed_most) / 672.0;  // frames a us: 60 bytes with FCS, preamble and gap
  const double lasts = rate > 0 ? ring->rx / rate : away_us;
  if (lasts >= away_us || ring->rx >= ring->rx_most) return;
  std::uint32_t better = ring->rx;
  while (better < ring->rx_most && better / rate < away_us) better *= 2;
  better = std::min(better, ring->rx_most);
  add(findings, device, Severity::warning,
      fmt::format("the receive ring has {} slots of {} possible", ring->rx, ring->rx_most),
      fmt::format("at line rate it is full after {:.0f} us: whoever is away for longer loses frames", lasts),
      fmt::format("`ethtool -G {} rx {}` (the link may be reset)", device.answers.name, better),
      {{Change::Kind::ring, device.answers.name, "rx", std::to_string(ring->rx), std::to_string(better)}});
}

void coalescing(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  constexpr std::uint32_t long_us = 50;
  const auto& wait = device.answers.coalescing;
  if (!wait || wait->adaptive_rx || wait->rx_us < long_us) return;
  const bool few = wait->rx_frames == 1;
  if (few) return;  // an interrupt each, whatever the time
  add(findings, device, Severity::warning, fmt::format("an interrupt may wait {} us for more frames", wait->rx_us),
      fmt::format("latency is up to {} us more, and a ring must hold what comes meanwhile", wait->rx_us),
      fmt::format("`ethtool -C {} rx-usecs 10`, or adaptive-rx on", device.answers.name));
}

void pause(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& flow = device.answers.pause;
  if (!flow || (!flow->rx && !flow->tx)) return;
  add(findings, device, Severity::warning,
      fmt::format("flow control is on ({})", flow->rx && flow->tx ? "both ways"
                                             : flow->rx           ? "obeys pause frames"
                                                                  : "sends pause frames"),
      "a slow receiver stops its sender, and all behind the same switch, instead of losing frames: rates measured are "
      "not the sender's own",
      fmt::format("`ethtool -A {} autoneg off rx off tx off` (the link is reset)", device.answers.name));
}

// Switches off those features that are on and can be.
std::vector<Change> off(const DeviceAnswers& answers, const std::vector<std::string>& features) {
  std::vector<Change> changes;
  for (const auto& name : features)
    if (!answers.features.at(name).fixed) changes.push_back({Change::Kind::feature, answers.name, name, "on", "off"});
  return changes;
}

std::vector<std::string> active(const DeviceAnswers& answers, std::initializer_list<std::string_view> beginnings) {
  std::vector<std::string> names;
  for (const auto& [name, feature] : answers.features)
    if (feature.on &&
        std::ranges::any_of(beginnings, [&](std::string_view beginning) { return name.starts_with(beginning); }))
      names.push_back(name);
  return names;
}

std::string switches(const DeviceAnswers& answers, const std::vector<std::string>& features) {
  std::string command = "`ethtool -K " + answers.name;
  for (const auto& name : features) command += " " + name + " off";
  return command + "`";
}

void merging(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& a = device.answers;
  const auto on = active(a, {"rx-gro", "rx-lro", "rx-udp-gro"});
  if (on.empty() || a.loopback) return;
  add(findings, device, Severity::warning, fmt::format("received frames are merged ({})", fmt::join(on, ", ")),
      "packet: and what is forwarded see frames of up to 64 KiB that nobody sent; they do not fit a frame's memory and "
      "are dropped. "
      "Native XDP comes before GRO, not before LRO",
      switches(a, on), off(a, on));
}

void cutting(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& a = device.answers;
  if (!is_local(a)) return;
  const auto on =
      active(a, {"tx-tcp", "tx-udp", "tx-generic-segmentation", "tx-gso-", "tx-gre-", "tx-ipxip", "tx-sctp"});
  if (!on.empty())
    add(findings, device, Severity::warning,
        fmt::format("what the host's stack sends here is not cut ({})", fmt::join(on, ", ")),
        "the program at the other end receives TCP in frames of up to 64 KiB, which are dropped", switches(a, on),
        off(a, on));
}

void checksums(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& a = device.answers;
  if (!is_local(a)) return;
  const auto on = active(a, {"tx-checksum-"});
  if (!on.empty())
    add(findings, device, Severity::warning,
        fmt::format("what the host's stack sends here has no checksum yet ({})", fmt::join(on, ", ")),
        "an XDP program at the other end, and whom it forwards to, see wrong checksums and drop TCP and UDP",
        switches(a, on), off(a, on));
}

void vlan(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& a = device.answers;
  if (const auto on = active(a, {"rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"}); !on.empty() && !a.loopback)
    add(findings, device, Severity::warning,
        fmt::format("VLAN tags are taken out of received frames ({})", fmt::join(on, ", ")),
        "an XDP program sees the frame without its tag; packet: puts it back, frame by frame", switches(a, on),
        off(a, on));
  if (const auto on = active(a, {"tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"}); !on.empty() && is_local(a))
    add(findings, device, Severity::warning,
        fmt::format("VLAN tags of what the host's stack sends here stay beside the frame ({})", fmt::join(on, ", ")),
        "an XDP program at the other end sees the frame without its tag", switches(a, on), off(a, on));
}

void frame_size(const DeviceFacts& device, const HostFacts&, const Wishes& wishes, Findings& findings) {
  const auto& a = device.answers;
  constexpr unsigned ethernet = 14;
  if (wishes.frame > a.mtu + ethernet && !a.loopback)
    add(findings, device, Severity::problem, fmt::format("frames of {} bytes, MTU {}", wishes.frame, a.mtu),
        "they are refused when sent, and dropped by most cards when received",
        fmt::format("`ip link set {} mtu {}`, at both ends", a.name, wishes.frame - ethernet));
  // A page, less 256 bytes of headroom and 320 for skb_shared_info, less Ethernet with two tags.
  constexpr unsigned most = 4096 - 256 - 320 - ethernet - 8;
  if (a.mtu > most && !a.loopback && (!a.xdp || (a.xdp->native && !a.xdp->multi_buffer)))
    add(findings, device, Severity::warning, fmt::format("MTU {}", a.mtu),
        fmt::format("above {} native XDP needs drivers and programs with multi-buffer support: others refuse, xdp: "
                    "falls back to generic",
                    most),
        fmt::format("`ip link set {} mtu {}`, if no larger frames are expected", a.name, most));
}

void driver(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& a = device.answers;
  if (a.bus.empty()) return;
  add(findings, device, Severity::note,
      fmt::format("driver {}{}{}, at {}", a.driver, a.driver_version.empty() ? "" : " " + a.driver_version,
                  a.firmware.empty() || a.firmware == "N/A" ? "" : ", firmware " + a.firmware, a.bus),
      "what a figure was measured with belongs beside it", "");
}

void xdp(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& a = device.answers;
  if (a.loopback) return;
  if (!a.xdp) {
    add(findings, device, Severity::note, "the kernel does not tell what the driver has of XDP",
        "Linux 6.3 and later do; `xdp:` tries, and says what it got", "");
  } else if (!a.xdp->native) {
    add(findings, device, Severity::warning, "the driver has no XDP of its own",
        "xdp: works in generic mode, behind the kernel's own handling of each frame: a fraction of the rate of native "
        "mode",
        "another card, or packet:");
  } else {
    add(findings, device, Severity::note,
        fmt::format("XDP: native, {}, {}, {}", a.xdp->zero_copy ? "zero-copy" : "copied to programs",
                    a.xdp->multi_buffer ? "multi-buffer" : "one buffer a frame",
                    a.xdp->hardware_time ? "tells hardware time" : "no hardware time"),
        a.xdp->zero_copy ? "xdp: gets the best that there is" : "xdp: copies each frame once", "");
  }
}

void program(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& attached = device.answers.program;
  if (!attached || attached->id == 0 || !device.holder) return;
  const auto what = fmt::format("XDP program {} ({})", attached->id, attached->mode);
  if (!device.holder->process.empty())
    return add(findings, device, Severity::note, fmt::format("{} of process {}", what, device.holder->process),
               "it runs for every frame that comes in; another program's xdp: port cannot be opened here", "");
  if (!device.holder->all_seen)
    return add(findings, device, Severity::note, what + "; whose, only root can see",
               "it runs for every frame that comes in", "");
  add(findings, device, Severity::warning, what + ", and no process holds it",
      "left by a program that was killed, or pinned: it runs for every frame, and slows all that follow",
      fmt::format("`ip link set {} {} off`, if nobody wants it", device.answers.name,
                  attached->mode == "generic" ? "xdpgeneric" : "xdp"));
}

void drops(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& c = device.answers.counts;
  constexpr double noticeable = 1e-5;
  const auto lost = std::max(c.rx_dropped, c.rx_fifo) + c.rx_errors;  // drivers may count an overrun in both
  if (lost == 0 || static_cast<double>(lost) < noticeable * static_cast<double>(c.rx_packets)) return;
  add(findings, device, Severity::warning,
      fmt::format("of {} frames received {} were dropped, {} overran, {} were damaged", c.rx_packets, c.rx_dropped,
                  c.rx_fifo, c.rx_errors),
      c.rx_errors > std::max(c.rx_dropped, c.rx_fifo)
          ? "a cable or a transceiver damages frames"
          : "they came faster than rings were emptied, since the device was made; nothing behind it could see them",
      fmt::format("`ethtool -S {}` names the place; larger rings, more queues, a processor of their own",
                  device.answers.name));
}

void queue_length(const DeviceFacts& device, const HostFacts&, const Wishes&, Findings& findings) {
  const auto& a = device.answers;
  constexpr std::uint32_t usual = 1000;  // of Ethernet devices: DEFAULT_TX_QUEUE_LEN, include/net/pkt_sched.h
  if (a.driver != "tun" || a.tx_queue_length >= usual) return;
  add(findings, device, Severity::warning,
      fmt::format("{} frames wait at most for the program behind this TAP", a.tx_queue_length),
      "a burst of the host's that is longer is dropped before the program sees it",
      fmt::format("`ip link set {} txqueuelen {}`", a.name, usual),
      {{Change::Kind::tx_queue_length, a.name, {}, std::to_string(a.tx_queue_length), std::to_string(usual)}});
}

constexpr DeviceCheck all[] = {
    {"link-down", link},
    {"link-speed", speed},
    {"pcie", pcie},
    {"numa-node", numa},
    {"irq-affinity", interrupts},
    {"irq-on-program-cpu", interrupts_here},
    {"queues", queues},
    {"rss", spread},
    {"rx-ring", rings},
    {"coalescing", coalescing},
    {"flow-control", pause},
    {"offload-merge", merging},
    {"offload-segment", cutting},
    {"offload-checksum", checksums},
    {"offload-vlan", vlan},
    {"frame-size", frame_size},
    {"driver", driver},
    {"xdp-support", xdp},
    {"xdp-program", program},
    {"device-drops", drops},
    {"tx-queue-length", queue_length},
};

void look(const DeviceCheck& check, const DeviceFacts& device, const HostFacts& facts, const Wishes& wishes,
          Findings& findings) {
  const auto before = findings.size();
  check.look(device, facts, wishes, findings);
  for (auto i = before; i < findings.size(); ++i) findings[i].id = check.id;
}

}  // namespace

std::span<const DeviceCheck> device_checks() noexcept { return all; }

bool is_check(std::string_view id) noexcept {
  return std::ranges::any_of(host_checks(), [&](const HostCheck& check) { return check.id == id; }) ||
         std::ranges::any_of(all, [&](const DeviceCheck& check) { return check.id == id; });
}

Findings check_device(const DeviceFacts& device, const HostFacts& facts, const Wishes& wishes) {
  Findings findings;
  for (const auto& check : all) look(check, device, facts, wishes, findings);
  return findings;
}

Findings check_bystander(const DeviceFacts& device, const HostFacts& facts, const Wishes& wishes) {
  Findings findings;
  look({"xdp-program", program}, device, facts, wishes, findings);
  return findings;
}

}  // namespace efio::doctor
