#include "efnet/tables/routes.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "efio/fail.h"

namespace efnet {
namespace {

// Routes come from whoever configures the program: no secret is needed.
template <class Address>
std::uint64_t mixed(const Prefix<Address>& prefix) noexcept {
  return (std::hash<Address>{}(prefix.first()) + prefix.length) * 0x9E37'79B9'7F4A'7C15;
}

}  // namespace

// The bits that choose an entry: 16 of the root, then 8 a level.
template <class Address>
unsigned Routes<Address>::step(const Address& address, unsigned level) noexcept {
  const auto& bytes = address.bytes();
  return level == 0 ? unsigned{bytes[0]} << 8 | bytes[1] : bytes[level + 1];
}

template <class Address>
efio::Result<Routes<Address>> Routes<Address>::create(RouteOptions options) {
  if (options.capacity == 0 || options.capacity > std::size_t{1} << 24 || options.blocks > std::size_t{1} << 22)
    return efio::fail(efio::Error::Kind::usage, "create a table of routes", "{} prefixes in {} blocks",
                      options.capacity, options.blocks)
        .hint("1 to 2^24 prefixes, at most 2^22 blocks");
  Routes routes;
  auto root = TableArray<Entry>::create(std::size_t{1} << root_bits);
  if (!root) return std::unexpected(std::move(root.error()));
  auto blocks = TableArray<Entry>::create(options.blocks * block_size);
  if (!blocks) return std::unexpected(std::move(blocks.error()));
  auto rules = TableArray<Rule>::create(options.capacity);
  if (!rules) return std::unexpected(std::move(rules.error()));
  auto heads = TableArray<std::uint32_t>::create(std::bit_ceil(options.capacity));
  if (!heads) return std::unexpected(std::move(heads.error()));
  routes.root_ = std::move(*root);
  routes.blocks_ = std::move(*blocks);
  routes.rules_ = std::move(*rules);
  routes.heads_ = std::move(*heads);
  std::ranges::fill(routes.heads_, none);
  for (std::size_t i = options.capacity; i-- > 0;) {
    routes.rules_[i].next = routes.free_rule_;
    routes.free_rule_ = static_cast<std::uint32_t>(i);
  }
  // Free blocks are chained through their first entries.
  for (std::size_t i = options.blocks; i-- > 0;) {
    routes.blocks_[i * block_size] = routes.free_block_;
    routes.free_block_ = static_cast<std::uint32_t>(i);
  }
  routes.free_blocks_ = options.blocks;
  return routes;
}

// ---- The packet path ----

// One level for all of a chunk before the next one, so that the lines of a level are fetched together.
template <class Address>
void Routes<Address>::lookup(std::span<const Address> addresses, std::span<RouteNumber> numbers) const noexcept {
  constexpr std::size_t chunk = 32;
  const std::size_t count = std::min(addresses.size(), numbers.size());
  for (std::size_t done = 0; done < count; done += chunk) {
    const std::size_t these = std::min(chunk, count - done);
    const Address* const wanted = addresses.data() + done;
    std::array<Entry, chunk> entries;
    std::array<std::uint8_t, chunk> deeper;
    std::size_t left = 0;
    for (std::size_t i = 0; i < these; ++i) __builtin_prefetch(&root_[step(wanted[i], 0)]);
    for (std::size_t i = 0; i < these; ++i) {
      entries[i] = root_[step(wanted[i], 0)];
      deeper[left] = static_cast<std::uint8_t>(i);
      left += (entries[i] & is_block) != 0 ? 1U : 0U;
    }
    for (unsigned level = 1; left != 0; ++level) {
      for (std::size_t j = 0; j < left; ++j) {
        const std::size_t i = deeper[j];
        __builtin_prefetch(&blocks_[(entries[i] & ~is_block) * block_size + step(wanted[i], level)]);
      }
      std::size_t still = 0;
      for (std::size_t j = 0; j < left; ++j) {
        const std::uint8_t i = deeper[j];
        entries[i] = blocks_[(entries[i] & ~is_block) * block_size + step(wanted[i], level)];
        deeper[still] = i;
        still += (entries[i] & is_block) != 0 ? 1U : 0U;
      }
      left = still;
    }
    for (std::size_t i = 0; i < these; ++i) numbers[done + i] = entries[i] == 0 ? no_route : number_of(entries[i]);
  }
}

// ---- Rules ----

template <class Address>
std::size_t Routes<Address>::bucket(const Prefix<Address>& prefix) const noexcept {
  return heads_.size() == 1 ? 0 : mixed(prefix) >> (64 - std::countr_zero(heads_.size()));
}

template <class Address>
std::uint32_t Routes<Address>::find_rule(const Prefix<Address>& prefix) const noexcept {
  const Address first = prefix.first();
  std::uint32_t at = heads_[bucket(prefix)];
  while (at != none && !(rules_[at].length == prefix.length && rules_[at].address == first)) at = rules_[at].next;
  return at;
}

// The longest shorter prefix that contains this one; none where there is none.
template <class Address>
std::uint32_t Routes<Address>::covering(const Prefix<Address>& prefix) const noexcept {
  for (unsigned length = prefix.length; length-- > 0;) {
    const std::uint32_t rule = find_rule({prefix.address, static_cast<std::uint8_t>(length)});
    if (rule != none) return rule;
  }
  return none;
}

template <class Address>
RouteNumber Routes<Address>::find(const Prefix<Address>& prefix) const noexcept {
  const std::uint32_t rule = prefix.length <= Address::bits ? find_rule(prefix) : none;
  return rule == none ? no_route : rules_[rule].number;
}

template <class Address>
auto Routes<Address>::all() const -> std::vector<Route> {
  std::vector<Route> found;
  for (const Rule& rule : rules_)
    if (rule.live) found.push_back({{rule.address, rule.length}, rule.number});
  return found;
}

template <class Address>
RouteStatus Routes<Address>::add(const Prefix<Address>& prefix, RouteNumber number) noexcept {
  if (prefix.length > Address::bits || number >= max_route) return RouteStatus::invalid;
  const std::uint32_t known = find_rule(prefix);
  if (known == none && (free_rule_ == none || blocks_missing(prefix) > free_blocks_)) return RouteStatus::full;
  if (known != none) {
    rules_[known].number = number;
  } else {
    const std::uint32_t rule = free_rule_;
    free_rule_ = rules_[rule].next;
    std::uint32_t& head = heads_[bucket(prefix)];
    rules_[rule] = {prefix.first(), head, number, prefix.length, true};
    head = rule;
    ++size_;
  }
  write(prefix, entry_of(number, prefix.length));
  return RouteStatus::done;
}

template <class Address>
RouteStatus Routes<Address>::remove(const Prefix<Address>& prefix) noexcept {
  if (prefix.length > Address::bits) return RouteStatus::invalid;
  const Address first = prefix.first();
  std::uint32_t* link = &heads_[bucket(prefix)];
  while (*link != none && !(rules_[*link].length == prefix.length && rules_[*link].address == first))
    link = &rules_[*link].next;
  const std::uint32_t rule = *link;
  if (rule == none) return RouteStatus::absent;
  *link = rules_[rule].next;
  rules_[rule].live = false;
  rules_[rule].next = free_rule_;
  free_rule_ = rule;
  --size_;
  // What this one wrote, and nothing that is longer, becomes what covered it.
  const std::uint32_t over = covering(prefix);
  write(prefix, over == none ? 0 : entry_of(rules_[over].number, rules_[over].length));
  fold(prefix);
  return RouteStatus::done;
}

// ---- The trie ----

template <class Address>
std::size_t Routes<Address>::blocks_missing(const Prefix<Address>& prefix) const noexcept {
  std::size_t missing = 0;
  Entry entry = root_[step(prefix.address, 0)];
  for (unsigned level = 1; prefix.length > root_bits + (level - 1) * block_bits; ++level) {
    if (missing != 0 || (entry & is_block) == 0)
      ++missing;
    else
      entry = block(entry & ~is_block)[step(prefix.address, level)];
  }
  return missing;
}

// Entries of prefixes longer than `length` stay as they are.
template <class Address>
void Routes<Address>::fill(std::span<Entry> entries, Entry entry, unsigned length) noexcept {
  for (Entry& one : entries) {
    if ((one & is_block) != 0)
      fill(block(one & ~is_block), entry, length);
    else if (one == 0 || length_of(one) <= length)
      one = entry;
  }
}

// Everywhere below the prefix where no longer one rules. The blocks that it needs are there to be had.
template <class Address>
void Routes<Address>::write(const Prefix<Address>& prefix, Entry entry) noexcept {
  const Address first = prefix.first();
  std::span<Entry> level_entries(root_.data(), root_.size());
  unsigned end = root_bits;  // the bits that this level and those above decide
  for (unsigned level = 0;; ++level, end += block_bits) {
    const unsigned at = step(first, level);
    if (prefix.length <= end) {
      fill(level_entries.subspan(at, std::size_t{1} << (end - prefix.length)), entry, prefix.length);
      return;
    }
    Entry& one = level_entries[at];
    if ((one & is_block) == 0) {
      const std::uint32_t fresh = free_block_;
      free_block_ = blocks_[fresh * block_size];
      --free_blocks_;
      std::ranges::fill(block(fresh), one);
      one = is_block | fresh;
    }
    level_entries = block(one & ~is_block);
  }
}

// Blocks on the way to the prefix whose entries are all the same are given back, the deepest first.
template <class Address>
void Routes<Address>::fold(const Prefix<Address>& prefix) noexcept {
  constexpr unsigned most = (Address::bits - root_bits) / block_bits;
  std::array<Entry*, most> path;
  unsigned depth = 0;
  Entry* one = &root_[step(prefix.address, 0)];
  while ((*one & is_block) != 0) {
    path[depth++] = one;
    one = &block(*one & ~is_block)[step(prefix.address, depth)];
  }
  while (depth-- > 0) {
    const std::uint32_t number = *path[depth] & ~is_block;
    const auto entries = block(number);
    const Entry same = entries[0];
    if ((same & is_block) != 0 || std::ranges::count(entries, same) != static_cast<std::ptrdiff_t>(block_size)) return;
    // An entry of a prefix that ends in this block belongs here; one that was pushed down belongs above.
    if (same != 0 && length_of(same) > root_bits + depth * block_bits) return;
    *path[depth] = same;
    blocks_[number * block_size] = free_block_;
    free_block_ = number;
    ++free_blocks_;
  }
}

template class Routes<Ipv4Address>;
template class Routes<Ipv6Address>;

}  // namespace efnet
