// Findings for people and for programs.
#pragma once

#include <string>

#include "tools/common/port_report.h"
#include "tools/efdoctor/examine.h"
#include "tools/efdoctor/fixer.h"

namespace efio::doctor {

// `colours`: for a terminal. `columns`: where lines are broken.
std::string text(const Report& report, bool colours, std::size_t columns = 100);

// {"findings": [{"id", "severity", "subject", "seen", "why", "todo", "fix": [{"what", "old", "new"}]}], "unseen": […]}
tools::Json json(const Report& report);
tools::Json json(const Change& change);
tools::Json json(const Outcome& outcome);

// "eth0: rx ring: 512 -> 2048", and how it went.
std::string line(const Change& change);
std::string line(const Outcome& outcome);

// A value on one line, for people.
std::string shown(const std::string& value);

}  // namespace efio::doctor
