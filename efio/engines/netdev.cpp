// A family of generic netlink has a name, and a number that the kernel gave it at its start: it is asked for first. Numbers
// below are of linux/netdev.h, which is newer than some systems' headers.
#include "efio/engines/netdev.h"

#include <linux/genetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

namespace efio {

namespace {

constexpr std::uint8_t dev_get = 1;                   // NETDEV_CMD_DEV_GET
// NETDEV_A_DEV_IFINDEX, NETDEV_A_DEV_XDP_FEATURES, NETDEV_A_DEV_XDP_RX_METADATA_FEATURES
constexpr int dev_ifindex = 1, dev_features = 3, dev_rx_metadata = 5;
constexpr std::uint64_t rx_metadata_timestamp = 1;    // NETDEV_XDP_RX_METADATA_TIMESTAMP

struct FreeSocket {
  void operator()(nl_sock* socket) const noexcept { nl_socket_free(socket); }
};
struct FreeMessage {
  void operator()(nl_msg* message) const noexcept { nlmsg_free(message); }
};
using Socket = std::unique_ptr<nl_sock, FreeSocket>;
using Message = std::unique_ptr<nl_msg, FreeMessage>;

// The value of one attribute in the answer to a question.
struct Answer {
  int attribute = 0;
  std::optional<std::uint64_t> value;
};

int read_answer(nl_msg* message, void* place) {
  auto& answer = *static_cast<Answer*>(place);
  const nlmsghdr* header = nlmsg_hdr(message);
  if (!nlmsg_valid_hdr(header, GENL_HDRLEN)) return NL_OK;
  const nlattr* found = nlmsg_find_attr(nlmsg_hdr(message), GENL_HDRLEN, answer.attribute);
  if (found == nullptr) return NL_OK;
  std::uint64_t value = 0;
  std::memcpy(&value, nla_data(found), std::min<std::size_t>(sizeof value, static_cast<std::size_t>(nla_len(found))));
  answer.value = value;
  return NL_OK;
}

Message question(int family, std::uint8_t command) {
  Message message(nlmsg_alloc_simple(family, NLM_F_REQUEST));
  if (!message) return message;
  const genlmsghdr header{.cmd = command, .version = 1, .reserved = 0};
  if (nlmsg_append(message.get(), const_cast<genlmsghdr*>(&header), sizeof header, NLMSG_ALIGNTO) < 0) return {};
  return message;
}

std::optional<std::uint64_t> ask(nl_sock* socket, nl_msg* message, int attribute) {
  Answer answer{.attribute = attribute, .value = {}};
  nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, read_answer, &answer);
  if (nl_send_auto(socket, message) < 0) return std::nullopt;
  if (nl_recvmsgs_default(socket) < 0) return std::nullopt;
  return answer.value;
}

}  // namespace

std::optional<XdpFeatures> xdp_features(int interface) {
  const Socket socket(nl_socket_alloc());
  if (!socket) return std::nullopt;
  nl_socket_disable_auto_ack(socket.get());  // each question has one answer
  if (nl_connect(socket.get(), NETLINK_GENERIC) < 0) return std::nullopt;
  const auto which = question(GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
  if (!which || nla_put_string(which.get(), CTRL_ATTR_FAMILY_NAME, "netdev") < 0) return std::nullopt;
  const auto family = ask(socket.get(), which.get(), CTRL_ATTR_FAMILY_ID);
  if (!family) return std::nullopt;
  const auto about = [&](int attribute) -> std::optional<std::uint64_t> {
    const auto message = question(static_cast<int>(*family), dev_get);
    if (!message || nla_put_u32(message.get(), dev_ifindex, static_cast<std::uint32_t>(interface)) < 0) return std::nullopt;
    return ask(socket.get(), message.get(), attribute);
  };
  const auto features = about(dev_features);
  if (!features) return std::nullopt;
  return XdpFeatures{.features = *features, .rx_metadata = about(dev_rx_metadata).value_or(0)};
}

bool has_xdp_hardware_time(int interface) {
  const auto known = xdp_features(interface);
  return known && (known->rx_metadata & rx_metadata_timestamp) != 0;
}

}  // namespace efio
