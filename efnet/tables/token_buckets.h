#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/tables/keyed_hash.h"
#include "efnet/tables/table_memory.h"
#include "efnet/tables/time.h"

namespace efnet {

struct TokenBucketOptions {
  double rate = 1000;             // tokens a second that each key gets
  double burst = 100;             // tokens that a bucket holds
  std::size_t capacity = 65'536;  // keys, rounded up to a power of two from 4
  std::optional<HashSeed> seed;   // the table draws its own where none is given
};

// One token bucket, which any number of threads take from: the virtual scheduling algorithm of ITU-T I.371.
class TokenBucket {
 public:
  // Errors: usage (a rate or burst that is not positive, or above 1e12).
  EFIO_EXPORT static efio::Result<TokenBucket> create(double rate, double burst);
  TokenBucket(TokenBucket&& other) noexcept { *this = std::move(other); }
  TokenBucket& operator=(TokenBucket&& other) noexcept {
    units_per_token_ = other.units_per_token_;
    burst_units_ = other.burst_units_;
    full_at_.store(other.full_at_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    return *this;
  }

  // False, and nothing taken, where there are fewer than `cost` tokens.
  bool take(double cost, Time now) noexcept {
    const std::uint64_t at = static_cast<std::uint64_t>(now.count()) << unit_bits;
    const auto price = static_cast<std::uint64_t>(cost * units_per_token_);
    std::uint64_t before = full_at_.load(std::memory_order_relaxed);
    do {
      if (std::max(before, at) + price > at + burst_units_) return false;
    } while (!full_at_.compare_exchange_weak(before, std::max(before, at) + price, std::memory_order_relaxed));
    return true;
  }

 private:
  friend class TokenBuckets;
  static constexpr unsigned unit_bits = 8;  // times are kept in 1/256 ns: a token may take less than one

  TokenBucket(double units_per_token, double burst) noexcept
      : units_per_token_(units_per_token), burst_units_(static_cast<std::uint64_t>(burst * units_per_token)) {}

  double units_per_token_ = 0;
  std::uint64_t burst_units_ = 0;
  std::atomic<std::uint64_t> full_at_{0};
};

// A token bucket per key, for keys that strangers choose: memory is fixed, and none of them gets more than its rate by
// using many others. A bucket is 16 bytes: whose it is, and when it will be full again. Four
// share a cache line. A key that finds none of its own takes one that is full, of which
// there is nothing to remember, or else inherits the fullest as it is: then two keys share the tokens of one, and the
// table as a whole passes at most capacity times the rate.
class TokenBuckets {
 public:
  // Errors: usage (a rate or burst that is not positive, or above 1e12; more than 2^28 keys), memory, unavailable.
  EFIO_EXPORT static efio::Result<TokenBuckets> create(const TokenBucketOptions& options);

  // Takes `cost` tokens from the bucket of the key with this hash: false, and nothing taken, where there are too few.
  bool take(std::uint64_t hash, double cost, Time now) noexcept {
    const std::uint64_t at = units(now);
    Bucket& bucket = find(hash);
    const std::uint64_t full = std::max(bucket.full_at, at) + static_cast<std::uint64_t>(cost * units_per_token_);
    if (full > at + burst_units_) return false;
    bucket.full_at = full;
    return true;
  }

  // Of keys that are all of `Words` times 8 bytes: 1, 2, 3 or 5.
  template <std::size_t Words>
  void hash(std::span<const std::array<std::uint64_t, Words>> keys, std::uint64_t* hashes) const noexcept {
    hash_.batch<Words>(keys.data(), keys.size(), hashes);
  }

  std::size_t capacity() const noexcept { return buckets_.size(); }
  std::size_t bytes() const noexcept { return buckets_.bytes(); }

 private:
  static constexpr std::size_t ways = 4;
  static constexpr unsigned unit_bits = TokenBucket::unit_bits;

  struct Bucket {
    std::uint64_t owner;    // the hash; 0: nobody's yet
    std::uint64_t full_at;  // units
  };
  static_assert(ways * sizeof(Bucket) == 64);

  TokenBuckets(KeyedHash hash, TableArray<Bucket> buckets, double units_per_token, double burst) noexcept
      : hash_(hash),
        buckets_(std::move(buckets)),
        units_per_token_(units_per_token),
        burst_units_(static_cast<std::uint64_t>(burst * units_per_token)) {}

  static std::uint64_t units(Time now) noexcept { return static_cast<std::uint64_t>(now.count()) << unit_bits; }

  Bucket& find(std::uint64_t hash) noexcept {
    Bucket* const set = buckets_.data() + (hash & (buckets_.size() / ways - 1)) * ways;
    Bucket* fullest = set;
    for (Bucket* bucket = set; bucket != set + ways; ++bucket) {
      if (bucket->owner == hash) return *bucket;
      if (bucket->full_at < fullest->full_at) fullest = bucket;
    }
    fullest->owner = hash;
    return *fullest;
  }

  KeyedHash hash_;
  TableArray<Bucket> buckets_;
  double units_per_token_;
  std::uint64_t burst_units_;
};

}  // namespace efnet
