// Eight frames at a time in 512-bit registers: in the lanes of eight bytes while sums are made, in whole lines where
// frames are read. What is left over of a batch goes through the version for any processor.
#include "tools/io_gen/short_frames.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <array>
#include <cstring>

#include "tools/io_gen/traffic.h"

// g++ 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for a mistake (GCC bug 105593).
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define EFIO_AVX512 [[gnu::target("avx512f,avx512bw,bmi2")]]

namespace efio::io_gen {

namespace {

constexpr std::size_t group = 8;

[[gnu::always_inline]] inline std::byte* frame_of(const Slot& slot) noexcept { return slot.buffer + slot.offset; }

[[gnu::always_inline]] inline __m128i load(const void* at) noexcept {
  return _mm_loadu_si128(static_cast<const __m128i*>(at));
}
EFIO_AVX512 [[gnu::always_inline]] inline __m512i everywhere(std::uint64_t word) noexcept {
  return _mm512_set1_epi64(static_cast<long long>(word));
}

EFIO_AVX512 [[gnu::always_inline]] inline __m512i join(__m512i a, __m512i b, __m512i c) noexcept {
  return _mm512_ternarylogic_epi64(a, b, c, 0xFE);
}

// Lanes of eight bytes below 2^48: the two halves added.
EFIO_AVX512 [[gnu::always_inline]] inline __m512i halves(__m512i words) noexcept {
  return _mm512_add_epi64(_mm512_and_si512(words, _mm512_set1_epi64(0xFFFF'FFFF)), _mm512_srli_epi64(words, 32));
}

// One's complement sums in lanes of eight bytes, folded to 16 bits and complemented.
EFIO_AVX512 [[gnu::always_inline]] inline __m512i finish(__m512i sums) noexcept {
  const __m512i low = halves(sums);  // below 2^33: the next step takes the carry along
  const __m512i words = _mm512_add_epi64(_mm512_and_si512(low, _mm512_set1_epi64(0xFFFF)), _mm512_srli_epi64(low, 16));
  const __m512i once =
      _mm512_add_epi64(_mm512_and_si512(words, _mm512_set1_epi64(0xFFFF)), _mm512_srli_epi64(words, 16));
  const __m512i twice = _mm512_add_epi64(once, _mm512_srli_epi64(once, 16));
  return _mm512_andnot_si512(twice, _mm512_set1_epi64(0xFFFF));
}

// The records of four flows, every other one, side by side.
EFIO_AVX512 [[gnu::always_inline]] inline __m512i records(const FlowFields* flows,
                                                          const std::uint32_t* chosen) noexcept {
  __m512i all = _mm512_castsi128_si512(load(flows + chosen[0]));
  all = _mm512_inserti32x4(all, load(flows + chosen[2]), 1);
  all = _mm512_inserti32x4(all, load(flows + chosen[4]), 2);
  return _mm512_inserti32x4(all, load(flows + chosen[6]), 3);
}

EFIO_AVX512 [[gnu::always_inline]] inline void put(Slot& slot, __m512i line) noexcept {
  slot.length = smallest_frame;
  _mm512_storeu_si512(frame_of(slot), line);
}

// Four frames, every other one, from their words two by two in lanes of 16 bytes. A line is stored at once: stores wait
// in their order for one that is still on its way from another processor, and only so many can wait.
EFIO_AVX512 [[gnu::always_inline]] inline void write(Slot* slots, __m512i words01, __m512i words23, __m512i words45,
                                                     __m512i words67) noexcept {
  const __m512i low = _mm512_shuffle_i32x4(words01, words23, 0x44), high = _mm512_shuffle_i32x4(words01, words23, 0xEE);
  const __m512i low_end = _mm512_shuffle_i32x4(words45, words67, 0x44);
  const __m512i high_end = _mm512_shuffle_i32x4(words45, words67, 0xEE);
  put(slots[0], _mm512_shuffle_i32x4(low, low_end, 0x88));
  put(slots[2], _mm512_shuffle_i32x4(low, low_end, 0xDD));
  put(slots[4], _mm512_shuffle_i32x4(high, high_end, 0x88));
  put(slots[6], _mm512_shuffle_i32x4(high, high_end, 0xDD));
}

}  // namespace

bool runs_short_avx512() noexcept {
  __builtin_cpu_init();
  // vbmi2 tells the processors that do not lower their clock for 512-bit registers from those that do.
  return __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vbmi2") != 0 &&
         __builtin_cpu_supports("bmi2") != 0;
}

EFIO_AVX512 void fill_short_frames_avx512(const ShortTemplate& frame, Slot* slots, const FlowFields* flows,
                                          const std::uint32_t* chosen, const std::uint64_t* names,
                                          std::size_t n) noexcept {
  const std::array<std::uint64_t, 8>& words = frame.words;
  const __m512i words01 = _mm512_broadcast_i32x4(load(words.data()));
  const __m512i word2 = everywhere(words[2]), word3 = everywhere(words[3]), word4 = everywhere(words[4]);
  const __m512i word5 = everywhere(words[5]), word6 = everywhere(words[6]), word7 = everywhere(words[7]);
  const __m512i ip_sum = everywhere(frame.ip_sum), transport_sum = everywhere(frame.transport_sum);
  const __m512i none = _mm512_set1_epi64(0xFFFF);
  const __m512i low_half = _mm512_set1_epi64(0xFFFF'FFFF);
  const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));

  std::size_t i = 0;
  for (; i + group <= n; i += group) {
    const __m512i even = records(flows, chosen + i), odd = records(flows, chosen + i + 1);
    const __m512i addresses = _mm512_unpacklo_epi64(even, odd);  // source, destination
    const __m512i ports = _mm512_and_si512(_mm512_unpackhi_epi64(even, odd), low_half);
    const __m512i name = _mm512_shuffle_epi8(_mm512_loadu_si512(names + i), swap);

    const __m512i address_sum = halves(addresses);
    const __m512i ip = finish(_mm512_add_epi64(ip_sum, address_sum));
    __m512i udp =
        finish(_mm512_add_epi64(_mm512_add_epi64(transport_sum, address_sum), _mm512_add_epi64(ports, halves(name))));
    udp = _mm512_mask_mov_epi64(udp, _mm512_testn_epi64_mask(udp, udp), none);  // RFC 768: 0 means no checksum

    const __m512i words3 = join(word3, ip, _mm512_slli_epi64(addresses, 16));
    const __m512i words4 = join(word4, _mm512_srli_epi64(addresses, 48), _mm512_slli_epi64(ports, 16));
    const __m512i words5 = join(word5, udp, _mm512_slli_epi64(name, 32));
    const __m512i words6 = _mm512_or_si512(word6, _mm512_srli_epi64(name, 32));

    write(slots + i, words01, _mm512_unpacklo_epi64(word2, words3), _mm512_unpacklo_epi64(words4, words5),
          _mm512_unpacklo_epi64(words6, word7));
    write(slots + i + 1, words01, _mm512_unpackhi_epi64(word2, words3), _mm512_unpackhi_epi64(words4, words5),
          _mm512_unpackhi_epi64(words6, word7));
  }
  fill_short_frames(frame, slots + i, flows, chosen + i, names + i, n - i);
}

namespace {

// The words that the checksums cover, IPv4's in the first 256 bits and UDP's in the others; the two that the pattern
// holds fast (UDP length and the tag's magic) are left out and come in with the constants.
constexpr std::array<std::uint16_t, 32> covered = {7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 0,  0,  0,  0,  0,  0,
                                                   13, 14, 15, 16, 17, 18, 20, 22, 23, 24, 25, 26, 27, 28, 29, 0};
constexpr __mmask32 covered_words = 0x7FFF'03FF;
constexpr int ip_words = 10, udp_words = 15;

// Words are summed as signed ones, less 0x8000 each; the constants mend that and add what is not in the frame or was
// left out. Sums of words as they lie in memory: the lower byte is the first.
constexpr int swapped16(int word) { return (word & 0xFF) << 8 | word >> 8; }
constexpr int ip_constant = ip_words * 0x8000;
constexpr int udp_constant = udp_words * 0x8000 + swapped16(17) + 2 * swapped16(26) + swapped16(0xEF10);

EFIO_AVX512 [[gnu::always_inline]] inline __m512i add_pairs(__m512i a, __m512i b) noexcept {
  return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}
EFIO_AVX512 [[gnu::always_inline]] inline __m512i add_quads(__m512i a, __m512i b) noexcept {
  return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

}  // namespace

EFIO_AVX512 std::size_t check_short_frames_avx512(const Slot* slots, std::size_t n, std::uint64_t* names) noexcept {
  const __m512i mask = _mm512_load_si512(short_pattern.mask.data());
  const __m512i value = _mm512_load_si512(short_pattern.value.data());
  const __m512i order = _mm512_loadu_si512(covered.data());
  const __m512i bias = _mm512_set1_epi16(-0x8000);
  const __m512i ones = _mm512_set1_epi16(1);
  const __m512i constants = _mm512_broadcast_i64x4(_mm256_set_epi32(
      udp_constant, udp_constant, udp_constant, udp_constant, ip_constant, ip_constant, ip_constant, ip_constant));
  const __m512i right = _mm512_set1_epi32(static_cast<int>(0xFFFF'0000));

  constexpr __mmask64 bytes = (std::uint64_t{1} << smallest_frame) - 1;

  std::size_t i = 0;
  for (; i + group <= n; i += group) {
    __m512i odd = _mm512_setzero_si512();
    std::uint64_t odd_slots = 0;
    __m512i sums[group];
    for (std::size_t k = 0; k < group; ++k) {
      std::uint64_t head;  // length, offset and flags
      std::memcpy(&head, reinterpret_cast<const std::byte*>(&slots[i + k]) + 8, sizeof head);
      odd_slots |= (head ^ smallest_frame) & (std::uint64_t{Slot::more} << 48 | 0xFFFF'FFFF);
      const std::byte* const frame = frame_of(slots[i + k]);
      const __m512i line = _mm512_maskz_loadu_epi8(bytes, frame);
      odd = _mm512_or_si512(odd, _mm512_ternarylogic_epi64(line, value, mask, 0x28));  // (line ^ value) & mask
      const __m512i words = _mm512_maskz_permutexvar_epi16(covered_words, order, _mm512_xor_si512(line, bias));
      sums[k] = _mm512_madd_epi16(words, ones);
      std::uint64_t name;
      std::memcpy(&name, frame + 44, sizeof name);
      names[i + k] = __builtin_bswap64(name);
    }
    const __m512i first = add_quads(add_pairs(sums[0], sums[1]), add_pairs(sums[2], sums[3]));
    const __m512i second = add_quads(add_pairs(sums[4], sums[5]), add_pairs(sums[6], sums[7]));
    const __m512i all =
        _mm512_add_epi32(_mm512_shuffle_i32x4(first, second, 0x88), _mm512_shuffle_i32x4(first, second, 0xDD));
    const __m512i total = _mm512_add_epi32(all, constants);
    const __m512i folded = _mm512_add_epi32(total, _mm512_rol_epi32(total, 16));
    const __mmask16 wrong = _mm512_cmplt_epu32_mask(folded, right);
    if ((_mm512_test_epi64_mask(odd, odd) | wrong) != 0 || odd_slots != 0) [[unlikely]]
      return i + check_short_frames(slots + i, group, names + i);
  }
  return i + check_short_frames(slots + i, n - i, names + i);
}

}  // namespace efio::io_gen

#pragma GCC diagnostic pop

#else

namespace efio::io_gen {

bool runs_short_avx512() noexcept { return false; }
void fill_short_frames_avx512(const ShortTemplate& frame, Slot* slots, const FlowFields* flows,
                              const std::uint32_t* chosen, const std::uint64_t* names, std::size_t n) noexcept {
  fill_short_frames(frame, slots, flows, chosen, names, n);
}
std::size_t check_short_frames_avx512(const Slot* slots, std::size_t n, std::uint64_t* names) noexcept {
  return check_short_frames(slots, n, names);
}

}  // namespace efio::io_gen

#endif
