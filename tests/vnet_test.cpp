#include "efio/engines/vnet.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <vector>

namespace {

using efio::Metadata;

// RFC 1071 as it is written: 16-bit big-endian words, carries added back at the end.
std::uint32_t naive_sum(const std::vector<std::byte>& bytes, std::size_t from) {
  std::uint32_t sum = 0;
  for (std::size_t i = from; i < bytes.size(); ++i)
    sum += std::to_integer<std::uint32_t>(bytes[i]) << ((i - from) % 2 == 0 ? 8 : 0);
  while (sum >> 16) sum = (sum & 0xFFFF) + (sum >> 16);
  return sum;
}

TEST(Vnet, HeaderKeepsWhatMetadataSays) {
  Metadata metadata;
  metadata.checksum_needed = 1;
  metadata.checksum_start = 34;
  metadata.checksum_offset = 16;
  metadata.segment_type = efio::segment_tcp4;
  metadata.segment_size = 1448;
  metadata.header_length = 66;
  std::array<std::byte, efio::vnet_header_size> header;
  efio::write_vnet_header(header.data(), metadata);
  const auto back = efio::read_vnet_header(header.data());
  EXPECT_EQ(std::memcmp(&back, &metadata, sizeof back), 0);
}

TEST(Vnet, VerifiedChecksumIsHandedOn) {
  Metadata metadata;
  metadata.checksum_valid = 1;
  std::array<std::byte, efio::vnet_header_size> header;
  efio::write_vnet_header(header.data(), metadata);
  EXPECT_EQ(efio::read_vnet_header(header.data()).checksum_valid, 1);
  efio::clear_vnet_header(header.data());
  EXPECT_EQ(efio::read_vnet_header(header.data()).checksum_valid, 0);
}

TEST(Vnet, CompletesTheSumWhereThePseudoHeaderStands) {
  for (std::size_t size = 20; size < 120; ++size) {
    std::vector<std::byte> frame(size);
    for (std::size_t i = 0; i < size; ++i) frame[i] = static_cast<std::byte>(i * 37 + size);
    const std::size_t start = 9, offset = 6;
    const auto pseudo_header = std::to_integer<std::uint32_t>(frame[start + offset]) << 8 |
                               std::to_integer<std::uint32_t>(frame[start + offset + 1]);
    ASSERT_TRUE(efio::complete_checksum(frame, start, offset));
    // A receiver sums everything with the pseudo-header and finds all ones.
    auto whole = naive_sum(frame, start) + pseudo_header;
    whole = (whole & 0xFFFF) + (whole >> 16);
    EXPECT_EQ(whole, 0xFFFFU) << size;
  }
}

TEST(Vnet, NeverStoresTheZeroThatMeansNone) {
  std::vector<std::byte> frame(8);
  frame[0] = frame[1] = std::byte{0xFF};  // sums up to 0xFFFF, whose complement is 0
  ASSERT_TRUE(efio::complete_checksum(frame, 0, 6));
  EXPECT_EQ(frame[6], std::byte{0xFF});
  EXPECT_EQ(frame[7], std::byte{0xFF});
}

TEST(Vnet, CompletesSctpWithCrc32c) {
  // RFC 3720, B.4: the CRC32c of 32 bytes of zeros is 8a9136aa, stored as aa 36 91 8a.
  std::vector<std::byte> frame(32 + 5);
  frame[5 + 8] = std::byte{0x55};  // whatever stands in the field counts as zero
  ASSERT_TRUE(efio::complete_checksum(frame, 5, 8));
  EXPECT_EQ(std::to_integer<int>(frame[13]), 0xAA);
  EXPECT_EQ(std::to_integer<int>(frame[14]), 0x36);
  EXPECT_EQ(std::to_integer<int>(frame[15]), 0x91);
  EXPECT_EQ(std::to_integer<int>(frame[16]), 0x8A);
}

TEST(Vnet, LeavesAFrameThatIsTooShortAlone) {
  std::vector<std::byte> frame(40, std::byte{1});
  const auto before = frame;
  EXPECT_FALSE(efio::complete_checksum(frame, 34, 16));
  EXPECT_FALSE(efio::complete_checksum(frame, 33, 6));
  EXPECT_FALSE(efio::complete_checksum(frame, 65535, 65535));
  EXPECT_FALSE(efio::complete_checksum(frame, 29, 8));
  EXPECT_EQ(frame, before);
}

}  // namespace
