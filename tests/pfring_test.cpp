// pfring: without PF_RING, and what needs no device.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "efio/engines/pfring_library.h"
#include "efio/port.h"

namespace efio {

namespace {

void expect(const std::string& text, std::initializer_list<std::string_view> words) {
  for (const auto word : words) EXPECT_NE(text.find(word), std::string::npos) << word << " in: " << text;
}

TEST(Pfring, WhatIsMissingIsToldWithHowToGetIt) {
  const auto all = engines();
  const auto row = std::ranges::find(all, "pfring", &EngineInfo::scheme);
  ASSERT_NE(row, all.end());
  if (row->available) GTEST_SKIP() << "PF_RING is here";
  const auto port = Port::open("pfring:lo");
  ASSERT_FALSE(port.has_value());
  EXPECT_EQ(port.error().kind, Error::Kind::unavailable);
  for (const auto& text : {row->why_not, port.error().message()}) expect(text, {"pfring-dkms", "github.com/ntop/PF_RING"});
}

TEST(Pfring, AnotherLibraryIsNotTakenForIt) {
  const auto port = Port::open("pfring:lo?library=libdl.so.2");
  ASSERT_FALSE(port.has_value());
  expect(port.error().message(), {"libdl.so.2 is no libpfring"});
  const auto missing = Port::open("pfring:lo?library=/nosuch/libpfring.so");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().kind, Error::Kind::unavailable);
  expect(missing.error().message(), {"/nosuch/libpfring.so"});
}

TEST(Pfring, TheFakeIsLoadedByTheSamePath) {
  const auto library = pfring::Library::load(EFIO_FAKE_LIBPFRING, "load");
  ASSERT_TRUE(library.has_value()) << library.error().message();
  std::uint32_t version = 0;
  EXPECT_EQ((*library)->version(nullptr, &version), 0);
  EXPECT_EQ(version, 0x080900U);
  const auto again = pfring::Library::load(EFIO_FAKE_LIBPFRING, "load");
  EXPECT_EQ(*again, *library);
}

TEST(Netmap, WhatIsMissingIsToldWithHowToGetIt) {
  if (::access("/dev/netmap", F_OK) == 0) GTEST_SKIP() << "netmap is here";
  const auto all = engines();
  const auto row = std::ranges::find(all, "netmap", &EngineInfo::scheme);
  ASSERT_NE(row, all.end());
  EXPECT_FALSE(row->available);
  const auto port = Port::open("netmap:lo");
  ASSERT_FALSE(port.has_value());
  EXPECT_EQ(port.error().kind, Error::Kind::unavailable);
  for (const auto& text : {row->why_not, port.error().message()}) expect(text, {"module", "github.com/luigirizzo/netmap", "modprobe netmap"});
}

}  // namespace

}  // namespace efio
