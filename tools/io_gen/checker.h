// Looks at received frames: whose tag they carry, whether their sequence is whole and their checksums are right.
//
// Frames such as io_gen sends by default (60 bytes, UDP over IPv4) take a short way without parsing; all others, and
// those in which something is not as expected, go through efnet's views.
#pragma once

#include <cstdint>
#include <optional>

#include "efio/queue.h"
#include "tools/io_gen/delays.h"
#include "tools/io_gen/sequence.h"

namespace efio::io_gen {

struct CheckCounts {
  std::uint64_t frames = 0;
  std::uint64_t bytes = 0;
  std::uint64_t tagged = 0, untagged = 0;
  // Of verified frames: both IPv4 header and transport; absent: UDP over IPv4 with 0; unknown: nothing to verify.
  std::uint64_t right = 0, wrong = 0, absent = 0, unknown = 0;
};

class alignas(64) Checker {  // beside what the sending thread writes
 public:
  Checker(Sequences::Start start, bool verify) : sequences_(start), verify_(verify) {}

  // `looked`: Clock::now() of the batch.
  void check(const RxBatch& batch, std::uint64_t looked) noexcept;

  // Another processor writes the frames: get their lines from it all at once. Where none does, that would only cost.
  void expect_writer_elsewhere() noexcept { written_elsewhere_ = true; }

  // From now on each tagged frame's delay is measured too. Throws std::bad_alloc.
  void measure_delays() { delays_.emplace(); }
  const std::optional<Delays>& delays() const noexcept { return delays_; }

  const CheckCounts& counts() const noexcept { return counts_; }
  Sequences& sequences() noexcept { return sequences_; }
  bool verifies() const noexcept { return verify_; }

 private:
  void check_slowly(const Slot& slot, std::uint64_t looked) noexcept;

  Sequences sequences_;
  std::optional<Delays> delays_;
  CheckCounts counts_;
  bool verify_, written_elsewhere_ = false;
  std::uint64_t names_[64] = {};  // streams and sequences of frames that took the short way
  bool continued_ = false;        // the next slot goes on with a frame that was looked at
};

}  // namespace efio::io_gen
