#include "tools/mbdg/run.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "efio/clock.h"
#include "efio/fail.h"
#include "efio/forward.h"
#include "efio/version.h"
#include "efnet/plugins/load.h"
#include "tools/common/cpus.h"
#include "tools/common/exit_code.h"

namespace efio::mbdg {

namespace {

using std::chrono::nanoseconds;

constexpr nanoseconds watch_period = std::chrono::milliseconds(50);
constexpr std::uint64_t second = 1'000'000'000;
constexpr std::uint64_t reopen_ns = second / 2;
// So many addresses changing ports in a second are no people who walk about.
constexpr std::uint64_t moves_of_a_loop = 1000;

nanoseconds as_time(std::uint64_t ns) { return nanoseconds(static_cast<std::int64_t>(ns)); }

}  // namespace

PortStats BridgePort::stats() const noexcept {
  PortStats sum = before;
  if (!port) return sum;
  const auto now = port->stats();
  sum.rx += now.rx;
  sum.tx += now.tx;
  return sum;
}

// --- set-up ---

Result<void> Run::open(std::size_t number) {
  auto& bridge_port = ports_[number];
  auto port = Port::open(options_.ports[number].uri);
  if (!port) return std::unexpected(std::move(port.error()));
  if (bridge_port.port) {
    const auto old = bridge_port.port->stats();
    bridge_port.before.rx += old.rx;
    bridge_port.before.tx += old.tx;
  }
  bridge_port.port = std::move(*port);
  bridge_port.is_open = true;
  ++bridge_port.openings;
  return {};
}

Result<void> Run::prepare() {
  if (auto ok = tools::check_cpus(options_.cpus); !ok) return ok;
  if (!options_.wire) {
    efnet::SwitchOptions options{.ports = {},
                                 .mirror = options_.mirror,
                                 .pass_reserved = options_.pass_reserved,
                                 .table = {.capacity = options_.table_size, .ageing = options_.ageing, .seed = {}}};
    for (const auto& port : options_.ports) options.ports.push_back(port.bridging);
    auto made = efnet::Switch::create(options);
    if (!made) return std::unexpected(std::move(made.error()));
    bridge_.emplace(std::move(*made));
    for (const auto& entry : options_.entries)
      if (!bridge_->table().add(efnet::MacTable::key(entry.address, entry.vlan), entry.port))
        return fail(Error::Kind::usage, "--static", "the table is full").hint("a larger --table-size");
  }
  if (!options_.dump.empty()) {
    auto dumper = Dumper::create(options_);
    if (!dumper) return std::unexpected(std::move(dumper.error()));
    dumper_ = std::move(*dumper);
  }
  ports_.resize(options_.ports.size());
  for (std::size_t i = 0; i < ports_.size(); ++i)
    if (auto ok = open(i); !ok) return ok;
  for (std::size_t i = 0; i < std::max<std::size_t>(1, options_.cpus.size()); ++i)
    workers_.push_back(std::make_unique<Worker>(options_, bridge_ ? &*bridge_ : nullptr, dumper_.get()));
  for (std::size_t i = 0; i < ports_.size(); ++i)
    if (auto ok = make_relays(i); !ok) return ok;
  return wire_up();
}

// Queues go round the threads, so that with a thread a port each has its own.
std::size_t Run::thread_of(std::size_t port, std::size_t queue) const noexcept {
  return (port + queue) % std::max<std::size_t>(1, options_.cpus.size());
}

// Who sends by a port that has not a queue for each thread: on a wire, and wherever it may be, the one that receives
// what leaves there.
std::size_t Run::owner_of_exit(std::size_t port) const noexcept {
  return thread_of((port + ports_.size() - 1) % ports_.size(), 0);
}

// To whoever sends by a port that has not a queue for each thread, from each of the others that may have frames for it.
Result<void> Run::make_relays(std::size_t port) {
  static int number = 0;
  if (ports_[port].port->tx_queues() >= workers_.size()) return {};
  if (std::ranges::any_of(relays_, [port](const Relay& relay) { return relay.port == port; })) return {};
  const std::size_t to = owner_of_exit(port);
  for (std::size_t from = 0; from < workers_.size(); ++from) {
    const bool never = options_.wire && ports_[port ^ 1U].port->rx_queues() == 1;  // only the owner receives for it
    if (from == to || never) continue;
    const auto uri = fmt::format("pipe:mbdg-{}-{}?ring=1024", ::getpid(), number++);
    auto entry = Port::open(uri);
    if (!entry) return std::unexpected(std::move(entry.error()));
    auto end = Port::open(uri);
    if (!end) return std::unexpected(std::move(end.error()));
    relays_.push_back({std::move(*entry), std::move(*end), from, to, static_cast<std::uint16_t>(port)});
  }
  return {};
}

Result<void> Run::add_gates(Worker& worker, std::size_t number, TxQueue* tx) {
  const auto& settings = options_.ports[number];
  auto& wiring = worker.wiring();
  const efnet::PipelineOptions options{.port = static_cast<std::uint32_t>(number)};
  const auto make = [&](const std::vector<std::string>& plugins,
                        std::unique_ptr<efnet::Pipeline>& into) -> Result<void> {
    if (plugins.empty()) return {};
    into = std::make_unique<efnet::Pipeline>(tx, options);
    for (const auto& plugin : plugins)
      if (auto ok = into->add(plugin); !ok) return ok;
    return {};
  };
  if (auto ok = make(settings.ingates, wiring.ingates[number]); !ok) return ok;
  return make(settings.outgates, wiring.outgates[number]);
}

// Who works with what, as the ports are now.
Result<void> Run::wire_up(std::optional<std::size_t> changed) {
  for (std::size_t w = 0; w < workers_.size(); ++w) {
    Wiring& wiring = workers_[w]->wiring();
    wiring.sources.clear();
    wiring.exits.assign(ports_.size(), nullptr);
    wiring.ingates.resize(ports_.size());
    wiring.outgates.resize(ports_.size());
    for (std::size_t p = 0; p < ports_.size(); ++p) {
      const bool is_new = !changed || *changed == p;
      if (is_new) wiring.ingates[p].reset(), wiring.outgates[p].reset();
      if (!ports_[p].is_open) continue;
      Port& port = *ports_[p].port;
      for (std::size_t q = 0; q < port.rx_queues(); ++q)
        if (thread_of(p, q) == w) wiring.sources.push_back({&port.rx(q), static_cast<std::uint16_t>(p), nullptr});
      if (port.tx_queues() >= workers_.size())
        wiring.exits[p] = &port.tx(w);
      else if (owner_of_exit(p) == w)
        wiring.exits[p] = &port.tx(0);
      for (auto& relay : relays_) {
        if (relay.port != p) continue;
        if (relay.from == w) wiring.exits[p] = &relay.entry.tx();
        if (relay.to == w) wiring.sources.push_back({&relay.end.rx(), relay.port, &port.tx(0)});
      }
      if (!is_new) continue;
      if (auto ok = add_gates(*workers_[w], p, wiring.exits[p]); !ok) return ok;
    }
  }
  return {};
}

void Run::rest_all() {
  for (auto& worker : workers_) worker->rest();
}

void Run::resume_all() {
  for (auto& worker : workers_) worker->resume();
}

// --- while it runs ---

// The device has gone: the others go on without it, and it is tried again now and then.
void Run::lose(std::size_t number) {
  auto& port = ports_[number];
  for (std::size_t q = 0; q < port.port->rx_queues() && !port.why_gone; ++q)
    if (auto status = port.port->rx(q).status(); !status) port.why_gone = status.error();
  for (std::size_t q = 0; q < port.port->tx_queues() && !port.why_gone; ++q)
    if (auto status = port.port->tx(q).status(); !status) port.why_gone = status.error();
  if (port.why_gone) tools::remark("mbdg", fmt::format("port {} is gone: {}", number, port.why_gone->message()));
  rest_all();
  port.is_open = false;
  if (auto ok = wire_up(number); !ok) errors_.push_back(std::move(ok.error()));
  resume_all();
  (void)port.port->close();  // takes the kernel many milliseconds; it has failed: there is nothing that could be told
  if (bridge_) bridge_->table().flush(static_cast<std::uint16_t>(number));
}

void Run::look_after_ports(std::uint64_t now) {
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    auto& port = ports_[i];
    if (port.is_open) {
      bool failed = false;
      for (std::size_t q = 0; q < port.port->rx_queues(); ++q) failed |= port.port->rx(q).failed();
      for (std::size_t q = 0; q < port.port->tx_queues(); ++q) failed |= port.port->tx(q).failed();
      if (!failed) continue;
      lose(i);
      port.next_try = now + reopen_ns;
    } else if (now >= port.next_try) {
      port.next_try = now + reopen_ns;
      if (!open(i)) continue;
      port.why_gone.reset();
      tools::remark("mbdg", fmt::format("port {} is back: {}", i, options_.ports[i].uri));
      rest_all();
      auto ok = make_relays(i);
      if (ok) ok = wire_up(i);
      if (!ok) errors_.push_back(std::move(ok.error()));
      resume_all();
    }
  }
}

void Run::look_for_loops(std::uint64_t now) {
  if (!bridge_ || now - looked_at_ < second) return;
  const std::uint64_t moves = bridge_->table().moves();
  const std::uint64_t lately = moves - moves_before_;
  moves_before_ = moves;
  looked_at_ = now;
  if (lately < moves_of_a_loop) return;
  ++loops_suspected_;
  if (said_at_ != 0 && now - said_at_ < 10 * second) return;
  said_at_ = now;
  const auto mover = bridge_->table().most_moved();
  tools::remark("mbdg", fmt::format("addresses changed ports {} times in the last second, {} among them: is there a loop?",
                                    lately, mover ? to_string(mover->address) : std::string("none")));
}

void Run::live(std::uint64_t now) {
  if (now - shown_at_ < second) return;
  const double since = static_cast<double>(now - shown_at_) / 1e9;
  shown_at_ = now;
  if (lines_shown_ > 0) fmt::print(stderr, "\x1b[{}A", lines_shown_);
  shown_.resize(ports_.size());
  const auto rate = [&](std::uint64_t after, std::uint64_t before) {
    return static_cast<double>(after - before) / since / 1e6;
  };
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    const auto stats = ports_[i].stats();
    const auto& before = shown_[i];
    fmt::print(stderr, "{:2} {:<24.24} in {:8.3f} M/s {:8.1f} Mbit/s  out {:8.3f} M/s {:8.1f} Mbit/s  dropped {}{}\x1b[K\n",
               i, options_.ports[i].uri, rate(stats.rx.delivered, before.rx.delivered),
               8 * rate(stats.rx.bytes, before.rx.bytes), rate(stats.tx.sent, before.tx.sent),
               8 * rate(stats.tx.bytes, before.tx.bytes),
               tools::grouped(stats.rx.total_dropped() + stats.tx.total_dropped()), ports_[i].is_open ? "" : "  (gone)");
    shown_[i] = stats;
  }
  lines_shown_ = ports_.size();
  if (bridge_) {
    fmt::print(stderr, "   {} addresses known\x1b[K\n", tools::grouped(bridge_->table().size(as_time(now))));
    ++lines_shown_;
  }
  std::fflush(stderr);
}

void Run::watch() {
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const auto limit = options_.duration.count() == 0 ? UINT64_MAX : static_cast<std::uint64_t>(options_.duration.count());
  shown_at_ = looked_at_ = start_;
  const auto one_failed = [&] { return std::ranges::any_of(workers_, [](const auto& w) { return w->failed(); }); };
  while (!signals_->signalled() && errors_.empty() && !one_failed()) {
    const std::uint64_t now = Clock::monotonic();
    if (now - start_ >= limit) break;
    look_after_ports(now);
    look_for_loops(now);
    if (terminal) live(now);
    signals_->wait(std::min(watch_period, as_time(std::min<std::uint64_t>(limit - (now - start_), INT64_MAX))));
  }
}

void Run::perform() {
  signals_.emplace();
  start_ = Clock::monotonic();
  std::vector<Result<void>> results(workers_.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < workers_.size(); ++i)
      threads.emplace_back([this, i, &results] {
        results[i] = workers_[i]->run(options_.cpus, i);
        if (!results[i]) signals_->notify();
      });
    if (options_.say_ready) tools::remark("mbdg", "ready");
    watch();
    for (auto& worker : workers_) worker->stop();
  }
  signals_.reset();
  elapsed_ = static_cast<double>(Clock::monotonic() - start_) / 1e9;
  for (auto& result : results)
    if (!result) errors_.push_back(std::move(result.error()));
  drain_relays();
  for (auto& port : ports_) {
    if (!port.is_open) {
      if (port.why_gone) errors_.push_back(*port.why_gone);
      continue;
    }
    port.port->drain();
    if (auto ok = port.port->close(); !ok) errors_.push_back(std::move(ok.error()));
  }
  if (dumper_)
    if (auto ok = dumper_->close(); !ok) errors_.push_back(std::move(ok.error()));
}

// What one thread had handed to another that stopped before it.
void Run::drain_relays() {
  for (auto& relay : relays_) {
    if (!ports_[relay.port].is_open) continue;
    TxQueue& tx = ports_[relay.port].port->tx(0);
    relay.entry.tx().flush();
    while (true) {
      auto batch = relay.end.rx().receive(options_.batch);
      if (batch.empty()) break;
      forward(batch, tx);
      if (!batch.empty() && (!tx.drain(std::chrono::milliseconds(100)) || tx.failed())) {
        tx.drop(static_cast<std::size_t>(std::ranges::count_if(batch, [](const Slot& s) { return !s.has(Slot::more); })),
                DropReason::not_forwarded);
        batch.finish();
      }
    }
  }
}

// --- what it says ---

std::uint64_t Run::copied() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& worker : workers_) sum += worker->copied();
  return sum;
}

std::uint64_t Run::handed_over() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& relay : relays_) sum += relay.entry.stats().tx.sent;
  return sum;
}

// What was dropped on the way from thread to thread was on its way to this port, which counts it as what it had no room for.
PortStats Run::beside(std::size_t number) const noexcept {
  PortStats sum = ports_[number].before;
  for (const auto& relay : relays_) {
    if (relay.port != number) continue;
    const auto handed = relay.entry.stats().tx;
    sum.tx.offered += handed.total_dropped();
    for (std::size_t reason = 0; reason < handed.dropped.size(); ++reason) sum.tx.dropped[reason] += handed.dropped[reason];
  }
  return sum;
}

tools::Json Run::json() const {
  tools::Json json = {{"version", version()}, {"elapsed_s", elapsed_}, {"mode", bridge_ ? "switch" : "wire"}};
  auto& ports = json["ports"] = tools::Json::array();
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    ports.push_back(tools::port_json(*ports_[i].port, beside(i)));
    ports.back()["openings"] = ports_[i].openings;
  }
  json["threads"] = workers_.size();
  json["copied"] = copied();
  std::uint64_t refused = 0;
  for (const auto& relay : relays_) refused += relay.entry.stats().tx.total_dropped();
  json["handed_over"] = {{"packets", handed_over()}, {"dropped", refused}};
  if (bridge_) {
    const auto& table = bridge_->table();
    json["table"] = {{"size", table.size(as_time(Clock::monotonic()))},
                     {"moves", table.moves()},
                     {"not_learned", table.not_learned()},
                     {"loops_suspected", loops_suspected_}};
  }
  if (dumper_) json["dumped"] = dumper_->frames();
  return json;
}

std::string Run::text() const {
  std::string text;
  for (std::size_t i = 0; i < ports_.size(); ++i)
    text += fmt::format("port {}: {}", i, tools::port_text(*ports_[i].port, beside(i)));
  if (bridge_)
    text += fmt::format("{} addresses known, {} copies made\n",
                        tools::grouped(bridge_->table().size(as_time(Clock::monotonic()))), tools::grouped(copied()));
  if (!relays_.empty()) text += fmt::format("{} handed from thread to thread\n", tools::grouped(handed_over()));
  if (dumper_) text += fmt::format("{} written to {}\n", tools::grouped(dumper_->frames()), options_.dump);
  return text;
}

int Run::report() {
  const auto text = options_.json ? json().dump() + "\n" : this->text();
  std::fwrite(text.data(), 1, text.size(), stdout);
  int code = tools::exit_done;
  for (const auto& error : errors_) code = tools::complain("mbdg", error);
  if (auto written = tools::finish_output(); !written) code = tools::complain("mbdg", written.error());
  return code;
}

int run(const Options& options) {
  Run run(options);
  if (auto ready = run.prepare(); !ready) return tools::complain("mbdg", ready.error());
  run.perform();
  return run.report();
}

}  // namespace efio::mbdg
