#include "tools/common/port_report.h"

#include <fmt/format.h>

#include "efio/stats.h"

namespace efio::tools {

namespace {

Json dropped_json(const DropCounts& dropped) {
  Json json = Json::object();
  for (std::size_t i = 0; i < dropped.size(); ++i)
    if (dropped[i] != 0) json[std::string(name(static_cast<DropReason>(i)))] = dropped[i];
  return json;
}

std::string dropped_text(const DropCounts& dropped) {
  std::string text;
  for (std::size_t i = 0; i < dropped.size(); ++i) {
    if (dropped[i] == 0) continue;
    const auto reason = static_cast<DropReason>(i);
    text += fmt::format("    {} dropped as {}: {}\n", grouped(dropped[i]), name(reason), describe(reason));
  }
  return text;
}

PortStats sum(PortStats stats, const PortStats& before) {
  stats.rx += before.rx;
  stats.tx += before.tx;
  return stats;
}

std::string made_text(std::uint64_t made) { return made == 0 ? "" : fmt::format(", {} made here", grouped(made)); }

}  // namespace

std::string grouped(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, 1, ',');
  return text;
}

std::string dropped_line(const DropCounts& dropped) {
  std::uint64_t sum = 0;
  std::string reasons;
  for (std::size_t i = 0; i < dropped.size(); ++i) {
    sum += dropped[i];
    if (dropped[i] != 0)
      reasons += fmt::format("{}{} {}", reasons.empty() ? "" : ", ", name(static_cast<DropReason>(i)), grouped(dropped[i]));
  }
  return fmt::format("dropped {}{}", grouped(sum), reasons.empty() ? "" : " (" + reasons + ")");
}

Json port_json(const Port& port, const PortStats& before) {
  const auto& info = port.info();
  const auto [rx, tx] = sum(port.stats(), before);
  Json json = {{"uri", info.uri}, {"engine", info.engine}, {"mode", info.mode}};
  if (receives(port.direction()))
    json["rx"] = {{"packets", rx.delivered}, {"bytes", rx.bytes},     {"received", rx.received},
                  {"made", rx.made},         {"waiting", rx.waiting}, {"dropped", dropped_json(rx.dropped)}};
  if (transmits(port.direction()))
    json["tx"] = {{"packets", tx.sent}, {"bytes", tx.bytes},     {"offered", tx.offered},
                  {"made", tx.made},    {"pending", tx.pending}, {"dropped", dropped_json(tx.dropped)}};
  return json;
}

std::string port_text(const Port& port, const PortStats& before) {
  const auto& info = port.info();
  const auto [rx, tx] = sum(port.stats(), before);
  std::string text = fmt::format("{} ({}: {})\n", info.uri, info.engine, info.mode);
  if (!info.why.empty()) text += fmt::format("  {}\n", info.why);
  if (receives(port.direction()))
    text += fmt::format("  received {}{}: {} delivered, {} waiting, {} dropped\n", grouped(rx.received),
                        made_text(rx.made), grouped(rx.delivered), grouped(rx.waiting), grouped(rx.total_dropped())) +
            dropped_text(rx.dropped);
  if (transmits(port.direction()))
    text += fmt::format("  offered {}{}: {} sent, {} pending, {} dropped\n", grouped(tx.offered), made_text(tx.made),
                        grouped(tx.sent), grouped(tx.pending), grouped(tx.total_dropped())) +
            dropped_text(tx.dropped);
  return text;
}

}  // namespace efio::tools
