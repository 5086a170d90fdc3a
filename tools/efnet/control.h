// What others may ask a running gateway: a Unix socket, a JSON object a line. docs/gateway.md has the requests.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "efio/descriptor.h"
#include "efio/result.h"
#include "tools/common/port_report.h"

namespace efio::gate {

class Run;
using tools::Json;

// Sends one line; false where nobody wants more.
using Answer = std::function<bool(const Json&)>;

// Answers one request, rows first, the closing line last: {"done":true,"rows":N} or {"error":…}.
void answer(Run& run, const std::string& request, const Answer& send);

class Control {
 public:
  // Errors: those of listening there.
  static Result<std::unique_ptr<Control>> listen(Run& run, const std::string& path);
  Control(Run& run, std::string path, Fd listener, Fd bell);
  ~Control();

  void start();
  void stop() noexcept;

 private:
  void serve(const std::stop_token& stop);
  void converse(const Fd& socket, const std::stop_token& stop);

  Run& run_;
  std::string path_;
  Fd listener_, bell_;
  std::jthread thread_;
};

}  // namespace efio::gate
