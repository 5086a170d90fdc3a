#include "tools/io_gen/short_frames.h"

#include <bit>
#include <cstring>

#include "efio/checksum.h"
#include "tools/io_gen/frame_template.h"
#include "tools/io_gen/tag.h"

namespace efio::io_gen {

static_assert(udp4_layout.ip_checksum == 24 && udp4_layout.src == 26 && udp4_layout.dst == 30 &&
              udp4_layout.ports == 34 && udp4_layout.checksum == 40 && udp4_layout.payload == 42);
static_assert(short_pattern.value[42] == Tag::magic >> 8 && short_pattern.value[43] == (Tag::magic & 0xFF));

namespace {

template <class T>
[[gnu::always_inline]] inline T get(const std::byte* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

[[gnu::always_inline]] inline void put(std::byte* at, std::uint64_t value) noexcept {
  std::memcpy(at, &value, sizeof value);
}

// One's complement sum folded; the result stands in the upper half, the lower half is anything.
[[gnu::always_inline]] inline std::uint32_t folded(std::uint64_t sum) noexcept {
  const std::uint32_t half = checksum_detail::fold32(sum);
  return half + std::rotl(half, 16);
}

[[gnu::always_inline]] inline std::uint64_t add(std::uint64_t a, std::uint64_t b) noexcept {
  return checksum_detail::add_carry(a, b);
}

constexpr std::uint64_t pattern_word(const std::array<std::uint8_t, 64>& bytes, std::size_t at) {
  std::uint64_t word = 0;
  for (std::size_t i = 8; i-- > 0;) word = word << 8 | bytes[at + i];
  return word;
}

// Bits in which eight bytes of the frame are not as the pattern says.
template <std::size_t at>
[[gnu::always_inline]] inline std::uint64_t differs(const std::byte* frame) noexcept {
  constexpr std::uint64_t mask = pattern_word(short_pattern.mask, at);
  constexpr std::uint64_t value = pattern_word(short_pattern.value, at);
  return (get<std::uint64_t>(frame + at) & mask) ^ value;
}

[[gnu::always_inline]] inline bool sums_are_right(const std::byte* frame) noexcept {
  constexpr std::uint64_t pseudo = checksum_word(std::uint16_t{17}) + checksum_word(std::uint16_t{26});
  const std::uint64_t header =
      add(add(get<std::uint64_t>(frame + 14), get<std::uint64_t>(frame + 22)), get<std::uint32_t>(frame + 30));
  const std::uint64_t datagram = add(add(add(get<std::uint64_t>(frame + 26), get<std::uint64_t>(frame + 34)),
                                         add(get<std::uint64_t>(frame + 42), get<std::uint64_t>(frame + 50))),
                                     get<std::uint16_t>(frame + 58) + pseudo);
  return (folded(header) & folded(datagram)) >= 0xFFFF'0000;
}

struct Kernels {
  std::array<ShortKernel, 3> list{};
  std::size_t count = 0;
  std::size_t chosen = 0;
  Kernels() noexcept {
    if (runs_short_avx512()) list[count++] = {"avx512", fill_short_frames_avx512, check_short_frames_avx512};
    if (runs_short_avx2()) list[count++] = {"avx2", fill_short_frames_avx2, check_short_frames_avx2};
    list[count++] = {"scalar", fill_short_frames, check_short_frames};
  }
};

Kernels& kernels() noexcept {
  static Kernels found;
  return found;
}

}  // namespace

// Words 3 and 4 hold the IPv4 checksum, addresses and ports, words 5 and 6 the UDP checksum and the tag.
void fill_short_frames(const ShortTemplate& frame, Slot* slots, const FlowFields* flows, const std::uint32_t* chosen,
                       const std::uint64_t* names, std::size_t n) noexcept {
  const auto [word0, word1, word2, word3, word4, word5, word6, word7] = frame.words;
  const std::uint64_t ip_sum = frame.ip_sum, transport_sum = frame.transport_sum;
  for (std::size_t i = 0; i < n; ++i) {
    const FlowFields& flow = flows[chosen[i]];
    const std::uint64_t src = flow.src, dst = flow.dst, ports = flow.ports;
    const std::uint64_t name = std::byteswap(names[i]);
    const std::uint64_t addresses = src + dst;
    const std::uint64_t ip = ~folded(ip_sum + addresses) >> 16;
    const std::uint64_t udp = ~folded(transport_sum + addresses + ports + (name & 0xFFFF'FFFF) + (name >> 32)) >> 16;
    std::byte* const at = slots[i].buffer + slots[i].offset;
    slots[i].length = smallest_frame;
    put(at, word0);
    put(at + 8, word1);
    put(at + 16, word2);
    put(at + 24, word3 | ip | src << 16 | dst << 48);
    put(at + 32, word4 | dst >> 16 | ports << 16);
    put(at + 40, word5 | (udp == 0 ? 0xFFFF : udp) | name << 32);  // RFC 768: 0 means none
    put(at + 48, word6 | name >> 32);
    put(at + 56, word7);
  }
}

std::size_t check_short_frames(const Slot* slots, std::size_t n, std::uint64_t* names) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const std::byte* const frame = slots[i].buffer + slots[i].offset;
    if (slots[i].length != smallest_frame || slots[i].has(Slot::more)) [[unlikely]]
      return i;
    const std::uint64_t odd = differs<12>(frame) | differs<16>(frame) | differs<36>(frame);
    if (odd != 0 || !sums_are_right(frame)) [[unlikely]]
      return i;
    names[i] = efnet::load64(frame + 44);
  }
  return n;
}

std::span<const ShortKernel> short_kernels() noexcept { return {kernels().list.data(), kernels().count}; }

const ShortKernel& short_kernel() noexcept { return kernels().list[kernels().chosen]; }

bool choose_short_kernel(std::string_view name) noexcept {
  for (std::size_t i = 0; i < kernels().count; ++i) {
    if (name != kernels().list[i].name) continue;
    kernels().chosen = i;
    return true;
  }
  return false;
}

}  // namespace efio::io_gen
