#include "tools/efdoctor/watch_command.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "efio/descriptor.h"
#include "efio/fail.h"

namespace efio::doctor {

namespace {

using tools::Json;
using tools::WatchReport;

constexpr std::size_t events_shown = 20;

// The signals that are looked at in the loop instead; blocked while it lives.
class Signals {
 public:
  Signals() {
    sigemptyset(&set_);
    for (const int signal : {SIGINT, SIGTERM, SIGCHLD}) sigaddset(&set_, signal);
    ::sigprocmask(SIG_BLOCK, &set_, &before_);
    fd_ = Fd(::signalfd(-1, &set_, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  ~Signals() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  const sigset_t& before() const noexcept { return before_; }

  // Sleeps until a signal or the end of the time, and hands on what was meant for the command. A Ctrl-C of the terminal
  // has reached the command already.
  void wait(std::chrono::nanoseconds time, pid_t command) {
    pollfd event{fd_.get(), POLLIN, 0};
    const timespec timeout{time.count() / 1'000'000'000, time.count() % 1'000'000'000};
    if (::ppoll(&event, 1, &timeout, nullptr) <= 0) return;
    for (signalfd_siginfo signal; ::read(fd_.get(), &signal, sizeof signal) == sizeof signal;) {
      const auto number = static_cast<int>(signal.ssi_signo);
      if (number != SIGCHLD && signal.ssi_code != SI_KERNEL) ::kill(command, number);
    }
  }

 private:
  sigset_t set_{}, before_{};
  Fd fd_;
};

// Returns when the program has been started, so that what led to it is not watched.
Result<pid_t> start(const std::vector<std::string>& command, const sigset_t& signals) {
  const auto attempted = "run " + command.front();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail(errno, "{}", attempted);
  const Fd mouth(ends[0]);
  Fd ear(ends[1]);
  std::vector<char*> words;
  for (const auto& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return fail(errno, "{}", attempted);
  if (child == 0) {
    ::sigprocmask(SIG_SETMASK, &signals, nullptr);
    ::execvp(words[0], words.data());
    const int error = errno;
    [[maybe_unused]] const auto written = ::write(ear.get(), &error, sizeof error);
    ::_exit(127);
  }
  ear = Fd();
  int error = 0;
  if (::read(mouth.get(), &error, sizeof error) != sizeof error) return child;  // closed by exec
  ::waitpid(child, nullptr, 0);
  return fail(error, "{}", attempted);
}

double milliseconds(std::uint64_t ns) { return static_cast<double>(ns) / 1e6; }
double share(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

Result<WatchedCommand> watch_command(const Options& options) {
  if (!options.watch.empty())
    if (const auto device = ask_device(options.watch); !device) return std::unexpected(device.error());
  Signals signals;
  const auto child = start(options.command, signals.before());
  if (!child) return std::unexpected(child.error());
  tools::Watch watch(*child, options.watch);
  WatchedCommand watched;
  siginfo_t ended{};
  do {
    signals.wait(options.watch_interval, *child);
    ended.si_pid = 0;
    ::waitid(P_PID, static_cast<id_t>(*child), &ended, WEXITED | WNOHANG | WNOWAIT);
    watch.sample();  // once more when it has ended: its first thread's counts are there until it is waited for
  } while (ended.si_pid == 0);
  int status = 0;
  ::waitpid(*child, &status, 0);
  watched.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  watched.report = watch.report();
  return watched;
}

std::string text(const WatchedCommand& watched) {
  const auto& report = watched.report;
  auto out = fmt::format("watched for {:.2f} s, looked {} times; the command ended with {}\n",
                         static_cast<double>(report.watched_ns) / 1e9, report.samples, watched.exit_code);
  for (const auto& [id, thread] : report.threads)
    out += fmt::format(
        "thread {} ({}): ran {:.0f} ms on processors {}; moved {} times, preempted {} times, waited {:.1f} ms for a "
        "processor\n",
        id, thread.name, milliseconds(thread.run_ns), tools::cpu_list_text({thread.cpus.begin(), thread.cpus.end()}),
        thread.moves, thread.preemptions, milliseconds(thread.wait_ns));
  for (const auto& [number, cpu] : report.cpus) {
    const auto whole = cpu.times.total();
    out += fmt::format("processor {}: {:.0f} % busy, {:.0f} % soft interrupts, {:.0f} % stolen", number,
                       share(cpu.times.busy(), whole), share(cpu.times.softirq, whole), share(cpu.times.steal, whole));
    if (cpu.fastest_khz > 0)
      out += fmt::format(", {:.0f} to {:.0f} MHz", static_cast<double>(cpu.slowest_khz) / 1000,
                         static_cast<double>(cpu.fastest_khz) / 1000);
    out += '\n';
  }
  out += fmt::format("frames lost: {} by the device, {} in backlogs, {} at sockets\n", report.drops.nic,
                     report.drops.softnet, report.drops.socket);
  std::size_t shown = 0;
  for (const auto& event : report.events) {
    if (++shown > events_shown) break;
    out += fmt::format("  at {:8.3f} s: {}\n", static_cast<double>(event.at_ns) / 1e9, event.what);
  }
  const auto more =
      report.events_left_out + (report.events.size() > events_shown ? report.events.size() - events_shown : 0);
  if (more > 0) out += fmt::format("  and {} more\n", more);
  return out;
}

Json json(const WatchedCommand& watched) {
  const auto& report = watched.report;
  auto threads = Json::array(), cpus = Json::array(), events = Json::array();
  for (const auto& [id, thread] : report.threads)
    threads.push_back({{"id", id},
                       {"name", thread.name},
                       {"cpus", thread.cpus},
                       {"moves", thread.moves},
                       {"preemptions", thread.preemptions},
                       {"run_ns", thread.run_ns},
                       {"wait_ns", thread.wait_ns}});
  for (const auto& [number, cpu] : report.cpus) {
    Json object = {{"cpu", number},
                   {"busy_ms", cpu.times.busy() * 10},
                   {"softirq_ms", cpu.times.softirq * 10},
                   {"stolen_ms", cpu.times.steal * 10},
                   {"total_ms", cpu.times.total() * 10}};
    if (cpu.fastest_khz > 0) object["khz"] = {{"min", cpu.slowest_khz}, {"max", cpu.fastest_khz}};
    cpus.push_back(std::move(object));
  }
  for (const auto& event : report.events)
    events.push_back({{"at_s", static_cast<double>(event.at_ns) / 1e9}, {"what", event.what}});
  return {{"watched_s", static_cast<double>(report.watched_ns) / 1e9},
          {"exit_code", watched.exit_code},
          {"moves", report.moves()},
          {"threads", std::move(threads)},
          {"cpus", std::move(cpus)},
          {"dropped", {{"nic", report.drops.nic}, {"softnet", report.drops.softnet}, {"socket", report.drops.socket}}},
          {"events", std::move(events)},
          {"events_left_out", report.events_left_out}};
}

}  // namespace efio::doctor
