#include "efnet/tables/timeout_wheels.h"

#include <algorithm>
#include <bit>

namespace efnet {

efio::Result<TimeoutWheels> TimeoutWheels::create(std::size_t capacity, std::span<const std::uint64_t> timeouts) {
  auto links = TableArray<Link>::create(capacity);
  if (!links) return std::unexpected(std::move(links.error()));
  TimeoutWheels wheels;
  wheels.links_ = std::move(*links);
  for (const std::uint64_t timeout : timeouts) {
    Wheel wheel;
    // A deadline lies at most half a turn ahead, or what is due late could meet what is due a turn later.
    while ((timeout >> wheel.shift) + 2 > lists / 2) ++wheel.shift;
    wheels.wheels_.push_back(wheel);
  }
  wheels.heads_.assign(timeouts.size() * (lists + 1), none);
  return wheels;
}

void TimeoutWheels::link(std::uint32_t number, std::size_t of_class, std::uint64_t deadline) noexcept {
  Wheel& wheel = wheels_[of_class];
  const std::uint64_t span = std::uint64_t{1} << wheel.shift;
  const std::uint64_t reached = (deadline + span - 1) >> wheel.shift;
  // The first one ever says what time it is, so that no turn is lost on the time before.
  if (wheel.last == 0) wheel.last = reached - std::min<std::uint64_t>(reached, lists / 2);
  const std::size_t list = reached <= wheel.last ? due : reached % lists;
  std::uint32_t& first = head(of_class, list);
  links_[number] = {first, static_cast<std::uint32_t>(is_head | (of_class * (lists + 1) + list))};
  if (first != none) links_[first].previous = number;
  first = number;
  if (list != due) wheel.occupied[list / 64] |= std::uint64_t{1} << list % 64;
}

void TimeoutWheels::unlink(std::uint32_t number) noexcept {
  const Link link = links_[number];
  if (link.next != none) links_[link.next].previous = link.previous;
  if ((link.previous & is_head) == 0) {
    links_[link.previous].next = link.next;
    return;
  }
  const std::size_t place = link.previous & ~is_head;
  heads_[place] = link.next;
  const std::size_t list = place % (lists + 1);
  if (link.next == none && list != due)
    wheels_[place / (lists + 1)].occupied[list / 64] &= ~(std::uint64_t{1} << list % 64);
}

std::uint32_t TimeoutWheels::take_first(std::size_t of_class, std::size_t list) noexcept {
  const std::uint32_t number = head(of_class, list);
  if (number != none) unlink(number);
  return number;
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

std::uint32_t TimeoutWheels::next_due(std::size_t of_class, std::uint64_t now) noexcept {
  Wheel& wheel = wheels_[of_class];
  std::uint32_t& waiting = head(of_class, due);
  const std::uint64_t reached = now >> wheel.shift;
  // A step back in time: else what is not due yet would be put among the due, and be taken out at once, for ever.
  if (reached < wheel.last) wheel.last = reached;
  if (waiting == none && reached > wheel.last) {
    // The list as a whole becomes the list of the due, before anything can be linked into it anew.
    const auto behind = static_cast<std::size_t>(std::min<std::uint64_t>(reached - wheel.last, lists));
    const std::uint64_t first = reached - behind + 1;
    const std::size_t ahead = next_occupied(wheel, first % lists, behind);
    if (ahead == behind) {
      wheel.last = reached;
      return none;
    }
    wheel.last = first + ahead;
    const std::size_t list = wheel.last % lists;
    waiting = std::exchange(head(of_class, list), none);
    wheel.occupied[list / 64] &= ~(std::uint64_t{1} << list % 64);
    links_[waiting].previous = static_cast<std::uint32_t>(is_head | (of_class * (lists + 1) + due));
  }
  return take_first(of_class, due);
}

std::uint32_t TimeoutWheels::soonest(std::size_t of_class) noexcept {
  const Wheel& wheel = wheels_[of_class];
  if (head(of_class, due) != none) return take_first(of_class, due);
  const std::size_t from = (wheel.last + 1) % lists;
  const std::size_t ahead = next_occupied(wheel, from, lists);
  return ahead == lists ? none : take_first(of_class, (from + ahead) % lists);
}

void TimeoutWheels::clear() noexcept {
  std::ranges::fill(heads_, none);
  for (Wheel& wheel : wheels_) wheel.occupied.fill(0);
}

void TimeoutWheels::free_all() noexcept {
  free_ = none;
  for (std::size_t number = links_.size(); number-- > 0;) push_free(static_cast<std::uint32_t>(number));
}

}  // namespace efnet
