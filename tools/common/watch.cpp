// Where it stands: /proc/PID/task/TID/{stat,status,schedstat,sched} (Documentation/scheduler/sched-stats.rst, proc(5)),
// /proc/PID/net/ of the process's own network namespace, /proc/stat and softnet_stat of the machine.
#include "tools/common/watch.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "efio/clock.h"
#include "efio/descriptor.h"
#include "efio/fail.h"

namespace efio::tools {

namespace {

constexpr std::size_t most_events = 1000;
constexpr double ms_a_tick = 10;

std::uint64_t number_after(std::string_view text, std::string_view name) {
  const auto at = text.find(name);
  if (at == std::string_view::npos) return 0;
  const auto words = words_of(text.substr(at + name.size(), 80));
  for (const auto word : words)
    if (word != ":") return whole_number(word).value_or(0);
  return 0;
}

// The column "drops" is the last of /proc/net/udp and raw.
std::uint64_t socket_drops(std::string_view table) {
  std::uint64_t sum = 0;
  const auto lines = lines_of(table);
  for (std::size_t i = 1; i < lines.size(); ++i)
    if (const auto words = words_of(lines[i]); !words.empty()) sum += whole_number(words.back()).value_or(0);
  return sum;
}

}  // namespace

std::uint64_t WatchReport::moves() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& [id, thread] : threads) sum += thread.moves;
  return sum;
}

double WatchReport::stolen_ms() const noexcept {
  double sum = 0;
  for (const auto& [number, cpu] : cpus) sum += static_cast<double>(cpu.times.steal) * ms_a_tick;
  return sum;
}

Watch::Watch(pid_t process, std::string device, std::string root)
    : process_("/proc/" + std::to_string(process)),
      device_(std::move(device)),
      root_(std::move(root)),
      start_(Clock::monotonic()) {
  look_at_threads(0, true);
  look_at_cpus(0, true);
  look_at_drops(0, true);
}

void Watch::sample() {
  const auto at = Clock::monotonic() - start_;
  report_.watched_ns = at;
  ++report_.samples;
  look_at_threads(at, false);
  look_at_cpus(at, false);
  look_at_drops(at, false);
}

std::string Watch::read(const std::string& path) const {
  const Fd file(::open((root_ + path).c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  char buffer[8192];
  while (file) {
    const auto got = ::read(file.get(), buffer, sizeof buffer);
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return text;
}

void Watch::note(std::uint64_t at, std::string what) {
  if (report_.events.size() < most_events)
    report_.events.push_back({at, std::move(what)});
  else
    ++report_.events_left_out;
}

void Watch::look_at_threads(std::uint64_t at, bool first) {
  const std::unique_ptr<DIR, int (*)(DIR*)> tasks(::opendir((root_ + process_ + "/task").c_str()), ::closedir);
  if (!tasks) return;
  while (const dirent* entry = ::readdir(tasks.get())) {
    const auto id = whole_number(entry->d_name);
    if (!id) continue;
    const auto number = static_cast<pid_t>(*id);
    const auto folder = process_ + "/task/" + entry->d_name;
    const auto stat = thread_stat(read(folder + "/stat"));
    const auto status = read(folder + "/status");
    if (!stat || status.empty()) continue;  // it has just ended
    auto& now = threads_[number];
    const auto previous_cpu = now.cpu;
    now.cpu = stat->cpu;
    now.preemptions = number_after(status, "\nnonvoluntary_ctxt_switches:");
    const auto times_text = read(folder + "/schedstat");
    const auto times = words_of(times_text);
    if (times.size() >= 2) {
      now.run_ns = whole_number(times[0]).value_or(0);
      now.wait_ns = whole_number(times[1]).value_or(0);
    }
    const auto schedule = read(folder + "/sched");
    now.moves_counted = schedule.find("nr_migrations") != std::string::npos;
    const bool seen_elsewhere = previous_cpu >= 0 && previous_cpu != now.cpu;
    if (now.moves_counted)
      now.moves = number_after(schedule, "nr_migrations");
    else if (seen_elsewhere)
      ++now.moves;

    if (first) threads_before_[number] = now;  // a thread that comes later did all that it has while it was watched
    const auto& before = threads_before_[number];
    auto& thread = report_.threads[number];
    thread.name = stat->name;
    thread.cpus.insert(now.cpu);
    report_.cpus[now.cpu];
    const auto moves = now.moves - before.moves;
    if (moves > thread.moves)
      note(at, seen_elsewhere ? fmt::format("thread {} ({}) moved from processor {} to {}", number, thread.name,
                                            previous_cpu, now.cpu)
                              : fmt::format("thread {} ({}) moved {} times, and is on processor {}", number,
                                            thread.name, moves - thread.moves, now.cpu));
    thread.moves = moves;
    thread.preemptions = now.preemptions - before.preemptions;
    thread.run_ns = now.run_ns - before.run_ns;
    thread.wait_ns = now.wait_ns - before.wait_ns;
  }
}

void Watch::look_at_cpus(std::uint64_t at, bool first) {
  const auto times = cpu_times(read("/proc/stat"));
  if (first) times_before_ = times;
  for (auto& [number, cpu] : report_.cpus) {
    const auto now = times.find(number);
    const auto before = times_before_.find(number), last = times_.find(number);
    if (now == times.end() || before == times_before_.end()) continue;
    cpu.times = now->second.since(before->second);
    if (last != times_.end())
      if (const auto stolen = now->second.since(last->second).steal; stolen > 0)
        note(at, fmt::format("processor {}: {:.0f} ms stolen", number, static_cast<double>(stolen) * ms_a_tick));
    const auto khz = whole_number(read(fmt::format("/sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq", number)));
    if (!khz || *khz == 0) continue;
    cpu.fastest_khz = std::max(cpu.fastest_khz, *khz);
    cpu.slowest_khz = cpu.slowest_khz == 0 ? *khz : std::min(cpu.slowest_khz, *khz);
  }
  times_ = times;
}

WatchedDrops Watch::read_drops() const {
  WatchedDrops drops;
  const auto devices = device_counts(read(process_ + "/net/dev"));
  if (const auto found = devices.find(device_); found != devices.end())
    // Drivers may count an overrun in both columns.
    drops.nic = std::max(found->second.rx_dropped, found->second.rx_fifo) + found->second.rx_errors;
  for (const auto& [cpu, row] : softnet(read("/proc/net/softnet_stat"))) drops.softnet += row.dropped;
  for (const char* table : {"udp", "udp6", "raw", "raw6"})
    drops.socket += socket_drops(read(process_ + "/net/" + table));
  return drops;
}

void Watch::look_at_drops(std::uint64_t at, bool first) {
  const auto now = read_drops();
  if (first) drops_before_ = now;
  const auto take = [&](std::uint64_t WatchedDrops::* place, std::string_view name) {
    // A socket, or the process, that is gone takes its counts with it: what was seen stays.
    const auto lost = now.*place > drops_before_.*place ? now.*place - drops_before_.*place : 0;
    auto& seen = report_.drops.*place;
    if (lost <= seen) return;
    note(at, fmt::format("{} frames lost: {}", lost - seen, name));
    seen = lost;
  };
  take(&WatchedDrops::nic, "by the device");
  take(&WatchedDrops::softnet, "in a backlog of the kernel");
  take(&WatchedDrops::socket, "at a socket");
}

}  // namespace efio::tools
