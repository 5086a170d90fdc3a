#include "tools/mbdg/dump.h"

#include <algorithm>

namespace efio::mbdg {

Result<std::unique_ptr<Dumper>> Dumper::create(const Options& options) {
  CaptureWriter::Options format{.format = CaptureWriter::Format::pcapng, .interfaces = {}};
  for (const auto& port : options.ports) format.interfaces.push_back({.name = port.uri, .description = {}});
  auto writer = CaptureWriter::create(options.dump, std::move(format));
  if (!writer) return std::unexpected(std::move(writer.error()));
  return std::make_unique<Dumper>(std::move(*writer), options);
}

Dumper::Dumper(CaptureWriter writer, const Options& options) : writer_(std::move(writer)), what_(options.dump_what) {
  for (std::uint32_t i = 0; i < options.ports.size(); ++i) interfaces_.push_back(i);
}

void Dumper::set_port(std::size_t number, const std::string& uri) {
  const std::scoped_lock lock(mutex_);
  interfaces_.resize(std::max(interfaces_.size(), number + 1));
  interfaces_[number] = writer_.add_interface({.name = uri, .description = {}});
}

void Dumper::append(const RxBatch& batch, std::size_t i, std::uint16_t port, std::string_view comment) {
  const std::scoped_lock lock(mutex_);
  const CaptureWriter::Record record{.time = batch[i].time, .interface = interfaces_[port], .comment = comment};
  if (!batch[i].has(Slot::more)) {
    writer_.append(batch[i].bytes(), record);
    return;
  }
  joined_.clear();
  for (bool more = true; more && i < batch.size(); ++i) {
    const auto bytes = batch[i].bytes();
    joined_.insert(joined_.end(), bytes.begin(), bytes.end());
    more = batch[i].has(Slot::more);
  }
  writer_.append(joined_, record);
}

std::uint64_t Dumper::frames() const {
  const std::scoped_lock lock(mutex_);
  return writer_.frames();
}

Result<void> Dumper::close() {
  const std::scoped_lock lock(mutex_);
  return writer_.close();
}

}  // namespace efio::mbdg
