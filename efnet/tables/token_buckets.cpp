#include "efnet/tables/token_buckets.h"

#include <bit>

#include "efio/fail.h"

namespace efnet {

efio::Result<TokenBuckets> TokenBuckets::create(const TokenBucketOptions& options) {
  constexpr double most = 1e12;
  constexpr std::size_t most_keys = std::size_t{1} << 28;
  const auto refuse = [&](const char* what, double value) {
    return efio::fail(efio::Error::Kind::usage, "make token buckets", "a {} of {}", what, value)
        .hint("more than 0, at most {}", most);
  };
  if (!(options.rate > 0 && options.rate <= most)) return refuse("rate", options.rate);
  if (!(options.burst > 0 && options.burst <= most)) return refuse("burst", options.burst);
  if (options.capacity > most_keys)
    return efio::fail(efio::Error::Kind::usage, "make token buckets", "{} keys", options.capacity)
        .hint("at most {}", most_keys);
  // A bucket may take that long to fill: times, and with them the sum of two, stay within 64 bits.
  const double units_per_token = 1e9 * (std::uint64_t{1} << unit_bits) / options.rate;
  if (options.burst * units_per_token > 1e18) return refuse("burst", options.burst);
  const auto seed = options.seed ? efio::Result<HashSeed>(*options.seed) : HashSeed::random();
  if (!seed) return std::unexpected(seed.error());
  auto buckets = TableArray<Bucket>::create(std::bit_ceil(std::max(options.capacity, ways)));
  if (!buckets) return std::unexpected(std::move(buckets.error()));
  return TokenBuckets(KeyedHash(*seed), std::move(*buckets), units_per_token, options.burst);
}

}  // namespace efnet
