// efio-broker: opens devices for programs that may not. It listens on a Unix socket, asks the kernel who is calling, holds
// each request against its file, and hands sockets over.
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <list>

#include "efio/fail.h"
#include "tools/broker/session.h"
#include "tools/common/exit_code.h"
#include "tools/common/help.h"
#include "tools/common/unix_socket.h"

namespace efio::broker {

namespace {

constexpr std::size_t most_sessions = 200;  // each has four descriptors or five, and a process mostly 1024
constexpr std::size_t most_groups = 256;

struct Options {
  std::string file = "/etc/efio/broker.toml";
  std::string socket = "/run/efio/broker";
  bool check = false;
};

void remark(const std::string& text) { tools::remark("efio-broker", text); }

Result<Client> who_is(const Fd& socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return fail(errno, "ask who is calling");
  Client client{.process = peer.pid, .user = peer.uid, .groups = std::vector<gid_t>(most_groups)};
  size = static_cast<socklen_t>(client.groups.size() * sizeof(gid_t));
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERGROUPS, client.groups.data(), &size) != 0) size = 0;
  client.groups.resize(size / sizeof(gid_t));
  client.groups.push_back(peer.gid);
  return client;
}

// A new connection, or nothing: whoever is in nobody's entry is not listened to.
void welcome(const Fd& listener, const Options& options, std::list<Session>& sessions, Owners& owners) {
  Fd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) return;
  auto client = who_is(socket);
  if (!client) return remark(client.error().message());
  auto policy = Policy::read(options.file);  // again for each, so that a change is in force at once
  if (!policy) return remark(policy.error().message());
  if (!policy->knows(*client)) return remark(fmt::format("user {}, pid {}: no entry in {}", client->user, client->process, options.file));
  if (sessions.size() >= most_sessions) return remark(fmt::format("user {}: {} programs are connected already", client->user, most_sessions));
  sessions.emplace_back(std::move(socket), std::move(*client), std::move(*policy), owners);
}

Result<void> serve(const Options& options) {
  // Everyone may ask; the file says who is given something.
  auto listener = tools::listen_at(options.socket, SOCK_SEQPACKET, 0666);
  if (!listener) return std::unexpected(listener.error());
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  const Fd stop(::signalfd(-1, &signals, SFD_CLOEXEC));
  if (!stop) return fail(errno, "wait for signals");
  remark("listens at " + options.socket);

  Owners owners;  // outlives the sessions
  std::list<Session> sessions;
  for (;;) {
    std::vector<pollfd> events{{stop.get(), POLLIN, 0}, {listener->get(), POLLIN, 0}};
    for (const auto& session : sessions) events.push_back({session.descriptor(), POLLIN, 0});
    if (::poll(events.data(), events.size(), -1) < 0 && errno != EINTR) return fail(errno, "wait for requests");
    if (events[0].revents != 0) break;
    auto event = events.begin() + 2;
    for (auto session = sessions.begin(); session != sessions.end(); ++event) {
      const bool goes_on = event->revents == 0 || session->serve();
      session = goes_on ? std::next(session) : sessions.erase(session);
    }
    if (events[1].revents != 0) welcome(*listener, options, sessions, owners);
  }
  ::unlink(options.socket.c_str());
  return {};
}

Result<void> run(const Options& options) {
  const auto policy = Policy::read(options.file);
  if (!policy) return std::unexpected(policy.error());
  if (options.check) return {};
  return serve(options);
}

}  // namespace

}  // namespace efio::broker

int main(int count, char** arguments) {
  using namespace efio;
  broker::Options options;
  CLI::App app(
      "opens network devices for programs without privileges\n"
      "A program that opens xdp:eth0?broker=/run/efio/broker needs no privilege: the broker, which runs as root, attaches the XDP "
      "program, makes the sockets and hands them over, for the users, devices and queues that its file allows. What it attached is "
      "gone when the broker ends.",
      "efio-broker");
  app.footer("efio-broker --check\nefio-broker --file broker.toml --socket /run/efio/broker");
  app.add_option("--file", options.file, "Who may open what [/etc/efio/broker.toml]")->type_name("FILE");
  app.add_option("--socket", options.socket, "Where it listens [/run/efio/broker]")->type_name("FILE");
  app.add_flag("--check", options.check, "Only look whether the file is right");
  tools::add_help(app);
  try {
    app.parse(count, arguments);
    if (const auto done = broker::run(options); !done) return tools::complain("efio-broker", done.error());
    return tools::exit_done;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? tools::exit_done : tools::exit_usage;
  } catch (const std::exception& error) {
    return tools::complain("efio-broker", {Error::Kind::memory, 0, "efio-broker", error.what(), ""});
  }
}
