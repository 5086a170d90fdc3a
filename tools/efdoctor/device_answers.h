// What the kernel answers about a network device: ethtool, ioctls and netlink, all in the network namespace of the
// calling thread. As JSON it is what `efdoctor capture` keeps.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "efio/result.h"
#include "tools/common/port_report.h"
#include "tools/common/proc_text.h"

namespace efio::doctor {

struct Feature {
  bool on = false;
  bool fixed = false;  // cannot be changed
  friend bool operator==(const Feature&, const Feature&) = default;
};

struct RingSizes {
  std::uint32_t rx = 0, rx_most = 0, tx = 0, tx_most = 0;  // slots
};

struct Channels {
  std::uint32_t rx = 0, tx = 0, combined = 0;
  std::uint32_t rx_most = 0, tx_most = 0, combined_most = 0;
};

struct Coalescing {
  std::uint32_t rx_us = 0, rx_frames = 0, tx_us = 0, tx_frames = 0;
  bool adaptive_rx = false, adaptive_tx = false;
};

struct Pause {
  bool negotiated = false, rx = false, tx = false;
};

struct LinkMode {
  std::uint32_t speed = 0;       // Mbit/s, 0: unknown
  std::uint32_t speed_most = 0;  // of those that the device supports; 0: it does not say
  std::string duplex;            // "full", "half", "unknown"
};

struct Spread {                      // RSS
  std::vector<std::uint32_t> table;  // queues, by hash value
  std::string key;                   // hexadecimal, two digits a byte
};

struct XdpSupport {  // Linux 6.3 and later tell it
  bool native = false, redirect = false, zero_copy = false, multi_buffer = false, hardware_time = false;
};

struct XdpProgram {
  std::uint32_t id = 0;  // 0: none
  std::string mode;      // "native", "generic", "hardware"
};

struct DeviceAnswers {
  std::string name;
  int index = 0;
  std::string driver, driver_version, firmware;
  std::string bus;  // a PCI address as in /sys/bus/pci/devices, or whatever the driver names
  bool up = false, carrier = false, loopback = false;
  std::uint32_t mtu = 0;
  std::uint32_t tx_queue_length = 0;
  tools::DeviceCounts counts;
  std::map<std::string, Feature> features;
  // Nothing: the driver does not answer.
  std::optional<RingSizes> rings;
  std::optional<Channels> channels;
  std::optional<Coalescing> coalescing;
  std::optional<Pause> pause;
  std::optional<LinkMode> link;
  std::optional<Spread> spread;
  std::optional<XdpSupport> xdp;
  std::optional<XdpProgram> program;  // nothing: could not be asked

  bool is_on(const std::string& feature) const {
    const auto found = features.find(feature);
    return found != features.end() && found->second.on;
  }
};

tools::Json to_json(const DeviceAnswers& answers);
// With a line break at its end; bytes that are no UTF-8 (drivers and programs name themselves) are replaced.
std::string pretty(const tools::Json& json);
// Errors: data.
Result<DeviceAnswers> from_json(const std::string& text, const std::string& path);

// Asks this machine. Errors: device (there is none of that name), usage.
Result<DeviceAnswers> ask_device(const std::string& name);

// Sets one of a device's settings; `value` as in Change. Errors as the kernel's.
Result<void> set_feature(const std::string& device, const std::string& feature, bool on);
Result<void> set_ring(const std::string& device, bool rx, std::uint32_t slots);
Result<void> set_tx_queue_length(const std::string& device, std::uint32_t frames);

}  // namespace efio::doctor
