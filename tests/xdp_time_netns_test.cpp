// Hardware times of xdp:. veth has the kernel's function for them, but no hardware: it tells none.
#include <gmock/gmock.h>

#include <array>
#include <cstring>

#include "efio/engines/xdp.h"
#include "efio/port.h"
#include "tests/support/netns.h"
#include "tests/support/plain_socket.h"

namespace efio::test {

namespace {

using testing::HasSubstr;

Result<Port> open(const VethPair& pair, const std::string& options) {
  return pair.a.run([&] { return Port::open("xdp:va?" + options, {.direction = Direction::rx}); });
}

TEST(XdpTime, ComesFromRightBeforeTheData) {
  alignas(8) std::array<std::byte, 64> frame{};
  std::byte* const data = frame.data() + 32;
  EXPECT_EQ(xdp_hardware_time(data), 0U);
  efio_xdp_time time{.nanoseconds = 1'700'000'000'123'456'789, .mark = EFIO_XDP_TIME_MARK};
  std::memcpy(data - sizeof time, &time, sizeof time);
  EXPECT_EQ(xdp_hardware_time(data), 1'700'000'000'123'456'789U);
  time.mark ^= 1;
  std::memcpy(data - sizeof time, &time, sizeof time);
  EXPECT_EQ(xdp_hardware_time(data), 0U) << "what happens to lie there";
}

TEST(XdpTime, TheProgramWritesBeforeEveryFrameAndADeviceWithoutTimesLeavesTheClocks) {
  EFIO_REQUIRE_NETNS();
  const VethPair pair;
  auto port = open(pair, "attach=native&time=hardware");
  ASSERT_TRUE(port) << port.error().message();
  if (port->info().mode.find("no hardware time") != std::string::npos) GTEST_SKIP() << "Linux 6.3: " << port->info().mode;
  EXPECT_THAT(port->info().mode, HasSubstr("hardware time"));
  EXPECT_EQ(port->info().time_source, TimeSource::hardware);

  PlainSocket far(pair.b, "vb");
  const std::vector<std::byte> frame(100, std::byte{0x42});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(far.send(frame));
  const auto until = Clock::monotonic() + 5'000'000'000;
  std::size_t got = 0;
  while (got < 3 && Clock::monotonic() < until) {
    auto batch = port->rx().receive(64);
    for (const Slot& slot : batch) {
      efio_xdp_time time;
      std::memcpy(&time, slot.bytes().data() - sizeof time, sizeof time);
      EXPECT_EQ(time.mark, EFIO_XDP_TIME_MARK);
      EXPECT_EQ(time.nanoseconds, 0U);
      EXPECT_EQ(slot.time_source(), TimeSource::clock);
      EXPECT_EQ(slot.length, frame.size());
    }
    got += batch.finish();
  }
  EXPECT_EQ(got, 3U);
}

TEST(XdpTime, WhereItCannotBeHadThePortSaysSo) {
  EFIO_REQUIRE_NETNS();
  const VethPair pair;
  auto generic = open(pair, "attach=generic&time=hardware");
  ASSERT_TRUE(generic) << generic.error().message();
  EXPECT_THAT(generic->info().mode, HasSubstr("no hardware time (not with generic)"));
  EXPECT_EQ(generic->info().time_source, TimeSource::clock);
}

TEST(XdpTime, AnOpenDeviceGetsTheOtherProgramWhenSomebodyAsksForTimes) {
  EFIO_REQUIRE_NETNS();
  const VethPair pair;
  pair.a.shell("ethtool -L va rx 2 tx 2");
  auto plain = open(pair, "attach=native&queue=0&take=none");
  ASSERT_TRUE(plain) << plain.error().message();
  auto timed = open(pair, "queue=1&time=hardware");
  ASSERT_TRUE(timed) << timed.error().message();
  if (timed->info().mode.find("no hardware time") != std::string::npos) GTEST_SKIP() << "Linux 6.3: " << timed->info().mode;
  // Its rules stay, and can still be changed.
  EXPECT_TRUE(plain->set_option("take", "udp:7"));
}

}  // namespace

}  // namespace efio::test
