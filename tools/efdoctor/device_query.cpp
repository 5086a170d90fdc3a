// The ioctls concern the network namespace in which their socket was made, /proc/thread-self/net the calling thread's.
// /sys/class/net is that of whoever mounted /sys, and is not asked. A driver that has no answer refuses with
// EOPNOTSUPP.
#include <bpf/libbpf.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>

#include "efio/engines/ethtool.h"
#include "efio/engines/ethtool_message.h"
#include "efio/engines/link.h"
#include "efio/engines/netdev.h"
#include "efio/fail.h"
#include "tools/efdoctor/device_answers.h"

namespace efio::doctor {

namespace {

struct Asked {
  const std::string& name;
  Fd socket = open_ethtool_socket();

  // ioctl(request) about the device.
  bool ask(unsigned long request, ifreq& answer) const {
    put_text(answer.ifr_name, name);
    return socket && ::ioctl(socket.get(), request, &answer) >= 0;
  }

  template <std::size_t N>
  static void put_text(char (&place)[N], const std::string& text) {
    std::copy_n(text.begin(), std::min(text.size(), N - 1), place);
  }
};

template <std::size_t N>
std::string text_of(const char (&field)[N]) {
  return {field, ::strnlen(field, N)};
}

// By the bits of ETHTOOL_LINK_MODE_*_BIT, Mbit/s; those that name no speed are 0.
constexpr std::array<std::uint32_t, 93> speed_of_mode = {
    10,     10,     100,    100,    1000,   1000,   0,      0,      0,      0,      0,      0,      10000,  0,
    2500,   2500,   0,      1000,   10000,  10000,  10000,  20000,  20000,  40000,  40000,  40000,  40000,  56000,
    56000,  56000,  56000,  25000,  25000,  25000,  50000,  50000,  100000, 100000, 100000, 100000, 50000,  1000,
    10000,  10000,  10000,  10000,  10000,  2500,   5000,   0,      0,      0,      50000,  50000,  50000,  50000,
    50000,  100000, 100000, 100000, 100000, 100000, 200000, 200000, 200000, 200000, 200000, 100,    1000,   400000,
    400000, 400000, 400000, 400000, 0,      100000, 100000, 100000, 100000, 100000, 200000, 200000, 200000, 200000,
    200000, 400000, 400000, 400000, 400000, 400000, 100,    100,    10};

std::optional<LinkMode> ask_link(const Asked& device) {
  // The first answer is how many words the masks have, as a negative number; the second fills three of them in.
  EthtoolMessage<ethtool_link_settings> question(ETHTOOL_GLINKSETTINGS);
  if (!question.send(device.name, device.socket) || question->link_mode_masks_nwords >= 0) return std::nullopt;
  const auto words = static_cast<std::size_t>(-question->link_mode_masks_nwords);
  EthtoolMessage<ethtool_link_settings> answer(ETHTOOL_GLINKSETTINGS, words * 3 * sizeof(std::uint32_t));
  answer->link_mode_masks_nwords = static_cast<__s8>(words);
  if (!answer.send(device.name, device.socket)) return std::nullopt;
  LinkMode link{.speed = answer->speed == static_cast<std::uint32_t>(SPEED_UNKNOWN) ? 0 : answer->speed,
                .speed_most = 0,
                .duplex = answer->duplex == DUPLEX_FULL   ? "full"
                          : answer->duplex == DUPLEX_HALF ? "half"
                                                          : "unknown"};
  for (std::size_t bit = 0; bit < std::min(words * 32, speed_of_mode.size()); ++bit) {
    std::uint32_t word = 0;
    std::memcpy(&word, answer.tail() + bit / 32 * sizeof word,
                sizeof word);  // the mask of what is supported is the first
    if ((word >> (bit % 32) & 1) != 0) link.speed_most = std::max(link.speed_most, speed_of_mode[bit]);
  }
  return link;
}

std::optional<Spread> ask_spread(const Asked& device) {
  EthtoolMessage<ethtool_rxfh> sizes(ETHTOOL_GRSSH);
  if (!sizes.send(device.name, device.socket) || sizes->indir_size == 0) return std::nullopt;
  const std::size_t table = sizes->indir_size * sizeof(std::uint32_t), key = sizes->key_size;
  EthtoolMessage<ethtool_rxfh> answer(ETHTOOL_GRSSH, table + key);
  answer->indir_size = sizes->indir_size;
  answer->key_size = sizes->key_size;
  if (!answer.send(device.name, device.socket)) return std::nullopt;
  Spread spread;
  spread.table.resize(sizes->indir_size);
  std::memcpy(spread.table.data(), answer.tail(), table);
  for (std::size_t i = 0; i < key; ++i)
    spread.key += fmt::format("{:02x}", std::to_integer<unsigned>(answer.tail()[table + i]));
  return spread;
}

std::optional<XdpProgram> ask_program(int index) {
  bpf_xdp_query_opts answer{};
  answer.sz = sizeof answer;
  if (::bpf_xdp_query(index, 0, &answer) != 0) return std::nullopt;
  if (answer.hw_prog_id != 0) return XdpProgram{answer.hw_prog_id, "hardware"};
  if (answer.drv_prog_id != 0) return XdpProgram{answer.drv_prog_id, "native"};
  if (answer.skb_prog_id != 0) return XdpProgram{answer.skb_prog_id, "generic"};
  return XdpProgram{};
}

void ask_driver(const Asked& device, DeviceAnswers& answers) {
  EthtoolMessage<ethtool_drvinfo> driver(ETHTOOL_GDRVINFO);
  if (!driver.send(device.name, device.socket)) return;
  answers.driver = text_of(driver->driver);
  answers.driver_version = text_of(driver->version);
  answers.firmware = text_of(driver->fw_version);
  answers.bus = text_of(driver->bus_info);
}

void ask_sizes(const Asked& device, DeviceAnswers& answers) {
  if (EthtoolMessage<ethtool_ringparam> ring(ETHTOOL_GRINGPARAM); ring.send(device.name, device.socket))
    answers.rings = {ring->rx_pending, ring->rx_max_pending, ring->tx_pending, ring->tx_max_pending};
  if (EthtoolMessage<ethtool_channels> channels(ETHTOOL_GCHANNELS); channels.send(device.name, device.socket))
    answers.channels = {channels->rx_count, channels->tx_count, channels->combined_count,
                        channels->max_rx,   channels->max_tx,   channels->max_combined};
  if (EthtoolMessage<ethtool_coalesce> wait(ETHTOOL_GCOALESCE); wait.send(device.name, device.socket))
    answers.coalescing = {
        wait->rx_coalesce_usecs,       wait->rx_max_coalesced_frames,       wait->tx_coalesce_usecs,
        wait->tx_max_coalesced_frames, wait->use_adaptive_rx_coalesce != 0, wait->use_adaptive_tx_coalesce != 0};
  if (EthtoolMessage<ethtool_pauseparam> pause(ETHTOOL_GPAUSEPARAM); pause.send(device.name, device.socket))
    answers.pause = {pause->autoneg != 0, pause->rx_pause != 0, pause->tx_pause != 0};
}

Failure refused(const Asked& device, std::string_view what) {
  const int error = errno;
  auto failure = fail(error, "set {} of {}", what, device.name);
  if (error != EPERM && error != EACCES) return failure;
  return std::move(failure).hint("run as root");
}

}  // namespace

Result<DeviceAnswers> ask_device(const std::string& name) {
  const auto attempted = "look at " + name;
  const auto link = Link::open(name, attempted);
  if (!link) return std::unexpected(link.error());
  const Asked device{.name = name};
  DeviceAnswers answers;
  answers.name = name;
  answers.index = (*link)->index();
  answers.mtu = (*link)->mtu();
  answers.loopback = (*link)->loopback();
  if (ifreq flags{}; device.ask(SIOCGIFFLAGS, flags)) {
    answers.up = (flags.ifr_flags & IFF_UP) != 0;
    answers.carrier = (flags.ifr_flags & IFF_RUNNING) != 0;
  }
  if (ifreq length{}; device.ask(SIOCGIFTXQLEN, length))
    answers.tx_queue_length = static_cast<std::uint32_t>(length.ifr_qlen);
  ask_driver(device, answers);
  ask_sizes(device, answers);
  for (const auto& feature : ethtool_feature_list(name)) answers.features[feature.name] = {feature.on, feature.fixed};
  answers.link = ask_link(device);
  answers.spread = ask_spread(device);
  answers.program = ask_program(answers.index);
  if (const auto xdp = xdp_features(answers.index))
    answers.xdp = {.native = (xdp->features & xdp_basic) != 0,
                   .redirect = (xdp->features & xdp_redirect) != 0,
                   .zero_copy = (xdp->features & xdp_zero_copy) != 0,
                   .multi_buffer = (xdp->features & xdp_rx_fragments) != 0,
                   .hardware_time = has_xdp_hardware_time(answers.index)};
  std::ifstream counts("/proc/thread-self/net/dev");
  const auto all = tools::device_counts(std::string(std::istreambuf_iterator(counts), {}));
  if (const auto own = all.find(name); own != all.end()) answers.counts = own->second;
  return answers;
}

Result<void> set_feature(const std::string& device, const std::string& feature, bool on) {
  errno = 0;
  if (ethtool_set_feature(device, feature, on)) return {};
  if (errno == EPERM) return fail(EPERM, "switch {} of {} {}", feature, device, on ? "on" : "off").hint("run as root");
  return fail(Error::Kind::device, fmt::format("switch {} of {} {}", feature, device, on ? "on" : "off"),
              "the driver did not");
}

Result<void> set_ring(const std::string& name, bool rx, std::uint32_t slots) {
  const Asked device{.name = name};
  EthtoolMessage<ethtool_ringparam> ring(ETHTOOL_GRINGPARAM);
  if (!ring.send(name, device.socket)) return refused(device, "the rings");
  ring->cmd = ETHTOOL_SRINGPARAM;
  (rx ? ring->rx_pending : ring->tx_pending) = slots;
  if (!ring.send(name, device.socket)) return refused(device, "the rings");
  return {};
}

Result<void> set_tx_queue_length(const std::string& name, std::uint32_t frames) {
  const Asked device{.name = name};
  ifreq request{};
  request.ifr_qlen = static_cast<int>(frames);
  if (!device.ask(SIOCSIFTXQLEN, request)) return refused(device, "txqueuelen");
  return {};
}

}  // namespace efio::doctor
