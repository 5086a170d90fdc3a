// What a run has to say at its end.
#include <fmt/format.h>

#include "efio/clock.h"
#include "efio/version.h"
#include "tools/common/exit_code.h"
#include "tools/mbdg/run.h"

namespace efio::mbdg {

namespace {

efnet::Time now() { return efnet::Time(static_cast<std::int64_t>(Clock::monotonic())); }

tools::Json as_json(const Conservation& sum) {
  return {{"received", sum.received}, {"made", sum.made},       {"copied", sum.copied},     {"sent", sum.sent},
          {"pending", sum.pending},   {"waiting", sum.waiting}, {"consumed", sum.consumed}, {"dropped", sum.dropped}};
}

}  // namespace

std::uint64_t Run::copied() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& worker : workers_) sum += worker->copied();
  return sum;
}

std::uint64_t Run::handed_over() const noexcept {
  std::uint64_t sum = handed_over_before_;
  for (const auto& relay : relays_) sum += relay.entry.stats().tx.sent;
  return sum;
}

// What was dropped on the way from thread to thread was on its way to this port, which counts it as what it had no room for.
PortStats Run::beside(std::size_t number) const noexcept {
  PortStats sum = ports_[number].before;
  for (const auto& relay : relays_)
    if (relay.port == number) relay.count_dropped(sum.tx);
  return sum;
}

Conservation Run::conservation() const {
  Conservation sum = past_;
  sum.copied = copied();
  for (const auto* ports : {&ports_, &former_})
    for (const auto& port : *ports) sum.add(port.stats());
  for (const auto& relay : relays_) sum.add_relay(relay.entry.stats().tx, relay.end.stats().rx);
  for (const auto& worker : workers_)
    for (const auto* gates : {&worker->wiring().ingates, &worker->wiring().outgates})
      for (const auto& pipeline : *gates)
        if (pipeline) sum.add(*pipeline);
  return sum;
}

tools::Json Run::json() const {
  tools::Json json = {{"version", version()}, {"elapsed_s", elapsed_}, {"mode", bridge_ ? "switch" : "wire"}};
  auto& ports = json["ports"] = tools::Json::array();
  const auto add = [&](const BridgePort& port, const PortStats& beside) -> tools::Json& {
    ports.push_back(tools::port_json(*port.port, beside));
    ports.back()["openings"] = port.openings;
    return ports.back();
  };
  for (std::size_t i = 0; i < ports_.size(); ++i)
    if (ports_[i].in_use) add(ports_[i], beside(i))["number"] = i;
  for (const auto& port : former_)
    if (port.port) add(port, port.before)["removed"] = true;
  json["threads"] = workers_.size();
  json["copied"] = copied();
  std::uint64_t refused = 0;
  for (const auto& relay : relays_) refused += relay.entry.stats().tx.total_dropped();
  json["handed_over"] = {{"packets", handed_over()}, {"dropped", refused}};
  json["conservation"] = as_json(conservation());
  if (reread_) json["reloads"] = {{"taken", reloads()}, {"refused", refusals()}};
  if (bridge_) {
    const auto& table = bridge_->table();
    json["table"] = {{"size", table.size(now())},
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
    if (ports_[i].in_use) text += fmt::format("port {}: {}", i, tools::port_text(*ports_[i].port, beside(i)));
  for (const auto& port : former_)
    if (port.port) text += fmt::format("removed: {}", tools::port_text(*port.port, port.before));
  if (bridge_)
    text += fmt::format("{} addresses known, {} copies made\n", tools::grouped(bridge_->table().size(now())),
                        tools::grouped(copied()));
  if (!relays_.empty()) text += fmt::format("{} handed from thread to thread\n", tools::grouped(handed_over()));
  if (dumper_) text += fmt::format("{} written to {}\n", tools::grouped(dumper_->frames()), options_.dump);
  return text;
}

int Run::report() {
  return tools::end_run("mbdg", options_.json ? json().dump() + "\n" : text(), {}, errors_);
}

}  // namespace efio::mbdg
