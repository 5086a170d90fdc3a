// PCI devices stand in /sys under their address whatever network namespace their interface is in
// (Documentation/ABI/testing/sysfs-bus-pci): current_link_speed, current_link_width, numa_node, msi_irqs.
#include "tools/efdoctor/device_facts.h"

#include <algorithm>
#include <charconv>

#include "efio/fail.h"

namespace efio::doctor {

namespace {

double lane_speed(std::string_view text) {  // "8.0 GT/s PCIe"
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && value > 0 && value < 1000 ? value : 0;
}

// Drivers name a queue's interrupt after it: "eth0-TxRx-3", "i40e-eth0-TxRx-3", "mlx5_comp3@pci:…", "virtio3-input.0",
// "virtio3-rx", "ice-eth0-TxRx-3", "eth0-rx-0"; others are for the link, the mailbox, the configuration.
bool is_of_a_queue(std::string_view name) {
  constexpr std::string_view parts[] = {"TxRx", "-rx", "-tx", "input", "output", "comp", "queue"};
  return std::ranges::any_of(parts, [&](std::string_view part) { return name.find(part) != std::string_view::npos; });
}

void read_pci(Host& host, DeviceFacts& device) {
  const auto at = "/sys/bus/pci/devices/" + device.answers.bus;
  const auto speed = host.read(at + "/current_link_speed");
  if (speed) {
    const auto number = [&](const char* name) {
      return static_cast<unsigned>(
          std::min<std::uint64_t>(tools::whole_number(host.read(at + name).value_or("")).value_or(0), 255));
    };
    device.pcie = PcieLink{.speed = lane_speed(*speed),
                           .speed_most = lane_speed(host.read(at + "/max_link_speed").value_or("")),
                           .width = number("/current_link_width"),
                           .width_most = number("/max_link_width")};
  }
  if (const auto node = tools::whole_number(host.read(at + "/numa_node").value_or("")); node && *node < 1024)
    device.node = static_cast<int>(*node);

  const auto all = tools::interrupts(host.read("/proc/interrupts").value_or(""));
  for (const auto& text : host.list(at + "/msi_irqs")) {
    const auto number = tools::whole_number(text);
    if (!number || *number > std::numeric_limits<unsigned>::max()) continue;
    const auto found = all.find(static_cast<unsigned>(*number));
    if (found == all.end() || !is_of_a_queue(found->second.name)) continue;
    QueueInterrupt interrupt{.number = found->first, .name = found->second.name, .cpus = {}, .affinity_text = {}};
    const auto place = fmt::format("/proc/irq/{}/", interrupt.number);
    interrupt.affinity_text = host.read(place + "smp_affinity_list").value_or("");
    interrupt.cpus = tools::cpu_list(host.read(place + "effective_affinity_list").value_or(""));
    if (interrupt.cpus.empty()) interrupt.cpus = tools::cpu_list(interrupt.affinity_text);
    device.interrupts.push_back(std::move(interrupt));
  }
  std::ranges::sort(device.interrupts, {}, &QueueInterrupt::number);
}

}  // namespace

double PcieLink::gigabits(double speed, unsigned width) noexcept {
  const double coding = speed < 8 ? 8.0 / 10 : 128.0 / 130;  // PCI Express Base Specification: 8b/10b up to 5 GT/s
  return speed * width * coding;
}

Result<DeviceFacts> read_device(Host& host, const std::string& name) {
  auto answers = host.device(name);
  if (!answers) return std::unexpected(answers.error());
  DeviceFacts device{.answers = std::move(*answers), .pcie = {}, .node = -1, .interrupts = {}, .holder = {}};
  const auto& bus = device.answers.bus;
  if (!bus.empty() && bus.find('/') == std::string::npos) read_pci(host, device);
  if (device.answers.program && device.answers.program->id != 0)
    device.holder = find_holder(host, device.answers.program->id);
  return device;
}

}  // namespace efio::doctor
