#include "efnet/tables/tag_index.h"

#include <array>

namespace efnet {

// The entry goes to its other line, which has room.
void TagIndex::move(std::uint32_t from, unsigned way, std::uint32_t to) noexcept {
  Line& line = lines_[from];
  const std::uint16_t tag = line.tag[way];
  if ((line.displaced >> way & 1) != 0) {  // home
    put(to, tag, line.number[way], false);
    --lines_[to].overflow;
  } else {
    put_displaced(from, to, tag, line.number[way]);
  }
  free_way(line, way);
}

// Frees an entry in the first line of `place`, or in its second, by moving entries to their other lines. Searches
// breadth first, from both lines that the newcomer may take, so that the chain of moves is as short as can be and
// nothing is touched before it is known to end in a free entry.
bool TagIndex::make_room(Place place, std::uint32_t second) noexcept {
  struct Step {
    std::uint32_t line;
    std::uint16_t parent;  // the step whose line gives an entry to this one
    std::uint16_t way;     // which one
  };
  constexpr std::size_t most = 256;
  std::array<Step, most> steps;
  std::size_t known = 0;
  steps[known++] = {place.line, 0, 0};
  if (second != place.line) steps[known++] = {second, 0, 0};
  const std::size_t roots = known;

  for (std::size_t at = 0; at < known; ++at) {
    const std::uint32_t from = steps[at].line;
    for (unsigned way = 0; way < ways; ++way) {
      const std::uint16_t tag = lines_[from].tag[way];
      const std::uint32_t to = other(from, tag);
      bool seen = to == from;
      for (std::size_t i = 0; i < known && !seen; ++i) seen = steps[i].line == to;
      if (seen) continue;
      if (match(lines_[to], 0) == 0) {
        if (known < most) steps[known++] = {to, static_cast<std::uint16_t>(at), static_cast<std::uint16_t>(way)};
        continue;
      }
      // From the free entry back to the newcomer's line: each move fills what the one before freed. No line occurs
      // twice.
      move(from, way, to);
      for (std::size_t step = at; step >= roots; step = steps[step].parent)
        move(steps[steps[step].parent].line, steps[step].way, steps[step].line);
      return true;
    }
  }
  return false;
}

}  // namespace efnet
