#include "efnet/tables/timeout_wheels.h"

#include <algorithm>
#include <bit>

namespace efnet {

efio::Result<TimeoutWheels> TimeoutWheels::create(std::size_t capacity, std::span<const std::uint64_t> timeouts) {
  auto links = TableArray<Link>::create(capacity);
  if (!links) return std::unexpected(std::move(links.error()));
  TimeoutWheels wheels;
  wheels.links_ = std::move(*links);
  // The links of small tables are in the cache anyway, and heads would take more room than they.
  constexpr std::size_t numbers_a_chain = 131'072;
  wheels.chains_ = std::bit_floor(std::clamp<std::size_t>(capacity / numbers_a_chain, 1, most_chains));
  for (const std::uint64_t timeout : timeouts) {
    Wheel wheel;
    // A deadline lies at most half a turn ahead, or what is due late could meet what is due a turn later.
    while ((timeout >> wheel.shift) + 2 > lists / 2) ++wheel.shift;
    wheels.wheels_.push_back(wheel);
  }
  wheels.heads_.assign(timeouts.size() * (lists + 1) * wheels.chains_, none);
  return wheels;
}

bool TimeoutWheels::is_empty(std::size_t first) const noexcept {
  std::uint32_t all = none;
  for (std::size_t chain = 0; chain < chains_; ++chain) all &= heads_[first + chain];
  return all == none;
}

void TimeoutWheels::link(std::uint32_t number, std::size_t of_class, std::uint64_t deadline) noexcept {
  Wheel& wheel = wheels_[of_class];
  const std::uint64_t span = std::uint64_t{1} << wheel.shift;
  const std::uint64_t reached = (deadline + span - 1) >> wheel.shift;
  // The first one ever says what time it is, so that no turn is lost on the time before.
  if (wheel.last == 0) wheel.last = reached - std::min<std::uint64_t>(reached, lists / 2);
  const std::size_t list = reached <= wheel.last ? due : reached % lists;
  const std::size_t chain = first_chain(of_class, list) + number % chains_;
  std::uint32_t& first = heads_[chain];
  links_[number] = {first, static_cast<std::uint32_t>(is_head | chain)};
  if (first != none) links_[first].previous = number;
  first = number;
  if (list == due)
    wheel.may_have_due = true;
  else
    wheel.occupied[list / 64] |= std::uint64_t{1} << list % 64;
}

void TimeoutWheels::unlink(std::uint32_t number) noexcept {
  const Link link = links_[number];
  if (link.next != none) links_[link.next].previous = link.previous;
  if ((link.previous & is_head) == 0) {
    links_[link.previous].next = link.next;
    return;
  }
  const std::size_t chain = link.previous & ~is_head;
  heads_[chain] = link.next;
  if (link.next != none) return;
  const std::size_t list = chain / chains_ % (lists + 1);
  if (list == due || !is_empty(chain / chains_ * chains_)) return;
  wheels_[chain / chains_ / (lists + 1)].occupied[list / 64] &= ~(std::uint64_t{1} << list % 64);
}

// Out of a list's chains in turn, until all are empty or there are enough.
std::size_t TimeoutWheels::take(std::size_t of_class, std::size_t list, std::span<std::uint32_t> numbers) noexcept {
  const std::size_t first = first_chain(of_class, list);
  std::uint32_t& turn = wheels_[of_class].turn;
  std::size_t count = 0;
  for (std::size_t empty = 0; empty < chains_ && count < numbers.size(); ++turn) {
    const std::uint32_t number = heads_[first + turn % chains_];
    if (number == none) {
      ++empty;
      continue;
    }
    unlink(number);
    numbers[count++] = number;
    empty = 0;
  }
  return count;
}

// How many lists after `from` the next one is that holds something; `most` where none of these does.
std::size_t TimeoutWheels::next_occupied(const Wheel& wheel, std::size_t from, std::size_t most) const noexcept {
  for (std::size_t ahead = 0; ahead < most;) {
    const std::size_t list = (from + ahead) % lists;
    const std::uint64_t rest = wheel.occupied[list / 64] >> list % 64;
    if (rest != 0) return std::min(most, ahead + static_cast<std::size_t>(std::countr_zero(rest)));
    ahead += 64 - list % 64;
  }
  return most;
}

// The list as a whole becomes the list of the due, which is empty, before anything can be linked into it anew.
void TimeoutWheels::make_due(std::size_t of_class, std::size_t list) noexcept {
  const std::size_t from = first_chain(of_class, list);
  const std::size_t to = first_chain(of_class, due);
  for (std::size_t chain = 0; chain < chains_; ++chain) {
    const std::uint32_t first = std::exchange(heads_[from + chain], none);
    heads_[to + chain] = first;
    if (first != none) links_[first].previous = static_cast<std::uint32_t>(is_head | (to + chain));
  }
  wheels_[of_class].occupied[list / 64] &= ~(std::uint64_t{1} << list % 64);
  wheels_[of_class].may_have_due = true;
}

std::size_t TimeoutWheels::take_due(std::size_t of_class, std::uint64_t now,
                                    std::span<std::uint32_t> numbers) noexcept {
  Wheel& wheel = wheels_[of_class];
  const std::uint64_t reached = now >> wheel.shift;
  // A step back in time: else what is not due yet would be put among the due, and be taken out at once, for ever.
  if (reached < wheel.last) wheel.last = reached;
  for (std::size_t count = 0;;) {
    if (wheel.may_have_due) {
      count += take(of_class, due, numbers.subspan(count));
      if (count == numbers.size()) return count;
      wheel.may_have_due = false;
    }
    if (reached == wheel.last) return count;
    const auto behind = static_cast<std::size_t>(std::min<std::uint64_t>(reached - wheel.last, lists));
    const std::uint64_t first = reached - behind + 1;
    const std::size_t ahead = next_occupied(wheel, first % lists, behind);
    if (ahead == behind) {
      wheel.last = reached;
      return count;
    }
    wheel.last = first + ahead;
    make_due(of_class, wheel.last % lists);
  }
}

std::uint32_t TimeoutWheels::soonest(std::size_t of_class) noexcept {
  std::uint32_t number = none;
  if (take(of_class, due, {&number, 1}) != 0) return number;
  const Wheel& wheel = wheels_[of_class];
  const std::size_t from = (wheel.last + 1) % lists;
  const std::size_t ahead = next_occupied(wheel, from, lists);
  if (ahead != lists) take(of_class, (from + ahead) % lists, {&number, 1});
  return number;
}

void TimeoutWheels::clear() noexcept {
  std::ranges::fill(heads_, none);
  for (Wheel& wheel : wheels_) {
    wheel.occupied.fill(0);
    wheel.may_have_due = false;
  }
}

void TimeoutWheels::free_all() noexcept {
  free_ = none;
  for (std::size_t number = links_.size(); number-- > 0;) push_free(static_cast<std::uint32_t>(number));
}

}  // namespace efnet
