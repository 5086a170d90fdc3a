// SIGHUP: the configuration is read again and compared with what runs. All that can fail is done beside the running
// bridge: ports opened, plugins made, options checked. Then the threads rest for as long as it takes to give them their new
// queues and rules, and go on; frames of ports that stay wait in their rings meanwhile.
#include <algorithm>

#include "efio/clock.h"
#include "efio/fail.h"
#include "tools/common/exit_code.h"
#include "tools/mbdg/run.h"

namespace efio::mbdg {

namespace {

// What can only be set at the start.
Result<void> check_unchanged(const Options& now, const Options& then) {
  const std::pair<std::string_view, bool> fixed[] = {{"cpu", now.cpus == then.cpus},
                                                     {"table-size", now.table_size == then.table_size},
                                                     {"dump", now.dump == then.dump},
                                                     {"dump-what", now.dump_what == then.dump_what},
                                                     {"count", now.count == then.count}};
  for (const auto& [key, is_same] : fixed)
    if (!is_same)
      return fail(Error::Kind::usage, then.config, "{} cannot change while the bridge runs", key).hint("restart it");
  return {};
}

bool same_gates(const PortSettings& a, const PortSettings& b) {
  return a.filters == b.filters && a.ingates == b.ingates && a.outgates == b.outgates;
}

bool same_vlans(const efnet::SwitchPortOptions& a, const efnet::SwitchPortOptions& b) {
  return a.tagging == b.tagging && a.vlan == b.vlan && a.vlans == b.vlans;
}

}  // namespace

void Run::reload() {
  Change change;
  change.relays_before = relays_.size();
  auto options = reread_();
  Result<void> ready;
  if (options) {
    change.options = std::move(*options);
    ready = plan(change);
    if (!ready) give_up(change);
  } else {
    ready = std::unexpected(std::move(options.error()));
  }
  if (!ready) {
    tools::remark("mbdg", fmt::format("SIGHUP: nothing has changed: {}", ready.error().message()));
    ++refusals_;
    return;
  }
  const std::size_t kept = change.numbers.size() - change.added.size();
  carry_out(change);
  tools::remark("mbdg", fmt::format("SIGHUP: {} ports as before, {} added, {} removed", kept, change.added.size(),
                                    change.removed.size()));
  ++reloads_;
}

Result<void> Run::plan(Change& change) {
  if (auto ok = check_unchanged(options_, change.options); !ok) return ok;
  if (auto ok = plan_ports(change); !ok) return ok;
  change.bridging = bridging(change.options, change.numbers);
  if (auto ok = efnet::Switch::check(change.bridging); !ok) return ok;
  if (!change.options.wire && !bridge_) {
    auto made = efnet::Switch::create(change.bridging);
    if (!made) return std::unexpected(std::move(made.error()));
    change.bridge.emplace(std::move(*made));
  }
  if (auto ok = make_relays(); !ok) return ok;
  return plan_gates(change);
}

// A place that no port has now; the list may grow.
std::optional<std::size_t> Run::free_number() const noexcept {
  for (std::size_t i = 0; i < ports_.size(); ++i)
    if (!ports_[i].in_use) return i;
  if (ports_.size() == efnet::Switch::most_ports) return std::nullopt;
  return ports_.size();
}

// Ports are the same where their URIs are. Those that are new get a place and are opened.
Result<void> Run::plan_ports(Change& change) {
  std::vector<bool> taken(ports_.size());
  const auto present = [&](const std::string& uri) -> std::optional<std::size_t> {
    for (std::size_t i = 0; i < taken.size(); ++i)
      if (ports_[i].in_use && !taken[i] && ports_[i].settings.uri == uri) return i;
    return std::nullopt;
  };
  std::vector<std::optional<std::size_t>> places;
  for (const auto& settings : change.options.ports) {
    places.push_back(present(settings.uri));
    if (places.back()) taken[*places.back()] = true;
  }
  for (std::size_t i = 0; i < taken.size(); ++i)
    if (ports_[i].in_use && !taken[i]) change.removed.push_back(i);
  for (std::size_t i = 0; i < places.size(); ++i) {
    const auto& settings = change.options.ports[i];
    const bool is_new = !places[i];
    if (is_new) places[i] = free_number();
    if (!places[i])
      return std::unexpected(placed(fail(Error::Kind::usage, "", "too many ports while those that go are still there")
                                        .hint("{} at a time", efnet::Switch::most_ports)
                                        .error(),
                                    settings.where));
    const std::size_t number = *places[i];
    change.numbers.push_back(number);
    if (is_new) {
      if (number == ports_.size()) ports_.emplace_back();
      ports_[number] = {};
      ports_[number].settings = settings;
      ports_[number].in_use = true;
      ports_[number].owner = exit_owner(number, std::max(number + 1, ports_.size()));
      change.added.push_back(number);
      if (auto ok = open(number); !ok) return ok;
    }
    const auto& old = ports_[number].settings;
    if (is_new || !same_gates(old, settings)) change.regated.push_back(number);
    if (!is_new && !same_vlans(old.bridging, settings.bridging)) change.other_vlans.push_back(number);
    change.policers.emplace_back();
    if (is_new || old.rate != settings.rate) {
      auto policer = make_policer(settings);
      if (!policer) return std::unexpected(std::move(policer.error()));
      change.policers.back() = std::move(*policer);
    }
  }
  return {};
}

Result<void> Run::plan_gates(Change& change) {
  for (const std::size_t number : change.regated) {
    const auto place = std::ranges::find(change.numbers, number) - change.numbers.begin();
    if (!ports_[number].is_open) {  // it gets its plugins when it comes back
      for (std::size_t w = 0; w < workers_.size(); ++w) change.gates.emplace_back();
      continue;
    }
    auto gates = make_gates(number, change.options.ports[static_cast<std::size_t>(place)]);
    if (!gates) return std::unexpected(std::move(gates.error()));
    std::ranges::move(*gates, std::back_inserter(change.gates));
  }
  return {};
}

// As if nothing had been asked for.
void Run::give_up(const Change& change) {
  relays_.erase(relays_.begin() + static_cast<std::ptrdiff_t>(change.relays_before), relays_.end());
  for (const std::size_t number : change.added) ports_[number] = {};
}

void Run::carry_out(Change& change) {
  // Sent frames of ports that go are on their way when their queues are let go of.
  rest_all();
  for (const std::size_t number : change.removed) {
    for (auto& relay : relays_)
      if (relay.port == number) drain_relay(relay);
    for (std::size_t w = 0; w < workers_.size(); ++w) install(w, number, {});
    ports_[number].in_use = false;
  }
  for (std::size_t i = 0; i < change.numbers.size(); ++i) {
    auto& port = ports_[change.numbers[i]];
    const auto& settings = change.options.ports[i];
    if (change.policers[i] || !settings.rate.limited()) port.policer = std::move(change.policers[i]);
    port.settings = settings;
  }
  options_ = std::move(change.options);
  if (change.bridge) bridge_ = std::move(change.bridge);
  if (options_.wire) bridge_.reset();
  else (void)bridge_->change(change.bridging);  // checked before
  set_statics(options_, change.numbers);
  wire_up();
  auto gates = change.gates.begin();
  for (const std::size_t number : change.regated)
    for (std::size_t w = 0; w < workers_.size(); ++w) install(w, number, std::move(*gates++));
  for (auto& worker : workers_) worker->set_bridge(bridge_ ? &*bridge_ : nullptr);
  for (const std::size_t number : change.added)
    if (dumper_) dumper_->set_port(number, ports_[number].settings.uri);
  resume_all();
  for (const auto* numbers : {&change.removed, &change.other_vlans})
    for (const std::size_t number : *numbers)
      if (bridge_) bridge_->table().flush(static_cast<std::uint16_t>(number));
  close_removed(change);
}

// Their counts stay in the report.
void Run::close_removed(const Change& change) {
  for (const std::size_t number : change.removed) {
    auto& port = ports_[number];
    if (port.is_open) {
      port.port->drain();
      if (auto ok = port.port->close(); !ok)
        tools::remark("mbdg", fmt::format("port {} was removed: {}", number, ok.error().message()));
    }
    port.is_open = false;
    std::erase_if(relays_, [&](const Relay& relay) {
      if (relay.port != number) return false;
      relay.count_dropped(port.before.tx);
      handed_over_before_ += relay.entry.stats().tx.sent;
      return true;
    });
    former_.push_back(std::move(port));
    port = {};
  }
  shown_.assign(ports_.size(), {});
  for (std::size_t i = 0; i < ports_.size(); ++i)
    if (ports_[i].in_use) shown_[i] = ports_[i].stats();
}

}  // namespace efio::mbdg
