#include "efio/engines/netmap_name.h"

#include <string_view>

#include "efio/engines/link.h"
#include "efio/engines/netmap_abi.h"
#include "efio/fail.h"
#include "efio/text.h"

namespace efio::netmap {

namespace {

constexpr std::string_view spellings =
    "eth7, eth7-2, eth7^, eth7*, vale0:a, x{1 or x}1; behind it /r, /t, /rt or /z for a monitor, @2 for a memory region";

// Takes "MARKnumber" off the end; nothing if it does not end so.
std::optional<std::uint16_t> take_number(std::string_view& text, char mark) {
  const auto at = text.rfind(mark);
  if (at == std::string_view::npos || at == 0) return std::nullopt;
  const auto digits = text.substr(at + 1);
  if (digits.empty() || digits.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  const auto number = parse_count(digits);
  if (!number || *number > UINT16_MAX) return std::nullopt;
  text = text.substr(0, at);
  return static_cast<std::uint16_t>(*number);
}

// Takes "/flags" off the end.
std::optional<std::uint64_t> take_monitor(std::string_view& text) {
  const auto at = text.rfind('/');
  if (at == std::string_view::npos || at == 0 || at + 1 == text.size()) return std::nullopt;
  std::uint64_t flags = 0;
  for (const char c : text.substr(at + 1)) {
    if (c == 'r') flags |= monitor_rx;
    else if (c == 't') flags |= monitor_tx;
    else if (c == 'z') flags |= monitor_zero_copy | monitor_rx | monitor_tx;
    else return std::nullopt;
  }
  text = text.substr(0, at);
  return flags;
}

}  // namespace

Result<PortName> parse_name(const std::string& text, const std::function<bool(const std::string&)>& is_interface,
                            const std::string& attempted) {
  PortName name;
  const auto bad = [&](std::string_view why) {
    return fail(Error::Kind::usage, attempted, "{}: {}", text, why).hint("{}", spellings);
  };
  std::string_view rest = text;
  if (rest.find('@') != std::string_view::npos) {
    const auto memory = take_number(rest, '@');
    if (!memory || *memory == 0) return bad("behind @ stands the number of a memory region");
    name.memory = *memory;
  }
  if (rest.find('/') != std::string_view::npos) {
    const auto flags = take_monitor(rest);
    if (!flags) return bad("behind / stand r, t or z");
    name.monitor = *flags;
  }

  if (rest.starts_with("vale") && rest.find(':') != std::string_view::npos) name.kind = PortName::Kind::switch_port;
  else if (rest.find_first_of("{}") != std::string_view::npos) name.kind = PortName::Kind::pipe;

  if (name.kind == PortName::Kind::nic) {
    if (rest.ends_with('*')) {
      name.host_rings = true;
      rest.remove_suffix(1);
    } else if (rest.find('^') != std::string_view::npos) {
      name.nic_rings = false;
      name.host_rings = true;
      if (rest.ends_with('^')) rest.remove_suffix(1);
      else name.ring = take_number(rest, '^');
    } else if (!is_interface(std::string(rest))) {
      name.ring = take_number(rest, '-');
    }
    if (rest.find_first_of("^*@/") != std::string_view::npos) return bad("not a netmap port");
    if (auto ok = check_interface_name(std::string(rest), attempted); !ok) return std::unexpected(ok.error());
  } else {
    // In a pipe's name a number behind a dash would be part of the pipe's.
    if (name.kind == PortName::Kind::switch_port) name.ring = take_number(rest, '-');
    const auto mark = rest.find_first_of(name.kind == PortName::Kind::pipe ? "{}" : ":");
    if (mark == 0 || mark + 1 == rest.size()) return bad("a name is missing before or behind the mark");
  }
  if (rest.empty()) return bad("no name");
  if (rest.size() > longest_name) return bad(fmt::format("longer than {} characters", longest_name));
  name.port = rest;
  return name;
}

}  // namespace efio::netmap
