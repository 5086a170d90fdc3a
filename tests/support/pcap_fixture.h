// What the tests of pcap: share: files in a directory of the test's own, opened to be read or written.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "efio/port.h"
#include "tests/support/capture_bytes.h"
#include "tests/support/directory.h"

namespace efio::test {

class Pcap : public testing::Test {
 protected:
  const Directory directory_{"efio_pcap"};

  std::string file(const std::string& name) const { return directory_.file(name); }
  Result<Port> read(const std::string& name, const std::string& options = "") const {
    return Port::open("pcap:" + file(name) + options, {.direction = Direction::rx});
  }
  Result<Port> write(const std::string& name, const std::string& options = "") const {
    return Port::open("pcap:" + file(name) + options, {.direction = Direction::tx});
  }
};

struct Got {
  std::string bytes;
  std::uint64_t time;
  TimeSource source;
};

// Receives in odd-sized batches until nothing comes.
inline std::vector<Got> receive_all(RxQueue& queue) {
  std::vector<Got> all;
  for (;;) {
    auto batch = queue.receive(1 + all.size() % 70);
    if (batch.empty()) return all;
    for (const auto& slot : batch) {
      const auto bytes = slot.bytes();
      all.push_back({std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), slot.time, slot.time_source()});
    }
    batch.finish();
  }
}

inline void send_one(TxQueue& queue, const std::string& frame, std::uint64_t time = 0) {
  auto batch = queue.claim(1);
  ASSERT_EQ(batch.size(), 1U);
  std::memcpy(batch.space(0).data(), frame.data(), frame.size());
  batch[0].length = static_cast<std::uint32_t>(frame.size());
  if (time != 0) batch[0].stamp(time, TimeSource::kernel);
  ASSERT_EQ(batch.commit(), 1U);
}

inline std::uint64_t dropped(const DropCounts& counts, DropReason reason) { return counts[static_cast<std::size_t>(reason)]; }

inline void expect_balanced(const Port& port) {
  const auto [rx, tx] = port.stats();
  EXPECT_EQ(rx.received + rx.made, rx.delivered + rx.waiting + rx.total_dropped());
  EXPECT_EQ(tx.offered + tx.made, tx.sent + tx.pending + tx.total_dropped());
}

inline CaptureBytes three_frames() {
  CaptureBytes file;
  file.file_header();
  for (unsigned i = 0; i < 3; ++i) file.record(100, i * 20'000'000, captured_frame(60, i));
  return file;
}

}  // namespace efio::test
