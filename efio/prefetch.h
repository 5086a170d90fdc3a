// Brings cache lines near before they are read or written.
#pragma once

namespace efio {

// For functions that do nothing else: g++ 12 takes one whose only statement is a loop over __builtin_prefetch for one
// without effects, and leaves out its calls.
[[gnu::always_inline]] inline void prefetch_for_reading(const void* at) noexcept {
#if defined(__x86_64__)
  asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(at)));
#else
  __builtin_prefetch(at);
#endif
}

// Asks for the line's ownership, so that another processor's copy is gone by the time it is written: the lines of many
// frames then come over at once, not one store after the other. __builtin_prefetch(…, 1) asks for it only where the
// compiler may assume PREFETCHW, which baseline x86-64 does not have in its list; a processor without it takes the
// instruction for a no-op (Intel SDM vol. 2, PREFETCHW).
[[gnu::always_inline]] inline void prefetch_for_writing(const void* at) noexcept {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(at)));
#else
  __builtin_prefetch(at, 1);
#endif
}

}  // namespace efio
