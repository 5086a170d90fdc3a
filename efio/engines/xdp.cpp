// xdp: a device through AF_XDP sockets: what the options mean, and the order in which a port comes up.
//
// Each direction of each queue is a socket of its own. The program that hands frames over is attached first, as drivers
// may reset the link for it, then the sockets are bound, then the program is told of them, and last the link is waited
// for. A port that only sends needs no program.
#include <algorithm>
#include <bit>
#include <charconv>

#include "efio/engines/ethtool.h"
#include "efio/engines/xdp.h"
#include "efio/engines/xdp_broker.h"
#include "efio/engines/xdp_program.h"
#include "efio/fail.h"

namespace efio {

namespace {

// Two ports of the default sizes and some spares fill 4 MiB, which a user may lock in memory nearly everywhere.
constexpr std::size_t default_rx_ring = 512, default_tx_ring = 256;
constexpr std::size_t most_ring = 32768;
constexpr std::size_t most_frames = 1 << 20;
constexpr std::size_t most_queues = 64;
constexpr std::size_t small_chunk = 2048, large_chunk = 4096;
constexpr std::size_t tags = 8;

struct XdpChoice {
  std::vector<unsigned> queues;  // empty: all that the device has
  XdpProgram::Wish attach;
  XdpCopy copy = XdpCopy::best;
  std::size_t ring = 0;
  std::size_t chunk = 0, frames = 0;
  std::optional<bool> jumbo;
  bool promiscuous = true;
  std::chrono::nanoseconds busy{0};
  unsigned budget = 64;
  XdpRules take;
  std::string broker;  // path of its socket; empty: none
  LinkWait wait;
};

struct XdpPort final : PortHandle {
  Result<void> close_device() override {
    Result<void> outcome;
    const auto note = [&](Result<void> result) {
      if (!result && outcome) outcome = std::move(result);
    };
    for (auto& queue : tx) note(static_cast<XdpTx&>(*queue).close());
    for (auto& queue : rx) note(static_cast<XdpRx&>(*queue).close());
    program.reset();
    broker.reset();
    promiscuous = Fd();
    return outcome;
  }

  std::uint64_t link_downs() const noexcept override { return link->downs_by_now(); }

  Result<void> set_option(std::string_view key, std::string_view value) override {
    if (key != "take" || receiving.empty()) return PortHandle::set_option(key, value);
    const auto attempted = fmt::format("set take= of {}", info.uri);
    auto rules = XdpRules::parse(value, attempted);
    if (!rules) return std::unexpected(rules.error());
    for (const auto queue : receiving)
      if (auto ok = program->set_rules(queue, *rules, attempted); !ok) return ok;
    return {};
  }

  std::shared_ptr<Link> link;
  std::vector<unsigned> receiving;      // queues of the device
  std::shared_ptr<XdpProgram> program;  // behind the sockets, which are in its map
  std::shared_ptr<XdpBroker> broker;
  Fd promiscuous;
};

// "0,2" or "0-3".
Result<std::vector<unsigned>> read_queues(const std::string& text, const std::string& attempted) {
  std::vector<unsigned> queues;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto number = [&](unsigned& value) {
    const auto [behind, error] = std::from_chars(at, end, value);
    at = behind;
    return error == std::errc{} && value < 65536;
  };
  for (bool more = true; more;) {
    unsigned first = 0, last = 0;
    if (!number(first)) break;
    last = first;
    if (at != end && *at == '-' && (++at, !number(last))) break;
    for (auto queue = first; queue <= last && queues.size() <= most_queues; ++queue) queues.push_back(queue);
    more = at != end && *at == ',';
    if (more) ++at;
    else if (at == end && first <= last && queues.size() <= most_queues) {
      auto sorted = queues;
      std::ranges::sort(sorted);
      if (std::ranges::adjacent_find(sorted) != sorted.end()) break;
      return queues;
    }
  }
  return fail(Error::Kind::usage, attempted, "queue={} is no list of at most {} queues", text, most_queues)
      .hint("queue=0, queue=0,2 or queue=0-3");
}

Result<XdpChoice> read_options(Uri& uri, const std::string& attempted) {
  XdpChoice choice;
  const auto queue = uri.text_option("queue");
  const auto queues = uri.number("queues", 0, 1, most_queues);
  const auto mode = uri.choice("mode", {"auto", "zerocopy", "copy"});
  choice.copy = mode == "auto" ? XdpCopy::best : mode == "copy" ? XdpCopy::copy : XdpCopy::zero_copy;
  const auto attach = uri.choice("attach", {"auto", "native", "generic"});
  choice.attach.attach = attach == "auto" ? XdpAttach::automatic : attach == "native" ? XdpAttach::native : XdpAttach::generic;
  choice.ring = uri.number("ring", 0, SlotRing::smallest, most_ring);
  choice.chunk = uri.number("frame", small_chunk, small_chunk, large_chunk);
  choice.frames = uri.number("frames", 0, 1, most_frames);
  const bool jumbo = uri.flag("jumbo", false);
  if (uri.has("jumbo")) choice.jumbo = jumbo;
  choice.promiscuous = uri.flag("promisc", true);
  choice.busy = uri.duration("busy", std::chrono::nanoseconds(0), std::chrono::milliseconds(10));
  choice.budget = static_cast<unsigned>(uri.number("budget", choice.budget, 1, 1024));
  choice.broker = uri.text_option("broker");
  choice.attach.hardware_time = uri.choice("time", {"clock", "hardware"}) == "hardware";
  const auto take = uri.text_option("take", "all");
  choice.wait = LinkWait::from(uri);
  if (auto ok = uri.finish(); !ok) return std::unexpected(ok.error());
  if (uri.has("queue") && queues != 0)
    return fail(Error::Kind::usage, attempted, "queue= and queues= at once").hint("queue= names them, queues=N is the first N");
  auto rules = XdpRules::parse(take, attempted);
  if (!rules) return std::unexpected(rules.error());
  choice.take = std::move(*rules);
  if (!std::has_single_bit(choice.chunk))
    return fail(Error::Kind::usage, attempted, "frame={}", choice.chunk).hint("{} or {}", small_chunk, large_chunk);
  if (choice.copy == XdpCopy::zero_copy && choice.attach.attach == XdpAttach::generic)
    return fail(Error::Kind::usage, attempted, "there is no zero-copy with attach=generic").hint("attach=native");
  if (uri.has("queue")) {
    auto list = read_queues(queue, attempted);
    if (!list) return std::unexpected(list.error());
    choice.queues = std::move(*list);
  }
  for (unsigned i = 0; i < queues; ++i) choice.queues.push_back(i);
  return choice;
}

// The queues of one direction.
Result<std::vector<unsigned>> queues_of(const XdpChoice& choice, unsigned there, const Link& link, const std::string& attempted) {
  auto queues = choice.queues;
  if (queues.empty())
    for (unsigned i = 0; i < there && i < most_queues; ++i) queues.push_back(i);
  for (const auto queue : queues)
    if (queue >= there)
      return fail(Error::Kind::usage, attempted, "{} has no queue {} (it has {} now)", link.name(), queue, there)
          .hint("`ethtool -l {}` shows them; they count from 0", link.name());
  return queues;
}

std::string describe_mode(const XdpPort& port, const XdpSetup& setup, QueueCounts there, bool wants_time, const XdpSocket& socket) {
  std::vector<std::string> words;
  if (port.program) words.emplace_back(name(port.program->obtained()));
  if (socket.zero_copy()) words.emplace_back("zero-copy");
  else words.push_back(socket.why_copy().empty() ? "copy" : fmt::format("copy ({})", socket.why_copy()));
  if (setup.fragments) words.emplace_back("frames of several slots");
  if (setup.busy.count() > 0 && !port.rx.empty()) words.emplace_back("busy polling");
  if (wants_time && !port.rx.empty()) words.emplace_back(setup.hardware_time                                  ? "hardware time"
                       : port.program->obtained() == XdpAttach::generic ? "no hardware time (not with generic)"
                                                                        : "no hardware time (the driver has none for XDP)");
  if (setup.broker) words.emplace_back("by a broker");
  const bool more_rx = port.rx.size() >= port.tx.size();
  const std::size_t queues = more_rx ? port.rx.size() : port.tx.size(), all = more_rx ? there.rx : there.tx;
  words.push_back(queues == all ? fmt::format("{} queue{}", queues, queues == 1 ? "" : "s") : fmt::format("{} of {} queues", queues, all));
  return fmt::format("{}", fmt::join(words, ", "));
}

Result<void> open_queues(XdpPort& port, XdpSetup& setup, const std::vector<unsigned>& receiving,
                         const std::vector<unsigned>& sending) {
  const auto& device = setup.link->name();
  for (std::size_t i = 0; i < receiving.size(); ++i) {
    auto queue = XdpRx::create(setup, receiving[i], fmt::format("xdp:{} rx {}", device, receiving[i]), i);
    if (!queue) return std::unexpected(queue.error());
    port.rx.push_back(std::move(*queue));
  }
  for (std::size_t i = 0; i < sending.size(); ++i) {
    auto queue = XdpTx::create(setup, sending[i], fmt::format("xdp:{} tx {}", device, sending[i]), i);
    if (!queue) return std::unexpected(queue.error());
    port.tx.push_back(std::move(*queue));
  }
  for (std::size_t i = 0; i < receiving.size(); ++i) {
    const auto fd = static_cast<XdpRx&>(*port.rx[i]).socket().fd();
    // First the rules: none of an earlier opening shall meet a frame.
    if (auto ok = port.program->set_rules(receiving[i], setup.take, setup.attempted); !ok) return ok;
    if (auto ok = port.program->set_socket(receiving[i], fd, setup.attempted); !ok) return ok;
  }
  return {};
}

void tell(XdpPort& port, const XdpSetup& setup, QueueCounts there, bool wants_time) {
  auto& info = port.info;
  info.frame_size = SIZE_MAX;
  const XdpSocket* socket = nullptr;
  if (!port.tx.empty()) {
    const auto& queue = static_cast<const XdpTx&>(*port.tx[0]);
    info.tx_ring = queue.ring_size();
    info.frame_size = queue.capacity();
    info.queue_bytes += queue.memory();
    socket = &queue.socket();
  }
  if (!port.rx.empty()) {
    const auto& queue = static_cast<const XdpRx&>(*port.rx[0]);
    info.rx_ring = queue.ring_size();
    info.headroom = queue.headroom();
    info.frame_size = std::min(info.frame_size, queue.capacity());
    info.queue_bytes += queue.memory();
    socket = &queue.socket();
  }
  info.mode = describe_mode(port, setup, there, wants_time, *socket);
  info.device = setup.link->name();
  info.time_source = setup.hardware_time ? TimeSource::hardware : TimeSource::clock;
  info.mac = setup.link->mac();
  info.mtu = setup.link->mtu();
  info.link_bits = setup.link->speed();
}

}  // namespace

XdpSocketWish XdpSetup::wish(unsigned queue, Direction direction) const {
  // A queue's rings are made by whoever opens it first: large enough for the other direction's default too.
  const auto rx = std::max(rx_slots, default_rx_ring) + xdp_surplus, tx = std::max(tx_slots, default_tx_ring);
  return {.attempted = attempted, .link = link, .pool = pool, .queue = queue, .direction = direction, .copy = copy,
          .fragments = fragments, .rx_slots = static_cast<std::uint32_t>(rx_slots), .tx_slots = static_cast<std::uint32_t>(tx_slots),
          .rx_frames = static_cast<std::uint32_t>(rx), .completions = static_cast<std::uint32_t>(tx), .broker = broker};
}

Result<void> xdp_available() {
  auto socket = open_xdp_socket("open xdp:");
  if (!socket) return std::unexpected(socket.error());
  return {};
}

Opened open_xdp(Uri& uri, const PortOptions& options) {
  XdpSetup setup;
  setup.attempted = "open " + uri.text();
  auto choice = read_options(uri, setup.attempted);
  if (!choice) return std::unexpected(choice.error());
  auto link = Link::open(uri.name(), setup.attempted);
  if (!link) return std::unexpected(link.error());
  setup.link = *link;
  if (!setup.link->ethernet())
    return fail(Error::Kind::device, setup.attempted, "the frames of {} have no Ethernet header", uri.name())
        .hint("an Ethernet interface; `ip link` shows link/ether");
  const auto there = ethtool_queues(uri.name());
  std::vector<unsigned> receiving, sending;
  if (receives(options.direction)) {
    auto queues = queues_of(*choice, there.rx, *setup.link, setup.attempted);
    if (!queues) return std::unexpected(queues.error());
    receiving = std::move(*queues);
  }
  if (transmits(options.direction)) {
    auto queues = queues_of(*choice, there.tx, *setup.link, setup.attempted);
    if (!queues) return std::unexpected(queues.error());
    sending = std::move(*queues);
  }

  setup.copy = choice->copy;
  setup.busy = std::chrono::duration_cast<std::chrono::microseconds>(choice->busy);
  setup.budget = choice->budget;
  setup.rx_slots = choice->ring != 0 ? SlotRing::rounded(choice->ring) : default_rx_ring;
  setup.tx_slots = choice->ring != 0 ? SlotRing::rounded(choice->ring) : default_tx_ring;
  auto stock = stock_xdp_frames({.given = options.pool, .interface = setup.link->index(), .receiving = receiving, .sending = sending,
                                 .rx_frames = setup.rx_slots + xdp_surplus, .tx_frames = setup.tx_slots, .chunk = choice->chunk,
                                 .frames = choice->frames},
                                setup.attempted);
  if (!stock) return std::unexpected(stock.error());
  setup.stock = std::move(*stock);
  setup.pool = setup.stock.pool();
  setup.fragments = choice->jumbo.value_or(setup.link->mtu() + 14 + tags > setup.rx_capacity());

  setup.take = choice->take;
  if (!choice->broker.empty()) {
    auto broker = XdpBroker::connect(choice->broker, setup.attempted);
    if (!broker) return std::unexpected(broker.error());
    setup.broker = choice->attach.broker = std::move(*broker);
  }

  auto port = std::make_unique<XdpPort>();
  port->link = setup.link;
  port->receiving = receiving;
  port->broker = setup.broker;
  choice->attach.fragments = setup.fragments;
  if (!receiving.empty()) {
    auto program = XdpProgram::attach(*setup.link, choice->attach, setup.attempted);
    if (!program) return std::unexpected(program.error());
    port->program = std::move(*program);
    setup.hardware_time = choice->attach.hardware_time && port->program->hardware_time();
    if (port->program->obtained() == XdpAttach::generic) {
      if (setup.copy == XdpCopy::zero_copy)
        return fail(Error::Kind::unavailable, setup.attempted, "the driver takes no XDP program, so there is no zero-copy")
            .hint("mode=auto or mode=copy");
      setup.copy = XdpCopy::copy;
    }
  }
  if (auto ok = open_queues(*port, setup, receiving, sending); !ok) return std::unexpected(ok.error());
  if (choice->promiscuous && !receiving.empty() && setup.broker) {
    if (auto ok = setup.broker->hold_promiscuous(*setup.link, setup.attempted); !ok) return std::unexpected(ok.error());
  } else if (choice->promiscuous && !receiving.empty()) {
    auto held = setup.link->hold_promiscuous(setup.attempted);
    if (!held) return std::unexpected(held.error());
    port->promiscuous = std::move(*held);
  }
  if (auto ok = setup.link->wait_ready(choice->wait, setup.attempted); !ok) return std::unexpected(ok.error());
  tell(*port, setup, there, choice->attach.hardware_time);
  return port;
}

}  // namespace efio
