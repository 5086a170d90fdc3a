#include "efnet/plugins/pipeline.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "efnet/plugins/load.h"

namespace efnet {

using efio::Direction;
using efio::DropReason;
using efio::Slot;

namespace {

// A cell of its owner's that any thread may read.
class Counter {
 public:
  void add(std::uint64_t n) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// One plugin with what is counted of it. In the blocks, `out` is what passed and `queued` what was taken so far.
struct Stage {
  explicit Stage(std::shared_ptr<Plugin> it) noexcept : plugin(std::move(it)) {}

  std::shared_ptr<Plugin> plugin;
  efio::CounterBlock in, out;
  std::uint64_t taken_in = 0, taken_out = 0;
  Counter made, not_made, kept, released, discarded;

  std::size_t keeps_now() const noexcept {
    return static_cast<std::size_t>(kept.get() - released.get() - discarded.get());
  }
};

GateStats gate_stats(const efio::CounterBlock::Fields& fields) noexcept {
  return {.seen = fields.in, .passed = fields.out, .taken = fields.queued, .dropped = fields.dropped};
}

std::uint64_t bit(std::size_t i) noexcept { return std::uint64_t{1} << i; }

}  // namespace

// The gate, as plugins meet it. What they make is staged: slots of one claim, in the order of making. Each goes through
// the outgates of the plugins before its maker as soon as the maker's gate has returned; what these make themselves
// comes behind it. All is committed when the pipeline's own call ends, or when the claim is used up and nothing is on
// its way.
class Pipeline::Running final : public Gate {
 public:
  Running(efio::TxQueue* tx, const PipelineOptions& options) : tx_(tx), most_kept_(options.most_kept) {
    port_ = options.port;
    if (tx == nullptr) return;
    spares_ = tx->pool();
    if (spares_ == nullptr)
      if (auto pool = efio::Pool::shared(tx->headroom() + tx->capacity())) spares_ = std::move(*pool);
  }

  void in(PacketBatch& packets, std::chrono::nanoseconds now) noexcept {
    now_ = now;
    for (std::size_t i = 0; i < stages.size(); ++i) run(i, Direction::rx, packets);
    commit_staged();
  }
  void out(PacketBatch& packets, std::chrono::nanoseconds now) noexcept {
    now_ = now;
    run_outgates(stages.size(), packets);
    commit_staged();
  }
  // The program holds a claim on our own queue: what is made goes behind what it has filled, and leaves with it.
  void out(TxPackets& packets, std::chrono::nanoseconds now) noexcept {
    if (&packets.batch_->queue() != tx_) return out(static_cast<PacketBatch&>(packets), now);
    now_ = now;
    staged_ = packets.batch_;
    most_ = std::min(packets.batch_->size(), PacketBatch::capacity);
    used_ = passed_ = packets.used_;
    run_outgates(stages.size(), packets);
    packets.used_ = used_;
    packets.staged_ |= here_;
    packets.made_ |= made_;
    came_through.add(made_here());
    forget_staged();
  }
  void tick(std::chrono::nanoseconds now) noexcept {
    now_ = now;
    for (std::size_t i = 0; i < stages.size(); ++i) {
      enter(i, Direction::both);
      stages[i]->plugin->tick(*this);
      pass_on_staged();
    }
    commit_staged();
  }

  std::span<std::byte> make(std::size_t length) noexcept override {
    Stage& stage = *stages[current_];
    if (tx_ == nullptr || length > tx_->capacity() || !have_slot()) {
      stage.not_made.add(1);
      return {};
    }
    stage.made.add(1);
    made_ |= bit(used_);
    Slot& slot = (*staged_)[used_++];
    slot.length = static_cast<std::uint32_t>(length);
    return slot.bytes();
  }

  bool release(efio::Frame& frame) noexcept override {
    if (!frame || tx_ == nullptr || frame.slot().length > tx_->capacity() || !have_slot()) return false;
    Slot& slot = (*staged_)[used_];
    if (tx_->swaps() && tx_->pool() == frame.pool()) {
      std::swap(slot, frame.slot());
    } else {
      const auto bytes = frame.bytes();
      std::copy(bytes.begin(), bytes.end(), slot.buffer + slot.offset);
      slot.length = frame.slot().length;
    }
    ++used_;
    stages[current_]->released.add(1);
    frame = efio::Frame();
    return true;
  }

  void discard(efio::Frame frame, DropReason reason) noexcept override {
    if (!frame) return;
    stages[current_]->discarded.add(1);
    if (tx_ != nullptr) tx_->drop(1, reason);
  }

  bool release_inwards(efio::Frame& frame) noexcept override {
    if (!frame || inward_count_ == inward_.size()) return false;
    inward_from_[inward_count_] = current_ + 1;
    inward_[inward_count_++] = std::move(frame);
    frame = efio::Frame();
    stages[current_]->released.add(1);
    return true;
  }

  // A plugin sees those that come from before it. What it hands on itself meanwhile is for the next call.
  bool returned(ReturnedPackets& packets, std::chrono::nanoseconds now) noexcept {
    const std::size_t count = std::exchange(inward_count_, 0);
    packets.fill(std::span(inward_).first(count), std::span(inward_from_).first(count), tx_);
    if (count == 0) return false;
    now_ = now;
    for (std::size_t i = 0; i < stages.size(); ++i) {
      std::uint64_t others = 0;
      for (std::size_t frame = 0; frame < count; ++frame) others |= packets.first_[frame] > i ? bit(frame) : 0;
      others &= packets.here_;
      packets.here_ &= ~others;
      run(i, Direction::rx, packets);
      packets.here_ |= others;
    }
    commit_staged();
    return true;
  }

  std::vector<std::unique_ptr<Stage>> stages;
  Counter came_through;  // of what plugins made

 private:
  std::uint64_t made_here() const noexcept { return static_cast<std::uint64_t>(std::popcount(here_ & made_)); }

  void enter(std::size_t i, Direction direction) noexcept {
    current_ = i;
    direction_ = direction;
  }

  void run(std::size_t i, Direction direction, PacketBatch& packets) noexcept {
    if (packets.empty()) return;
    Stage& stage = *stages[i];
    const bool is_in = direction == Direction::rx;
    const std::uint64_t before = packets.here_;
    const std::size_t keeps = stage.keeps_now();
    const std::size_t allowed = most_kept_ > keeps ? most_kept_ - keeps : 0;
    packets.takes_left_ = allowed;
    enter(i, direction);
    if (is_in)
      stage.plugin->ingate(packets, *this);
    else
      stage.plugin->outgate(packets, *this);

    efio::CounterBlock& counters = is_in ? stage.in : stage.out;
    const auto seen = static_cast<std::uint64_t>(std::popcount(before));
    counters.begin();
    counters.add_in(seen);
    if (packets.here_ == before) [[likely]] {
      counters.add_out(seen);
    } else {
      const auto passed = static_cast<std::uint64_t>(std::popcount(packets.here_));
      const auto dropped = static_cast<std::uint64_t>(std::popcount(packets.dropped_));
      counters.add_out(passed);
      for (std::uint64_t left = packets.dropped_; left != 0; left &= left - 1) {
        const auto index = static_cast<std::size_t>(std::countr_zero(left));
        counters.add_dropped(packets.reasons_[index], 1);
        packets.settle_drop(index, packets.reasons_[index]);
      }
      std::uint64_t& taken = is_in ? stage.taken_in : stage.taken_out;
      counters.set_queued(taken += seen - passed - dropped);
      packets.dropped_ = 0;
      stage.kept.add(allowed - packets.takes_left_);
    }
    counters.end();
    pass_on_staged();
  }

  void run_outgates(std::size_t before, PacketBatch& packets) noexcept {
    for (std::size_t i = before; i-- > 0;) run(i, Direction::tx, packets);
  }

  // What the plugin that has just been at work made or released, slots [passed_, used_), goes through the outgates
  // before it. Those may make more, which this then finds nothing left of: it has come here by itself.
  void pass_on_staged() noexcept {
    if (staged_ == nullptr || passed_ == used_) [[likely]]
      return;
    const std::size_t first = std::exchange(passed_, used_);
    const std::size_t maker = current_;
    const Direction direction = direction_;
    if (maker > 0) {
      ++depth_;
      TxPackets packets(*staged_, first, used_ - first, spares_.get());
      run_outgates(maker, packets);
      here_ |= packets.here_ << first;
      --depth_;
    } else {
      here_ |= PacketBatch::mask(used_ - first) << first;
    }
    enter(maker, direction);
  }

  // Whether there is a claimed slot at used_.
  bool have_slot() noexcept {
    if (used_ < most_) [[likely]]
      return true;
    // A claim of the program's is not ours to commit; of our own, frames may be on their way, and leave first.
    if (staged_ != nullptr && (!claimed_ || depth_ > 0)) return false;
    pass_on_staged();
    commit_staged();
    staged_ = &claimed_.emplace(tx_->claim(PacketBatch::capacity));
    most_ = staged_->size();
    return most_ > 0;
  }

  void commit_staged() noexcept {
    if (!claimed_) [[likely]]
      return;
    TxPackets::commit(*claimed_, used_, here_, made_);
    came_through.add(made_here());
    forget_staged();
  }

  void forget_staged() noexcept {
    claimed_.reset();
    staged_ = nullptr;
    used_ = passed_ = most_ = 0;
    here_ = made_ = 0;
  }

  efio::TxQueue* tx_;
  std::size_t most_kept_;
  std::shared_ptr<efio::Pool> spares_;

  // Handed on inwards, and by which plugin's successor they are to be seen first.
  std::array<efio::Frame, PacketBatch::capacity> inward_;
  std::array<std::size_t, PacketBatch::capacity> inward_from_;
  std::size_t inward_count_ = 0;

  std::size_t current_ = 0;               // the plugin at work
  unsigned depth_ = 0;                    // how many of pass_on_staged() are under way
  std::optional<efio::TxBatch> claimed_;  // our own claim
  efio::TxBatch* staged_ = nullptr;       // that, or one of the program's
  std::size_t most_ = 0;                  // slots of it that may be filled
  std::size_t used_ = 0;                  // slots of it that have been
  std::size_t passed_ = 0;                // of these, handed to outgates
  std::uint64_t here_ = 0;                // of these, came through
  std::uint64_t made_ = 0;                // made, not released
};

std::uint64_t GateStats::total_dropped() const noexcept {
  std::uint64_t sum = 0;
  for (const std::uint64_t n : dropped) sum += n;
  return sum;
}

Pipeline::Pipeline(efio::TxQueue* tx, const PipelineOptions& options)
    : running_(std::make_unique<Running>(tx, options)) {}
Pipeline::Pipeline(Pipeline&&) noexcept = default;
Pipeline& Pipeline::operator=(Pipeline&&) noexcept = default;
Pipeline::~Pipeline() = default;

void Pipeline::add(std::shared_ptr<Plugin> plugin) {
  running_->stages.push_back(std::make_unique<Stage>(std::move(plugin)));
}

efio::Result<void> Pipeline::add(std::string_view text) {
  auto plugin = make_plugin(text);
  if (!plugin) return std::unexpected(std::move(plugin.error()));
  add(std::move(*plugin));
  return {};
}

std::size_t Pipeline::size() const noexcept { return running_->stages.size(); }

void Pipeline::ingate(PacketBatch& packets, std::chrono::nanoseconds now) noexcept { running_->in(packets, now); }
void Pipeline::outgate(PacketBatch& packets, std::chrono::nanoseconds now) noexcept { running_->out(packets, now); }
void Pipeline::outgate(TxPackets& packets, std::chrono::nanoseconds now) noexcept { running_->out(packets, now); }
void Pipeline::tick(std::chrono::nanoseconds now) noexcept { running_->tick(now); }
bool Pipeline::returned(ReturnedPackets& packets, std::chrono::nanoseconds now) noexcept {
  return running_->returned(packets, now);
}

std::uint64_t Pipeline::made() const noexcept { return running_->came_through.get(); }

std::vector<PluginStats> Pipeline::stats() const {
  std::vector<PluginStats> all;
  for (const auto& stage : running_->stages)
    all.push_back({.name = std::string(stage->plugin->name()),
                   .in = gate_stats(stage->in.snapshot()),
                   .out = gate_stats(stage->out.snapshot()),
                   .made = stage->made.get(),
                   .not_made = stage->not_made.get(),
                   .kept = stage->kept.get(),
                   .released = stage->released.get(),
                   .discarded = stage->discarded.get()});
  return all;
}

}  // namespace efnet
