// host: the host's stack behind a device whose frames a program has taken: a TAP that looks to the host like the device.
// What is sent here, the host receives; what the host sends through the device's addresses is received here.
//
//   device ←→ xdp:eth0 ←→ program ←→ host:eth0 ←→ the host's stack
//
// Where this program has the device by netmap, the device's own host rings are that side, without a TAP.
#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "efio/engines/engine.h"
#include "efio/engines/host_address.h"
#include "efio/engines/link.h"
#include "efio/fail.h"

namespace efio {

namespace {

constexpr std::size_t longest_name = 15;
constexpr std::string_view prefix = "host-";

struct HostChoice {
  std::string attempted;
  std::string device, tap;
  std::string address;  // "device", "none", or addresses with commas
  bool own_mac = false;
  std::string tap_options;
};

// All but our own options are the TAP's.
Result<HostChoice> read_options(Uri& uri) {
  HostChoice choice;
  choice.attempted = "open " + uri.text();
  choice.device = uri.name();
  choice.tap = uri.text_option("name", std::string(prefix) + uri.name());
  choice.address = uri.text_option("address", "device");
  choice.own_mac = uri.choice("mac", {"device", "own"}) == "own";
  if (uri.has("persist"))
    return fail(Error::Kind::usage, choice.attempted, "persist=: the device of a host: port never outlives it").hint("tap:, for such a one");
  for (const auto& [key, value] : uri.options()) {
    if (key == "name" || key == "address" || key == "mac" || key == "via") continue;
    uri.has(key);  // whether the TAP knows it, it says itself
    choice.tap_options += fmt::format("{}{}={}", choice.tap_options.empty() ? "?" : "&", key, value);
  }
  if (auto ok = uri.finish(); !ok) return std::unexpected(ok.error());
  if (choice.tap.size() > longest_name)
    return fail(Error::Kind::usage, choice.attempted, "{} is too long for an interface's name", choice.tap)
        .hint("name=, of at most {} characters", longest_name);
  return choice;
}

Result<void> set_addresses(const HostChoice& choice, int from, int to) {
  if (choice.address == "none") return {};
  if (choice.address == "device") return borrow_addresses(from, to, choice.attempted);
  std::string_view rest = choice.address;
  for (bool last = false; !last;) {
    const auto comma = rest.find(',');
    last = comma == std::string_view::npos;
    if (auto ok = add_address(to, std::string(rest.substr(0, comma)), choice.attempted); !ok) return ok;
    if (!last) rest.remove_prefix(comma + 1);
  }
  return {};
}

// The device's host rings; all options but our own are netmap's.
Opened open_host_rings(const Uri& uri, const PortOptions& options) {
  std::string text = "netmap:" + uri.name() + "^";
  char before = '?';
  for (const auto& [key, value] : uri.options()) {
    if (key == "via") continue;
    text += fmt::format("{}{}={}", std::exchange(before, '&'), key, value);
  }
  auto rings = Uri::parse(text);
  if (!rings) return std::unexpected(rings.error());
  return open_netmap(*rings, options);
}

}  // namespace

Opened open_host(Uri& uri, const PortOptions& options) {
  const auto via = uri.choice("via", {"auto", "netmap", "tap"});
  if (via == "netmap" || (via == "auto" && netmap_has(uri.name()))) return open_host_rings(uri, options);
  auto choice = read_options(uri);
  if (!choice) return std::unexpected(choice.error());
  auto device = Link::open(choice->device, choice->attempted);
  if (!device) return std::unexpected(device.error());
  auto mtu = fmt::format("{}mtu={}", choice->tap_options.empty() ? "?" : "&", (*device)->mtu());
  auto tap = Uri::parse("tap:" + choice->tap + choice->tap_options + (uri.has("mtu") ? "" : mtu));
  if (!tap) return std::unexpected(tap.error());
  auto port = open_tap(*tap, options);
  if (!port) {
    auto error = port.error();
    error.attempted = choice->attempted;
    return std::unexpected(std::move(error));
  }
  auto link = Link::open((*port)->info.device, choice->attempted);
  if (!link) return std::unexpected(link.error());
  auto& info = (*port)->info;
  // A frame for the device's MAC address is for the host, by whichever of the two it comes.
  if (!choice->own_mac) {
    if (auto ok = set_mac((*link)->index(), (*device)->mac(), choice->attempted); !ok) return std::unexpected(ok.error());
    info.mac = (*device)->mac();
  }
  if (auto ok = set_addresses(*choice, (*device)->index(), (*link)->index()); !ok) return std::unexpected(ok.error());
  info.mode = fmt::format("TAP beside {}, {}", choice->device, choice->address == "device" ? "with its addresses" : choice->address == "none" ? "without addresses" : choice->address);
  return port;
}

}  // namespace efio
