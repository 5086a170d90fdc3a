#include <cstdio>

#include "efio/version.h"

int main() {
  const auto version = efio::version();
  std::printf("efio %.*s\n", static_cast<int>(version.size()), version.data());
}
