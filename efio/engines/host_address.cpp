// An address may be on two interfaces. What the host sends follows the routes, so those of the TAP have to come first: among
// IPv4 routes that differ in their interface alone the one that was added without NLM_F_APPEND last does, among IPv6 routes
// that with the smaller metric. Among default routes of IPv4 the kernel tries one after the other, so theirs is copied as
// two routes to half of all addresses each. Nothing is taken from the device itself: when the TAP goes, by whatever end, its addresses
// and routes go along, and the device's are in force again.
#include "efio/engines/host_address.h"

#include <linux/if_addr.h>
#include <linux/if_ether.h>
#include <linux/rtnetlink.h>
#include <netlink/cache.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "efio/fail.h"

namespace efio {

namespace {

constexpr std::uint32_t ipv6_default_metric = 1024;

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* object) const noexcept {
    Free(object);
  }
};
using Socket = std::unique_ptr<nl_sock, Freed<nl_socket_free>>;
using Cache = std::unique_ptr<nl_cache, Freed<nl_cache_free>>;
using Address = std::unique_ptr<rtnl_addr, Freed<rtnl_addr_put>>;
using Route = std::unique_ptr<rtnl_route, Freed<rtnl_route_put>>;
using NetLink = std::unique_ptr<rtnl_link, Freed<rtnl_link_put>>;
using Bytes = std::unique_ptr<nl_addr, Freed<nl_addr_put>>;

Failure netlink_error(int error, const std::string& attempted, const std::string& what) {
  if (error == -NLE_PERM)
    return fail(Error::Kind::permission, attempted, "{} needs root or CAP_NET_ADMIN", what).hint("run as root");
  return fail(Error::Kind::device, attempted, "{}: {}", what, nl_geterror(error));
}

Result<Socket> connect(const std::string& attempted) {
  Socket socket(nl_socket_alloc());
  if (!socket) return fail(ENOMEM, "{}", attempted);
  if (const int error = nl_connect(socket.get(), NETLINK_ROUTE); error < 0) return netlink_error(error, attempted, "rtnetlink");
  return socket;
}

Result<void> put_address(nl_sock* socket, int to, nl_addr* local, unsigned prefix, std::uint32_t flags, const std::string& attempted) {
  const Address address(rtnl_addr_alloc());
  if (!address) return fail(ENOMEM, "{}", attempted);
  rtnl_addr_set_ifindex(address.get(), to);
  rtnl_addr_set_local(address.get(), local);
  rtnl_addr_set_prefixlen(address.get(), static_cast<int>(prefix));
  // No one else can have it: either it is the host's already, or the program knows.
  rtnl_addr_set_flags(address.get(), flags | (nl_addr_get_family(local) == AF_INET6 ? IFA_F_NODAD : 0U));
  const int error = rtnl_addr_add(socket, address.get(), 0);
  if (error < 0 && error != -NLE_EXIST) return netlink_error(error, attempted, "set an address");
  return {};
}

bool is_link_local(const nl_addr* address) {
  const auto* bytes = static_cast<const std::uint8_t*>(nl_addr_get_binary_addr(address));
  return nl_addr_get_family(address) == AF_INET6 && nl_addr_get_len(address) == 16 && bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
}

bool is_multicast(const nl_addr* address) {
  return nl_addr_get_family(address) == AF_INET6 && nl_addr_get_len(address) == 16 &&
         *static_cast<const std::uint8_t*>(nl_addr_get_binary_addr(address)) == 0xff;
}

// The routes through one interface, those to its own networks first: the gateways of the others lie there.
std::vector<rtnl_route*> routes_through(nl_cache* cache, int interface) {
  std::vector<rtnl_route*> routes;
  for (nl_object* object = nl_cache_get_first(cache); object != nullptr; object = nl_cache_get_next(object)) {
    auto* route = reinterpret_cast<rtnl_route*>(object);
    const auto table = rtnl_route_get_table(route);
    if (table != RT_TABLE_MAIN || rtnl_route_get_type(route) != RTN_UNICAST || rtnl_route_get_nnexthops(route) != 1) continue;
    if (rtnl_route_nh_get_ifindex(rtnl_route_nexthop_n(route, 0)) != interface) continue;
    const nl_addr* target = rtnl_route_get_dst(route);
    if (target != nullptr && (is_link_local(target) || is_multicast(target))) continue;
    routes.push_back(route);
  }
  std::ranges::stable_partition(routes, [](rtnl_route* route) { return rtnl_route_nh_get_gateway(rtnl_route_nexthop_n(route, 0)) == nullptr; });
  return routes;
}

Result<void> copy_route(nl_sock* socket, rtnl_route* original, nl_addr* target, int to, const std::string& attempted) {
  const Route route(rtnl_route_alloc());
  rtnl_nexthop* hop = rtnl_route_nh_alloc();
  if (!route || hop == nullptr) return fail(ENOMEM, "{}", attempted);
  const auto family = rtnl_route_get_family(original);
  rtnl_route_set_family(route.get(), family);
  rtnl_route_set_table(route.get(), RT_TABLE_MAIN);
  rtnl_route_set_type(route.get(), RTN_UNICAST);
  rtnl_route_set_protocol(route.get(), RTPROT_STATIC);
  rtnl_route_set_scope(route.get(), rtnl_route_get_scope(original));
  rtnl_route_set_tos(route.get(), rtnl_route_get_tos(original));
  if (target != nullptr) rtnl_route_set_dst(route.get(), target);
  if (nl_addr* source = rtnl_route_get_pref_src(original); source != nullptr) rtnl_route_set_pref_src(route.get(), source);
  auto metric = rtnl_route_get_priority(original);
  if (family == AF_INET6) metric = std::max(metric == 0 ? ipv6_default_metric - 1 : metric - 1, 1U);
  rtnl_route_set_priority(route.get(), metric);
  rtnl_route_nh_set_ifindex(hop, to);
  if (nl_addr* gateway = rtnl_route_nh_get_gateway(rtnl_route_nexthop_n(original, 0)); gateway != nullptr) {
    rtnl_route_nh_set_gateway(hop, gateway);
    rtnl_route_nh_set_flags(hop, RTNH_F_ONLINK);
  }
  rtnl_route_add_nexthop(route.get(), hop);
  const int error = rtnl_route_add(socket, route.get(), 0);
  if (error < 0 && error != -NLE_EXIST) return netlink_error(error, attempted, "copy a route");
  return {};
}

Result<void> copy_route(nl_sock* socket, rtnl_route* original, int to, const std::string& attempted) {
  nl_addr* target = rtnl_route_get_dst(original);
  const bool everywhere = target == nullptr || nl_addr_get_prefixlen(target) == 0;
  if (!everywhere || rtnl_route_get_family(original) != AF_INET) return copy_route(socket, original, target, to, attempted);
  for (const char* half : {"0.0.0.0/1", "128.0.0.0/1"}) {
    nl_addr* raw = nullptr;
    if (nl_addr_parse(half, AF_INET, &raw) < 0) return fail(ENOMEM, "{}", attempted);
    const Bytes address(raw);
    if (auto ok = copy_route(socket, original, raw, to, attempted); !ok) return ok;
  }
  return {};
}

}  // namespace

Result<void> borrow_addresses(int from, int to, const std::string& attempted) {
  auto socket = connect(attempted);
  if (!socket) return std::unexpected(socket.error());
  nl_cache* raw = nullptr;
  if (const int error = rtnl_addr_alloc_cache(socket->get(), &raw); error < 0) return netlink_error(error, attempted, "ask for addresses");
  const Cache addresses(raw);
  for (nl_object* object = nl_cache_get_first(raw); object != nullptr; object = nl_cache_get_next(object)) {
    auto* address = reinterpret_cast<rtnl_addr*>(object);
    nl_addr* local = rtnl_addr_get_local(address);
    if (rtnl_addr_get_ifindex(address) != from || local == nullptr || is_link_local(local)) continue;
    const auto prefix = static_cast<unsigned>(rtnl_addr_get_prefixlen(address));
    if (auto ok = put_address(socket->get(), to, local, prefix, IFA_F_NOPREFIXROUTE, attempted); !ok) return ok;
  }
  if (const int error = rtnl_route_alloc_cache(socket->get(), AF_UNSPEC, 0, &raw); error < 0)
    return netlink_error(error, attempted, "ask for routes");
  const Cache routes(raw);
  for (rtnl_route* route : routes_through(raw, from))
    if (auto ok = copy_route(socket->get(), route, to, attempted); !ok) return ok;
  return {};
}

Result<void> add_address(int to, const std::string& text, const std::string& attempted) {
  auto socket = connect(attempted);
  if (!socket) return std::unexpected(socket.error());
  nl_addr* raw = nullptr;
  const int error = nl_addr_parse(text.c_str(), AF_UNSPEC, &raw);
  const Bytes address(raw);
  const auto family = error < 0 ? AF_UNSPEC : nl_addr_get_family(raw);
  if (family != AF_INET && family != AF_INET6)
    return fail(Error::Kind::usage, attempted, "address={} is no address", text).hint("device, none, or such as 198.51.100.1/24");
  return put_address(socket->get(), to, raw, nl_addr_get_prefixlen(raw), 0, attempted);
}

Result<void> set_mac(int to, const std::array<std::uint8_t, 6>& mac, const std::string& attempted) {
  auto socket = connect(attempted);
  if (!socket) return std::unexpected(socket.error());
  const NetLink which(rtnl_link_alloc()), change(rtnl_link_alloc());
  const Bytes address(nl_addr_build(AF_LLC, mac.data(), mac.size()));
  if (!which || !change || !address) return fail(ENOMEM, "{}", attempted);
  rtnl_link_set_ifindex(which.get(), to);
  rtnl_link_set_addr(change.get(), address.get());
  if (const int error = rtnl_link_change(socket->get(), which.get(), change.get(), 0); error < 0)
    return netlink_error(error, attempted, "set the MAC address");
  return {};
}

}  // namespace efio
