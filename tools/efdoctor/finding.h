// What efdoctor says: findings, and what --fix would change.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "efio/result.h"

namespace efio::doctor {

enum class Severity {
  note,     // worth knowing; the host counts as healthy
  warning,  // costs speed, or shows where it is being lost
  problem,  // something cannot work, or costs most of the speed
};
std::string_view name_of(Severity severity) noexcept;

// One setting, from what it is to what it ought to be.
struct Change {
  enum class Kind {
    file,             // target: a path; the values are its text
    feature,          // target: a device, key: the feature's name; "on", "off"
    ring,             // target: a device, key: "rx" or "tx"; slots
    tx_queue_length,  // target: a device; frames
  };
  Kind kind = Kind::file;
  std::string target, key;
  std::string before, after;

  bool same_setting(const Change& other) const noexcept {
    return kind == other.kind && target == other.target && key == other.key;
  }
  std::string what() const;  // "eth0: rx ring"
};
std::string_view name_of(Change::Kind kind) noexcept;

struct Finding {
  std::string id;  // a heading of docs/efdoctor.md
  Severity severity = Severity::note;
  std::string subject;          // "host", or a device
  std::string seen;             // on this machine
  std::string why;              // one line, with the effect to expect
  std::string todo;             // empty: nothing
  std::vector<Change> changes;  // what --fix does; empty: it does nothing
};
using Findings = std::vector<Finding>;

// What the user means to do.
struct Wishes {
  std::vector<int> cpus;  // where the program's threads are to run; empty: not said
  unsigned frame = 1514;  // the longest frame, without FCS
};

}  // namespace efio::doctor
