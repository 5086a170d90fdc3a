#include "tools/efnet/control.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "efio/fail.h"
#include "tools/common/unix_socket.h"
#include "tools/efnet/run.h"

namespace efio::gate {

namespace {

constexpr std::size_t longest_request = 64 * 1024;
constexpr int patience_ms = 5000;             // with a client that does not read on
constexpr std::size_t numbers_a_time = 4096;  // of a table, between two batches of packets

struct Refusal {
  std::string why, hint;
};

// ---- Requests ----

std::string text_of(const Json& request, const char* key) {
  const auto at = request.find(key);
  if (at == request.end()) return {};
  if (!at->is_string()) throw Refusal{fmt::format("{} is no text", key), "in quotes"};
  return at->get<std::string>();
}

template <class Address>
std::optional<efnet::Prefix<Address>> prefix_of(const Json& request, const char* key) {
  const std::string text = text_of(request, key);
  if (text.empty()) return std::nullopt;
  if (const auto prefix = efnet::Prefix<Address>::parse(text)) return prefix;
  if (const auto address = Address::parse(text)) return efnet::Prefix<Address>{*address, Address::bits};
  throw Refusal{fmt::format("{} is \"{}\"", key, text), "an address, or a prefix such as 10.0.0.0/8"};
}

std::optional<std::uint64_t> number_of(const Json& request, const char* key, std::uint64_t most) {
  const auto at = request.find(key);
  if (at == request.end()) return std::nullopt;
  if (!at->is_number_unsigned() || at->get<std::uint64_t>() > most)
    throw Refusal{fmt::format("{} is {}", key, at->dump()), fmt::format("0 to {}", most)};
  return at->get<std::uint64_t>();
}

Filter filter_of(const Json& request) {
  Filter filter;
  filter.inside = prefix_of<efnet::Ipv4Address>(request, "inside");
  filter.outside = prefix_of<efnet::Ipv4Address>(request, "outside");
  filter.remote = prefix_of<efnet::Ipv4Address>(request, "remote");
  if (const std::string text = text_of(request, "protocol"); !text.empty()) {
    filter.protocol = parse_protocol(text);
    if (!filter.protocol) throw Refusal{fmt::format("protocol is \"{}\"", text), "udp, tcp or icmp"};
  }
  if (const auto port = number_of(request, "port", 65'535)) filter.port = static_cast<std::uint16_t>(*port);
  return filter;
}

// A request being answered.
struct Task {
  Run& run;
  const Json& request;
  const Answer& send;
  std::uint64_t rows = 0;
  std::uint64_t limit = UINT64_MAX;
  bool gone = false;  // nobody reads on, or there are as many rows as were asked for

  void add(const Rows& more) {
    for (const Json& row : more) {
      if (gone || rows == limit) break;
      ++rows;
      gone = !send(row);
    }
    gone |= rows == limit;
  }
};

template <class Part>
void part_by_part(Task& task, Part&& part) {
  std::optional<std::uint32_t> from = 0;
  while (from && !task.gone) {
    Rows rows;
    task.run.with_gateway([&](efnet::Gateway& gateway, efnet::Time now) { from = part(gateway, *from, now, rows); });
    task.add(rows);
  }
}

void show_sessions(Task& task) {
  const Filter filter = filter_of(task.request);
  part_by_part(task, [&](const efnet::Gateway& gateway, std::uint32_t from, efnet::Time now, Rows& rows) {
    return session_rows(gateway, filter, from, numbers_a_time, now, rows);
  });
}
void show_mappings(Task& task) {
  const Filter filter = filter_of(task.request);
  part_by_part(task, [&](const efnet::Gateway& gateway, std::uint32_t from, efnet::Time, Rows& rows) {
    return mapping_rows(gateway, filter, from, numbers_a_time, rows);
  });
}
void show_whole(Task& task, const std::function<Rows(efnet::Gateway&, efnet::Time)>& make) {
  Rows rows;
  task.run.with_gateway([&](efnet::Gateway& gateway, efnet::Time now) { rows = make(gateway, now); });
  task.add(rows);
}
void show_pool(Task& task) { show_whole(task, pool_rows); }
void show_arp(Task& task) { show_whole(task, arp_rows); }
void show_routes(Task& task) {
  show_whole(task, [](const efnet::Gateway& gateway, efnet::Time) { return route_rows(gateway); });
}
void show_counters(Task& task) {
  const Json log = task.run.log_json();
  show_whole(task, [&](const efnet::Gateway& gateway, efnet::Time) {
    Json counters = counters_json(gateway);
    if (!log.is_null()) counters["log"] = log;
    return Rows{counters};
  });
}
void show_ports(Task& task) {
  const Json ports = task.run.ports_json();
  task.add(Rows(ports.begin(), ports.end()));
}

struct Show {
  std::string_view what;
  void (*show)(Task&);
};
constexpr Show shows[] = {{"sessions", show_sessions}, {"mappings", show_mappings}, {"pool", show_pool},
                          {"arp", show_arp},           {"routes", show_routes},     {"counters", show_counters},
                          {"ports", show_ports}};

void show(Task& task) {
  const std::string what = text_of(task.request, "what");
  for (const Show& row : shows)
    if (row.what == what) return row.show(task);
  throw Refusal{fmt::format("nothing is called \"{}\"", what),
                "sessions, mappings, pool, arp, routes, counters or ports"};
}

void explain(Task& task) {
  const auto address = efnet::Ipv4Address::parse(text_of(task.request, "address"));
  const auto port = number_of(task.request, "port", 65'535);
  if (!address || !port) throw Refusal{"who had which port?", "an address and a port, such as 198.51.100.2:1024"};
  if (const std::string text = text_of(task.request, "at"); !text.empty()) {
    const auto at = parse_instant(text);
    if (!at) throw Refusal{fmt::format("at is \"{}\"", text), "such as 2026-11-25T10:00:00Z, or seconds since 1970"};
    for (const auto protocol : {efnet::IpProtocol::udp, efnet::IpProtocol::tcp, efnet::IpProtocol::icmp}) {
      const auto line = task.run.find_owner(protocol, *address, static_cast<std::uint16_t>(*port), *at);
      if (!line) throw Refusal{line.error().why, line.error().hint};
      if (!*line) continue;
      Json row = Json::parse(**line, nullptr, false);
      task.add({row});
      if (!row.contains("protocol")) return;  // a block is of all protocols
    }
    return;
  }
  show_whole(task, [&](const efnet::Gateway& gateway, efnet::Time) {
    return owner_rows(gateway, *address, static_cast<std::uint16_t>(*port));
  });
}

void arp_flush(Task& task) {
  const auto address = prefix_of<efnet::Ipv4Address>(task.request, "address");
  if (address && address->length != efnet::Ipv4Address::bits)
    throw Refusal{"address is a prefix", "one address, or none for all"};
  std::size_t forgotten = 0;
  task.run.with_gateway([&](efnet::Gateway& gateway, efnet::Time) {
    for (const auto side : {efnet::NatSide::inside, efnet::NatSide::outside})
      if (auto* arp = gateway.arp(side)) {
        efnet::ArpTable::Table::Flush which;
        if (address) which.address = address->address;
        forgotten += arp->neighbours().flush(which);
      }
  });
  task.add({{{"forgotten", forgotten}}});
}

void drain(Task& task) {
  const auto on = task.request.find("on");
  if (on != task.request.end() && !on->is_boolean()) throw Refusal{"on is neither true nor false", "true or false"};
  task.run.drain(on == task.request.end() || on->get<bool>());
}

void flush_sessions(Task& task) {
  const auto inside = efnet::Ipv4Address::parse(text_of(task.request, "inside"));
  if (!inside && task.request.contains("inside")) throw Refusal{"inside is no address", "such as 10.0.0.5"};
  std::size_t ended = 0;
  task.run.with_gateway([&](efnet::Gateway& gateway, efnet::Time now) { ended = gateway.nat().flush(inside, now); });
  task.add({{{"ended", ended}}});
}

void reload(Task& task) {
  const auto restored = task.run.reload();
  if (!restored) throw Refusal{restored.error().attempted + ": " + restored.error().why, restored.error().hint};
  task.add({{{"sessions", restored->restored}, {"timed_out", restored->expired}, {"refused", restored->refused}}});
}

struct Command {
  std::string_view name;
  void (*perform)(Task&);
};
constexpr Command commands[] = {{"show", show},   {"explain", explain},      {"arp_flush", arp_flush},
                                {"drain", drain}, {"flush", flush_sessions}, {"reload", reload}};

}  // namespace

void answer(Run& run, const std::string& text, const Answer& send) {
  const auto refuse = [&](const Refusal& refusal) { send({{"error", refusal.why}, {"hint", refusal.hint}}); };
  const Json request = Json::parse(text, nullptr, false);
  if (!request.is_object()) return refuse({"that is no JSON object", R"({"command":"show","what":"sessions"})"});
  try {
    Task task{run, request, send};
    task.limit = number_of(request, "limit", UINT64_MAX).value_or(UINT64_MAX);
    const std::string name = text_of(request, "command");
    for (const Command& command : commands) {
      if (command.name != name) continue;
      command.perform(task);
      send({{"done", true}, {"rows", task.rows}});
      return;
    }
    refuse({fmt::format("there is no command \"{}\"", name), "show, explain, arp_flush, drain, flush or reload"});
  } catch (const Refusal& refusal) {
    refuse(refusal);
  }
}

// ---- The socket ----

Result<std::unique_ptr<Control>> Control::listen(Run& run, const std::string& path) {
  std::error_code ignored;  // listening says what is wrong
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  auto listener = tools::listen_at(path, SOCK_STREAM, 0600);
  if (!listener) {
    if (listener.error().hint.empty() || listener.error().kind == Error::Kind::device)
      listener.error().hint = "control = \"PATH\" in [run] names another, control = \"\" none";
    return std::unexpected(std::move(listener.error()));
  }
  Fd bell(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!bell) return fail(errno, "serve {}", path);
  return std::make_unique<Control>(run, path, std::move(*listener), std::move(bell));
}

Control::Control(Run& run, std::string path, Fd listener, Fd bell)
    : run_(run), path_(std::move(path)), listener_(std::move(listener)), bell_(std::move(bell)) {}

Control::~Control() {
  stop();
  ::unlink(path_.c_str());
}

void Control::start() {
  thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
}

void Control::stop() noexcept {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(bell_.get(), &one, sizeof one);
  thread_.join();
}

// One client at a time: questions are short, and a client that does not read on is left.
void Control::serve(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    pollfd events[] = {{bell_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    if (::poll(events, 2, -1) < 0 || events[1].revents == 0) continue;
    const Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (socket) converse(socket, stop);
  }
}

void Control::converse(const Fd& socket, const std::stop_token& stop) {
  std::string pending;
  const Answer send = [&](const Json& line) {
    const std::string text = line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    for (std::size_t sent = 0; sent < text.size();) {
      pollfd event{socket.get(), POLLOUT, 0};
      if (stop.stop_requested() || ::poll(&event, 1, patience_ms) <= 0) return false;
      const auto n = ::send(socket.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0 && errno != EAGAIN && errno != EINTR) return false;
      if (n > 0) sent += static_cast<std::size_t>(n);
    }
    return true;
  };
  while (!stop.stop_requested()) {
    if (const auto end = pending.find('\n'); end != std::string::npos) {
      answer(run_, pending.substr(0, end), send);
      pending.erase(0, end + 1);
      continue;
    }
    if (pending.size() > longest_request) return;
    pollfd events[] = {{bell_.get(), POLLIN, 0}, {socket.get(), POLLIN, 0}};
    if (::poll(events, 2, patience_ms) <= 0 || events[0].revents != 0) return;
    char part[4096];
    const auto n = ::recv(socket.get(), part, sizeof part, 0);
    if (n <= 0) return;
    pending.append(part, static_cast<std::size_t>(n));
  }
}

}  // namespace efio::gate
