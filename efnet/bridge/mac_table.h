#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "efio/export.h"
#include "efio/prefetch.h"
#include "efio/result.h"
#include "efnet/tables/keyed_hash.h"
#include "efnet/tables/table_memory.h"
#include "efnet/tables/time.h"
#include "efnet/wire/address.h"

// Behind which port of a bridge an address is: the filtering database of IEEE 802.1Q, 8.8.
//
// Any number of threads read and learn at once, and none of them locks. An entry is two words, address and place; four
// share a cache line. An address known where it was known costs reads only, once a second a write, so that the lines of
// busy addresses stay with all processors. What has aged is still there and found no more; its place is taken when one
// is wanted. Whoever replaces an entry hides its address meanwhile, and a reader looks at the address again after the
// place: it never takes one address's place for another's, at worst it does not find one.

namespace efnet {

struct MacTableOptions {
  // Addresses. Of so many, about one in ten thousand finds no place; with half as many, none in practice.
  std::size_t capacity = 65'536;
  std::chrono::seconds ageing{300};  // 802.1Q, table 8-6; 0: they stay for good
  std::optional<HashSeed> seed;      // drawn where none is given
};

class EFIO_EXPORT MacTable {
 public:
  static constexpr std::uint16_t nowhere = 0xFFFF;

  // An address within a VLAN (or filtering identifier), as one number; VLAN 0 where there are none.
  static std::uint64_t key(std::uint64_t address, std::uint16_t vlan) noexcept {
    return used | std::uint64_t{vlan} << 48 | address;
  }
  static std::uint64_t key(MacAddress address, std::uint16_t vlan) noexcept { return key(address.number(), vlan); }

  // Errors: usage (a capacity of 0 or above 2^26), memory.
  static efio::Result<MacTable> create(const MacTableOptions& options = {});
  MacTable(MacTable&&) noexcept = default;
  MacTable& operator=(MacTable&&) noexcept = default;

  // 0 to 1,000,000 s. Not while a thread reads or learns.
  void set_ageing(std::chrono::seconds ageing) noexcept { ageing_ = static_cast<std::uint32_t>(ageing.count()); }

  // The steps of a batch: hashes first, then their lines are asked for, then what has to be done with them.
  void hash(const std::uint64_t* keys, std::size_t n, std::uint64_t* hashes) const noexcept {
    hash_.batch<1>(keys, n, hashes);
  }
  void prefetch(const std::uint64_t* hashes, std::size_t n) const noexcept {
    for (std::size_t i = 0; i < n; ++i) efio::prefetch_for_reading(&lines_[line_of(hashes[i], 0)]);
  }

  // These addresses were seen behind `port`. The caller leaves out group addresses, which are no sources.
  void learn(const std::uint64_t* keys, const std::uint64_t* hashes, std::size_t n, std::uint16_t port,
             Time now) noexcept;
  // Where they are: `nowhere` for what is not known.
  void find(const std::uint64_t* keys, const std::uint64_t* hashes, std::size_t n, Time now,
            std::uint16_t* ports) const noexcept;

  // Both for a batch of frames at once, all these steps: keys[2 * i] are the sources, to be learned, keys[2 * i + 1] the
  // destinations, to be found when all sources are known. At most `most_pairs`.
  static constexpr std::size_t most_pairs = 64;
  void learn_and_find(const std::uint64_t* keys, std::size_t pairs, std::uint16_t port, Time now,
                      std::uint16_t* ports) noexcept;

  void learn(std::uint64_t key, std::uint16_t port, Time now) noexcept;
  std::uint16_t find(std::uint64_t key, Time now) const noexcept;

  // A static entry: neither learned over nor aged; where there is no room, it takes that of a learned one. False where all
  // its places have static entries.
  bool add(std::uint64_t key, std::uint16_t port) noexcept;
  // Forgets an address, static or not. False where it is not known.
  bool remove(std::uint64_t key) noexcept;
  // Forgets what was learned behind the port (its link went down); static entries stay. Returns how many.
  std::size_t flush(std::uint16_t port) noexcept;

  struct Entry {
    MacAddress address;
    std::uint16_t vlan = 0;
    std::uint16_t port = 0;
    bool fixed = false;
    std::chrono::seconds age{};
  };
  // What is known now; slow, for reports.
  std::vector<Entry> entries(Time now) const;
  std::size_t size(Time now) const noexcept;
  std::size_t bytes() const noexcept { return lines_.bytes(); }

  // Since birth. A learned address that turns up behind another port has moved.
  std::uint64_t moves() const noexcept { return counts_->moves.load(std::memory_order_relaxed); }
  std::uint64_t not_learned() const noexcept { return counts_->full.load(std::memory_order_relaxed); }

  // The address that has moved most since the last call of this, of those few that it keeps count of; nothing where none
  // has. In a loop one address moves again and again, with every frame that goes round; a person who walks about, once.
  struct Mover {
    MacAddress address;
    std::uint16_t vlan = 0;
    std::uint32_t moves = 0;
    std::uint16_t from = 0, to = 0;  // last
  };
  std::optional<Mover> most_moved() noexcept;

 private:
  static constexpr std::size_t ways = 4;    // entries a line
  static constexpr std::size_t choices = 4;  // lines that an address may be in
  static constexpr std::uint64_t used = std::uint64_t{1} << 63;
  static constexpr std::uint64_t hidden = std::uint64_t{1} << 62;  // alone: forgotten; with `used`: being replaced

  // Plain words, read and written by __atomic builtins: TableArray wants trivial types.
  struct alignas(64) Line {
    std::array<std::uint64_t, ways> keys;    // 0: never used
    std::array<std::uint64_t, ways> places;  // port, fixed, second
  };
  // Which cell of the line has the address, as a bit. All four are compared without a branch: which of them it is, no
  // processor can foresee.
  static unsigned match(const Line& line, std::uint64_t key) noexcept {
    unsigned found = 0;
#pragma GCC unroll 4
    for (unsigned way = 0; way < ways; ++way)
      found |= static_cast<unsigned>(__atomic_load_n(&line.keys[way], __ATOMIC_ACQUIRE) == key) << way;
    return found;
  }
  static_assert(sizeof(Line) == 64);

  // Addresses that move, by a part of their hash: a newer one takes the place of an older.
  struct Moving {
    std::atomic<std::uint64_t> key{0};
    std::atomic<std::uint64_t> last{0};  // moves, from, to
  };
  struct Counts {
    std::atomic<std::uint64_t> moves{0}, full{0};
    std::array<Moving, 64> moving;
  };

  MacTable(KeyedHash hash, TableArray<Line> lines, std::uint32_t ageing)
      : hash_(hash), lines_(std::move(lines)), ageing_(ageing), counts_(std::make_unique<Counts>()) {}

  static std::uint32_t seconds(Time now) noexcept {
    return static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::seconds>(now).count());
  }
  static constexpr std::uint64_t fixed_bit = std::uint64_t{1} << 16;
  static std::uint64_t place(std::uint16_t port, std::uint32_t second) noexcept {
    return std::uint64_t{second} << 32 | port;
  }
  bool is_old(std::uint64_t place, std::uint32_t second) const noexcept {
    return ageing_ != 0 && (place & fixed_bit) == 0 && second - static_cast<std::uint32_t>(place >> 32) > ageing_;
  }
  // Choice 0 by the hash's upper half, the others by multiples of the lower.
  std::size_t line_of(std::uint64_t hash, std::size_t choice) const noexcept {
    const auto mixed = static_cast<std::uint32_t>((hash >> 32) + choice * (hash | 1));
    return static_cast<std::size_t>(std::uint64_t{mixed} * lines_.size() >> 32);
  }
  std::uint16_t find_one(std::uint64_t key, std::uint64_t hash, std::uint32_t second) const noexcept;
  void learn_one(std::uint64_t key, std::uint64_t hash, std::uint64_t here, std::uint32_t second) noexcept;
  struct Cell {
    std::uint64_t* key = nullptr;  // null: not there
    std::uint64_t* place = nullptr;
  };
  Cell cell_of(std::uint64_t key, std::uint64_t hash) const noexcept;
  enum class Whose : std::uint8_t { nobodys, aged, learned };  // what a new entry may take the place of, each more than before
  bool enter(std::uint64_t key, std::uint64_t hash, std::uint64_t place, std::uint32_t second, Whose whose) noexcept;
  void count_move(std::uint64_t key, std::uint64_t hash, std::uint16_t from, std::uint16_t to) noexcept;

  KeyedHash hash_;
  TableArray<Line> lines_;
  std::uint32_t ageing_;  // s
  std::unique_ptr<Counts> counts_;
};

}  // namespace efnet
