#include "tests/support/netns.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>

namespace efio::test {

namespace {

[[noreturn]] void give_up(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

Fd open_own_namespace() { return Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)); }

}  // namespace

Netns::Netns() {
  std::exception_ptr error;
  std::thread([&] {
    try {
      if (::unshare(CLONE_NEWNET) != 0) give_up("unshare(CLONE_NEWNET)");
      fd_ = open_own_namespace();
      if (!fd_) give_up("/proc/thread-self/ns/net");
      for (const char* scope : {"all", "default"})
        std::ofstream("/proc/sys/net/ipv6/conf/" + std::string(scope) + "/disable_ipv6") << 1;
    } catch (...) {
      error = std::current_exception();
    }
  }).join();
  if (error) std::rethrow_exception(error);
}

void Netns::enter() const {
  if (::setns(fd_.get(), CLONE_NEWNET) != 0) give_up("setns");
}

std::string Netns::path() const { return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd_.get()); }

std::string Netns::shell(const std::string& command) const {
  return run([&] {
    FILE* pipe = ::popen((command + " 2>&1").c_str(), "re");
    if (pipe == nullptr) give_up(command);
    std::string output;
    std::array<char, 4096> buffer;
    while (const auto n = std::fread(buffer.data(), 1, buffer.size(), pipe)) output.append(buffer.data(), n);
    if (const int status = ::pclose(pipe); status != 0)
      throw std::runtime_error(command + ": " + output + " (status " + std::to_string(status) + ")");
    return output;
  });
}

DeviceCounters Netns::counters(const std::string& device) const {
  return run([&] {
    std::ifstream file("/proc/thread-self/net/dev");
    for (std::string line; std::getline(file, line);) {
      const auto colon = line.find(':');
      if (colon == std::string::npos || line.substr(line.find_first_not_of(' '), colon - line.find_first_not_of(' ')) != device)
        continue;
      std::istringstream fields(line.substr(colon + 1));
      DeviceCounters c;
      std::uint64_t fifo, frame, compressed, multicast;
      fields >> c.rx_bytes >> c.rx_packets >> c.rx_errors >> c.rx_dropped >> fifo >> frame >> compressed >> multicast >>
          c.tx_bytes >> c.tx_packets >> c.tx_errors >> c.tx_dropped;
      return c;
    }
    throw std::runtime_error("no device " + device);
  });
}

VethPair::VethPair() {
  a.ip("link add va type veth peer name vb netns " + b.path());
  a.ip("link set va up");
  b.ip("link set vb up");
}

}  // namespace efio::test
