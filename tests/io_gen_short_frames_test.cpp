// The quick loops over 60-byte frames: every version that this processor runs makes the same bytes as the general one,
// and tells the same prefix of good frames.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "efio/checksum.h"
#include "efnet/wire/checksum.h"
#include "tools/io_gen/frame_template.h"
#include "tools/io_gen/short_frames.h"
#include "tools/io_gen/tag.h"

namespace {

using efio::Slot;
using efio::io_gen::FlowFields;
using efio::io_gen::FrameTemplate;
using efio::io_gen::ShortKernel;
using efio::io_gen::ShortTemplate;

constexpr std::size_t frames = 75;  // not a multiple of what a version takes at a time

struct Batch {
  std::vector<std::byte> memory = std::vector<std::byte>(frames * 128, std::byte{0xA5});
  std::vector<Slot> slots = std::vector<Slot>(frames);
  Batch() {
    for (std::size_t i = 0; i < frames; ++i)
      slots[i] = {memory.data() + i * 128, 0, static_cast<std::uint16_t>(i % 60), 0, 0, i};
  }
};

struct Wanted {
  ShortTemplate frame;
  std::vector<FlowFields> flows;
  std::vector<std::uint32_t> chosen;
  std::vector<std::uint64_t> names;

  explicit Wanted(unsigned seed) {
    std::mt19937_64 random(seed);
    const auto base = FrameTemplate::of({});
    std::memcpy(frame.words.data(), base.bytes.data(), sizeof frame.words);
    const std::uint64_t time = random();
    std::memcpy(reinterpret_cast<std::byte*>(frame.words.data()) + 52, &time, sizeof time);
    frame.ip_sum = base.ip_sum(60);
    frame.transport_sum = base.transport_sum(60) + (time & 0xFFFF'FFFF) + (time >> 32);
    const auto word = [&] { return static_cast<std::uint32_t>(random() % 5 == 0 ? UINT64_MAX : random()); };
    for (int i = 0; i < 20; ++i) flows.push_back({word(), word(), word(), 0});
    for (std::size_t i = 0; i < frames; ++i) {
      chosen.push_back(static_cast<std::uint32_t>(random() % flows.size()));
      names.push_back(random());
    }
  }
  Batch fill(const ShortKernel& kernel) const {
    Batch batch;
    kernel.fill(frame, batch.slots.data(), flows.data(), chosen.data(), names.data(), frames);
    return batch;
  }
};

TEST(ShortFrames, EveryVersionMakesRightFrames) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    const Wanted wanted(seed);
    for (const auto& kernel : efio::io_gen::short_kernels()) {
      const Batch batch = wanted.fill(kernel);
      for (std::size_t i = 0; i < frames; ++i) {
        const auto bytes = batch.slots[i].bytes();
        ASSERT_EQ(bytes.size(), 60U);
        ASSERT_EQ(efnet::verify_frame(bytes), efnet::ChecksumState::right) << kernel.name << " seed " << seed;
        ASSERT_EQ(efnet::load64(bytes, 44), wanted.names[i]) << kernel.name;
        ASSERT_EQ(std::memcmp(bytes.data() + 26, &wanted.flows[wanted.chosen[i]], 12), 0) << kernel.name;
      }
    }
  }
}

TEST(ShortFrames, EveryVersionMakesTheBytesOfThePlainOne) {
  const ShortKernel& plain = efio::io_gen::short_kernels().back();
  ASSERT_STREQ(plain.name, "scalar");
  for (unsigned seed = 0; seed < 200; ++seed) {
    const Wanted wanted(seed);
    const Batch expected = wanted.fill(plain);
    for (const auto& kernel : efio::io_gen::short_kernels())
      ASSERT_EQ(wanted.fill(kernel).memory, expected.memory) << kernel.name << " seed " << seed;
  }
}

TEST(ShortFrames, AnyVersionCanBeChosenByName) {
  EXPECT_FALSE(efio::io_gen::choose_short_kernel("abacus"));
  for (const auto& kernel : efio::io_gen::short_kernels()) {
    EXPECT_TRUE(efio::io_gen::choose_short_kernel(kernel.name));
    EXPECT_STREQ(efio::io_gen::short_kernel().name, kernel.name);
  }
  EXPECT_TRUE(efio::io_gen::choose_short_kernel(efio::io_gen::short_kernels().front().name));
}

TEST(ShortFrames, AComputedUdpChecksumOf0IsWrittenAsFfff) {
  for (const auto& kernel : efio::io_gen::short_kernels()) {
    Wanted wanted(1);
    // Frame 3's checksum, added to one of the words that it covers, makes it 0.
    const Batch before = wanted.fill(kernel);
    const std::uint16_t checksum = efnet::load16(before.slots[3].bytes(), 40);
    std::uint64_t low = (wanted.names[3] & 0xFFFF) + checksum;
    low = (low & 0xFFFF) + (low >> 16);
    wanted.names[3] = (wanted.names[3] & ~std::uint64_t{0xFFFF}) | low;
    const Batch after = wanted.fill(kernel);
    EXPECT_EQ(efnet::load16(after.slots[3].bytes(), 40), 0xFFFF) << kernel.name;
    EXPECT_EQ(efnet::verify_frame(after.slots[3].bytes()), efnet::ChecksumState::right) << kernel.name;
  }
}

TEST(ShortFrames, EveryVersionFindsTheFirstDamagedFrame) {
  const Wanted wanted(2);
  std::vector<std::uint64_t> names(frames);
  for (const auto& kernel : efio::io_gen::short_kernels()) {
    Batch batch = wanted.fill(kernel);
    ASSERT_EQ(kernel.check(batch.slots.data(), frames, names.data()), frames) << kernel.name;
    EXPECT_EQ(names, wanted.names) << kernel.name;
    for (std::size_t bit = 12 * 8; bit < 60 * 8; ++bit) {
      const std::size_t which = bit % frames;
      auto& byte = batch.slots[which].bytes()[bit / 8];
      byte ^= std::byte{1} << (bit % 8);
      ASSERT_EQ(kernel.check(batch.slots.data(), frames, names.data()), which) << kernel.name << " bit " << bit;
      byte ^= std::byte{1} << (bit % 8);
    }
    batch.slots[70].length = 61;
    EXPECT_EQ(kernel.check(batch.slots.data(), frames, names.data()), 70U) << kernel.name;
    batch.slots[9].flags = Slot::more;
    EXPECT_EQ(kernel.check(batch.slots.data(), frames, names.data()), 9U) << kernel.name;
  }
}

}  // namespace
