// Formats: Documentation/filesystems/proc.rst; net/core/net-procfs.c (softnet_seq_show, dev_seq_printf_stats);
// lib/bitmap.c (lists of processors); kernel/irq/proc.c (show_interrupts); fs/proc/array.c (do_task_stat).
#include "tools/common/proc_text.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace efio::tools {

namespace {

constexpr std::string_view blanks = " \t\n\r";
constexpr int most_cpus = 8192;  // NR_CPUS_RANGE_END, arch/x86/Kconfig

std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> parts;
  while (true) {
    const auto begin = text.find_first_not_of(separators);
    if (begin == std::string_view::npos) return parts;
    const auto end = std::min(text.find_first_of(separators, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    text.remove_prefix(end);
  }
}

template <class Number>
std::optional<Number> number(std::string_view text, int base = 10) noexcept {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// The numbers at the front of a line of words, as many as there are.
std::vector<std::uint64_t> leading_numbers(const std::vector<std::string_view>& words, std::size_t from) {
  std::vector<std::uint64_t> numbers;
  for (std::size_t i = from; i < words.size(); ++i) {
    const auto value = number<std::uint64_t>(words[i]);
    if (!value) break;
    numbers.push_back(*value);
  }
  return numbers;
}

}  // namespace

std::string_view trimmed(std::string_view text) noexcept {
  const auto begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

std::vector<std::string_view> words_of(std::string_view text) { return split(text, blanks); }
std::vector<std::string_view> lines_of(std::string_view text) { return split(text, "\n"); }

std::optional<std::uint64_t> whole_number(std::string_view text) noexcept {
  return number<std::uint64_t>(trimmed(text));
}

std::vector<int> cpu_list(std::string_view text) {
  std::vector<int> cpus;
  for (const auto part : split(text, ", \t\n")) {
    const auto dash = part.find('-');
    const auto first = number<int>(part.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : number<int>(part.substr(dash + 1));
    if (!first || !last || *first < 0) continue;
    for (int cpu = *first; cpu <= std::min(*last, most_cpus - 1); ++cpu) cpus.push_back(cpu);
    if (cpus.size() > std::size_t{2} * most_cpus) break;  // no kernel's list
  }
  std::ranges::sort(cpus);
  const auto twice = std::ranges::unique(cpus);
  cpus.erase(twice.begin(), twice.end());
  return cpus;
}

std::string cpu_list_text(const std::vector<int>& cpus) {
  std::string text;
  for (std::size_t i = 0; i < cpus.size();) {
    std::size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += std::to_string(cpus[i]);
    if (last > i) text += (last == i + 1 ? "," : "-") + std::to_string(cpus[last]);
    i = last + 1;
  }
  return text;
}

std::map<std::string, std::string, std::less<>> named_values(std::string_view text) {
  std::map<std::string, std::string, std::less<>> values;
  for (const auto line : lines_of(text)) {
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    values.emplace(trimmed(line.substr(0, colon)), trimmed(line.substr(colon + 1)));
  }
  return values;
}

std::optional<std::uint64_t> soft_limit(std::string_view limits, std::string_view name) {
  for (const auto line : lines_of(limits)) {
    if (!line.starts_with(name)) continue;
    const auto words = words_of(line.substr(name.size()));
    if (words.empty()) return std::nullopt;
    if (words[0] == "unlimited") return std::numeric_limits<std::uint64_t>::max();
    return number<std::uint64_t>(words[0]);
  }
  return std::nullopt;
}

CpuTimes CpuTimes::since(const CpuTimes& before) const noexcept {
  const auto added = [](std::uint64_t now, std::uint64_t then) { return now > then ? now - then : 0; };
  return {added(user, before.user),       added(nice, before.nice),     added(system, before.system),
          added(idle, before.idle),       added(iowait, before.iowait), added(irq, before.irq),
          added(softirq, before.softirq), added(steal, before.steal)};
}

std::map<int, CpuTimes> cpu_times(std::string_view proc_stat) {
  std::map<int, CpuTimes> times;
  for (const auto line : lines_of(proc_stat)) {
    const auto words = words_of(line);
    if (words.empty() || !words[0].starts_with("cpu")) continue;
    const auto cpu = number<int>(words[0].substr(3));
    auto numbers = leading_numbers(words, 1);
    if (!cpu || *cpu < 0 || *cpu >= most_cpus || numbers.size() < 4) continue;
    numbers.resize(std::max<std::size_t>(numbers.size(), 8));  // old kernels have fewer
    // No sum of what a kernel counts comes near 2^64; text that is not a kernel's may.
    for (auto& value : numbers) value = std::min(value, std::numeric_limits<std::uint64_t>::max() / 16);
    times[*cpu] = {numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], numbers[7]};
  }
  return times;
}

std::map<int, Softnet> softnet(std::string_view softnet_stat) {
  constexpr std::size_t index_column =
      12;  // since Linux 5.10; before it, lines of processors that are off were left out
  std::map<int, Softnet> rows;
  int line_number = 0;
  for (const auto line : lines_of(softnet_stat)) {
    const auto words = words_of(line);
    const int counted = line_number++;
    if (words.size() < 3) continue;
    const auto processed = number<std::uint32_t>(words[0], 16), dropped = number<std::uint32_t>(words[1], 16),
               squeezed = number<std::uint32_t>(words[2], 16);
    if (!processed || !dropped || !squeezed) continue;
    const auto index = words.size() > index_column ? number<int>(words[index_column], 16) : std::optional(counted);
    if (index && *index >= 0 && *index < most_cpus) rows[*index] = {*processed, *dropped, *squeezed};
  }
  return rows;
}

std::map<std::string, DeviceCounts, std::less<>> device_counts(std::string_view net_dev) {
  std::map<std::string, DeviceCounts, std::less<>> devices;
  for (const auto line : lines_of(net_dev)) {
    const auto colon = line.rfind(':');  // a name may hold colons, the numbers do not
    if (colon == std::string_view::npos) continue;
    const auto n = leading_numbers(words_of(line.substr(colon + 1)), 0);
    if (n.size() < 16) continue;
    devices.emplace(trimmed(line.substr(0, colon)), DeviceCounts{.rx_packets = n[1],
                                                                 .rx_errors = n[2],
                                                                 .rx_dropped = n[3],
                                                                 .rx_fifo = n[4],
                                                                 .tx_packets = n[9],
                                                                 .tx_errors = n[10],
                                                                 .tx_dropped = n[11]});
  }
  return devices;
}

std::map<unsigned, Interrupt> interrupts(std::string_view proc_interrupts) {
  std::map<unsigned, Interrupt> found;
  const auto lines = lines_of(proc_interrupts);
  if (lines.empty()) return found;
  const auto columns = words_of(lines[0]).size();
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const auto words = words_of(lines[i]);
    if (words.empty() || !words[0].ends_with(':')) continue;
    const auto irq = number<unsigned>(words[0].substr(0, words[0].size() - 1));
    auto counts = leading_numbers(words, 1);
    counts.resize(std::min(counts.size(), columns));
    if (!irq || counts.size() < columns) continue;
    std::string name;
    for (std::size_t w = 1 + columns; w < words.size(); ++w) name += (name.empty() ? "" : " ") + std::string(words[w]);
    found[*irq] = {std::move(counts), std::move(name)};
  }
  return found;
}

std::optional<ThreadStat> thread_stat(std::string_view stat) {
  const auto open = stat.find('('), close = stat.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return std::nullopt;
  const auto words = words_of(stat.substr(close + 1));  // the third field of proc(5) is words[0]
  constexpr std::size_t third = 3, utime = 14, stime = 15, processor = 39;
  if (words.size() <= processor - third) return std::nullopt;
  const auto user = number<std::uint64_t>(words[utime - third]), system = number<std::uint64_t>(words[stime - third]);
  const auto cpu = number<int>(words[processor - third]);
  if (!user || !system || !cpu || words[0].size() != 1) return std::nullopt;
  return ThreadStat{std::string(stat.substr(open + 1, close - open - 1)), words[0][0], *user, *system, *cpu};
}

}  // namespace efio::tools
