// netmap: what the port under test is, and what its counterpart:
//
//   a NIC of the simulated module, its wire                       a veth pair, by the genuine module: a plain socket
//   its host rings, its host stack
//   an end of a veth pair, a port of a switch, an end of a pipe: the other end, used by the manual (RawPort)
//
// The last three are tested on the simulated module, and on the genuine one where a machine has it.
#include <unistd.h>

#include <fstream>
#include <thread>

#include "tests/contract/rigs.h"
#include "tests/netmap/raw_port.h"
#include "tests/netmap/simulated_netmap.h"
#include "tests/support/netns.h"
#include "tests/support/plain_socket.h"

namespace efio::test {

namespace {

std::string with(const std::string& uri, std::string_view options) {
  return uri + std::string(options.empty() ? "" : uri.find('?') == std::string::npos ? "?" : "&") + std::string(options);
}

class NicRig : public Rig {
 public:
  std::string why_not() override {
    netmap_.emplace();
    netmap_->add_nic("nm0", {.rings = 2});
    return {};
  }
  Result<Port> open(std::string_view options, const PortOptions& how) override {
    return Port::open(with("netmap:nm0", options), how);
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

 protected:
  std::optional<SimulatedNetmap> netmap_;
};

class HostRig final : public NicRig {
 public:
  Capabilities can(Capabilities engine) const override {
    engine.queues = false;
    engine.silent_losses = true;
    return engine;
  }
  Result<Port> open(std::string_view options, const PortOptions& how) override {
    return Port::open(with("netmap:nm0^", options), how);
  }
  bool put_in(std::span<const std::byte> frame, std::size_t) override {
    netmap_->host_send("nm0", frame);
    return true;
  }
  std::optional<Bytes> take_out(milliseconds patience) override {
    const auto until = std::chrono::steady_clock::now() + patience;
    for (;;) {
      if (auto frame = netmap_->host_take("nm0")) return frame;
      if (std::chrono::steady_clock::now() >= until) return std::nullopt;
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
  std::optional<DeviceCounts> counts() override { return {}; }
};

// Two ends that netmap joins. The far one is opened after the near one, which so decides how large their memory is, unless
// that is the common one.
class JoinedRig : public Rig {
 public:
  std::string why_not() override {
    if (genuine_) return lacking();
    netmap_.emplace();
    netmap_->add_pair("nm0", "nm1");
    return {};
  }
  Result<Port> open(std::string_view options, const PortOptions& how) override {
    if (!raw_ && far_first_) raw_.emplace(far_, rings_);
    auto port = Port::open(with("netmap:" + near_, options), how);
    if (port && !raw_) raw_.emplace(far_, rings_);
    return port;
  }
  bool put_in(std::span<const std::byte> frame, std::size_t queue) override { return raw_->send(frame, queue); }
  std::optional<Bytes> take_out(milliseconds patience) override { return raw_->receive(patience); }
  void rest() override { raw_.reset(); }

 protected:
  JoinedRig(bool genuine, std::string near, std::string far, std::uint16_t rings = 1)
      : genuine_(genuine), near_(std::move(near)), far_(std::move(far)), rings_(rings) {}
  static std::string lacking() {
    return ::access(netmap::device_path, R_OK | W_OK) == 0 ? "" : "the netmap module is not loaded";
  }

  const bool genuine_;
  const std::string near_, far_;
  const std::uint16_t rings_;
  bool far_first_ = false;
  std::optional<SimulatedNetmap> netmap_;
  std::optional<RawPort> raw_;
};

class SwitchRig final : public JoinedRig {
 public:
  explicit SwitchRig(bool genuine) : SwitchRig(genuine, "vale" + unique_name("t")) {}
  Capabilities can(Capabilities engine) const override {
    engine.link = engine.queues = false;
    engine.silent_losses = true;  // a port without room gets nothing, and nobody is told
    return engine;
  }

 private:
  SwitchRig(bool genuine, const std::string& name) : JoinedRig(genuine, name + ":a", name + ":b") {}
};

class PipeRig final : public JoinedRig {
 public:
  explicit PipeRig(bool genuine) : PipeRig(genuine, unique_name("p")) {}
  Capabilities can(Capabilities engine) const override {
    engine.link = false;
    engine.blocks = true;
    return engine;
  }
  Result<Port> open(std::string_view options, const PortOptions& how) override {
    const bool asked = options.find("queues=") != std::string_view::npos;
    return JoinedRig::open((asked ? "" : options.empty() ? "queues=2" : "queues=2&") + std::string(options), how);
  }

 private:
  PipeRig(bool genuine, const std::string& name) : JoinedRig(genuine, name + "{1", name + "}1", 2) {}
};

class PairRig final : public JoinedRig {
 public:
  PairRig() : JoinedRig(false, "nm0", "nm1") { far_first_ = true; }
  Capabilities can(Capabilities engine) const override {
    engine.queues = false;
    engine.blocks = true;
    return engine;
  }
  void set_link(bool up) override { netmap_->set_admin("nm0", up); }
  void delete_device() override { netmap_->delete_nic("nm0"); }
  std::string device() const override { return "nm0"; }
};

// The genuine module on an ordinary veth pair: emulated, as on every NIC whose driver does not know netmap.
class VethRig final : public Rig {
 public:
  ~VethRig() override {
    if (!mode_before_.empty()) std::ofstream(mode_file) << mode_before_;
  }
  std::string why_not() override {
    if (::geteuid() != 0) return "needs root";
    if (::access(netmap::device_path, R_OK | W_OK) != 0) return "the netmap module is not loaded";
    std::ifstream(mode_file) >> mode_before_;
    std::ofstream(mode_file) << "2";  // emulated, whatever the driver could
    pair_.emplace();
    pair_->b.shell("ethtool -K vb tx off gso off tso off");
    far_.emplace(pair_->b, "vb");
    return {};
  }
  Capabilities can(Capabilities engine) const override {
    engine.queues = false;
    return engine;
  }
  Result<Port> open(std::string_view options, const PortOptions& how) override {
    return pair_->a.run([&] { return Port::open(with("netmap:va", options), how); });
  }
  bool put_in(std::span<const std::byte> frame, std::size_t) override { return far_->send(frame); }
  std::optional<Bytes> take_out(milliseconds patience) override { return far_->receive(patience); }
  std::optional<DeviceCounts> counts() override {
    const auto c = pair_->a.counters("va");
    return DeviceCounts{c.rx_packets, c.rx_bytes, c.tx_packets, c.tx_bytes};
  }
  void set_link(bool up) override { pair_->b.ip(up ? "link set vb up" : "link set vb down"); }
  // The command ends when the last descriptor of the port is closed.
  void delete_device() override { pair_->a.shell("ip link del va >/dev/null 2>&1 &"); }
  std::string device() const override { return "va"; }

 private:
  static constexpr const char* mode_file = "/sys/module/netmap/parameters/admode";
  std::string mode_before_;
  std::optional<VethPair> pair_;
  std::optional<PlainSocket> far_;
};

}  // namespace

std::unique_ptr<Rig> make_netmap_rig() { return std::make_unique<NicRig>(); }
std::unique_ptr<Rig> make_netmap_host_rig() { return std::make_unique<HostRig>(); }
std::unique_ptr<Rig> make_netmap_switch_rig() { return std::make_unique<SwitchRig>(false); }
std::unique_ptr<Rig> make_netmap_pipe_rig() { return std::make_unique<PipeRig>(false); }
std::unique_ptr<Rig> make_netmap_pair_rig() { return std::make_unique<PairRig>(); }
std::unique_ptr<Rig> make_genuine_netmap_veth_rig() { return std::make_unique<VethRig>(); }
std::unique_ptr<Rig> make_genuine_netmap_switch_rig() { return std::make_unique<SwitchRig>(true); }
std::unique_ptr<Rig> make_genuine_netmap_pipe_rig() { return std::make_unique<PipeRig>(true); }

}  // namespace efio::test
