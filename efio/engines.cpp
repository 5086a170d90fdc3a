// The table of engines: a new one is one row here, one declaration in engines/engine.h, and its own file.
#include <algorithm>
#include <array>

#include "efio/engines/engine.h"
#include "efio/fail.h"

namespace efio {

namespace {

constexpr auto table = std::to_array<Engine>({
    {"pipe",
     "ring pair in this process, shared frame pool",
     {.rx = true, .tx = true, .queues = true, .rx_swaps = true, .tx_swaps = true, .reopen = true, .loops_back = true,
      .fragments = true, .blocks = true, .waits = true},
     open_pipe, nullptr, ""},
    {"packet",
     "AF_PACKET with mmap rings: every interface of every Linux",
     {.rx = true, .tx = true, .link = true, .queues = true, .tx_swaps = true, .reopen = true, .waits = true},
     open_packet, packet_available, ""},
    {"tap",
     "TAP device: the other side of an interface of this kernel",
     {.rx = true, .tx = true, .link = true, .queues = true, .rx_swaps = true, .tx_swaps = true, .reopen = true, .waits = true},
     open_tap, tap_available, ""},
    {"xdp",
     "AF_XDP: past the host's stack, through a program on the device",
     {.rx = true, .tx = true, .link = true, .queues = true, .rx_swaps = true, .tx_swaps = true, .reopen = true, .waits = true},
     open_xdp, xdp_available, ""},
    {"pcap",
     "capture files: pcap and pcapng",
     {.rx = true, .tx = true, .rx_swaps = true, .tx_swaps = true, .fragments = true},
     open_pcap, nullptr, ""},
    {"sim",
     "another port with loss, delay, damage and outages, from a seed",
     {.rx = true, .tx = true, .queues = true, .rx_swaps = true, .tx_swaps = true, .reopen = true, .loops_back = true,
      .blocks = true, .waits = true},
     open_sim, nullptr, ""},
    {"netmap",
     "netmap: NIC and host rings, VALE switches, pipes",
     {.rx = true, .tx = true, .link = true, .queues = true, .rx_swaps = true, .tx_swaps = true, .reopen = true,
      .fragments = true, .waits = true},
     open_netmap, netmap_available, ""},
    {"pfring",
     "PF_RING through libpfring, loaded when it is opened",
     {.rx = true, .tx = true, .link = true, .rx_swaps = true, .tx_swaps = true, .reopen = true, .waits = true},
     open_pfring, pfring_available, ""},
    {"host",
     "the host stack beside a device: netmap's host rings, else a TAP",
     {.rx = true, .tx = true, .link = true, .queues = true, .rx_swaps = true, .tx_swaps = true, .reopen = true, .waits = true},
     open_host, tap_available, ""},
    {"dpdk", "DPDK ethdev", {}, nullptr, nullptr, "not in this version; packet: opens what the kernel drives"},
    {"shm", "ring pair between processes", {}, nullptr, nullptr, "not in this version; pipe: does it within a process"},
});

}  // namespace

std::span<const Engine> engine_table() noexcept { return table; }

const Engine* find_engine(std::string_view scheme) noexcept {
  const auto row = std::ranges::find(table, scheme, &Engine::scheme);
  return row == table.end() ? nullptr : &*row;
}

Opened open_engine(Uri& uri, const PortOptions& options) {
  const auto attempted = "open " + uri.text();
  const Engine* engine = find_engine(uri.scheme());
  if (engine == nullptr) {
    std::vector<std::string_view> names;
    for (const auto& row : table) names.push_back(row.scheme);
    return fail(Error::Kind::usage, attempted, "there is no scheme {}", uri.scheme())
        .hint("one of auto, {}", fmt::join(names, ", "));
  }
  if (engine->open == nullptr) return fail(Error::Kind::unavailable, attempted, "{}", engine->not_built);
  if (receives(options.direction) && !engine->can.rx)
    return fail(Error::Kind::usage, attempted, "{}: cannot receive", engine->scheme).hint("open it for tx");
  if (transmits(options.direction) && !engine->can.tx)
    return fail(Error::Kind::usage, attempted, "{}: cannot send", engine->scheme).hint("open it for rx");
  auto opened = engine->open(uri, options);
  if (opened) (*opened)->info.engine = engine->scheme;
  return opened;
}

constexpr std::size_t ethernet_header = 14;

// Best first. A receiver is not opened by xdp: unasked: the host would no longer see what comes.
struct DeviceChoice {
  std::string_view scheme;
  bool receives;
  bool last;  // its refusal is the answer
  std::string_view why;
};
constexpr DeviceChoice engines_for_devices[] = {
    {"xdp", false, false, "sends fastest"},
    {"packet", true, true, "is the fastest that leaves the host its packets"},
};

Opened open_auto(Uri& uri, const PortOptions& options) {
  std::vector<std::string> passed_over;
  for (const auto& choice : engines_for_devices) {
    if (receives(options.direction) && !choice.receives) continue;
    const Engine* engine = find_engine(choice.scheme);
    if (engine == nullptr) continue;
    if (engine->open == nullptr) {
      passed_over.push_back(fmt::format("{}: {}", choice.scheme, engine->not_built));
      continue;
    }
    if (engine->available != nullptr)
      if (auto there = engine->available(); !there) {
        passed_over.push_back(fmt::format("{}: {}", choice.scheme, there.error().message()));
        continue;
      }
    Uri own = uri;  // each engine asks for options of its own
    auto opened = engine->open(own, options);
    if (!opened && choice.last) return opened;
    if (!opened) {
      passed_over.push_back(fmt::format("{}: {}", choice.scheme, opened.error().message()));
      continue;
    }
    auto& info = (*opened)->info;
    if (const auto longest = info.mtu + ethernet_header; !choice.last && info.frame_size < longest) {
      passed_over.push_back(fmt::format("{}: a slot holds {} bytes, and the device's frames have up to {}", choice.scheme, info.frame_size, longest));
      continue;
    }
    info.engine = choice.scheme;
    info.why = passed_over.empty() ? fmt::format("{}: {}", choice.scheme, choice.why)
                                   : fmt::format("not {}", fmt::join(passed_over, "; not "));
    return opened;
  }
  return fail(Error::Kind::unavailable, "open " + uri.text(), "{}", fmt::join(passed_over, "; "));
}

Result<void> PortHandle::set_option(std::string_view key, std::string_view) {
  return fail(Error::Kind::usage, fmt::format("set {}= of {}", key, info.uri), "{}: has no such option that can be changed while it is open",
              info.engine)
      .hint("open it again with another");
}

std::vector<EngineInfo> engines() {
  std::vector<EngineInfo> all;
  for (const auto& row : table) {
    EngineInfo info{row.scheme, row.description, row.open != nullptr, std::string(row.not_built)};
    if (info.available && row.available != nullptr)
      if (auto there = row.available(); !there) info.available = false, info.why_not = there.error().message();
    all.push_back(std::move(info));
  }
  return all;
}

Result<OwnedRing> OwnedRing::create(std::size_t slots, std::shared_ptr<Pool> pool) {
  auto ring = SlotRing::create(slots);
  if (!ring) return std::unexpected(ring.error());
  auto frames = pool->reserve(ring->size());
  if (!frames) return std::unexpected(frames.error());
  OwnedRing owned;
  owned.slots_ = std::move(*ring);
  for (std::size_t i = 0; i < frames->size(); ++i) owned.slots_.data()[i] = pool->slot((*frames)[i]);
  owned.pool_ = std::move(pool);
  return owned;
}

OwnedRing::~OwnedRing() {
  if (!pool_) return;
  std::vector<std::uint64_t> frames(slots_.size());
  for (std::size_t i = 0; i < frames.size(); ++i) frames[i] = slots_.data()[i].frame;
  pool_->release(frames);
}

}  // namespace efio
