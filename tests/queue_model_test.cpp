// Queues against a slow, obvious model: random claims, commits, flushes, receives, finishes, drops, takes, puts, forwards
// and reopenings over several pipes, of frames of one to four slots. After every step each byte and each counter is what
// the model says.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <deque>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "efio/forward.h"
#include "efio/port.h"
#include "tests/support/privilege.h"

namespace {

using efio::Direction;
using efio::DropReason;
using efio::Port;
using efio::Slot;

struct ModelSlot {
  std::uint32_t id = 0;
  std::uint32_t length = 0;
  bool more = false, moved = false, dropped = false;
  bool marked() const { return moved || dropped; }
};

std::size_t whole(const std::deque<ModelSlot>& slots, std::size_t n) {
  while (n > 0 && slots[n - 1].more) --n;
  return n;
}

void write(Slot& slot, const ModelSlot& what) {
  slot.length = what.length;
  for (std::uint32_t i = 0; i < what.length; ++i) slot.bytes()[i] = static_cast<std::byte>(what.id * 31 + i);
  if (what.more) slot.flags = static_cast<std::uint16_t>(slot.flags | Slot::more);
}

void expect_holds(const std::span<std::byte>& bytes, const ModelSlot& what) {
  ASSERT_EQ(bytes.size(), what.length);
  for (std::uint32_t i = 0; i < what.length; ++i)
    ASSERT_EQ(bytes[i], static_cast<std::byte>(what.id * 31 + i)) << "slot " << what.id << " byte " << i;
}

// One direction of a pipe: what its sender has committed and its receiver has not finished.
struct Lane {
  std::string name;
  std::shared_ptr<efio::Pool> pool;
  std::size_t capacity = 0;
  std::optional<Port> out, in;
  std::deque<ModelSlot> pending, published;
  std::uint64_t offered = 0, made = 0, sent = 0, sent_bytes = 0, oversize = 0;     // since `out` was opened
  std::uint64_t delivered = 0, delivered_bytes = 0, given_up = 0;                  // since `in` was opened

  std::size_t free() { return out->tx().ring_size() - pending.size() - published.size(); }
  static std::uint64_t frames(const std::deque<ModelSlot>& slots) {
    std::uint64_t n = 0;
    for (const auto& slot : slots) n += slot.more ? 0 : 1;
    return n;
  }

  void open_out() {
    auto port = Port::open("pipe:" + name + "/a", {.direction = Direction::tx, .pool = pool});
    ASSERT_TRUE(port) << port.error().message();
    out.emplace(std::move(*port));
    offered = made = sent = sent_bytes = oversize = 0;
  }
  void open_in() {
    auto port = Port::open("pipe:" + name + "/b", {.direction = Direction::rx, .pool = pool});
    ASSERT_TRUE(port) << port.error().message();
    in.emplace(std::move(*port));
    delivered = delivered_bytes = given_up = 0;
  }

  void flushed() {
    for (const auto& slot : pending) {
      sent += slot.more ? 0 : 1;
      sent_bytes += slot.length;
      published.push_back(slot);
    }
    pending.clear();
  }
  void finished(std::size_t n) {
    for (; n > 0; --n) {
      const auto& slot = published.front();
      if (!slot.dropped) {
        delivered += slot.more ? 0 : 1;
        delivered_bytes += slot.length;
      }
      published.pop_front();
    }
  }

  void check() const {
    const auto tx = out->stats().tx;
    EXPECT_EQ(tx.offered, offered);
    EXPECT_EQ(tx.made, made);
    EXPECT_EQ(tx.sent, sent);
    EXPECT_EQ(tx.bytes, sent_bytes);
    EXPECT_EQ(tx.pending, frames(pending));
    EXPECT_EQ(tx.total_dropped(), oversize);
    EXPECT_EQ(tx.offered + tx.made, tx.sent + tx.pending + tx.total_dropped());
    const auto rx = in->stats().rx;
    EXPECT_EQ(rx.delivered, delivered);
    EXPECT_EQ(rx.bytes, delivered_bytes);
    EXPECT_EQ(rx.total_dropped(), given_up);
    EXPECT_EQ(rx.received + rx.made, rx.delivered + rx.waiting + rx.total_dropped());
  }
};

class Model {
 public:
  explicit Model(unsigned seed) : random_(seed) {
    auto pool = efio::Pool::create({.frames = 0});
    auto small = efio::Pool::create({.frame_size = 512, .frames = 0});
    for (int i = 0; i < 4; ++i) {
      Lane& lane = lanes_[static_cast<std::size_t>(i)];
      lane.name = "model" + std::to_string(seed) + "n" + std::to_string(i);
      lane.pool = i == 3 ? *small : *pool;
      auto first = Port::open("pipe:" + lane.name + "/a?ring=128", {.direction = Direction::tx, .pool = lane.pool});
      EXPECT_TRUE(first);
      lane.out.emplace(std::move(*first));
      lane.open_in();
      lane.capacity = lane.out->tx().capacity();
    }
  }

  void run(int steps) {
    for (int step = 0; step < steps && !testing::Test::HasFailure(); ++step) {
      one_step();
      for (const auto& lane : lanes_) lane.check();
      if (testing::Test::HasFailure()) ADD_FAILURE() << "in step " << step << ": " << last_;
    }
  }

  // Everything home.
  void finish() {
    kept_.clear();
    std::set<std::shared_ptr<efio::Pool>> pools;
    for (auto& lane : lanes_) {
      lane.in.reset(), lane.out.reset();
      pools.insert(std::move(lane.pool));
    }
    for (const auto& pool : pools) EXPECT_EQ(pool->unused(), pool->frames());
  }

 private:
  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_); }
  Lane& any() { return lanes_[below(lanes_.size())]; }

  void one_step() {
    static constexpr std::array<std::pair<const char*, void (Model::*)()>, 8> actions = {{
        {"send", &Model::send}, {"send", &Model::send}, {"flush", &Model::flush}, {"receive", &Model::receive},
        {"forward", &Model::forward}, {"forward chosen", &Model::forward_chosen}, {"put", &Model::put},
        {"reopen", &Model::reopen}}};
    const auto& [name, action] = actions[below(7) + (below(40) == 0 ? 1 : 0)];
    last_ = name;
    (this->*action)();
  }

  void send() {
    Lane& lane = any();
    auto& tx = lane.out->tx();
    const auto want = 1 + below(below(4) == 0 ? 200 : 20);
    auto batch = tx.claim(want);
    ASSERT_EQ(batch.size(), std::min(want, lane.free()));
    std::deque<ModelSlot> made;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      ModelSlot slot{.id = ++last_id_, .length = 14 + static_cast<std::uint32_t>(below(below(8) == 0 ? lane.capacity - 13 : 100))};
      slot.more = fragments_ && below(5) == 0;
      write(batch[i], slot);
      made.push_back(slot);
    }
    if (batch.empty()) return;
    for (int part = 0; part < 2; ++part) {  // in two parts; what is left is abandoned
      const auto n = below(made.size() + 1);
      const bool as_made = below(4) == 0;
      const auto expected = whole(made, n);
      ASSERT_EQ(as_made ? batch.commit_made(n) : batch.commit(n), expected);
      for (std::size_t i = 0; i < expected; ++i) {
        if (!made.front().more) ++(as_made ? lane.made : lane.offered);
        lane.pending.push_back(made.front());
        made.pop_front();
      }
      ASSERT_EQ(batch.size(), made.size());
    }
  }

  void flush() {
    Lane& lane = any();
    ASSERT_EQ(lane.out->tx().flush(), Lane::frames(lane.pending));
    lane.flushed();
  }

  efio::RxBatch lend(Lane& lane) {
    const auto want = 1 + below(150);
    auto batch = lane.in->rx().receive(want);
    EXPECT_EQ(batch.size(), whole(lane.published, std::min(want, lane.published.size())));
    std::set<std::uint64_t> frames;
    for (std::size_t i = 0; i < batch.size() && !testing::Test::HasFailure(); ++i) {
      const auto& slot = lane.published[i];
      EXPECT_EQ(batch[i].has(Slot::more), slot.more);
      EXPECT_EQ(batch[i].has(Slot::moved), slot.moved);
      EXPECT_EQ(batch[i].has(Slot::dropped), slot.dropped);
      EXPECT_TRUE(frames.insert(batch[i].frame).second) << "two slots of one frame";
      if (!slot.moved) expect_holds(batch[i].bytes(), slot);
    }
    return batch;
  }

  // The first slots of the batch's frames.
  static std::vector<std::uint32_t> starts(const Lane& lane, std::size_t size) {
    std::vector<std::uint32_t> first;
    for (std::size_t i = 0; i < size; ++i)
      if (i == 0 || !lane.published[i - 1].more) first.push_back(static_cast<std::uint32_t>(i));
    return first;
  }
  static std::size_t frame_size(const Lane& lane, std::size_t i) {
    std::size_t n = 1;
    while (lane.published[i + n - 1].more) ++n;
    return n;
  }

  void receive() {
    Lane& lane = any();
    auto batch = lend(lane);
    if (batch.empty() || testing::Test::HasFailure()) return;
    for (const auto i : starts(lane, batch.size())) {
      if (below(6) == 0) {
        batch.drop(i, DropReason::filtered);
        if (!lane.published[i].marked()) {
          for (std::size_t k = 0; k < frame_size(lane, i); ++k) lane.published[i + k].dropped = true;
          ++lane.given_up;
        }
      } else if (below(10) == 0) {
        auto frame = batch.take(i);
        const auto& slot = lane.published[i];
        ASSERT_EQ(frame.has_value(), !slot.marked() && !slot.more);
        if (frame) {
          expect_holds(frame->bytes(), slot);
          kept_.emplace_back(std::move(*frame), slot);
          lane.published[i].moved = true;
        }
      }
    }
    batch.drop(batch.size(), DropReason::filtered);  // nothing, as the next is where it is the middle of a frame
    if (const auto i = below(batch.size()); i > 0 && lane.published[i - 1].more) batch.drop(i, DropReason::filtered);
    const auto n = below(batch.size() + 1);
    const auto expected = whole(lane.published, n);
    ASSERT_EQ(batch.finish(n), expected);
    lane.finished(expected);
  }

  // Moves the frame that starts at i, as forward() does. False: no room.
  static bool move(Lane& from, std::size_t i, Lane& to) {
    const auto n = frame_size(from, i);
    const bool swap = from.pool == to.pool;
    for (std::size_t k = 0; k < n && !swap; ++k)
      if (from.published[i + k].length > to.capacity) {
        ++to.offered, ++to.oversize;
        return true;
      }
    if (to.free() < n) return false;
    for (std::size_t k = 0; k < n; ++k) to.pending.push_back(from.published[i + k]);
    ++to.offered;
    return true;
  }

  void forward() {
    Lane& from = any();
    Lane& to = any();
    if (&from == &to) return;
    auto batch = lend(from);
    std::size_t done = 0;
    while (done < batch.size()) {
      const auto n = frame_size(from, done);
      if (!from.published[done].marked() && !move(from, done, to)) break;
      done += n;
    }
    const auto size = batch.size();
    ASSERT_EQ(efio::forward(batch, to.out->tx()), done);
    ASSERT_EQ(batch.size(), size - done);
    from.finished(done);
  }

  void forward_chosen() {
    Lane& from = any();
    Lane& to = any();
    if (&from == &to) return;
    auto batch = lend(from);
    if (testing::Test::HasFailure()) return;
    std::vector<std::uint32_t> chosen;
    for (const auto i : starts(from, batch.size()))
      if (below(3) == 0 && !from.published[i].marked()) chosen.push_back(i);
    if (below(4) == 0) chosen.push_back(static_cast<std::uint32_t>(batch.size() + below(2)));  // stops there
    std::size_t went = 0;
    for (const auto i : chosen) {
      if (i >= batch.size()) break;
      if (!move(from, i, to)) break;
      for (std::size_t k = 0; k < frame_size(from, i); ++k) from.published[i + k].moved = true;
      ++went;
    }
    ASSERT_EQ(efio::forward(batch, chosen, to.out->tx()), went);
    const auto n = below(batch.size() + 1);
    const auto expected = whole(from.published, n);
    ASSERT_EQ(batch.finish(n), expected);
    from.finished(expected);
  }

  void put() {
    if (kept_.size() > 50) kept_.resize(30);
    if (kept_.empty()) return;
    auto& [frame, slot] = kept_[below(kept_.size())];
    expect_holds(frame.bytes(), slot);
    Lane& lane = any();
    const bool expected = lane.free() > 0 && (frame.pool() == lane.out->tx().pool() || slot.length <= lane.capacity);
    ASSERT_EQ(lane.out->tx().put(frame), expected);
    ASSERT_EQ(static_cast<bool>(frame), !expected);
    if (!expected) return;
    lane.pending.push_back(slot);
    ++lane.offered;
    std::erase_if(kept_, [](const auto& entry) { return !entry.first; });
  }

  // One end is closed, with whatever it has queued, lent and marked, and opened again.
  void reopen() {
    Lane& lane = any();
    if (below(2) == 0) {
      lane.out->tx().claim(5);
      ASSERT_TRUE(lane.out->close());
      lane.flushed();
      EXPECT_EQ(lane.out->stats().tx.sent, lane.sent);
      lane.open_out();
    } else {
      ASSERT_TRUE(lane.in->close());
      std::uint64_t moved = 0;
      for (const auto& slot : lane.published) moved += slot.moved && !slot.more ? 1 : 0;
      EXPECT_EQ(lane.in->stats().rx.delivered, lane.delivered + moved);
      std::erase_if(lane.published, [](const auto& slot) { return slot.marked(); });
      lane.open_in();
    }
  }

 public:
  bool fragments_ = true;

 private:
  std::mt19937 random_;
  std::array<Lane, 4> lanes_;
  std::vector<std::pair<efio::Frame, ModelSlot>> kept_;
  std::uint32_t last_id_ = 0;
  const char* last_ = "";
};

TEST(QueueModel, QueuesDoWhatTheModelSays) {
  const unsigned seeds = efio::test::is_long_run() ? 500 : 5;
  for (unsigned seed = 1; seed <= seeds && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Model model(seed);
    model.fragments_ = seed % 2 == 0;
    model.run(4000);
    model.finish();
  }
}

}  // namespace
