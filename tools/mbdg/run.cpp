// How a run is set up, and how it ends; watch.cpp is what happens meanwhile, reload.cpp what SIGHUP does.
#include "tools/mbdg/run.h"

#include <unistd.h>

#include <algorithm>
#include <thread>

#include "efio/clock.h"
#include "efio/fail.h"
#include "efio/forward.h"
#include "tools/common/cpus.h"
#include "tools/common/exit_code.h"

namespace efio::mbdg {

PortStats BridgePort::stats() const noexcept {
  PortStats sum = before;
  if (!port) return sum;
  const auto now = port->stats();
  sum.rx += now.rx;
  sum.tx += now.tx;
  return sum;
}

// --- ports ---

Result<void> Run::open(std::size_t number) {
  auto& bridge_port = ports_[number];
  auto port = Port::open(bridge_port.settings.uri);
  if (!port) return std::unexpected(placed(std::move(port.error()), bridge_port.settings.where));
  bridge_port.before = bridge_port.stats();
  bridge_port.port = std::move(*port);
  bridge_port.is_open = true;
  ++bridge_port.openings;
  return {};
}

Result<std::unique_ptr<Policer>> Run::make_policer(const PortSettings& settings) const {
  if (!settings.rate.limited()) return nullptr;
  auto made = Policer::create(settings.rate);
  if (!made) return std::unexpected(placed(std::move(made.error()), settings.where));
  return std::make_unique<Policer>(std::move(*made));
}

// What a switch is told of the ports under their numbers.
efnet::SwitchOptions Run::bridging(const Options& options, const std::vector<std::size_t>& numbers) const {
  efnet::SwitchOptions bridging{
      .ports = std::vector<efnet::SwitchPortOptions>(ports_.size(), efnet::SwitchPortOptions{.is_there = false, .vlans = {}}),
      .mirror = {},
      .pass_reserved = options.pass_reserved,
      .table = {.capacity = options.table_size, .ageing = options.ageing, .seed = {}}};
  for (std::size_t i = 0; i < numbers.size(); ++i) bridging.ports[numbers[i]] = options.ports[i].bridging;
  if (options.mirror) bridging.mirror = static_cast<std::uint16_t>(numbers[*options.mirror]);
  return bridging;
}

// The static entries that these options ask for, and none besides.
void Run::set_statics(const Options& options, const std::vector<std::size_t>& numbers) {
  std::vector<std::pair<std::uint64_t, std::uint16_t>> wanted;
  for (std::size_t i = 0; i < numbers.size() && bridge_; ++i)
    for (const auto& entry : options.ports[i].statics)
      wanted.emplace_back(efnet::MacTable::key(entry.address, entry.vlan), static_cast<std::uint16_t>(numbers[i]));
  for (const auto& [key, port] : statics_)
    if (bridge_ && std::ranges::find(wanted, key, &std::pair<std::uint64_t, std::uint16_t>::first) == wanted.end())
      bridge_->table().remove(key);
  for (const auto& [key, port] : wanted)
    if (!bridge_->table().add(key, port)) tools::remark("mbdg", "a static address finds no place: a larger --table-size?");
  statics_ = std::move(wanted);
}

Result<void> Run::prepare() {
  if (auto ok = tools::check_cpus(options_.cpus); !ok) return ok;
  ports_.resize(options_.ports.size());
  std::vector<std::size_t> numbers;
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    numbers.push_back(i);
    ports_[i].settings = options_.ports[i];
    ports_[i].in_use = true;
    ports_[i].owner = exit_owner(i, ports_.size());
    auto policer = make_policer(options_.ports[i]);
    if (!policer) return std::unexpected(std::move(policer.error()));
    ports_[i].policer = std::move(*policer);
  }
  if (!options_.wire) {
    auto made = efnet::Switch::create(bridging(options_, numbers));
    if (!made) return std::unexpected(std::move(made.error()));
    bridge_.emplace(std::move(*made));
    set_statics(options_, numbers);
  }
  if (!options_.dump.empty()) {
    auto dumper = Dumper::create(options_);
    if (!dumper) return std::unexpected(std::move(dumper.error()));
    dumper_ = std::move(*dumper);
  }
  if (options_.count != 0)
    budget_ = std::make_unique<Budget>(options_.count, [this] { signals_->notify(); });
  for (std::size_t i = 0; i < ports_.size(); ++i)
    if (auto ok = open(i); !ok) return ok;
  for (std::size_t i = 0; i < std::max<std::size_t>(1, options_.cpus.size()); ++i) {
    workers_.push_back(std::make_unique<Worker>(options_, bridge_ ? &*bridge_ : nullptr, dumper_.get()));
    workers_.back()->set_budget(budget_.get());
  }
  if (auto ok = make_relays(); !ok) return ok;
  wire_up();
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    auto gates = make_gates(i, ports_[i].settings);
    if (!gates) return std::unexpected(std::move(gates.error()));
    for (std::size_t w = 0; w < workers_.size(); ++w) install(w, i, std::move((*gates)[w]));
  }
  return {};
}

// --- who does what ---

// Queues go round the threads, so that with a thread a port each has its own.
std::size_t Run::thread_of(std::size_t port, std::size_t queue) const noexcept {
  return (port + queue) % std::max<std::size_t>(1, options_.cpus.size());
}

// Who sends by a port that has not a queue for each thread: on a wire, and wherever it may be, the one that receives
// what leaves there.
std::size_t Run::exit_owner(std::size_t port, std::size_t ports) const noexcept {
  return thread_of((port + ports - 1) % ports, 0);
}

// Whether thread `from` receives frames that may leave by the port; answers of its plugins are such, too.
bool Run::may_hand_over(std::size_t from, std::size_t port) const {
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    if (!ports_[i].is_open || (i == port && ports_[i].settings.ingates.empty())) continue;
    for (std::size_t q = 0; q < ports_[i].port->rx_queues(); ++q)
      if (thread_of(i, q) == from) return true;
  }
  return false;
}

// To whoever sends by a port that has not a queue for each thread, from each of the others that may have frames for it.
Result<void> Run::make_relays() {
  static int number = 0;
  for (std::size_t p = 0; p < ports_.size(); ++p) {
    if (!ports_[p].is_open || ports_[p].port->tx_queues() >= workers_.size()) continue;
    for (std::size_t from = 0; from < workers_.size(); ++from) {
      const auto is_it = [&](const Relay& relay) { return relay.port == p && relay.from == from; };
      if (from == ports_[p].owner || std::ranges::any_of(relays_, is_it) || !may_hand_over(from, p)) continue;
      const auto uri = fmt::format("pipe:mbdg-{}-{}?ring=1024", ::getpid(), number++);
      auto entry = Port::open(uri);
      if (!entry) return std::unexpected(std::move(entry.error()));
      auto end = Port::open(uri);
      if (!end) return std::unexpected(std::move(end.error()));
      relays_.push_back({std::move(*entry), std::move(*end), from, ports_[p].owner, static_cast<std::uint16_t>(p)});
    }
  }
  return {};
}

// Null: the thread has nothing that could leave by the port.
TxQueue* Run::exit_of(std::size_t thread, std::size_t port) {
  Port& opened = *ports_[port].port;
  if (opened.tx_queues() >= workers_.size()) return &opened.tx(thread);
  if (ports_[port].owner == thread) return &opened.tx(0);
  for (auto& relay : relays_)
    if (relay.port == port && relay.from == thread) return &relay.entry.tx();
  return nullptr;
}

// Who works with what, as the ports are now; plugins are not touched.
void Run::wire_up() {
  std::vector<std::uint16_t> present;
  for (std::size_t p = 0; p < ports_.size(); ++p)
    if (ports_[p].in_use) present.push_back(static_cast<std::uint16_t>(p));
  for (std::size_t w = 0; w < workers_.size(); ++w) {
    Wiring& wiring = workers_[w]->wiring();
    wiring.sources.clear();
    wiring.exits.assign(ports_.size(), nullptr);
    wiring.ingates.resize(ports_.size());
    wiring.outgates.resize(ports_.size());
    if (present.size() == 2) {
      wiring.across[present[0]] = present[1];
      wiring.across[present[1]] = present[0];
    }
    for (const auto p : present) {
      wiring.rates[p] = ports_[p].policer.get();
      if (!ports_[p].is_open) continue;
      Port& port = *ports_[p].port;
      for (std::size_t q = 0; q < port.rx_queues(); ++q)
        if (thread_of(p, q) == w) wiring.sources.push_back({&port.rx(q), p, nullptr});
      wiring.exits[p] = exit_of(w, p);
      for (auto& relay : relays_)
        if (relay.port == p && relay.to == w) wiring.sources.push_back({&relay.end.rx(), p, &port.tx(0)});
    }
  }
}

Result<Gates> Run::make_gates(std::size_t thread, std::size_t number, const PortSettings& settings) {
  Gates gates;
  const efnet::PipelineOptions options{.port = static_cast<std::uint32_t>(number)};
  const auto add = [&](const std::vector<PluginText>& plugins, std::string_view prefix,
                       std::unique_ptr<efnet::Pipeline>& into) -> Result<void> {
    for (const auto& plugin : plugins) {
      if (!into) into = std::make_unique<efnet::Pipeline>(exit_of(thread, number), options);
      if (auto ok = into->add(fmt::format("{}{}", prefix, plugin.text)); !ok)
        return std::unexpected(placed(std::move(ok.error()), plugin.where));
    }
    return {};
  };
  if (auto ok = add(settings.filters, "filter:", gates.in); !ok) return std::unexpected(std::move(ok.error()));
  if (auto ok = add(settings.ingates, "", gates.in); !ok) return std::unexpected(std::move(ok.error()));
  if (auto ok = add(settings.outgates, "", gates.out); !ok) return std::unexpected(std::move(ok.error()));
  return gates;
}

// One for each thread.
Result<std::vector<Gates>> Run::make_gates(std::size_t number, const PortSettings& settings) {
  std::vector<Gates> all;
  for (std::size_t w = 0; w < workers_.size(); ++w) {
    auto gates = make_gates(w, number, settings);
    if (!gates) return std::unexpected(std::move(gates.error()));
    all.push_back(std::move(*gates));
  }
  return all;
}

// In the place of those that are there, whose counts are kept.
void Run::install(std::size_t thread, std::size_t number, Gates gates) {
  Wiring& wiring = workers_[thread]->wiring();
  for (auto* old : {&wiring.ingates[number], &wiring.outgates[number]})
    if (*old) past_.add(**old);
  wiring.ingates[number] = std::move(gates.in);
  wiring.outgates[number] = std::move(gates.out);
}

void Run::rest_all() {
  for (auto& worker : workers_) worker->rest();
}

void Run::resume_all() {
  for (auto& worker : workers_) worker->resume();
}

// --- from the first thread to the last count ---

void Run::perform() {
  signals_.emplace(reread_ ? tools::SignalGuard::Hangup::keep : tools::SignalGuard::Hangup::ends);
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
    if (!port.in_use) continue;
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

// What one thread had handed to another that stopped, or rests, before it.
void Run::drain_relay(Relay& relay) {
  TxQueue& tx = ports_[relay.port].port->tx(0);
  relay.entry.tx().flush();
  while (true) {
    auto batch = relay.end.rx().receive(options_.batch);
    if (batch.empty()) break;
    const bool is_open = ports_[relay.port].is_open;
    if (is_open) forward(batch, tx);
    if (!batch.empty() && (!is_open || !tx.drain(std::chrono::milliseconds(100)) || tx.failed())) {
      tx.drop(static_cast<std::size_t>(std::ranges::count_if(batch, [](const Slot& s) { return !s.has(Slot::more); })),
              DropReason::not_forwarded);
      batch.finish();
    }
  }
}

void Run::drain_relays() {
  for (auto& relay : relays_) drain_relay(relay);
}

int run(Options options, const Run::Reread& reread) {
  Run run(std::move(options), reread);
  if (auto ready = run.prepare(); !ready) return tools::complain("mbdg", ready.error());
  run.perform();
  return run.report();
}

}  // namespace efio::mbdg
