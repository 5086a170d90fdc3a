// pfring: the port under test is one end of a veth pair, the counterpart a plain socket on the other. The library is the
// fake one that the tests build; where a machine has PF_RING, the genuine one too.
#include <algorithm>
#include <optional>

#include "tests/contract/rigs.h"
#include "tests/support/netns.h"
#include "tests/support/plain_socket.h"

namespace efio::test {

namespace {

class PfringRig final : public Rig {
 public:
  explicit PfringRig(std::string options) : options_(std::move(options)) {}

  std::string why_not() override {
    if (::geteuid() != 0) return "needs root";
    if (options_.empty()) {
      const auto all = engines();
      const auto row = std::ranges::find(all, "pfring", &EngineInfo::scheme);
      if (!row->available) return row->why_not;
    }
    pair_.emplace();
    pair_->b.shell("ethtool -K vb tx off gso off tso off");
    far_.emplace(pair_->b, "vb");
    return {};
  }
  Result<Port> open(std::string_view options, const PortOptions& how) override {
    auto uri = "pfring:va?" + options_;
    if (!options.empty()) uri += (options_.empty() ? "" : "&") + std::string(options);
    if (uri.ends_with('?')) uri.pop_back();
    return pair_->a.run([&] { return Port::open(uri, how); });
  }
  bool put_in(std::span<const std::byte> frame, std::size_t) override { return far_->send(frame); }
  std::optional<Bytes> take_out(milliseconds patience) override { return far_->receive(patience); }
  std::optional<DeviceCounts> counts() override {
    const auto c = pair_->a.counters("va");
    return DeviceCounts{c.rx_packets, c.rx_bytes, c.tx_packets, c.tx_bytes};
  }
  void set_link(bool up) override { pair_->b.ip(up ? "link set vb up" : "link set vb down"); }
  void delete_device() override { pair_->a.shell("ip link del va >/dev/null 2>&1 &"); }
  std::string device() const override { return "va"; }

 private:
  const std::string options_;
  std::optional<VethPair> pair_;
  std::optional<PlainSocket> far_;
};

}  // namespace

std::unique_ptr<Rig> make_pfring_rig() { return std::make_unique<PfringRig>("library=" EFIO_FAKE_LIBPFRING); }
std::unique_ptr<Rig> make_genuine_pfring_rig() { return std::make_unique<PfringRig>(""); }

}  // namespace efio::test
