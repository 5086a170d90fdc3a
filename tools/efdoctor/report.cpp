#include "tools/efdoctor/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "tools/common/proc_text.h"

namespace efio::doctor {

namespace {

// Words of `text` in lines of at most `columns`, those behind the first indented.
std::string broken(std::string_view text, std::size_t columns, std::size_t indent) {
  std::string out;
  std::size_t column = indent;
  for (const auto word : tools::words_of(text)) {
    if (column > indent && column + 1 + word.size() > columns) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

std::string_view colour(Severity severity) {
  switch (severity) {
    case Severity::problem:
      return "\x1b[1;31m";
    case Severity::warning:
      return "\x1b[33m";
    case Severity::note:
      break;
  }
  return "\x1b[2m";
}

}  // namespace

std::string shown(const std::string& value) { return std::string(tools::trimmed(value)); }

std::string text(const Report& report, bool colours, std::size_t columns) {
  constexpr std::size_t indent = 10;
  std::map<Severity, std::size_t> counts;
  std::string out;
  for (const auto& finding : report.findings) {
    ++counts[finding.severity];
    const auto name = name_of(finding.severity);
    out += fmt::format("{}{}{}{}", colours ? colour(finding.severity) : "", name, colours ? "\x1b[0m" : "",
                       std::string(indent - name.size(), ' '));
    out += fmt::format("{}{}{}", finding.subject == "host" ? "" : finding.subject + ": ", finding.id, "\n");
    const auto line = [&](std::string_view label, std::string_view content) {
      if (!content.empty())
        out += std::string(indent, ' ') + broken(fmt::format("{}{}", label, content), columns, indent) + "\n";
    };
    line("", finding.seen);
    line("why: ", finding.why);
    line("do: ", finding.todo);
    if (!finding.changes.empty()) line("", "--fix does this");
  }
  if (report.findings.empty()) out += "nothing found\n";
  const auto number = [&](Severity severity) { return counts.contains(severity) ? counts.at(severity) : 0; };
  out += fmt::format("{} problem(s), {} warning(s), {} note(s)\n", number(Severity::problem), number(Severity::warning),
                     number(Severity::note));
  if (!report.unseen.empty()) {
    constexpr std::size_t named = 5;
    const auto first = std::min(named, report.unseen.size());
    out +=
        broken(fmt::format(
                   "not seen, for want of a privilege: {}{}",
                   fmt::join(report.unseen.begin(), report.unseen.begin() + static_cast<std::ptrdiff_t>(first), ", "),
                   report.unseen.size() > first ? fmt::format(" and {} more", report.unseen.size() - first) : ""),
               columns, 0) +
        "\n";
  }
  return out;
}

tools::Json json(const Change& change) {
  return {{"what", change.what()},
          {"kind", name_of(change.kind)},
          {"old", shown(change.before)},
          {"new", shown(change.after)}};
}

tools::Json json(const Outcome& outcome) {
  auto object = json(outcome.change);
  object["outcome"] = name_of(outcome.kind);
  object["remark"] = outcome.why;
  return object;
}

std::string line(const Change& change) {
  return fmt::format("{}: {} -> {}", change.what(), shown(change.before), shown(change.after));
}

std::string line(const Outcome& outcome) {
  return fmt::format("{}: {}{}{}", name_of(outcome.kind), line(outcome.change), outcome.why.empty() ? "" : ": ",
                     outcome.why);
}

tools::Json json(const Report& report) {
  auto findings = tools::Json::array();
  for (const auto& finding : report.findings) {
    auto fix = tools::Json::array();
    for (const auto& change : finding.changes) fix.push_back(json(change));
    findings.push_back({{"id", finding.id},
                        {"severity", name_of(finding.severity)},
                        {"subject", finding.subject},
                        {"seen", finding.seen},
                        {"why", finding.why},
                        {"todo", finding.todo},
                        {"fix", std::move(fix)}});
  }
  return {{"findings", std::move(findings)}, {"unseen", report.unseen}};
}

}  // namespace efio::doctor
