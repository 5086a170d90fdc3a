// What hits a program while it runs: its threads' moves between processors, preemptions and waits; soft interrupts,
// stolen time and frequency of the processors that it ran on; frames lost on the way to it, by place.
//
//   Watch watch(::getpid(), "eth0");
//   …                                  // watch.sample() every some milliseconds dates what happens; without it, totals
//   only watch.sample(); const auto& seen = watch.report();
//
// All from /proc and /sys, for a few dozen system calls a sample. Not for several threads. What the rings of the
// program's own ports had no room for, its ports count.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tools/common/proc_text.h"

namespace efio::tools {

struct WatchedThread {
  std::string name;
  std::set<int> cpus;  // that it was seen on
  std::uint64_t moves =
      0;  // between processors: all of them, where the kernel counts (CONFIG_SCHED_DEBUG), else those seen
  std::uint64_t preemptions = 0;  // taken off its processor against its will
  std::uint64_t run_ns = 0;
  std::uint64_t wait_ns = 0;  // runnable, without a processor
};

struct WatchedCpu {
  CpuTimes times;                                  // ticks of 1/100 s while it was watched
  std::uint64_t slowest_khz = 0, fastest_khz = 0;  // 0: not known
};

// From the wire to the program, whose own rings are not among them.
struct WatchedDrops {
  std::uint64_t nic = 0;      // of the device: overruns, no room, damaged
  std::uint64_t softnet = 0;  // no room in a processor's backlog
  std::uint64_t socket = 0;   // UDP and raw sockets of its network namespace
};

struct WatchEvent {
  std::uint64_t at_ns = 0;  // since the beginning; it happened between the sample before and this one
  std::string what;
};

struct WatchReport {
  std::uint64_t watched_ns = 0, samples = 0;
  std::map<pid_t, WatchedThread> threads;
  std::map<int, WatchedCpu> cpus;  // those that the threads were seen on
  WatchedDrops drops;
  std::vector<WatchEvent> events;  // the first thousand
  std::uint64_t events_left_out = 0;

  std::uint64_t moves() const noexcept;
  std::uint64_t dropped() const noexcept { return drops.nic + drops.softnet + drops.socket; }
  double stolen_ms() const noexcept;
};

class Watch {
 public:
  // `device`: whose drops count; empty: none. What the process did before is not reported. `root` is put before every
  // path, for tests.
  Watch(pid_t process, std::string device, std::string root = {});

  // Looks now. A process that has ended keeps what was seen last.
  void sample();
  const WatchReport& report() const noexcept { return report_; }

 private:
  struct ThreadCounts {
    std::uint64_t moves = 0, preemptions = 0, run_ns = 0, wait_ns = 0;
    bool moves_counted = false;  // by the kernel
    int cpu = -1;
  };

  std::string read(const std::string& path) const;
  void look_at_threads(std::uint64_t at, bool first);
  void look_at_cpus(std::uint64_t at, bool first);
  void look_at_drops(std::uint64_t at, bool first);
  WatchedDrops read_drops() const;
  void note(std::uint64_t at, std::string what);

  std::string process_, device_, root_;  // process_: "/proc/123"
  std::uint64_t start_ = 0;
  std::map<pid_t, ThreadCounts> threads_, threads_before_;
  std::map<int, CpuTimes> times_before_, times_;
  WatchedDrops drops_before_;
  WatchReport report_;
};

}  // namespace efio::tools
