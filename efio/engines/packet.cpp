// packet: an interface through AF_PACKET sockets: what the options mean, and the order in which a port comes up.
//
// Each queue is a socket of its own; several receive queues are the members of one fanout group, among which the kernel
// spreads the flows. A group that is joined while frames arrive would see the first of them once for each member, so
// members refuse everything (a filter) until all have joined.
#include <arpa/inet.h>
#include <linux/if_packet.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "efio/engines/ethtool.h"
#include "efio/engines/packet.h"
#include "efio/fail.h"

namespace efio {

namespace {

constexpr std::size_t most_queues = 64;
constexpr std::size_t default_ring = 1024;
constexpr std::size_t default_frame = 1920;              // fills a frame of the pool that pipes share
constexpr std::size_t offload_frame = 65536 + 64;        // the largest segment, its Ethernet header and tags
constexpr std::size_t largest_frame = 256 * 1024 - 128;
constexpr std::size_t headers = 14 + 8;                  // beside the MTU: Ethernet and two VLAN tags
// At low rates a block is handed over each millisecond, so their number is also how long a receiver may be away.
constexpr std::size_t default_block = 128 * 1024, offload_block = 256 * 1024;
constexpr std::size_t default_ring_bytes = 16 << 20;
constexpr std::size_t most_tx_bytes = 16 << 20;          // of a queue's frames, unless ring= asks for more
constexpr std::size_t block_headers = 256;               // a block's own, and those before a frame
constexpr std::size_t page = 4096;

struct Spread {
  std::string_view name;
  std::uint32_t type;
};
constexpr Spread spreads[] = {
    {"hash", PACKET_FANOUT_HASH}, {"turns", PACKET_FANOUT_LB}, {"cpu", PACKET_FANOUT_CPU},
    {"random", PACKET_FANOUT_RND}, {"queue", PACKET_FANOUT_QM},
};

struct PacketChoice {
  std::size_t queues = 1;
  bool fanout = false;
  std::uint32_t group = 0;  // 0: a free one
  std::uint32_t spread = 0;
  std::string spread_name;
  bool promiscuous = true;
  bool bypass_asked = false;
  LinkWait wait;
};

struct PacketPort final : PortHandle {
  Result<void> close_device() override {
    for (auto& queue : rx) static_cast<PacketRx&>(*queue).close();
    for (auto& queue : tx) static_cast<PacketTx&>(*queue).close();
    promiscuous = Fd();
    return {};
  }

  std::uint64_t link_downs() const noexcept override { return link->downs_by_now(); }

  std::shared_ptr<Link> link;
  Fd promiscuous;
};

Result<PacketChoice> read_options(Uri& uri, PacketSetup& setup) {
  PacketChoice choice;
  choice.queues = uri.number("queues", 1, 1, most_queues);
  choice.group = static_cast<std::uint32_t>(uri.number("fanout", 0, 1, 65535));
  choice.spread_name = uri.choice("spread", {"hash", "turns", "cpu", "random", "queue"});
  choice.spread = std::ranges::find(spreads, choice.spread_name, &Spread::name)->type;
  choice.fanout = choice.queues > 1 || choice.group != 0;
  choice.promiscuous = uri.flag("promisc", true);
  setup.offload = uri.flag("offload", false);
  choice.bypass_asked = uri.has("bypass");
  setup.bypass = uri.flag("bypass", true);
  setup.hardware_time = uri.choice("time", {"kernel", "hardware"}) == "hardware";
  setup.slots = uri.number("ring", default_ring, SlotRing::smallest, SlotRing::largest);
  setup.capacity = uri.number("frame", setup.offload ? offload_frame : 0, 128, largest_frame);
  setup.block = uri.number("block", setup.offload ? offload_block : default_block, page, 64 << 20);
  setup.blocks = uri.number("blocks", std::max<std::size_t>(default_ring_bytes / setup.block, 2), 2, 65536);
  choice.wait = LinkWait::from(uri);
  if (auto ok = uri.finish(); !ok) return std::unexpected(ok.error());
  if (setup.block % page != 0)
    return fail(Error::Kind::usage, setup.attempted, "block={} is no multiple of {}", setup.block, page);
  if (setup.block * setup.blocks > std::size_t{1} << 31)
    return fail(Error::Kind::usage, setup.attempted, "{} blocks of {} bytes are more than 2 GiB", setup.blocks, setup.block)
        .hint("smaller or fewer: block=, blocks=");
  return choice;
}

// Whether the device cuts segments by itself. Past the queueing discipline the kernel does not do it for the device: it
// drops what would have to be cut.
bool segments(const Link& link) {
  const auto on = ethtool_features(link.name());
  return on.contains("tx-tcp-segmentation") && on.contains("tx-tcp6-segmentation") && on.contains("tx-udp-segmentation");
}

// Sizes that follow from the interface where the options leave them open.
Result<void> choose_sizes(Uri& uri, PacketSetup& setup) {
  if (setup.capacity == 0) setup.capacity = std::max(default_frame, setup.link->mtu() + headers);
  if (!uri.has("ring")) {
    const auto fitting = std::bit_floor(most_tx_bytes / (setup.capacity + PoolOptions{}.headroom));
    setup.slots = std::clamp(fitting, SlotRing::smallest, default_ring);
  }
  const auto least_block = (setup.capacity + block_headers + page - 1) / page * page;
  if (!uri.has("block")) {
    setup.block = std::max(setup.block, std::bit_ceil(least_block));
    if (!uri.has("blocks")) setup.blocks = std::max<std::size_t>(default_ring_bytes / setup.block, 2);
  }
  if (setup.block >= least_block) return {};
  return fail(Error::Kind::usage, setup.attempted, "a block of {} bytes does not hold a frame of {}", setup.block, setup.capacity)
      .hint("block={} or more, or a smaller frame=", least_block);
}

Result<void> spread_over_members(PacketPort& port, const PacketChoice& choice, const std::string& attempted) {
  std::uint32_t group = choice.group;
  for (std::size_t i = 0; i < port.rx.size(); ++i) {
    auto& member = static_cast<PacketRx&>(*port.rx[i]);
    const bool any = i == 0 && choice.group == 0;
    const std::uint32_t flags = any ? PACKET_FANOUT_FLAG_UNIQUEID : 0;
    auto joined = member.join_fanout(group | (choice.spread | flags) << 16, attempted);
    if (!joined) {
      auto error = joined.error();
      if (error.os == EINVAL) error.why = fmt::format("group {} exists with another spread, device or socket kind", group);
      error.hint = "another fanout=, or the same spread= as the group's";
      return std::unexpected(std::move(error));
    }
    if (any) {
      auto found = member.fanout_group(attempted);
      if (!found) return std::unexpected(found.error());
      group = *found;
    }
  }
  for (auto& queue : port.rx)
    if (auto ok = static_cast<PacketRx&>(*queue).resume(attempted); !ok) return ok;
  port.info.mode = fmt::format("fanout {} by {}", group, choice.spread_name);
  return {};
}

Result<void> open_receivers(PacketPort& port, const PacketSetup& setup, const PacketChoice& choice) {
  for (std::size_t i = 0; i < choice.queues; ++i) {
    auto queue = PacketRx::create(setup, fmt::format("packet:{} rx {}", setup.link->name(), i), i);
    if (!queue) return std::unexpected(queue.error());
    if (choice.fanout)
      if (auto ok = (*queue)->hold(setup.attempted); !ok) return ok;
    if (auto ok = (*queue)->start(*setup.link, setup.attempted); !ok) return ok;
    port.info.queue_bytes = (*queue)->memory();
    port.rx.push_back(std::move(*queue));
  }
  if (choice.promiscuous) {
    auto held = setup.link->hold_promiscuous(setup.attempted);
    if (!held) return std::unexpected(held.error());
    port.promiscuous = std::move(*held);
  }
  return {};
}

Result<void> open_senders(PacketPort& port, const PacketSetup& setup, const PacketChoice& choice) {
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < choice.queues; ++i) {
    auto queue = PacketTx::create(setup, fmt::format("packet:{} tx {}", setup.link->name(), i), i);
    if (!queue) return std::unexpected(queue.error());
    bytes = (*queue)->memory();
    port.info.frame_size = (*queue)->capacity();
    port.tx.push_back(std::move(*queue));
  }
  port.info.queue_bytes += bytes;
  return {};
}

}  // namespace

Result<Fd> open_packet_socket(const std::string& attempted) {
  Fd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket) return socket;
  if (errno == EPERM || errno == EACCES)
    return fail(Error::Kind::permission, attempted, "AF_PACKET needs root or CAP_NET_RAW").hint("{}", raw_socket_hint());
  return fail(errno, "{}: AF_PACKET", attempted);
}

Result<void> bind_packet_socket(const Fd& socket, const Link& link, int protocol, const std::string& attempted) {
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(static_cast<std::uint16_t>(protocol));
  address.sll_ifindex = link.index();
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return {};
  return fail(errno, "{}: bind to {}", attempted, link.name());
}

Result<void> packet_available() {
  auto socket = open_packet_socket("open packet:");
  if (!socket) return std::unexpected(socket.error());
  return {};
}

Opened open_packet(Uri& uri, const PortOptions& options) {
  PacketSetup setup;
  setup.attempted = "open " + uri.text();
  auto choice = read_options(uri, setup);
  if (!choice) return std::unexpected(choice.error());
  auto link = Link::open(uri.name(), setup.attempted);
  if (!link) return std::unexpected(link.error());
  setup.link = *link;
  if (!setup.link->ethernet())
    return fail(Error::Kind::device, setup.attempted, "the frames of {} have no Ethernet header", uri.name())
        .hint("an Ethernet interface; `ip link` shows link/ether");
  if (auto ok = choose_sizes(uri, setup); !ok) return std::unexpected(ok.error());
  const bool receiving = receives(options.direction), sending = transmits(options.direction);
  if (sending && setup.offload && !choice->bypass_asked) setup.bypass = segments(*setup.link);

  auto port = std::make_unique<PacketPort>();
  port->link = setup.link;
  setup.pool = options.pool;
  if (!setup.pool) {
    auto shared = Pool::shared(setup.capacity + PoolOptions{}.headroom);
    if (!shared) return std::unexpected(shared.error());
    setup.pool = *shared;
  }
  port->info.frame_size = setup.capacity;
  if (receiving) {
    if (auto ok = open_receivers(*port, setup, *choice); !ok) return std::unexpected(ok.error());
    port->info.rx_ring = port->rx[0]->ring_size();
    port->info.headroom = port->rx[0]->headroom();
  }
  if (sending) {
    if (auto ok = open_senders(*port, setup, *choice); !ok) return std::unexpected(ok.error());
    port->info.tx_ring = port->tx[0]->ring_size();
  }
  if (auto ok = setup.link->wait_ready(choice->wait, setup.attempted); !ok) return std::unexpected(ok.error());
  if (receiving && choice->fanout)
    if (auto ok = spread_over_members(*port, *choice, setup.attempted); !ok) return std::unexpected(ok.error());

  auto& info = port->info;
  std::vector<std::string> mode;
  if (receiving) mode.emplace_back("TPACKET_V3");
  if (receiving && choice->fanout) mode.push_back(info.mode);
  if (sending) mode.emplace_back(setup.bypass ? "sendmmsg, qdisc bypass" : "sendmmsg");
  if (setup.offload) mode.emplace_back("offload");
  info.mode = fmt::format("{}", fmt::join(mode, ", "));
  info.device = uri.name();
  info.time_source = !receiving ? TimeSource::clock : setup.hardware_time ? TimeSource::hardware : TimeSource::kernel;
  info.mac = setup.link->mac();
  info.mtu = setup.link->mtu();
  info.link_bits = setup.link->speed();
  return port;
}

}  // namespace efio
