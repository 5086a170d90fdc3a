// The pcap engine: reading, pacing, writing, rotation, and what goes wrong with files.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>

#include "efio/clock.h"
#include "efio/descriptor.h"
#include "efio/forward.h"
#include "efio/poller.h"
#include "efio/port.h"
#include "tests/support/capture_bytes.h"
#include "tests/support/directory.h"
#include "tests/support/privilege.h"

namespace {

using efio::Direction;
using efio::DropReason;
using efio::Port;
using efio::TimeSource;
using efio::test::captured_frame;
using efio::test::CaptureBytes;
using std::chrono::milliseconds;

class Pcap : public testing::Test {
 protected:
  const efio::test::Directory directory_{"efio_pcap"};

  std::string file(const std::string& name) const { return directory_.file(name); }
  efio::Result<Port> read(const std::string& name, const std::string& options = "") const {
    return Port::open("pcap:" + file(name) + options, {.direction = Direction::rx});
  }
  efio::Result<Port> write(const std::string& name, const std::string& options = "") const {
    return Port::open("pcap:" + file(name) + options, {.direction = Direction::tx});
  }
};

struct Got {
  std::string bytes;
  std::uint64_t time;
  TimeSource source;
};

// Receives in odd-sized batches until nothing comes.
std::vector<Got> receive_all(efio::RxQueue& queue) {
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

void send_one(efio::TxQueue& queue, const std::string& frame, std::uint64_t time = 0) {
  auto batch = queue.claim(1);
  ASSERT_EQ(batch.size(), 1U);
  std::memcpy(batch.space(0).data(), frame.data(), frame.size());
  batch[0].length = static_cast<std::uint32_t>(frame.size());
  if (time != 0) batch[0].stamp(time, TimeSource::kernel);
  ASSERT_EQ(batch.commit(), 1U);
}

std::uint64_t dropped(const efio::DropCounts& counts, DropReason reason) { return counts[static_cast<std::size_t>(reason)]; }

void expect_balanced(const Port& port) {
  const auto [rx, tx] = port.stats();
  EXPECT_EQ(rx.received + rx.made, rx.delivered + rx.waiting + rx.total_dropped());
  EXPECT_EQ(tx.offered + tx.made, tx.sent + tx.pending + tx.total_dropped());
}

CaptureBytes three_frames() {
  CaptureBytes file;
  file.file_header();
  for (unsigned i = 0; i < 3; ++i) file.record(100, i * 20'000'000, captured_frame(60, i));
  return file;
}

TEST_F(Pcap, WhatIsWrittenIsReadWithItsNanoseconds) {
  for (const std::string name : {"a.pcap", "a.pcapng"}) {
    std::vector<Got> sent;
    auto out = write(name);
    ASSERT_TRUE(out) << out.error().message();
    for (std::size_t size = 14; size <= 1514; size += size < 100 ? 1 : 47)
      sent.push_back({captured_frame(size, static_cast<unsigned>(size)), 1'700'000'000'123'456'789 + size * 1'000'000'001, {}});
    sent.push_back({captured_frame(out->info().frame_size, 1), 4'000'000'000'000'000'000, {}});
    for (const auto& frame : sent) {
      ASSERT_NO_FATAL_FAILURE(send_one(out->tx(), frame.bytes, frame.time));
      if (frame.bytes.size() % 5 == 0) out->tx().flush();
    }
    ASSERT_TRUE(out->close().has_value());
    EXPECT_EQ(out->stats().tx.sent, sent.size());
    EXPECT_EQ(out->info().mode, name == "a.pcap" ? "write pcap" : "write pcapng");

    auto in = read(name);
    ASSERT_TRUE(in) << in.error().message();
    EXPECT_EQ(in->info().mode, name == "a.pcap" ? "read pcap, full speed" : "read pcapng, full speed");
    EXPECT_FALSE(in->rx().exhausted());
    const auto got = receive_all(in->rx());
    ASSERT_EQ(got.size(), sent.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].bytes, sent[i].bytes);
      EXPECT_EQ(got[i].time, sent[i].time);
      EXPECT_EQ(got[i].source, TimeSource::kernel);
    }
    EXPECT_TRUE(in->rx().exhausted());
    EXPECT_TRUE(in->rx().status().has_value());
    EXPECT_EQ(in->stats().rx.bytes, out->stats().tx.bytes);
    expect_balanced(*in);
  }
}

TEST_F(Pcap, TheEndIsTheEndOnlyWhenAllIsFinished) {
  three_frames().write_to(file("end.pcap"));
  auto port = read("end.pcap");
  auto batch = port->rx().receive(100);
  EXPECT_EQ(batch.size(), 3U);
  EXPECT_EQ(port->rx().receive(100).size(), 3U);
  EXPECT_FALSE(port->rx().exhausted()) << "three frames are not finished";
  port->rx().receive(100).finish();
  EXPECT_EQ(port->rx().receive(100).size(), 0U);
  EXPECT_TRUE(port->rx().exhausted());
  auto poller = efio::Poller::create();
  ASSERT_TRUE(poller->add(port->rx()).has_value());
  EXPECT_EQ(poller->wait(std::chrono::seconds(5)).size(), 1U) << "the end is something to wake for";
}

TEST_F(Pcap, AFileWithoutFramesIsAtItsEndAtOnce) {
  CaptureBytes().file_header().write_to(file("none.pcap"));
  auto port = read("none.pcap", "?loop=0");
  ASSERT_TRUE(port) << port.error().message();
  EXPECT_EQ(port->rx().receive(8).size(), 0U);
  EXPECT_TRUE(port->rx().exhausted());
}

TEST_F(Pcap, FramesThatCannotBeLentAreCounted) {
  CaptureBytes bytes;
  bytes.section().interface(1).interface(113).interface(1, 40);
  bytes.packet(0, 1'000, captured_frame(60, 1)).packet(1, 2'000, captured_frame(60, 2)).packet(0, 3'000, captured_frame(1921, 3));
  bytes.packet(0, 4'000, captured_frame(40, 4), 60).packet(0, 5'000, captured_frame(13, 5)).packet(0, 6'000, captured_frame(1920, 6));
  bytes.write_to(file("mixed.pcapng"));
  auto port = read("mixed.pcapng");
  ASSERT_TRUE(port) << port.error().message();
  const auto got = receive_all(port->rx());
  ASSERT_EQ(got.size(), 2U);
  EXPECT_EQ(got[0].time, 1'000'000U);
  EXPECT_EQ(got[1].bytes, captured_frame(1920, 6));
  const auto rx = port->stats().rx;
  EXPECT_EQ(rx.received, 6U);
  EXPECT_EQ(rx.delivered, 2U);
  EXPECT_EQ(dropped(rx.dropped, DropReason::link_type), 1U);
  EXPECT_EQ(dropped(rx.dropped, DropReason::oversize), 1U);
  EXPECT_EQ(dropped(rx.dropped, DropReason::truncated), 1U);
  EXPECT_EQ(dropped(rx.dropped, DropReason::undersize), 1U);
  expect_balanced(*port);

  auto lenient = read("mixed.pcapng", "?truncated=pass&frame=4096");
  ASSERT_TRUE(lenient) << lenient.error().message();
  EXPECT_EQ(receive_all(lenient->rx()).size(), 4U);
}

TEST_F(Pcap, APacketWithoutATimeGetsTheClocks) {
  CaptureBytes bytes;
  bytes.section().interface().block(3, bytes.body().u32(60).data(captured_frame(60, 1)));
  bytes.write_to(file("simple.pcapng"));
  const auto before = efio::Clock::now();
  auto port = read("simple.pcapng");
  const auto got = receive_all(port->rx());
  ASSERT_EQ(got.size(), 1U);
  EXPECT_EQ(got[0].source, TimeSource::clock);
  EXPECT_GE(got[0].time, before);
}

TEST_F(Pcap, WhatIsNoCaptureOfEthernetIsRefusedAtOpen) {
  const auto message = [&](const std::string& name) {
    auto port = read(name);
    if (port) return std::string("opened");
    EXPECT_EQ(port.error().kind, efio::Error::Kind::data);
    const auto text = port.error().message();
    EXPECT_NE(text.find(file(name)), std::string::npos) << text;
    return text;
  };
  CaptureBytes().file_header(0xa1b2c3d4, 113).record(1, 1, captured_frame(60, 1)).write_to(file("cooked.pcap"));
  EXPECT_NE(message("cooked.pcap").find("its link type is 113 (LINUX_SLL), not Ethernet"), std::string::npos);
  CaptureBytes().section().interface(127).interface(113).packet(1, 1, captured_frame(60, 1)).write_to(file("radio.pcapng"));
  EXPECT_NE(message("radio.pcapng").find("127 (IEEE802_11_RADIO)"), std::string::npos);
  std::ofstream(file("text")) << "no capture at all";
  EXPECT_NE(message("text").find("at byte 0: neither pcap nor pcapng"), std::string::npos);
  std::ofstream(file("empty")) << "";
  EXPECT_NE(message("empty").find("it is empty"), std::string::npos);

  EXPECT_EQ(read("absent.pcap").error().os, ENOENT);
  EXPECT_EQ(Port::open("pcap:" + file(""), {.direction = Direction::rx}).error().os, EISDIR);
  EXPECT_EQ(Port::open("pcap:" + file("x"), {.direction = Direction::both}).error().kind, efio::Error::Kind::usage);
  EXPECT_EQ(write("no/such/directory.pcap").error().os, ENOENT);
  three_frames().write_to(file("good.pcap"));
  for (const auto* bad : {"?loop=-1", "?timing=fast", "?timing=0", "?timing=1e9", "?truncated=maybe", "?rotate=1M", "?ring=1", "?x=1"})
    EXPECT_EQ(read("good.pcap", bad).error().kind, efio::Error::Kind::usage) << bad;
  for (const auto* bad : {"?loop=2", "?format=erf", "?rotate=5", "?snaplen=3", "?timing=original"}) {
    EXPECT_EQ(write("unmade.pcap", bad).error().kind, efio::Error::Kind::usage) << bad;
    EXPECT_FALSE(std::filesystem::exists(file("unmade.pcap")));
  }
}

TEST_F(Pcap, FramesBeforeTheDamageAreDeliveredThenTheQueueFails) {
  auto bytes = three_frames();
  bytes.u64(0).u32(0xffffffff).u32(60).data(captured_frame(60, 9));
  bytes.write_to(file("damaged.pcap"));
  auto port = read("damaged.pcap");
  ASSERT_TRUE(port);
  auto batch = port->rx().receive(64);
  ASSERT_EQ(batch.size(), 3U);
  batch.finish(1);
  EXPECT_EQ(port->rx().receive(64).size(), 2U) << "what is not finished is lent again, damage or not";
  EXPECT_TRUE(port->rx().status().has_value());
  port->rx().receive(64).finish();
  EXPECT_EQ(port->rx().receive(64).size(), 0U);
  ASSERT_FALSE(port->rx().status().has_value());
  const auto error = port->rx().status().error();
  EXPECT_EQ(error.kind, efio::Error::Kind::data);
  EXPECT_NE(error.message().find(file("damaged.pcap") + ": at byte 252: a record that claims 4294967295 bytes"), std::string::npos)
      << error.message();
  EXPECT_FALSE(port->rx().exhausted());
  EXPECT_EQ(port->stats().rx.delivered, 3U);
  expect_balanced(*port);
}

TEST_F(Pcap, EveryTruncationDeliversAPrefixAndAnErrorUnlessBetweenRecords) {
  CaptureBytes ng;
  ng.section().interface();
  for (unsigned i = 0; i < 3; ++i) ng.packet(0, i, captured_frame(60, i));
  for (const auto& whole : {three_frames().str(), ng.str()}) {
    std::size_t borders = 0;
    for (std::size_t size = 0; size < whole.size(); ++size) {
      std::ofstream(file("cut"), std::ios::binary) << whole.substr(0, size);
      auto port = read("cut");
      if (!port) {
        EXPECT_EQ(port.error().kind, efio::Error::Kind::data);
        continue;
      }
      const auto frames = receive_all(port->rx()).size();
      ASSERT_LE(frames, 2U);
      ASSERT_NE(port->rx().exhausted(), port->rx().failed()) << size;
      borders += port->rx().exhausted() ? 1 : 0;
      if (frames > 0) {
        ASSERT_EQ(port->rx().failed(), (whole.size() - size) % (whole == ng.str() ? 92 : 76) != 0) << size;
      }
    }
    EXPECT_GE(borders, 3U);
  }
}

TEST_F(Pcap, AFileLargerThanTheBufferAndABlockLargerThanItAreRead) {
  CaptureBytes ng;
  ng.section().interface();
  for (unsigned i = 0; i < 300; ++i) {
    ng.packet(0, i, captured_frame(1500, i));
    if (i == 100) ng.block(6, ng.body().u32(0).u64(0).u32(700'000).u32(700'000).data(std::string(700'000, 'x')));
    if (i == 200) ng.block(0xbad, ng.body().data(std::string(900'000, 'x')));
  }
  ng.write_to(file("large.pcapng"));
  auto port = read("large.pcapng");
  const auto got = receive_all(port->rx());
  ASSERT_EQ(got.size(), 300U);
  for (unsigned i = 0; i < 300; ++i) ASSERT_EQ(got[i].bytes, captured_frame(1500, i));
  EXPECT_EQ(dropped(port->stats().rx.dropped, DropReason::oversize), 1U);
  EXPECT_TRUE(port->rx().exhausted());
}

TEST_F(Pcap, LoopsAsOftenAsAsked) {
  three_frames().write_to(file("loop.pcap"));
  auto thrice = read("loop.pcap", "?loop=3");
  EXPECT_EQ(receive_all(thrice->rx()).size(), 9U);
  EXPECT_TRUE(thrice->rx().exhausted());
  auto endless = read("loop.pcap", "?loop=0");
  std::size_t seen = 0;
  while (seen < 10'000) {
    auto batch = endless->rx().receive(128);
    ASSERT_EQ(batch.size(), 128U);
    for (std::size_t i = 0; i < batch.size(); ++i)
      ASSERT_EQ(batch[i].time, 100'000'000'000 + (seen + i) % 3 * 20'000'000) << "the recorded time, in every pass";
    seen += batch.finish();
  }
  EXPECT_FALSE(endless->rx().exhausted());
}

TEST_F(Pcap, ALoopOverFramesThatAllAreDroppedEnds) {
  CaptureBytes().file_header().record(1, 0, captured_frame(13, 0)).record(2, 0, captured_frame(1921, 1)).write_to(file("none.pcap"));
  for (const auto* options : {"?loop=0", "?loop=0&timing=1e6"}) {
    auto port = read("none.pcap", options);
    ASSERT_TRUE(port) << port.error().message();
    auto poller = efio::Poller::create();
    ASSERT_TRUE(poller->add(port->rx()).has_value());
    for (int i = 0; i < 100 && !port->rx().exhausted(); ++i) {
      EXPECT_EQ(port->rx().receive(8).size(), 0U);
      poller->wait(milliseconds(10));
    }
    EXPECT_TRUE(port->rx().exhausted());
    EXPECT_EQ(port->stats().rx.total_dropped(), 2U);
    expect_balanced(*port);
  }
}

TEST_F(Pcap, AFileMayBeOpenedByManyReaders) {
  three_frames().write_to(file("shared.pcap"));
  auto first = read("shared.pcap"), second = read("shared.pcap");
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->rx().receive(2).finish(), 2U);
  EXPECT_EQ(receive_all(second->rx()).size(), 3U);
  EXPECT_EQ(receive_all(first->rx()).size(), 1U);
}

// Frames 20 ms apart: at twice the speed the last is due after 20 ms, twice over with loop=2.
TEST_F(Pcap, KeepsTheRecordedPaceOrAFactorOfIt) {
  three_frames().write_to(file("paced.pcap"));
  struct Row {
    std::string options;
    std::size_t frames;
    std::uint64_t ns;
  };
  for (const auto& [options, frames, ns] : {Row{"?timing=original", 3, 40'000'000}, Row{"?timing=2&loop=2", 6, 40'000'000}}) {
    auto port = read("paced.pcap", options);
    ASSERT_TRUE(port) << port.error().message();
    auto poller = efio::Poller::create();
    ASSERT_TRUE(poller->add(port->rx()).has_value());
    const auto start = efio::Clock::monotonic();
    std::vector<std::uint64_t> at;
    std::size_t waits = 0;
    while (at.size() < frames) {
      ASSERT_LT(++waits, 100U) << "waiting is no busy loop";
      ASSERT_FALSE(poller->wait(std::chrono::seconds(5)).empty());
      const auto n = port->rx().receive(16).finish();
      for (std::size_t i = 0; i < n; ++i) at.push_back(efio::Clock::monotonic() - start);
    }
    EXPECT_EQ(at.size(), frames);
    const std::uint64_t gap = ns / (frames == 3 ? 2 : 4);
    std::uint64_t due = 0;
    for (std::size_t i = 0; i < frames; ++i) {
      if (i % 3 != 0) due += gap;
      EXPECT_GE(at[i] + 1'000, due) << "frame " << i << " came too early";
    }
    EXPECT_LT(at.back(), ns + 2'000'000'000);
    EXPECT_EQ(port->rx().receive(1).size(), 0U);
    EXPECT_TRUE(port->rx().exhausted());
  }
}

TEST_F(Pcap, TimesThatGoBackwardsAreDueAtOnce) {
  CaptureBytes().file_header().record(100, 0, captured_frame(60, 0)).record(50, 0, captured_frame(60, 1))
      .record(100, 1'000'000, captured_frame(60, 2)).write_to(file("back.pcap"));
  auto port = read("back.pcap", "?timing=original");
  EXPECT_EQ(port->rx().receive(8).size(), 2U);
  std::this_thread::sleep_for(milliseconds(3));
  EXPECT_EQ(port->rx().receive(8).size(), 3U);
}

TEST_F(Pcap, APacketWithoutATimeIsDueAtOnceAndDelaysNoOther) {
  CaptureBytes bytes;
  bytes.section().interface().block(3, bytes.body().u32(60).data(captured_frame(60, 0)));
  bytes.packet(0, 1'700'000'000'000'000, captured_frame(60, 1)).packet(0, 1'700'000'000'001'000, captured_frame(60, 2));
  bytes.write_to(file("mixed.pcapng"));
  auto port = read("mixed.pcapng", "?timing=original");
  EXPECT_EQ(port->rx().receive(8).size(), 2U);
  std::this_thread::sleep_for(milliseconds(3));
  EXPECT_EQ(port->rx().receive(8).size(), 3U);
}

TEST_F(Pcap, APipeIsReadAsItComes) {
  ASSERT_EQ(::mkfifo(file("fifo").c_str(), 0600), 0);
  auto port = read("fifo");
  ASSERT_TRUE(port) << port.error().message();
  EXPECT_EQ(read("fifo", "?loop=2").error().kind, efio::Error::Kind::usage);
  EXPECT_EQ(read("fifo", "?timing=original").error().kind, efio::Error::Kind::usage);
  efio::Fd writer(::open(file("fifo").c_str(), O_WRONLY));
  ASSERT_TRUE(writer);
  auto poller = efio::Poller::create();
  ASSERT_TRUE(poller->add(port->rx()).has_value());
  EXPECT_EQ(port->rx().receive(8).size(), 0U);
  EXPECT_TRUE(poller->wait(milliseconds(5)).empty());
  const auto bytes = three_frames().str();
  std::size_t seen = 0;
  for (std::size_t at = 0; at < bytes.size(); at += 50) {
    const auto piece = bytes.substr(at, 50);
    ASSERT_EQ(::write(writer.get(), piece.data(), piece.size()), static_cast<ssize_t>(piece.size()));
    ASSERT_EQ(poller->wait(std::chrono::seconds(5)).size(), 1U);
    seen += port->rx().receive(8).finish();
    EXPECT_EQ(seen, (std::min(at + 50, bytes.size()) - 24) / 76) << at;
    EXPECT_FALSE(port->rx().exhausted());
  }
  EXPECT_EQ(seen, 3U);
  writer = efio::Fd();
  ASSERT_EQ(poller->wait(std::chrono::seconds(5)).size(), 1U);
  EXPECT_EQ(port->rx().receive(8).size(), 0U);
  EXPECT_TRUE(port->rx().exhausted());
}

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
