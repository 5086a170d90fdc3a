// What the kernel writes into files of /proc and /sys, read: pure functions of text, for any text. A line or a word
// that is not as the kernel writes it is left out.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace efio::tools {

// Without white space at either end.
std::string_view trimmed(std::string_view text) noexcept;

// Between spaces, tabs and line breaks.
std::vector<std::string_view> words_of(std::string_view text);
std::vector<std::string_view> lines_of(std::string_view text);
std::vector<std::string_view> words_of(std::string&&) = delete;  // the words live in the text
std::vector<std::string_view> lines_of(std::string&&) = delete;

// A whole decimal number, with white space around it at most.
std::optional<std::uint64_t> whole_number(std::string_view text) noexcept;

// "0-3,8" as in /sys/devices/system/cpu/online, ascending, each once; numbers above 8191 (the most that the kernel can
// be built for) are left out.
std::vector<int> cpu_list(std::string_view text);
std::string cpu_list_text(const std::vector<int>& cpus);  // ascending numbers to "0-3,8"; none: ""

// Values by name, of lines "Name:   value": /proc/self/status, /proc/meminfo, one processor of /proc/cpuinfo (the first
// value of a name counts).
std::map<std::string, std::string, std::less<>> named_values(std::string_view text);

// The soft limit in /proc/self/limits ("Max locked memory"); unlimited is the largest number.
std::optional<std::uint64_t> soft_limit(std::string_view limits, std::string_view name);

// /proc/stat, in ticks of 1/100 s since the start; `user` includes guests.
struct CpuTimes {
  std::uint64_t user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;

  std::uint64_t total() const noexcept { return user + nice + system + idle + iowait + irq + softirq + steal; }
  std::uint64_t busy() const noexcept { return total() - idle - iowait; }
  // What was added since; a counter that went backwards (iowait may) counts as 0.
  CpuTimes since(const CpuTimes& before) const noexcept;
};
std::map<int, CpuTimes> cpu_times(std::string_view proc_stat);

// /proc/net/softnet_stat, by processor: frames processed; dropped for want of room in the backlog; rounds that ended
// with work left.
struct Softnet {
  std::uint32_t processed = 0, dropped = 0, squeezed = 0;  // they wrap, as in the kernel
};
std::map<int, Softnet> softnet(std::string_view softnet_stat);

// A line of /proc/net/dev.
struct DeviceCounts {
  std::uint64_t rx_packets = 0, rx_errors = 0, rx_dropped = 0, rx_fifo = 0;
  std::uint64_t tx_packets = 0, tx_errors = 0, tx_dropped = 0;
};
std::map<std::string, DeviceCounts, std::less<>> device_counts(std::string_view net_dev);

// The numbered lines of /proc/interrupts.
struct Interrupt {
  std::vector<std::uint64_t> counts;  // by column, which are the processors that are online
  std::string name;                   // all that stands behind the counts
};
std::map<unsigned, Interrupt> interrupts(std::string_view proc_interrupts);

// /proc/PID/stat or /proc/PID/task/TID/stat, whose second field may hold any bytes.
struct ThreadStat {
  std::string name;
  char state = '?';
  std::uint64_t user = 0, system = 0;  // ticks
  int cpu = -1;                        // that it ran on last
};
std::optional<ThreadStat> thread_stat(std::string_view stat);

}  // namespace efio::tools
