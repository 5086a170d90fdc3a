#include "tools/common/cpus.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <charconv>

#include "efio/fail.h"

namespace efio::tools {

namespace {

constexpr int most_cpus = CPU_SETSIZE;

Failure not_a_list(std::string_view text, std::string_view why) {
  return fail(Error::Kind::usage, fmt::format("--cpu {}", text), "{}", why).hint("a list such as 0,2 or 0-3");
}

}  // namespace

Result<std::vector<int>> parse_cpus(std::string_view text) {
  std::vector<int> cpus;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto number = [&](int& value) {
    const auto [behind, error] = std::from_chars(at, end, value);
    if (error != std::errc() || value < 0) return false;
    at = behind;
    return true;
  };
  for (;;) {
    int first = 0;
    if (!number(first)) return not_a_list(text, "not a list of processors");
    int last = first;
    if (at < end && *at == '-' && (++at, !number(last) || last < first))
      return not_a_list(text, "not a range of processors");
    if (last >= most_cpus) return not_a_list(text, fmt::format("processors count from 0 to {}", most_cpus - 1));
    for (int cpu = first; cpu <= last; ++cpu) {
      if (std::ranges::find(cpus, cpu) != cpus.end()) return not_a_list(text, fmt::format("{} is there twice", cpu));
      cpus.push_back(cpu);
    }
    if (at == end) return cpus;
    if (*at++ != ',') return not_a_list(text, "not a list of processors");
  }
}

Result<void> pin_thread(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  if (const int error = ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set); error != 0)
    return fail(Error::Kind::device, fmt::format("run on processor {}", cpu), "{}", describe_os_error(error))
        .hint("`nproc` and `taskset -p $$` tell which there are");
  return {};
}

Result<void> pin_thread(const std::vector<int>& cpus, std::size_t index) {
  if (cpus.empty()) return {};
  return pin_thread(cpus[index % cpus.size()]);
}

Result<void> check_cpus(const std::vector<int>& cpus) {
  if (cpus.empty()) return {};
  cpu_set_t before;
  if (::pthread_getaffinity_np(::pthread_self(), sizeof before, &before) != 0) return {};
  Result<void> outcome;
  for (const int cpu : cpus)
    if (outcome = pin_thread(cpu); !outcome) break;
  ::pthread_setaffinity_np(::pthread_self(), sizeof before, &before);
  return outcome;
}

}  // namespace efio::tools
