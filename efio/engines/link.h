// Internal: a network interface by name, as the engines see it: what it is, when it carries packets, what happens to it
// at run time. It speaks rtnetlink and ethtool in the network namespace of the thread that opens it, whatever /sys shows.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "efio/descriptor.h"
#include "efio/result.h"
#include "efio/uri.h"

struct nl_msg;
struct nl_sock;

namespace efio {

// How long to wait for a link: its carrier must be up and steady for `settle`, within `up`.
struct LinkWait {
  std::chrono::nanoseconds settle = std::chrono::milliseconds(200);  // 0: up is enough
  std::chrono::nanoseconds up = std::chrono::seconds(10);

  static LinkWait from(Uri& uri);  // settle=, up=
};

// Errors: usage (longer than the kernel allows).
Result<void> check_interface_name(const std::string& name, const std::string& attempted);

class Link {
 public:
  // Errors: usage (a name that no interface can have), device (there is none of that name). The link need not be up.
  static Result<std::shared_ptr<Link>> open(const std::string& name, const std::string& attempted);

  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  const std::string& name() const noexcept { return name_; }
  int index() const noexcept { return index_; }
  std::uint32_t mtu() const noexcept { return mtu_; }                            // when it was opened
  const std::array<std::uint8_t, 6>& mac() const noexcept { return mac_; }       // zero where it has none
  bool ethernet() const noexcept { return ethernet_; }                           // frames begin with an Ethernet header
  bool loopback() const noexcept { return loopback_; }
  // Bits per second of a physical link. 0 where nothing is known or nothing limits: the 10 Gbit/s of a veth pair or a TAP
  // are in name only.
  std::uint64_t speed() const noexcept { return speed_; }
  const std::string& kind() const noexcept { return kind_; }  // "veth", "tun", …: what software made; empty: hardware

  // Returns when the link carries packets as `wait` asks, woken by netlink; call it after the last act that may reset the
  // link. Errors: device (it stayed down, with what to try; or it was deleted meanwhile).
  Result<void> wait_ready(const LinkWait& wait, const std::string& attempted);

  // Reads what netlink has to tell since the last time, if anything, and never blocks: one system call when there is
  // nothing. For moments when a queue runs empty or a send fails. Any thread; who comes while another reads goes on.
  void check() noexcept;

  // Asks for the state of this very moment, which netlink may tell a second later; some microseconds. Of a link that is
  // down it does not wait for anybody; of one that is up, for who changes an interface at this moment.
  void refresh() noexcept;

  // Frames that the interface has received in all, as the kernel counts; 0 when it cannot be asked.
  std::uint64_t received() noexcept;

  // As of the last check() or refresh().
  bool up() const noexcept { return up_.load(std::memory_order_acquire); }
  bool gone() const noexcept { return gone_.load(std::memory_order_acquire); }       // deleted, or moved elsewhere
  std::uint64_t downs() const noexcept { return downs_.load(std::memory_order_acquire); }  // changes from up to down
  std::uint64_t downs_by_now() noexcept { return check(), downs(); }

  // What a queue fails with when gone().
  Error gone_error(const std::string& label) const;

  // Keeps the interface promiscuous until the descriptor is closed; the kernel counts who asks, and restores.
  // Errors: permission.
  Result<Fd> hold_promiscuous(const std::string& attempted) const;

 private:
  Link() = default;
  Result<void> ask(const std::string& attempted);
  bool look_down() const noexcept;
  void read_events(bool and_ask) noexcept;
  void see(std::uint32_t flags, std::uint32_t carrier_changes) noexcept;
  void see_gone() noexcept;
  static int on_message(nl_msg* message, void* self);

  struct CloseSocket {
    void operator()(nl_sock* socket) const noexcept;
  };

  std::string name_, kind_;
  int index_ = 0;
  std::uint32_t mtu_ = 0;
  std::array<std::uint8_t, 6> mac_{};
  bool ethernet_ = false, loopback_ = false;
  std::uint64_t speed_ = 0;

  std::mutex mutex_;  // of the sockets below
  std::unique_ptr<nl_sock, CloseSocket> events_, questions_;
  std::uint32_t flags_ = 0, carrier_changes_ = 0;
  std::atomic<bool> up_{false}, gone_{false};
  std::atomic<std::uint64_t> downs_{0};
};

// What the error of a system call that wants CAP_NET_RAW says to the user, for hints.
std::string raw_socket_hint();

}  // namespace efio
