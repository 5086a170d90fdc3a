#include "tools/broker/policy.h"

#define TOML_HEADER_ONLY 1
// Version 3.3 asserts in debug builds what "[[[[a]" breaks, and then refuses that text in good order.
#define TOML_ASSERT(expression) static_cast<void>(0)
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <toml++/toml.h>

#include "efio/descriptor.h"
#include "efio/engines/link.h"
#include "efio/engines/xdp_rules.h"
#include "efio/fail.h"
#include "efio/text.h"

namespace efio::broker {

namespace {

constexpr std::size_t largest_file = 1 << 20;
constexpr std::int64_t most_queues = 1024;

// In one line, whatever the file holds.
Failure wrong(const std::string& path, const toml::source_region& where, std::string why) {
  std::ranges::replace_if(why, [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return {Error::Kind::data, 0, "read " + path, fmt::format("line {}: {}", where.begin.line, std::move(why))};
}

// A number, or a name that the system knows.
std::optional<id_t> identity(const toml::node& node, bool of_group) {
  if (const auto number = node.value_exact<std::int64_t>())
    return *number >= 0 && *number < UINT32_MAX ? std::optional(static_cast<id_t>(*number)) : std::nullopt;
  const auto text = node.value_exact<std::string>();
  if (!text) return std::nullopt;
  if (of_group) {
    const group* found = ::getgrnam(text->c_str());
    return found != nullptr ? std::optional(found->gr_gid) : std::nullopt;
  }
  const passwd* found = ::getpwnam(text->c_str());
  return found != nullptr ? std::optional(found->pw_uid) : std::nullopt;
}

Result<void> read_value(Permit& permit, std::string_view key, const toml::node& node, const std::string& path) {
  const auto refuse = [&](std::string why) -> Result<void> { return wrong(path, node.source(), std::move(why)); };
  const auto text = node.value_exact<std::string>();
  if (key == "user" || key == "group") {
    const auto found = identity(node, key == "group");
    if (!found) return refuse(fmt::format("{} is no {} of this system", text.value_or("this"), key));
    if (key == "user") permit.user = found;
    else permit.group = found;
  } else if (key == "device") {
    if (!text || text->empty() || !check_interface_name(*text, path)) return refuse("device is no interface's name");
    permit.device = *text;
  } else if (key == "queues") {
    const toml::array* queues = node.as_array();
    if (queues == nullptr || queues->empty()) return refuse("queues is no list of numbers, such as [0, 1]");
    for (const auto& entry : *queues) {
      const auto queue = entry.value_exact<std::int64_t>();
      if (!queue || *queue < 0 || *queue >= most_queues) return refuse("queues is no list of numbers, such as [0, 1]");
      permit.queues.push_back(static_cast<unsigned>(*queue));
    }
  } else if (key == "direction") {
    if (text != "rx" && text != "tx" && text != "both") return refuse("direction is rx, tx or both");
    permit.direction = text == "rx" ? Direction::rx : text == "tx" ? Direction::tx : Direction::both;
  } else if (key == "take") {
    if (!text) return refuse("take is a text");
    if (const auto rules = XdpRules::parse(*text, path); !rules) return refuse(rules.error().why);
    permit.take = *text;
  } else if (key == "memory") {
    const auto bytes = text ? parse_count(*text) : std::nullopt;
    if (!bytes || *bytes == 0) return refuse("memory is a number of bytes, such as \"64Mi\"");
    permit.memory = *bytes;
  } else {
    return refuse(fmt::format("there is no key {}; user, group, device, queues, direction, take, memory", key));
  }
  return {};
}

}  // namespace

bool Permit::is_for(const Client& client) const noexcept {
  if (user && *user != client.user) return false;
  return !group || std::ranges::find(client.groups, *group) != client.groups.end();
}

bool Permit::covers(std::string_view name, unsigned queue, Direction way) const noexcept {
  const auto has = [](Direction all, Direction one) { return (static_cast<unsigned>(all) & static_cast<unsigned>(one)) == static_cast<unsigned>(one); };
  return device == name && has(direction, way) && (queues.empty() || std::ranges::find(queues, queue) != queues.end());
}

Result<Policy> Policy::read(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat about {};
  if (!file || ::fstat(file.get(), &about) != 0) return fail(errno, "read {}", path);
  // Whoever may write here may open any device.
  if ((about.st_mode & (S_IWGRP | S_IWOTH)) != 0 || (about.st_uid != 0 && about.st_uid != ::geteuid()))
    return fail(Error::Kind::permission, "read " + path, "others than root may write to it").hint("chown root {0}; chmod go-w {0}", path);
  std::string text;
  std::array<char, 4096> part;
  while (text.size() < largest_file) {
    const auto got = ::read(file.get(), part.data(), part.size());
    if (got < 0) return fail(errno, "read {}", path);
    if (got == 0) return parse(text, path);
    text.append(part.data(), static_cast<std::size_t>(got));
  }
  return fail(Error::Kind::data, "read " + path, "longer than {} bytes", largest_file);
}

Result<Policy> Policy::parse(std::string_view text, const std::string& path) {
  Policy policy;
  // Names of users and devices are ASCII, and comments nobody reads here; characters beyond lead toml++ 3.3 astray.
  std::string plain(text);
  std::ranges::replace_if(plain, [](char c) { return static_cast<unsigned char>(c) >= 0x80; }, '?');
  try {
    const auto root = toml::parse(plain, path);
    for (const auto& [key, node] : root) {
      const toml::array* entries = node.as_array();
      if (key.str() != "allow" || entries == nullptr || !entries->is_homogeneous<toml::table>())
        return wrong(path, node.source(), "only entries of [[allow]] are known");
      for (const auto& entry : *entries) {
        Permit permit;
        for (const auto& [name, value] : *entry.as_table())
          if (auto ok = read_value(permit, name.str(), value, path); !ok) return std::unexpected(ok.error());
        if (permit.device.empty() || (!permit.user && !permit.group))
          return wrong(path, entry.source(), "an entry names a device, and a user or a group");
        policy.permits_.push_back(std::move(permit));
      }
    }
  } catch (const toml::parse_error& error) {
    return wrong(path, error.source(), std::string(error.description()));
  }
  return policy;
}

const Permit* Policy::find(const Client& client, std::string_view device, unsigned queue, Direction direction) const noexcept {
  const auto found = std::ranges::find_if(
      permits_, [&](const Permit& permit) { return permit.is_for(client) && permit.covers(device, queue, direction); });
  return found == permits_.end() ? nullptr : &*found;
}

const Permit* Policy::find(const Client& client, std::string_view device) const noexcept {
  const auto found =
      std::ranges::find_if(permits_, [&](const Permit& permit) { return permit.is_for(client) && permit.device == device; });
  return found == permits_.end() ? nullptr : &*found;
}

bool Policy::may_receive(const Client& client, std::string_view device) const noexcept {
  return std::ranges::any_of(permits_, [&](const Permit& permit) {
    return permit.is_for(client) && permit.device == device && receives(permit.direction);
  });
}

bool Policy::knows(const Client& client) const noexcept {
  return std::ranges::any_of(permits_, [&](const Permit& permit) { return permit.is_for(client); });
}

}  // namespace efio::broker
