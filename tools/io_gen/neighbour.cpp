// The kernel's neighbour table through rtnetlink: an RTM_GETNEIGH dump gives one RTM_NEWNEIGH a neighbour, each an
// ndmsg (interface, family, state) followed by attributes: NDA_DST the address, NDA_LLADDR the MAC address.
#include "tools/io_gen/neighbour.h"

#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "efio/descriptor.h"

namespace efio::io_gen {

namespace {

constexpr std::uint16_t usable = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT;

template <class T>
std::optional<T> read(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

std::span<const std::byte> after(std::span<const std::byte> bytes, std::size_t n) {
  return bytes.subspan(std::min(bytes.size(), n));
}

// Of one RTM_NEWNEIGH's body, if it is about this address.
std::optional<efnet::MacAddress> entry(std::span<const std::byte> body, unsigned interface,
                                       std::span<const std::byte> address) {
  const auto head = read<ndmsg>(body);
  if (!head || head->ndm_ifindex != static_cast<int>(interface) || (head->ndm_state & usable) == 0) return std::nullopt;
  bool same = false;
  std::optional<efnet::MacAddress> mac;
  for (auto rest = after(body, NLMSG_ALIGN(sizeof(ndmsg)));;) {
    const auto attribute = read<rtattr>(rest);
    if (!attribute || attribute->rta_len < sizeof(rtattr) || attribute->rta_len > rest.size()) break;
    const auto value = rest.first(attribute->rta_len).subspan(sizeof(rtattr));
    if (attribute->rta_type == NDA_DST) same = std::ranges::equal(value, address);
    if (attribute->rta_type == NDA_LLADDR && value.size() == efnet::MacAddress::size)
      mac = efnet::MacAddress::load(value.data());
    rest = after(rest, RTA_ALIGN(attribute->rta_len));
  }
  return same ? mac : std::nullopt;
}

}  // namespace

std::optional<efnet::MacAddress> find_neighbour(const std::string& interface, const Addresses& address) {
  const unsigned index = ::if_nametoindex(interface.c_str());
  const Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (index == 0 || !socket) return std::nullopt;
  const timeval patience{1, 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);

  struct {
    nlmsghdr head;
    ndmsg body;
  } request{};
  request.head.nlmsg_len = sizeof request;
  request.head.nlmsg_type = RTM_GETNEIGH;
  request.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.ndm_family = address.ipv6 ? AF_INET6 : AF_INET;
  if (::send(socket.get(), &request, sizeof request, 0) < 0) return std::nullopt;

  std::array<std::byte, 16> bytes{};
  std::memcpy(bytes.data(), address.first.bytes().data(), bytes.size());
  const auto wanted = address.ipv6 ? std::span<const std::byte>(bytes) : std::span<const std::byte>(bytes).last(4);
  std::vector<std::byte> buffer(65536);
  std::optional<efnet::MacAddress> found;
  for (;;) {
    const auto size = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
    if (size <= 0) return found;
    for (auto rest = std::span<const std::byte>(buffer).first(static_cast<std::size_t>(size));;) {
      const auto head = read<nlmsghdr>(rest);
      if (!head || head->nlmsg_len < sizeof(nlmsghdr) || head->nlmsg_len > rest.size()) break;
      if (head->nlmsg_type == NLMSG_DONE || head->nlmsg_type == NLMSG_ERROR) return found;
      if (head->nlmsg_type == RTM_NEWNEIGH && !found)
        found = entry(rest.first(head->nlmsg_len).subspan(NLMSG_HDRLEN), index, wanted);
      rest = after(rest, NLMSG_ALIGN(head->nlmsg_len));
    }
  }
}

}  // namespace efio::io_gen
