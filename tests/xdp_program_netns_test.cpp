#include "efio/engines/xdp_program.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "tests/support/netns.h"

namespace efio::test {

namespace {

using testing::HasSubstr;
using Attached = Result<std::shared_ptr<XdpProgram>>;

class XdpProgramTest : public testing::Test {
 protected:
  void SetUp() override {
    EFIO_REQUIRE_NETNS();
    pair_.emplace();
  }

  Attached attach(const XdpProgram::Wish& wish = {}) {
    return pair_->a.run([&]() -> Attached {
      auto link = Link::open("va", "open xdp:va");
      if (!link) return std::unexpected(link.error());
      return XdpProgram::attach(**link, wish, "open xdp:va");
    });
  }
  std::string occupant() {
    return pair_->a.run([] { return xdp_occupant((*Link::open("va", "look"))->index()); });
  }

  std::optional<VethPair> pair_;
};

TEST_F(XdpProgramTest, AttachesInEitherModeAndLeavesNothing) {
  for (const auto way : {XdpAttach::native, XdpAttach::generic}) {
    auto program = attach({.attach = way});
    ASSERT_TRUE(program) << program.error().message();
    EXPECT_EQ((*program)->obtained(), way);
    EXPECT_THAT(pair_->a.shell("ip link show va"), HasSubstr(way == XdpAttach::native ? " xdp " : " xdpgeneric "));
    EXPECT_THAT(occupant(), HasSubstr("efio_xdp"));
    program = Attached();
    EXPECT_EQ(occupant(), "");
  }
}

TEST_F(XdpProgramTest, IsOneForAllOpeningsOfADevice) {
  auto first = attach({.attach = XdpAttach::generic});
  ASSERT_TRUE(first);
  auto second = attach();
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_EQ(*first, *second);
  auto native = attach({.attach = XdpAttach::native});
  ASSERT_FALSE(native);
  EXPECT_EQ(native.error().kind, Error::Kind::usage);
  EXPECT_THAT(native.error().message(), HasSubstr("attach=generic"));
  first = Attached();
  EXPECT_NE(occupant(), "");
  second = Attached();
  EXPECT_EQ(occupant(), "");
}

TEST_F(XdpProgramTest, TakesFragmentsOnceAnOpeningAsksForThem) {
  auto plain = attach();
  ASSERT_TRUE(plain);
  EXPECT_FALSE((*plain)->fragments());
  auto fragments = attach({.fragments = true});
  ASSERT_TRUE(fragments) << fragments.error().message();
  EXPECT_EQ(*plain, *fragments);
  EXPECT_TRUE((*plain)->fragments());
  EXPECT_THAT(occupant(), HasSubstr("efio_xdp_frags"));
}

TEST_F(XdpProgramTest, ErrorSaysWhoseProgramIsThere) {
  // Another process's, as the kernel sees it: its link is held by the child alone.
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto program = attach();
    const char answer = program ? 'y' : 'n';
    (void)!::write(ready[1], &answer, 1);
    for (;;) ::pause();
  }
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  const auto refused = attach();
  EXPECT_FALSE(refused);
  if (!refused) {
    EXPECT_EQ(refused.error().kind, Error::Kind::device);
    EXPECT_THAT(refused.error().message(), HasSubstr("(efio_xdp) of xdp_program_net, pid " + std::to_string(child)));
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(occupant(), "") << "killed, and its program is still there";
  EXPECT_TRUE(attach());
  ::close(ready[0]), ::close(ready[1]);
}

TEST_F(XdpProgramTest, StartsAgainOnADeviceThatWasMadeAgain) {
  auto before = attach();
  ASSERT_TRUE(before);
  pair_->a.ip("link del va");
  pair_->a.ip("link add va type veth peer name vb netns " + pair_->b.path());
  pair_->a.ip("link set va up");
  auto after = attach();
  ASSERT_TRUE(after) << after.error().message();
  EXPECT_NE(*before, *after);
  before = Attached();
  EXPECT_NE(occupant(), "");
  after = Attached();
  EXPECT_EQ(occupant(), "");
}

TEST_F(XdpProgramTest, OpeningAndClosingInManyThreadsAtOnceNeverFindsTheDeviceOccupied) {
  const auto link = pair_->a.run([] { return *Link::open("va", "open xdp:va"); });
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      pair_->a.enter();
      for (int i = 0; i < 25; ++i)
        if (!XdpProgram::attach(*link, {}, "open xdp:va")) ++failed;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
}

}  // namespace

}  // namespace efio::test
