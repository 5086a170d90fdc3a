// `--dump`: frames that passed, or that the bridge dropped, into one pcapng file with an interface a port.
#pragma once

#include <mutex>
#include <optional>

#include "efio/capture_writer.h"
#include "efio/queue.h"
#include "tools/mbdg/options.h"

namespace efio::mbdg {

// Any thread; one at a time writes.
class Dumper {
 public:
  // Errors: those of CaptureWriter::create.
  static Result<std::unique_ptr<Dumper>> create(const Options& options);
  // A number gets a port that was not there when it was created; frames of it are under an interface of their own.
  void set_port(std::size_t number, const std::string& uri);
  Dumper(CaptureWriter writer, const Options& options);

  bool wants_passed() const noexcept { return what_ == Dump::passed; }
  // The frame that starts at slot i came in by `port` and goes on; was given up, and is counted at `port`.
  void passed(const RxBatch& batch, std::size_t i, std::uint16_t port) { append(batch, i, port, {}); }
  void dropped(const RxBatch& batch, std::size_t i, std::uint16_t port, DropReason reason) {
    if (!wants_passed()) append(batch, i, port, name(reason));
  }

  std::uint64_t frames() const;
  // Errors: device.
  Result<void> close();

 private:
  void append(const RxBatch& batch, std::size_t i, std::uint16_t port, std::string_view comment);

  mutable std::mutex mutex_;
  CaptureWriter writer_;
  Dump what_;
  std::vector<std::byte> joined_;
  std::vector<std::uint32_t> interfaces_;  // by port
};

}  // namespace efio::mbdg
