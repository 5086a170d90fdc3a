// The pcap engine: writing, rotation, and full disks.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <thread>
#include <utility>

#include "efio/clock.h"
#include "efio/forward.h"
#include "tests/support/pcap_fixture.h"
#include "tests/support/privilege.h"

namespace {

using namespace efio::test;
using efio::Direction;
using efio::DropReason;
using efio::Port;

TEST_F(Pcap, AFrameIsSentWhenFlushHasWrittenIt) {
  auto port = write("flush.pcap");
  const auto size = [&] { return std::filesystem::file_size(file("flush.pcap")); };
  EXPECT_EQ(size(), 24U);
  send_one(port->tx(), captured_frame(60, 1));
  EXPECT_EQ(size(), 24U);
  EXPECT_EQ(port->stats().tx.pending, 1U);
  EXPECT_EQ(port->tx().flush(), 1U);
  EXPECT_EQ(size(), 100U);
  EXPECT_EQ(port->stats().tx.sent, 1U);
  EXPECT_EQ(port->tx().flush(), 0U);
  send_one(port->tx(), captured_frame(13, 1));
  send_one(port->tx(), captured_frame(60, 1));
  EXPECT_EQ(port->tx().flush(), 1U);
  EXPECT_EQ(dropped(port->stats().tx.dropped, DropReason::undersize), 1U);
  expect_balanced(*port);
  const auto before = efio::Clock::now();
  send_one(port->tx(), captured_frame(60, 2));
  ASSERT_TRUE(port->close().has_value()) << "closing flushes";
  auto in = read("flush.pcap");
  const auto got = receive_all(in->rx());
  ASSERT_EQ(got.size(), 3U);
  EXPECT_NEAR(static_cast<double>(got[2].time), static_cast<double>(before), 5e9) << "a fresh slot has the clock's time";
}

TEST_F(Pcap, AFrameOfSeveralSlotsIsOneRecord) {
  auto port = write("long.pcapng");
  auto batch = port->tx().claim(3);
  std::string whole;
  for (unsigned i = 0; i < 3; ++i) {
    const auto piece = captured_frame(1000, i);
    whole += piece;
    std::memcpy(batch.space(i).data(), piece.data(), piece.size());
    batch[i].length = 1000;
    if (i < 2) batch[i].flags |= efio::Slot::more;
  }
  EXPECT_EQ(batch.commit(), 3U);
  send_one(port->tx(), captured_frame(60, 7));
  EXPECT_EQ(port->tx().flush(), 2U);
  ASSERT_TRUE(port->close().has_value());
  auto in = read("long.pcapng", "?frame=4000");
  const auto got = receive_all(in->rx());
  ASSERT_EQ(got.size(), 2U);
  EXPECT_EQ(got[0].bytes, whole);
}

TEST_F(Pcap, ASlotThatClaimsMoreThanItsMemoryIsNotWritten) {
  auto port = write("bad.pcap");
  auto batch = port->tx().claim(3);
  ASSERT_EQ(batch.size(), 3U);
  for (auto& slot : batch) slot.length = 60;
  batch[1].length = 1'000'000;
  EXPECT_EQ(batch.commit(), 3U);
  EXPECT_EQ(port->tx().flush(), 2U);
  EXPECT_EQ(dropped(port->stats().tx.dropped, DropReason::oversize), 1U);
  expect_balanced(*port);
  ASSERT_TRUE(port->close().has_value());
  auto in = read("bad.pcap");
  EXPECT_EQ(receive_all(in->rx()).size(), 2U);
}

TEST_F(Pcap, ForwardingBetweenAFileAndAPipeSwaps) {
  three_frames().write_to(file("in.pcap"));
  auto in = read("in.pcap");
  auto out = write("out.pcapng");
  auto a = Port::open("pipe:pcap_swap"), b = Port::open("pipe:pcap_swap");
  ASSERT_TRUE(in && out && a && b);
  EXPECT_TRUE(efio::forwards_by_swap(in->rx(), a->tx()));
  EXPECT_TRUE(efio::forwards_by_swap(b->rx(), out->tx()));
  auto batch = in->rx().receive(8);
  EXPECT_EQ(efio::forward(batch, a->tx()), 3U);
  a->tx().flush();
  batch = b->rx().receive(8);
  EXPECT_EQ(efio::forward(batch, out->tx()), 3U);
  ASSERT_TRUE(out->close().has_value());
  auto again = read("out.pcapng");
  const auto got = receive_all(again->rx());
  ASSERT_EQ(got.size(), 3U);
  for (unsigned i = 0; i < 3; ++i) {
    EXPECT_EQ(got[i].bytes, captured_frame(60, i));
    EXPECT_EQ(got[i].time, 100'000'000'000 + i * 20'000'000);
  }
}

TEST_F(Pcap, SnaplenCutsWhatIsWritten) {
  for (const std::string name : {"snap.pcap", "snap.pcapng"}) {
    auto out = write(name, "?snaplen=50");
    ASSERT_TRUE(out) << out.error().message();
    send_one(out->tx(), captured_frame(60, 1));
    send_one(out->tx(), captured_frame(50, 2));
    ASSERT_TRUE(out->close().has_value());
    EXPECT_EQ(out->stats().tx.bytes, 110U);
    auto strict = read(name);
    EXPECT_EQ(receive_all(strict->rx()).size(), 1U);
    auto lenient = read(name, "?truncated=pass");
    EXPECT_EQ(receive_all(lenient->rx()).at(0).bytes, captured_frame(60, 1).substr(0, 50));
  }
}

TEST_F(Pcap, RotatesByWholeFiles) {
  for (const std::string name : {"turn.pcap", "turn.pcapng"}) {
    auto out = write(name, "?rotate=4096");
    ASSERT_TRUE(out) << out.error().message();
    for (unsigned i = 0; i < 200; ++i) {
      ASSERT_NO_FATAL_FAILURE(send_one(out->tx(), captured_frame(60 + i, i)));
      if (i % 30 == 0) out->tx().flush();
    }
    ASSERT_TRUE(out->close().has_value());
    EXPECT_EQ(out->stats().tx.sent, 200U);
    unsigned next = 0, files = 0;
    for (;; ++files) {
      const auto part = files == 0 ? name : name + "." + std::to_string(files);
      if (!std::filesystem::exists(file(part))) break;
      EXPECT_LE(std::filesystem::file_size(file(part)), 4096U);
      auto in = read(part);
      ASSERT_TRUE(in) << in.error().message();
      for (const auto& got : receive_all(in->rx())) {
        ASSERT_EQ(got.bytes, captured_frame(60 + next, next));
        ++next;
      }
      EXPECT_TRUE(in->rx().exhausted());
    }
    EXPECT_EQ(next, 200U);
    EXPECT_GE(files, 8U);
  }
  EXPECT_EQ(Port::open("pcap:-?rotate=4096", {.direction = Direction::tx}).error().kind, efio::Error::Kind::usage);
}

TEST_F(Pcap, ASecondWriterIsRefusedAndTheFileUnharmed) {
  auto first = write("mine.pcap");
  send_one(first->tx(), captured_frame(60, 1));
  first->tx().flush();
  auto second = write("mine.pcap");
  ASSERT_FALSE(second.has_value());
  EXPECT_NE(second.error().message().find("another writer has it open"), std::string::npos);
  EXPECT_EQ(std::filesystem::file_size(file("mine.pcap")), 100U);
  ASSERT_TRUE(first->close().has_value());
  auto third = write("mine.pcap");
  ASSERT_TRUE(third.has_value());
  EXPECT_EQ(std::filesystem::file_size(file("mine.pcap")), 24U) << "an earlier file is replaced";
}

// No file of this process may grow beyond so many bytes (0: any); writes then fail with EFBIG. A pool is a file, too.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    if (bytes == 0 || ::getrlimit(RLIMIT_FSIZE, &before_) != 0) return;
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    set_ = ::setrlimit(RLIMIT_FSIZE, &limit) == 0;
  }
  ~FileSizeLimit() { lift(); }
  void lift() {
    if (!std::exchange(set_, false)) return;
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int) = SIG_DFL;
  bool set_ = false;
};

// What each way of being full has in common: every frame is in the file or counted, the file is whole, close() tells.
void fill_up(const std::string& path, std::size_t frames, rlim_t limit = 0) {
  auto port = Port::open("pcap:" + path, {.direction = Direction::tx});
  ASSERT_TRUE(port) << port.error().message();
  FileSizeLimit file_size(limit);
  std::uint64_t committed = 0;
  while (committed < frames && !port->tx().failed()) {
    auto batch = port->tx().claim(50);
    ASSERT_EQ(batch.size(), 50U);
    for (auto& slot : batch) {
      const auto frame = captured_frame(1000, static_cast<unsigned>(committed++));
      std::memcpy(slot.buffer + slot.offset, frame.data(), frame.size());
      slot.length = 1000;
    }
    batch.commit();
    port->tx().flush();
    expect_balanced(*port);
  }
  ASSERT_TRUE(port->tx().failed());
  EXPECT_EQ(port->tx().claim(1).size(), 0U);
  const auto closed = port->close();
  ASSERT_FALSE(closed.has_value());
  EXPECT_NE(closed.error().message().find(path), std::string::npos) << closed.error().message();
  const auto tx = port->stats().tx;
  EXPECT_EQ(tx.offered, committed);
  EXPECT_EQ(tx.pending, 0U);
  EXPECT_EQ(tx.sent + dropped(tx.dropped, DropReason::write_failed), committed);
  EXPECT_GT(dropped(tx.dropped, DropReason::write_failed), 0U);
  file_size.lift();

  auto in = Port::open("pcap:" + path, {.direction = Direction::rx});
  ASSERT_TRUE(in) << in.error().message();
  const auto got = receive_all(in->rx());
  EXPECT_EQ(got.size(), tx.sent);
  EXPECT_TRUE(in->rx().exhausted()) << "the file ends with a whole record";
  for (unsigned i = 0; i < got.size(); ++i) ASSERT_EQ(got[i].bytes, captured_frame(1000, i));
}

TEST_F(Pcap, AFileSizeLimitLosesNoFrameUncounted) {
  fill_up(file("limited.pcap"), 1000, 100'000);
  fill_up(file("limited.pcapng"), 1000, 100'000);
}

// A file system of 256 KiB in a mount namespace of this thread's own.
TEST_F(Pcap, AFullDiskLosesNoFrameUncounted) {
  EFIO_REQUIRE_ROOT();
  bool mounted = false;
  std::thread([&] {
    if (::unshare(CLONE_NEWNS | CLONE_FS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return;
    mounted = ::mount("none", file("").c_str(), "tmpfs", 0, "size=256k") == 0;
    if (!mounted) return;
    fill_up(file("full.pcap"), 1000);
    const auto none = write("none.pcap");
    EXPECT_TRUE(!none && none.error().os == ENOSPC);
    EXPECT_FALSE(std::filesystem::exists(file("none.pcap")));
    ::unlink(file("full.pcap").c_str());
    fill_up(file("full.pcapng"), 1000);
  }).join();
  EFIO_REQUIRE(mounted, "cannot mount in a namespace");
}

TEST_F(Pcap, AnOpenThatCannotWriteTheHeaderLeavesNoFile) {
  const auto pool = efio::Pool::create({.frames = 2000});
  ASSERT_TRUE(pool.has_value());
  {
    const FileSizeLimit limit(10);
    const auto port = Port::open("pcap:" + file("never.pcap"), {.direction = Direction::tx, .pool = *pool});
    EXPECT_TRUE(!port && port.error().os == EFBIG);
  }
  EXPECT_FALSE(std::filesystem::exists(file("never.pcap")));
}

}  // namespace
