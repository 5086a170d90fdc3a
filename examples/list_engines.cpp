// Every engine of this build, and what is missing for those that cannot be had here.
#include <cstdio>

#include "efio/port.h"
#include "efio/version.h"

int main() {
  std::printf("efio %s\n", std::string(efio::version()).c_str());
  for (const auto& engine : efio::engines())
    std::printf("%-8s %-60s %s\n", std::string(engine.scheme).c_str(), std::string(engine.description).c_str(),
                engine.available ? "available" : engine.why_not.c_str());
  return 0;
}
