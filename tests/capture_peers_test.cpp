// Capture files and the programs that others use: what tshark, tcpdump, editcap, text2pcap and scapy write is read here,
// what is written here they read, with equal counts, bytes, nanoseconds and comments.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "efio/capture_writer.h"
#include "efio/port.h"
#include "tests/support/capture_bytes.h"
#include "tests/support/directory.h"
#include "tests/support/privilege.h"

namespace {

using efio::CaptureWriter;
using efio::Direction;
using efio::Port;
using efio::test::captured_frame;

bool have(const std::string& program) { return std::system(("command -v " + program + " >/dev/null 2>&1").c_str()) == 0; }

class CapturePeers : public testing::Test {
 protected:
  const efio::test::Directory directory_{"efio_capture"};

  std::string file(const std::string& name) const { return directory_.file(name); }

  // Standard output of a command line in which "@NAME" is a file of the test's; the test fails where the command does.
  std::string run(std::string command) const {
    for (auto at = command.find('@'); at != std::string::npos; at = command.find('@')) command.replace(at, 1, file(""));
    FILE* pipe = ::popen((command + " 2>" + file("stderr")).c_str(), "r");
    std::string output;
    std::array<char, 4096> piece{};
    for (std::size_t n = 0; (n = std::fread(piece.data(), 1, piece.size(), pipe)) > 0;) output.append(piece.data(), n);
    if (::pclose(pipe) != 0) {
      std::ifstream said(file("stderr"));
      ADD_FAILURE() << command << ": " << std::string(std::istreambuf_iterator<char>(said), {});
    }
    return output;
  }

  // As many frames of odd sizes as tests compare, through the engine.
  static constexpr unsigned count = 500;
  static std::string frame(unsigned i) { return captured_frame(60 + i * 7 % 1400, i); }
  static std::uint64_t time(unsigned i) { return 1'700'000'000'000'000'001 + i * 1'000'000'007ULL; }
  void write(const std::string& name) const {
    auto port = Port::open("pcap:" + file(name), {.direction = Direction::tx});
    ASSERT_TRUE(port) << port.error().message();
    for (unsigned i = 0; i < count; ++i) {
      auto batch = port->tx().claim(1);
      const auto bytes = frame(i);
      std::memcpy(batch.space(0).data(), bytes.data(), bytes.size());
      batch[0].length = static_cast<std::uint32_t>(bytes.size());
      batch[0].stamp(time(i), efio::TimeSource::kernel);
      batch.commit();
      if (i % 50 == 0) port->tx().flush();
    }
    ASSERT_TRUE(port->close().has_value());
  }
  // `resolution`: ns that a tick of the file has.
  void expect_read(const std::string& name, std::uint64_t resolution = 1) const {
    auto port = Port::open("pcap:" + file(name), {.direction = Direction::rx});
    ASSERT_TRUE(port) << port.error().message();
    unsigned i = 0;
    for (auto batch = port->rx().receive(64); !batch.empty(); batch = port->rx().receive(64)) {
      for (const auto& slot : batch) {
        const auto bytes = slot.bytes();
        ASSERT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), frame(i)) << i;
        ASSERT_EQ(slot.time, time(i) / resolution * resolution) << i;
        ++i;
      }
      batch.finish();
    }
    EXPECT_TRUE(port->rx().exhausted());
    EXPECT_EQ(i, count);
  }
  // A line a frame: its time, and behind `separator`, if any, its length.
  static std::string expected_lines(const std::string& separator) {
    std::string lines;
    for (unsigned i = 0; i < count; ++i) {
      const auto fraction = std::to_string(time(i) % 1'000'000'000 + 1'000'000'000).substr(1);
      lines += std::to_string(time(i) / 1'000'000'000) + "." + fraction;
      lines += (separator.empty() ? "" : separator + std::to_string(frame(i).size())) + "\n";
    }
    return lines;
  }
};

TEST_F(CapturePeers, TsharkReadsWhatIsWritten) {
  EFIO_REQUIRE(have("tshark"), "needs tshark");
  for (const std::string name : {"a.pcap", "a.pcapng"}) {
    ASSERT_NO_FATAL_FAILURE(write(name));
    EXPECT_EQ(run("tshark -n -r @" + name + " -T fields -e frame.time_epoch -e frame.len"), expected_lines("\t"));
  }
}

TEST_F(CapturePeers, TcpdumpReadsWhatIsWritten) {
  EFIO_REQUIRE(have("tcpdump"), "needs tcpdump");
  for (const std::string name : {"a.pcap", "a.pcapng"}) {
    ASSERT_NO_FATAL_FAILURE(write(name));
    EXPECT_EQ(run("tcpdump -n -tt --nano -r @" + name + " | grep -o '^[0-9][0-9.]*'"), expected_lines(""));
  }
}

TEST_F(CapturePeers, ReadsWhatTcpdumpWrites) {
  EFIO_REQUIRE(have("tcpdump"), "needs tcpdump");
  ASSERT_NO_FATAL_FAILURE(write("a.pcap"));
  run("tcpdump -Z root -n --nano -r @a.pcap -w @nano.pcap");
  expect_read("nano.pcap");
  run("tcpdump -Z root -n --micro -r @a.pcap -w @micro.pcap");
  expect_read("micro.pcap", 1000);
}

TEST_F(CapturePeers, ReadsWhatWiresharkWrites) {
  EFIO_REQUIRE(have("tshark") && have("editcap") && have("mergecap"), "needs tshark, editcap and mergecap");
  ASSERT_NO_FATAL_FAILURE(write("a.pcap"));
  run("tshark -n -r @a.pcap -F pcapng -w @tshark.pcapng");
  expect_read("tshark.pcapng");
  run("editcap -F nsecpcap @a.pcap @editcap.pcap");
  expect_read("editcap.pcap");
  run("editcap -F pcap @a.pcap @us.pcap");
  expect_read("us.pcap", 1000);
  run("editcap -i 100 -F pcapng @a.pcap @part.pcapng && mergecap -w @merged.pcapng @part_*");
  expect_read("merged.pcapng");
  run("cat @tshark.pcapng > @twice.pcapng && cat @tshark.pcapng >> @twice.pcapng");  // two sections
  auto port = Port::open("pcap:" + file("twice.pcapng"), {.direction = Direction::rx});
  std::size_t seen = 0;
  for (auto batch = port->rx().receive(64); !batch.empty(); batch = port->rx().receive(64)) seen += batch.finish();
  EXPECT_EQ(seen, 2 * count);
}

TEST_F(CapturePeers, ReadsWhatText2pcapAndScapyWrite) {
  EFIO_REQUIRE(have("text2pcap"), "needs text2pcap");
  std::ofstream(file("text")) << "0000 02 00 00 00 00 01 02 00 00 00 00 02 88 b5 68 65 6c 6c 6f\n";
  for (const std::string format : {"pcap", "pcapng"}) {
    run("text2pcap -F " + format + " @text @t." + format);
    auto port = Port::open("pcap:" + file("t." + format), {.direction = Direction::rx});
    ASSERT_TRUE(port) << port.error().message();
    auto batch = port->rx().receive(8);
    ASSERT_EQ(batch.size(), 1U);
    EXPECT_EQ(batch[0].length, 19U);
  }
  EFIO_REQUIRE(std::system("/usr/bin/python3 -c 'import scapy' 2>/dev/null") == 0, "needs scapy");
  std::ofstream(file("s.py")) << "from scapy.all import Ether, wrpcap\nimport sys\n"
                                 "frames = [Ether(bytes(12) + b'\\x88\\xb5' + bytes([i] * 50)) for i in range(9)]\n"
                                 "wrpcap(sys.argv[1], frames, nano=True, endianness='>')\n";
  run("/usr/bin/python3 @s.py @s.pcap");
  auto port = Port::open("pcap:" + file("s.pcap"), {.direction = Direction::rx});
  ASSERT_TRUE(port) << port.error().message();
  auto batch = port->rx().receive(64);
  ASSERT_EQ(batch.size(), 9U);
  EXPECT_EQ(std::to_integer<int>(batch[8].bytes()[20]), 8);
}

TEST_F(CapturePeers, TsharkShowsInterfacesAndComments) {
  EFIO_REQUIRE(have("tshark") && have("capinfos"), "needs tshark and capinfos");
  auto writer = CaptureWriter::create(file("c.pcapng"), {.interfaces = {{"eth0", "inside"}, {"eth1"}}});
  ASSERT_TRUE(writer.has_value());
  std::string expected;
  for (unsigned i = 0; i < 40; ++i) {
    const auto bytes = captured_frame(60 + i, i);
    const auto comment = i % 4 == 0 ? std::string() : std::string(i, 'c') + " no route to \xc3\xa4";
    ASSERT_TRUE(writer->append(std::as_bytes(std::span(bytes)),
                               {.time = time(i), .interface = i % 2, .length = i == 7 ? 1000 : 0U, .comment = comment}));
    expected += (i % 2 == 0 ? "eth0\t" : "eth1\t") + comment + "\t" + std::to_string(i == 7 ? 1000 : bytes.size()) + "\n";
  }
  EXPECT_FALSE(writer->append(std::as_bytes(std::span("0123456789abcdef")), {.interface = 2})) << "there is no third interface";
  EXPECT_EQ(writer->frames(), 0U);
  ASSERT_TRUE(writer->close().has_value());
  EXPECT_EQ(writer->frames(), 40U);
  EXPECT_EQ(run("tshark -n -r @c.pcapng -T fields -e frame.interface_name -e frame.comment -e frame.len"), expected);
  const auto about = run("capinfos -M @c.pcapng");
  EXPECT_NE(about.find("Number of packets:   40"), std::string::npos) << about;
  EXPECT_NE(about.find("Number of interfaces in file: 2"), std::string::npos) << about;
  EXPECT_NE(about.find("Description = inside"), std::string::npos) << about;
  EXPECT_NE(about.find("Time precision = nanoseconds (9)"), std::string::npos) << about;
  EXPECT_NE(about.find("Capture application: efio "), std::string::npos) << about;
}

}  // namespace
