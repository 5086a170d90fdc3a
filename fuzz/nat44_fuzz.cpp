#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "efnet/nat44/nat44.h"
#include "fuzz/operations.h"

// A NAT as bytes make it, and packets as bytes make them: whole ones, fragments that fit and fragments that do not,
// ICMP errors about packets that were sent and about others, all of these cut anywhere or with bytes changed, and mere
// bytes. After each batch: what was translated and had right checksums has right ones, a mapping leads both ways, every
// packet has been counted once, ports that are lent are those of the mappings. In the end everything goes, or comes
// back from a snapshot.

namespace {

using namespace efnet;
using namespace std::chrono_literals;
using fuzz::check;
using fuzz::Operations;
using Frame = std::vector<std::byte>;

const Ipv4Address pool_address(198, 51, 100, 1);
constexpr std::array protocols{IpProtocol::udp, IpProtocol::tcp, IpProtocol::icmp};

Nat44Options options(Operations& input) {
  Nat44Options result;
  result.seed = HashSeed::from(1);
  const std::uint8_t bits = input.byte();
  result.pool.ranges = {{Ipv4Range{pool_address, pool_address}, {1024, std::uint16_t((bits & 1) != 0 ? 1039 : 2047)}}};
  result.pool.block_size = (bits & 2) != 0 ? 64 : 0;
  result.pool.hold_down = (bits & 4) != 0 ? 0s : 120s;
  result.preserve_parity = (bits & 8) != 0;
  result.preserve_port = (bits & 16) != 0;
  result.filtering = NatFiltering{std::uint8_t((bits >> 5) % 3)};
  const std::uint8_t more = input.byte();
  result.sessions = (more & 1) != 0 ? 8 : 256;
  result.sessions_each = (more & 2) != 0 ? 4 : 0;
  result.mappings_each = (more & 4) != 0 ? 3 : 0;
  result.outside_mtu = (more & 8) != 0 ? 100 : 1500;
  result.inside_mtu = (more & 16) != 0 ? 68 : 1500;
  if ((more & 32) != 0)
    result.deterministic = {{*Ipv4Prefix::parse("10.0.0.0/31"), *Ipv4Range::parse("198.51.100.9"), {1024, 1043}}};
  if ((more & 64) != 0) result.bypass = {*Ipv4Prefix::parse("203.0.113.3")};
  if ((more & 128) != 0)
    result.forwards = {{IpProtocol::tcp, pool_address, 1030, Ipv4Address(10, 0, 0, 2), 80},
                       {IpProtocol::udp, Ipv4Address(198, 51, 100, 2), 53, Ipv4Address(10, 0, 0, 3), 53}};
  result.inside = {*Ipv4Prefix::parse("10.0.0.0/8")};
  result.inside_address = Ipv4Address(10, 0, 0, 254);
  result.outside_address = Ipv4Address(198, 51, 100, 254);
  result.errors_per_second = 1000;
  return result;
}

class World {
 public:
  explicit World(Operations& input) : input_(input), options_(options(input)), nat_(Nat44::create(options_).value()) {}

  void run() {
    while (input_.more()) step();
    check_sums();
    if (nat_->sessions().size() > 2) snapshot();
    nat_->flush(std::nullopt, now_);
    check(nat_->sessions().size() == 0);
    check(nat_->mappings().table().size() == options_.forwards.size());
  }

 private:
  void step() {
    const std::uint8_t what = input_.byte();
    const NatSide from = NatSide{std::uint8_t(what & 1)};
    switch (what >> 1 & 7) {
      case 0:
      case 1:
        return pass(from, {whole(from)});
      case 2: {  // a batch, some of it the same
        std::vector<Frame> frames;
        for (std::uint32_t i = 0; i <= input_.below(8); ++i) frames.push_back(whole(from));
        frames.push_back(frames.front());
        return pass(from, std::move(frames));
      }
      case 3:
        return pass(from, {fragment(from)});
      case 4:
        return pass(from, {error()});
      case 5:
        return pass(from, {changed((what & 16) != 0 ? error() : whole(from))});
      case 6: {
        Frame bytes(input_.below(90));
        for (std::byte& byte : bytes) byte = std::byte{input_.byte()};
        if (bytes.size() > 14 && (what & 16) != 0) store16(bytes.data() + 12, 0x0800);
        return pass(from, {std::move(bytes)});
      }
      default:
        now_ += std::chrono::milliseconds(std::uint32_t{input_.byte()} << input_.below(16));
        while (nat_->tick(now_, 16)) {}
        collect();
        check_pool();
    }
  }

  // Addresses and ports out of a few, so that packets meet.
  FlowKey4 flow(NatSide from) {
    const std::uint8_t a = input_.byte();
    const std::uint8_t b = input_.byte();
    const IpProtocol protocol = protocols[a % 3];
    const Ipv4Address host(10, 0, 0, std::uint8_t(a >> 2 & 3));
    const auto host_port = std::uint16_t((a & 16) != 0 ? 80 : 4000 + (a >> 5));
    Ipv4Address far(203, 0, 113, std::uint8_t(b & 3));
    std::uint16_t far_port = std::uint16_t(50 + (b >> 2 & 3));
    if ((b & 0x30) == 0x30) {  // one of ours: a hairpin, or a stranger's guess
      far = seen_.src.is_unspecified() ? pool_address : seen_.src;
      far_port = seen_.src_port;
    }
    FlowKey4 key{.src = host, .dst = far, .src_port = host_port, .dst_port = far_port, .protocol = protocol};
    if (from == NatSide::outside) {
      key.dst = seen_.src.is_unspecified() || (b & 64) != 0 ? pool_address : seen_.src;
      key.dst_port = (b & 128) != 0 ? std::uint16_t(1024 + (a >> 4)) : seen_.src_port;
      key.src = seen_.dst.is_unspecified() || (b & 32) != 0 ? far : seen_.dst;
      key.src_port = far_port;
    }
    return key;
  }

  Frame packet(const FlowKey4& key, std::size_t payload, std::uint8_t flags, Ipv4Header header) {
    std::array<std::byte, 20> transport{};
    std::size_t size = 0;
    if (key.protocol == IpProtocol::udp)
      size = UdpHeader{.src_port = key.src_port, .dst_port = key.dst_port, .payload_length = payload}.emit(transport);
    if (key.protocol == IpProtocol::tcp)
      size = TcpHeader{.src_port = key.src_port, .dst_port = key.dst_port, .flags = flags}.emit(transport);
    if (key.protocol == IpProtocol::icmp)
      size = IcmpHeader::echo((flags & 1) != 0 ? IcmpType::echo_reply : IcmpType::echo_request,
                              key.src == seen_.dst ? key.dst_port : key.src_port, 1)
                 .emit(transport);
    header.src = key.src;
    header.dst = key.dst;
    header.protocol = key.protocol;
    header.payload_length = size + payload;
    Frame frame(14 + header.size() + size + payload);
    EthernetHeader{.dst = MacAddress(2, 0, 0, 0, 0, 1), .src = MacAddress(2, 0, 0, 0, 0, 2)}.emit(frame);
    header.emit(std::span(frame).subspan(14));
    std::memcpy(frame.data() + 14 + header.size(), transport.data(), size);
    fill_frame(frame);
    return frame;
  }

  Frame whole(NatSide from) {
    static constexpr std::array<std::uint8_t, 8> flags{tcp_flag::syn, tcp_flag::syn | tcp_flag::ack,
                                                       tcp_flag::ack, tcp_flag::fin | tcp_flag::ack,
                                                       tcp_flag::rst, 0xFF,
                                                       tcp_flag::syn, 0};
    static const std::array<std::byte, 8> ip_options{std::byte{0x94}, std::byte{4}, std::byte{0}, std::byte{0},
                                                     std::byte{7},    std::byte{3}, std::byte{4}, std::byte{0}};
    const FlowKey4 key = flow(from);
    const std::uint8_t how = input_.byte();
    return packet(key, std::size_t{(how & 8) != 0 ? 300U : how >> 6U}, flags[how & 7],
                  {.ttl = std::uint8_t((how & 0x30) == 0x30 ? 1 : 64),
                   .dont_fragment = (how & 16) != 0,
                   .options = (how & 32) != 0 ? std::span(ip_options).first(input_.below(9)) : std::span<std::byte>()});
  }

  Frame fragment(NatSide from) {
    Frame frame = whole(from);
    const Ipv4View ip = *Ipv4View::parse(std::span<const std::byte>(frame).subspan(14));
    const std::size_t size = ip.payload().size();
    const std::size_t offset = std::min<std::size_t>(input_.below(4) * 8U, size / 8 * 8);
    const std::uint8_t how = input_.byte();
    const std::size_t length = std::min<std::size_t>((how & 64) != 0 ? size : (how & 15) * 8U, size - offset);
    Ipv4Header header{.src = ip.src(),
                      .dst = ip.dst(),
                      .protocol = ip.protocol(),
                      .payload_length = length,
                      .identification = std::uint16_t(how >> 4 & 3),
                      .more_fragments = (how & 128) == 0,
                      .fragment_offset = static_cast<std::uint16_t>((how & 192) == 192 ? 65'528 : offset)};
    Frame part(14 + header.size() + length);
    std::memcpy(part.data(), frame.data(), 14);
    header.emit(std::span(part).subspan(14));
    std::memcpy(part.data() + 14 + header.size(), ip.payload().data() + offset, length);
    return part;
  }

  // About the last packet that left, or came in, as it was then; its quotation cut, or a lie.
  Frame error() {
    const std::uint8_t how = input_.byte();
    const Frame& about = (how & 1) != 0 ? left_outside_ : left_inside_;
    Frame quoted = about.size() > 14 ? Frame(about.begin() + 14, about.end()) : Frame(28);
    quoted.resize(std::min<std::size_t>(quoted.size(), (how & 2) != 0 ? 28 : input_.byte()));
    if ((how & 4) != 0 && !quoted.empty()) {
      quoted[input_.byte() % quoted.size()] ^= std::byte{input_.byte()};
      if (auto ip = Ipv4Mut::parse_truncated(quoted); ip && (how & 8) != 0) {
        ip->set_checksum(0);
        ip->set_checksum(efio::checksum(ip->header()));
      }
    }
    static constexpr std::array types{IcmpType::destination_unreachable, IcmpType::time_exceeded,
                                      IcmpType::parameter_problem, IcmpType::redirect};
    const IcmpHeader icmp{.type = types[how >> 4 & 3], .code = std::uint8_t(how >> 6), .rest = 1200};
    const auto quoted_ip = Ipv4View::parse_truncated(quoted);
    const Ipv4Header header{.src = (how & 32) != 0 || !quoted_ip ? Ipv4Address(203, 0, 113, 77) : quoted_ip->dst(),
                            .dst = quoted_ip ? quoted_ip->src() : pool_address,
                            .protocol = IpProtocol::icmp,
                            .payload_length = IcmpHeader::size() + quoted.size()};
    Frame frame(14 + header.size() + IcmpHeader::size() + quoted.size());
    EthernetHeader{.dst = MacAddress(2, 0, 0, 0, 0, 1), .src = MacAddress(2, 0, 0, 0, 0, 2)}.emit(frame);
    header.emit(std::span(frame).subspan(14));
    icmp.emit(std::span(frame).subspan(34));
    std::copy(quoted.begin(), quoted.end(), frame.begin() + 42);
    fill_frame(frame);
    return frame;
  }

  Frame changed(Frame frame) {
    const std::uint8_t how = input_.byte();
    for (int i = 0; i < (how & 3); ++i) frame[input_.byte() % frame.size()] ^= std::byte{input_.byte()};
    if ((how & 4) != 0 && frame.size() > 34) {  // as if its sender had meant it
      if (auto ip = Ipv4Mut::parse(std::span(frame).subspan(14))) {
        ip->set_checksum(0);
        ip->set_checksum(efio::checksum(ip->header()));
      }
    }
    if ((how & 8) != 0) frame.resize(input_.byte() % (frame.size() + 1));
    return frame;
  }

  void pass(NatSide from, std::vector<Frame> frames) {
    const std::vector<Frame> before = frames;
    std::vector<std::span<std::byte>> spans;
    for (Frame& frame : frames) spans.emplace_back(frame);
    std::vector<NatVerdict> verdicts(frames.size());
    if (from == NatSide::inside)
      nat_->outward(spans, now_, verdicts);
    else
      nat_->inward(spans, now_, verdicts);
    seen_count_[static_cast<std::size_t>(from)] += frames.size();
    for (std::size_t i = 0; i < frames.size(); ++i) judge(from, before[i], frames[i], verdicts[i]);
    check_sums();
    collect();
    check_pool();
  }

  void judge(NatSide from, const Frame& before, const Frame& after, NatVerdict verdict) {
    if (verdict != NatVerdict::translated && verdict != NatVerdict::hairpinned) return;
    const Flow was = parsed(before);
    const Flow is = parsed(after);
    const auto old_ip = *Ipv4View::parse(std::span(before).subspan(was.network));
    const auto ip = *Ipv4View::parse(std::span(after).subspan(is.network));
    check(verify_header(ip));
    check(ip.ttl() + 1 == old_ip.ttl());
    check(ip.total_length() == old_ip.total_length());
    if (verify_frame(before) == ChecksumState::right) check(verify_frame(after) == ChecksumState::right);
    if (from == NatSide::inside && verdict == NatVerdict::translated) {
      check(!options_.inside[0].contains(ip.src()));
      left_outside_ = after;
      if (is.type == EtherType::ipv4 &&
          (parse_kind(after) == FlowClass::ports || parse_kind(after) == FlowClass::icmp_query)) {
        seen_ = is.key.key4();
        const FlowKey4 inside = was.key.key4();
        const auto there = nat_->mappings().find_inside(inside.protocol, inside.src, inside.src_port);
        const auto back = nat_->mappings().find_outside(inside.protocol, seen_.src, seen_.src_port);
        check(there && back && there->number == back->number);
        check(back->inside == inside.src && back->inside_port == inside.src_port);
        check(there->outside == seen_.src && there->outside_port == seen_.src_port);
      }
    } else {
      check(options_.inside[0].contains(ip.dst()));
      left_inside_ = after;
    }
  }
  static Flow parsed(const Frame& frame) {
    Flow flow;
    parse_flow(frame, flow);
    return flow;
  }
  static FlowClass parse_kind(const Frame& frame) {
    Flow flow;
    return parse_flow(frame, flow);
  }

  void collect() {
    for (const NatSide side : {NatSide::inside, NatSide::outside})
      nat_->collect(side, [&](std::span<const std::byte> frame) {
        const Flow flow = parse_flow(frame);
        const auto ip = Ipv4View::parse(frame.subspan(flow.network));
        check(ip && verify_header(*ip));
        check(ip->total_length() <= (side == NatSide::inside ? options_.inside_mtu : options_.outside_mtu) ||
              ip->protocol() == IpProtocol::icmp);
        return true;
      });
  }

  void check_sums() {
    const NatCounters counters = nat_->counters();
    std::uint64_t kept = 0;
    for (const NatSide side : {NatSide::inside, NatSide::outside}) {
      std::uint64_t sum = 0;
      for (const std::uint64_t n : counters.verdicts[static_cast<std::size_t>(side)]) sum += n;
      check(sum == seen_count_[static_cast<std::size_t>(side)]);
      kept += counters.of(side, NatVerdict::kept);
    }
    check(counters.fragments_released + counters.fragments_given_up <= kept);
    check(counters.sessions_made - counters.sessions_ended == nat_->sessions().size());
    check(counters.mappings_made - counters.mappings_ended == nat_->mappings().table().size());
  }
  void check_pool() {
    std::size_t lent = 0;
    for (const IpProtocol protocol : protocols) lent += nat_->pool().lent(protocol);
    const std::size_t of_no_pool = options_.forwards.empty() ? 0 : 1;
    check(lent + of_no_pool == nat_->mappings().table().size());
  }

  void snapshot() {
    Frame bytes;
    nat_->snapshot(now_, 1s,
                   [&](std::span<const std::byte> part) { bytes.insert(bytes.end(), part.begin(), part.end()); });
    auto other = Nat44::create(options_).value();
    const auto restored = other->restore(bytes, now_, 1s);
    check(restored.has_value());
    check(restored->restored + restored->expired + restored->refused == nat_->sessions().size());
    check(other->sessions().size() == restored->restored);
    check(restored->refused == 0);
    bytes[input_.rest().size() % bytes.size()] ^= std::byte{1};
    check(!other->restore(bytes, now_, 1s));
  }

  Operations& input_;
  Nat44Options options_;
  std::unique_ptr<Nat44> nat_;
  Time now_ = 1000s;
  FlowKey4 seen_;  // the last flow that left
  Frame left_outside_, left_inside_;
  std::array<std::uint64_t, 2> seen_count_{};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Operations input(data, size);
  World(input).run();
  return 0;
}
