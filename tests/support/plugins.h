#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "efio/port.h"
#include "efnet/plugins/pipeline.h"
#include "tests/support/wire_bytes.h"

// What tests of plugins stand on: a pipe, a plugin of lambdas, and frames in and out.

namespace plugin_test {

using namespace std::chrono_literals;
using wire_test::Bytes;

struct Ends {
  efio::Port near, far;  // the pipeline is at `near`; the test plays the peer at `far`
};

// `which`: of several in one test.
inline Ends open_ends(const std::string& options = "", const std::string& which = "") {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  const std::string name = std::string("pipe:") + test->test_suite_name() + "." + test->name() + which;
  auto near = efio::Port::open(name + "/a" + options);
  auto far = efio::Port::open(name + "/b");
  EXPECT_TRUE(near) << near.error().message();
  EXPECT_TRUE(far) << far.error().message();
  return {std::move(*near), std::move(*far)};
}

class Lambdas final : public efnet::Plugin {
 public:
  using Pass = std::function<void(efnet::PacketBatch&, efnet::Gate&)>;
  explicit Lambdas(Pass in = {}, Pass out = {}, std::function<void(efnet::Gate&)> tick = {})
      : in_(std::move(in)), out_(std::move(out)), tick_(std::move(tick)) {}

  std::string_view name() const noexcept override { return "lambdas"; }
  void ingate(efnet::PacketBatch& packets, efnet::Gate& gate) noexcept override {
    if (in_) in_(packets, gate);
  }
  void outgate(efnet::PacketBatch& packets, efnet::Gate& gate) noexcept override {
    if (out_) out_(packets, gate);
  }
  void tick(efnet::Gate& gate) noexcept override {
    if (tick_) tick_(gate);
  }

 private:
  Pass in_, out_;
  std::function<void(efnet::Gate&)> tick_;
};

inline void send(efio::Port& port, const Bytes& frame) {
  ASSERT_TRUE(port.tx().send(frame));
  port.tx().flush();
}

// `n` frames of 60 bytes whose first byte counts from `first`.
inline void send_numbered(efio::Port& port, std::size_t n, unsigned first = 0) {
  for (std::size_t i = 0; i < n; ++i) {
    Bytes frame(60);
    frame[0] = static_cast<std::byte>(first + i);
    send(port, frame);
  }
}

// All frames that are there, flushed or not yet by the other side.
inline std::vector<Bytes> received(efio::Port& port) {
  std::vector<Bytes> frames;
  for (;;) {
    auto batch = port.rx().receive(64);
    if (batch.empty()) return frames;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      if (i == 0 || !batch[i - 1].has(efio::Slot::more)) frames.emplace_back();
      frames.back().insert(frames.back().end(), batch[i].bytes().begin(), batch[i].bytes().end());
    }
    batch.finish();
  }
}

// The first byte of each.
inline std::vector<int> numbers(const std::vector<Bytes>& frames) {
  std::vector<int> all;
  for (const Bytes& frame : frames) all.push_back(std::to_integer<int>(frame.at(0)));
  return all;
}

inline void expect_balanced(const efio::Port& port) {
  const auto [rx, tx] = port.stats();
  EXPECT_EQ(rx.received + rx.made, rx.delivered + rx.waiting + rx.total_dropped());
  EXPECT_EQ(tx.offered + tx.made, tx.sent + tx.pending + tx.total_dropped());
}

inline void expect_balanced(const efnet::GateStats& gate) {
  EXPECT_EQ(gate.seen, gate.passed + gate.taken + gate.total_dropped());
}

// One round of a program behind a pipeline: what comes in and passes is forwarded back out of the same port.
inline void bounce(efio::Port& port, efnet::Pipeline& pipeline, std::chrono::nanoseconds now = 1s) {
  auto batch = port.rx().receive(efnet::PacketBatch::capacity);
  efnet::RxPackets packets(batch);
  pipeline.ingate(packets, now);
  pipeline.outgate(packets, now);
  efnet::forward(packets, port.tx());
  packets.finish();
  port.tx().flush();
}

// One round that only takes in; returns the first bytes of what passed.
inline std::vector<int> take_in(efio::Port& port, efnet::Pipeline& pipeline, std::chrono::nanoseconds now = 1s) {
  auto batch = port.rx().receive(efnet::PacketBatch::capacity);
  efnet::RxPackets packets(batch);
  pipeline.ingate(packets, now);
  std::vector<int> passed;
  for (const std::size_t i : packets) passed.push_back(std::to_integer<int>(packets.bytes(i)[0]));
  packets.finish();
  port.tx().flush();
  return passed;
}

}  // namespace plugin_test
