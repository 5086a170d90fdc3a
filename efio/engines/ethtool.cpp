// Each request is a structure that begins with its command and ends in an array whose length an earlier request told.
#include "efio/engines/ethtool.h"

#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <string_view>
#include <vector>

#include "efio/descriptor.h"

namespace efio {

namespace {

// A request with room for `tail` bytes of its array, all zero. Plain data whose life begins with the words'.
template <class Request>
class Message {
 public:
  explicit Message(std::uint32_t command, std::size_t tail = 0)
      : words_((sizeof(Request) + tail + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t)),
        request_(reinterpret_cast<Request*>(words_.data())) {
    request_->cmd = command;
  }
  Request* operator->() noexcept { return request_; }
  std::byte* tail() noexcept { return reinterpret_cast<std::byte*>(words_.data()) + sizeof(Request); }

  bool send(const std::string& interface) {
    ifreq request{};
    if (interface.size() >= sizeof request.ifr_name) return false;
    std::memcpy(request.ifr_name, interface.data(), interface.size());
    request.ifr_data = reinterpret_cast<char*>(request_);
    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    return socket && ::ioctl(socket.get(), SIOCETHTOOL, &request) == 0;
  }

 private:
  std::vector<std::uint64_t> words_;
  Request* request_;
};

}  // namespace

std::uint64_t ethtool_speed(const std::string& interface) {
  Message<ethtool_link_settings> question(ETHTOOL_GLINKSETTINGS);
  // The first answer is how many words the link mode masks have, as a negative number; the second fills three of them in.
  if (!question.send(interface) || question->link_mode_masks_nwords >= 0) return 0;
  const int words = -question->link_mode_masks_nwords;
  Message<ethtool_link_settings> answer(ETHTOOL_GLINKSETTINGS, static_cast<std::size_t>(words) * 3 * sizeof(std::uint32_t));
  answer->link_mode_masks_nwords = static_cast<__s8>(words);
  if (!answer.send(interface) || answer->speed == static_cast<std::uint32_t>(SPEED_UNKNOWN)) return 0;
  return std::uint64_t{answer->speed} * 1'000'000;
}

std::set<std::string> ethtool_features(const std::string& interface) {
  Message<ethtool_sset_info> count(ETHTOOL_GSSET_INFO, sizeof(std::uint32_t));
  count->sset_mask = 1ULL << ETH_SS_FEATURES;
  if (!count.send(interface) || count->sset_mask == 0) return {};
  std::uint32_t number = 0;
  std::memcpy(&number, count.tail(), sizeof number);

  Message<ethtool_gstrings> names(ETHTOOL_GSTRINGS, std::size_t{number} * ETH_GSTRING_LEN);
  names->string_set = ETH_SS_FEATURES;
  names->len = number;
  const std::uint32_t blocks = (number + 31) / 32;
  Message<ethtool_gfeatures> states(ETHTOOL_GFEATURES, blocks * sizeof(ethtool_get_features_block));
  states->size = blocks;
  if (!names.send(interface) || !states.send(interface)) return {};

  std::set<std::string> active;
  for (std::uint32_t i = 0; i < std::min(number, names->len); ++i) {
    ethtool_get_features_block block;
    std::memcpy(&block, states.tail() + i / 32 * sizeof block, sizeof block);
    if ((block.active >> (i % 32) & 1) == 0) continue;
    const auto* name = reinterpret_cast<const char*>(names.tail()) + std::size_t{i} * ETH_GSTRING_LEN;
    active.emplace(name, ::strnlen(name, ETH_GSTRING_LEN));
  }
  return active;
}

QueueCounts ethtool_queues(const std::string& interface) {
  Message<ethtool_channels> answer(ETHTOOL_GCHANNELS);
  if (!answer.send(interface)) return {};
  return {.rx = std::max(answer->rx_count + answer->combined_count, 1U),
          .tx = std::max(answer->tx_count + answer->combined_count, 1U)};
}

}  // namespace efio
