#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/tables/table_memory.h"

namespace efnet {

// When the numbers 0..capacity-1 are due, in classes of one timeout each: per class a wheel of 4,096 lists, so that a
// number goes in, comes out and falls due in constant time, and what is not due is not looked at. A number is in one
// list at most. A deadline is met late by up to a thousandth of the class's timeout, never early; users who push
// deadlines on without telling look again when the number falls due.
//
// A list of a large table is several chains, which are followed in turn: where one goes on is known only once the
// memory of its next link has come, and that of one chain comes while the others are followed.
//
// Numbers in no wheel may be kept in a list of free ones, which costs nothing: it runs through the same links.
class EFIO_EXPORT TimeoutWheels {
 public:
  static constexpr std::uint32_t none = 0xFFFF'FFFF;
  static constexpr std::size_t max_capacity = std::size_t{1} << 31;

  TimeoutWheels() noexcept = default;
  // Timeouts in ticks (any unit), at least 1. Errors: memory.
  static efio::Result<TimeoutWheels> create(std::size_t capacity, std::span<const std::uint64_t> timeouts);

  std::size_t bytes() const noexcept {
    return links_.bytes() + heads_.size() * sizeof(std::uint32_t) + wheels_.size() * sizeof(Wheel);
  }
  std::size_t classes() const noexcept { return wheels_.size(); }

  // The number is in no list. A deadline more than the class's timeout after the latest time given to take_due() may
  // fall due too early: then too users must look.
  void link(std::uint32_t number, std::size_t of_class, std::uint64_t deadline) noexcept;
  void unlink(std::uint32_t number) noexcept;

  // Takes out numbers of the class that fell due by `now`; returns how many: fewer than asked for when there are no
  // more. In no order within a list.
  std::size_t take_due(std::size_t of_class, std::uint64_t now, std::span<std::uint32_t> numbers) noexcept;
  std::uint32_t next_due(std::size_t of_class, std::uint64_t now) noexcept {
    std::uint32_t number = none;
    take_due(of_class, now, {&number, 1});
    return number;
  }
  // Takes out a number that will fall due soonest (within what a list spans).
  std::uint32_t soonest(std::size_t of_class) noexcept;
  // Every number out of every wheel.
  void clear() noexcept;

  // The list of the free: last in, first out.
  void push_free(std::uint32_t number) noexcept {
    links_[number].next = free_;
    free_ = number;
  }
  std::uint32_t pop_free() noexcept {
    const std::uint32_t number = free_;
    if (number != none) free_ = links_[number].next;
    return number;
  }
  std::uint32_t top_free() const noexcept { return free_; }
  // All numbers, the smallest first to come out; nothing may be in a wheel.
  void free_all() noexcept;

 private:
  static constexpr std::size_t lists = 4096;
  static constexpr std::size_t due = lists;  // the list of what fell due and was not taken yet
  static constexpr std::uint32_t is_head = 0x8000'0000;
  static constexpr std::size_t most_chains = 8;

  struct Link {
    std::uint32_t next;
    std::uint32_t previous;  // or is_head | the chain's number
  };
  struct Wheel {
    std::uint64_t last = 0;     // the list that was emptied last, counted without end
    unsigned shift = 0;         // a list spans 2^shift ticks
    std::uint32_t turn = 0;     // of a list's chains, the one to be followed next
    bool may_have_due = false;  // false: the list of the due is empty
    std::array<std::uint64_t, lists / 64> occupied{};
  };

  // The chains of all lists of all classes, those of one list one after the other.
  std::size_t first_chain(std::size_t of_class, std::size_t list) const noexcept {
    return (of_class * (lists + 1) + list) * chains_;
  }
  bool is_empty(std::size_t first) const noexcept;
  std::size_t next_occupied(const Wheel& wheel, std::size_t from, std::size_t most) const noexcept;
  void make_due(std::size_t of_class, std::size_t list) noexcept;
  std::size_t take(std::size_t of_class, std::size_t list, std::span<std::uint32_t> numbers) noexcept;

  TableArray<Link> links_;
  std::vector<Wheel> wheels_;
  std::size_t chains_ = 1;  // of a list: a power of two
  std::vector<std::uint32_t> heads_;
  std::uint32_t free_ = none;
};

}  // namespace efnet
