// A host under which the program is killed at a chosen step, for what must survive it.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <memory>

#include "tools/efdoctor/host.h"

namespace efio::test {

class KilledHost : public doctor::Host {
 public:
  enum class Moment { before, during, after };  // during: a file is empty, a device's setting is another
  KilledHost(std::unique_ptr<Host> host, std::size_t step, Moment moment)
      : host_(std::move(host)), steps_left_(step), moment_(moment) {}

  std::optional<std::string> read(const std::string& path) override { return host_->read(path); }
  std::vector<std::string> list(const std::string& path) override { return host_->list(path); }
  void pause(std::chrono::nanoseconds time) override { host_->pause(time); }
  std::optional<std::string> read_later(const std::string& path) override { return host_->read_later(path); }
  std::vector<std::string> devices() override { return host_->devices(); }
  Result<doctor::DeviceAnswers> device(const std::string& name) override { return host_->device(name); }
  std::string network_namespace() override { return host_->network_namespace(); }
  Result<std::string> current(const doctor::Change& change) override { return host_->current(change); }
  Result<void> set(const doctor::Change& change, const std::string& value) override {
    if (steps_left_-- > 0) return host_->set(change, value);
    if (moment_ == Moment::during && change.kind == doctor::Change::Kind::file) std::ignore = host_->set(change, "");
    if (moment_ == Moment::after) std::ignore = host_->set(change, value);
    ::kill(::getpid(), SIGKILL);
    return {};
  }

 private:
  std::unique_ptr<Host> host_;
  std::size_t steps_left_;
  Moment moment_;
};

// Whether a child that does the task is killed by it.
template <class Task>
bool dies(Task&& task) {
  const auto child = ::fork();
  if (child == 0) {
    task();
    ::_exit(0);
  }
  int status = 0;
  return child > 0 && ::waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

}  // namespace efio::test
