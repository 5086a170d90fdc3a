#include "tools/common/stop.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace efio::tools {

namespace {

constexpr std::array stopping = {SIGINT, SIGTERM};

// What the handler may touch.
std::atomic<bool> came{false}, hangup_came{false};
std::atomic<int> bell{-1};

void ring() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(bell.load(), &one, sizeof one);
}

void on_signal(int) {
  const int kept = errno;
  came.store(true);
  ring();
  errno = kept;
}

void on_hangup(int) {
  const int kept = errno;
  hangup_came.store(true);
  ring();
  errno = kept;
}

}  // namespace

SignalGuard::SignalGuard(Hangup hangup) {
  came.store(false);
  hangup_came.store(false);
  bell.store(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  struct sigaction action{};
  action.sa_handler = on_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // the next one ends the program
  for (const int signal : stopping) ::sigaction(signal, &action, nullptr);
  if (hangup == Hangup::ends) return;
  action.sa_handler = on_hangup;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGHUP, &action, nullptr);
  keeps_hangup_ = true;
}

SignalGuard::~SignalGuard() {
  for (const int signal : stopping) ::signal(signal, SIG_DFL);
  if (keeps_hangup_) ::signal(SIGHUP, SIG_DFL);
  ::close(bell.exchange(-1));
}

bool SignalGuard::signalled() const noexcept { return came.load(); }
bool SignalGuard::hung_up() noexcept { return hangup_came.exchange(false); }

void SignalGuard::wait(std::chrono::nanoseconds timeout) noexcept {
  const auto left = std::clamp(timeout, std::chrono::nanoseconds(0), std::chrono::nanoseconds(std::chrono::hours(1)));
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  const timespec time{seconds.count(), (left - seconds).count()};
  pollfd fd{bell.load(), POLLIN, 0};
  if (::ppoll(&fd, 1, &time, nullptr) <= 0) return;
  std::uint64_t value = 0;
  [[maybe_unused]] const auto got = ::read(fd.fd, &value, sizeof value);
}

void SignalGuard::notify() noexcept { ring(); }

}  // namespace efio::tools
