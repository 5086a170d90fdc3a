// Each request is a structure that begins with its command and ends in an array whose length an earlier request told.
#include "efio/engines/ethtool.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <string_view>
#include <vector>

#include "efio/engines/ethtool_message.h"

namespace efio {

namespace {

// All features, in the order of their bits.
std::vector<EthtoolFeature> read_features(const std::string& interface, const Fd& socket) {
  EthtoolMessage<ethtool_sset_info> count(ETHTOOL_GSSET_INFO, sizeof(std::uint32_t));
  count->sset_mask = 1ULL << ETH_SS_FEATURES;
  if (!count.send(interface, socket) || count->sset_mask == 0) return {};
  std::uint32_t number = 0;
  std::memcpy(&number, count.tail(), sizeof number);

  EthtoolMessage<ethtool_gstrings> names(ETHTOOL_GSTRINGS, std::size_t{number} * ETH_GSTRING_LEN);
  names->string_set = ETH_SS_FEATURES;
  names->len = number;
  const std::uint32_t blocks = (number + 31) / 32;
  EthtoolMessage<ethtool_gfeatures> states(ETHTOOL_GFEATURES, blocks * sizeof(ethtool_get_features_block));
  states->size = blocks;
  if (!names.send(interface, socket) || !states.send(interface, socket)) return {};

  std::vector<EthtoolFeature> features;
  for (std::uint32_t i = 0; i < std::min(number, names->len); ++i) {
    ethtool_get_features_block block;
    std::memcpy(&block, states.tail() + i / 32 * sizeof block, sizeof block);
    const auto* name = reinterpret_cast<const char*>(names.tail()) + std::size_t{i} * ETH_GSTRING_LEN;
    const auto is_set = [&](std::uint32_t bits) { return (bits >> (i % 32) & 1) != 0; };
    features.push_back({.name = {name, ::strnlen(name, ETH_GSTRING_LEN)},
                        .on = is_set(block.active),
                        .fixed = !is_set(block.available) || is_set(block.never_changed)});
  }
  return features;
}

// Asks for the features of these numbers, of `count` in all, to be on or off; drivers do as much of it as they can. The
// kernel refuses a request that has not all blocks.
void set_features(const std::string& interface, const Fd& socket, std::size_t count, const std::vector<std::uint32_t>& numbers,
                  bool on) {
  if (numbers.empty()) return;
  const auto blocks = static_cast<std::uint32_t>((count + 31) / 32);
  EthtoolMessage<ethtool_sfeatures> wish(ETHTOOL_SFEATURES, blocks * sizeof(ethtool_set_features_block));
  wish->size = blocks;
  for (const auto number : numbers) {
    std::byte* const place = wish.tail() + number / 32 * sizeof(ethtool_set_features_block);
    ethtool_set_features_block block;
    std::memcpy(&block, place, sizeof block);
    block.valid |= 1U << (number % 32);
    if (on) block.requested |= 1U << (number % 32);
    std::memcpy(place, &block, sizeof block);
  }
  wish.send(interface, socket);
}

// By which frames are cut, merged, stripped of their tag or left with a checksum to fill in.
bool is_offload(std::string_view name) {
  constexpr std::string_view beginnings[] = {"tx-checksum-",  "rx-checksum", "tx-tcp",      "tx-udp", "tx-generic-segmentation",
                                             "tx-gso-",       "rx-gro",      "rx-lro",      "rx-udp-gro", "rx-vlan-hw-parse",
                                             "rx-vlan-stag-hw-parse", "tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"};
  return std::ranges::any_of(beginnings, [&](std::string_view beginning) { return name.starts_with(beginning); });
}

}  // namespace

std::uint64_t ethtool_speed(const std::string& interface) {
  EthtoolMessage<ethtool_link_settings> question(ETHTOOL_GLINKSETTINGS);
  // The first answer is how many words the link mode masks have, as a negative number; the second fills three of them in.
  const Fd socket = open_ethtool_socket();
  if (!question.send(interface, socket) || question->link_mode_masks_nwords >= 0) return 0;
  const int words = -question->link_mode_masks_nwords;
  EthtoolMessage<ethtool_link_settings> answer(ETHTOOL_GLINKSETTINGS, static_cast<std::size_t>(words) * 3 * sizeof(std::uint32_t));
  answer->link_mode_masks_nwords = static_cast<__s8>(words);
  if (!answer.send(interface, socket) || answer->speed == static_cast<std::uint32_t>(SPEED_UNKNOWN)) return 0;
  return std::uint64_t{answer->speed} * 1'000'000;
}

std::set<std::string> ethtool_features(const std::string& interface) {
  std::set<std::string> active;
  for (auto& feature : read_features(interface, open_ethtool_socket()))
    if (feature.on) active.insert(std::move(feature.name));
  return active;
}

std::vector<EthtoolFeature> ethtool_feature_list(const std::string& interface) {
  return read_features(interface, open_ethtool_socket());
}

bool ethtool_set_feature(const std::string& interface, const std::string& name, bool on) {
  const Fd socket = open_ethtool_socket();
  const auto find = [&](const std::vector<EthtoolFeature>& features) {
    return std::ranges::find(features, name, &EthtoolFeature::name);
  };
  const auto before = read_features(interface, socket);
  const auto found = find(before);
  if (found == before.end()) return false;
  set_features(interface, socket, before.size(), {static_cast<std::uint32_t>(found - before.begin())}, on);
  const auto after = read_features(interface, socket);
  const auto now = find(after);
  return now != after.end() && now->on == on;
}

QueueCounts ethtool_queues(const std::string& interface) {
  EthtoolMessage<ethtool_channels> answer(ETHTOOL_GCHANNELS);
  if (!answer.send(interface, open_ethtool_socket())) return {};
  return {.rx = std::max(answer->rx_count + answer->combined_count, 1U),
          .tx = std::max(answer->tx_count + answer->combined_count, 1U)};
}

OffloadsOff::OffloadsOff(std::string interface) : interface_(std::move(interface)), socket_(open_ethtool_socket()) {
  const auto before = read_features(interface_, socket_);
  std::vector<std::uint32_t> wanted;
  for (std::uint32_t i = 0; i < before.size(); ++i)
    if (before[i].on && is_offload(before[i].name)) wanted.push_back(i);
  feature_count_ = before.size();
  set_features(interface_, socket_, feature_count_, wanted, false);
  // One that is off may have taken others with it, which are to come back too.
  const auto after = read_features(interface_, socket_);
  for (std::uint32_t i = 0; i < std::min(before.size(), after.size()); ++i)
    if (before[i].on && !after[i].on) switched_off_.push_back(i);
}

OffloadsOff::~OffloadsOff() { set_features(interface_, socket_, feature_count_, switched_off_, true); }

}  // namespace efio
