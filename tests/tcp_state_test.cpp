#include "efnet/tables/tcp_state.h"

#include <gtest/gtest.h>

#include "efnet/tables/session_table.h"
#include "tests/support/wire_bytes.h"

using namespace efnet;
using namespace std::chrono_literals;

namespace {

constexpr std::uint8_t syn = tcp_flag::syn, ack = tcp_flag::ack, fin = tcp_flag::fin, rst = tcp_flag::rst;
constexpr bool forward = true, reverse = false;

TcpState after(std::initializer_list<std::pair<bool, std::uint8_t>> segments) {
  TcpState state = TcpState::closed;
  for (const auto& [side, flags] : segments) state = next_state(state, side, flags);
  return state;
}

TEST(TcpState, FollowsAConnectionFromSynToBothFins) {
  EXPECT_EQ(after({{forward, syn}}), TcpState::init_forward);
  EXPECT_EQ(after({{forward, syn}, {reverse, syn | ack}}), TcpState::established);
  EXPECT_EQ(after({{forward, syn}, {reverse, syn | ack}, {forward, ack}, {forward, fin | ack}}), TcpState::fin_forward);
  EXPECT_EQ(after({{forward, syn}, {reverse, syn | ack}, {reverse, fin | ack}}), TcpState::fin_reverse);
  EXPECT_EQ(after({{forward, syn}, {reverse, syn | ack}, {reverse, fin | ack}, {forward, fin | ack}}),
            TcpState::fin_both);
  EXPECT_EQ(
      after({{forward, syn}, {reverse, syn | ack}, {forward, fin}, {reverse, ack}, {reverse, fin}, {forward, ack}}),
      TcpState::fin_both);
}

// N10: every valid sequence; simultaneous open among them.
TEST(TcpState, KnowsSimultaneousOpen) {
  EXPECT_EQ(after({{reverse, syn}}), TcpState::init_reverse);
  EXPECT_EQ(after({{reverse, syn}, {forward, syn}}), TcpState::established);
  EXPECT_EQ(after({{forward, syn}, {reverse, syn}, {reverse, syn | ack}, {forward, syn | ack}}), TcpState::established);
}

TEST(TcpState, OpensWithNothingButASyn) {
  for (const std::uint8_t flags : {ack, fin, rst, std::uint8_t(syn | rst), std::uint8_t(syn | fin), std::uint8_t(0)}) {
    EXPECT_EQ(after({{forward, flags}}), TcpState::closed);
    EXPECT_EQ(after({{forward, syn}, {reverse, flags}}), TcpState::init_forward);
  }
  EXPECT_EQ(after({{forward, syn}, {forward, syn}}), TcpState::init_forward) << "sent again";
}

TEST(TcpState, ResetsAndComesBack) {
  EXPECT_EQ(after({{forward, syn}, {reverse, syn | ack}, {reverse, rst}}), TcpState::reset);
  EXPECT_EQ(after({{forward, syn}, {reverse, syn | ack}, {forward, fin}, {reverse, rst}}), TcpState::reset);
  EXPECT_EQ(after({{forward, syn}, {reverse, syn | ack}, {reverse, rst}, {forward, ack}}), TcpState::established)
      << "RFC 6146: the RST was not the peer's";
  EXPECT_EQ(after({{forward, syn}, {reverse, syn | ack}, {reverse, rst}, {forward, syn}}), TcpState::init_forward);
  EXPECT_EQ(after({{forward, syn}, {reverse, syn | ack}, {forward, fin}, {reverse, fin}, {forward, syn}}),
            TcpState::init_forward);
}

// N11
TEST(TcpState, ChoosesTheTimeoutOfTheTable) {
  auto table = *SessionTable4::create({.capacity = 4, .seed = HashSeed::from(1)});
  const FlowKey4 key{{10, 0, 0, 1}, {192, 0, 2, 1}, 1, 80, IpProtocol::tcp};
  const SessionRef in =
      table.insert({key, key.reversed(), static_cast<std::uint8_t>(NatClass::tcp_transitory)}, 1s).session;
  const SessionRef back = table.lookup(key.reversed());
  const auto timeout = [&] { return table.options().classes[table.state(in.session()).timeout_class].timeout; };
  table.track_tcp(in, {.flags = syn}, 1s);
  EXPECT_EQ(timeout(), 240s);
  EXPECT_EQ(table.track_tcp(back, {.flags = syn | ack}, 1s).after, TcpState::established);
  EXPECT_EQ(timeout(), 7440s);
  table.track_tcp(in, {.flags = fin}, 1s);
  EXPECT_EQ(timeout(), 7440s);
  table.touch(in, 500s);
  const auto closed = table.track_tcp(back, {.flags = rst}, 500s);
  EXPECT_EQ(closed.before, TcpState::fin_forward);
  EXPECT_EQ(closed.after, TcpState::reset);
  EXPECT_EQ(timeout(), 240s);
  std::array<Session<FlowKey4>, 1> gone;
  EXPECT_EQ(table.expire(739s, gone).ended, 0u);
  EXPECT_EQ(table.expire(741s, gone).ended, 1u) << "after a RST the state stays 4 minutes";
}

class Windows : public ::testing::Test {
 protected:
  // SYN of 1000, window 1000, scale 2; SYN+ACK of 5000, window 2000, scale 3.
  void SetUp() override {
    ASSERT_TRUE(windows.accept(forward, {.sequence = 1000, .window = 1000, .flags = syn, .scale = 2}));
    ASSERT_TRUE(windows.accept(
        reverse, {.sequence = 5000, .acknowledgment = 1001, .window = 2000, .flags = syn | ack, .scale = 3}));
    ASSERT_TRUE(send(forward, 1001, 5001, 0, 250));  // 1,000 scaled
  }
  bool send(bool side, std::uint32_t sequence, std::uint32_t acknowledgment, std::uint32_t length, std::uint16_t window,
            std::uint8_t flags = ack) {
    return windows.accept(side, {sequence, acknowledgment, length, window, flags, TcpSegment::no_scale});
  }
  TcpWindows windows{};
};

TEST_F(Windows, AcceptWhatTheOtherSideOffered) {
  EXPECT_TRUE(send(forward, 1001, 5001, 2000, 250));  // up to 3001, the SYN+ACK's unscaled window
  EXPECT_FALSE(send(forward, 3002, 5001, 10, 250)) << "beyond the window";
  EXPECT_TRUE(send(reverse, 5001, 3001, 500, 250));  // 2,000 scaled: up to 5001 now
  EXPECT_TRUE(send(forward, 3001, 5501, 2000, 250));
  EXPECT_TRUE(send(forward, 1001, 5501, 2000, 250)) << "sent again";
}

TEST_F(Windows, RefuseWhatIsFarOff) {
  EXPECT_FALSE(send(forward, 1001 + 1'000'000, 5001, 10, 250));
  EXPECT_FALSE(send(forward, 1001 - 1'000'000, 5001, 10, 250));
  EXPECT_FALSE(send(reverse, 5001, 1001 + 1000, 10, 250)) << "acknowledges what was not sent";
  EXPECT_FALSE(send(reverse, 5001, 1001 - 200'000, 10, 250)) << "acknowledges the far past";
  EXPECT_FALSE(send(reverse, 77'777'777, 0, 0, 0, rst)) << "a blind RST";
  EXPECT_TRUE(send(reverse, 5001, 0, 0, 0, rst)) << "a RST in the window";
  EXPECT_TRUE(send(forward, 1001, 5001, 100, 250)) << "and nothing moved by what was refused";
}

TEST_F(Windows, WrapAround) {
  TcpWindows wrapping{};
  const std::uint32_t start = 0xFFFF'FF00;
  std::uint32_t at = start;
  EXPECT_TRUE(wrapping.accept(forward, {.sequence = at++, .window = 0xFFFF, .flags = syn}));
  EXPECT_TRUE(wrapping.accept(reverse, {.sequence = 1, .acknowledgment = at, .window = 0xFFFF, .flags = syn | ack}));
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(wrapping.accept(forward, {at, 2, 1000, 0xFFFF, ack, TcpSegment::no_scale})) << i;
    at += 1000;
    ASSERT_TRUE(wrapping.accept(reverse, {2, at, 0, 0xFFFF, ack, TcpSegment::no_scale})) << i;
  }
}

TEST_F(Windows, BelieveAConnectionMetInItsMiddle) {
  TcpWindows middle{};
  EXPECT_TRUE(middle.accept(forward, {700, 900, 100, 1000, ack, TcpSegment::no_scale}));
  EXPECT_TRUE(middle.accept(reverse, {900, 800, 100, 1000, ack, TcpSegment::no_scale}));
  EXPECT_FALSE(middle.accept(forward, {700 + 9'000'000, 1000, 100, 1000, ack, TcpSegment::no_scale}));
}

TEST(TcpSegment, IsReadFromTheWire) {
  const auto bytes = wire_test::hex("0400 0050 00000064 000000c8 7002 1000 0000 0000 020405b4 01 030307 000000 aabb");
  const auto view = TcpView::parse(bytes);
  ASSERT_TRUE(view);
  const TcpSegment segment = TcpSegment::of(*view);
  EXPECT_EQ(segment.sequence, 100u);
  EXPECT_EQ(segment.acknowledgment, 200u);
  EXPECT_EQ(segment.window, 0x1000);
  EXPECT_EQ(segment.flags, syn);
  EXPECT_EQ(segment.scale, 7);
  EXPECT_EQ(segment.length, bytes.size() - 28);
}

TEST(TcpWindowsInTheTable, AreCheckedWhereAskedFor) {
  auto table = *SessionTable4::create({.capacity = 4, .tcp_windows = true, .seed = HashSeed::from(1)});
  const FlowKey4 key{{10, 0, 0, 1}, {192, 0, 2, 1}, 1, 80, IpProtocol::tcp};
  const SessionRef in = table.insert({key, key.reversed()}, 1s).session;
  const SessionRef back = table.lookup(key.reversed());
  EXPECT_TRUE(table.track_tcp(in, {.sequence = 100, .window = 1000, .flags = syn}, 1s).in_window);
  EXPECT_TRUE(table.track_tcp(back, {.sequence = 500, .acknowledgment = 101, .window = 1000, .flags = syn | ack}, 1s)
                  .in_window);
  const auto blind = table.track_tcp(back, {.sequence = 123'456'789, .flags = rst}, 1s);
  EXPECT_FALSE(blind.in_window);
  EXPECT_EQ(blind.after, TcpState::established) << "a RST out of the window changes nothing";
  EXPECT_EQ(table.state(in.session()).tcp, TcpState::established);
}

}  // namespace
