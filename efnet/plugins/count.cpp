#include "efnet/plugins/count.h"

#include "efnet/plugins/arguments.h"

namespace efnet {

efio::Result<std::unique_ptr<CountPlugin>> CountPlugin::parse(std::string_view text) {
  const auto arguments = PluginArguments::parse("count", text);
  if (!arguments) return std::unexpected(arguments.error());
  if (!arguments->argument().empty()) return arguments->refuse("it takes no argument");
  if (auto known = arguments->finish(); !known) return std::unexpected(std::move(known.error()));
  return std::make_unique<CountPlugin>();
}

void CountPlugin::Cells::add(const PacketBatch& packets) noexcept {
  std::uint64_t sum = 0;
  for (const std::size_t i : packets) sum += packets.length(i);
  // One writer: no read-modify-write that would lock the bus.
  frames.store(frames.load(std::memory_order_relaxed) + packets.count(), std::memory_order_relaxed);
  bytes.store(bytes.load(std::memory_order_relaxed) + sum, std::memory_order_relaxed);
}

void CountPlugin::ingate(PacketBatch& packets, Gate&) noexcept { in_.add(packets); }
void CountPlugin::outgate(PacketBatch& packets, Gate&) noexcept { out_.add(packets); }

}  // namespace efnet
