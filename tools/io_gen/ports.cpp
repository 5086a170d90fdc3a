#include "tools/io_gen/ports.h"

#include "efio/fail.h"
#include "tools/common/exit_code.h"
#include "tools/io_gen/neighbour.h"

namespace efio::io_gen {

namespace {

// A path as the name in a URI: what has a meaning there stands as %XX.
std::string escaped(const std::string& path) {
  std::string text;
  for (const char c : path) {
    if (c == '%' || c == '?' || c == '@')
      text += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    else
      text += c;
  }
  return text;
}

void complete_addresses(Traffic& traffic, const Options& options, const PortInfo& info) {
  if (!options.src_mac_given && info.mac) traffic.src_mac = efnet::MacAddress(*info.mac);
  if (options.dst_mac_given || info.device.empty() || !info.mac) return;
  if (const auto found = find_neighbour(info.device, traffic.dst))
    traffic.dst_mac = *found;
  else
    tools::remark("io_gen",
                  fmt::format("{} knows no neighbour for the first of --dst: frames go to {}; --dst-mac sets another",
                              info.device, efnet::to_string(traffic.dst_mac)));
}

}  // namespace

Result<PortAndGenerator> open_for_sending(const std::string& uri, const Options& options) {
  auto port = Port::open(uri, {.direction = Direction::tx});
  if (!port) return std::unexpected(port.error());
  Traffic traffic = options.traffic;
  complete_addresses(traffic, options, port->info());
  if (const auto room = port->info().frame_size; traffic.sizes.largest() > room)
    return fail(Error::Kind::usage, fmt::format("send {} bytes over {}", traffic.sizes.largest() + fcs, uri),
                "it takes frames of at most {}, FCS counted", room + fcs)
        .hint("a smaller --size");
  auto generator = Generator::create(traffic);
  if (!generator) return std::unexpected(generator.error());
  return PortAndGenerator{std::move(*port), std::move(*generator)};
}

Result<Port> open_capture(const std::string& file, Direction direction, std::string_view options) {
  auto uri = file.starts_with("pcap:") ? file : "pcap:" + escaped(file);
  if (!options.empty()) uri += fmt::format("{}{}", uri.find('?') == std::string::npos ? '?' : '&', options);
  return Port::open(uri, {.direction = direction});
}

}  // namespace efio::io_gen
