#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <set>

#include "tools/efdoctor/checks.h"

namespace efio::doctor {

namespace {

using tools::cpu_list_text;

constexpr double tenth = 0.1, percent = 0.01;

void add(Findings& findings, Severity severity, std::string seen, std::string why, std::string todo = {},
         std::vector<Change> changes = {}) {
  findings.push_back({{}, severity, "host", std::move(seen), std::move(why), std::move(todo), std::move(changes)});
}

Change file_change(const std::string& path, const std::string& before, const std::string& after) {
  return {Change::Kind::file, path, {}, before, after + "\n"};
}

bool contains(const auto& list, const auto& value) { return std::ranges::find(list, value) != std::ranges::end(list); }

// Those that the program is to run on, or all.
std::vector<int> used_cpus(const HostFacts& facts, const Wishes& wishes) {
  return wishes.cpus.empty() ? facts.online : wishes.cpus;
}

void allowed_cpus(const HostFacts& facts, const Wishes& wishes, Findings& findings) {
  std::vector<int> missing;
  for (const int cpu : wishes.cpus)
    if (!contains(facts.online, cpu) || (!facts.allowed.empty() && !contains(facts.allowed, cpu)))
      missing.push_back(cpu);
  std::ranges::sort(missing);
  if (!missing.empty())
    add(findings, Severity::problem,
        fmt::format("processors {} are not for this process; online {}, allowed {}", cpu_list_text(missing),
                    cpu_list_text(facts.online), cpu_list_text(facts.allowed)),
        "a thread cannot be bound to them: the program refuses its --cpu list",
        "choose others, or widen the cpuset (`taskset -p $$`, AllowedCPUs= of systemd, --cpuset-cpus of containers)");
}

void governor(const HostFacts& facts, const Wishes& wishes, Findings& findings) {
  const auto used = used_cpus(facts, wishes);
  std::map<std::pair<std::string, std::string>, std::vector<const FrequencyPolicy*>> slow;
  for (const auto& policy : facts.policies)
    if (policy.governor != "performance" &&
        std::ranges::any_of(policy.cpus, [&](int cpu) { return contains(used, cpu); }))
      slow[{policy.governor, policy.driver}].push_back(&policy);
  for (const auto& [kind, policies] : slow) {
    const auto& [governor, driver] = kind;
    // With these drivers "powersave" names a hint and the hardware still follows the load
    // (Documentation/admin-guide/pm/intel_pstate.rst, amd-pstate.rst); elsewhere it holds the lowest frequency.
    const bool adapts = driver == "intel_pstate" || driver == "amd-pstate-epp";
    const bool lowest = governor == "powersave" && !adapts;
    std::vector<int> cpus;
    std::vector<Change> changes;
    for (const auto* policy : policies) {
      cpus.insert(cpus.end(), policy->cpus.begin(), policy->cpus.end());
      if (contains(policy->governors, "performance"))
        changes.push_back(file_change(policy->path, policy->governor_text, "performance"));
    }
    std::ranges::sort(cpus);
    add(findings, lowest ? Severity::problem : Severity::warning,
        fmt::format("processors {}: governor {} ({})", cpu_list_text(cpus), governor, driver),
        lowest ? "they stay at their lowest frequency: half the packet rate of the highest, or less"
               : "the frequency follows the load, late: rates drift, and the first packets of a burst find a slow "
                 "processor",
        "`cpupower frequency-set -g performance`", std::move(changes));
  }
}

// Leaving a state that takes longer than this is felt: it is 30 frames of 60 bytes at 1 Gbit/s, 300 at 10.
constexpr std::uint64_t long_sleep_us = 20;

void idle_states(const HostFacts& facts, const Wishes& wishes, Findings& findings) {
  std::vector<int> cpus;
  std::vector<Change> changes;
  std::string deepest;
  std::uint64_t longest = 0;
  for (const int cpu : used_cpus(facts, wishes)) {
    const auto states = facts.idle.find(cpu);
    if (states == facts.idle.end()) continue;
    bool sleeps = false;
    for (const auto& state : states->second) {
      if (state.disabled || state.latency_us <= long_sleep_us) continue;
      sleeps = true;
      if (state.latency_us > longest) longest = state.latency_us, deepest = state.name;
      changes.push_back(file_change(state.path, state.disabled_text, "1"));
    }
    if (sleeps) cpus.push_back(cpu);
  }
  if (cpus.empty()) return;
  std::ranges::sort(cpus);
  add(findings, Severity::warning,
      fmt::format("processors {}: idle states down to {}, {} us to leave", cpu_list_text(cpus), deepest, longest),
      fmt::format("a program that waits is woken up to {} us late, and small rings overflow meanwhile; one that spins "
                  "is not hit",
                  longest),
      "disable the deep states, or hold /dev/cpu_dma_latency open with 0 while the program runs", std::move(changes));
}

void irqbalance(const HostFacts& facts, const Wishes&, Findings& findings) {
  if (facts.irqbalance.empty()) return;
  add(findings, Severity::warning, fmt::format("irqbalance runs (process {})", fmt::join(facts.irqbalance, ", ")),
      "every ten seconds it may move a queue's interrupt to another processor, also to the program's: rates jump",
      "`systemctl disable --now irqbalance`, before the driver is loaded and interrupts are bound; or "
      "IRQBALANCE_BANNED_CPULIST");
}

void smt(const HostFacts& facts, const Wishes& wishes, Findings& findings) {
  std::set<std::vector<int>> shared;
  std::size_t with_siblings = 0;
  for (const auto& [cpu, siblings] : facts.siblings) with_siblings += siblings.size() > 1;
  for (const int cpu : wishes.cpus) {
    const auto found = facts.siblings.find(cpu);
    if (found == facts.siblings.end()) continue;
    const auto chosen =
        std::ranges::count_if(found->second, [&](int sibling) { return contains(wishes.cpus, sibling); });
    if (chosen > 1) shared.insert(found->second);
  }
  for (const auto& core : shared)
    add(findings, Severity::warning,
        fmt::format("processors {} are threads of one core, and several of them are chosen", cpu_list_text(core)),
        "two threads that never sleep share one core's execution units: each gets little more than half",
        "choose one processor a core");
  if (shared.empty() && with_siblings > 0 && wishes.cpus.empty())
    add(findings, Severity::note,
        fmt::format("SMT is on: {} of {} processors share a core", with_siblings, facts.online.size()),
        "two busy threads on one core get little more than half each; --cpu checks a choice", "");
}

void isolation(const HostFacts& facts, const Wishes& wishes, Findings& findings) {
  if (wishes.cpus.empty()) return;
  std::vector<int> outside;
  for (const int cpu : wishes.cpus)
    if (!contains(facts.isolated, cpu)) outside.push_back(cpu);
  if (outside.empty()) return;
  std::ranges::sort(outside);
  const bool some = !facts.isolated.empty();
  add(findings, some ? Severity::warning : Severity::note,
      some ? fmt::format("processors {} are chosen, isolated are {}", cpu_list_text(outside),
                         cpu_list_text(facts.isolated))
           : "no processor is isolated",
      "other programs and the kernel's threads are scheduled there too: each time the program stands still for "
      "milliseconds",
      some ? "choose isolated ones" : "needs a reboot: isolcpus=LIST on the kernel's command line");
}

void ticks(const HostFacts& facts, const Wishes& wishes, Findings& findings) {
  if (wishes.cpus.empty() || facts.isolated.empty()) return;
  std::vector<int> ticking;
  for (const int cpu : wishes.cpus)
    if (contains(facts.isolated, cpu) && !contains(facts.tickless, cpu)) ticking.push_back(cpu);
  if (ticking.empty()) return;
  std::ranges::sort(ticking);
  add(findings, Severity::note, fmt::format("processors {} are isolated, but not in nohz_full", cpu_list_text(ticking)),
      "the timer interrupts them 100 to 1000 times a second, some microseconds each: under 1 % of rate, seen in "
      "latency",
      "needs a reboot: nohz_full=LIST rcu_nocbs=LIST on the kernel's command line");
}

void rt_throttling(const HostFacts& facts, const Wishes&, Findings& findings) {
  if (!facts.rt_runtime_us || !facts.rt_period_us || *facts.rt_runtime_us < 0 ||
      *facts.rt_runtime_us >= *facts.rt_period_us)
    return;
  const double rest = static_cast<double>(*facts.rt_period_us - *facts.rt_runtime_us) / 1000;
  add(findings, Severity::note,
      fmt::format("real-time threads may use {} of {} us", *facts.rt_runtime_us, *facts.rt_period_us),
      fmt::format(
          "a thread under SCHED_FIFO that spins is stopped for up to {:.0f} ms in each period; others are not hit",
          rest),
      "do not run a program that spins under SCHED_FIFO; `sysctl kernel.sched_rt_runtime_us=-1` lets it hang its "
      "processor");
}

void quota(const HostFacts& facts, const Wishes& wishes, Findings& findings) {
  const auto needed = std::max<std::size_t>(wishes.cpus.size(), 1);
  const Quota* tightest = nullptr;
  for (const auto& each : facts.quotas)
    if (tightest == nullptr || each.cpus < tightest->cpus) tightest = &each;
  if (tightest == nullptr || tightest->cpus >= static_cast<double>(std::max(needed, facts.online.size()))) return;
  add(findings, tightest->cpus < static_cast<double>(needed) ? Severity::problem : Severity::warning,
      fmt::format("control group {} may use {:.2f} processors' time", tightest->group, tightest->cpus),
      "threads that need more are stopped for the rest of each period (usually 100 ms): all that arrives then is lost",
      "raise cpu.max (`docker run --cpus`, CPUQuota= of systemd), or run fewer threads");
}

void softnet_drops(const HostFacts& facts, const Wishes&, Findings& findings) {
  std::uint64_t dropped = 0, lately = 0;
  std::vector<int> cpus;
  for (const auto& [cpu, row] : facts.softnet) {
    dropped += row.dropped;
    if (row.dropped > 0) cpus.push_back(cpu);
    if (const auto later = facts.softnet_later.find(cpu); later != facts.softnet_later.end())
      lately += static_cast<std::uint32_t>(later->second.dropped - row.dropped);
  }
  if (dropped == 0 && lately == 0) return;
  constexpr std::uint64_t ample = 10'000;
  std::vector<Change> changes;
  if (facts.backlog > 0 && facts.backlog < ample)
    changes.push_back(file_change("/proc/sys/net/core/netdev_max_backlog", facts.backlog_text, std::to_string(ample)));
  add(findings, Severity::warning,
      fmt::format("{} frames dropped since the start for want of room in the backlog of {} frames, {} of them just now "
                  "(processors {})",
                  dropped + lately, facts.backlog, lately, cpu_list_text(cpus)),
      "frames that cross from one device to another by the backlog (veth, bridges, RPS) were lost before any program "
      "saw them",
      changes.empty() ? "the processor is too slow for what arrives: spread the interrupts or the flows"
                      : fmt::format("`sysctl net.core.netdev_max_backlog={}`", ample),
      std::move(changes));
}

void softnet_squeezed(const HostFacts& facts, const Wishes&, Findings& findings) {
  constexpr std::uint32_t enough = 100;  // fewer say nothing
  if (facts.budget == 0) return;
  std::vector<int> cpus;
  for (const auto& [cpu, row] : facts.softnet) {
    // A round that ends for want of budget has handled that many frames.
    const double handled = static_cast<double>(row.squeezed) * static_cast<double>(facts.budget);
    if (row.squeezed >= enough && handled >= tenth * row.processed) cpus.push_back(cpu);
  }
  if (cpus.empty()) return;
  add(findings, Severity::warning,
      fmt::format("processors {}: at least a tenth of all frames came in rounds that ended with work left",
                  cpu_list_text(cpus)),
      fmt::format(
          "after {} frames a round is over and rings wait for the next: they overflow, though the processor has time",
          facts.budget),
      fmt::format("`sysctl net.core.netdev_budget={} net.core.netdev_budget_usecs=8000`", facts.budget * 2));
}

double share(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

void softirq_load(const HostFacts& facts, const Wishes&, Findings& findings) {
  for (const auto& [cpu, times] : facts.sample)
    if (const auto part = share(times.softirq, times.total()); part >= 0.5)
      add(findings, Severity::warning,
          fmt::format("processor {}: {:.0f} % of its time goes into soft interrupts", cpu, part * 100),
          "ksoftirqd takes over there and shares the processor with what runs on it: a program beside it loses that "
          "much",
          "keep the program off it (--cpu), or give the device more queues on more processors");
}

void steal(const HostFacts& facts, const Wishes&, Findings& findings) {
  std::string seen;
  for (const auto& [cpu, times] : facts.times) {
    const auto ever = share(times.steal, times.total());
    const auto sample = facts.sample.find(cpu);
    const auto now = sample == facts.sample.end() ? 0 : share(sample->second.steal, sample->second.total());
    if (ever >= percent || now >= 5 * percent)
      seen += fmt::format("{}processor {}: {:.1f} % since the start, {:.0f} % just now", seen.empty() ? "" : "; ", cpu,
                          ever * 100, now * 100);
  }
  if (seen.empty()) return;
  add(findings, Severity::warning, "the hypervisor gave its time to others: " + seen,
      "the whole virtual processor stands still for milliseconds: nothing inside can see or mend what is lost then",
      "ask for processors of its own (pinned, not overcommitted), or measure elsewhere");
}

void busy_cpus(const HostFacts& facts, const Wishes& wishes, Findings& findings) {
  for (const int cpu : wishes.cpus) {
    const auto sample = facts.sample.find(cpu);
    if (sample == facts.sample.end()) continue;
    const auto busy = share(sample->second.busy(), sample->second.total());
    if (busy >= tenth)
      add(findings, Severity::warning,
          fmt::format("processor {} is chosen, and {:.0f} % busy already", cpu, busy * 100),
          "the program shares it: it gets what is left, in slices of milliseconds, and its rings overflow between them",
          "`top -1` and `ps -eLo psr,pcpu,comm --sort -pcpu` tell who is there; choose another");
  }
}

void huge_pages(const HostFacts& facts, const Wishes&, Findings& findings) {
  if (facts.huge_pages > 0) return;
  add(findings, Severity::note, fmt::format("no huge pages of {} KiB are set aside", facts.huge_page_kib),
      "efio's own engines need none; DPDK refuses to start without, or needs --no-huge and is slower",
      "`sysctl vm.nr_hugepages=512`, soon after the start, while memory is whole");
}

bool has(const HostFacts& facts, unsigned capability) {
  return !facts.capabilities || (*facts.capabilities >> capability & 1) != 0;
}

void locked_memory(const HostFacts& facts, const Wishes&, Findings& findings) {
  constexpr std::uint64_t ample = std::uint64_t{64} << 20;  // what one opening of xdp: may take
  if (!facts.locked_limit || *facts.locked_limit >= ample || has(facts, cap_ipc_lock)) return;
  add(findings, Severity::warning, fmt::format("locked memory is limited to {} KiB", *facts.locked_limit / 1024),
      "the frames of an xdp: port count against it: opening fails with ENOBUFS, or only few queues open",
      "`ulimit -l unlimited`, LimitMEMLOCK= of systemd, or `setcap cap_ipc_lock+ep PROGRAM`");
}

void capabilities(const HostFacts& facts, const Wishes&, Findings& findings) {
  std::vector<std::string_view> missing;
  const bool raw = has(facts, cap_net_raw), admin = has(facts, cap_net_admin),
             bpf = has(facts, cap_bpf) || has(facts, cap_sys_admin);
  if (!raw) missing.emplace_back("CAP_NET_RAW");
  if (!admin) missing.emplace_back("CAP_NET_ADMIN");
  if (!bpf) missing.emplace_back("CAP_BPF");
  if (missing.empty()) return;
  add(findings, raw ? Severity::warning : Severity::problem,
      fmt::format("this process has no {}", fmt::join(missing, ", ")),
      raw ? "xdp: and tap: refuse to open; packet: works"
          : "packet:, xdp: and tap: refuse to open; pipe: and pcap: work",
      "run as root, `setcap cap_net_raw,cap_net_admin,cap_bpf,cap_ipc_lock+ep PROGRAM`, or xdp: through efio-broker");
}

void mitigations(const HostFacts& facts, const Wishes&, Findings& findings) {
  std::vector<std::string> costly;
  for (const auto& [name, state] : facts.vulnerabilities) {
    const bool costs =
        state.starts_with("Mitigation:") &&
        (state.find("PTI") != std::string::npos || state.find("Retpoline") != std::string::npos ||
         state.find("IBRS") != std::string::npos || state.find("IBPB") != std::string::npos ||
         state.find("Clear CPU buffers") != std::string::npos || state.find("Safe RET") != std::string::npos);
    // "Enhanced / Automatic IBRS" is done by the processor and costs next to nothing.
    if (costs && !state.starts_with("Mitigation: Enhanced") && !state.starts_with("Mitigation: Automatic"))
      costly.push_back(fmt::format(
          "{} ({})", name, state.substr(std::string_view("Mitigation: ").size(), state.find_first_of(";,") - 12)));
  }
  if (costly.empty()) return;
  add(findings, Severity::note, fmt::format("the kernel works around {}", fmt::join(costly, ", ")),
      "each system call and each indirect call in the kernel costs more: packet: and tap: feel it, memory-mapped rings "
      "little",
      "needs a reboot, and only where no foreign code runs: mitigations=off");
}

void clock_source(const HostFacts& facts, const Wishes&, Findings& findings) {
  constexpr std::array<std::string_view, 4> quick = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page",
                                                     "arch_sys_counter"};
  if (!facts.clock.empty() && !contains(quick, facts.clock)) {
    const bool device = facts.clock == "hpet" || facts.clock == "acpi_pm";
    add(findings, device ? Severity::problem : Severity::warning,
        fmt::format("the kernel's clock is {} (to be had: {})", facts.clock, facts.clocks),
        device ? "each time stamp is a read from a chip, about 1 us: the kernel stamps every frame, so 1 Mpps is out "
                 "of reach"
               : "each clock reading is a system call, about 0.2 us",
        facts.clocks.find("tsc") == std::string::npos
            ? "the kernel holds the TSC for unstable: `dmesg | grep -i tsc` tells why"
            : "`echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource`");
  }
  if (!facts.cpu_flags.empty() && contains(facts.cpu_flags, "tsc") && !contains(facts.cpu_flags, "constant_tsc"))
    add(findings, Severity::warning, "the TSC changes its rate with the processor's frequency (no constant_tsc)",
        "times between two disciplinings of efio's clock are off by as much as the frequency moved",
        "hold the frequency: governor performance");
}

void virtualised(const HostFacts& facts, const Wishes&, Findings& findings) {
  if (facts.hypervisor.empty()) return;
  add(findings, Severity::note, "a virtual machine: " + facts.hypervisor,
      "processors may wander and stand still, interrupts and wake-ups are exits: compare only what was measured in one "
      "run",
      "");
}

void conntrack(const HostFacts& facts, const Wishes&, Findings& findings) {
  if (!facts.conntrack_count || *facts.conntrack_count == 0) return;
  const auto most = facts.conntrack_most.value_or(0);
  const bool full = most > 0 && static_cast<double>(*facts.conntrack_count) >= 0.9 * static_cast<double>(most);
  add(findings, full ? Severity::problem : Severity::warning,
      fmt::format("connection tracking holds {} of {} flows", *facts.conntrack_count, most),
      full ? "when the table is full, packets of new flows are dropped"
           : "each packet that the host's stack sees is looked up and new flows are entered: 1.8 instead of 4.8 Mpps "
             "have been measured",
      full ? fmt::format(
                 "`sysctl net.netfilter.nf_conntrack_max={}`, or keep the traffic out: notrack rules, xdp: with take=",
                 most * 4)
           : "notrack rules for the traffic that is measured, or xdp:, which comes before it");
}

void bridge_filter(const HostFacts& facts, const Wishes&, Findings& findings) {
  if (facts.bridge_filters.empty()) return;
  add(findings, Severity::warning, fmt::format("bridged frames go through {}", fmt::join(facts.bridge_filters, ", ")),
      "a kernel bridge then runs the host's firewall, and connection tracking, on every frame that it forwards",
      "`sysctl net.bridge.bridge-nf-call-iptables=0`, if nothing (Docker, Kubernetes) filters by it");
}

void bpf_jit(const HostFacts& facts, const Wishes&, Findings& findings) {
  if (!facts.bpf_jit || tools::whole_number(*facts.bpf_jit) != 0U) return;
  add(findings, Severity::problem, "BPF programs are interpreted (bpf_jit_enable is 0)",
      "the XDP program that runs for every frame, and socket filters, take several times as long",
      "`sysctl net.core.bpf_jit_enable=1`", {file_change("/proc/sys/net/core/bpf_jit_enable", *facts.bpf_jit, "1")});
}

void modules(const HostFacts& facts, const Wishes&, Findings& findings) {
  if (facts.netmap) add(findings, Severity::note, "the netmap module is loaded", "netmap: and host: can use it", "");
  if (facts.pf_ring) add(findings, Severity::note, "the PF_RING module is loaded", "pfring: can use it", "");
}

constexpr HostCheck all[] = {
    {"cpu-not-allowed", allowed_cpus},
    {"cpu-governor", governor},
    {"cpu-idle-states", idle_states},
    {"irqbalance", irqbalance},
    {"smt", smt},
    {"isolated-cpus", isolation},
    {"timer-tick", ticks},
    {"rt-throttling", rt_throttling},
    {"cpu-quota", quota},
    {"softnet-drops", softnet_drops},
    {"softnet-squeezed", softnet_squeezed},
    {"softirq-load", softirq_load},
    {"cpu-steal", steal},
    {"busy-cpu", busy_cpus},
    {"huge-pages", huge_pages},
    {"locked-memory", locked_memory},
    {"capabilities", capabilities},
    {"mitigations", mitigations},
    {"clock-source", clock_source},
    {"virtual-machine", virtualised},
    {"conntrack", conntrack},
    {"bridge-netfilter", bridge_filter},
    {"bpf-jit", bpf_jit},
    {"kernel-modules", modules},
};

}  // namespace

std::span<const HostCheck> host_checks() noexcept { return all; }

Findings check_host(const HostFacts& facts, const Wishes& wishes) {
  Findings findings;
  for (const auto& check : all) {
    const auto before = findings.size();
    check.look(facts, wishes, findings);
    for (auto i = before; i < findings.size(); ++i) findings[i].id = check.id;
  }
  return findings;
}

}  // namespace efio::doctor
