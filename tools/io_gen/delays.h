// One-way delay and jitter of tagged frames, from all of them.
//
// A frame was sent at its tag's time, and arrived at its slot's where the kernel or the device has taken that; else
// when the receiver looked. Both count ns since the Unix epoch: between two hosts their clocks' offset is part of each
// delay.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "efio/slot.h"
#include "tools/io_gen/histogram.h"
#include "tools/io_gen/tag.h"

namespace efio::io_gen {

// ns, over the streams in which two frames or more arrived.
struct Jitter {
  double mean = 0, most = 0;
};

class Delays {
 public:
  Delays();

  // `looked`: Clock::now() of the batch that the slot came in.
  [[gnu::always_inline]] void see(const Slot& slot, std::uint64_t sent, std::uint16_t stream,
                                  std::uint64_t looked) noexcept {
    const TimeSource source = slot.time_source();
    const bool stamped = source == TimeSource::kernel || source == TimeSource::hardware;
    stamped_ += stamped ? 1 : 0;
    const auto delay = static_cast<std::int64_t>((stamped ? slot.time : looked) - sent);
    if (delay >= 0) [[likely]]
      delays_.add(static_cast<std::uint64_t>(delay));
    else
      see_negative(delay);
    // RFC 3550 section 6.4.1: J += (|D| - J) / 16.
    Stream& s = streams_[stream];
    if (s.frames != 0) s.jitter += (static_cast<float>(std::abs(delay - s.delay)) - s.jitter) / 16;
    s.delay = delay;
    s.frames = s.frames == 0 ? 1 : 2;
  }

  // Frames of 60 bytes such as io_gen sends by default, with their streams and sequences as in Tag::name.
  void see_short(const Slot* slots, std::size_t n, const std::uint64_t* names, std::uint64_t looked) noexcept;

  // Of the frames that did not arrive before they were sent.
  const Histogram& delays() const noexcept { return delays_; }
  // Clocks that disagree by more than the way takes: so many, and the worst of them, ns.
  std::uint64_t negative() const noexcept { return negative_; }
  std::int64_t least() const noexcept { return negative_ > 0 ? least_ : static_cast<std::int64_t>(delays_.least()); }
  // How many arrivals the kernel or the device has taken the time of.
  std::uint64_t stamped() const noexcept { return stamped_; }
  Jitter jitter() const noexcept;

 private:
  struct Stream {
    std::int64_t delay;    // of its last frame
    float jitter;          // ns
    std::uint32_t frames;  // 2: two or more
  };
  struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }
  };

  void see_negative(std::int64_t delay) noexcept;

  Histogram delays_;
  std::uint64_t negative_ = 0, stamped_ = 0;
  std::int64_t least_ = 0;
  std::unique_ptr<Stream[], Free> streams_;  // zero pages until touched
};

}  // namespace efio::io_gen
