// xdp: the port under test is one end of a veth pair, the counterpart a plain socket on the other.
#include <optional>

#include "tests/contract/rigs.h"
#include "tests/support/netns.h"
#include "tests/support/plain_socket.h"

namespace efio::test {

namespace {

class XdpRig final : public Rig {
 public:
  std::string why_not() override {
    if (::geteuid() != 0) return "needs root";
    pair_.emplace();
    // Makes the longest frame that the port receives (1792) one that the peer's kernel sends.
    pair_->a.ip("link set va mtu 1778");
    pair_->b.ip("link set vb mtu 1778");
    far_.emplace(pair_->b, "vb");
    return {};
  }

  Result<Port> open(std::string_view options, const PortOptions& how) override {
    // A veth pair has one queue unless told; a port opens all there are.
    if (options.find("queues=2") != std::string_view::npos) {
      pair_->a.shell("ethtool -L va rx 2 tx 2");
      pair_->b.shell("ethtool -L vb rx 2 tx 2");
    }
    return pair_->a.run([&] {
      return Port::open("xdp:va?jumbo=off" + std::string(options.empty() ? "" : "&") + std::string(options), how);
    });
  }

  bool put_in(std::span<const std::byte> frame, std::size_t) override { return far_->send(frame); }
  std::optional<Bytes> take_out(milliseconds patience) override { return far_->receive(patience); }

  std::optional<DeviceCounts> counts() override {
    const auto c = pair_->a.counters("va");
    return DeviceCounts{c.rx_packets, c.rx_bytes, c.tx_packets, c.tx_bytes};
  }
  void set_link(bool up) override { pair_->b.ip(up ? "link set vb up" : "link set vb down"); }
  void delete_device() override { pair_->a.ip("link del va"); }
  std::string device() const override { return "va"; }

 private:
  std::optional<VethPair> pair_;
  std::optional<PlainSocket> far_;
};

}  // namespace

std::unique_ptr<Rig> make_xdp_rig() { return std::make_unique<XdpRig>(); }

}  // namespace efio::test
