// Network namespaces for tests. They have no name: a descriptor keeps each alive, so whatever happens to the test, the
// kernel removes them with the process, and their devices with them.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>

#include "efio/descriptor.h"
#include "tests/support/privilege.h"

namespace efio::test {

// What the kernel counts for a device (/proc/net/dev), without the FCS.
struct DeviceCounters {
  std::uint64_t rx_packets = 0, rx_bytes = 0, rx_errors = 0, rx_dropped = 0;
  std::uint64_t tx_packets = 0, tx_bytes = 0, tx_errors = 0, tx_dropped = 0;
};

class Netns {
 public:
  // IPv6 is off in it, so that no device sends anything by itself. Throws std::runtime_error.
  Netns();

  // Calls `task` on a thread of its own inside the namespace, and returns what it returns or throws what it throws.
  // Threads and programs that it starts are inside too; sockets that it opens stay there for good.
  template <class Task>
  auto run(Task&& task) const -> std::invoke_result_t<Task> {
    using Answer = std::invoke_result_t<Task>;
    std::exception_ptr error;
    if constexpr (std::is_void_v<Answer>) {
      std::thread([&] {
        try {
          enter();
          task();
        } catch (...) {
          error = std::current_exception();
        }
      }).join();
      if (error) std::rethrow_exception(error);
    } else {
      std::optional<Answer> answer;
      run([&] { answer.emplace(task()); });
      return std::move(*answer);
    }
  }

  // Moves the calling thread in, for good.
  void enter() const;

  // `ip ARGUMENTS` inside; throws with what it said if it fails.
  void ip(const std::string& arguments) const { shell("ip " + arguments); }
  // A command line of sh inside; returns its standard output, throws if it fails.
  std::string shell(const std::string& command) const;

  // Throws if there is no such device.
  DeviceCounters counters(const std::string& device) const;

  std::string path() const;  // for `ip link … netns PATH`, while this process lives

 private:
  Fd fd_;
};

// Two namespaces and a veth pair between them, up: device "va" in `a`, "vb" in `b`.
struct VethPair {
  VethPair();
  Netns a, b;
};

}  // namespace efio::test

// In a TEST or SetUp: skips unless namespaces can be made.
#define EFIO_REQUIRE_NETNS() EFIO_REQUIRE_ROOT()
