#include "tools/efnet/run.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "efio/clock.h"
#include "efio/fail.h"
#include "efio/version.h"
#include "tools/common/cpus.h"
#include "tools/common/exit_code.h"
#include "tools/common/service.h"
#include "tools/common/state_file.h"
#include "tools/efnet/control.h"

namespace efio::gate {

namespace {

using efnet::NatSide;
using std::chrono::nanoseconds;

constexpr std::array both_sides{NatSide::inside, NatSide::outside};
constexpr nanoseconds watch_period = std::chrono::milliseconds(200);
constexpr std::uint64_t second = 1'000'000'000;
constexpr std::uint64_t reopen_ns = second / 2;

nanoseconds as_time(std::uint64_t ns) { return nanoseconds(static_cast<std::int64_t>(ns)); }
efnet::Time now() { return as_time(Clock::monotonic()); }
nanoseconds unix_now() { return as_time(Clock::now()); }

void remark(std::string_view text) { tools::remark("efnet", text); }

}  // namespace

Run::Run(RunOptions options) : options_(std::move(options)) {}
Run::~Run() = default;

// --- set-up ---

// The file, with what the command line says instead.
Result<Config> Run::read() const {
  auto config = read_config(options_.file);
  if (!config) return config;
  if (options_.control) config->control = *options_.control;
  if (options_.state) config->state = *options_.state;
  if (!options_.cpus.empty()) config->cpus = options_.cpus;
  config->spin |= options_.spin;
  return config;
}

Result<void> Run::open(NatSide which) {
  auto& port = side(which).port;
  if (!port) port.emplace(config_.port(which).uri);
  return port->open();
}

Result<efnet::MacAddress> Run::mac_of(NatSide which, const Config& config) {
  if (const auto& mac = config.port(which).mac) return *mac;
  const auto& info = side(which).port->port().info();
  // A TAP device's own address is that of the host at its other side.
  if (info.mac && info.engine != "tap") return efnet::MacAddress(*info.mac);
  return fail(Error::Kind::usage, options_.file, "{} has no MAC address of its own", info.uri)
      .hint("mac = \"02:00:00:00:00:01\" in [{}]", name(which));
}

// What only the open ports can say.
void Run::complete(Config& config) {
  for (const NatSide which : both_sides) {
    auto& gateway = which == NatSide::inside ? config.gateway.inside : config.gateway.outside;
    gateway.mtu = config.port(which).mtu;
    if (log_) config.gateway.nat.log = [log = log_.get()](const efnet::NatEvent& event) { log->add(event); };
    if (gateway.mtu == 0)
      gateway.mtu = static_cast<std::uint16_t>(std::min<std::uint32_t>(side(which).port->port().info().mtu, 65'535));
  }
}

Result<void> Run::attach(NatSide which, efnet::Gateway& gateway, const Config& config) {
  const auto mac = mac_of(which, config);
  if (!mac) return std::unexpected(mac.error());
  return gateway.attach(which, side(which).port->port().tx(), *mac);
}

std::vector<Worker::Source> Run::sources() {
  std::vector<Worker::Source> all;
  for (const NatSide which : both_sides) {
    auto& port = *side(which).port;
    if (!port.is_open()) continue;
    for (std::size_t q = 0; q < port.port().rx_queues(); ++q) all.push_back({&port.port().rx(q), which});
  }
  return all;
}

Result<void> Run::prepare() {
  auto config = read();
  if (!config) return std::unexpected(std::move(config.error()));
  config_ = std::move(*config);
  if (auto ok = tools::check_cpus(config_.cpus); !ok) return ok;
  for (const NatSide which : both_sides)
    if (auto ok = open(which); !ok) return ok;
  if (!config_.log.file.empty()) {
    auto log = MappingLog::open(config_.log);
    if (!log) return std::unexpected(std::move(log.error()));
    log_ = std::move(*log);
  }
  complete(config_);
  auto gateway = efnet::Gateway::create(config_.gateway);
  if (!gateway) return std::unexpected(std::move(gateway.error()));
  gateway_ = std::move(*gateway);
  for (const NatSide which : both_sides)
    if (auto ok = attach(which, *gateway_, config_); !ok) return ok;
  if (auto ok = take_up_state(); !ok) return ok;
  worker_.emplace(config_.cpus, config_.spin);
  worker_->set(gateway_.get(), sources());
  if (config_.control.empty()) return {};
  auto control = Control::listen(*this, config_.control);
  if (!control) return std::unexpected(std::move(control.error()));
  control_ = std::move(*control);
  return {};
}

// --- sessions that outlive us ---

// A file that is damaged is left as it is, and said; the gateway begins without it.
Result<void> Run::take_up_state() {
  if (config_.state.empty()) return {};
  const auto bytes = tools::read_file(config_.state);
  if (!bytes) return std::unexpected(bytes.error());
  if (!*bytes) return {};
  const auto restored = gateway_->nat().restore(**bytes, now(), unix_now());
  if (restored)
    remark(fmt::format("{}: {} sessions go on, {} had timed out, {} are no longer to be had", config_.state,
                       tools::grouped(restored->restored), tools::grouped(restored->expired),
                       tools::grouped(restored->refused)));
  else
    remark(fmt::format("{}: {}; it is not used", config_.state, restored.error().message()));
  return {};
}

Result<void> Run::write_state() {
  std::vector<std::byte> bytes;
  with_gateway([&](efnet::Gateway& gateway, efnet::Time at) {
    gateway.nat().snapshot(
        at, unix_now(), [&](std::span<const std::byte> part) { bytes.insert(bytes.end(), part.begin(), part.end()); });
  });
  return tools::replace_file(config_.state, bytes);
}

// --- while it runs ---

void Run::with_gateway(const std::function<void(efnet::Gateway&, efnet::Time)>& work) {
  const std::scoped_lock lock(mutex_);
  worker_->call([&] { work(*gateway_, now()); });
}

Json Run::ports_json() {
  const std::scoped_lock lock(mutex_);
  Json all = Json::array();
  for (const NatSide which : both_sides) {
    Json one = side(which).port->json();
    one["side"] = name(which);
    one["open"] = side(which).port->is_open();
    all.push_back(std::move(one));
  }
  return all;
}

void Run::drain(bool on) {
  draining_.store(on);
  with_gateway([on](efnet::Gateway& gateway, efnet::Time) { gateway.nat().drain(on); });
}

// The device has gone: the other side goes on, and this one is tried again now and then.
void Run::lose(NatSide which) {
  auto& port = *side(which).port;
  if (const auto why = port.failure()) remark(fmt::format("{} is gone: {}", name(which), why->message()));
  const std::scoped_lock lock(mutex_);
  worker_->call([&] {
    gateway_->detach(which);
    auto left = sources();
    std::erase_if(left, [which](const Worker::Source& source) { return source.side == which; });
    worker_->set(gateway_.get(), std::move(left));
  });
  (void)port.close();  // it has failed: there is nothing that could be told
}

void Run::look_after_ports(std::uint64_t at) {
  for (const NatSide which : both_sides) {
    auto& it = side(which);
    if (it.port->is_open()) {
      if (!it.port->has_failed()) continue;
      lose(which);
      it.next_try = at + reopen_ns;
    } else if (at >= it.next_try) {
      it.next_try = at + reopen_ns;
      auto opened = it.port->open_anew();
      if (!opened) continue;
      const std::scoped_lock lock(mutex_);
      it.port->install(std::move(*opened));
      Result<void> ok;
      worker_->call([&] {
        ok = attach(which, *gateway_, config_);
        worker_->set(gateway_.get(), sources());
      });
      if (!ok) errors_.push_back(std::move(ok.error()));
      remark(fmt::format("{} is back: {}", name(which), it.port->uri()));
    }
  }
}

Result<efnet::NatRestored> Run::reload() {
  auto config = read();
  if (!config) return std::unexpected(std::move(config.error()));
  const std::scoped_lock lock(mutex_);
  const auto refuse = [&](std::string_view what) {
    return fail(Error::Kind::usage, options_.file, "{} cannot be changed while it runs", what)
        .hint("stop and start it");
  };
  for (const NatSide which : both_sides)
    if (config->port(which).uri != config_.port(which).uri) return refuse(fmt::format("the {} port", name(which)));
  if (config->control != config_.control) return refuse("the control socket");
  if (config->state != config_.state) return refuse("the file of sessions");
  if (config->log.file != config_.log.file || config->log.rotate != config_.log.rotate ||
      config->log.keep != config_.log.keep)
    return refuse("the log");
  if (config->cpus != config_.cpus || config->spin != config_.spin) return refuse("cpu or spin");
  complete(*config);
  for (const NatSide which : both_sides)
    if (auto mac = mac_of(which, *config); !mac) return std::unexpected(std::move(mac.error()));
  auto gateway = efnet::Gateway::create(config->gateway);
  if (!gateway) return std::unexpected(std::move(gateway.error()));
  Result<efnet::NatRestored> restored;
  Result<void> attached;
  worker_->call([&] {
    restored = (*gateway)->take_over(*gateway_, now(), unix_now());
    if (!restored) return;
    for (const NatSide which : both_sides)
      if (side(which).port->is_open() && attached) attached = attach(which, **gateway, *config);
    (*gateway)->nat().drain(draining_.load());
    std::swap(gateway_, *gateway);
    worker_->set(gateway_.get(), sources());
  });
  if (!restored) return restored;
  if (!attached) return std::unexpected(std::move(attached.error()));
  config_ = std::move(*config);
  return restored;
}

Result<std::optional<std::string>> Run::find_owner(efnet::IpProtocol protocol, efnet::Ipv4Address address,
                                                   std::uint16_t port, std::int64_t at) {
  if (!log_) return fail(Error::Kind::usage, "look back", "no log is kept").hint("file = \"…\" in [log]");
  return gate::find_owner(config_.log.file, protocol, address, port, at);
}

Json Run::log_json() const {
  if (!log_) return nullptr;
  return {{"written", log_->written()}, {"lost", log_->lost()}};
}

void Run::reload_for_signal() {
  const auto restored = reload();
  if (!restored) return remark(restored.error().message());
  remark(fmt::format("{} is read again: {} sessions go on, {} are no longer to be had", options_.file,
                     tools::grouped(restored->restored), tools::grouped(restored->refused)));
}

void Run::live(std::uint64_t at) {
  if (at - shown_at_ < second) return;
  const double since = static_cast<double>(at - shown_at_) / 1e9;
  shown_at_ = at;
  if (shown_once_) fmt::print(stderr, "\x1b[3A");
  shown_once_ = true;
  const auto rate = [&](std::uint64_t after, std::uint64_t before) {
    return static_cast<double>(after - before) / since / 1e6;
  };
  for (const NatSide which : both_sides) {
    const auto& port = *side(which).port;
    const PortStats stats = port.stats();
    PortStats& before = shown_[static_cast<std::size_t>(which)];
    fmt::print(stderr,
               "{:<7} {:<24.24} in {:8.3f} M/s {:8.1f} Mbit/s  out {:8.3f} M/s {:8.1f} Mbit/s  dropped {}{}\x1b[K\n",
               name(which), port.uri(), rate(stats.rx.delivered, before.rx.delivered),
               8 * rate(stats.rx.bytes, before.rx.bytes), rate(stats.tx.sent, before.tx.sent),
               8 * rate(stats.tx.bytes, before.tx.bytes),
               tools::grouped(stats.rx.total_dropped() + stats.tx.total_dropped()), port.is_open() ? "" : "  (gone)");
    before = stats;
  }
  std::size_t sessions = 0, mappings = 0;
  with_gateway([&](efnet::Gateway& gateway, efnet::Time) {
    sessions = gateway.nat().sessions().size();
    mappings = gateway.nat().mappings().table().size();
  });
  fmt::print(stderr, "        {} sessions, {} mappings{}\x1b[K\n", tools::grouped(sessions), tools::grouped(mappings),
             draining_.load() ? "; no new ones are begun" : "");
  std::fflush(stderr);
}

void Run::watch() {
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const auto limit =
      options_.duration.count() == 0 ? UINT64_MAX : static_cast<std::uint64_t>(options_.duration.count());
  shown_at_ = start_;
  while (!signals_->signalled() && errors_.empty() && !worker_->failed()) {
    const std::uint64_t at = Clock::monotonic();
    if (at - start_ >= limit) break;
    if (signals_->hung_up()) reload_for_signal();
    look_after_ports(at);
    if (!config_.state.empty() && config_.state_every.count() != 0 &&
        at - state_written_at_ >= static_cast<std::uint64_t>(config_.state_every.count())) {
      state_written_at_ = at;
      if (const auto ok = write_state(); !ok) remark(ok.error().message());
    }
    if (terminal) live(at);
    signals_->wait(std::min(watch_period, as_time(std::min<std::uint64_t>(limit - (at - start_), INT64_MAX))));
  }
}

void Run::perform() {
  signals_.emplace(tools::SignalGuard::Hangup::keep);
  start_ = state_written_at_ = Clock::monotonic();
  Result<void> result;
  {
    const std::jthread thread([&] {
      result = worker_->run();
      if (!result) signals_->notify();
    });
    if (control_) control_->start();
    tools::notify_service_manager("READY=1");
    if (options_.say_ready) remark("ready");
    watch();
    tools::notify_service_manager("STOPPING=1");
    if (control_) control_->stop();
    worker_->stop();
  }
  signals_.reset();
  elapsed_ = static_cast<double>(Clock::monotonic() - start_) / 1e9;
  if (!result) errors_.push_back(std::move(result.error()));
  if (!config_.state.empty())
    if (auto ok = write_state(); !ok) errors_.push_back(std::move(ok.error()));
  for (const NatSide which : both_sides) gateway_->detach(which);  // what waited for a neighbour is given up
  for (const NatSide which : both_sides) {
    auto& port = *side(which).port;
    if (!port.is_open()) {
      errors_.push_back(fail(Error::Kind::device, port.uri(), "the device is gone").error());
      continue;
    }
    port.port().drain();
    if (auto ok = port.close(); !ok) errors_.push_back(std::move(ok.error()));
  }
}

// --- what it says ---

Json Run::json() {
  Json json = {{"version", version()}, {"elapsed_s", elapsed_}, {"ports", ports_json()}};
  json.update(counters_json(*gateway_));
  if (log_) json["log"] = log_json();
  return json;
}

std::string Run::text() {
  std::string text;
  for (const NatSide which : both_sides) text += fmt::format("{}: {}", name(which), side(which).port->text());
  const auto counters = gateway_->counters();
  const auto nat = gateway_->nat_counters();
  for (const NatSide which : both_sides) {
    text += fmt::format("from {}:\n", name(which));
    const auto line = [&](std::string_view name, std::string_view what, std::uint64_t n) {
      if (n != 0) text += fmt::format("  {:>15} {}: {}\n", tools::grouped(n), name, what);
    };
    for (std::size_t i = 0; i < efnet::nat_verdicts; ++i) {
      const auto verdict = static_cast<efnet::NatVerdict>(i);
      line(efnet::name(verdict), describe(verdict), nat.of(which, verdict));
    }
    for (std::size_t i = 0; i < efnet::gateway_drops; ++i) {
      const auto drop = static_cast<efnet::GatewayDrop>(i);
      line(efnet::name(drop), describe(drop), counters.of(which).dropped[i]);
    }
    line("turned", "went back to another inside network", counters.of(which).turned);
  }
  return text + fmt::format("{} sessions and {} mappings made; {} and {} left\n", tools::grouped(nat.sessions_made),
                            tools::grouped(nat.mappings_made), tools::grouped(gateway_->nat().sessions().size()),
                            tools::grouped(gateway_->nat().mappings().table().size()));
}

int Run::report() {
  const auto text = options_.json ? json().dump() + "\n" : this->text();
  std::fwrite(text.data(), 1, text.size(), stdout);
  int code = tools::exit_done;
  for (const auto& error : errors_) code = tools::complain("efnet", error);
  if (auto written = tools::finish_output(); !written) code = tools::complain("efnet", written.error());
  return code;
}

int run(RunOptions options) {
  Run run(std::move(options));
  if (auto ready = run.prepare(); !ready) return tools::complain("efnet", ready.error());
  run.perform();
  return run.report();
}

}  // namespace efio::gate
