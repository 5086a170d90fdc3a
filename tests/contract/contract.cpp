// Which cases are run for which engine, and what they share.
#include <dirent.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iostream>
#include <thread>
#include <utility>

#include "efio/clock.h"
#include "tests/contract/rig.h"
#include "tests/support/privilege.h"

namespace efio::test {

namespace {

// Ends a case whose port does not open; the failure is recorded already.
struct CannotGoOn {};

std::vector<Case> all_cases() {
  std::vector<Case> all;
  for (const auto part : {loan_cases(), forward_cases(), wait_cases(), counter_cases(), life_cases(), link_cases()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

class CaseTest final : public testing::Test {
 public:
  CaseTest(const Engine& engine, const RigRow& row, Case what) : engine_(engine), row_(row), case_(what) {}
  void TestBody() override {
    const auto rig = row_.make();
    const auto lacking = rig->why_not();
    EFIO_REQUIRE(lacking.empty(), lacking);
    try {
      case_.run({engine_, *rig});
    } catch (const CannotGoOn&) {
    }
  }

 private:
  const Engine& engine_;
  const RigRow& row_;
  const Case case_;
};

class NotApplicable final : public testing::Test {
 public:
  NotApplicable(const Engine& engine, std::vector<Case> cases) : engine_(engine), cases_(std::move(cases)) {}
  void TestBody() override {
    for (const auto& what : cases_)
      std::cout << "n/a: " << engine_.scheme << ": " << what.name << ": " << what.not_applicable << "\n";
  }

 private:
  const Engine& engine_;
  const std::vector<Case> cases_;
};

class NotBuilt final : public testing::Test {
 public:
  explicit NotBuilt(const Engine& engine) : engine_(engine) {}
  void TestBody() override { std::cout << "n/a: " << engine_.scheme << ": every case: " << engine_.not_built << "\n"; }

 private:
  const Engine& engine_;
};

class Lacking final : public testing::Test {
 public:
  explicit Lacking(std::string what) : what_(std::move(what)) {}
  void TestBody() override { GTEST_SKIP() << what_; }

 private:
  const std::string what_;
};

class MissingRig final : public testing::Test {
 public:
  explicit MissingRig(const Engine& engine) : engine_(engine) {}
  void TestBody() override {
    FAIL() << "the engine " << engine_.scheme << " has no rig: add tests/contract/rig_" << engine_.scheme
           << ".cpp and its row in rigs.cpp";
  }

 private:
  const Engine& engine_;
};

constexpr std::string_view not_applicable = "WhatDoesNotApplyIsPrinted";

template <class Make>
void add_test(std::string_view engine, std::string_view name, Make make) {
  testing::RegisterTest(std::string(engine).c_str(), std::string(name).c_str(), nullptr, nullptr, __FILE__, __LINE__,
                        [make]() -> testing::Test* { return make(); });
}

bool has_word(std::string_view text, std::string_view word) {
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find(' ', at), text.size());
    if (text.substr(at, end - at) == word) return true;
    at = end + 1;
  }
  return false;
}

std::size_t entries_of(const char* directory) {
  std::size_t count = 0;
  if (DIR* open = ::opendir(directory)) {
    while (::readdir(open) != nullptr) ++count;
    ::closedir(open);
  }
  return count;
}

}  // namespace

bool register_contract(bool privileged) {
  for (const auto& engine : engine_table()) {
    if (engine.open == nullptr) {
      if (!privileged) add_test(engine.scheme, not_applicable, [&engine] { return new NotBuilt(engine); });
      continue;
    }
    if (std::ranges::find(rig_table(), engine.scheme, &RigRow::scheme) == rig_table().end()) {
      if (!privileged) add_test(engine.scheme, "HasARig", [&engine] { return new MissingRig(engine); });
      continue;
    }
    for (const auto& row : rig_table()) {
      if (row.scheme != engine.scheme || row.privileged != privileged) continue;
      const auto suite = row.variant.empty() ? std::string(row.scheme) : std::string(row.scheme) + "_" + std::string(row.variant);
      const auto rig = row.make();
      // One test that says why, instead of all those that would.
      if (const auto lacking = row.promised ? std::string() : rig->why_not(); !lacking.empty()) {
        add_test(suite, "IsThere", [lacking] { return new Lacking(lacking); });
        continue;
      }
      const bool selects = !row.short_run.empty() && !is_long_run();
      std::vector<Case> others;
      for (const auto& what : all_cases()) {
        if (selects && !has_word(row.short_run, what.name)) continue;
        if (what.applies(rig->can(engine.can), *rig))
          add_test(suite, what.name, [&engine, &row, what] { return new CaseTest(engine, row, what); });
        else
          others.push_back(what);
      }
      if (!selects) add_test(suite, not_applicable, [&engine, others] { return new NotApplicable(engine, others); });
    }
  }
  return true;
}

Port Bench::open(Direction direction, std::string_view options, std::shared_ptr<Pool> pool) const {
  auto port = rig.open(options, {.direction = direction, .pool = std::move(pool)});
  if (!port) {
    ADD_FAILURE() << port.error().message();
    throw CannotGoOn();
  }
  return std::move(*port);
}

Port Bench::sending(std::string_view options, std::shared_ptr<Pool> pool) const {
  return open(rig.stored() || !can().rx ? Direction::tx : Direction::both, options, std::move(pool));
}

Port Bench::receiving(const std::vector<Bytes>& frames, std::string_view options, std::shared_ptr<Pool> pool) const {
  const auto put_all_in = [&] {
    for (const auto& frame : frames)
      if (!rig.put_in(frame, 0)) {
        ADD_FAILURE() << "the counterpart could not put a frame in";
        throw CannotGoOn();
      }
  };
  if (rig.stored()) put_all_in();
  Port port = open(rig.stored() || !can().tx ? Direction::rx : Direction::both, options, std::move(pool));
  if (!rig.stored()) put_all_in();
  return port;
}

Bytes make_frame(std::size_t size, unsigned number) {
  constexpr unsigned char header[14] = {0x02, 0xef, 0x10, 0, 0, 1, 0x02, 0xef, 0x10, 0, 0, 2, 0x88, 0xb5};  // local experimental
  Bytes frame(size);
  std::memcpy(frame.data(), header, std::min(size, sizeof header));
  for (std::size_t i = sizeof header; i < size; ++i)
    frame[i] = static_cast<std::byte>(i < 18 ? number >> (8 * (i - 14)) : number + 7 * i);
  return frame;
}

std::vector<Bytes> make_frames(std::size_t count, std::size_t size, unsigned first) {
  std::vector<Bytes> frames;
  for (unsigned i = 0; i < count; ++i) frames.push_back(make_frame(size, first + i));
  return frames;
}

RxBatch receive_patiently(RxQueue& queue, std::size_t n, milliseconds patience) {
  const auto until = Clock::monotonic() + static_cast<std::uint64_t>(patience.count()) * 1'000'000;
  for (;;) {
    auto batch = queue.receive(n);
    if (batch.size() >= n || Clock::monotonic() >= until) return batch;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

void expect_balanced(const PortStats& stats) {
  const auto& [rx, tx] = stats;
  EXPECT_EQ(rx.received + rx.made, rx.delivered + rx.waiting + rx.total_dropped());
  EXPECT_EQ(tx.offered + tx.made, tx.sent + tx.pending + tx.total_dropped());
}

Holdings Holdings::now() {
  Holdings held;
  held.descriptors = entries_of("/proc/self/fd");
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) ++held.mappings;
  held.heap_bytes = ::mallinfo2().uordblks;
  return held;
}

bool is_debug_build() {
#ifdef EFIO_DEBUG
  return true;
#else
  return false;
#endif
}

}  // namespace efio::test
