#include "efnet/tables/token_buckets.h"

#include <bit>

#include "efio/fail.h"

namespace efnet {

namespace {

// How long a token takes, in units of 2^-unit_bits ns.
efio::Result<double> units_per_token(double rate, double burst, unsigned unit_bits) {
  constexpr double most = 1e12;
  const auto refuse = [&](const char* what, double value) {
    return efio::fail(efio::Error::Kind::usage, "make token buckets", "a {} of {}", what, value)
        .hint("more than 0, at most {}", most);
  };
  if (!(rate > 0 && rate <= most)) return refuse("rate", rate);
  if (!(burst > 0 && burst <= most)) return refuse("burst", burst);
  // A bucket may take that long to fill: times, and with them the sum of two, stay within 64 bits.
  const double units = 1e9 * static_cast<double>(std::uint64_t{1} << unit_bits) / rate;
  if (burst * units > 1e18) return refuse("burst", burst);
  return units;
}

}  // namespace

efio::Result<TokenBucket> TokenBucket::create(double rate, double burst) {
  const auto units = units_per_token(rate, burst, unit_bits);
  if (!units) return std::unexpected(units.error());
  return TokenBucket(*units, burst);
}

efio::Result<TokenBuckets> TokenBuckets::create(const TokenBucketOptions& options) {
  constexpr std::size_t most_keys = std::size_t{1} << 28;
  const auto units = units_per_token(options.rate, options.burst, unit_bits);
  if (!units) return std::unexpected(units.error());
  if (options.capacity > most_keys)
    return efio::fail(efio::Error::Kind::usage, "make token buckets", "{} keys", options.capacity)
        .hint("at most {}", most_keys);
  const auto seed = options.seed ? efio::Result<HashSeed>(*options.seed) : HashSeed::random();
  if (!seed) return std::unexpected(seed.error());
  auto buckets = TableArray<Bucket>::create(std::bit_ceil(std::max(options.capacity, ways)));
  if (!buckets) return std::unexpected(std::move(buckets.error()));
  return TokenBuckets(KeyedHash(*seed), std::move(*buckets), *units, options.burst);
}

}  // namespace efnet
