#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace efio::test {

// Where privilege is promised (CI=true, EFIO_REQUIRE_PRIVILEGE=1), a test that lacks it fails instead of being skipped.
inline bool privilege_is_promised() {
  const auto is = [](const char* name, std::string_view value) {
    const char* found = std::getenv(name);
    return found != nullptr && found == value;
  };
  return is("CI", "true") || is("EFIO_REQUIRE_PRIVILEGE", "1");
}

// True in runs of ./test --long, where a test may take hours instead of seconds.
inline bool is_long_run() {
  const char* found = std::getenv("EFIO_LONG");
  return found != nullptr && std::string_view(found) == "1";
}

}  // namespace efio::test

// In a TEST or SetUp: leaves it as skipped (or failed, where privilege is promised) unless `condition` holds.
//   EFIO_REQUIRE(std::filesystem::exists("/dev/net/tun"), "no /dev/net/tun");
#define EFIO_REQUIRE(condition, reason)                                                                          \
  do {                                                                                                           \
    if (!(condition)) {                                                                                          \
      if (efio::test::privilege_is_promised()) FAIL() << "cannot run, though privilege is promised: " << reason; \
      GTEST_SKIP() << reason;                                                                                    \
    }                                                                                                            \
  } while (false)

#define EFIO_REQUIRE_ROOT() EFIO_REQUIRE(::geteuid() == 0, "needs root")
