// The pcap engine: reading, pacing, loops, pipes, and damage.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "efio/clock.h"
#include "efio/descriptor.h"
#include "efio/poller.h"
#include "tests/support/pcap_fixture.h"

namespace {

using namespace efio::test;
using efio::Direction;
using efio::DropReason;
using efio::Port;
using efio::TimeSource;
using std::chrono::milliseconds;

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

}  // namespace
