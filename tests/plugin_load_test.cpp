// Plugins in shared objects: found by name and by path, checked before they are used, unloaded with their last user.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "efnet/plugins/load.h"
#include "tests/support/plugins.h"

using efnet::make_plugin;
using testing::Contains;
using testing::Field;
using testing::HasSubstr;
using namespace plugin_test;

namespace {

const std::string folder = EFIO_TEST_PLUGINS;

void refuses(const std::string& text, const char* because, efio::Error::Kind kind = efio::Error::Kind::usage) {
  const auto made = make_plugin(text);
  ASSERT_FALSE(made) << text;
  EXPECT_THAT(made.error().message(), HasSubstr(because));
  EXPECT_EQ(made.error().kind, kind);
}

bool is_loaded(const std::string& file) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.ends_with(file)) return true;
  return false;
}

TEST(SharedObject, IsLoadedByPathAndUnloadedWithItsLastPlugin) {
  auto first = make_plugin(folder + "/nothing.so");
  ASSERT_TRUE(first) << first.error().message();
  auto second = make_plugin(folder + "/nothing.so:");
  ASSERT_TRUE(second);
  EXPECT_EQ((*first)->name(), "nothing");
  first->reset();
  EXPECT_TRUE(is_loaded("/nothing.so"));
  second->reset();
  EXPECT_FALSE(is_loaded("/nothing.so"));
}

TEST(SharedObject, RunsInAPipelineLikeAClass) {
  auto [near, far] = open_ends();
  {
    efnet::Pipeline pipeline(&near.tx());
    ASSERT_TRUE(pipeline.add(folder + "/nothing.so"));
    send_numbered(far, 3);
    bounce(near, pipeline);
    EXPECT_EQ(pipeline.stats()[0].name, "nothing");
    EXPECT_EQ(pipeline.stats()[0].in.passed, 3U);
  }
  EXPECT_EQ(received(far).size(), 3U);
  EXPECT_FALSE(is_loaded("/nothing.so"));
}

TEST(SharedObject, GetsItsArgumentsAndMayRefuseThem) { refuses(folder + "/nothing.so:depth=3", "depth=3"); }

TEST(SharedObject, IsFoundByNameInTheFoldersOfTheEnvironment) {
  refuses("nothing", "there is no plugin \"nothing\"");
  ::setenv("EFIO_PLUGIN_PATH", (":/nonexistent:" + folder).c_str(), 1);
  EXPECT_EQ(efnet::plugin_folders().at(1), folder);
  EXPECT_EQ(efnet::plugin_folders().size(), 3U);
  EXPECT_TRUE(make_plugin("nothing"));
  EXPECT_THAT(efnet::plugins(), Contains(Field(&efnet::PluginInfo::description, "does nothing")));
  EXPECT_THAT(efnet::plugins(), testing::Not(Contains(Field(&efnet::PluginInfo::name, "other_abi"))));
  ::unsetenv("EFIO_PLUGIN_PATH");
}

TEST(SharedObject, IsRefusedBeforeAnythingOfItIsUsed) {
  refuses(folder + "/missing.so", "missing.so");
  refuses(folder + "/no_factory.so", "no function efnet_plugin()");
  refuses(folder + "/other_abi.so", "built for version", efio::Error::Kind::unavailable);
  refuses(folder + "/other_sizes.so", "its batches have", efio::Error::Kind::unavailable);
  EXPECT_FALSE(is_loaded("/other_sizes.so"));
}

}  // namespace
