#include <algorithm>
#include <array>

#include "efio/fail.h"
#include "efnet/nat44/nat44.h"
#include "efnet/wire/bytes.h"

// What a NAT knows, as bytes: a mapping lives as long as its sessions, so these are all there is to tell. All numbers
// are in network order.
//
//   0   8  "efnat44" and a zero
//   8   4  version, 1
//   12  4  bytes of a session, 28
//   16  8  how many sessions
//   24  8  when it was written: ns since the Unix epoch
//   32     the sessions
//   end 8  CRC-64 (ECMA-182, as xz has it) of all that comes before
//
// A session: protocol, TCP state, timeout class and a zero, a byte each; the inside address, the outside one and the
// remote one; their ports, 16 bits each, in the same order; 16 bits of zeros; and 32 bits: ms since it was refreshed.

namespace efnet {
namespace {

constexpr std::uint64_t magic = 0x6566'6E61'7434'3400;  // "efnat44\0"
constexpr std::uint32_t version = 1;
constexpr std::size_t header_size = 32;
constexpr std::size_t session_size = 28;
constexpr std::size_t checksum_size = 8;

constexpr auto crc_table = [] {
  constexpr std::uint64_t polynomial = 0xC96C'5795'D787'0F42;  // reflected
  std::array<std::uint64_t, 256> table{};
  for (std::size_t i = 0; i < table.size(); ++i) {
    std::uint64_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? crc >> 1 ^ polynomial : crc >> 1;
    table[i] = crc;
  }
  return table;
}();

class Crc {
 public:
  void add(std::span<const std::byte> bytes) noexcept {
    for (const std::byte byte : bytes)
      crc_ = crc_ >> 8 ^ crc_table[(crc_ ^ std::to_integer<std::uint8_t>(byte)) & 0xFF];
  }
  std::uint64_t value() const noexcept { return ~crc_; }

 private:
  std::uint64_t crc_ = ~std::uint64_t{0};
};

struct Saved {
  IpProtocol protocol;
  TcpState tcp;
  std::uint8_t timeout_class;
  NatMapping mapping;
  Ipv4Address remote;
  std::uint16_t remote_port;
  Time idle;
};

void emit(const Saved& saved, std::byte* at) noexcept {
  store8(at, static_cast<std::uint8_t>(saved.protocol));
  store8(at + 1, static_cast<std::uint8_t>(saved.tcp));
  store8(at + 2, saved.timeout_class);
  store8(at + 3, 0);
  saved.mapping.inside.store(at + 4);
  saved.mapping.outside.store(at + 8);
  saved.remote.store(at + 12);
  store16(at + 16, saved.mapping.inside_port);
  store16(at + 18, saved.mapping.outside_port);
  store16(at + 20, saved.remote_port);
  store16(at + 22, 0);
  store32(at + 24,
          static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(saved.idle).count()));
}

Saved parse(const std::byte* at) noexcept {
  return {.protocol = IpProtocol{load8(at)},
          .tcp = TcpState{load8(at + 1)},
          .timeout_class = load8(at + 2),
          .mapping = {.inside = Ipv4Address::load(at + 4),
                      .outside = Ipv4Address::load(at + 8),
                      .inside_port = load16(at + 16),
                      .outside_port = load16(at + 18)},
          .remote = Ipv4Address::load(at + 12),
          .remote_port = load16(at + 20),
          .idle = std::chrono::milliseconds(load32(at + 24))};
}

}  // namespace

void Nat44::snapshot(Time now, std::chrono::nanoseconds unix_time,
                     const std::function<void(std::span<const std::byte>)>& write) const {
  constexpr std::size_t at_once = 1024;
  std::vector<std::byte> bytes(at_once * session_size);
  Crc crc;
  std::size_t filled = header_size;
  const auto flush = [&] {
    crc.add(std::span(bytes).first(filled));
    write(std::span(bytes).first(filled));
    filled = 0;
  };
  const SessionTable4& table = sessions_.table();
  store64(bytes.data(), magic);
  store32(bytes.data() + 8, version);
  store32(bytes.data() + 12, session_size);
  store64(bytes.data() + 16, table.size());
  store64(bytes.data() + 24, static_cast<std::uint64_t>(unix_time.count()));
  flush();
  const std::uint64_t ticks = table_time::ticks(now);
  table.scan(0, table.capacity(), [&](std::uint32_t session, const SessionState& state) {
    if (filled + session_size > bytes.size()) flush();
    const FlowKey4& forward = table.key(session);
    const auto age = static_cast<std::int32_t>(static_cast<std::uint32_t>(ticks) - state.seen);
    emit({.protocol = forward.protocol,
          .tcp = state.tcp,
          .timeout_class = state.timeout_class,
          .mapping = mappings_.mapping(static_cast<std::uint32_t>(state.value)),
          .remote = forward.dst,
          .remote_port = forward.dst_port,
          .idle = table_time::from_ticks(static_cast<std::uint64_t>(std::max(age, 0)))},
         bytes.data() + filled);
    filled += session_size;
  });
  flush();
  store64(bytes.data(), crc.value());
  write(std::span(bytes).first(checksum_size));
}

efio::Result<NatRestored> Nat44::restore(std::span<const std::byte> bytes, Time now,
                                         std::chrono::nanoseconds unix_time) {
  const auto broken = [](std::string_view why) {
    return efio::fail(efio::Error::Kind::usage, "restore NAT44 sessions", "{}", why)
        .hint("nothing of it has been believed; begin without it");
  };
  if (bytes.size() < header_size + checksum_size) return broken("shorter than its header");
  if (load64(bytes, 0) != magic) return broken("no snapshot of a NAT44");
  if (load32(bytes, 8) != version || load32(bytes, 12) != session_size) return broken("of another version");
  const std::uint64_t count = load64(bytes, 16);
  const std::size_t there = bytes.size() - header_size - checksum_size;
  if (there % session_size != 0 || there / session_size != count) return broken("longer or shorter than it says");
  Crc crc;
  crc.add(bytes.first(bytes.size() - checksum_size));
  if (crc.value() != load64(bytes, bytes.size() - checksum_size)) return broken("its checksum is wrong");

  const auto written = std::chrono::nanoseconds(static_cast<std::int64_t>(load64(bytes, 24)));
  const Time passed = std::max(unix_time - written, Time::zero());
  NatRestored result;
  std::array<NatSessions::Opening, batch> openings;
  std::array<Saved, batch> saved;
  std::size_t filled = 0;
  const auto open = [&] {
    std::array<SessionRef, batch> refs;
    sessions_.open(std::span(openings).first(filled), now, refs);
    for (std::size_t i = 0; i < filled; ++i)
      if (refs[i]) mappings_.acquire(openings[i].mapping.number);
    for (std::size_t i = 0; i < filled; ++i) {
      if (refs[i]) {
        sessions_.table().resume(refs[i].session(), saved[i].tcp, saved[i].timeout_class, saved[i].idle, now);
        ++result.restored;
      } else {
        mappings_.abandon(openings[i].mapping.number, now);
        ++result.refused;
      }
    }
    filled = 0;
  };
  const auto& classes = sessions_.table().options().classes;
  for (std::uint64_t i = 0; i < count; ++i) {
    Saved& one = saved[filled];
    one = parse(bytes.data() + header_size + i * session_size);
    one.idle += passed;
    if (one.timeout_class >= classes.size() || static_cast<std::size_t>(one.tcp) >= tcp_states ||
        !is_inside(one.mapping.inside) || is_bypassed(one.remote)) {
      ++result.refused;
      continue;
    }
    if (one.idle >= classes[one.timeout_class].timeout) {
      ++result.expired;
      continue;
    }
    const auto mapping = mappings_.restore(one.protocol, one.mapping, now);
    if (!mapping) {
      ++result.refused;
      continue;
    }
    openings[filled] = {.forward = {.src = one.mapping.inside,
                                    .dst = one.remote,
                                    .src_port = one.mapping.inside_port,
                                    .dst_port = one.remote_port,
                                    .protocol = one.protocol},
                        .mapping = *mapping,
                        .hairpin = mappings_.owns(one.remote)};
    if (++filled == batch) open();
  }
  open();
  return result;
}

}  // namespace efnet
