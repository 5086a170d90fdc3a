#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/support/captured.h"
#include "tests/support/killed_host.h"
#include "tools/efdoctor/checks.h"
#include "tools/efdoctor/fixer.h"

using namespace efio;
using namespace efio::doctor;
using efio::test::CapturedMachine;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

const std::string machine_file = EFIO_SOURCE_DIR "/tests/efdoctor/bare_ixgbe.host";

std::vector<Change> all_changes(Host& host) {
  std::vector<Change> changes;
  const auto facts = read_host(host, {});
  for (auto& finding : check_host(facts, {})) std::ranges::move(finding.changes, std::back_inserter(changes));
  for (const auto& name : host.devices())
    for (auto& finding : check_device(*read_device(host, name), facts, {}))
      std::ranges::move(finding.changes, std::back_inserter(changes));
  return changes;
}

struct Patient {
  CapturedMachine machine{machine_file};
  test::Directory folder{"efdoctor_state", test::Directory::in_memory()};
  std::string state = folder.file("state.json");
  std::unique_ptr<Host> host = captured_host(machine.root()).value();
  std::map<std::string, std::string> before = test::tree(machine.root());
  std::vector<Change> changes = all_changes(*host);

  std::map<std::string, std::string> now() const { return test::tree(machine.root()); }
  Result<Fixer> fixer() { return Fixer::open(*host, state); }
  std::vector<Outcome> undo() { return fixer().value().undo().value(); }
};

std::vector<Outcome::Kind> kinds(const std::vector<Outcome>& outcomes) {
  std::vector<Outcome::Kind> all;
  for (const auto& outcome : outcomes) all.push_back(outcome.kind);
  return all;
}

TEST(Fixer, EveryByteComesBack) {
  Patient patient;
  ASSERT_GT(patient.changes.size(), 12U);
  const auto outcomes = patient.fixer()->apply(patient.changes);
  ASSERT_TRUE(outcomes) << outcomes.error().message();
  EXPECT_THAT(kinds(*outcomes), testing::Each(Outcome::Kind::done));
  EXPECT_NE(patient.now(), patient.before);
  EXPECT_THAT(all_changes(*patient.host), IsEmpty()) << "what was found is mended";
  EXPECT_THAT(kinds(patient.undo()), testing::Each(Outcome::Kind::done));
  EXPECT_EQ(patient.now(), patient.before);
  EXPECT_FALSE(std::filesystem::exists(patient.state));
  EXPECT_THAT(patient.undo(), IsEmpty()) << "twice is once";
}

// Killed before, during and after each step; and the undoing killed too.
TEST(Fixer, EveryByteComesBackWhereverItIsKilled) {
  Patient patient;
  const auto steps = patient.changes.size();
  for (std::size_t step = 0; step < steps; ++step) {
    for (const auto moment :
         {test::KilledHost::Moment::before, test::KilledHost::Moment::during, test::KilledHost::Moment::after}) {
      SCOPED_TRACE(testing::Message() << "step " << step << ", moment " << static_cast<int>(moment));
      ASSERT_TRUE(test::dies([&] {
        test::KilledHost host(captured_host(patient.machine.root()).value(), step, moment);
        std::ignore = Fixer::open(host, patient.state)->apply(patient.changes);
      }));
      if (step > 0) {
        ASSERT_TRUE(std::filesystem::exists(patient.state));
        ASSERT_NE(patient.now(), patient.before);
        ASSERT_TRUE(test::dies([&] {
          test::KilledHost host(captured_host(patient.machine.root()).value(), step / 2, moment);
          std::ignore = Fixer::open(host, patient.state)->undo();
        }));
      }
      patient.undo();
      ASSERT_EQ(patient.now(), patient.before);
      ASSERT_FALSE(std::filesystem::exists(patient.state));
    }
  }
}

TEST(Fixer, AfterTwoFixesTheFirstValueComesBack) {
  Patient patient;
  auto first = patient.changes.front();
  ASSERT_TRUE(patient.fixer()->apply({first}));
  auto second = first;
  second.before = first.after;
  second.after = "powersave\n";
  ASSERT_TRUE(patient.fixer()->apply({second}));
  EXPECT_EQ(test::file_text(patient.machine.root() + first.target), "powersave\n");
  patient.undo();
  EXPECT_EQ(patient.now(), patient.before);
}

TEST(Fixer, WhatSomebodyElseChangedSinceIsLeftAlone) {
  Patient patient;
  const auto change = patient.changes.front();
  ASSERT_EQ(change.kind, Change::Kind::file);
  ASSERT_TRUE(patient.fixer()->apply({change}));
  const auto path = patient.machine.root() + change.target;
  std::ofstream(path) << "ondemand\n";
  const auto outcomes = patient.undo();
  EXPECT_THAT(kinds(outcomes), testing::ElementsAre(Outcome::Kind::left));
  EXPECT_THAT(outcomes[0].why, HasSubstr("ondemand"));
  EXPECT_EQ(test::file_text(path), "ondemand\n");
  EXPECT_THAT(patient.undo(), IsEmpty());
}

TEST(Fixer, WhatIsSoAlreadyIsNotTouched) {
  Patient patient;
  auto change = patient.changes.front();
  change.after = change.before;
  const auto outcomes = patient.fixer()->apply({change});
  ASSERT_TRUE(outcomes);
  EXPECT_THAT(kinds(*outcomes), testing::ElementsAre(Outcome::Kind::already));
  EXPECT_FALSE(std::filesystem::exists(patient.state));
}

TEST(Fixer, ARefusalLeavesNoEntryBehind) {
  Patient patient;
  const Change missing{Change::Kind::file, "/proc/sys/net/core/nothing", "", "0\n", "1\n"};
  const Change elsewhere{Change::Kind::file, "/proc/../etc/passwd", "", "0\n", "1\n"};
  const Change outside{Change::Kind::file, "/etc/passwd", "", "0\n", "1\n"};
  const Change no_device{Change::Kind::ring, "eth9", "rx", "512", "1024"};
  const auto outcomes = patient.fixer()->apply({missing, elsewhere, outside, no_device});
  ASSERT_TRUE(outcomes);
  EXPECT_THAT(kinds(*outcomes), testing::Each(Outcome::Kind::refused));
  EXPECT_FALSE(std::filesystem::exists(patient.state));
  EXPECT_EQ(patient.now(), patient.before);
}

TEST(Fixer, AStateThatOthersMayWriteIsRefused) {
  Patient patient;
  ASSERT_TRUE(patient.fixer()->apply(patient.changes));
  ::chmod(patient.state.c_str(), 0666);
  const auto fixer = patient.fixer();
  ASSERT_FALSE(fixer);
  EXPECT_EQ(fixer.error().kind, Error::Kind::permission);
}

TEST(Fixer, AStateThatNamesOtherFilesIsRefused) {
  Patient patient;
  ASSERT_TRUE(patient.fixer()->apply({patient.changes.front()}));
  auto text = test::file_text(patient.state);
  const auto at = text.find("/sys/");
  ASSERT_NE(at, std::string::npos);
  text.replace(at, 5, "/etc/");
  std::ofstream(patient.state) << text;
  const auto fixer = patient.fixer();
  ASSERT_FALSE(fixer);
  EXPECT_EQ(fixer.error().kind, Error::Kind::data);
  std::ofstream(patient.state) << "{";
  EXPECT_EQ(patient.fixer().error().kind, Error::Kind::data);
}

TEST(Fixer, OneAtATime) {
  Patient patient;
  const auto first = patient.fixer();
  ASSERT_TRUE(first);
  const auto second = patient.fixer();
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message(), HasSubstr("another efdoctor"));
}

}  // namespace
