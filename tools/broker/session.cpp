#include "tools/broker/session.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "efio/fail.h"
#include "tools/common/exit_code.h"

namespace efio::broker {

namespace {

constexpr std::uint32_t most_entries = 1 << 17;  // of a ring

// The program's memory, mapped here for as long as the kernel takes to lock its pages.
Result<Mapping> map_frames(const BrokerRequest& request, const Fd& memory, const std::string& attempted) {
  struct stat about {};
  // Seals are what only a memfd has: a file on disk could be cut off under the device.
  if (!memory || ::fstat(memory.get(), &about) != 0 || ::fcntl(memory.get(), F_GET_SEALS) < 0 || request.size == 0 ||
      static_cast<std::uint64_t>(about.st_size) < request.size)
    return fail(Error::Kind::usage, attempted, "the frames are not in a memfd of this size");
  void* address = ::mmap(nullptr, request.size, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (address == MAP_FAILED) return fail(errno, "{}: map the frames", attempted);
  return Mapping(address, request.size);
}

// What a client sends may hold anything; a log holds text.
std::string printable(std::string text) {
  std::ranges::replace_if(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e; }, '?');
  return text;
}

}  // namespace

Session::~Session() {
  if (!link_ || !program_) return;
  for (const auto& [queue, rules] : rules_) {
    const auto owner = owners_.find({link_->index(), queue});
    if (owner == owners_.end() || owner->second != this) continue;
    program_->clear_socket(queue);
    owners_.erase(owner);
  }
}

bool Session::serve() {
  BrokerRequest request;
  Fd received;
  if (!receive_message(socket_.get(), std::as_writable_bytes(std::span(&request, 1)), received)) return false;
  BrokerAnswer answer;
  answer.serial = request.serial;
  auto outcome = handle(request, std::move(received), answer);
  if (outcome) {
    answer.done = 1;
  } else {
    const auto& error = outcome.error();
    answer.kind = static_cast<std::uint32_t>(error.kind);
    answer.os = error.os;
    put_text(answer.why, error.why);
    put_text(answer.hint, error.hint);
    // That a driver has no zero-copy is no news: the program asks for copies next, if it may have them.
    const bool probed = request.verb == BrokerVerb::bind && request.zero_copy != 0 && error.os == EOPNOTSUPP;
    if (!probed) tools::remark("efio-broker", printable(fmt::format("user {}, pid {}: {}", client_.user, client_.process, error.message())));
  }
  return send_message(socket_.get(), std::as_bytes(std::span(&answer, 1)), outcome ? outcome->get() : -1);
}

Result<Fd> Session::handle(const BrokerRequest& request, Fd received, BrokerAnswer& answer) {
  if (request.version != BrokerRequest::right_version)
    return fail(Error::Kind::usage, "answer", "the program speaks version {} of our language, the broker {}", request.version,
                BrokerRequest::right_version)
        .hint("both from one release");
  const std::string device(get_text(request.device));
  if (policy_.find(client_, device) == nullptr)
    return fail(Error::Kind::permission, "open " + device, "user {} may not open {}", client_.user, device)
        .hint("an entry in the broker's file");
  if (!link_) {
    auto link = Link::open(device, "open " + device);
    if (!link) return std::unexpected(link.error());
    link_ = std::move(*link);
  }
  if (link_->name() != device || link_->index() != request.interface)
    return fail(Error::Kind::device, "open " + device, "the program's {} is not the broker's {}", device, link_->name())
        .hint("both in one network namespace; one connection a device");
  const auto nothing = [](Result<void> result) -> Result<Fd> {
    if (!result) return std::unexpected(result.error());
    return Fd();
  };
  switch (request.verb) {
    case BrokerVerb::attach:
      return nothing(attach(request, answer));
    case BrokerVerb::bind:
      return bind(request, received);
    case BrokerVerb::set_socket:
      return nothing(set_socket(request, received));
    case BrokerVerb::set_rules:
      return nothing(set_rules(request));
    case BrokerVerb::promiscuous:
      return nothing(promiscuous());
    case BrokerVerb::clear_socket:
      if (program_ && owners_.contains({link_->index(), request.queue}) && owners_[{link_->index(), request.queue}] == this) {
        program_->clear_socket(request.queue);
        owners_.erase({link_->index(), request.queue});
      }
      return Fd();
  }
  return fail(Error::Kind::usage, "answer", "no request is number {}", static_cast<std::uint32_t>(request.verb));
}

Result<const Permit*> Session::permit(const BrokerRequest& request, Direction direction) const {
  if (const auto* found = policy_.find(client_, link_->name(), request.queue, direction); found != nullptr) return found;
  return fail(Error::Kind::permission, "open " + link_->name(), "user {} may not open queue {} of {} for {}", client_.user, request.queue,
              link_->name(), direction == Direction::rx ? "rx" : "tx")
      .hint("an entry in the broker's file");
}

Result<void> Session::check_receiver() const {
  if (policy_.may_receive(client_, link_->name())) return {};
  return fail(Error::Kind::permission, "open " + link_->name(), "user {} may not open {} for rx", client_.user, link_->name())
      .hint("an entry in the broker's file");
}

// The program, and the promiscuous mode, change the device for everyone: for receivers alone.
Result<void> Session::attach(const BrokerRequest& request, BrokerAnswer& answer) {
  if (auto ok = check_receiver(); !ok) return ok;
  if (request.attach > static_cast<std::uint32_t>(XdpAttach::generic))
    return fail(Error::Kind::usage, "attach", "no way to attach is number {}", request.attach);
  const XdpProgram::Wish wish{.attach = static_cast<XdpAttach>(request.attach), .fragments = request.fragments != 0,
                              .hardware_time = request.hardware_time != 0};
  auto program = XdpProgram::attach(*link_, wish, "open " + link_->name());
  if (!program) return std::unexpected(program.error());
  program_ = std::move(*program);
  answer.attached = static_cast<std::uint32_t>(program_->obtained());
  answer.fragments = program_->fragments();
  answer.hardware_time = program_->hardware_time();
  return {};
}

Result<Fd> Session::bind(const BrokerRequest& request, const Fd& received) {
  const auto attempted = "open " + link_->name();
  const bool receiving = request.direction == static_cast<std::uint32_t>(Direction::rx);
  if (!receiving && request.direction != static_cast<std::uint32_t>(Direction::tx))
    return fail(Error::Kind::usage, attempted, "a socket is for one direction");
  const auto allowed = permit(request, receiving ? Direction::rx : Direction::tx);
  if (!allowed) return std::unexpected(allowed.error());
  if (request.entries > most_entries || request.fill > most_entries || request.completion > most_entries)
    return fail(Error::Kind::usage, attempted, "rings of {} at most", most_entries);
  XdpBindPlan plan{.attempted = attempted, .device = link_->name(), .interface = link_->index(), .queue = request.queue,
                   .direction = static_cast<Direction>(request.direction), .zero_copy = request.zero_copy != 0,
                   .fragments = request.fragments != 0, .entries = request.entries, .fill = request.fill,
                   .completion = request.completion, .chunk = request.chunk};
  Mapping frames;
  if (request.shared != 0) {
    plan.shared_with = received.get();
    if (!received) return fail(Error::Kind::usage, attempted, "the socket to share with is missing");
  } else {
    if (request.size > (*allowed)->memory || locked_ > (*allowed)->memory - request.size)
      return fail(Error::Kind::permission, attempted, "user {} may have {} bytes of frames locked, not {}", client_.user,
                  (*allowed)->memory, locked_ + request.size)
          .hint("frames= or ring=; memory= in the broker's file");
    auto mapped = map_frames(request, received, attempted);
    if (!mapped) return std::unexpected(mapped.error());
    frames = std::move(*mapped);
    plan.memory = frames.data();
    plan.size = request.size;
  }
  auto socket = bind_xdp_socket(plan);
  if (!socket) return socket;
  locked_ += plan.size;
  tools::remark("efio-broker", fmt::format("user {}, pid {}: {} queue {} {}", client_.user, client_.process, link_->name(), request.queue,
                                           receiving ? "rx" : "tx"));
  return socket;
}

Result<void> Session::set_socket(const BrokerRequest& request, const Fd& received) {
  const auto attempted = "open " + link_->name();
  if (const auto allowed = permit(request, Direction::rx); !allowed) return std::unexpected(allowed.error());
  if (!program_ || !received || !rules_.contains(request.queue))
    return fail(Error::Kind::usage, attempted, "first the program and the rules, then a socket");
  if (auto ok = program_->set_socket(request.queue, received.get(), attempted); !ok) return ok;
  owners_[{link_->index(), request.queue}] = this;
  return {};
}

Result<void> Session::set_rules(const BrokerRequest& request) {
  const auto attempted = "open " + link_->name();
  const auto allowed = permit(request, Direction::rx);
  if (!allowed) return std::unexpected(allowed.error());
  if (!program_) return fail(Error::Kind::usage, attempted, "first the program, then its rules");
  // Another program's queue is its own, also its rules.
  const auto owner = owners_.find({link_->index(), request.queue});
  if (owner != owners_.end() && owner->second != this)
    return fail(Error::Kind::device, attempted, "queue {} of {} is open for rx already", request.queue, link_->name())
        .hint("a queue has one receiver; queue= names another");
  std::string text(get_text(request.rules));
  const auto& limit = (*allowed)->take;
  if (!limit.empty() && text != limit && text != "none") {
    if (text != "all")
      return fail(Error::Kind::permission, attempted, "user {} may take={} of {}, nothing else", client_.user, limit, link_->name())
          .hint("take={}, or no take=", limit);
    text = limit;
  }
  auto rules = XdpRules::parse(text, attempted);
  if (!rules) return std::unexpected(rules.error());
  if (auto ok = program_->set_rules(request.queue, *rules, attempted); !ok) return ok;
  rules_[request.queue] = std::move(text);
  return {};
}

Result<void> Session::promiscuous() {
  if (auto ok = check_receiver(); !ok) return ok;
  if (promiscuous_) return {};
  auto held = link_->hold_promiscuous("open " + link_->name());
  if (!held) return std::unexpected(held.error());
  promiscuous_ = std::move(*held);
  return {};
}

}  // namespace efio::broker
