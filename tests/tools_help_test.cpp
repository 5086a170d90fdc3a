#include "tools/common/help.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>
#include <cstdio>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "efio/version.h"

namespace {

using testing::HasSubstr;
using testing::Not;

class Help : public testing::Test {
 protected:
  Help() {
    app_.require_subcommand(1);
    app_.footer("frob-nicate tx pipe:x --rate 1M\nfrob-nicate show arp");
    efio::tools::add_help(app_);
    auto* tx = app_.add_subcommand("tx", "Send: what it can't receive");
    tx->add_option("PORT", port_, "Where to")->required();
    tx->add_option("-m,--mode", mode_, "How [it's quick]")->check(CLI::IsMember({"fast", "slow"}));
    tx->add_option("--write", mode_, "Capture to here")->type_name("FILE");
    tx->add_option("--secret", mode_, "Not shown")->group("");
    tx->add_flag("--json", flag_, "One object");
    app_.add_subcommand("show", "Look")
        ->require_subcommand(1)
        ->add_subcommand("arp", "Neighbours")
        ->add_flag("--all", flag_);
    app_.add_subcommand("internal", "Not shown")->group("");
  }

  // What a shell prints when it runs `script`; its errors are part of it.
  static std::string output(const std::string& command) {
    const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen((command + " 2>&1").c_str(), "r"), pclose);
    std::string text;
    for (int c = std::fgetc(pipe.get()); c != EOF; c = std::fgetc(pipe.get())) text += static_cast<char>(c);
    return text;
  }
  static std::string file(const std::string& name, const std::string& text) {
    const auto path = std::filesystem::path(testing::TempDir()) / ("efio_help_" + std::to_string(getpid()) + name);
    std::ofstream(path) << text;
    return path;
  }
  // What bash offers after these words.
  std::string offered(const std::string& words, int at) {
    const std::string script = file("bash", efio::tools::bash_completion(app_));
    return output("bash -c 'source " + script + "; COMP_WORDS=(" + words + "); COMP_CWORD=" + std::to_string(at) +
                  "; _frob_nicate; echo \"${COMPREPLY[@]}\"'");
  }

  CLI::App app_{"Frobs what is given\n\nThe rest of\n.the story.", "frob-nicate"};
  std::string port_;
  std::string mode_;
  bool flag_ = false;
};

TEST_F(Help, ManPageSaysWhatTheOptionTableSays) {
  const std::string page = efio::tools::man_page(app_);
  EXPECT_THAT(page, HasSubstr(".SH NAME\nfrob\\-nicate \\- Frobs what is given\n"));
  EXPECT_THAT(page, HasSubstr("frob\\-nicate tx PORT [OPTION...]\n"));
  EXPECT_THAT(page, HasSubstr("\\fB\\-m\\fR, \\fB\\-\\-mode\\fR"));
  EXPECT_THAT(page, HasSubstr("(one of: fast, slow)"));
  EXPECT_THAT(page, HasSubstr("frob\\-nicate show arp"));
  EXPECT_THAT(page, HasSubstr("\n\\&.the story."));
  EXPECT_THAT(page, Not(HasSubstr("secret")));
  EXPECT_THAT(page, Not(HasSubstr("internal")));
  EXPECT_THAT(page, Not(HasSubstr("help\\-man")));
}

TEST_F(Help, GroffFindsNothingToSay) {
  if (output("command -v groff").empty()) GTEST_SKIP() << "no groff";
  EXPECT_EQ(output("groff -man -ww -z -Tutf8 " + file("man", efio::tools::man_page(app_))), "");
}

TEST_F(Help, BashOffersWhatMayFollow) {
  EXPECT_THAT(offered("frob-nicate \"\"", 1), HasSubstr("tx show"));
  EXPECT_EQ(offered("frob-nicate sh", 1), "show\n");
  EXPECT_EQ(offered("frob-nicate tx x --mo", 3), "--mode\n");
  EXPECT_EQ(offered("frob-nicate tx x --mode \"\"", 4), "fast slow\n");
  EXPECT_EQ(offered("frob-nicate show arp --a", 3), "--all\n");
  EXPECT_EQ(offered("frob-nicate tx --sec", 2), "\n");
}

TEST_F(Help, ZshReadsItsCompletion) {
  if (output("command -v zsh").empty()) GTEST_SKIP() << "no zsh";
  const std::string text = efio::tools::zsh_completion(app_);
  EXPECT_EQ(output("zsh -n " + file("zsh", text)), "");
  EXPECT_THAT(text, HasSubstr("#compdef frob-nicate\n"));
  EXPECT_THAT(text, HasSubstr("compadd fast slow"));
  EXPECT_THAT(text, HasSubstr("'tx:Send: what it can'\\''t receive'"));
}

TEST_F(Help, HiddenOptionsPrintAndEndWithZeroThoughACommandIsRequired) {
  for (const char* option : {"--help-man", "--help-bash", "--help-zsh"}) {
    testing::internal::CaptureStdout();
    try {
      app_.parse(option, false);
      ADD_FAILURE() << option << " did not end the program";
    } catch (const CLI::ParseError& end) {
      EXPECT_EQ(app_.exit(end), 0);
    }
    EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr("frob"));
  }
}

TEST_F(Help, VersionIsTheLibrarys) {
  try {
    app_.parse("--version", false);
    FAIL();
  } catch (const CLI::CallForVersion& end) {
    EXPECT_EQ(std::string(end.what()), "frob-nicate " + std::string(efio::version()));
  }
}

}  // namespace
