#include "efio/engines/vnet.h"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "efio/checksum.h"

namespace efio {

namespace {

struct VnetHeader {
  std::uint8_t flags, segment_type;
  std::uint16_t header_length, segment_size, checksum_start, checksum_offset;
};
static_assert(sizeof(VnetHeader) == vnet_header_size);

constexpr std::uint8_t needs_checksum = 1, checksum_valid = 2;

constexpr std::size_t sctp_checksum_offset = 8;

// Castagnoli's polynomial, reflected.
constexpr auto crc32c_table = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82F63B78U : 0U);
    table[i] = value;
  }
  return table;
}();

std::uint32_t crc32c(std::span<const std::byte> bytes) noexcept {
  std::uint32_t crc = ~0U;
  for (const auto byte : bytes) crc = (crc >> 8) ^ crc32c_table[(crc ^ std::to_integer<std::uint32_t>(byte)) & 0xFF];
  return ~crc;
}

template <class T>
void store(std::span<std::byte> bytes, std::size_t at, T value, std::endian order) noexcept {
  if (std::endian::native != order) value = std::byteswap(value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

}  // namespace

Metadata read_vnet_header(const std::byte* header) noexcept {
  VnetHeader fields;
  std::memcpy(&fields, header, sizeof fields);
  Metadata metadata;
  metadata.checksum_needed = (fields.flags & needs_checksum) != 0 ? 1 : 0;
  metadata.checksum_valid = (fields.flags & checksum_valid) != 0 ? 1 : 0;
  metadata.segment_type = fields.segment_type;
  metadata.segment_size = fields.segment_size;
  metadata.header_length = fields.header_length;
  metadata.checksum_start = fields.checksum_start;
  metadata.checksum_offset = fields.checksum_offset;
  return metadata;
}

void write_vnet_header(std::byte* header, const Metadata& metadata) noexcept {
  VnetHeader fields{};
  if (metadata.checksum_needed != 0) {
    fields.flags = needs_checksum;
    fields.checksum_start = metadata.checksum_start;
    fields.checksum_offset = metadata.checksum_offset;
  } else if (metadata.checksum_valid != 0) {
    fields.flags = checksum_valid;
  }
  fields.segment_type = metadata.segment_type;
  fields.segment_size = metadata.segment_size;
  fields.header_length = metadata.header_length;
  std::memcpy(header, &fields, sizeof fields);
}

bool complete_checksum(std::span<std::byte> frame, std::size_t start, std::size_t offset) noexcept {
  if (offset == sctp_checksum_offset) {
    if (start + offset + 4 > frame.size()) return false;
    store<std::uint32_t>(frame, start + offset, 0, std::endian::native);
    store<std::uint32_t>(frame, start + offset, crc32c(frame.subspan(start)), std::endian::little);
    return true;
  }
  if (start + offset + 2 > frame.size()) return false;
  // The place holds the pseudo-header's sum, so the sum over everything is the answer. 0 would mean "none" in UDP; its
  // other form, 0xFFFF, says the same to every protocol.
  const auto sum = checksum(frame.subspan(start));
  store<std::uint16_t>(frame, start + offset, sum == 0 ? 0xFFFF : sum, std::endian::big);
  return true;
}

}  // namespace efio
