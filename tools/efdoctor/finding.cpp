#include "tools/efdoctor/finding.h"

#include <fmt/format.h>

namespace efio::doctor {

std::string_view name_of(Severity severity) noexcept {
  switch (severity) {
    case Severity::note:
      return "note";
    case Severity::warning:
      return "warning";
    case Severity::problem:
      return "problem";
  }
  return "";
}

std::string_view name_of(Change::Kind kind) noexcept {
  switch (kind) {
    case Change::Kind::file:
      return "file";
    case Change::Kind::feature:
      return "feature";
    case Change::Kind::ring:
      return "ring";
    case Change::Kind::tx_queue_length:
      return "tx_queue_length";
  }
  return "";
}

std::string Change::what() const {
  switch (kind) {
    case Kind::file:
      return target;
    case Kind::feature:
      return fmt::format("{}: {}", target, key);
    case Kind::ring:
      return fmt::format("{}: {} ring", target, key);
    case Kind::tx_queue_length:
      return fmt::format("{}: txqueuelen", target);
  }
  return {};
}

}  // namespace efio::doctor
