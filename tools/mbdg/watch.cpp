// What happens beside the threads: ports that go away and come back, loops, the live screen.
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "efio/clock.h"
#include "efio/fail.h"
#include "tools/common/exit_code.h"
#include "tools/mbdg/run.h"

namespace efio::mbdg {

namespace {

using std::chrono::nanoseconds;

constexpr nanoseconds watch_period = std::chrono::milliseconds(50);
constexpr std::uint64_t second = 1'000'000'000;
constexpr std::uint64_t reopen_ns = second / 2;
// Signs of a loop, in a second: one address that moves so often, or addresses that move so often altogether. Nobody who
// walks about does that.
constexpr std::uint64_t moves_of_one = 10;
constexpr std::uint64_t moves_of_all = 1000;

nanoseconds as_time(std::uint64_t ns) { return nanoseconds(static_cast<std::int64_t>(ns)); }

bool has_failed(Port& port) {
  bool failed = false;
  for (std::size_t q = 0; q < port.rx_queues(); ++q) failed |= port.rx(q).failed();
  for (std::size_t q = 0; q < port.tx_queues(); ++q) failed |= port.tx(q).failed();
  return failed;
}

std::optional<Error> why_failed(Port& port) {
  for (std::size_t q = 0; q < port.rx_queues(); ++q)
    if (auto status = port.rx(q).status(); !status) return status.error();
  for (std::size_t q = 0; q < port.tx_queues(); ++q)
    if (auto status = port.tx(q).status(); !status) return status.error();
  return std::nullopt;
}

}  // namespace

// The device has gone: the others go on without it, and it is tried again now and then.
void Run::lose(std::size_t number) {
  auto& port = ports_[number];
  if (!port.why_gone) port.why_gone = why_failed(*port.port);
  if (port.why_gone) tools::remark("mbdg", fmt::format("port {} is gone: {}", number, port.why_gone->message()));
  rest_all();
  port.is_open = false;
  wire_up();
  for (std::size_t w = 0; w < workers_.size(); ++w) install(w, number, {});
  resume_all();
  (void)port.port->close();  // takes the kernel many milliseconds; it has failed: there is nothing that could be told
  if (bridge_) bridge_->table().flush(static_cast<std::uint16_t>(number));
}

void Run::come_back(std::size_t number) {
  if (!open(number)) return;
  auto& port = ports_[number];
  port.why_gone.reset();
  auto ok = make_relays();
  auto gates = make_gates(number, port.settings);
  if (ok && !gates) ok = std::unexpected(std::move(gates.error()));
  if (!ok) {
    port.is_open = false;
    (void)port.port->close();
    errors_.push_back(std::move(ok.error()));
    return;
  }
  rest_all();
  wire_up();
  for (std::size_t w = 0; w < workers_.size(); ++w) install(w, number, std::move((*gates)[w]));
  resume_all();
  tools::remark("mbdg", fmt::format("port {} is back: {}", number, port.settings.uri));
}

void Run::look_after_ports(std::uint64_t now) {
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    auto& port = ports_[i];
    if (!port.in_use) continue;
    if (port.is_open) {
      if (!has_failed(*port.port)) continue;
      lose(i);
      port.next_try = now + reopen_ns;
    } else if (now >= port.next_try) {
      port.next_try = now + reopen_ns;
      come_back(i);
    }
  }
}

// A frame that goes round comes in by one port after the other, and its source seems to move with it.
void Run::look_for_loops(std::uint64_t now) {
  if (!bridge_ || now - looked_at_ < second) return;
  const std::uint64_t moves = bridge_->table().moves();
  const std::uint64_t lately = moves - moves_before_;
  moves_before_ = moves;
  looked_at_ = now;
  const auto mover = bridge_->table().most_moved();
  if (!mover || (mover->moves < moves_of_one && lately < moves_of_all)) return;
  ++loops_suspected_;
  if (said_at_ != 0 && now - said_at_ < 10 * second) return;
  said_at_ = now;
  const auto name = [&](std::size_t port) {
    return port < ports_.size() ? fmt::format("{} ({})", port, ports_[port].settings.uri) : std::to_string(port);
  };
  tools::remark("mbdg", fmt::format("is there a loop? {}{} moved {} times in the last second, at last from port {} to port {}; "
                                    "all addresses together {} times",
                                    to_string(mover->address),
                                    mover->vlan == 0 ? "" : fmt::format(" in VLAN {}", mover->vlan), mover->moves,
                                    name(mover->from), name(mover->to), lately));
}

std::string live_line(std::size_t number, const BridgePort& port, const PortStats& now, const PortStats& before, double since) {
  const auto rate = [&](std::uint64_t after, std::uint64_t earlier) {
    return static_cast<double>(after - earlier) / since / 1e6;
  };
  DropCounts dropped = now.rx.dropped;
  for (std::size_t i = 0; i < dropped.size(); ++i) dropped[i] += now.tx.dropped[i];
  return fmt::format("{:2} {:<24.24} in {:8.3f} M/s {:8.1f} Mbit/s  out {:8.3f} M/s {:8.1f} Mbit/s  {}{}", number,
                     port.settings.uri, rate(now.rx.delivered, before.rx.delivered), 8 * rate(now.rx.bytes, before.rx.bytes),
                     rate(now.tx.sent, before.tx.sent), 8 * rate(now.tx.bytes, before.tx.bytes),
                     tools::dropped_line(dropped), port.is_open ? "" : "  (gone)");
}

void Run::live(std::uint64_t now) {
  if (now - shown_at_ < second) return;
  const double since = static_cast<double>(now - shown_at_) / 1e9;
  shown_at_ = now;
  std::string text;
  if (lines_shown_ > 0) text = fmt::format("\x1b[{}A", lines_shown_);
  lines_shown_ = 0;
  const auto show = [&](const std::string& line) {
    text += line + "\x1b[K\n";
    ++lines_shown_;
  };
  shown_.resize(ports_.size());
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    if (!ports_[i].in_use) continue;
    const auto stats = ports_[i].stats();
    show(live_line(i, ports_[i], stats, shown_[i], since));
    shown_[i] = stats;
  }
  if (bridge_) show(fmt::format("   {} addresses known", tools::grouped(bridge_->table().size(as_time(now)))));
  fmt::print(stderr, "{}\x1b[J", text);
  std::fflush(stderr);
}

void Run::watch() {
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  shown_at_ = looked_at_ = start_;
  const auto one_failed = [&] { return std::ranges::any_of(workers_, [](const auto& w) { return w->failed(); }); };
  while (!signals_->signalled() && errors_.empty() && !one_failed() && !(budget_ && budget_->is_spent())) {
    const auto limit = options_.duration.count() == 0 ? UINT64_MAX : static_cast<std::uint64_t>(options_.duration.count());
    const std::uint64_t now = Clock::monotonic();
    if (now - start_ >= limit) break;
    if (signals_->hung_up()) reload();
    look_after_ports(now);
    look_for_loops(now);
    if (terminal) live(now);
    signals_->wait(std::min(watch_period, as_time(std::min<std::uint64_t>(limit - (now - start_), INT64_MAX))));
  }
}

}  // namespace efio::mbdg
