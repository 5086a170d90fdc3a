// pcap: capture files. Receiving reads one, sending writes one; standard input and output are named "-".
#include <pcap/pcap.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "efio/capture_writer.h"
#include "efio/engines/capture_parser.h"
#include "efio/engines/capture_source.h"
#include "efio/engines/engine.h"
#include "efio/fail.h"
#include "efio/text.h"

namespace efio {

namespace {

constexpr std::uint64_t default_ring = 256;  // a file has no bursts to absorb: small, so that frames stay in the cache
constexpr std::uint64_t default_frame = 1920;
constexpr std::uint32_t shortest = 14;  // an Ethernet header
constexpr std::uint32_t longest = CaptureParser::largest_record;
constexpr double slowest = 0.001, fastest = 1e6;

// --- reading ---

std::string link_type_name(std::uint16_t type) {
  const char* name = ::pcap_datalink_val_to_name(type);
  return name == nullptr ? fmt::format("{}", type) : fmt::format("{} ({})", type, name);
}

// When a frame is due: the recorded gaps, divided by a factor. Frames whose time goes backwards, or that have none, are
// due at once.
class Pace {
 public:
  explicit Pace(double factor) : factor_(factor) {}
  bool on() const noexcept { return factor_ > 0; }
  void start() noexcept {
    if (started_ == 0) started_ = Clock::monotonic();
  }
  bool started() const noexcept { return started_ != 0; }

  std::uint64_t due(const CaptureParser::Frame& frame) noexcept {
    if (!frame.timed) return started_ + due_;
    const std::uint64_t time = frame.time;
    if (fresh_) first_ = time, base_ = due_, fresh_ = false;
    const double gap = time > first_ ? static_cast<double>(time - first_) / factor_ : 0;
    due_ = std::max(due_, base_ + static_cast<std::uint64_t>(std::min(gap, 9e18)));
    return started_ + due_;
  }
  // The file starts again, where it ended.
  void next_pass() noexcept { fresh_ = true; }

 private:
  double factor_;  // 0: no pace
  std::uint64_t started_ = 0;  // Clock::monotonic
  std::uint64_t first_ = 0, base_ = 0, due_ = 0;
  bool fresh_ = true;
};

struct ReadOptions {
  double factor = 0;          // of the recorded speed; 0: full speed
  std::uint64_t passes = 1;   // 0: for ever
  bool pass_truncated = false;
};

class PcapRx final : public RxQueue {
 public:
  PcapRx(OwnedRing ring, std::size_t capacity, std::string path, CaptureSource source, const ReadOptions& options)
      : slots_(std::move(ring)), path_(std::move(path)), source_(std::move(source)), pace_(options.factor), options_(options) {
    ring_ = slots_.data();
    mask_ = slots_.mask();
    pool_ = slots_.pool();
    swaps_ = true;
    headroom_ = static_cast<std::uint16_t>(pool_->headroom());
    capacity_ = capacity;
    label_ = fmt::format("pcap:{} rx 0", path_);
  }

  // A file's first frame, so that what is no capture, or not of Ethernet, fails at open.
  Result<void> prime() {
    if (!source_.is_stream()) look();
    if (problem_) return std::unexpected(*problem_);
    return {};
  }
  std::string_view format() const noexcept { return parser_.format(); }
  std::size_t bytes() const noexcept { return slots_.bytes() + source_.bytes(); }
  // At close: what was looked at and not admitted has not been received.
  void close() { abandon(); }

 private:
  void refill(std::size_t want) noexcept override {
    pace_.start();
    const std::uint64_t now = pace_.on() ? Clock::monotonic() : 0;
    const auto room = static_cast<std::uint32_t>(std::min(vacant(), std::max<std::size_t>(want, 64)));
    std::uint32_t filled = 0;
    std::uint64_t stamp = 0;
    while (filled < room && (have_ || look())) {
      if (pace_.on() && due_ > now) break;
      have_ = false;
      if (const auto reason = unfit(next_)) [[unlikely]] {
        count_lost_now(*reason, 1);
        continue;
      }
      Slot& slot = slot_at(tail_ + filled);
      std::memcpy(slot.buffer + headroom_, next_.data, next_.captured);
      fruitful_ = true;
      slot.length = next_.captured;
      slot.offset = headroom_;
      if (next_.timed) [[likely]] {
        slot.flags = static_cast<std::uint16_t>(TimeSource::kernel);
        slot.time = next_.time;
      } else {
        if (stamp == 0) stamp = Clock::now();
        slot.flags = static_cast<std::uint16_t>(TimeSource::clock);
        slot.time = stamp;
      }
      ++filled;
    }
    if (filled > 0) admit(filled, filled);
    if (pace_.on() && !have_) look();  // so that has_work() and arm() know when it goes on
    conclude();
  }

  std::optional<DropReason> unfit(const CaptureParser::Frame& frame) const noexcept {
    if (frame.link_type != CaptureParser::ethernet) return DropReason::link_type;
    if (frame.captured < frame.length && !options_.pass_truncated) return DropReason::truncated;
    if (frame.captured < shortest) return DropReason::undersize;
    if (frame.captured > capacity_) return DropReason::oversize;
    return std::nullopt;
  }

  // Parses on to the next frame: next_. False: nothing now, or over_.
  bool look() noexcept {
    while (!over_) {
      switch (parser_.next(source_.at(), source_.end(), next_)) {
        case CaptureParser::Found::frame:
          starved_ = false;
          if (!checked_ && !check_link_type()) return false;
          if (pace_.on()) due_ = pace_.due(next_);
          return have_ = true;
        case CaptureParser::Found::damaged: return stop(parser_.problem());
        case CaptureParser::Found::more: break;
      }
      switch (source_.fill(parser_.wanted())) {
        case CaptureSource::Filled::data: break;
        case CaptureSource::Filled::nothing: starved_ = true; return false;
        case CaptureSource::Filled::failed: return stop_reading(errno);
        case CaptureSource::Filled::end:
          if (!parser_.may_end(static_cast<std::size_t>(source_.end() - source_.at()))) return stop(parser_.problem());
          if (!checked_ && !check_link_type()) return false;
          next_pass();
      }
    }
    return false;
  }

  // A pass that delivered nothing is the last: so would the others, and this call would never end.
  void next_pass() noexcept {
    ++passed_;
    over_ = !fruitful_ || passed_ == options_.passes;
    if (over_) return;
    if (!source_.rewind()) {
      stop_reading(errno);
      return;
    }
    parser_ = CaptureParser();
    pace_.next_pass();
    fruitful_ = false;
  }

  bool check_link_type() noexcept {
    checked_ = true;
    const auto foreign = parser_.foreign_link_type();
    if (!foreign) return true;
    over_ = true;
    problem_ = fail(Error::Kind::data, "read " + path_, "its link type is {}, not Ethernet", link_type_name(*foreign))
                   .hint("only Ethernet frames can be received")
                   .error();
    return false;
  }

  bool stop(const std::string& why) noexcept {
    over_ = true;
    auto failure = fail(Error::Kind::data, "read " + path_, "at byte {}: {}", parser_.offset(), why);
    problem_ = (parser_.offset() == 0
                    ? std::move(failure).hint("pcap and pcapng files can be read, compressed ones as in `zcat FILE | … pcap:-`")
                    : std::move(failure).hint("the frames before it are whole; the file was cut off or damaged there"))
                   .error();
    return false;
  }

  bool stop_reading(int os) noexcept {
    over_ = true;
    problem_ = fail(os, "read {} behind byte {}", path_, parser_.offset()).error();
    return false;
  }

  // The end, or a failure, is told when every frame before it has been finished.
  void conclude() noexcept {
    if (!over_ || have_ || head_ != tail_) return;
    if (problem_) set_failed(*problem_);
    else exhausted_.store(true, std::memory_order_release);
  }

  WaitSource wait_source() override {
    if (source_.is_stream()) return {source_.fd(), EPOLLIN, false};
    return {-1, 0, !pace_.on()};
  }
  bool has_work() const override {
    if (source_.is_stream()) return !starved_;
    return !pace_.started() || !have_ || due_ <= Clock::monotonic();
  }
  bool arm(std::uint64_t& deadline) override {
    conclude();
    if (has_work()) return true;
    if (have_) deadline = std::min(deadline, due_);
    return false;
  }

  OwnedRing slots_;
  std::string path_;
  CaptureSource source_;
  CaptureParser parser_;
  Pace pace_;
  ReadOptions options_;
  CaptureParser::Frame next_;
  bool have_ = false;      // next_ is a frame that was not admitted yet
  bool starved_ = false;   // a pipe has nothing now
  bool checked_ = false;   // the link type
  bool fruitful_ = false;  // a frame of this pass was admitted
  bool over_ = false;      // no more look()
  std::uint64_t due_ = 0;
  std::uint64_t passed_ = 0;
  std::optional<Error> problem_;
};

// --- writing ---

class PcapTx final : public TxQueue {
 public:
  PcapTx(OwnedRing ring, std::size_t capacity, const std::string& path, CaptureWriter writer)
      : slots_(std::move(ring)), writer_(std::move(writer)) {
    ring_ = slots_.data();
    mask_ = slots_.mask();
    pool_ = slots_.pool();
    swaps_ = true;
    headroom_ = static_cast<std::uint16_t>(pool_->headroom());
    capacity_ = capacity;
    label_ = fmt::format("pcap:{} tx 0", path);
    limit_ = static_cast<std::uint32_t>(ring_size());
  }

  CaptureWriter::Format format() const noexcept { return writer_.format(); }
  std::size_t bytes() const noexcept { return slots_.bytes(); }
  Result<void> close() { return writer_.close(); }

 private:
  void transmit() noexcept override {
    std::uint64_t now = 0;
    while (flushed_ != tail_ && !failed()) {
      const auto slots = slots_of(flushed_);
      if (const auto reason = unfit(slots)) [[unlikely]] {
        write_out();  // frames are settled in order
        if (failed()) break;
        flushed_ += slots;
        settle_dropped(slots, *reason);
        continue;
      }
      const Slot& first = slot_at(flushed_);
      const auto frame = slots == 1 ? std::span<const std::byte>(first.bytes()) : gather(slots);
      const bool timed = first.time_source() != TimeSource::none && first.time_source() != TimeSource::raw;
      if (!timed && now == 0) now = Clock::now();
      if (!writer_.append(frame, {.time = timed ? first.time : now})) break;
      flushed_ += slots;
    }
    write_out();
    if (failed()) {
      while (settled_ != tail_) settle_dropped(slots_of(settled_), DropReason::write_failed);
      flushed_ = tail_;
    }
    unsent_frames_ = unsent_bytes_ = 0;
  }

  // A slot that claims more than its memory holds would have the bytes of others written.
  std::optional<DropReason> unfit(std::uint32_t slots) const noexcept {
    std::uint64_t bytes = 0;
    for (std::uint32_t i = 0; i < slots; ++i) {
      const Slot& slot = slot_at(flushed_ + i);
      if (std::uint64_t{slot.offset} + slot.length > pool_->frame_size()) return DropReason::oversize;
      bytes += slot.length;
    }
    if (bytes < shortest) return DropReason::undersize;
    if (bytes > longest) return DropReason::oversize;
    return std::nullopt;
  }

  std::uint32_t slots_of(std::uint32_t position) const noexcept {
    std::uint32_t slots = 1;
    while (fragments_ && slot_at(position + slots - 1).has(Slot::more)) ++slots;
    return slots;
  }

  std::span<const std::byte> gather(std::uint32_t slots) {
    gathered_.clear();
    for (std::uint32_t i = 0; i < slots; ++i) {
      const auto piece = slot_at(flushed_ + i).bytes();
      gathered_.insert(gathered_.end(), piece.begin(), piece.end());
    }
    return gathered_;
  }

  // Hands what was appended to the system, and settles it; where that fails, up to the last frame that is whole in the file.
  void write_out() noexcept {
    const bool written = writer_.flush();
    const auto frames = writer_.frames() - settled_frames_;
    settled_frames_ += frames;
    std::uint32_t slots = 0;
    std::uint64_t bytes = 0;
    for (std::uint64_t i = 0; i < frames; ++i) {
      const auto end = slots + slots_of(settled_ + slots);
      for (; slots != end; ++slots) bytes += slot_at(settled_ + slots).length;
    }
    if (frames > 0) settle(slots, frames, bytes);
    reclaim();
    if (!written) set_failed(writer_.status().error());
  }

  void reclaim() noexcept override { limit_ = settled_ + static_cast<std::uint32_t>(ring_size()); }
  WaitSource wait_source() override { return {-1, 0, true}; }

  OwnedRing slots_;
  CaptureWriter writer_;
  std::uint64_t settled_frames_ = 0;
  std::vector<std::byte> gathered_;
};

struct PcapPort final : PortHandle {
  Result<void> close_device() override {
    for (auto& queue : rx) static_cast<PcapRx&>(*queue).close();
    for (auto& queue : tx)
      if (auto done = static_cast<PcapTx&>(*queue).close(); !done) return done;
    return {};
  }
};

// "full", "original", or a factor of the original speed: 0 for full.
Result<double> parse_timing(const std::string& text, const std::string& attempted) {
  if (text == "full") return 0.0;
  if (text == "original") return 1.0;
  const auto factor = parse_fraction(text);
  if (factor && *factor >= slowest && *factor <= fastest) return *factor;
  return fail(Error::Kind::usage, attempted, "timing={} is not possible", text)
      .hint("full, original, or a factor from {} to {}: 2 is twice as fast", slowest, fastest);
}

}  // namespace

Opened open_pcap(Uri& uri, const PortOptions& options) {
  const auto attempted = "open " + uri.text();
  const std::size_t slots = uri.number("ring", default_ring, SlotRing::smallest, SlotRing::largest);
  const std::size_t frame = uri.number("frame", default_frame, 128, longest);
  ReadOptions read;
  CaptureWriter::Options write;
  std::string timing = "full";
  if (options.direction == Direction::both)
    return fail(Error::Kind::usage, attempted, "a capture file is read or written, not both").hint("open it for rx, or for tx");
  if (receives(options.direction)) {
    timing = uri.text_option("timing", "full");
    read.passes = uri.number("loop", 1, 0, UINT64_MAX);
    read.pass_truncated = uri.choice("truncated", {"drop", "pass"}) == "pass";
  } else {
    const auto format = uri.choice("format", {"pcap", "pcapng"});
    if (uri.has("format")) write.format = format == "pcap" ? CaptureWriter::Format::pcap : CaptureWriter::Format::pcapng;
    write.rotate = uri.number("rotate", 0, 4096, UINT64_MAX / 2);
    write.snaplen = static_cast<std::uint32_t>(uri.number("snaplen", 0, shortest, longest));
  }
  if (auto ok = uri.finish(); !ok) return std::unexpected(ok.error());
  const auto factor = parse_timing(timing, attempted);
  if (!factor) return std::unexpected(factor.error());
  read.factor = *factor;

  auto pool = options.pool;
  if (!pool) {
    auto shared = Pool::shared(frame + PoolOptions{}.headroom);
    if (!shared) return std::unexpected(shared.error());
    pool = *shared;
  }
  auto ring = OwnedRing::create(slots, pool);
  if (!ring) return std::unexpected(ring.error());
  const auto capacity = std::min(frame, pool->frame_size() - pool->headroom());

  auto port = std::make_unique<PcapPort>();
  auto& info = port->info;
  info.device = uri.name();
  info.frame_size = capacity;
  if (receives(options.direction)) {
    auto source = CaptureSource::open(uri.name(), attempted);
    if (!source) return std::unexpected(source.error());
    if (source->is_stream() && (read.factor > 0 || read.passes != 1))
      return fail(Error::Kind::usage, attempted, "a pipe is read once, as fast as it comes").hint("timing and loop are for files");
    auto queue = std::make_unique<PcapRx>(std::move(*ring), capacity, uri.name(), std::move(*source), read);
    if (auto ok = queue->prime(); !ok) return std::unexpected(ok.error());
    const auto format = queue->format();
    info.mode = fmt::format("read {}, {}", format.empty() ? "a pipe" : format,
                            read.factor > 0 ? fmt::format("{} x the recorded speed", read.factor) : "full speed");
    info.rx_ring = queue->ring_size();
    info.queue_bytes = queue->bytes();
    info.time_source = TimeSource::kernel;
    port->rx.push_back(std::move(queue));
  } else {
    auto writer = CaptureWriter::create(uri.name(), std::move(write));
    if (!writer) return std::unexpected(writer.error());
    auto queue = std::make_unique<PcapTx>(std::move(*ring), capacity, uri.name(), std::move(*writer));
    info.mode = queue->format() == CaptureWriter::Format::pcap ? "write pcap" : "write pcapng";
    info.tx_ring = queue->ring_size();
    info.queue_bytes = queue->bytes();
    info.time_source = TimeSource::clock;
    port->tx.push_back(std::move(queue));
  }
  info.headroom = pool->headroom();
  return port;
}

}  // namespace efio
