#include "tools/common/lasting_port.h"

namespace efio::tools {

namespace {

void add(PortStats& to, const PortStats& more) noexcept {
  to.rx += more.rx;
  to.tx += more.tx;
}

}  // namespace

Result<void> LastingPort::open() {
  auto port = open_anew();
  if (!port) return std::unexpected(std::move(port.error()));
  install(std::move(*port));
  return {};
}

void LastingPort::install(Port port) {
  if (port_) add(before_, port_->stats());
  port_ = std::move(port);
  is_open_ = true;
  ++openings_;
}

Result<void> LastingPort::close() {
  is_open_ = false;
  return port_->close();
}

bool LastingPort::has_failed() noexcept { return failure().has_value(); }

std::optional<Error> LastingPort::failure() {
  const auto of = [](const Queue& queue) -> std::optional<Error> {
    if (!queue.failed()) return std::nullopt;
    auto status = queue.status();
    return status ? std::nullopt : std::optional(std::move(status.error()));
  };
  for (std::size_t q = 0; q < port_->rx_queues(); ++q)
    if (auto why = of(port_->rx(q))) return why;
  for (std::size_t q = 0; q < port_->tx_queues(); ++q)
    if (auto why = of(port_->tx(q))) return why;
  return std::nullopt;
}

PortStats LastingPort::stats() const noexcept {
  PortStats sum = before_;
  if (port_) add(sum, port_->stats());
  return sum;
}

Json LastingPort::json() const {
  Json json = port_json(*port_, before_);
  json["openings"] = openings_;
  return json;
}

}  // namespace efio::tools
