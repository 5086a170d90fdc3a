// Where each fact stands: Documentation/ABI/testing/sysfs-devices-system-cpu, Documentation/admin-guide/pm/,
// Documentation/admin-guide/sysctl/, Documentation/admin-guide/cgroup-v2.rst, proc(5).
#include "tools/efdoctor/host_facts.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "efio/fail.h"

namespace efio::doctor {

namespace {

using tools::trimmed;
using tools::whole_number;

const std::string cpu_root = "/sys/devices/system/cpu";

std::string word(Host& host, const std::string& path) { return std::string(trimmed(host.read(path).value_or(""))); }
std::uint64_t count(Host& host, const std::string& path) {
  return whole_number(host.read(path).value_or("")).value_or(0);
}
std::vector<int> cpus(Host& host, const std::string& path) { return tools::cpu_list(host.read(path).value_or("")); }

std::optional<std::int64_t> signed_number(Host& host, const std::string& path) {
  const auto text = word(host, path);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc()) return std::nullopt;
  return value;
}

void read_topology(Host& host, HostFacts& facts) {
  facts.online = cpus(host, cpu_root + "/online");
  facts.isolated = cpus(host, cpu_root + "/isolated");
  facts.tickless = cpus(host, cpu_root + "/nohz_full");
  for (const int cpu : facts.online)
    if (auto siblings = cpus(host, fmt::format("{}/cpu{}/topology/thread_siblings_list", cpu_root, cpu));
        !siblings.empty())
      facts.siblings[cpu] = std::move(siblings);
  const std::string nodes = "/sys/devices/system/node";
  for (const auto& name : host.list(nodes)) {
    const auto node = name.starts_with("node") ? whole_number(name.substr(4)) : std::nullopt;
    if (!node) continue;
    for (const int cpu : cpus(host, fmt::format("{}/{}/cpulist", nodes, name)))
      facts.node_of[cpu] = static_cast<int>(*node);
  }
}

void read_power(Host& host, HostFacts& facts) {
  const auto policies = cpu_root + "/cpufreq";
  for (const auto& name : host.list(policies)) {
    if (!name.starts_with("policy")) continue;
    const auto at = policies + "/" + name;
    FrequencyPolicy policy{.path = at + "/scaling_governor"};
    policy.governor_text = host.read(policy.path).value_or("");
    policy.governor = trimmed(policy.governor_text);
    policy.driver = word(host, at + "/scaling_driver");
    const auto governors = host.read(at + "/scaling_available_governors").value_or("");
    for (const auto governor : tools::words_of(governors)) policy.governors.emplace_back(governor);
    policy.cpus = cpus(host, at + "/affected_cpus");
    if (!policy.governor.empty()) facts.policies.push_back(std::move(policy));
  }
  for (const int cpu : facts.online) {
    const auto idle = fmt::format("{}/cpu{}/cpuidle", cpu_root, cpu);
    for (const auto& name : host.list(idle)) {
      if (!name.starts_with("state")) continue;
      const auto at = idle + "/" + name;
      IdleState state{.path = at + "/disable", .name = word(host, at + "/name"), .disabled_text = {}};
      state.latency_us = count(host, at + "/latency");
      state.disabled_text = host.read(state.path).value_or("");
      state.disabled = trimmed(state.disabled_text) == "1";
      facts.idle[cpu].push_back(std::move(state));
    }
  }
}

void read_processes(Host& host, HostFacts& facts) {
  for (const auto& pid : host.list("/proc"))
    if (whole_number(pid) && word(host, "/proc/" + pid + "/comm") == "irqbalance") facts.irqbalance.push_back(pid);
}

void read_privileges(Host& host, HostFacts& facts) {
  const auto status = tools::named_values(host.read("/proc/self/status").value_or(""));
  if (const auto found = status.find("CapEff"); found != status.end()) {
    std::uint64_t bits = 0;
    const auto& text = found->second;
    if (std::from_chars(text.data(), text.data() + text.size(), bits, 16).ec == std::errc()) facts.capabilities = bits;
  }
  if (const auto found = status.find("Cpus_allowed_list"); found != status.end())
    facts.allowed = tools::cpu_list(found->second);
  facts.locked_limit = tools::soft_limit(host.read("/proc/self/limits").value_or(""), "Max locked memory");
}

void read_processor(Host& host, HostFacts& facts) {
  const auto text = host.read("/proc/cpuinfo").value_or("");
  const auto first = tools::named_values(text.substr(0, text.find("\n\n")));
  if (const auto flags = first.find("flags"); flags != first.end())
    for (const auto flag : tools::words_of(flags->second)) facts.cpu_flags.emplace_back(flag);
  if (std::ranges::find(facts.cpu_flags, "hypervisor") != facts.cpu_flags.end()) {
    facts.hypervisor = word(host, "/sys/hypervisor/type");
    if (facts.hypervisor.empty()) facts.hypervisor = word(host, "/sys/class/dmi/id/sys_vendor");
    if (facts.hypervisor.empty()) facts.hypervisor = "a hypervisor that does not name itself";
  }
  const auto vulnerabilities = cpu_root + "/vulnerabilities";
  for (const auto& name : host.list(vulnerabilities))
    facts.vulnerabilities[name] = word(host, vulnerabilities + "/" + name);
  const std::string clock = "/sys/devices/system/clocksource/clocksource0/";
  facts.clock = word(host, clock + "current_clocksource");
  facts.clocks = word(host, clock + "available_clocksource");
}

void read_network(Host& host, HostFacts& facts) {
  facts.backlog_text = host.read("/proc/sys/net/core/netdev_max_backlog").value_or("");
  facts.backlog = whole_number(facts.backlog_text).value_or(0);
  facts.budget = count(host, "/proc/sys/net/core/netdev_budget");
  facts.bpf_jit = host.read("/proc/sys/net/core/bpf_jit_enable");
  const std::string conntrack = "/proc/sys/net/netfilter/nf_conntrack_";
  if (const auto tracked = host.read(conntrack + "count")) facts.conntrack_count = whole_number(*tracked);
  if (const auto most = host.read(conntrack + "max")) facts.conntrack_most = whole_number(*most);
  for (const char* table : {"iptables", "ip6tables", "arptables"})
    if (const auto path = fmt::format("/proc/sys/net/bridge/bridge-nf-call-{}", table); word(host, path) == "1")
      facts.bridge_filters.emplace_back(table);
  facts.netmap = host.read("/sys/module/netmap/refcnt").has_value();
  facts.pf_ring = host.read("/sys/module/pf_ring/refcnt").has_value();
}

// What the groups of this process, and those around them, may use. Version 2 has one tree, version 1 one for `cpu`.
void read_quotas(Host& host, HostFacts& facts) {
  const auto groups = host.read("/proc/self/cgroup").value_or("");
  for (const auto line : tools::lines_of(groups)) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    const bool unified = line.substr(0, first) == "0" && controllers.empty();
    if (!unified && controllers != "cpu" && controllers != "cpu,cpuacct" && controllers != "cpuacct,cpu") continue;
    for (std::string group(line.substr(second + 1));; group.resize(group.rfind('/'))) {
      if (group == "/") group.clear();
      const auto at = (unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu") + group;
      const auto text = unified ? host.read(at + "/cpu.max").value_or("")
                                : host.read(at + "/cpu.cfs_quota_us").value_or("") + " " +
                                      host.read(at + "/cpu.cfs_period_us").value_or("");
      const auto words = tools::words_of(text);
      if (words.size() == 2) {
        const auto quota = whole_number(words[0]), period = whole_number(words[1]);  // "max" and -1: no limit
        if (quota && period && *period > 0)
          facts.quotas.push_back(
              {group.empty() ? "/" : group, static_cast<double>(*quota) / static_cast<double>(*period)});
      }
      if (group.rfind('/') == std::string::npos) break;
    }
  }
}

}  // namespace

HostFacts read_host(Host& host, std::chrono::nanoseconds sampling) {
  HostFacts facts;
  facts.times = tools::cpu_times(host.read("/proc/stat").value_or(""));
  facts.softnet = tools::softnet(host.read("/proc/net/softnet_stat").value_or(""));
  read_topology(host, facts);
  read_power(host, facts);
  read_processes(host, facts);
  read_privileges(host, facts);
  read_processor(host, facts);
  read_network(host, facts);
  read_quotas(host, facts);
  facts.rt_runtime_us = signed_number(host, "/proc/sys/kernel/sched_rt_runtime_us");
  facts.rt_period_us = signed_number(host, "/proc/sys/kernel/sched_rt_period_us");
  const auto memory = tools::named_values(host.read("/proc/meminfo").value_or(""));
  const auto value = [&](std::string_view name) {
    const auto found = memory.find(name);
    if (found == memory.end()) return std::uint64_t{0};
    return whole_number(std::string_view(found->second).substr(0, found->second.find(' '))).value_or(0);
  };
  facts.huge_pages = value("HugePages_Total");
  facts.huge_page_kib = value("Hugepagesize");

  // What reading all that cost this machine is no part of the sample.
  const auto before = tools::cpu_times(host.read("/proc/stat").value_or(""));
  host.pause(sampling);
  for (const auto& [cpu, times] : tools::cpu_times(host.read_later("/proc/stat").value_or("")))
    if (const auto then = before.find(cpu); then != before.end()) facts.sample[cpu] = times.since(then->second);
  facts.softnet_later = tools::softnet(host.read_later("/proc/net/softnet_stat").value_or(""));
  return facts;
}

ProgramHolder find_holder(Host& host, std::uint32_t program) {
  ProgramHolder holder;
  const auto denied_before = host.denied().size();
  for (const auto& pid : host.list("/proc")) {
    if (!whole_number(pid)) continue;
    const auto at = "/proc/" + pid;
    for (const auto& fd : host.list(at + "/fdinfo")) {
      // Of a program and of a link alike (kernel/bpf/syscall.c: bpf_prog_show_fdinfo, bpf_link_show_fdinfo).
      const auto values = tools::named_values(host.read(at + "/fdinfo/" + fd).value_or(""));
      const auto found = values.find("prog_id");
      if (found == values.end() || whole_number(found->second) != program) continue;
      holder.process = fmt::format("{} ({})", pid, word(host, at + "/comm"));
      return holder;
    }
  }
  const bool sees_all = host.denied().size() == denied_before;
  const auto own = tools::named_values(host.read("/proc/self/status").value_or(""));
  const auto uid = own.find("Uid");
  // Directories of other users' processes do not even tell what is in them.
  holder.all_seen = sees_all && uid != own.end() && uid->second.starts_with("0");
  return holder;
}

}  // namespace efio::doctor
