#include "efnet/plugins/mirror.h"

#include <cstring>

#include "efio/fail.h"

namespace efnet {

efio::Result<std::unique_ptr<MirrorPlugin>> MirrorPlugin::parse(std::string_view text) {
  efio::Direction gates = efio::Direction::both;
  if (text.starts_with("in@")) {
    gates = efio::Direction::rx;
    text.remove_prefix(3);
  } else if (text.starts_with("out@")) {
    gates = efio::Direction::tx;
    text.remove_prefix(4);
  }
  auto port = efio::Port::open(text, {.direction = efio::Direction::tx});
  if (!port) return std::unexpected(std::move(port.error()));
  return std::make_unique<MirrorPlugin>(std::move(*port), gates);
}

void MirrorPlugin::copy(const PacketBatch& packets) noexcept {
  efio::TxQueue& tx = to_.tx();
  auto free = tx.claim(packets.count());
  std::size_t copied = 0;
  std::size_t too_long = 0;
  for (const std::size_t i : packets) {
    if (packets.length(i) > tx.capacity()) {
      ++too_long;
      continue;
    }
    if (copied == free.size()) continue;
    efio::Slot& to = free[copied++];
    for (std::size_t part = i;; ++part) {  // a frame that spans slots becomes one
      const auto bytes = packets.bytes(part);
      std::memcpy(to.buffer + to.offset + to.length, bytes.data(), bytes.size());
      to.length += static_cast<std::uint32_t>(bytes.size());
      if (!packets[part].has(efio::Slot::more)) break;
    }
    to.stamp(packets[i].time, packets[i].time_source());
  }
  free.commit(copied);
  if (too_long > 0) tx.drop(too_long, efio::DropReason::oversize);
  if (const std::size_t left = packets.count() - copied - too_long; left > 0)
    tx.drop(left, efio::DropReason::not_forwarded);
  tx.flush();
}

void MirrorPlugin::ingate(PacketBatch& packets, Gate&) noexcept {
  if (efio::receives(gates_)) copy(packets);
}
void MirrorPlugin::outgate(PacketBatch& packets, Gate&) noexcept {
  if (efio::transmits(gates_)) copy(packets);
}
void MirrorPlugin::tick(Gate&) noexcept { to_.tx().flush(); }

}  // namespace efnet
