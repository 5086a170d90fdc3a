// tap: and host:, which is a TAP too: the port under test is the near side of a TAP device that stays, the counterpart a plain socket on its far side,
// the kernel's interface. Whether that is up is the rig's business.
#include <optional>

#include "tests/contract/rigs.h"
#include "tests/support/netns.h"
#include "tests/support/plain_socket.h"

namespace efio::test {

namespace {

class TapRig final : public Rig {
 public:
  explicit TapRig(std::string uri) : uri_(std::move(uri)) {}

  std::string why_not() override {
    if (::geteuid() != 0) return "needs root";
    if (::access("/dev/net/tun", F_OK) != 0) return "there is no /dev/net/tun";
    ns_.emplace();
    ns_->ip("tuntap add dev t0 mode tap multi_queue");
    // Makes the longest frame that the port receives (1920) one that the kernel sends.
    ns_->ip("link set t0 mtu 1906 up");
    far_.emplace(*ns_, "t0");
    return {};
  }

  Result<Port> open(std::string_view options, const PortOptions& how) override {
    return ns_->run([&] {
      return Port::open(uri_ + "&frame=1920&raise=off" + std::string(options.empty() ? "" : "&") + std::string(options), how);
    });
  }

  bool put_in(std::span<const std::byte> frame, std::size_t) override { return far_->send(frame); }
  std::optional<Bytes> take_out(milliseconds patience) override { return far_->receive(patience); }

  // What the device sends comes in; what it has no room for is counted apart.
  std::optional<DeviceCounts> counts() override {
    const auto c = ns_->counters("t0");
    return DeviceCounts{c.tx_packets + c.tx_dropped, c.tx_bytes, c.rx_packets, c.rx_bytes};
  }
  void set_link(bool up) override { ns_->ip(up ? "link set t0 up" : "link set t0 down"); }
  void delete_device() override { ns_->ip("link del t0"); }
  std::string device() const override { return "t0"; }

 private:
  std::string uri_;
  std::optional<Netns> ns_;
  std::optional<PlainSocket> far_;
};

}  // namespace

std::unique_ptr<Rig> make_tap_rig() { return std::make_unique<TapRig>("tap:t0?mtu=1906"); }
// Beside a device that has nothing to lend.
std::unique_ptr<Rig> make_host_rig() { return std::make_unique<TapRig>("host:lo?name=t0&mtu=1906&mac=own&address=none"); }

}  // namespace efio::test
