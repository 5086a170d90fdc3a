// Four frames at a time in 256-bit registers, as short_frames_avx512.cpp does eight: in the lanes of eight bytes while
// sums are made, in halves of a frame where frames are read and written. What is left over of a batch goes through the
// version for any processor.
#include "tools/io_gen/short_frames.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <array>
#include <cstring>

#include "tools/io_gen/traffic.h"

#define EFIO_AVX2 [[gnu::target("avx2,bmi2")]]

namespace efio::io_gen {

namespace {

constexpr std::size_t group = 4;
constexpr std::size_t half = 32;  // of a line

[[gnu::always_inline]] inline std::byte* frame_of(const Slot& slot) noexcept { return slot.buffer + slot.offset; }

EFIO_AVX2 [[gnu::always_inline]] inline __m256i load(const void* at) noexcept {
  return _mm256_loadu_si256(static_cast<const __m256i*>(at));
}
EFIO_AVX2 [[gnu::always_inline]] inline void store(void* at, __m256i value) noexcept {
  _mm256_storeu_si256(static_cast<__m256i*>(at), value);
}
EFIO_AVX2 [[gnu::always_inline]] inline __m256i everywhere(std::uint64_t word) noexcept {
  return _mm256_set1_epi64x(static_cast<long long>(word));
}
EFIO_AVX2 [[gnu::always_inline]] inline __m256i join(__m256i a, __m256i b, __m256i c) noexcept {
  return _mm256_or_si256(_mm256_or_si256(a, b), c);
}

// Lanes of eight bytes below 2^48: the two halves added.
EFIO_AVX2 [[gnu::always_inline]] inline __m256i halves(__m256i words) noexcept {
  return _mm256_add_epi64(_mm256_and_si256(words, everywhere(0xFFFF'FFFF)), _mm256_srli_epi64(words, 32));
}

// One's complement sums in lanes of eight bytes, folded to 16 bits and complemented.
EFIO_AVX2 [[gnu::always_inline]] inline __m256i finish(__m256i sums) noexcept {
  const __m256i none = _mm256_setzero_si256(), low = halves(sums);  // below 2^33: the next step takes the carry along
  const __m256i words = _mm256_add_epi64(_mm256_blend_epi16(none, low, 0x11), _mm256_srli_epi64(low, 16));
  const __m256i once = _mm256_add_epi64(_mm256_blend_epi16(none, words, 0x11), _mm256_srli_epi64(words, 16));
  const __m256i twice = _mm256_add_epi64(once, _mm256_srli_epi64(once, 16));
  return _mm256_andnot_si256(twice, everywhere(0xFFFF));
}

[[gnu::always_inline]] inline __m128i load_record(const void* at) noexcept {
  return _mm_loadu_si128(static_cast<const __m128i*>(at));
}

// The records of two flows, with one between them.
EFIO_AVX2 [[gnu::always_inline]] inline __m256i records(const FlowFields* flows, const std::uint32_t* chosen) noexcept {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load_record(flows + chosen[0])), load_record(flows + chosen[2]),
                                 1);
}

// Two frames, with one between them: their words from the third on, two by two.
EFIO_AVX2 [[gnu::always_inline]] inline void write(Slot* slots, __m256i words01, __m256i words23, __m256i words45,
                                                   __m256i words67) noexcept {
  std::byte* const low = frame_of(slots[0]);
  std::byte* const high = frame_of(slots[2]);
  slots[0].length = smallest_frame;
  slots[2].length = smallest_frame;
  store(low, _mm256_inserti128_si256(words01, _mm256_castsi256_si128(words23), 1));
  store(low + half, _mm256_inserti128_si256(words45, _mm256_castsi256_si128(words67), 1));
  store(high, _mm256_blend_epi32(words01, words23, 0xF0));
  store(high + half, _mm256_permute2x128_si256(words45, words67, 0x31));
}

}  // namespace

bool runs_short_avx2() noexcept {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("bmi2") != 0;
}

EFIO_AVX2 void fill_short_frames_avx2(const ShortTemplate& frame, Slot* slots, const FlowFields* flows,
                                      const std::uint32_t* chosen, const std::uint64_t* names,
                                      std::size_t n) noexcept {
  const std::array<std::uint64_t, 8>& words = frame.words;
  const __m256i words01 = _mm256_broadcastsi128_si256(load_record(words.data()));
  const __m256i word2 = everywhere(words[2]), word3 = everywhere(words[3]), word4 = everywhere(words[4]);
  const __m256i word5 = everywhere(words[5]), word6 = everywhere(words[6]), word7 = everywhere(words[7]);
  const __m256i ip_sum = everywhere(frame.ip_sum), transport_sum = everywhere(frame.transport_sum);
  const __m256i swap = _mm256_broadcastsi128_si256(
      _mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));

  std::size_t i = 0;
  for (; i + group <= n; i += group) {
    const __m256i even = records(flows, chosen + i), odd = records(flows, chosen + i + 1);
    const __m256i addresses = _mm256_unpacklo_epi64(even, odd);  // source, destination
    const __m256i ports = _mm256_and_si256(_mm256_unpackhi_epi64(even, odd), everywhere(0xFFFF'FFFF));
    const __m256i name = _mm256_shuffle_epi8(load(names + i), swap);

    const __m256i address_sum = halves(addresses);
    const __m256i ip = finish(_mm256_add_epi64(ip_sum, address_sum));
    const __m256i udp =
        finish(_mm256_add_epi64(_mm256_add_epi64(transport_sum, address_sum), _mm256_add_epi64(ports, halves(name))));
    // RFC 768: 0 means no checksum.
    const __m256i none = _mm256_srli_epi64(_mm256_cmpeq_epi64(udp, _mm256_setzero_si256()), 48);

    const __m256i words3 = join(word3, ip, _mm256_slli_epi64(addresses, 16));
    const __m256i words4 = join(word4, _mm256_srli_epi64(addresses, 48), _mm256_slli_epi64(ports, 16));
    const __m256i words5 = join(_mm256_or_si256(word5, none), udp, _mm256_slli_epi64(name, 32));
    const __m256i words6 = _mm256_or_si256(word6, _mm256_srli_epi64(name, 32));

    write(slots + i, words01, _mm256_unpacklo_epi64(word2, words3), _mm256_unpacklo_epi64(words4, words5),
          _mm256_unpacklo_epi64(words6, word7));
    write(slots + i + 1, words01, _mm256_unpackhi_epi64(word2, words3), _mm256_unpackhi_epi64(words4, words5),
          _mm256_unpackhi_epi64(words6, word7));
  }
  fill_short_frames(frame, slots + i, flows, chosen + i, names + i, n - i);
}

namespace {

// A frame is read as its first 32 bytes and its last 32, which overlap by four.
constexpr std::size_t second = smallest_frame - half;

// Which words each checksum covers, as factors: those of the first half, then those of the second, which begins at word
// 14. UDP's length and the tag's magic, which the pattern holds fast, are left out and come in with the constants.
struct Covered {
  alignas(half) std::array<std::int16_t, 16> first, second;
};
constexpr Covered covered(std::size_t from, std::size_t to, std::size_t but, std::size_t and_but) {
  Covered result{};
  for (std::size_t word = from; word < to; ++word) {
    if (word == but || word == and_but) continue;
    (word < 14 ? result.first[word] : result.second[word - 14]) = 1;
  }
  return result;
}
constexpr Covered ip_words = covered(7, 17, 0, 0), udp_words = covered(13, 30, 19, 21);

// Words are summed as signed ones, less 0x8000 each; the constants mend that and add what is not in the frame or was
// left out. Sums of words as they lie in memory: the lower byte is the first.
constexpr int swapped16(int word) { return (word & 0xFF) << 8 | word >> 8; }
constexpr int ip_constant = 10 * 0x8000;
constexpr int udp_constant = 15 * 0x8000 + swapped16(17) + 2 * swapped16(26) + swapped16(0xEF10);

// Of four registers: the sums of the lower and of the upper four numbers of each.
EFIO_AVX2 [[gnu::always_inline]] inline __m256i sums_of(const __m256i* from) noexcept {
  return _mm256_hadd_epi32(_mm256_hadd_epi32(from[0], from[1]), _mm256_hadd_epi32(from[2], from[3]));
}

}  // namespace

EFIO_AVX2 std::size_t check_short_frames_avx2(const Slot* slots, std::size_t n, std::uint64_t* names) noexcept {
  const __m256i mask[] = {load(short_pattern.mask.data()), load(short_pattern.mask.data() + second)};
  const __m256i value[] = {load(short_pattern.value.data()), load(short_pattern.value.data() + second)};
  const __m256i ip_factors[] = {load(ip_words.first.data()), load(ip_words.second.data())};
  const __m256i udp_factors[] = {load(udp_words.first.data()), load(udp_words.second.data())};
  const __m256i bias = _mm256_set1_epi16(-0x8000);
  const __m256i constants = _mm256_set_epi32(udp_constant, udp_constant, udp_constant, udp_constant, ip_constant,
                                             ip_constant, ip_constant, ip_constant);
  const __m256i right = _mm256_set1_epi32(0xFFFF);

  std::size_t i = 0;
  for (; i + group <= n; i += group) {
    __m256i odd = _mm256_setzero_si256();
    std::uint64_t odd_slots = 0;
    __m256i ip[group], udp[group];
    for (std::size_t k = 0; k < group; ++k) {
      std::uint64_t head;  // length, offset and flags
      std::memcpy(&head, reinterpret_cast<const std::byte*>(&slots[i + k]) + Slot::head_at, sizeof head);
      odd_slots |= (head ^ smallest_frame) & (std::uint64_t{Slot::more} << 48 | 0xFFFF'FFFF);
      const std::byte* const frame = frame_of(slots[i + k]);
      const __m256i front = load(frame), back = load(frame + second);
      odd = join(odd, _mm256_and_si256(_mm256_xor_si256(front, value[0]), mask[0]),
                 _mm256_and_si256(_mm256_xor_si256(back, value[1]), mask[1]));
      const __m256i first = _mm256_xor_si256(front, bias), last = _mm256_xor_si256(back, bias);
      ip[k] = _mm256_add_epi32(_mm256_madd_epi16(first, ip_factors[0]), _mm256_madd_epi16(last, ip_factors[1]));
      udp[k] = _mm256_add_epi32(_mm256_madd_epi16(first, udp_factors[0]), _mm256_madd_epi16(last, udp_factors[1]));
      std::uint64_t name;
      std::memcpy(&name, frame + 44, sizeof name);
      names[i + k] = __builtin_bswap64(name);
    }
    const __m256i ip_sums = sums_of(ip), udp_sums = sums_of(udp);
    const __m256i total = _mm256_add_epi32(_mm256_add_epi32(_mm256_permute2x128_si256(ip_sums, udp_sums, 0x20),
                                                            _mm256_permute2x128_si256(ip_sums, udp_sums, 0x31)),
                                           constants);
    const __m256i turned = _mm256_or_si256(_mm256_slli_epi32(total, 16), _mm256_srli_epi32(total, 16));
    const __m256i folded = _mm256_srli_epi32(_mm256_add_epi32(total, turned), 16);
    const __m256i wrong = _mm256_xor_si256(folded, right);
    const __m256i any = _mm256_or_si256(odd, wrong);
    if (_mm256_testz_si256(any, any) == 0 || odd_slots != 0) [[unlikely]]
      return i + check_short_frames(slots + i, group, names + i);
  }
  return i + check_short_frames(slots + i, n - i, names + i);
}

}  // namespace efio::io_gen

#else

namespace efio::io_gen {

bool runs_short_avx2() noexcept { return false; }
void fill_short_frames_avx2(const ShortTemplate& frame, Slot* slots, const FlowFields* flows,
                            const std::uint32_t* chosen, const std::uint64_t* names, std::size_t n) noexcept {
  fill_short_frames(frame, slots, flows, chosen, names, n);
}
std::size_t check_short_frames_avx2(const Slot* slots, std::size_t n, std::uint64_t* names) noexcept {
  return check_short_frames(slots, n, names);
}

}  // namespace efio::io_gen

#endif
