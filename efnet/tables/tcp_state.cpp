#include "efnet/tables/tcp_state.h"

#include <algorithm>

namespace efnet {
namespace {

constexpr bool after(std::uint32_t a, std::uint32_t b) noexcept { return static_cast<std::int32_t>(a - b) > 0; }

// What acknowledgments may lag behind at least, whatever windows were offered: a full unscaled window and a segment.
constexpr std::uint32_t least_lag = 66'000;
constexpr unsigned largest_scale = 14;  // RFC 7323, 2.3

}  // namespace

std::string_view to_string(TcpState state) noexcept {
  constexpr std::array<std::string_view, tcp_states> names{"closed",      "init_forward", "init_reverse", "established",
                                                           "fin_forward", "fin_reverse",  "fin_both",     "reset"};
  return static_cast<std::size_t>(state) < names.size() ? names[static_cast<std::size_t>(state)] : "invalid";
}

TcpState next_state(TcpState state, bool forward, std::uint8_t flags) noexcept {
  const bool rst = (flags & tcp_flag::rst) != 0;
  const bool fin = (flags & tcp_flag::fin) != 0;
  const bool syn = (flags & tcp_flag::syn) != 0;
  const TcpState opening = forward ? TcpState::init_forward : TcpState::init_reverse;
  switch (state) {
    case TcpState::closed:
      return syn && !rst && !fin ? opening : state;
    case TcpState::init_forward:
    case TcpState::init_reverse:
      return syn && !rst && !fin && state != opening ? TcpState::established : state;
    case TcpState::established:
      if (rst) return TcpState::reset;
      if (fin) return forward ? TcpState::fin_forward : TcpState::fin_reverse;
      return state;
    case TcpState::fin_forward:
      if (rst) return TcpState::reset;
      return fin && !forward ? TcpState::fin_both : state;
    case TcpState::fin_reverse:
      if (rst) return TcpState::reset;
      return fin && forward ? TcpState::fin_both : state;
    case TcpState::fin_both:
      return syn && !rst && !fin ? opening : state;
    case TcpState::reset:
      if (rst) return state;
      return syn && !fin ? opening : TcpState::established;
  }
  return state;
}

TcpSegment TcpSegment::of(TcpView segment) noexcept {
  TcpSegment result{.sequence = segment.sequence(),
                    .acknowledgment = segment.acknowledgment(),
                    .length = static_cast<std::uint32_t>(segment.payload().size()),
                    .window = segment.window(),
                    .flags = segment.flags()};
  if ((result.flags & tcp_flag::syn) != 0)
    if (const auto option = segment.option(tcp_option::window_scale); option && option->data.size() == 1)
      result.scale = static_cast<std::uint8_t>(std::min<unsigned>(load8(option->data.data()), largest_scale));
  return result;
}

bool TcpWindows::accept(bool forward, const TcpSegment& segment) noexcept {
  Side& sender = sides_[forward ? 0 : 1];
  Side& receiver = sides_[forward ? 1 : 0];
  const bool syn = (segment.flags & tcp_flag::syn) != 0;
  const bool ack = (segment.flags & tcp_flag::ack) != 0;
  const bool fin = (segment.flags & tcp_flag::fin) != 0;
  const std::uint32_t end = segment.sequence + segment.length + (syn ? 1 : 0) + (fin ? 1 : 0);

  Side next = sender;
  if (syn) {
    next.scaled = segment.scale != TcpSegment::no_scale;
    next.scale = next.scaled ? segment.scale : std::uint8_t{0};
  }
  // A SYN's own window is never scaled, and scaling holds only where both sides offered it (RFC 7323, 2.2).
  const bool scaling = !syn && next.scaled && receiver.scaled;
  const std::uint32_t window = std::uint32_t{segment.window} << (scaling ? next.scale : 0U);

  const bool fresh = sender.most_window == 0 || (syn && !ack && receiver.most_window == 0);
  if (fresh) {
    next.end = end;
    next.most_end = end + (syn ? std::max<std::uint32_t>(receiver.most_window, 1) : std::max(window, least_lag));
    next.most_window = std::max<std::uint32_t>(window, 1);
  }
  // A RST need not acknowledge, nor does a SYN that opens; then the last two bounds say nothing.
  const bool acknowledges = ack && receiver.most_window != 0;
  const std::uint32_t lag = std::max(next.most_window, least_lag);
  const std::uint32_t behind = std::max<std::uint32_t>(receiver.most_window, receiver.most_window == 0 ? least_lag : 1);
  const bool fits = !after(segment.sequence, next.most_end) && !after(next.end - behind, end) &&
                    (!acknowledges || (!after(segment.acknowledgment, receiver.end) &&
                                       !after(receiver.end - lag, segment.acknowledgment)));
  if (!fits) return false;

  next.most_window = std::max(next.most_window, window);
  if (after(end, next.end)) next.end = end;
  sender = next;
  if (ack) {
    const std::uint32_t permitted = segment.acknowledgment + std::max<std::uint32_t>(window, 1);
    if (receiver.most_window != 0 && after(permitted, receiver.most_end)) receiver.most_end = permitted;
  }
  return true;
}

}  // namespace efnet
