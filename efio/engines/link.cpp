// The kernel's account of an interface: RTM_GETLINK answers once what it is; the group RTNLGRP_LINK then tells every
// change. The flags of each message say all that is needed about the carrier: IFF_UP is the administrator's wish,
// IFF_LOWER_UP the carrier, IFF_RUNNING the operational state (RFC 2863: up, or unknown to the driver). The kernel may
// hold messages back for a second and tell only the last state, but it counts the changes of the carrier. The same group
// also carries a bridge's messages about its ports (family AF_BRIDGE), whose RTM_DELLINK only means that the port left it.
// RTM_GETLINK waits for whoever changes an interface, be it another one: 20 to 100 ms while one is deleted. The ioctls
// SIOCGIFNAME and SIOCGIFFLAGS do not, and know two of the three flags; a lost carrier shows there a little later.
// When the socket's buffer overflows (ENOBUFS) messages are lost, and the state is asked for again.
#include "efio/engines/link.h"

#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <netlink/cache.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "efio/clock.h"
#include "efio/engines/ethtool.h"
#include "efio/fail.h"

namespace efio {

namespace {

constexpr std::size_t longest_name = IFNAMSIZ - 1;
constexpr std::uint32_t carrying = IFF_UP | IFF_LOWER_UP | IFF_RUNNING;
constexpr int most_messages_a_check = 4096;
constexpr std::size_t names_in_a_hint = 4;

using Netlink = std::unique_ptr<nl_sock, decltype(&nl_socket_free)>;
using LinkObject = std::unique_ptr<rtnl_link, decltype(&rtnl_link_put)>;

Result<Netlink> connect(const std::string& attempted) {
  Netlink socket(nl_socket_alloc(), nl_socket_free);
  if (!socket) return fail(ENOMEM, "{}", attempted);
  if (const int error = nl_connect(socket.get(), NETLINK_ROUTE); error < 0)
    return fail(Error::Kind::device, attempted, "rtnetlink: {}", nl_geterror(error));
  return socket;
}

// The interfaces whose names begin most like this one.
std::string similar_names(nl_sock* socket, const std::string& name) {
  nl_cache* cache = nullptr;
  if (rtnl_link_alloc_cache(socket, AF_UNSPEC, &cache) < 0) return {};
  std::vector<std::pair<std::ptrdiff_t, std::string>> names;
  for (nl_object* object = nl_cache_get_first(cache); object != nullptr; object = nl_cache_get_next(object)) {
    const char* other = rtnl_link_get_name(reinterpret_cast<rtnl_link*>(object));
    if (other == nullptr) continue;
    std::string candidate(other);
    const auto common = std::ranges::mismatch(name, candidate).in1 - name.begin();
    names.emplace_back(common, std::move(candidate));
  }
  nl_cache_free(cache);
  std::ranges::stable_sort(names, std::ranges::greater{}, [](const auto& entry) { return entry.first; });
  names.resize(std::min(names.size(), names_in_a_hint));
  std::vector<std::string> best;
  for (auto& entry : names) best.push_back(std::move(entry.second));
  return fmt::format("{}", fmt::join(best, ", "));
}

}  // namespace

LinkWait LinkWait::from(Uri& uri) {
  LinkWait wait;
  wait.settle = uri.duration("settle", wait.settle, std::chrono::minutes(1));
  wait.up = uri.duration("up", wait.up, std::chrono::hours(1));
  return wait;
}

std::string raw_socket_hint() { return "run as root, or `sudo setcap cap_net_raw+ep PROGRAM`"; }

void Link::CloseSocket::operator()(nl_sock* socket) const noexcept { nl_socket_free(socket); }

Link::~Link() = default;

Result<void> check_interface_name(const std::string& name, const std::string& attempted) {
  if (name.size() <= longest_name) return {};
  return fail(Error::Kind::usage, attempted, "{} characters are too many for an interface's name", name.size())
      .hint("at most {}; `ip link` lists them", longest_name);
}

Result<std::shared_ptr<Link>> Link::open(const std::string& name, const std::string& attempted) {
  if (auto ok = check_interface_name(name, attempted); !ok) return std::unexpected(ok.error());
  std::shared_ptr<Link> link(new Link);
  link->name_ = name;

  // First the ear, then the question: nothing that changes in between is missed.
  auto events = connect(attempted);
  if (!events) return std::unexpected(events.error());
  nl_socket_disable_seq_check(events->get());
  nl_socket_modify_cb(events->get(), NL_CB_VALID, NL_CB_CUSTOM, on_message, link.get());
  if (nl_socket_add_membership(events->get(), RTNLGRP_LINK) < 0 || nl_socket_set_nonblocking(events->get()) < 0)
    return fail(Error::Kind::device, attempted, "rtnetlink tells nothing about links");
  link->events_.reset(events->release());
  // Kept: whoever asks again may be in another namespace by then.
  auto questions = connect(attempted);
  if (!questions) return std::unexpected(questions.error());
  link->questions_.reset(questions->release());
  if (auto asked = link->ask(attempted); !asked) return std::unexpected(asked.error());
  return link;
}

Result<void> Link::ask(const std::string& attempted) {
  rtnl_link* raw = nullptr;
  // Once the index is known it is the interface, whatever its name has become.
  const int error = rtnl_link_get_kernel(questions_.get(), index_, index_ > 0 ? nullptr : name_.c_str(), &raw);
  const LinkObject link(raw, rtnl_link_put);
  if (error == -NLE_NODEV || error == -NLE_OBJ_NOTFOUND || (error >= 0 && raw == nullptr)) {
    const auto near = similar_names(questions_.get(), name_);
    return Failure(Error::Kind::device, ENODEV, attempted, fmt::format("there is no interface {}", name_))
        .hint("there are {}; `ip link` lists all", near);
  }
  if (error < 0) return fail(Error::Kind::device, attempted, "rtnetlink: {}", nl_geterror(error));

  std::uint32_t changes = 0;
  rtnl_link_get_carrier_changes(raw, &changes);
  see(rtnl_link_get_flags(raw), changes);
  if (index_ != 0) return {};

  index_ = rtnl_link_get_ifindex(raw);
  mtu_ = rtnl_link_get_mtu(raw);
  const auto type = rtnl_link_get_arptype(raw);
  loopback_ = type == ARPHRD_LOOPBACK;
  ethernet_ = type == ARPHRD_ETHER || loopback_;
  if (const nl_addr* address = rtnl_link_get_addr(raw); address != nullptr && nl_addr_get_len(address) == mac_.size())
    std::memcpy(mac_.data(), nl_addr_get_binary_addr(address), mac_.size());
  if (const char* kind = rtnl_link_get_type(raw)) kind_ = kind;
  speed_ = kind_.empty() && !loopback_ ? ethtool_speed(name_) : 0;
  return {};
}

Result<void> Link::wait_ready(const LinkWait& wait, const std::string& attempted) {
  const auto start = Clock::monotonic();
  const auto until = start + static_cast<std::uint64_t>(wait.up.count());
  const auto settle = static_cast<std::uint64_t>(wait.settle.count());
  auto steady_since = start;
  auto downs_then = downs();
  bool was_up = up();
  for (;;) {
    check();
    if (gone()) return fail(Error::Kind::device, attempted, "the interface was deleted meanwhile");
    const auto now = Clock::monotonic();
    if (!was_up || downs() != downs_then) steady_since = now;
    was_up = up(), downs_then = downs();
    if (up() && now - steady_since >= settle) return {};
    if (now >= until) break;
    const auto wake = std::min(until, up() ? steady_since + settle : until);
    pollfd event{.fd = nl_socket_get_fd(events_.get()), .events = POLLIN, .revents = 0};
    const timespec left{.tv_sec = static_cast<time_t>((wake - now) / 1'000'000'000),
                        .tv_nsec = static_cast<long>((wake - now) % 1'000'000'000)};
    ::ppoll(&event, 1, &left, nullptr);
  }
  const double seconds = std::chrono::duration<double>(wait.up).count();
  if ((flags_ & IFF_UP) == 0)
    return fail(Error::Kind::device, attempted, "the interface stayed down for {} s", seconds)
        .hint("`ip link set {} up`; up= waits longer", name_);
  if (!up())
    return fail(Error::Kind::device, attempted, "the link did not come up within {} s", seconds)
        .hint("is the cable in, is the peer up? up= waits longer");
  return fail(Error::Kind::device, attempted, "the link was not steady for {} s within {} s",
              std::chrono::duration<double>(wait.settle).count(), seconds)
      .hint("up= waits longer, settle= asks for less");
}

void Link::check() noexcept {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return;
  std::byte first;
  if (::recv(nl_socket_get_fd(events_.get()), &first, sizeof first, MSG_PEEK | MSG_DONTWAIT) >= 0) read_events(false);
  else if (errno == ENOBUFS) read_events(true);
}

void Link::refresh() noexcept {
  const std::scoped_lock lock(mutex_);
  read_events(false);
  if (gone()) return;
  if (look_down()) see(flags_ & ~carrying, carrier_changes_);
  else read_events(true);
}

bool Link::look_down() const noexcept {
  ifreq request{};
  request.ifr_ifindex = index_;
  const int socket = nl_socket_get_fd(questions_.get());  // any of this network namespace
  if (::ioctl(socket, SIOCGIFNAME, &request) != 0 || ::ioctl(socket, SIOCGIFFLAGS, &request) != 0)
    return errno == ENODEV;  // on its way out; netlink will tell
  constexpr int needed = IFF_UP | IFF_RUNNING;
  return (request.ifr_flags & needed) != needed;
}

std::uint64_t Link::received() noexcept {
  const std::scoped_lock lock(mutex_);
  rtnl_link* raw = nullptr;
  if (rtnl_link_get_kernel(questions_.get(), index_, nullptr, &raw) < 0) return 0;
  const LinkObject link(raw, rtnl_link_put);
  return rtnl_link_get_stat(raw, RTNL_LINK_RX_PACKETS);
}

// Reads all events, and then asks for the state if they do not tell all. In this order: a socket that has overflowed
// loses events, without another word, until it is empty.
void Link::read_events(bool and_ask) noexcept {
  for (int i = 0; i < most_messages_a_check; ++i) {
    const int error = nl_recvmsgs_default(events_.get());
    if (error == -NLE_AGAIN) break;
    and_ask = and_ask || error < 0;
  }
  if (!and_ask) return;
  if (const auto answered = ask("ask for the state of " + name_); !answered && answered.error().os == ENODEV) see_gone();
}

int Link::on_message(nl_msg* message, void* self) {
  auto& link = *static_cast<Link*>(self);
  const nlmsghdr* header = nlmsg_hdr(message);
  if (!nlmsg_valid_hdr(header, sizeof(ifinfomsg))) return NL_OK;
  ifinfomsg about;
  std::memcpy(&about, nlmsg_data(header), sizeof about);
  if (about.ifi_family == AF_BRIDGE || about.ifi_index != link.index_) return NL_OK;
  if (header->nlmsg_type == RTM_DELLINK) link.see_gone();
  if (header->nlmsg_type != RTM_NEWLINK) return NL_OK;
  const nlattr* changes = nlmsg_find_attr(nlmsg_hdr(message), sizeof about, IFLA_CARRIER_CHANGES);
  link.see(about.ifi_flags, changes != nullptr ? nla_get_u32(changes) : link.carrier_changes_);
  return NL_OK;
}

void Link::see(std::uint32_t flags, std::uint32_t carrier_changes) noexcept {
  const bool had_carrier = (flags_ & IFF_LOWER_UP) != 0;
  const bool now_up = (flags & carrying) == carrying;
  const std::uint32_t changes = carrier_changes - carrier_changes_;
  const bool known = flags_ != 0;
  // A message that was under way while ask() was answered tells what was before.
  if (known && changes > UINT32_MAX / 2) return;
  // A carrier goes up and down by turns.
  std::uint64_t downs = known ? (changes + (had_carrier ? 1U : 0U)) / 2 : 0;
  if (up_.exchange(now_up, std::memory_order_acq_rel) && !now_up) downs = std::max<std::uint64_t>(downs, 1);
  downs_.fetch_add(downs, std::memory_order_acq_rel);
  flags_ = flags;
  carrier_changes_ = carrier_changes;
}

void Link::see_gone() noexcept {
  see(0, carrier_changes_);
  gone_.store(true, std::memory_order_release);
}

Error Link::gone_error(const std::string& label) const {
  return fail(Error::Kind::device, "use " + label, "the interface {} was deleted", name_)
      .hint("open it again when it is back")
      .error();
}

Result<Fd> Link::hold_promiscuous(const std::string& attempted) const {
  Fd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  const packet_mreq request{.mr_ifindex = index_, .mr_type = PACKET_MR_PROMISC, .mr_alen = 0, .mr_address = {}};
  if (!socket || ::setsockopt(socket.get(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request, sizeof request) != 0) {
    if (errno == EPERM || errno == EACCES) return fail(errno, "{}: promiscuous mode", attempted).hint("{}", raw_socket_hint());
    return fail(errno, "{}: promiscuous mode", attempted);
  }
  return socket;
}

}  // namespace efio
