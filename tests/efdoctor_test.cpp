#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/support/captured.h"
#include "tools/common/cpus.h"
#include "tools/common/proc_text.h"
#include "tools/efdoctor/checks.h"
#include "tools/efdoctor/examine.h"
#include "tools/efdoctor/options.h"
#include "tools/efdoctor/report.h"

using namespace efio;
using namespace efio::doctor;
using efio::test::CapturedMachine;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

const std::string machines = EFIO_SOURCE_DIR "/tests/efdoctor/";

std::vector<std::string> machine_files() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(machines))
    if (entry.path().extension() == ".host") names.push_back(entry.path().stem().string());
  std::ranges::sort(names);
  return names;
}

Request request_of(const test::ExaminationCase& wanted) {
  Request request{.devices = wanted.devices, .wishes = {}, .sampling = {}};
  if (!wanted.cpus.empty()) request.wishes.cpus = tools::parse_cpus(wanted.cpus).value();
  if (!wanted.frame.empty()) request.wishes.frame = static_cast<unsigned>(std::stoul(wanted.frame));
  return request;
}

std::set<std::string> names_of(const Report& report) {
  std::set<std::string> names;
  for (const auto& finding : report.findings) names.insert(std::string(name_of(finding.severity)) + ":" + finding.id);
  return names;
}

std::string words_about(const Report& report, const std::string& id) {
  std::string words;
  for (const auto& finding : report.findings)
    if (finding.id == id) words += finding.seen + "\n" + finding.why + "\n" + finding.todo + "\n";
  return words;
}

class Machine : public testing::TestWithParam<std::string> {};

void expect_answers(const Report& report, const test::ExaminationCase& wanted) {
  const auto names = names_of(report);
  for (const auto& expected : wanted.expected) EXPECT_TRUE(names.contains(expected)) << expected;
  for (const auto& refused : wanted.refused) EXPECT_EQ(words_about(report, refused), "");
  for (const auto& [id, text] : wanted.said) EXPECT_THAT(words_about(report, id), HasSubstr(text));
}

// And looking leaves no trace in it; a capture of it gives the same.
TEST_P(Machine, GivesItsFindingsAndNoOthers) {
  const CapturedMachine machine(machines + GetParam() + ".host");
  const auto before = test::tree(machine.root());
  const test::Directory copies("efdoctor_copy", test::Directory::in_memory());
  ASSERT_FALSE(machine.cases().empty());
  for (const auto& wanted : machine.cases()) {
    SCOPED_TRACE(GetParam() + ".host, line " + std::to_string(wanted.line));
    const auto copy = copies.file(std::to_string(wanted.line));
    auto recorder = record(*captured_host(machine.root()), copy);
    ASSERT_TRUE(recorder) << recorder.error().message();
    const auto request = request_of(wanted);
    const auto report = examine(**recorder, request);
    ASSERT_TRUE(report) << report.error().message();
    expect_answers(*report, wanted);
    ASSERT_TRUE((*recorder)->finish());
    const auto again = examine(**captured_host(copy), request);
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_EQ(json(*again), json(*report));
  }
  EXPECT_EQ(test::tree(machine.root()), before);
}

INSTANTIATE_TEST_SUITE_P(All, Machine, testing::ValuesIn(machine_files()), [](const auto& name) { return name.param; });

// A check that never speaks, or always, would pass every case above.
TEST(Checks, EachIsExpectedSomewhereAndRefusedSomewhere) {
  std::set<std::string> expected, refused;
  for (const auto& name : machine_files()) {
    const CapturedMachine machine(machines + name + ".host");
    for (const auto& wanted : machine.cases()) {
      for (const auto& finding : wanted.expected) expected.insert(finding.substr(finding.find(':') + 1));
      refused.insert(wanted.refused.begin(), wanted.refused.end());
    }
  }
  std::vector<std::string_view> ids;
  for (const auto& check : host_checks()) ids.push_back(check.id);
  for (const auto& check : device_checks()) ids.push_back(check.id);
  const auto page = test::file_text(EFIO_SOURCE_DIR "/docs/efdoctor.md");
  for (const auto id : ids) {
    EXPECT_TRUE(expected.contains(std::string(id))) << id;
    EXPECT_TRUE(refused.contains(std::string(id))) << id;
    EXPECT_THAT(page, HasSubstr("| `" + std::string(id) + "` |"));
  }
  for (const auto& name : expected) EXPECT_TRUE(std::ranges::find(ids, name) != ids.end()) << name << " is no check";
  for (const auto& name : refused) EXPECT_TRUE(std::ranges::find(ids, name) != ids.end()) << name << " is no check";
}

TEST(Checks, TheWorstComesFirst) {
  const CapturedMachine machine(machines + "i40e_narrow_slot.host");
  const auto report = examine(**captured_host(machine.root()), request_of(machine.cases().front()));
  ASSERT_TRUE(report);
  EXPECT_TRUE(std::ranges::is_sorted(report->findings, std::ranges::greater{}, &Finding::severity));
  EXPECT_FALSE(report->healthy());
}

TEST(Checks, NotesLeaveAHostHealthy) {
  const CapturedMachine machine(machines + "tuned_ixgbe.host");
  const auto report = examine(**captured_host(machine.root()), request_of(machine.cases().front()));
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->healthy()) << text(*report, false);
}

TEST(Checks, WhatMayNotBeReadIsSaid) {
  const CapturedMachine machine(machines + "container.host");
  const auto report = examine(**captured_host(machine.root()), request_of(machine.cases().front()));
  ASSERT_TRUE(report);
  EXPECT_THAT(report->unseen, ElementsAre("/proc/sys/net/core/bpf_jit_enable"));
  EXPECT_THAT(text(*report, false), HasSubstr("not seen, for want of a privilege: /proc/sys/net/core/bpf_jit_enable"));
}

TEST(Checks, ADeviceThatIsNotThereIsAnError) {
  const CapturedMachine machine(machines + "container.host");
  const auto report = examine(**captured_host(machine.root()), {.devices = {"eth7"}, .wishes = {}, .sampling = {}});
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, Error::Kind::device);
  EXPECT_THAT(report.error().message(), HasSubstr("eth7"));
}

// A ring is long enough from 100 us at line rate on: at 10 Gbit/s, 14.88 frames a us, between 1488 and 1489 slots.
TEST(Checks, RingsAreJudgedByTheTimeTheyLast) {
  const HostFacts host;
  const auto found = [&](std::uint32_t slots, std::uint32_t most, std::uint32_t speed) {
    DeviceFacts device;
    device.answers.name = "eth0";
    device.answers.rings = {slots, most, 512, most};
    device.answers.link = {speed, speed, "full"};
    Findings rings;
    for (const auto& finding : check_device(device, host, {}))
      if (finding.id == "rx-ring") rings.push_back(finding);
    return rings;
  };
  EXPECT_EQ(found(1488, 4096, 10'000).size(), 1U);
  EXPECT_THAT(found(1489, 4096, 10'000), IsEmpty());
  EXPECT_THAT(found(512, 512, 10'000), IsEmpty()) << "nothing better is to be had";
  EXPECT_THAT(found(512, 4096, 0), IsEmpty()) << "the speed is not known";
  const auto rings = found(512, 1024, 100'000);
  ASSERT_EQ(rings.size(), 1U);
  ASSERT_EQ(rings[0].changes.size(), 1U);
  EXPECT_EQ(rings[0].changes[0].before, "512");
  EXPECT_EQ(rings[0].changes[0].after, "1024") << "never more than the device has";
}

TEST(Checks, PcieLanesCarryWhatTheSpecificationSays) {
  EXPECT_NEAR(PcieLink::gigabits(2.5, 1), 2.0, 0.001);
  EXPECT_NEAR(PcieLink::gigabits(5, 8), 32.0, 0.001);
  EXPECT_NEAR(PcieLink::gigabits(8, 16), 126.03, 0.01);
}

TEST(Checks, FeaturesThatCannotBeChangedAreNotPromised) {
  DeviceFacts device;
  device.answers.name = "eth0";
  device.answers.features = {{"rx-gro", {.on = true, .fixed = false}}, {"rx-lro", {.on = true, .fixed = true}}};
  for (const auto& finding : check_device(device, {}, {}))
    if (finding.id == "offload-merge") {
      EXPECT_THAT(finding.seen, HasSubstr("rx-gro, rx-lro"));
      ASSERT_EQ(finding.changes.size(), 1U);
      EXPECT_EQ(finding.changes[0].key, "rx-gro");
      return;
    }
  FAIL() << "no finding";
}

TEST(ProcText, CpuLists) {
  EXPECT_THAT(tools::cpu_list("0-3,8\n"), ElementsAre(0, 1, 2, 3, 8));
  EXPECT_THAT(tools::cpu_list(""), IsEmpty());
  EXPECT_THAT(tools::cpu_list("5,1-2,2"), ElementsAre(1, 2, 5));
  EXPECT_THAT(tools::cpu_list("x,3-1,-4,7"), ElementsAre(7));
  EXPECT_EQ(tools::cpu_list("0-99999999").size(), 8192U);
  EXPECT_EQ(tools::cpu_list_text({0, 1, 2, 3, 8}), "0-3,8");
  EXPECT_EQ(tools::cpu_list_text({2, 3}), "2,3");
  EXPECT_EQ(tools::cpu_list_text({}), "");
}

TEST(ProcText, SoftnetRowsAreThoseOfTheirProcessor) {
  const auto rows = tools::softnet(
      "00000010 00000002 00000003 0 0 0 0 0 0 0 0 00000000 00000000\n"
      "00000020 00000000 00000000 0 0 0 0 0 0 0 0 00000000 00000005\n");
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows.at(0).dropped, 2U);
  EXPECT_EQ(rows.at(5).processed, 0x20U);
  const auto old = tools::softnet("00000010 00000002 00000003\n00000020 00000001 00000000\n");
  EXPECT_EQ(old.at(1).dropped, 1U);
}

TEST(ProcText, TimesOfProcessors) {
  const auto times = tools::cpu_times("cpu  9 9 9 9 9 9 9 9\ncpu0 1 2 3 40 5 6 7 8 0 0\nintr 5\ncpu17 1 1 1 1\n");
  ASSERT_EQ(times.size(), 2U);
  EXPECT_EQ(times.at(0).total(), 72U);
  EXPECT_EQ(times.at(0).busy(), 27U);
  EXPECT_EQ(times.at(0).steal, 8U);
  EXPECT_EQ(times.at(17).steal, 0U);
  const auto backwards = times.at(17).since(times.at(0));
  EXPECT_EQ(backwards.idle, 0U);
}

TEST(ProcText, InterruptsAndDevices) {
  const auto interrupts = tools::interrupts(
      "           CPU0       CPU1       \n"
      " 24:          1          0  IO-APIC   5-edge      ACPI:Ged\n"
      "NMI:          0          0   Non-maskable interrupts\n"
      " 41:      19513          7  PCI-MSIX-0000:00:04.0   1-edge      virtio3-rx\n");
  ASSERT_EQ(interrupts.size(), 2U);
  EXPECT_THAT(interrupts.at(41).counts, ElementsAre(19513, 7));
  EXPECT_THAT(interrupts.at(41).name, HasSubstr("virtio3-rx"));
  const auto devices = tools::device_counts(
      "Inter-|   Receive                                                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
      "compressed\n"
      "  eth0: 100 10 1 2 3 0 0 0 200 20 4 5 0 0 0 0\n");
  ASSERT_EQ(devices.size(), 1U);
  const auto& eth0 = devices.at("eth0");
  EXPECT_THAT((std::vector{eth0.rx_packets, eth0.rx_errors, eth0.rx_dropped, eth0.rx_fifo, eth0.tx_packets,
                           eth0.tx_errors, eth0.tx_dropped}),
              ElementsAre(10, 1, 2, 3, 20, 4, 5));
}

TEST(ProcText, AThreadsNameMayHoldAnything) {
  const auto stat = tools::thread_stat(
      "77 (a) 9 (b) S 1 77 77 0 -1 4194304 100 0 0 0 11 22 0 0 20 0 1 0 5000 1000 10 18446744073709551615 1 1 0 0 0 0 "
      "0 0 0 0 0 0 17 3 0 0 0 0 0");
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->name, "a) 9 (b");
  EXPECT_EQ(stat->state, 'S');
  EXPECT_EQ(stat->user, 11U);
  EXPECT_EQ(stat->system, 22U);
  EXPECT_EQ(stat->cpu, 3);
  EXPECT_FALSE(tools::thread_stat("77 (a) S 1"));
}

TEST(ProcText, Limits) {
  const std::string limits =
      "Limit                     Soft Limit           Hard Limit           Units     \n"
      "Max locked memory         8388608              unlimited            bytes     \nMax file size             "
      "unlimited            unlimited            bytes\n";
  EXPECT_EQ(tools::soft_limit(limits, "Max locked memory"), 8388608U);
  EXPECT_EQ(tools::soft_limit(limits, "Max file size"), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(tools::soft_limit(limits, "Max nice priority"), std::nullopt);
}

TEST(DeviceAnswers, JsonKeepsAll) {
  DeviceAnswers answers;
  answers.name = "eth0";
  answers.features = {{"rx-gro", {.on = true, .fixed = false}}, {"rx-lro", {.on = false, .fixed = true}}};
  answers.rings = {1, 2, 3, 4};
  answers.spread = {{0, 1}, "6d5a"};
  answers.program = {.id = 9, .mode = "native"};
  answers.counts.rx_fifo = 5;
  const auto text = to_json(answers).dump(2);
  const auto again = from_json(text, "eth0.json");
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(to_json(*again).dump(2), text);
  EXPECT_EQ(again->features, answers.features);
  EXPECT_EQ(again->rings->tx_most, 4U);
  EXPECT_FALSE(again->pause);
  answers.firmware = "1.2\xff";
  EXPECT_TRUE(from_json(pretty(to_json(answers)), "eth0.json")) << "a driver may name itself by any bytes";
  EXPECT_EQ(from_json("{\"mtu\": \"x\"}", "eth0.json").error().kind, Error::Kind::data);
}

TEST(Options, RefusalsNameTheWord) {
  for (const auto& [option, value] :
       {std::pair{"--cpu", "x"}, {"--frame", "3"}, {"--sample", "soon"}, {"--sample", "2000min"}}) {
    const char* const words[] = {"efdoctor", "eth0", option, value};
    const auto options = parse_options(std::size(words), words);
    ASSERT_FALSE(options) << option;
    EXPECT_EQ(options.error().kind, Error::Kind::usage);
    EXPECT_THAT(options.error().message(), HasSubstr(std::string(option) + " " + value));
  }
}

TEST(Options, WhatStandsBehindTheDashesIsWatched) {
  const char* const words[] = {"efdoctor", "--watch", "eth0", "--json", "--", "io_gen", "rx", "--json", "--", "x"};
  const auto options = parse_options(std::size(words), words);
  ASSERT_TRUE(options && *options) << options.error().message();
  EXPECT_EQ((*options)->watch, "eth0");
  EXPECT_TRUE((*options)->json);
  EXPECT_THAT((*options)->command, ElementsAre("io_gen", "rx", "--json", "--", "x"));
  const std::vector<std::vector<const char*>> refused = {{"efdoctor", "--watch", "eth0"},
                                                         {"efdoctor", "--watch", "eth0", "--"},
                                                         {"efdoctor", "eth0", "--", "true"},
                                                         {"efdoctor", "--watch", "eth0", "--fix", "--", "true"},
                                                         {"efdoctor", "--dry-run"},
                                                         {"efdoctor", "--fix", "--undo"},
                                                         {"efdoctor", "--only", "no-such-finding"}};
  for (const auto& line : refused) {
    const auto answer = parse_options(static_cast<int>(line.size()), line.data());
    ASSERT_FALSE(answer) << line.back();
    EXPECT_EQ(answer.error().kind, Error::Kind::usage);
  }
}

TEST(Options, CaptureIsACommand) {
  const char* const words[] = {"efdoctor", "capture", "/tmp/x", "eth0", "eth1"};
  const auto options = parse_options(std::size(words), words);
  ASSERT_TRUE(options && *options);
  EXPECT_EQ((*options)->capture, "/tmp/x");
  EXPECT_THAT((*options)->request.devices, ElementsAre("eth0", "eth1"));
}

}  // namespace
