// efdoctor at real devices, in network namespaces of the test's own. Only findings about those devices are mended
// (--only): what concerns the machine is never touched.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "tests/support/directory.h"
#include "tests/support/killed_host.h"
#include "tests/support/netns.h"
#include "tools/common/port_report.h"
#include "tools/efdoctor/checks.h"
#include "tools/efdoctor/fixer.h"

using namespace efio;
using namespace efio::doctor;
using testing::HasSubstr;
using testing::Not;

namespace {

constexpr const char* of_devices = "offload-merge,offload-segment,offload-checksum,offload-vlan,tx-queue-length";

class EfdoctorNetns : public testing::Test {
 protected:
  void SetUp() override {
    EFIO_REQUIRE_NETNS();
    pair_.emplace();
  }

  // Its standard output, and its exit code behind it.
  std::string efdoctor(const test::Netns& where, const std::string& arguments) const {
    return where.shell(std::string(EFIO_BIN_DIR) + "/efdoctor " + arguments + " --sample 0 2>&1; echo \"exit $?\"");
  }
  std::string features() const { return pair_->a.shell("ethtool -k va"); }

  std::vector<Change> changes_of(Host& host, const std::string& device) const {
    std::vector<Change> changes;
    for (auto& finding : check_device(read_device(host, device).value(), {}, {}))
      std::ranges::move(finding.changes, std::back_inserter(changes));
    return changes;
  }

  std::optional<test::VethPair> pair_;
  test::Directory folder_{"efdoctor_netns", test::Directory::in_memory()};
  std::string state_ = folder_.file("state.json");
};

// What ethtool reads is the judge of what efdoctor says and does.
TEST_F(EfdoctorNetns, OffloadsChangeAndComeBack) {
  pair_->a.shell("ethtool -K va gro on");
  const auto before = features();
  const auto dry = efdoctor(pair_->a, std::string("va --fix --dry-run --only ") + of_devices + " --state " + state_);
  EXPECT_THAT(dry, HasSubstr("would change: va: tx-tcp-segmentation: on -> off"));
  EXPECT_EQ(features(), before) << "a dry run changes nothing";
  EXPECT_FALSE(std::filesystem::exists(state_));

  const auto fix = efdoctor(pair_->a, std::string("va --fix --only ") + of_devices + " --state " + state_);
  EXPECT_THAT(fix, HasSubstr("to change: va: tx-tcp-segmentation: on -> off"));
  EXPECT_THAT(fix, HasSubstr("done: va: tx-tcp-segmentation: on -> off"));
  EXPECT_THAT(fix, Not(HasSubstr("refused")));
  EXPECT_THAT(fix, HasSubstr("exit 0"));
  const auto fixed = features();
  for (const char* off : {"tcp-segmentation-offload: off", "generic-receive-offload: off", "tx-checksumming: off",
                          "rx-vlan-offload: off", "tx-vlan-offload: off", "tx-udp-segmentation: off"})
    EXPECT_THAT(fixed, HasSubstr(off));

  EXPECT_THAT(efdoctor(pair_->a, "--undo --state " + state_), HasSubstr("exit 0"));
  EXPECT_EQ(features(), before);
  EXPECT_THAT(efdoctor(pair_->a, "--undo --state " + state_), HasSubstr("nothing to undo"));
}

TEST_F(EfdoctorNetns, ATapsQueueIsLengthened) {
  EFIO_REQUIRE(std::filesystem::exists("/dev/net/tun"), "no /dev/net/tun");
  pair_->a.shell("ip tuntap add t0 mode tap && ip link set t0 txqueuelen 100 up");
  const auto length = [&] { return pair_->a.shell("ip -o link show t0"); };
  ASSERT_THAT(length(), HasSubstr("qlen 100\\"));
  efdoctor(pair_->a, "t0 --fix --only tx-queue-length --state " + state_);
  EXPECT_THAT(length(), HasSubstr("qlen 1000\\"));
  efdoctor(pair_->a, "--undo --state " + state_);
  EXPECT_THAT(length(), HasSubstr("qlen 100\\"));
}

TEST_F(EfdoctorNetns, AllComesBackAfterBeingKilledInTheMiddle) {
  const auto before = features();
  const auto steps = pair_->a.run([&] { return changes_of(*this_host(), "va").size(); });
  ASSERT_GT(steps, 10U);
  for (const auto step : {std::size_t{0}, steps / 2, steps - 1}) {
    for (const auto moment : {test::KilledHost::Moment::before, test::KilledHost::Moment::after}) {
      SCOPED_TRACE(testing::Message() << "step " << step << ", moment " << static_cast<int>(moment));
      ASSERT_TRUE(pair_->a.run([&] {
        return test::dies([&] {
          test::KilledHost host(this_host(), step, moment);
          std::ignore = Fixer::open(host, state_)->apply(changes_of(host, "va"));
        });
      }));
      EXPECT_EQ(features() != before, step > 0 || moment == test::KilledHost::Moment::after);
      EXPECT_THAT(efdoctor(pair_->a, "--undo --state " + state_), HasSubstr("exit 0"));
      ASSERT_EQ(features(), before);
      ASSERT_FALSE(std::filesystem::exists(state_));
    }
  }
}

// A device of the same name and number elsewhere is another.
TEST_F(EfdoctorNetns, UndoWaitsForItsNamespaceAndForgetsDevicesThatAreGone) {
  pair_->a.ip("link add same index 77 type veth peer name other");
  pair_->b.ip("link add same index 77 type veth peer name other");
  pair_->a.shell("ethtool -K same gro on");
  pair_->b.shell("ethtool -K same gro off");
  efdoctor(pair_->a, "same --fix --only offload-merge --state " + state_);
  ASSERT_THAT(pair_->a.shell("ethtool -k same"), HasSubstr("generic-receive-offload: off"));
  const auto elsewhere = efdoctor(pair_->b, "--undo --state " + state_);
  EXPECT_THAT(elsewhere, HasSubstr("waiting"));
  EXPECT_THAT(elsewhere, HasSubstr("exit 3"));
  EXPECT_THAT(pair_->b.shell("ethtool -k same"), HasSubstr("generic-receive-offload: off"));
  ASSERT_TRUE(std::filesystem::exists(state_));
  pair_->a.ip("link del same");
  const auto gone = efdoctor(pair_->a, "--undo --state " + state_);
  EXPECT_THAT(gone, HasSubstr("gone"));
  EXPECT_THAT(gone, HasSubstr("exit 0"));
  EXPECT_FALSE(std::filesystem::exists(state_));
}

TEST_F(EfdoctorNetns, SaysOfADeviceWhatEthtoolSays) {
  pair_->a.shell("ip link set va mtu 1400 && ip link set vb down 2>/dev/null; true");
  pair_->b.ip("link set vb down");
  const auto device = pair_->a.run([] { return ask_device("va"); });
  ASSERT_TRUE(device) << device.error().message();
  EXPECT_EQ(device->driver, "veth");
  EXPECT_EQ(device->mtu, 1400U);
  EXPECT_TRUE(device->up);
  EXPECT_FALSE(device->carrier);
  ASSERT_TRUE(device->channels);
  EXPECT_EQ(device->channels->rx, 1U);
  EXPECT_FALSE(device->rings) << "a veth has none";
  const auto text = features();
  for (const char* name : {"tx-tcp-segmentation", "tx-udp-segmentation", "rx-gro-list", "tx-gso-list"}) {
    const bool on = text.find(std::string(name) + ": on") != std::string::npos;
    EXPECT_EQ(device->features.at(name).on, on) << name;
  }
  for (const char* name : {"rx-lro", "tx-checksum-ipv4"}) EXPECT_TRUE(device->features.at(name).fixed) << name;
  ASSERT_TRUE(device->program);
  EXPECT_EQ(device->program->id, 0U);
  const auto said = efdoctor(pair_->a, "va --json");
  EXPECT_THAT(said, HasSubstr("\"link-down\""));
}

// Who holds an XDP program, only root sees; others are told so, and which privileges they lack.
TEST_F(EfdoctorNetns, TellsWhoseAnXdpProgramIs) {
  const auto attached = [&] { return pair_->a.shell("ip -o link show va").find("prog/xdp") != std::string::npos; };
  const auto holder = pair_->a.run([&] {
    const auto child = ::fork();
    if (child == 0)
      ::execl(EFIO_BIN_DIR "/io_gen", "io_gen", "rx", "xdp:va", "--duration", "60", "--json", nullptr), ::_exit(1);
    return child;
  });
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!attached() && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto held = efdoctor(pair_->a, "va --only xdp-program");

  const auto program = folder_.file("efdoctor");
  std::filesystem::copy_file(EFIO_BIN_DIR "/efdoctor", program);
  ::chmod(folder_.file("").c_str(), 0755);
  const auto unprivileged =
      pair_->a.shell("setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all " + program +
                     " va --only xdp-program,capabilities,offload-segment --sample 0; echo \"exit $?\"");
  ::kill(holder, SIGKILL);
  ::waitpid(holder, nullptr, 0);

  EXPECT_THAT(held, HasSubstr("of process " + std::to_string(holder) + " (io_gen)"));
  EXPECT_THAT(held, HasSubstr("exit 0"));
  EXPECT_THAT(unprivileged, HasSubstr("whose, only root can see"));
  EXPECT_THAT(unprivileged, HasSubstr("CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF"));
  EXPECT_THAT(unprivileged, HasSubstr("tx-tcp-segmentation"));
  EXPECT_THAT(unprivileged, HasSubstr("not seen, for want of a privilege: /proc/"));
  EXPECT_THAT(unprivileged, HasSubstr("exit 1"));
}

// Only the first process counts, not what it starts.
TEST_F(EfdoctorNetns, WatchReportsAThreadMovedOnPurpose) {
  EFIO_REQUIRE(std::thread::hardware_concurrency() > 1, "one processor");
  const std::string binds = "import os, time\\nfor cpu in (0, 1, 0): os.sched_setaffinity(0, {cpu}); time.sleep(0.05)";
  const auto watched = [&](const std::string& before, const std::string& command) {
    const auto out = pair_->a.shell(before + " " + EFIO_BIN_DIR "/efdoctor --watch va --json -- " + command + "; true");
    return tools::Json::parse(out)["watch"];
  };
  const auto moved = watched("", "/usr/bin/python3 -c \"$(printf '" + binds + "')\"");
  EXPECT_EQ(moved["exit_code"], 0);
  EXPECT_GE(moved["moves"], 2) << moved.dump(2);
  ASSERT_EQ(moved["threads"].size(), 1U);
  EXPECT_EQ(moved["threads"][0]["cpus"], (tools::Json{0, 1}));
  EXPECT_THAT(moved["events"].dump(), HasSubstr("moved from processor 1 to 0"));

  const auto still = watched("taskset -c 0", "sleep 0.2");
  EXPECT_EQ(still["moves"], 0) << still.dump(2);
  EXPECT_GE(still["watched_s"], 0.19);
  EXPECT_EQ(watched("", "sh -c 'exit 7'")["exit_code"], 7);
  EXPECT_EQ(watched("", "sh -c 'kill -9 $$'")["exit_code"], 128 + SIGKILL);
  EXPECT_THAT(pair_->a.shell(EFIO_BIN_DIR "/efdoctor --watch va -- /no/such/program 2>&1; echo \"exit $?\""),
              testing::AllOf(HasSubstr("run /no/such/program"), HasSubstr("exit 3")));
}

// Frames of an EtherType that nobody has asked for: the kernel counts each as dropped by the device.
TEST_F(EfdoctorNetns, WatchCountsWhatTheDeviceDrops) {
  const std::string sends =
      "import socket\\ns = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((\"vb\", 0))\\n"
      "for i in range(123): s.send(bytes.fromhex(\"ffffffffffff02000000000188b5\") + bytes(46))";
  const auto script = folder_.file("send.py");
  pair_->a.shell("printf '" + sends + "' > " + script);
  const auto out =
      pair_->a.shell(EFIO_BIN_DIR "/efdoctor --watch va --json -- sh -c 'nsenter --net=" + pair_->b.path() +
                     " /usr/bin/python3 " + script + "; sleep 0.05'; true");
  const auto watch = tools::Json::parse(out)["watch"];
  EXPECT_EQ(watch["exit_code"], 0);
  EXPECT_EQ(watch["dropped"]["nic"], 123) << watch.dump(2);
  EXPECT_THAT(watch["events"].dump(), HasSubstr("by the device"));
}

}  // namespace
