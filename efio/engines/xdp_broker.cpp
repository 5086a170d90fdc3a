#include "efio/engines/xdp_broker.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "efio/fail.h"

namespace efio {

namespace {

constexpr timeval patience{.tv_sec = 10, .tv_usec = 0};

template <class T>
std::span<const std::byte> bytes_of(const T& message) {
  return std::as_bytes(std::span(&message, 1));
}

// A call that a signal ended before it did anything is made again; with a timeout of the socket's it is never resumed.
template <class Call>
ssize_t through_signals(Call&& call) noexcept {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(patience.tv_sec);
  for (;;)
    if (const auto n = call(); n >= 0 || errno != EINTR || std::chrono::steady_clock::now() >= until) return n;
}

BrokerRequest about(BrokerVerb verb, const std::string& device, int interface) {
  BrokerRequest request;
  request.verb = verb;
  put_text(request.device, device);
  request.interface = interface;
  return request;
}

}  // namespace

void put_text(std::span<char> place, std::string_view text) noexcept {
  const auto length = std::min(text.size(), place.size() - 1);
  std::memcpy(place.data(), text.data(), length);
  place[length] = 0;
}

std::string_view get_text(std::span<const char> place) noexcept { return {place.data(), ::strnlen(place.data(), place.size())}; }

bool send_message(int socket, std::span<const std::byte> bytes, int descriptor) noexcept {
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::byte control[CMSG_SPACE(sizeof descriptor)]{};
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  }
  return through_signals([&] { return ::sendmsg(socket, &message, MSG_NOSIGNAL); }) == static_cast<ssize_t>(bytes.size());
}

bool receive_message(int socket, std::span<std::byte> bytes, Fd& descriptor) noexcept {
  iovec part{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::byte control[CMSG_SPACE(sizeof(int))]{};
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const auto got = through_signals([&] { return ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC); });
  if (got < 0) return false;
  bool too_many = false;
  if (const cmsghdr* header = CMSG_FIRSTHDR(&message);
      header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    // There is room for two, since control data are padded; each that came is ours to close.
    for (std::size_t at = 0; CMSG_LEN(at + sizeof(int)) <= header->cmsg_len; at += sizeof(int)) {
      int received = -1;
      std::memcpy(&received, CMSG_DATA(header) + at, sizeof received);
      Fd owned(received);
      if (at == 0) descriptor = std::move(owned);
      else too_many = true;
    }
  }
  return !too_many && got == static_cast<ssize_t>(bytes.size()) && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
}

// The program in the broker's process, as far as it concerns this opening.
class XdpBroker::Program final : public XdpProgram {
 public:
  Program(std::shared_ptr<XdpBroker> broker, const Link& link, const BrokerAnswer& answer)
      : broker_(std::move(broker)), device_(link.name()), interface_(link.index()) {
    obtained_ = static_cast<XdpAttach>(answer.attached);
    fragments_ = answer.fragments != 0;
    hardware_time_ = answer.hardware_time != 0;
  }

  Result<void> set_socket(unsigned queue, int socket, const std::string& attempted) override {
    auto request = about(BrokerVerb::set_socket, device_, interface_);
    request.queue = queue;
    return tell(request, socket, attempted);
  }
  void clear_socket(unsigned queue) noexcept override {
    auto request = about(BrokerVerb::clear_socket, device_, interface_);
    request.queue = queue;
    (void)tell(request, -1, "close xdp:" + device_);
  }
  Result<void> set_rules(unsigned queue, const XdpRules& rules, const std::string& attempted) override {
    auto request = about(BrokerVerb::set_rules, device_, interface_);
    request.queue = queue;
    if (rules.text().size() >= sizeof request.rules)
      return fail(Error::Kind::usage, attempted, "take=: longer than {} characters", sizeof request.rules - 1);
    put_text(request.rules, rules.text());
    return tell(request, -1, attempted);
  }

 private:
  Result<void> tell(const BrokerRequest& request, int descriptor, const std::string& attempted) {
    if (auto answer = broker_->ask(request, descriptor, nullptr, attempted); !answer) return std::unexpected(answer.error());
    return {};
  }

  std::shared_ptr<XdpBroker> broker_;
  std::string device_;
  int interface_;
};

Result<std::shared_ptr<XdpBroker>> XdpBroker::connect(const std::string& path, const std::string& attempted) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(Error::Kind::usage, attempted, "broker={}: too long for a Unix socket's path", path);
  put_text(address.sun_path, path);
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return fail(errno, "{}: Unix socket", attempted);
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return std::shared_ptr<XdpBroker>(new XdpBroker(std::move(socket), path));
  const int error = errno;
  return fail(error, "{}: broker {}", attempted, path).hint("is efio-broker running, and may this user write to its socket?");
}

Result<BrokerAnswer> XdpBroker::ask(BrokerRequest request, int descriptor, Fd* received, const std::string& attempted) {
  const std::scoped_lock lock(mutex_);
  request.serial = ++asked_;
  BrokerAnswer answer;
  Fd handed;
  bool answered = send_message(socket_.get(), bytes_of(request), descriptor);
  // Before ours may come those to earlier requests, for which nobody waited any longer.
  for (std::uint32_t late = 0; answered && answer.serial != request.serial; ++late) {
    handed = Fd();
    answered = late < request.serial && receive_message(socket_.get(), std::as_writable_bytes(std::span(&answer, 1)), handed);
  }
  if (!answered)
    return fail(Error::Kind::device, attempted, "the broker at {} does not answer", path_).hint("is efio-broker running?");
  if (answer.done == 0)
    return Failure(static_cast<Error::Kind>(answer.kind), answer.os, attempted,
                   fmt::format("broker: {}", get_text(answer.why)))
        .hint("{}", get_text(answer.hint));
  if (received != nullptr) *received = std::move(handed);
  return answer;
}

Result<std::shared_ptr<XdpProgram>> XdpBroker::attach(const Link& link, const XdpProgram::Wish& wish, const std::string& attempted) {
  auto request = about(BrokerVerb::attach, link.name(), link.index());
  request.attach = static_cast<std::uint32_t>(wish.attach);
  request.fragments = wish.fragments;
  request.hardware_time = wish.hardware_time;
  auto answer = ask(request, -1, nullptr, attempted);
  if (!answer) return std::unexpected(answer.error());
  return std::make_shared<Program>(shared_from_this(), link, *answer);
}

Result<Fd> XdpBroker::bind(const XdpBindPlan& plan) {
  auto request = about(BrokerVerb::bind, plan.device, plan.interface);
  request.queue = plan.queue;
  request.direction = static_cast<std::uint32_t>(plan.direction);
  request.zero_copy = plan.zero_copy;
  request.fragments = plan.fragments;
  request.entries = plan.entries;
  request.fill = plan.fill;
  request.completion = plan.completion;
  request.shared = plan.shared_with >= 0;
  request.size = plan.size;
  request.chunk = plan.chunk;
  Fd socket;
  auto answer = ask(request, request.shared != 0 ? plan.shared_with : plan.memfd, &socket, plan.attempted);
  if (!answer) return std::unexpected(answer.error());
  if (!socket) return fail(Error::Kind::device, plan.attempted, "the broker at {} sent no socket", path_);
  return socket;
}

Result<void> XdpBroker::hold_promiscuous(const Link& link, const std::string& attempted) {
  auto answer = ask(about(BrokerVerb::promiscuous, link.name(), link.index()), -1, nullptr, attempted);
  if (!answer) return std::unexpected(answer.error());
  return {};
}

bool XdpBroker::alive() const noexcept {
  pollfd event{.fd = socket_.get(), .events = 0, .revents = 0};
  return ::poll(&event, 1, 0) == 0;
}

}  // namespace efio
