// The broker's file: any text is refused with an error of one line, or gives permits that are for somebody and something.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tools/broker/policy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto policy = efio::broker::Policy::parse({reinterpret_cast<const char*>(data), size}, "broker.toml");
  if (!policy) {
    if (policy.error().message().find('\n') != std::string::npos) std::abort();
    return 0;
  }
  for (const auto& permit : policy->permits())
    if (permit.device.empty() || (!permit.user && !permit.group) || permit.memory == 0) std::abort();
  return 0;
}
