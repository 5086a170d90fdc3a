#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/directory.h"
#include "tools/common/watch.h"

using namespace efio;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

// A process 7 with the threads that a test gives it.
class WatchFiles : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = folder_.file("root") + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  struct Thread {
    int cpu = 0;
    unsigned preempted = 0, moved = 0;
    std::uint64_t run_ns = 0, wait_ns = 0;
    bool kernel_counts = true;
  };
  void thread(int id, const Thread& t) {
    const auto at = "/proc/7/task/" + std::to_string(id);
    write(at + "/stat",
          std::to_string(id) +
              " (work er) R 1 7 7 0 -1 0 0 0 0 0 10 20 0 0 20 0 1 0 5 1000 10 1 1 1 0 0 0 0 0 0 0 0 0 0 17 " +
              std::to_string(t.cpu) + " 0 0 0");
    write(at + "/status", "Name:\twork er\nvoluntary_ctxt_switches:\t900\nnonvoluntary_ctxt_switches:\t" +
                              std::to_string(t.preempted) + "\n");
    write(at + "/schedstat", std::to_string(t.run_ns) + " " + std::to_string(t.wait_ns) + " 5\n");
    if (t.kernel_counts)
      write(at + "/sched", "work er (7, #threads: 1)\nse.nr_migrations                             :        " +
                               std::to_string(t.moved) +
                               "\nnr_switches                                  :                   77\n");
  }
  void net(std::uint64_t dropped, std::uint64_t fifo, std::uint64_t errors) {
    write("/proc/7/net/dev", "  eth0: 100 10 " + std::to_string(errors) + " " + std::to_string(dropped) + " " +
                                 std::to_string(fifo) +
                                 " 0 0 0 200 20 0 0 0 0 0 0\n  eth1: 0 0 5 5 5 0 0 0 0 0 0 0 0 0 0 0\n");
  }
  tools::Watch watch() { return {7, "eth0", folder_.file("root")}; }

  test::Directory folder_{"efdoctor_watch", test::Directory::in_memory()};
};

TEST_F(WatchFiles, WhatWasBeforeIsNotReported) {
  thread(7, {.cpu = 1, .preempted = 50, .moved = 9, .run_ns = 1000, .wait_ns = 500});
  net(3, 2, 1);
  write("/proc/net/softnet_stat", "00000010 00000005 00000000\n");
  auto watch = this->watch();
  watch.sample();
  const auto& report = watch.report();
  EXPECT_EQ(report.moves(), 0U);
  EXPECT_EQ(report.dropped(), 0U);
  ASSERT_EQ(report.threads.size(), 1U);
  EXPECT_EQ(report.threads.at(7).preemptions, 0U);
  EXPECT_EQ(report.threads.at(7).name, "work er");
  EXPECT_THAT(report.events, IsEmpty());
}

TEST_F(WatchFiles, MovesPreemptionsAndWaitsAreTheKernels) {
  thread(7, {.cpu = 1, .preempted = 50, .moved = 9, .run_ns = 1000, .wait_ns = 500});
  auto watch = this->watch();
  // Away and back between two looks: the kernel counted both.
  thread(7, {.cpu = 1, .preempted = 53, .moved = 11, .run_ns = 9000, .wait_ns = 700});
  watch.sample();
  thread(7, {.cpu = 3, .preempted = 53, .moved = 12, .run_ns = 9000, .wait_ns = 700});
  watch.sample();
  const auto& seen = watch.report().threads.at(7);
  EXPECT_EQ(seen.moves, 3U);
  EXPECT_EQ(seen.preemptions, 3U);
  EXPECT_EQ(seen.run_ns, 8000U);
  EXPECT_EQ(seen.wait_ns, 200U);
  EXPECT_THAT(seen.cpus, ElementsAre(1, 3));
  ASSERT_EQ(watch.report().events.size(), 2U);
  EXPECT_THAT(watch.report().events[0].what, HasSubstr("moved 2 times, and is on processor 1"));
  EXPECT_THAT(watch.report().events[1].what, HasSubstr("moved from processor 1 to 3"));
  EXPECT_LE(watch.report().events[0].at_ns, watch.report().events[1].at_ns);
}

TEST_F(WatchFiles, WhereTheKernelDoesNotCountMovesAreThoseSeen) {
  thread(7, {.cpu = 0, .kernel_counts = false});
  auto watch = this->watch();
  for (const int cpu : {1, 1, 0}) {
    thread(7, {.cpu = cpu, .kernel_counts = false});
    watch.sample();
  }
  EXPECT_EQ(watch.report().moves(), 2U);
}

TEST_F(WatchFiles, AThreadThatComesLaterCountsFromItsBirthAndOneThatEndsIsKept) {
  thread(7, {});
  auto watch = this->watch();
  thread(8, {.cpu = 2, .preempted = 4, .moved = 5});
  watch.sample();
  std::filesystem::remove_all(folder_.file("root/proc/7/task"));
  watch.sample();
  ASSERT_EQ(watch.report().threads.size(), 2U);
  EXPECT_EQ(watch.report().threads.at(8).moves, 5U);
  EXPECT_EQ(watch.report().threads.at(8).preemptions, 4U);
}

TEST_F(WatchFiles, DropsAreTakenApartByPlaceAndDated) {
  thread(7, {});
  net(3, 2, 1);
  write("/proc/net/softnet_stat", "00000010 00000005 00000000\n00000010 00000000 00000000\n");
  write("/proc/7/net/udp", "  sl  local drops\n 77: 00000000:0035 00000000:0000 07 0 2 10\n");
  auto watch = this->watch();
  net(3, 9, 2);  // drivers may count overruns in both columns: 9 of them, and one damaged more
  watch.sample();
  write("/proc/net/softnet_stat", "00000010 00000007 00000000\n00000010 00000004 00000000\n");
  watch.sample();
  write("/proc/7/net/udp", "  sl  local drops\n 77: 00000000:0035 00000000:0000 07 0 2 13\n");
  watch.sample();
  write("/proc/7/net/udp", "  sl  local drops\n");  // closed
  watch.sample();
  const auto& report = watch.report();
  EXPECT_EQ(report.drops.nic, 7U);
  EXPECT_EQ(report.drops.softnet, 6U);
  EXPECT_EQ(report.drops.socket, 3U);
  EXPECT_EQ(report.dropped(), 16U);
  ASSERT_EQ(report.events.size(), 3U);
  EXPECT_EQ(report.events[0].what, "7 frames lost: by the device");
  EXPECT_EQ(report.events[1].what, "6 frames lost: in a backlog of the kernel");
  EXPECT_EQ(report.events[2].what, "3 frames lost: at a socket");
}

TEST_F(WatchFiles, ProcessorsAreThoseThatItRanOn) {
  thread(7, {.cpu = 1});
  write("/proc/stat", "cpu0 0 0 0 0 0 0 0 0\ncpu1 100 0 0 100 0 0 10 5\n");
  write("/sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "1200000\n");
  auto watch = this->watch();
  write("/proc/stat", "cpu0 9 0 0 9 0 0 0 9\ncpu1 130 0 0 160 0 0 17 8\n");
  write("/sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "3400000\n");
  watch.sample();
  const auto& report = watch.report();
  ASSERT_EQ(report.cpus.size(), 1U);
  const auto& cpu = report.cpus.at(1);
  EXPECT_EQ(cpu.times.softirq, 7U);
  EXPECT_EQ(cpu.times.total(), 100U);
  EXPECT_EQ(report.stolen_ms(), 30);
  EXPECT_EQ(cpu.slowest_khz, 1200000U);
  EXPECT_EQ(cpu.fastest_khz, 3400000U);
  ASSERT_EQ(report.events.size(), 1U);
  EXPECT_THAT(report.events[0].what, HasSubstr("processor 1: 30 ms stolen"));
}

TEST_F(WatchFiles, EventsAreBounded) {
  thread(7, {});
  auto watch = this->watch();
  for (unsigned i = 1; i <= 1100; ++i) {
    net(i, 0, 0);
    watch.sample();
  }
  EXPECT_EQ(watch.report().events.size(), 1000U);
  EXPECT_EQ(watch.report().events_left_out, 100U);
  EXPECT_EQ(watch.report().drops.nic, 1100U);
}

TEST_F(WatchFiles, AProcessThatIsNotThereIsNothing) {
  auto watch = this->watch();
  watch.sample();
  EXPECT_TRUE(watch.report().threads.empty());
  EXPECT_EQ(watch.report().samples, 1U);
}

}  // namespace
