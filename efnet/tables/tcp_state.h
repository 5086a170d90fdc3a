#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "efio/export.h"
#include "efnet/wire/tcp.h"

// What a box in the middle knows of a TCP connection.

namespace efnet {

// The states of RFC 6146, 3.5.2.2, with "forward" for the side that the session was made for.
enum class TcpState : std::uint8_t {
  closed,        // no SYN seen
  init_forward,  // a SYN of the forward side
  init_reverse,  // a SYN of the reverse side
  established,   // a SYN of either side, in any order: simultaneous open included
  fin_forward,   // a FIN of the forward side only
  fin_reverse,   // a FIN of the reverse side only
  fin_both,      // both
  reset,         // a RST; RFC 6146's TRANS
};
inline constexpr std::size_t tcp_states = 8;

EFIO_EXPORT std::string_view to_string(TcpState state) noexcept;

// Whether the established timeout (RFC 5382, REQ-5: 2 h 4 min at least) applies, else the transitory one (4 min).
constexpr bool is_established(TcpState state) noexcept {
  return state == TcpState::established || state == TcpState::fin_forward || state == TcpState::fin_reverse;
}

// The state after a segment with these flags (tcp_flag) from the forward or the reverse side. RST counts before FIN,
// FIN before SYN. Beyond RFC 6146: a RST is heeded in a half-closed connection as in an open one (RFC 7857, 2.2), and
// after both FINs or a RST a SYN opens the next connection of the same ports.
EFIO_EXPORT TcpState next_state(TcpState state, bool forward, std::uint8_t flags) noexcept;

// What window checks look at of a segment.
struct TcpSegment {
  std::uint32_t sequence = 0;
  std::uint32_t acknowledgment = 0;
  std::uint32_t length = 0;       // of the payload, in bytes
  std::uint16_t window = 0;       // as sent, not scaled
  std::uint8_t flags = 0;         // tcp_flag
  std::uint8_t scale = no_scale;  // of the option, which counts in a SYN

  static constexpr std::uint8_t no_scale = 0xFF;

  EFIO_EXPORT static TcpSegment of(TcpView segment) noexcept;
};

// Both directions' windows, 32 bytes: which segments can belong to the connection (van Rooij, "Real stateful TCP packet
// filtering in IP Filter", 2001; the four bounds that packet filters use since). A connection first seen in its middle
// is believed, and checked from there.
class TcpWindows {
 public:
  // Whether the segment fits; the windows follow it where it does and stay where it does not.
  EFIO_EXPORT bool accept(bool forward, const TcpSegment& segment) noexcept;

 private:
  struct Side {
    std::uint32_t end;          // the highest sequence number sent, + 1
    std::uint32_t most_end;     // the highest that the other side's window lets it send, + 1
    std::uint32_t most_window;  // the largest window that it offered, scaled; 0: nothing seen of this side
    std::uint8_t scale;
    bool scaled;  // it sent the option
    std::uint16_t spare;
  };
  std::array<Side, 2> sides_;
};
static_assert(sizeof(TcpWindows) == 32);

}  // namespace efnet
