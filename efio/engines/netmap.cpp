// netmap: a NIC's rings, the host's side of it, a port of a VALE switch, the end of a pipe, or a monitor: what the name
// and the options mean, and the order in which a port comes up.
//
// First the interface is made ready and each ring bound (the first may reset the NIC), then we wait for the link, and only
// then look into the rings. `eth7^` alone would intercept nothing: the host's frames are diverted only where a transmit
// ring of the NIC is in netmap mode too, so those are bound and left alone. A pipe's end is bound whole for another reason:
// where its two ends come one direction at a time, the kernel can make a ring whose slots have no buffers.
#include <algorithm>
#include <bit>
#include <cerrno>
#include <set>

#include "efio/engines/netmap.h"
#include "efio/engines/netmap_name.h"
#include "efio/fail.h"

namespace efio {

namespace netmap {

namespace {

constexpr std::size_t most_rings = 64;
constexpr std::size_t most_slots = 65536;
// For take(), and for what a program opens on the region's pool. The memory of a switch port or pipe is as large as its
// first user asks for.
constexpr std::size_t default_spares = 4096;
constexpr std::size_t link_header = 14;

struct Choice {
  PortName name;
  std::size_t rings = 0;  // 0: as many as there are
  std::uint32_t slots = 0;
  std::uint32_t spares = default_spares;
  bool promiscuous = true, offloads_off = true, exclusive = false, pass = false;
  LinkWait wait;
};

struct NetmapPort final : PortHandle {
  Result<void> close_device() override {
    for (auto& queue : rx) static_cast<NetmapRx&>(*queue).close();
    for (auto& queue : tx) static_cast<NetmapTx&>(*queue).close();
    guards.clear();
    nic_.reset();
    return {};
  }
  std::uint64_t link_downs() const noexcept override { return link ? link->downs() : 0; }

  std::vector<Descriptor> guards;  // bound to rings that nobody reads or writes
  std::shared_ptr<Nic> nic_, link;
};

std::mutex reserved_mutex;
std::set<std::string>& reserved() {
  static std::set<std::string> rings;
  return rings;
}

Result<Choice> read_options(Uri& uri, const PortOptions& options, const std::string& attempted) {
  Choice choice;
  choice.rings = uri.number("queues", 0, 1, most_rings);
  choice.slots = static_cast<std::uint32_t>(uri.number("slots", 0, 64, most_slots));
  choice.spares = static_cast<std::uint32_t>(uri.number("spares", default_spares, 0, 1 << 20));
  choice.promiscuous = uri.flag("promisc", true);
  choice.offloads_off = uri.choice("offload", {"off", "keep"}) == "off";
  choice.exclusive = uri.flag("exclusive", false);
  choice.pass = uri.flag("pass", false);
  choice.wait = LinkWait::from(uri);
  if (auto ok = uri.finish(); !ok) return std::unexpected(ok.error());
  auto name = parse_name(uri.name(), [](const std::string& text) { return system().has_interface(text); }, attempted);
  if (!name) return std::unexpected(name.error());
  choice.name = std::move(*name);
  const bool nic = choice.name.kind == PortName::Kind::nic;
  if (choice.name.monitor != 0 && transmits(options.direction))
    return fail(Error::Kind::usage, attempted, "a monitor sends nothing").hint("open it for rx");
  if (choice.pass && (!nic || transmits(options.direction)))
    return fail(Error::Kind::usage, attempted, "pass=on lets what is received go on between a NIC and its host, by itself")
        .hint("an interface's port, opened for rx");
  if (choice.name.ring && choice.rings > 1)
    return fail(Error::Kind::usage, attempted, "the name says one ring, queues={}", choice.rings);
  if (choice.name.nic_rings && choice.name.host_rings && choice.rings > 0)
    return fail(Error::Kind::usage, attempted, "queues= with a name that means all rings");
  return choice;
}

// Opens the rings of a port one by one. The first binding tells how many there are.
class Opening {
 public:
  Opening(const Choice& choice, Setup& setup, NetmapPort& port) : choice_(choice), setup_(setup), port_(port) {}

  Result<void> open(Direction direction) {
    const auto& name = choice_.name;
    if (name.kind == PortName::Kind::pipe && name.monitor == 0) {
      auto guard = bind(wish(all_nic_rings, 0, 0));
      if (!guard) return std::unexpected(guard.error());
      port_.guards.push_back(std::move(*guard));
    }
    if (receives(direction))
      if (auto ok = open_direction(false); !ok) return ok;
    if (transmits(direction))
      if (auto ok = open_direction(true); !ok) return ok;
    if (receives(direction) && name.host_rings && name.monitor == 0) {
      auto guard = bind(wish(all_nic_rings, 0, tx_rings_only));
      if (!guard) return std::unexpected(guard.error());
      port_.guards.push_back(std::move(*guard));
    }
    return {};
  }

  // The queues, from what open() has bound. Then the link is waited for.
  Result<void> make_queues() {
    std::size_t nic_queues = 0;
    for (const auto& pending : rx_) nic_queues += pending.host ? 0U : 1U;
    const auto& name = choice_.name;
    if (setup_.nic && name.monitor == 0 && nic_queues > 0 && nic_queues == about_.rx_rings)
      setup_.losses = std::make_shared<Losses>(*setup_.nic, nic_queues);
    for (auto& pending : rx_) {
      Setup own = setup_;
      if (pending.host) own.losses.reset();
      std::unique_ptr<PassDown> down;
      if (choice_.pass && pending.host) {
        auto made = pass_down();
        if (!made) return std::unexpected(made.error());
        down = std::move(*made);
      }
      auto queue = NetmapRx::create(own, std::move(pending.binding), std::move(down), choice_.pass);
      if (!queue) return std::unexpected(queue.error());
      port_.rx.push_back(std::move(*queue));
    }
    for (auto& pending : tx_) {
      Setup own = setup_;
      if (pending.host) own.longest = own.pool->frame_size(), own.fragments = own.published = false;
      auto queue = NetmapTx::create(own, std::move(pending.binding));
      if (!queue) return std::unexpected(queue.error());
      port_.tx.push_back(std::move(*queue));
    }
    return {};
  }

 private:
  struct Pending {
    Binding binding;
    bool host = false;
  };

  RegisterBody wish(std::uint32_t mode, std::uint16_t ring, std::uint64_t flags) const {
    RegisterBody body{};
    body.mode = mode;
    body.ring = ring;
    body.memory = choice_.name.memory;
    body.tx_slots = body.rx_slots = choice_.slots;
    body.tx_rings = body.rx_rings = static_cast<std::uint16_t>(choice_.rings);
    body.flags = flags | no_tx_poll;
    return body;
  }

  Result<Descriptor> bind(RegisterBody body) {
    const bool first = !setup_.region;
    if (first) body.extra_buffers = choice_.spares;
    auto made = Descriptor::bind(choice_.name.port, body, setup_.attempted);
    if (!made || !first) return made;
    auto region = Region::of(*made, setup_.attempted);
    if (!region) return std::unexpected(region.error());
    setup_.region = std::move(*region);
    about_ = made->got();
    const Ring* any = setup_.region->any_ring(*made);
    if (any == nullptr)
      return fail(Error::Kind::usage, setup_.attempted, "there is no ring {}", body.ring).hint("rings count from 0");
    setup_.pool = setup_.region->pool(*any);
    setup_.region->collect_extra_buffers(*made, *setup_.pool, choice_.spares);
    return made;
  }

  // Where ring `index` of a kind stands among the offsets behind an Interface.
  RingView ring_of(const Descriptor& descriptor, bool tx, bool host, std::size_t index) const {
    const Interface& about = *setup_.region->interface_of(descriptor);
    std::size_t at = index + (host ? (tx ? about.tx_rings : about.rx_rings) : 0U);
    if (!tx) at += about.tx_rings + about.host_tx_rings;
    Ring* const ring = setup_.region->ring_at(descriptor, at);
    return ring != nullptr ? RingView(ring) : RingView();
  }

  Result<void> open_direction(bool tx) {
    const auto& name = choice_.name;
    if (name.nic_rings)
      if (auto ok = open_rings(tx, false); !ok) return ok;
    return name.host_rings ? open_rings(tx, true) : Result<void>{};
  }

  Result<void> open_rings(bool tx, bool host) {
    const auto first = choice_.name.ring.value_or(0);
    std::size_t count = 1;
    for (std::size_t i = 0; i < count; ++i) {
      if (auto ok = open_ring(tx, host, static_cast<std::uint16_t>(first + i)); !ok) return ok;
      if (choice_.name.ring || i > 0) continue;
      const std::size_t there = host ? (tx ? about_.host_tx_rings : about_.host_rx_rings) : (tx ? about_.tx_rings : about_.rx_rings);
      count = choice_.rings > 0 && !host ? choice_.rings : there;
      if (count > there)
        return fail(Error::Kind::usage, setup_.attempted, "queues={}, but the port has {} {} rings", count, there, tx ? "transmit" : "receive")
            .hint("`ethtool -l {}` tells how many there can be", choice_.name.port);
    }
    return {};
  }

  Result<void> open_ring(bool tx, bool host, std::uint16_t index) {
    const auto& name = choice_.name;
    const bool monitor = name.monitor != 0;
    Pending pending{.binding = {}, .host = host};
    auto& binding = pending.binding;
    auto& all = tx ? tx_ : rx_;
    binding.index = all.size();
    binding.label = fmt::format("netmap:{} {} {}{}", name.port, tx ? "tx" : "rx", host ? "host " : "", index);
    if (!monitor) {
      auto reservation = Reservation::make(binding.label, setup_.attempted);
      if (!reservation) return std::unexpected(reservation.error());
      binding.reservation = std::move(*reservation);
    }
    // A monitor's direction is that of what it watches; its own rings are receive rings.
    const auto flags = (monitor ? name.monitor : tx ? tx_rings_only : rx_rings_only) | (choice_.exclusive ? exclusive : 0U);
    auto bound = bind(wish(host ? one_host_ring : one_nic_ring, index, flags));
    if (!bound) return std::unexpected(bound.error());
    // A number beyond the last would be the first ring's.
    const std::size_t there = host ? (tx ? bound->got().host_tx_rings : bound->got().host_rx_rings)
                                   : (tx ? bound->got().tx_rings : bound->got().rx_rings);
    binding.ring = index < there ? ring_of(*bound, tx, host, index) : RingView();
    if (!binding.ring)
      return fail(Error::Kind::usage, setup_.attempted, "there is no {} ring {} of {}", tx ? "transmit" : "receive", index, there)
          .hint("rings count from 0");
    binding.descriptor = std::move(*bound);
    all.push_back(std::move(pending));
    return {};
  }

  // The kernel passes the host's frames down only for a descriptor that is bound to every transmit ring of the NIC.
  Result<std::unique_ptr<PassDown>> pass_down() {
    auto made = bind(wish(nic_and_host_rings, 0, 0));
    if (!made) return std::unexpected(made.error());
    auto down = std::make_unique<PassDown>();
    for (std::size_t i = 0; i < about_.tx_rings; ++i) down->to.push_back(ring_of(*made, true, false, i));
    down->descriptor = std::move(*made);
    return down;
  }

  const Choice& choice_;
  Setup& setup_;
  NetmapPort& port_;
  RegisterBody about_{};
  std::vector<Pending> rx_, tx_;
};

void describe(NetmapPort& port, const Choice& choice, const Setup& setup) {
  auto& info = port.info;
  const auto& name = choice.name;
  std::vector<std::string> mode;
  if (name.monitor != 0) mode.emplace_back((name.monitor & monitor_zero_copy) != 0 ? "zero-copy monitor" : "monitor");
  mode.emplace_back(name.kind == PortName::Kind::switch_port ? "VALE port" : name.kind == PortName::Kind::pipe ? "pipe"
                    : !name.host_rings ? "NIC rings" : name.nic_rings ? "NIC and host rings" : "host rings");
  mode.push_back(fmt::format("memory region {}", setup.region->number()));
  if (choice.pass) mode.emplace_back("finished frames pass");
  info.mode = fmt::format("{}", fmt::join(mode, ", "));
  info.frame_size = std::min(setup.longest, setup.pool->frame_size());
  info.time_source = port.rx.empty() ? TimeSource::clock : TimeSource::kernel;
  if (!port.rx.empty()) {
    info.rx_ring = port.rx[0]->ring_size();
    info.queue_bytes = static_cast<NetmapRx&>(*port.rx[0]).memory();
  }
  if (!port.tx.empty()) {
    info.tx_ring = port.tx[0]->ring_size();
    info.queue_bytes += static_cast<NetmapTx&>(*port.tx[0]).memory();
  }
  if (name.kind != PortName::Kind::nic) return;
  const auto& about = setup.nic->about();
  info.device = name.port;
  info.mac = about.mac;
  info.mtu = about.mtu;
  info.link_bits = about.speed;
}

}  // namespace

Result<Reservation> Reservation::make(std::string ring, const std::string& attempted) {
  const std::scoped_lock lock(reserved_mutex);
  if (!reserved().insert(ring).second)
    return fail(Error::Kind::device, attempted, "{} is open already in this program", ring)
        .hint("close it first, or open another ring (eth7-1) or direction");
  Reservation made;
  made.ring_ = std::move(ring);
  return made;
}

Reservation::~Reservation() {
  if (ring_.empty()) return;
  const std::scoped_lock lock(reserved_mutex);
  reserved().erase(ring_);
}

}  // namespace netmap

Result<void> netmap_available() { return netmap::system().available(); }

bool netmap_has(const std::string& device) {
  const std::scoped_lock lock(netmap::reserved_mutex);
  const auto first = netmap::reserved().lower_bound("netmap:" + device + " ");
  return first != netmap::reserved().end() && first->starts_with("netmap:" + device + " ");
}

Opened open_netmap(Uri& uri, const PortOptions& options) {
  using namespace netmap;
  Setup setup;
  setup.attempted = "open " + uri.text();
  auto choice = read_options(uri, options, setup.attempted);
  if (!choice) return std::unexpected(choice.error());
  if (auto there = netmap_available(); !there) {
    auto error = there.error();
    error.attempted = setup.attempted;
    return std::unexpected(std::move(error));
  }

  auto port = std::make_unique<NetmapPort>();
  const auto kind = choice->name.kind;
  setup.published = kind == PortName::Kind::pipe;
  setup.keeps = setup.published;
  setup.fragments = true;
  if (kind == PortName::Kind::nic) {
    auto nic = system().nic(choice->name.port, setup.attempted);
    if (!nic) return std::unexpected(nic.error());
    port->nic_ = port->link = setup.nic = std::move(*nic);
    const auto& about = setup.nic->about();
    if (!about.ethernet)
      return fail(Error::Kind::device, setup.attempted, "the frames of {} have no Ethernet header", choice->name.port)
          .hint("an Ethernet interface; `ip link` shows link/ether");
    setup.published = setup.keeps = about.joined;
    setup.tags = true;
    if (choice->name.monitor == 0)
      if (auto ok = setup.nic->set_up(choice->promiscuous, choice->offloads_off, setup.attempted); !ok)
        return std::unexpected(ok.error());
  }

  Opening opening(*choice, setup, *port);
  if (auto ok = opening.open(options.direction); !ok) return std::unexpected(ok.error());
  const auto buffer = setup.pool->frame_size();
  // What a host ring gets is as long as its buffer.
  const bool host_alone = choice->name.host_rings && !choice->name.nic_rings;
  setup.longest = setup.nic ? (host_alone ? buffer : setup.nic->about().mtu + link_header) : most_fragments * buffer;
  if (auto ok = opening.make_queues(); !ok) return std::unexpected(ok.error());
  if (setup.nic)
    if (auto ok = setup.nic->wait_ready(choice->wait, setup.attempted); !ok) return std::unexpected(ok.error());
  if (setup.losses) setup.losses->start();
  for (auto& queue : port->rx)
    if (auto ok = static_cast<NetmapRx&>(*queue).start(); !ok) return std::unexpected(ok.error());
  for (auto& queue : port->tx)
    if (auto ok = static_cast<NetmapTx&>(*queue).start(); !ok) return std::unexpected(ok.error());
  describe(*port, *choice, setup);
  return port;
}

}  // namespace efio
