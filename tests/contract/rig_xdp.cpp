// xdp: the port under test is one end of a veth pair, the counterpart a plain socket on the other. Variants: the program
// attached in generic mode; a device of several queues, opened out of order; memory that a port on another pair has.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <net/if.h>

#include <array>
#include <cstddef>
#include <optional>
#include <stdexcept>

#include "tests/contract/rigs.h"
#include "tests/support/netns.h"
#include "tests/support/plain_socket.h"

namespace efio::test {

namespace {

// Makes the longest frame that the port receives (1792) one that the peer's kernel sends.
void set_mtu(const VethPair& pair) {
  pair.a.ip("link set va mtu 1778");
  pair.b.ip("link set vb mtu 1778");
}

class XdpRig : public Rig {
 public:
  explicit XdpRig(std::string always = {}) : always_("xdp:va?jumbo=off" + always) {}

  std::string why_not() override {
    if (::geteuid() != 0) return "needs root";
    pair_.emplace();
    set_up(*pair_);
    far_.emplace(pair_->b, "vb");
    return {};
  }

  Result<Port> open(std::string_view options, const PortOptions& how) override {
    prepare_queues(options);
    return pair_->a.run([&] { return Port::open(with(always_, options), how); });
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

 protected:
  virtual void set_up(const VethPair& pair) { set_mtu(pair); }
  // A veth pair has one queue unless told; a port opens all there are.
  virtual void prepare_queues(std::string_view options) {
    if (options.find("queues=2") == std::string_view::npos) return;
    pair_->a.shell("ethtool -L va rx 2 tx 2");
    pair_->b.shell("ethtool -L vb rx 2 tx 2");
  }
  static std::string with(std::string uri, std::string_view options) {
    return uri + (options.empty() ? "" : "&") + std::string(options);
  }

  const std::string always_;
  std::optional<VethPair> pair_;
  std::optional<PlainSocket> far_;
};

// Four queues in an order of the test's own, so that the first of the port is none of the device's first. The counterpart
// chooses the queue by its socket's mark, from which a program on its way out makes the one to send by; across a veth
// pair that is the one to be received on.
class XdpQueuesRig final : public XdpRig {
 public:
  Result<Port> open(std::string_view options, const PortOptions& how) override {
    in_order_ = options.find("queues=") != std::string_view::npos;
    return XdpRig::open(in_order_ ? std::string(options) : with("queue=2,0,3,1", options), how);
  }
  bool put_in(std::span<const std::byte> frame, std::size_t queue) override {
    constexpr std::array<unsigned, 4> order{2, 0, 3, 1};
    far_->set_mark(in_order_ ? static_cast<unsigned>(queue) : order[queue]);
    return far_->send(frame);
  }

 protected:
  void set_up(const VethPair& pair) override {
    pair.a.ip("link del va");
    pair.a.ip("link add va numrxqueues 4 numtxqueues 4 type veth peer name vb numrxqueues 4 numtxqueues 4 netns " + pair.b.path());
    set_mtu(pair);
    pair.a.ip("link set va up");
    pair.b.ip("link set vb up");
    pair.b.run(choose_queue_by_mark);
  }
  void prepare_queues(std::string_view) override {}

 private:
  static void choose_queue_by_mark() {
    const auto field = [](std::uint8_t what, std::size_t at) {
      return bpf_insn{.code = static_cast<std::uint8_t>(what | BPF_MEM | BPF_W), .dst_reg = static_cast<std::uint8_t>(what == BPF_LDX ? 2 : 1),
                      .src_reg = static_cast<std::uint8_t>(what == BPF_LDX ? 1 : 2), .off = static_cast<std::int16_t>(at), .imm = 0};
    };
    const auto constant = [](std::uint8_t what, std::uint8_t target, std::int32_t value) {
      return bpf_insn{.code = static_cast<std::uint8_t>(BPF_ALU64 | what | BPF_K), .dst_reg = target, .src_reg = 0, .off = 0, .imm = value};
    };
    const std::array<bpf_insn, 5> program{field(BPF_LDX, offsetof(__sk_buff, mark)), constant(BPF_ADD, 2, 1),  // 0: not chosen
                                          field(BPF_STX, offsetof(__sk_buff, queue_mapping)), constant(BPF_MOV, 0, 0 /* TC_ACT_OK */),
                                          bpf_insn{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
    const Fd loaded(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "by_mark", "GPL", program.data(), program.size(), nullptr));
    bpf_tc_hook hook{};
    hook.sz = sizeof hook;
    hook.ifindex = static_cast<int>(::if_nametoindex("vb"));
    hook.attach_point = BPF_TC_EGRESS;
    bpf_tc_opts options{};
    options.sz = sizeof options;
    options.prog_fd = loaded.get();
    if (!loaded || bpf_tc_hook_create(&hook) != 0 || bpf_tc_attach(&hook, &options) != 0)
      throw std::runtime_error("no program chooses the queues of vb");
  }

  bool in_order_ = false;
};

// The memory is registered by a port on another pair, which stays open; the port under test joins it, with rings of its own.
class XdpSharedRig final : public XdpRig {
 public:
  ~XdpSharedRig() override {
    if (!other_) return;
    const auto pool = other_->rx().pool();
    const auto closed = other_->close();
    EXPECT_TRUE(closed.has_value()) << closed.error().message();
    other_.reset();
    EXPECT_EQ(pool->unused(), pool->frames()) << "not every frame came home";
  }

  Result<Port> open(std::string_view options, const PortOptions& how) override {
    if (!other_) {
      set_mtu(other_pair_.emplace());
      auto port = other_pair_->a.run([&] { return Port::open(always_ + "&settle=0&frames=8192"); });
      if (!port) return port;
      other_ = std::move(*port);
    }
    auto port = XdpRig::open(options, how);
    if (port && !how.pool) {
      EXPECT_EQ(receives(how.direction) ? port->rx().pool() : port->tx().pool(), other_->rx().pool()) << "the memory is not shared";
    }
    return port;
  }

 private:
  std::optional<VethPair> other_pair_;
  std::optional<Port> other_;
};

}  // namespace

std::unique_ptr<Rig> make_xdp_rig() { return std::make_unique<XdpRig>(); }
std::unique_ptr<Rig> make_xdp_generic_rig() { return std::make_unique<XdpRig>("&attach=generic"); }
std::unique_ptr<Rig> make_xdp_queues_rig() { return std::make_unique<XdpQueuesRig>(); }
std::unique_ptr<Rig> make_xdp_shared_rig() { return std::make_unique<XdpSharedRig>(); }

}  // namespace efio::test
