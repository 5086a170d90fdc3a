#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <vector>

#include "bench/checksum_bench.h"
#include "efnet/wire/checksum.h"
#include "efnet/wire/flow.h"
#include "efnet/wire/rewrite.h"

// Checksums beside the naive loop and DPDK's, RFC 1624 increments, NAT rewrites beside what DPDK's calls make of one,
// and frames to flow keys. Buffers lie at odd places of a
// packet pool's frame, and stay in the first-level cache.

namespace {

using namespace efnet;
using namespace checksum_bench;

std::uint16_t naive(std::span<const std::byte> bytes) {
  std::uint32_t sum = 0;
  std::size_t i = 0;
  for (; i + 1 < bytes.size(); i += 2) sum += load16(bytes.data() + i);
  if (i < bytes.size()) sum += std::uint32_t{load8(bytes.data() + i)} << 8;
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

void checksum(benchmark::State& state) {
  sizes(state, [](auto bytes) { return efio::checksum(bytes); });
}
void checksum_naive(benchmark::State& state) {
  sizes(state, [](auto bytes) { return naive(bytes); });
}
void kernel(benchmark::State& state, decltype(efio::ChecksumKernel::partial) partial) {
  sizes(state, [partial](auto bytes) { return efio::checksum_finish(partial(bytes.data(), bytes.size())); });
}
BENCHMARK(checksum)->Arg(20)->Arg(40)->Arg(64)->Arg(128)->Arg(576)->Arg(1500)->Arg(9000);
BENCHMARK(checksum_naive)->Arg(20)->Arg(40)->Arg(64)->Arg(1500);

// A size that the compiler knows: an IPv4 header without options.
void checksum_of_20_constant(benchmark::State& state) {
  const auto bytes = pool(16384);
  std::size_t frame = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(efio::checksum(std::span(bytes).subspan(packet_offset + frame).first<20>()));
    frame = (frame + 2048) % 8192;
  }
}
BENCHMARK(checksum_of_20_constant);

// Each update waits for the one before.
void update16_dependent(benchmark::State& state) {
  std::uint16_t checksum = 0xDD2F;
  std::uint16_t field = 0x5555;
  for (auto _ : state) {
    const auto next = static_cast<std::uint16_t>(field + 1);
    checksum = update16(checksum, field, next);
    field = next;
    benchmark::DoNotOptimize(checksum);
  }
}
BENCHMARK(update16_dependent);

void update32_dependent(benchmark::State& state) {
  std::uint16_t checksum = 0xDD2F;
  std::uint32_t field = 0x0A000001;
  for (auto _ : state) {
    const std::uint32_t next = field + 1;
    checksum = update32(checksum, field, next);
    field = next;
    benchmark::DoNotOptimize(checksum);
  }
}
BENCHMARK(update32_dependent);

void to_flow(benchmark::State& state, std::size_t tags, bool ipv6, IpProtocol protocol) {
  const Frames frames(tags, ipv6, protocol);
  std::array<Flow, Frames::count> flows;
  per_packet(state, [&] {
    parse_flows(frames.views(), flows);
    benchmark::DoNotOptimize(flows.data());
    benchmark::ClobberMemory();
  });
}
BENCHMARK_CAPTURE(to_flow, ipv4_udp, 0, false, IpProtocol::udp);
BENCHMARK_CAPTURE(to_flow, ipv4_udp_vlan, 1, false, IpProtocol::udp);
BENCHMARK_CAPTURE(to_flow, ipv4_udp_qinq, 2, false, IpProtocol::udp);
BENCHMARK_CAPTURE(to_flow, ipv4_tcp, 0, false, IpProtocol::tcp);
BENCHMARK_CAPTURE(to_flow, ipv6_udp_vlan, 1, true, IpProtocol::udp);

void verify(benchmark::State& state, bool ipv6, IpProtocol protocol) {
  const Frames frames(0, ipv6, protocol);
  per_packet(state, [&] {
    std::size_t right = 0;
    for (const auto frame : frames.views()) right += verify_frame(frame) == ChecksumState::right;
    benchmark::DoNotOptimize(right);
    if (right != Frames::count) state.SkipWithError("a checksum is wrong");
  });
}
BENCHMARK_CAPTURE(verify, ipv4_udp, false, IpProtocol::udp);
BENCHMARK_CAPTURE(verify, ipv6_udp, true, IpProtocol::udp);

void fill(benchmark::State& state, bool ipv6, IpProtocol protocol) {
  const Frames frames(0, ipv6, protocol);
  per_packet(state, [&] {
    for (const auto frame : frames.frames()) fill_frame(frame);
    benchmark::ClobberMemory();
  });
}
BENCHMARK_CAPTURE(fill, ipv4_udp, false, IpProtocol::udp);
BENCHMARK_CAPTURE(fill, ipv6_tcp, true, IpProtocol::tcp);

// The whole of a NAT: both addresses and ports of each packet to others, all its checksums mended. From the frame, then
// from an IP view as who has parsed the frame holds one.
void rewrite_frames(benchmark::State& state, std::size_t tags, bool ipv6, IpProtocol protocol) {
  const Frames frames(tags, ipv6, protocol);
  const std::uint8_t version = ipv6 ? 6 : 4;
  const FlowKey there[2] = {
      {Ipv6Address::mapped({198, 51, 100, 1}), Ipv6Address::mapped({203, 0, 113, 1}), 40000, 443, protocol, version},
      {Ipv6Address::mapped({10, 0, 0, 1}), Ipv6Address::mapped({10, 0, 1, 1}), 1024, 80, protocol, version}};
  unsigned round = 0;
  per_packet(state, [&] {
    const FlowKey& to = there[++round % 2];
    if (ipv6)
      for (const auto frame : frames.frames()) rewrite(frame, to);
    else
      for (const FlowKey4 to4 = to.key4(); const auto frame : frames.frames()) rewrite(frame, to4);
    benchmark::ClobberMemory();
  });
  for (const auto frame : frames.frames())
    if (verify_frame(frame) != ChecksumState::right) state.SkipWithError("a checksum is wrong");
}
BENCHMARK_CAPTURE(rewrite_frames, ipv4_udp, 0, false, IpProtocol::udp);
BENCHMARK_CAPTURE(rewrite_frames, ipv4_tcp, 0, false, IpProtocol::tcp);
BENCHMARK_CAPTURE(rewrite_frames, ipv4_tcp_vlan, 1, false, IpProtocol::tcp);
BENCHMARK_CAPTURE(rewrite_frames, ipv6_udp, 0, true, IpProtocol::udp);
BENCHMARK_CAPTURE(rewrite_frames, ipv6_tcp_vlan, 1, true, IpProtocol::tcp);

void rewrite_packets(benchmark::State& state, IpProtocol protocol) {
  const Frames frames(0, false, protocol);
  std::vector<Ipv4Mut> packets;
  for (const auto frame : frames.frames()) packets.push_back(*Ipv4Mut::parse(frame.subspan(14)));
  const FlowKey4 there[2] = {{{198, 51, 100, 1}, {203, 0, 113, 1}, 40000, 443},
                             {{10, 0, 0, 1}, {10, 0, 1, 1}, 1024, 80}};
  unsigned round = 0;
  per_packet(state, [&] {
    for (const FlowKey4& to = there[++round % 2]; const Ipv4Mut packet : packets) rewrite(packet, to);
    benchmark::ClobberMemory();
  });
}
BENCHMARK_CAPTURE(rewrite_packets, ipv4_udp, IpProtocol::udp);
BENCHMARK_CAPTURE(rewrite_packets, ipv4_tcp, IpProtocol::tcp);

// Many quote 28 bytes of what they are about.
void rewrite_errors(benchmark::State& state) {
  std::vector<std::byte> bytes(56);
  Ipv4Header{.src = {192, 0, 2, 1}, .dst = {10, 0, 0, 1}, .protocol = IpProtocol::icmp, .payload_length = 36}.emit(
      bytes);
  IcmpHeader{.type = IcmpType::time_exceeded}.emit(std::span(bytes).subspan(20));
  Ipv4Header{.src = {10, 0, 0, 1}, .dst = {10, 0, 1, 1}, .payload_length = 8}.emit(std::span(bytes).subspan(28));
  UdpHeader{.src_port = 1024, .dst_port = 80}.emit(std::span(bytes).subspan(48));
  const auto packet = *Ipv4Mut::parse(bytes);
  fill_transport(packet);
  const FlowKey4 there[2] = {{{10, 0, 1, 1}, {198, 51, 100, 1}, 80, 40000}, {{10, 0, 1, 1}, {10, 0, 0, 1}, 80, 1024}};
  unsigned round = 0;
  for (auto _ : state) {
    rewrite(packet, there[++round % 2]);
    benchmark::ClobberMemory();
  }
  if (verify_transport(packet) != ChecksumState::right) state.SkipWithError("a checksum is wrong");
}
BENCHMARK(rewrite_errors);

}  // namespace

int main(int argc, char** argv) {
  for (const auto& found : efio::checksum_kernels())
    benchmark::RegisterBenchmark((std::string("kernel/") + found.name).c_str(), kernel, found.partial)
        ->Arg(128)
        ->Arg(1500)
        ->Arg(9000);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
