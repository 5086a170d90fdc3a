// Fills claimed slots with frames, each with its own flow, sequence number, time and right checksums.
//
// A frame costs one copy of a template, a few stores and the folding of two sums: what does not vary in them is known
// beforehand. Nothing is divided, allocated or timed per frame: the time is that of the claim.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "efio/queue.h"
#include "tools/io_gen/frame_template.h"
#include "tools/io_gen/short_frames.h"
#include "tools/io_gen/traffic.h"

namespace efio::io_gen {

class Generator {
 public:
  static constexpr std::size_t most_batch = 1024;

  // Errors: usage (Traffic::check), memory (of the table of flows).
  static Result<Generator> create(const Traffic& traffic);

  // Fills all slots of a fresh claim of at most most_batch; lengths are set. Their frames must have room for the
  // largest size.
  void fill(const TxBatch& batch) noexcept;

  // Another processor reads the frames: get their lines back from it all at once. Where none does, that would only cost.
  void expect_reader_elsewhere() noexcept { read_elsewhere_ = true; }

  // Length of the frame `ahead` places after the next one.
  std::uint32_t length(std::size_t ahead) const noexcept { return forms_[(form_ + ahead) % forms_.size()].length; }

  std::uint64_t flows() const noexcept { return flow_count_; }
  // How many streams there are, and stream number `index` of them: its name in the tag, and the number it would use
  // next.
  std::size_t streams() const noexcept;
  std::uint16_t stream(std::size_t index) const noexcept { return static_cast<std::uint16_t>(index + stream_base_); }
  std::uint64_t next_sequence(std::size_t index) const noexcept {
    return static_cast<std::uint64_t>(high_[index]) << 32 | flows_[index].next;
  }

 private:
  // A size of frame, with its sums.
  struct Form {
    std::uint32_t length;
    std::uint16_t ip_length, udp_length;  // as they stand in the frame
    std::uint64_t ip_sum, transport_sum;
  };

  Generator() = default;
  void choose_flows(std::size_t n) noexcept;
  template <bool long_sequences>
  void choose_names(std::size_t n) noexcept;
  void fill_short(Slot* slots, std::size_t n, std::uint64_t time) noexcept;
  void fill_any(Slot* slots, std::size_t n, std::uint64_t time) noexcept;

  FrameTemplate template_;
  std::vector<Form> forms_;
  std::size_t form_ = 0;
  bool short_ = false;  // what short_frames.h is for
  bool tag_ = true, udp_ = true, random_ = false, read_elsewhere_ = false;
  std::uint16_t stream_base_ = 0;
  std::uint64_t made_ = 0;  // frames since birth: below 2^32 no sequence has a high part
  std::uint64_t random_state_ = 0;
  std::uint64_t flow_count_ = 1, next_flow_ = 0;
  struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }
  };
  std::unique_ptr<FlowFields[], Free> flows_;  // in lines that hold nothing else: written for every batch
  std::unique_ptr<std::uint16_t[]> high_;  // upper 16 bits of the sequences
  // Of the batch being filled: flows, and streams with sequences.
  alignas(64) std::uint32_t chosen_[most_batch] = {};
  alignas(64) std::uint64_t names_[most_batch] = {};
};

}  // namespace efio::io_gen
