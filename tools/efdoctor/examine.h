// An examination: facts, findings, and what could not be seen.
#pragma once

#include <chrono>
#include <set>
#include <string>
#include <vector>

#include "tools/efdoctor/finding.h"
#include "tools/efdoctor/host.h"

namespace efio::doctor {

struct Request {
  std::vector<std::string> devices;  // empty: the machine alone
  Wishes wishes;
  std::chrono::nanoseconds sampling = std::chrono::milliseconds(500);
};

struct Report {
  Findings findings;
  std::vector<std::string> unseen;  // paths that need a privilege

  bool healthy() const noexcept;  // notes are no ailment
};

// Errors: device (one of those named is not there).
Result<Report> examine(Host& host, const Request& request);

}  // namespace efio::doctor
