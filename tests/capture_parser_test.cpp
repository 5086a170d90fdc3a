// Capture files from memory: formats, byte orders, times, and what is damaged.
#include "efio/engines/capture_parser.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "tests/support/capture_bytes.h"

namespace {

using efio::CaptureParser;
using efio::test::captured_frame;
using efio::test::CaptureBytes;

struct Parsed {
  struct Frame {
    std::string bytes;
    std::uint64_t time;
    std::uint32_t length;
    bool timed;
    std::uint16_t link_type;
  };
  std::vector<Frame> frames;
  bool clean = false;
  std::uint64_t offset = 0;
  std::string problem;
};

// Feeds `piece` bytes more whenever the parser wants some (0: all at once). Each piece lies in memory of its own size, so
// that the address sanitizer sees a read behind it.
Parsed parse(std::string_view file, std::size_t piece = 0) {
  Parsed parsed;
  CaptureParser parser;
  std::size_t begin = 0, end = piece == 0 ? file.size() : 0;
  for (std::size_t round = 0;; ++round) {
    if (round > 4 * file.size() + 100) {
      ADD_FAILURE() << "the parser does not move on";
      return parsed;
    }
    const std::vector<char> memory(file.begin() + static_cast<std::ptrdiff_t>(begin), file.begin() + static_cast<std::ptrdiff_t>(end));
    const auto* const first = reinterpret_cast<const std::byte*>(memory.data());
    const auto* at = first;
    CaptureParser::Frame frame;
    const auto found = parser.next(at, first + memory.size(), frame);
    if (found == CaptureParser::Found::frame)
      parsed.frames.push_back({std::string(reinterpret_cast<const char*>(frame.data), frame.captured), frame.time, frame.length,
                               frame.timed, frame.link_type});
    begin += static_cast<std::size_t>(at - first);
    if (found == CaptureParser::Found::damaged) break;
    if (found == CaptureParser::Found::frame) continue;
    EXPECT_GT(parser.wanted(), end - begin) << "wants no more than it has";
    if (end == file.size()) {
      parsed.clean = parser.may_end(end - begin);
      break;
    }
    end = std::min(file.size(), end + piece);
  }
  parsed.offset = parser.offset();
  parsed.problem = parser.problem();
  return parsed;
}

CaptureBytes small_pcap(bool big_endian = false) {
  CaptureBytes file(big_endian);
  file.file_header();
  for (unsigned i = 0; i < 3; ++i) file.record(100 + i, 7 + i, captured_frame(20 + i, i));
  return file;
}

CaptureBytes small_pcapng(bool big_endian = false) {
  CaptureBytes file(big_endian);
  file.section().interface(1, 0, file.body().option(9, "\x09")).block(4, file.body().data("names"));
  for (unsigned i = 0; i < 3; ++i) file.packet(0, (100 + i) * 1'000'000'000ULL + 7 + i, captured_frame(20 + i, i));
  return file;
}

void expect_small(const Parsed& parsed) {
  ASSERT_EQ(parsed.frames.size(), 3U) << parsed.problem;
  EXPECT_TRUE(parsed.clean) << parsed.problem;
  for (unsigned i = 0; i < 3; ++i) {
    EXPECT_EQ(parsed.frames[i].bytes, captured_frame(20 + i, i));
    EXPECT_EQ(parsed.frames[i].time, (100 + i) * 1'000'000'000ULL + 7 + i);
    EXPECT_EQ(parsed.frames[i].length, 20 + i);
  }
}

TEST(CaptureParser, ReadsBothFormatsInBothByteOrdersAndInPiecesOfAnySize) {
  for (const auto& file : {small_pcap(), small_pcap(true), small_pcapng(), small_pcapng(true)})
    for (const std::size_t piece : {0, 1, 2, 3, 7, 24, 1000}) ASSERT_NO_FATAL_FAILURE(expect_small(parse(file.str(), piece)));
}

TEST(CaptureParser, ReadsMicrosecondsAndNanosecondsOfClassicFiles) {
  for (const bool big : {false, true}) {
    const auto us = parse(CaptureBytes(big).file_header(0xa1b2c3d4).record(5, 999'999, captured_frame(60, 1)).str());
    ASSERT_EQ(us.frames.size(), 1U);
    EXPECT_EQ(us.frames[0].time, 5'999'999'000U);
    const auto ns = parse(CaptureBytes(big).file_header(0xa1b23c4d).record(4'294'967'295, 999'999'999, captured_frame(60, 1)).str());
    ASSERT_EQ(ns.frames.size(), 1U);
    EXPECT_EQ(ns.frames[0].time, 4'294'967'295'999'999'999U);
  }
}

TEST(CaptureParser, TakesEachInterfacesResolutionAndOffset) {
  struct Row {
    std::string resolution;  // if_tsresol; empty: none
    std::uint64_t ticks, ns;
  };
  const std::vector<Row> rows = {
      {"", 1'500'000, 1'500'000'000},
      {std::string("\0", 1), 3, 3'000'000'000},
      {"\x03", 1'234, 1'234'000'000},
      {"\x06", 1'500'000, 1'500'000'000},
      {"\x09", 1'700'000'000'123'456'789, 1'700'000'000'123'456'789},
      {"\x0c", 1'500'999'999, 1'500'999},
      {"\x1c", 18'446'744'073'709'551'615U, 1},
      {"\x7f", 18'446'744'073'709'551'615U, 0},
      {"\x80", 3, 3'000'000'000},
      {"\x94", std::uint64_t{3} << 19, 1'500'000'000},
      {"\xa0", (std::uint64_t{1'700'000'000} << 32) + (std::uint64_t{1} << 31), 1'700'000'000'500'000'000},
      {"\xff", 18'446'744'073'709'551'615U, 0},
  };
  for (const bool big : {false, true}) {
    CaptureBytes file(big);
    file.section();
    for (const auto& row : rows) file.interface(1, 0, row.resolution.empty() ? file.body() : file.body().option(9, row.resolution));
    for (std::size_t i = 0; i < rows.size(); ++i) file.packet(i, rows[i].ticks, captured_frame(60, 0));
    const auto parsed = parse(file.str());
    ASSERT_EQ(parsed.frames.size(), rows.size()) << parsed.problem;
    for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(parsed.frames[i].time, rows[i].ns) << i;
  }
  for (const bool big : {false, true}) {
    CaptureBytes file(big);
    const auto offset = [&](std::int64_t seconds) { return file.body().u64(static_cast<std::uint64_t>(seconds)).str(); };
    file.section().interface(1, 0, file.body().option(14, offset(1'000'000))).interface(1, 0, file.body().option(14, offset(-2)));
    file.packet(0, 1, captured_frame(60, 0)).packet(1, 5'000'000, captured_frame(60, 0));
    const auto parsed = parse(file.str());
    ASSERT_EQ(parsed.frames.size(), 2U);
    EXPECT_EQ(parsed.frames[0].time, 1'000'000'000'001'000U);
    EXPECT_EQ(parsed.frames[1].time, 3'000'000'000U);
  }
}

TEST(CaptureParser, StartsEachSectionAfresh) {
  CaptureBytes big(true);
  big.section().interface(113).interface(1, 0, big.body().option(9, "\x09")).packet(1, 42, captured_frame(30, 2));
  CaptureBytes file;
  file.section().interface().packet(0, 1, captured_frame(20, 1)).data(big.str()).section().interface().packet(0, 3, captured_frame(40, 3));
  const auto parsed = parse(file.str(), 5);
  ASSERT_EQ(parsed.frames.size(), 3U) << parsed.problem;
  EXPECT_TRUE(parsed.clean);
  EXPECT_EQ(parsed.frames[0].time, 1'000U);
  EXPECT_EQ(parsed.frames[1].time, 42U);
  EXPECT_EQ(parsed.frames[1].bytes, captured_frame(30, 2));
  EXPECT_EQ(parsed.frames[2].time, 3'000U);

  const auto without = parse(CaptureBytes().section().interface().section().packet(0, 1, captured_frame(20, 1)).str());
  EXPECT_FALSE(without.clean);
  EXPECT_EQ(without.problem, "a packet of interface 0, where 0 are described");
}

TEST(CaptureParser, ReadsSimpleAndObsoletePacketsAndSkipsWhatItDoesNotKnow) {
  CaptureBytes file;
  const auto frame = captured_frame(50, 4);
  file.block(0x0a0d0d0a, file.body().u32(0x1a2b3c4d).u16(1).u16(2).u64(16).option(4, "someone").u32(0));
  file.block(0x0000bad0, file.body().data(std::string(70'000, 'x')));
  file.interface(1, 40).block(5, file.body().u32(0).u64(0)).block(0x80000001, file.body());
  file.block(3, file.body().u32(50).data(frame.substr(0, 40)));
  file.block(2, file.body().u16(0).u16(9).u32(0).u32(77).u32(50).u32(50).data(frame).pad().option(1, "a comment").u32(0));
  file.block(6, file.body().u32(0).u64(0).u32(50).u32(50).data(frame).pad().option(1, "a comment").option(2, "abcd").u32(0));
  const auto parsed = parse(file.str(), 100);
  ASSERT_EQ(parsed.frames.size(), 3U) << parsed.problem;
  EXPECT_TRUE(parsed.clean);
  EXPECT_FALSE(parsed.frames[0].timed);
  EXPECT_EQ(parsed.frames[0].bytes, frame.substr(0, 40));
  EXPECT_EQ(parsed.frames[0].length, 50U);
  EXPECT_EQ(parsed.frames[1].time, 77'000U);
  EXPECT_EQ(parsed.frames[1].bytes, frame);
  EXPECT_EQ(parsed.frames[2].bytes, frame);
}

TEST(CaptureParser, LeavesTheFcsAwayWhereAFileHasIt) {
  // Classic: 2 units of 16 bits in the upper bits of the link type. Cut by a snap length, the FCS is not there any more.
  const auto classic = parse(CaptureBytes().file_header(0xa1b2c3d4, 0x24000001).record(1, 1, captured_frame(64, 1))
                                 .record(1, 1, captured_frame(62, 1), 64).record(1, 1, captured_frame(40, 1), 64).str());
  ASSERT_EQ(classic.frames.size(), 3U);
  EXPECT_EQ(classic.frames[0].bytes.size(), 60U);
  EXPECT_EQ(classic.frames[1].bytes.size(), 60U);
  EXPECT_EQ(classic.frames[2].bytes.size(), 40U);
  EXPECT_EQ(classic.frames[2].length, 60U);
  CaptureBytes file;
  file.section().interface(1, 0, file.body().option(13, "\x04")).packet(0, 1, captured_frame(64, 1));
  EXPECT_EQ(parse(file.str()).frames.at(0).length, 60U);
}

TEST(CaptureParser, SaysWhatElseAFileIs) {
  EXPECT_EQ(parse("").problem, "it is empty");
  EXPECT_EQ(parse("\n\r").problem, "it ends in the file header");
  EXPECT_EQ(parse("hello, world").problem, "neither pcap nor pcapng");
  EXPECT_EQ(parse("\x1f\x8b\x08\x01").problem, "it is compressed (gzip)");
  EXPECT_EQ(parse("\x28\xb5\x2f\xfd").problem, "it is compressed (zstd)");
  EXPECT_EQ(parse(CaptureBytes().u32(0xa1b2c3d4).u16(1).u16(0).u64(0).u64(0).str()).problem, "pcap of version 1.0");
  EXPECT_EQ(parse(CaptureBytes().block(0x0a0d0d0a, CaptureBytes().u32(0x1a2b3c4d).u16(2).u16(0).u64(0)).str()).problem,
            "pcapng of version 2.0");
  CaptureParser parser;
  const auto cooked = CaptureBytes().section().interface(113).interface(1).packet(0, 1, captured_frame(20, 1)).str();
  const auto* at = reinterpret_cast<const std::byte*>(cooked.data());
  CaptureParser::Frame frame;
  ASSERT_EQ(parser.next(at, at + cooked.size(), frame), CaptureParser::Found::frame);
  EXPECT_EQ(frame.link_type, 113);
  EXPECT_FALSE(parser.foreign_link_type().has_value()) << "one interface is Ethernet";
}

TEST(CaptureParser, NamesTheByteWhereAFileIsDamaged) {
  struct Row {
    CaptureBytes file;
    std::size_t frames;
    std::string problem;
  };
  const auto good = [] { return CaptureBytes().section().interface().packet(0, 1, captured_frame(20, 1)); };
  const CaptureBytes b;
  const std::vector<Row> rows = {
      {CaptureBytes().file_header().record(1, 1, captured_frame(20, 1)).u64(0).u32(262145).u32(60), 1,
       "a record that claims 262145 bytes, where 262144 are the most"},
      {good().u32(6).u32(8).u32(8), 1, "a block that claims 8 bytes"},
      {good().u32(6).u32(33).u64(0), 1, "a block that claims 33 bytes"},
      {good().u32(6).u32(28).u64(0), 1, "a block of type 6 that claims 28 bytes"},
      {good().u32(6).u32(0x10000000).u64(0), 1, "a block of type 6 that claims 268435456 bytes"},
      {good().u32(99).u32(16).u32(0).u32(20), 1, "a block whose two lengths differ: 16 and 20"},
      {good().u32(6).u32(32).u64(0).u64(0).u32(0).u32(36), 1, "a block whose two lengths differ: 32 and 36"},
      {good().block(6, b.body().u32(0).u64(0).u32(5).u32(5).u32(0)), 1, "a packet of 5 bytes in a block of 36"},
      {good().block(3, b.body().u32(5).u32(0)), 1, "a packet of 5 bytes in a block of 20"},
      {good().packet(1, 0, captured_frame(20, 1)), 1, "a packet of interface 1, where 1 are described"},
      {good().block(1, b.body().u32(1).u32(0).u16(9).u16(500).u32(0)), 1, "an interface with an option that leaves its block"},
      {good().block(0x0a0d0d0a, b.body().u32(0x12345678).u64(0).u32(0)), 1, "a section header without a byte order"},
  };
  for (const auto& row : rows) {
    const auto parsed = parse(row.file.str(), 9);
    EXPECT_EQ(parsed.frames.size(), row.frames);
    EXPECT_FALSE(parsed.clean);
    EXPECT_EQ(parsed.problem, row.problem);
    EXPECT_EQ(parsed.offset, row.frames == 0 ? 0 : row.file.str()[0] == '\n' ? good().str().size() : 24 + 16 + 20U) << row.problem;
  }
}

TEST(CaptureParser, EveryTruncationGivesAPrefixAndSaysSo) {
  for (const auto& whole : {small_pcap(), small_pcap(true), small_pcapng(), small_pcapng(true)}) {
    std::size_t last = 0;
    for (std::size_t size = 0; size < whole.str().size(); ++size) {
      const auto cut = parse(std::string_view(whole.str()).substr(0, size));
      ASSERT_GE(cut.frames.size(), last);
      ASSERT_LE(cut.frames.size(), last + 1);
      last = cut.frames.size();
      for (unsigned i = 0; i < last; ++i) ASSERT_EQ(cut.frames[i].bytes, captured_frame(20 + i, i));
      if (cut.clean) EXPECT_EQ(cut.offset, size) << "only between two records";
      else EXPECT_LE(cut.offset, size);
      ASSERT_EQ(cut.clean, cut.problem.empty());
    }
    EXPECT_EQ(last, 2U);
  }
}

TEST(CaptureParser, NoDamagedByteMakesItReadOutsideOrForEver) {
  for (const auto& whole : {small_pcap(), small_pcapng(true)}) {
    for (std::size_t i = 0; i < whole.str().size(); ++i)
      for (const int change : {0x01, 0x80, 0xff}) {
        auto damaged = whole.str();
        damaged[i] = static_cast<char>(damaged[i] ^ change);
        EXPECT_LE(parse(damaged).frames.size(), 5U);
      }
  }
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    auto noise = small_pcapng().str();
    for (int k = 0; k < 6; ++k) noise[random() % noise.size()] = static_cast<char>(random());
    EXPECT_LE(parse(noise, 1 + random() % 50).frames.size(), 20U);
  }
}

}  // namespace
