// Where facts come from: a machine's files and its answers about devices. Either this machine, or a folder that
// `efdoctor capture` saved from one:
//   DIR/proc/…, DIR/sys/…           files, as they were
//   DIR/later/…                     the same, read again after the sampling time
//   DIR/efdoctor/unreadable         paths that could not be read for want of a privilege, one a line
//   DIR/efdoctor/devices/NAME.json  DeviceAnswers
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "efio/result.h"
#include "tools/efdoctor/device_answers.h"
#include "tools/efdoctor/finding.h"

namespace efio::doctor {

class Host {
 public:
  virtual ~Host() = default;

  // The text of a file ("/proc/cmdline"); nothing where there is none, or where it cannot be read, which denied()
  // tells.
  virtual std::optional<std::string> read(const std::string& path) = 0;
  // What a directory holds, sorted.
  virtual std::vector<std::string> list(const std::string& path) = 0;
  // Lets the sampling time go by; from then on read_later() answers.
  virtual void pause(std::chrono::nanoseconds time) = 0;
  virtual std::optional<std::string> read_later(const std::string& path) = 0;
  // The network devices, and what is known of one.
  virtual std::vector<std::string> devices() = 0;
  virtual Result<DeviceAnswers> device(const std::string& name) = 0;
  // Which network namespace the devices are in, for comparing.
  virtual std::string network_namespace() = 0;

  // What a setting is, in the form of Change::before; and setting it. Errors: device where there is no such setting.
  virtual Result<std::string> current(const Change& change) = 0;
  virtual Result<void> set(const Change& change, const std::string& value) = 0;

  // Paths that were there and could not be read.
  const std::set<std::string>& denied() const noexcept { return denied_; }

 protected:
  std::set<std::string> denied_;
};

std::unique_ptr<Host> this_host();
// Errors: device (no such folder).
Result<std::unique_ptr<Host>> captured_host(const std::string& directory);
// Passes all on to `host`, and keeps what it answers under `directory`, which is made. Errors: usage (it is not empty),
// device.
class Recorder;
Result<std::unique_ptr<Recorder>> record(std::unique_ptr<Host> host, const std::string& directory);

class Recorder : public Host {
 public:
  // What went wrong first while saving. Call it last: it also writes what could not be read.
  virtual Result<void> finish() = 0;
};

}  // namespace efio::doctor
