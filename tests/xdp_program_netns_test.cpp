#include "efio/engines/xdp_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/if_link.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
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

  static Attached attach_here(const XdpProgram::Wish& wish = {}) {
    auto link = Link::open("va", "open xdp:va");
    if (!link) return std::unexpected(link.error());
    return XdpProgram::attach(**link, wish, "open xdp:va");
  }
  Attached attach(const XdpProgram::Wish& wish = {}) {
    return pair_->a.run([&] { return attach_here(wish); });
  }

  // Whether the task succeeds in a child that is nobody and has these capabilities alone.
  template <class Task>
  bool holds_with(std::uint64_t capabilities, Task&& task) {
    const pid_t child = ::fork();
    if (child == 0) {
      pair_->a.enter();
      __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
      std::array<__user_cap_data_struct, 2> data{};
      for (std::size_t i = 0; i < 2; ++i)
        data[i].effective = data[i].permitted = static_cast<std::uint32_t>(capabilities >> 32 * i);
      const bool dropped = ::prctl(PR_SET_KEEPCAPS, 1) == 0 && ::syscall(SYS_setresuid, 65534, 65534, 65534) == 0 &&
                           ::syscall(SYS_capset, &header, data.data()) == 0;
      ::_exit(dropped && task() ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
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
    EXPECT_THAT(refused.error().message(), testing::AllOf(HasSubstr("another process has va open"), HasSubstr("(efio_xdp) of xdp_program_net, pid " + std::to_string(child)),
                                HasSubstr("broker=")));
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(occupant(), "") << "killed, and its program is still there";
  EXPECT_TRUE(attach());
  ::close(ready[0]), ::close(ready[1]);
}

constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }

// As `ip link set va xdp object …` does it: nobody holds it, and it stays.
TEST_F(XdpProgramTest, LeavesAProgramOfTheAdministratorWhereItIs) {
  const std::array<bpf_insn, 2> pass{bpf_insn{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = XDP_PASS},
                                     bpf_insn{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  Fd theirs(bpf_prog_load(BPF_PROG_TYPE_XDP, "their_own", "GPL", pass.data(), pass.size(), nullptr));
  ASSERT_TRUE(theirs);
  const auto index = pair_->a.run([] { return (*Link::open("va", "look"))->index(); });
  ASSERT_EQ(pair_->a.run([&] { return bpf_xdp_attach(index, theirs.get(), XDP_FLAGS_SKB_MODE, nullptr); }), 0);
  theirs = Fd();
  for (const auto way : {XdpAttach::automatic, XdpAttach::native, XdpAttach::generic}) {
    const auto refused = attach({.attach = way});
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(), testing::AllOf(HasSubstr("(their_own)"), HasSubstr("xdpgeneric off")));
  }
  EXPECT_THAT(occupant(), HasSubstr("their_own"));
  pair_->a.shell("ip link set va xdp off; ip link set va xdpgeneric off");
  EXPECT_TRUE(attach());
}

TEST_F(XdpProgramTest, NeedsNoMoreThanThreeCapabilities) {
  for (const bool fragments : {false, true})
    EXPECT_TRUE(holds_with(bit(CAP_NET_RAW) | bit(CAP_NET_ADMIN) | bit(CAP_BPF), [&] {
      const auto program = attach_here({.fragments = fragments});
      if (!program) std::fprintf(stderr, "%s\n", program.error().message().c_str());
      const auto rules = XdpRules::parse("udp:4000-5000,ip6:2001:db8::/32", "steer");
      return program && (*program)->set_rules(0, *rules, "steer").has_value();
    }));
}

TEST_F(XdpProgramTest, SaysWhichCapabilitiesAreMissing) {
  for (const auto capabilities : {std::uint64_t{0}, bit(CAP_NET_RAW) | bit(CAP_NET_ADMIN), bit(CAP_BPF)})
    EXPECT_TRUE(holds_with(capabilities, [&] {
      const auto program = attach_here();
      return !program && program.error().kind == Error::Kind::permission &&
             program.error().message().find("cap_bpf") != std::string::npos;
    }));
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
