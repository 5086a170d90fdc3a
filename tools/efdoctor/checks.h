// Facts to findings: pure functions, listed in tables. docs/efdoctor.md has a paragraph on each id.
#pragma once

#include <span>
#include <string_view>

#include "tools/efdoctor/device_facts.h"
#include "tools/efdoctor/finding.h"
#include "tools/efdoctor/host_facts.h"

namespace efio::doctor {

struct HostCheck {
  std::string_view id;  // of every finding that it makes
  void (*look)(const HostFacts&, const Wishes&, Findings&);
};
std::span<const HostCheck> host_checks() noexcept;

struct DeviceCheck {
  std::string_view id;
  void (*look)(const DeviceFacts&, const HostFacts&, const Wishes&, Findings&);
};
std::span<const DeviceCheck> device_checks() noexcept;

bool is_check(std::string_view id) noexcept;

Findings check_host(const HostFacts& facts, const Wishes& wishes);
Findings check_device(const DeviceFacts& device, const HostFacts& facts, const Wishes& wishes);
// Of a device that was not asked about: only what hits all that follow.
Findings check_bystander(const DeviceFacts& device, const HostFacts& facts, const Wishes& wishes);

}  // namespace efio::doctor
