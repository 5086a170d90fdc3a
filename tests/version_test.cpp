#include "efio/version.h"

#include <gtest/gtest.h>

#include <algorithm>

TEST(Version, IsThreeNumbers) {
  const auto version = efio::version();
  EXPECT_EQ(std::ranges::count(version, '.'), 2);
  EXPECT_TRUE(std::ranges::all_of(version, [](char c) { return c == '.' || (c >= '0' && c <= '9'); })) << version;
}

TEST(Version, IsTheProjects) { EXPECT_EQ(efio::version(), EFIO_PROJECT_VERSION); }
