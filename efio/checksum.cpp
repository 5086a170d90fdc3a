#include "efio/checksum.h"

#include <algorithm>
#include <array>
#include <atomic>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace efio {
namespace {

using checksum_detail::sum_short;

std::uint64_t sum_scalar(const std::byte* at, std::size_t size) noexcept {
  std::uint64_t sum = 0;
  for (; size >= 64; size -= 64, at += 64) sum += sum_short(at, 64);
  return sum + sum_short(at, size);
}

#if defined(__x86_64__)

// All three take the words as signed, because the multiply-add that sums neighbouring words into 32 bits is signed:
// flipping the top bit turns a word w into w - 0x8000, and what that takes away is added back at the end, per word.
// A lane then changes by at most 0x10000 a step and cannot overflow within checksum_kernel_limit.
constexpr std::int64_t bias_per_word = 0x8000;

std::uint64_t sum_sse2(const std::byte* at, std::size_t size) noexcept {
  const __m128i bias = _mm_set1_epi16(-0x8000);
  const __m128i one = _mm_set1_epi16(1);
  __m128i a = _mm_setzero_si128();
  __m128i b = a;
  const auto step = [&](__m128i sum, const std::byte* from) {
    const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm_add_epi32(sum, _mm_madd_epi16(_mm_xor_si128(words, bias), one));
  };
  const std::size_t steps = size / 32;
  for (std::size_t i = 0; i < steps; ++i, at += 32) {
    a = step(a, at);
    b = step(b, at + 16);
  }
  std::array<std::int32_t, 8> lanes;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes.data()), a);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes.data() + 4), b);
  std::int64_t sum = static_cast<std::int64_t>(steps * 16) * bias_per_word;
  for (const std::int32_t lane : lanes) sum += lane;
  return static_cast<std::uint64_t>(sum) + sum_short(at, size % 32);
}

// Lambdas do not inherit the target, hence the macros.
#define EFIO_STEP(sum, from) \
  sum = _mm256_add_epi32(    \
      sum, _mm256_madd_epi16(_mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)), bias), one))

[[gnu::target("avx2")]] std::uint64_t sum_avx2(const std::byte* at, std::size_t size) noexcept {
  const __m256i bias = _mm256_set1_epi16(-0x8000);
  const __m256i one = _mm256_set1_epi16(1);
  __m256i a = _mm256_setzero_si256();
  __m256i b = a;
  __m256i c = a;
  __m256i d = a;
  const std::size_t steps = size / 32;
  for (std::size_t left = steps / 4; left > 0; --left, at += 128) {
    EFIO_STEP(a, at);
    EFIO_STEP(b, at + 32);
    EFIO_STEP(c, at + 64);
    EFIO_STEP(d, at + 96);
  }
  for (std::size_t left = steps % 4; left > 0; --left, at += 32) EFIO_STEP(a, at);
  a = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
  const __m256i wide = _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(a)),
                                        _mm256_cvtepi32_epi64(_mm256_extracti128_si256(a, 1)));
  const __m128i pair = _mm_add_epi64(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  const std::int64_t sum = static_cast<std::int64_t>(steps * 16) * bias_per_word + _mm_cvtsi128_si64(pair) +
                           _mm_cvtsi128_si64(_mm_unpackhi_epi64(pair, pair));
  return static_cast<std::uint64_t>(sum) + sum_short(at, size % 32);
}

#undef EFIO_STEP

// g++ 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for a mistake (GCC bug 105593).
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define EFIO_STEP(sum, words) sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_xor_si512(words, bias), one))

[[gnu::target("avx512f,avx512bw")]] std::uint64_t sum_avx512(const std::byte* at, std::size_t size) noexcept {
  const __m512i bias = _mm512_set1_epi16(-0x8000);
  const __m512i one = _mm512_set1_epi16(1);
  __m512i a = _mm512_setzero_si512();
  __m512i b = a;
  const std::size_t steps = size / 64 + 1;  // the last one partial, its missing bytes read as 0
  for (; size >= 128; size -= 128, at += 128) {
    EFIO_STEP(a, _mm512_loadu_si512(at));
    EFIO_STEP(b, _mm512_loadu_si512(at + 64));
  }
  if (size >= 64) {
    EFIO_STEP(a, _mm512_loadu_si512(at));
    size -= 64;
    at += 64;
  }
  const __mmask64 there = ~(~std::uint64_t{0} << size);
  EFIO_STEP(b, _mm512_maskz_loadu_epi8(there, at));
  a = _mm512_add_epi32(a, b);
  const __m512i wide = _mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(a)),
                                        _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(a, 1)));
  const __m256i half = _mm256_add_epi64(_mm512_castsi512_si256(wide), _mm512_extracti64x4_epi64(wide, 1));
  const __m128i pair = _mm_add_epi64(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  const std::int64_t sum = static_cast<std::int64_t>(steps * 32) * bias_per_word + _mm_cvtsi128_si64(pair) +
                           _mm_cvtsi128_si64(_mm_unpackhi_epi64(pair, pair));
  return static_cast<std::uint64_t>(sum);
}

#undef EFIO_STEP
#pragma GCC diagnostic pop

bool always() noexcept { return true; }
bool have_avx2() noexcept { return __builtin_cpu_supports("avx2") != 0; }
// The kernel needs avx512bw alone; vbmi2 tells the cpus (Ice Lake, Zen 4 and later) that do not lower their clock for
// 512-bit registers from those that do.
bool have_avx512() noexcept {
  return __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vbmi2") != 0;
}

#else

bool always() noexcept { return true; }

#endif

struct Candidate {
  ChecksumKernel kernel;
  bool (*runs_here)() noexcept;
};

constexpr Candidate candidates[] = {
#if defined(__x86_64__)
    {{"avx512", sum_avx512}, have_avx512},
    {{"avx2", sum_avx2}, have_avx2},
    {{"sse2", sum_sse2}, always},
#endif
    {{"scalar", sum_scalar}, always},
};

struct Kernels {
  std::array<ChecksumKernel, std::size(candidates)> list{};
  std::size_t count = 0;

  Kernels() noexcept {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    for (const Candidate& candidate : candidates)
      if (candidate.runs_here()) list[count++] = candidate.kernel;
  }
};

const Kernels& kernels() noexcept {
  static const Kernels found;
  return found;
}

std::uint64_t choose_and_sum(const std::byte* at, std::size_t size) noexcept;

// Starts as the function that chooses, so that it is right also before, and during, the constructors of other files.
constinit std::atomic<decltype(ChecksumKernel::partial)> best{choose_and_sum};

std::uint64_t choose_and_sum(const std::byte* at, std::size_t size) noexcept {
  const auto chosen = kernels().list[0].partial;
  best.store(chosen, std::memory_order_relaxed);
  return chosen(at, size);
}

}  // namespace

std::uint64_t checksum_detail::sum_long(const std::byte* at, std::size_t size) noexcept {
  const auto sum = best.load(std::memory_order_relaxed);
  if (size <= checksum_kernel_limit) [[likely]]
    return sum(at, size);
  std::uint64_t total = 0;
  while (size > 0) {
    const std::size_t now = std::min(size, checksum_kernel_limit);
    total += sum(at, now);
    at += now;
    size -= now;
  }
  return total;
}

std::span<const ChecksumKernel> checksum_kernels() noexcept { return {kernels().list.data(), kernels().count}; }

}  // namespace efio
