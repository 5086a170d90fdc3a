#include "tools/efdoctor/examine.h"

#include <algorithm>

#include "tools/efdoctor/checks.h"

namespace efio::doctor {

bool Report::healthy() const noexcept {
  return std::ranges::all_of(findings, [](const Finding& finding) { return finding.severity == Severity::note; });
}

Result<Report> examine(Host& host, const Request& request) {
  // Devices first: who mistypes a name need not wait.
  std::vector<DeviceFacts> named;
  for (const auto& name : request.devices) {
    auto device = read_device(host, name);
    if (!device) return std::unexpected(device.error());
    named.push_back(std::move(*device));
  }
  const auto facts = read_host(host, request.sampling);
  Report report{.findings = check_host(facts, request.wishes), .unseen = {}};
  const auto take = [&](Findings more) { std::ranges::move(more, std::back_inserter(report.findings)); };
  for (const auto& device : named) take(check_device(device, facts, request.wishes));
  for (const auto& name : host.devices())
    if (std::ranges::find(request.devices, name) == request.devices.end())
      if (const auto device = read_device(host, name)) take(check_bystander(*device, facts, request.wishes));
  // The worst first; else in the order of the checks.
  std::ranges::stable_sort(report.findings, std::ranges::greater{}, &Finding::severity);
  report.unseen.assign(host.denied().begin(), host.denied().end());
  return report;
}

}  // namespace efio::doctor
