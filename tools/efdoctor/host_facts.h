// What is known of a machine, gathered from its files once, so that checks are functions of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tools/common/proc_text.h"
#include "tools/efdoctor/host.h"

namespace efio::doctor {

// Processors whose frequency is governed together.
struct FrequencyPolicy {
  std::string path;  // of its governor's file
  std::string governor, driver;
  std::string governor_text;  // as it stands in the file
  std::vector<std::string> governors;
  std::vector<int> cpus;
};

struct IdleState {
  std::string path;  // of the file that disables it
  std::string name, disabled_text;
  std::uint64_t latency_us = 0;  // to leave it
  bool disabled = false;
};

struct Quota {
  std::string group;
  double cpus = 0;  // processors' worth of time
};

struct HostFacts {
  std::vector<int> online, isolated, tickless;
  std::vector<int> allowed;                  // this process may run there
  std::map<int, std::vector<int>> siblings;  // of a processor's core, itself included
  std::map<int, int> node_of;
  std::vector<FrequencyPolicy> policies;
  std::map<int, std::vector<IdleState>> idle;
  std::vector<std::string> irqbalance;  // pids
  std::optional<std::int64_t> rt_runtime_us, rt_period_us;
  std::map<int, tools::Softnet> softnet, softnet_later;
  std::uint64_t backlog = 0, budget = 0;  // 0: not known
  std::string backlog_text;
  std::map<int, tools::CpuTimes> times, sample;  // since the start; during the sampling time
  std::uint64_t huge_pages = 0, huge_page_kib = 0;
  std::optional<std::uint64_t> locked_limit;  // bytes
  std::optional<std::uint64_t> capabilities;
  std::map<std::string, std::string> vulnerabilities;
  std::string clock, clocks;           // the source in use, those to be had
  std::vector<std::string> cpu_flags;  // of x86
  std::string hypervisor;              // empty: none
  std::optional<std::uint64_t> conntrack_count, conntrack_most;
  std::vector<std::string> bridge_filters;  // of bridge-nf-call-*: those that are on
  std::optional<std::string> bpf_jit;
  bool netmap = false, pf_ring = false;
  std::vector<Quota> quotas;
};

HostFacts read_host(Host& host, std::chrono::nanoseconds sampling);

// Whether a process holds a descriptor of an XDP program or of its link.
struct ProgramHolder {
  std::string process;   // "1234 (io_gen)"; empty: none was seen
  bool all_seen = true;  // every process could be looked into
};
ProgramHolder find_holder(Host& host, std::uint32_t program);

constexpr unsigned cap_net_admin = 12, cap_net_raw = 13, cap_ipc_lock = 14, cap_sys_admin = 21, cap_bpf = 39;

}  // namespace efio::doctor
