// netmap: the port under test is a NIC of the simulated module, the counterpart that NIC's wire.
#include "tests/contract/rigs.h"
#include "tests/netmap/simulated_netmap.h"

namespace efio::test {

namespace {

class NetmapRig final : public Rig {
 public:
  std::string why_not() override {
    netmap_.emplace();
    netmap_->add_nic("nm0", {.rings = 2});
    return {};
  }
  Result<Port> open(std::string_view options, const PortOptions& how) override {
    return Port::open("netmap:nm0" + std::string(options.empty() ? "" : "?") + std::string(options), how);
  }
  bool put_in(std::span<const std::byte> frame, std::size_t queue) override { return netmap_->deliver("nm0", frame, queue); }
  std::optional<Bytes> take_out(milliseconds patience) override { return netmap_->take("nm0", patience); }
  std::optional<DeviceCounts> counts() override {
    const auto c = netmap_->counts("nm0");
    return DeviceCounts{c.received, c.received_bytes, c.sent, c.sent_bytes};
  }
  void set_link(bool up) override { netmap_->set_admin("nm0", up); }
  void delete_device() override { netmap_->delete_nic("nm0"); }
  std::string device() const override { return "nm0"; }

 private:
  std::optional<SimulatedNetmap> netmap_;
};

}  // namespace

std::unique_ptr<Rig> make_netmap_rig() { return std::make_unique<NetmapRig>(); }

}  // namespace efio::test
