#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "efio/export.h"
#include "efio/result.h"

namespace efnet {

// The secret of a hash. A table draws one at birth; tests give their own.
struct HashSeed {
  std::array<std::uint64_t, 10> words{};

  // From the kernel (getrandom). Errors: unavailable (a sandbox that refuses the call).
  EFIO_EXPORT static efio::Result<HashSeed> random();
  // The same one for the same number: for tests, never against an adversary.
  EFIO_EXPORT static HashSeed from(std::uint64_t number) noexcept;
};

// A keyed hash of keys of a fixed size, for tables that strangers fill.
//
// Why nobody builds collisions: with AES instructions a key passes four AES rounds under round keys that are never
// shown, 16 bytes at a time, each block added to the state before (a CBC-MAC of inputs of one length). A chosen
// difference between two inputs survives four rounds with a probability of at most 2^-113 (Keliher and Sui 2007), so
// keys that differ in a chosen way collide as rarely as random ones; and what is known to break four rounds (the square
// attack) must read outputs, while an attacker of a table sees at most how long a packet took. Elsewhere it is
// SipHash-1-3 (Aumasson and Bernstein), whose authors propose it for this very use. Multiplication and CRC are faster
// by a little and linear: one pair of colliding keys, found by timing, gives all others.
class KeyedHash {
 public:
  KeyedHash() noexcept : KeyedHash(HashSeed{}) {}
  // `baseline`: SipHash also where there are AES instructions, for tests and to compare.
  explicit KeyedHash(const HashSeed& seed, bool baseline = false) noexcept : seed_(seed), baseline_(baseline) {}

  // hashes[i] of the key of `Words` times 8 bytes at keys + i * Words * 8, at any alignment.
  template <std::size_t Words>
  void batch(const void* keys, std::size_t count, std::uint64_t* hashes) const noexcept;

  template <std::size_t Words>
  std::uint64_t operator()(const std::array<std::uint64_t, Words>& key) const noexcept {
    std::uint64_t hash;
    batch<Words>(key.data(), 1, &hash);
    return hash;
  }

  // The function in use here: "aes" or "siphash".
  EFIO_EXPORT static const char* name() noexcept;

 private:
  HashSeed seed_;
  bool baseline_ = false;
};

// Of 1 (an address), 2 (FlowKey4), 3 and 5 words (FlowKey).
#define EFNET_DECLARE(words) \
  extern template EFIO_EXPORT void KeyedHash::batch<words>(const void*, std::size_t, std::uint64_t*) const noexcept;
EFNET_DECLARE(1)
EFNET_DECLARE(2)
EFNET_DECLARE(3)
EFNET_DECLARE(5)
#undef EFNET_DECLARE

}  // namespace efnet
