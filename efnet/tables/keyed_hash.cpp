#include "efnet/tables/keyed_hash.h"

#include <sys/random.h>

#include <bit>
#include <cerrno>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "efio/fail.h"

namespace efnet {
namespace {

// A step of splitmix64 (Steele, Lea and Flood 2014): stretches a number to a seed for tests.
std::uint64_t next(std::uint64_t& state) noexcept {
  std::uint64_t z = (state += 0x9E37'79B9'7F4A'7C15);
  z = (z ^ (z >> 30)) * 0xBF58'476D'1CE4'E5B9;
  z = (z ^ (z >> 27)) * 0x94D0'49BB'1331'11EB;
  return z ^ (z >> 31);
}

struct SipState {
  std::uint64_t a, b, c, d;

  void round() noexcept {
    a += b;
    b = std::rotl(b, 13) ^ a;
    a = std::rotl(a, 32);
    c += d;
    d = std::rotl(d, 16) ^ c;
    a += d;
    d = std::rotl(d, 21) ^ a;
    c += b;
    b = std::rotl(b, 17) ^ c;
    c = std::rotl(c, 32);
  }
};

// SipHash-1-3 of whole words.
template <std::size_t Words>
std::uint64_t siphash(const HashSeed& seed, const std::byte* key) noexcept {
  SipState state{seed.words[0] ^ 0x736f'6d65'7073'6575, seed.words[1] ^ 0x646f'7261'6e64'6f6d,
                 seed.words[0] ^ 0x6c79'6765'6e65'7261, seed.words[1] ^ 0x7465'6462'7974'6573};
  const auto take = [&state](std::uint64_t word) {
    state.d ^= word;
    state.round();
    state.a ^= word;
  };
  for (std::size_t i = 0; i < Words; ++i) {
    std::uint64_t word;
    std::memcpy(&word, key + i * 8, 8);
    take(word);
  }
  take(std::uint64_t{Words * 8} << 56);
  state.c ^= 0xFF;
  for (int i = 0; i < 3; ++i) state.round();
  return state.a ^ state.b ^ state.c ^ state.d;
}

template <std::size_t Words>
void siphash_batch(const HashSeed& seed, const void* keys, std::size_t count, std::uint64_t* hashes) noexcept {
  for (std::size_t i = 0; i < count; ++i)
    hashes[i] = siphash<Words>(seed, static_cast<const std::byte*>(keys) + i * Words * 8);
}

template <std::size_t Words>
using Batch = void (*)(const HashSeed&, const void*, std::size_t, std::uint64_t*) noexcept;

#if defined(__x86_64__)

template <std::size_t Words>
[[gnu::target("aes")]] void aes_batch(const HashSeed& seed, const void* keys, std::size_t count,
                                      std::uint64_t* hashes) noexcept {
  const auto* const round_keys = reinterpret_cast<const __m128i*>(seed.words.data());
  const __m128i k0 = _mm_loadu_si128(round_keys);
  const __m128i k1 = _mm_loadu_si128(round_keys + 1);
  const __m128i k2 = _mm_loadu_si128(round_keys + 2);
  const __m128i k3 = _mm_loadu_si128(round_keys + 3);
  const __m128i k4 = _mm_loadu_si128(round_keys + 4);
  const auto* key = static_cast<const std::byte*>(keys);
  for (std::size_t i = 0; i < count; ++i, key += Words * 8) {
    __m128i state = k0;
    for (std::size_t word = 0; word < Words; word += 2) {
      const auto* const at = reinterpret_cast<const __m128i*>(key + word * 8);
      state = _mm_xor_si128(state, word + 1 < Words ? _mm_loadu_si128(at) : _mm_loadl_epi64(at));
      state = _mm_aesenc_si128(state, k1);
      state = _mm_aesenc_si128(state, k2);
      state = _mm_aesenc_si128(state, k3);
      state = _mm_aesenc_si128(state, k4);
    }
    hashes[i] = static_cast<std::uint64_t>(_mm_cvtsi128_si64(state));
  }
}

bool have_aes() noexcept {
  __builtin_cpu_init();
  return __builtin_cpu_supports("aes") != 0;
}

template <std::size_t Words>
Batch<Words> choose() noexcept {
  return have_aes() ? aes_batch<Words> : siphash_batch<Words>;
}

#else

bool have_aes() noexcept { return false; }

template <std::size_t Words>
Batch<Words> choose() noexcept {
  return siphash_batch<Words>;
}

#endif

}  // namespace

efio::Result<HashSeed> HashSeed::random() {
  HashSeed seed;
  std::size_t done = 0;
  auto* const bytes = reinterpret_cast<unsigned char*>(seed.words.data());
  while (done < sizeof seed.words) {
    const ssize_t got = ::getrandom(bytes + done, sizeof seed.words - done, 0);
    if (got > 0) done += static_cast<std::size_t>(got);
    if (got < 0 && errno != EINTR) return efio::fail(errno, "draw the secret of a hash: getrandom");
  }
  return seed;
}

HashSeed HashSeed::from(std::uint64_t number) noexcept {
  HashSeed seed;
  for (std::uint64_t& word : seed.words) word = next(number);
  return seed;
}

const char* KeyedHash::name() noexcept { return have_aes() ? "aes" : "siphash"; }

template <std::size_t Words>
void KeyedHash::batch(const void* keys, std::size_t count, std::uint64_t* hashes) const noexcept {
  static const Batch<Words> best = choose<Words>();
  (baseline_ ? siphash_batch<Words> : best)(seed_, keys, count, hashes);
}

#define EFNET_DEFINE(words) \
  template void KeyedHash::batch<words>(const void*, std::size_t, std::uint64_t*) const noexcept;
EFNET_DEFINE(1)
EFNET_DEFINE(2)
EFNET_DEFINE(3)
EFNET_DEFINE(5)

}  // namespace efnet
