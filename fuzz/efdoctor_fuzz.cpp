// What efdoctor reads: the first byte chooses the reader, the rest is its text. Any text gives values within their
// bounds.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tools/common/proc_text.h"
#include "tools/efdoctor/device_answers.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void read_answers(std::string_view text) {
  const auto answers = efio::doctor::from_json(std::string(text), "device.json");
  if (!answers) return require(answers.error().message().find('\n') == std::string::npos);
  const auto json = efio::doctor::to_json(*answers);
  const auto again = efio::doctor::from_json(json.dump(), "device.json");
  require(again && efio::doctor::to_json(*again) == json);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace efio::tools;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 9) {
    case 0: {
      const auto cpus = cpu_list(text);
      require(cpu_list(std::string_view(cpu_list_text(cpus))) == cpus);
      require(cpus.empty() || (cpus.front() >= 0 && cpus.back() < 8192));
      break;
    }
    case 1:
      for (const auto& [cpu, times] : cpu_times(text))
        require(times.busy() <= times.total() && times.since(times).total() == 0);
      break;
    case 2:
      for (const auto& [cpu, row] : softnet(text)) require(cpu >= 0 && cpu < 8192);
      break;
    case 3:
      device_counts(text);
      break;
    case 4: {
      const auto lines = lines_of(text);
      const auto columns = lines.empty() ? 0 : words_of(lines[0]).size();
      for (const auto& [number, interrupt] : interrupts(text)) require(interrupt.counts.size() == columns);
      break;
    }
    case 5:
      thread_stat(text);
      break;
    case 6:
      soft_limit(text, "Max locked memory");
      break;
    case 7:
      named_values(text);
      break;
    case 8:
      read_answers(text);
      break;
  }
  return 0;
}
