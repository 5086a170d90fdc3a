// Which user may open what: the broker's file.
//
//   [[allow]]
//   user = "probe"               # a name or a number; or group = "capture", one of the user's groups
//   device = "eth0"
//   queues = [0, 1]              # left out: all
//   direction = "rx"             # "rx" or "tx"; left out: both
//   take = "udp:4000-5000"       # the only frames that may leave the host; left out: whatever the program asks for
//   memory = "64Mi"             # bytes of frames that one opening may have locked; left out: 64Mi
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "efio/port.h"
#include "efio/result.h"

namespace efio::broker {

struct Client {
  pid_t process = 0;
  uid_t user = 0;
  std::vector<gid_t> groups;
};

struct Permit {
  std::optional<uid_t> user;
  std::optional<gid_t> group;
  std::string device;
  std::vector<unsigned> queues;  // empty: all
  Direction direction = Direction::both;
  std::string take;              // empty: anything
  std::uint64_t memory = std::uint64_t{64} << 20;

  bool is_for(const Client& client) const noexcept;
  bool covers(std::string_view name, unsigned queue, Direction way) const noexcept;
};

class Policy {
 public:
  // Errors: device (cannot be read), permission (others may write to it), data (what is wrong, with its line).
  static Result<Policy> read(const std::string& path);
  static Result<Policy> parse(std::string_view text, const std::string& path);

  const std::vector<Permit>& permits() const noexcept { return permits_; }
  // Null: not allowed. The first that fits.
  const Permit* find(const Client& client, std::string_view device, unsigned queue, Direction direction) const noexcept;
  const Permit* find(const Client& client, std::string_view device) const noexcept;  // of any queue and direction
  bool may_receive(const Client& client, std::string_view device) const noexcept;    // on any queue
  bool knows(const Client& client) const noexcept;

 private:
  std::vector<Permit> permits_;
};

}  // namespace efio::broker
