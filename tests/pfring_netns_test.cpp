// pfring: through the fake library over a veth pair.
#include <gtest/gtest.h>

#include "efio/port.h"
#include "tests/contract/rig.h"
#include "tests/support/netns.h"
#include "tests/support/plain_socket.h"

namespace efio::test {

namespace {

const std::string with_fake = "?library=" EFIO_FAKE_LIBPFRING;

class Pfring : public testing::Test {
 protected:
  void SetUp() override {
    EFIO_REQUIRE_NETNS();
    pair_.emplace();
  }
  Result<Port> open(const std::string& uri, Direction direction = Direction::both) {
    return pair_->a.run([&] { return Port::open(uri, {.direction = direction}); });
  }
  std::optional<VethPair> pair_;
};

TEST_F(Pfring, OwnFramesDoNotComeBack) {
  auto out = open("pfring:va" + with_fake, Direction::tx);
  auto in = open("pfring:va" + with_fake, Direction::rx);
  auto both = open("pfring:va" + with_fake);
  ASSERT_TRUE(out && in && both);
  PlainSocket far(pair_->b, "vb");
  for (unsigned i = 0; i < 10; ++i) {
    ASSERT_TRUE(out->tx().send(make_frame(60, i)));
    ASSERT_TRUE(both->tx().send(make_frame(60, 100 + i)));
  }
  EXPECT_EQ(out->tx().flush(), 10U);
  EXPECT_EQ(both->tx().flush(), 10U);
  for (unsigned i = 0; i < 20; ++i) EXPECT_TRUE(far.receive(std::chrono::seconds(1)).has_value());
  EXPECT_EQ(in->rx().receive(64).size(), 0U);
  EXPECT_EQ(both->rx().receive(64).size(), 0U);
}

TEST_F(Pfring, TimesAreNanosecondsOfTheEpoch) {
  auto in = open("pfring:va" + with_fake, Direction::rx);
  ASSERT_TRUE(in.has_value()) << in.error().message();
  PlainSocket far(pair_->b, "vb");
  const auto before = Clock::now();
  unsigned odd = 0;
  for (unsigned i = 0; i < 20; ++i) {
    ASSERT_TRUE(far.send(make_frame(60, i)));
    auto batch = receive_patiently(in->rx(), 1);
    ASSERT_EQ(batch.size(), 1U);
    EXPECT_EQ(batch[0].time_source(), TimeSource::kernel);
    EXPECT_GT(batch[0].time + 1'000'000, before);
    odd += batch[0].time % 1000 != 0 ? 1U : 0U;
    batch.finish();
  }
  EXPECT_GT(odd, 0U) << "microseconds only";
}

TEST_F(Pfring, ZeroCopyWithoutItsDriverIsRefusedAndSaysWhatElse) {
  const auto port = open("pfring:zc:va" + with_fake);
  ASSERT_FALSE(port.has_value());
  const auto text = port.error().message();
  EXPECT_EQ(port.error().kind, Error::Kind::unavailable) << text;
  EXPECT_NE(text.find("pf_ring"), std::string::npos) << text;
}

TEST_F(Pfring, FramesThatAreTooLongOrShortAreNamed) {
  auto port = open("pfring:va" + with_fake, Direction::tx);
  ASSERT_TRUE(port.has_value());
  for (const std::size_t size : {13U, 1519U, 60U}) {
    auto batch = port->tx().claim(1);
    batch[0].length = static_cast<std::uint32_t>(size);
    batch.commit();
  }
  EXPECT_EQ(port->tx().flush(), 1U);
  EXPECT_EQ(port->stats().tx.dropped[static_cast<std::size_t>(DropReason::undersize)], 1U);
  EXPECT_EQ(port->stats().tx.dropped[static_cast<std::size_t>(DropReason::oversize)], 1U);
}

TEST_F(Pfring, NoInterfaceIsToldBeforeTheLibraryIsAsked) {
  const auto port = open("pfring:nosuch" + with_fake);
  ASSERT_FALSE(port.has_value());
  EXPECT_NE(port.error().message().find("no interface nosuch"), std::string::npos) << port.error().message();
}

}  // namespace

}  // namespace efio::test
