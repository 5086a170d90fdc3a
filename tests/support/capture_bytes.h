// Capture files made by hand in memory, in either byte order, independently of the library's writer.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace efio::test {

class CaptureBytes {
 public:
  explicit CaptureBytes(bool big_endian = false) : big_(big_endian) {}

  CaptureBytes& u8(unsigned value) { return bytes_ += static_cast<char>(value), *this; }
  CaptureBytes& u16(unsigned value) { return big_ ? u8(value >> 8).u8(value) : u8(value).u8(value >> 8); }
  CaptureBytes& u32(std::uint64_t value) {
    const auto low = static_cast<unsigned>(value & 0xffff), high = static_cast<unsigned>(value >> 16 & 0xffff);
    return big_ ? u16(high).u16(low) : u16(low).u16(high);
  }
  CaptureBytes& u64(std::uint64_t value) { return big_ ? u32(value >> 32).u32(value) : u32(value).u32(value >> 32); }
  CaptureBytes& data(std::string_view value) { return bytes_ += value, *this; }
  CaptureBytes& pad() {
    while (bytes_.size() % 4 != 0) bytes_ += '\0';
    return *this;
  }
  CaptureBytes& option(unsigned code, std::string_view value) {
    return u16(code).u16(static_cast<unsigned>(value.size())).data(value).pad();
  }

  // --- classic ---
  CaptureBytes& file_header(std::uint64_t magic = 0xa1b23c4d, std::uint64_t link_type = 1) {
    return u32(magic).u16(2).u16(4).u32(0).u32(0).u32(262144).u32(link_type);
  }
  CaptureBytes& record(std::uint64_t seconds, std::uint64_t fraction, std::string_view frame, std::uint64_t length = 0) {
    return u32(seconds).u32(fraction).u32(frame.size()).u32(length == 0 ? frame.size() : length).data(frame);
  }

  // --- pcapng: each block's body is made with a CaptureBytes of its own, of the same byte order ---
  CaptureBytes& block(std::uint64_t type, const CaptureBytes& body) {
    const auto total = (body.bytes_.size() + 3) / 4 * 4 + 12;
    return u32(type).u32(total).data(body.bytes_).pad().u32(total);
  }
  CaptureBytes body() const { return CaptureBytes(big_); }
  CaptureBytes& section() { return block(0x0a0d0d0a, body().u32(0x1a2b3c4d).u16(1).u16(0).u64(~std::uint64_t{0})); }
  CaptureBytes& interface(unsigned link_type = 1, std::uint64_t snaplen = 0, const CaptureBytes& options = CaptureBytes()) {
    return block(1, body().u16(link_type).u16(0).u32(snaplen).data(options.bytes_));
  }
  CaptureBytes& packet(std::uint64_t interface, std::uint64_t ticks, std::string_view frame, std::uint64_t length = 0) {
    return block(6, body().u32(interface).u32(ticks >> 32).u32(ticks).u32(frame.size())
                        .u32(length == 0 ? frame.size() : length).data(frame).pad());
  }

  const std::string& str() const { return bytes_; }
  void write_to(const std::string& path) const { std::ofstream(path, std::ios::binary) << bytes_; }

 private:
  bool big_;
  std::string bytes_;
};

// A frame of so many bytes that differs from others by its number.
inline std::string captured_frame(std::size_t size, unsigned number) {
  std::string frame(size, '\0');
  for (std::size_t i = 0; i < size; ++i) frame[i] = static_cast<char>(i < 14 ? (i == 12 ? 0x88 : i == 13 ? 0xb5 : 2) : number + i);
  return frame;
}

}  // namespace efio::test
