#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <vector>

#include "efnet/wire/checksum.h"
#include "efnet/wire/flow.h"

// Checksums beside the naive loop, RFC 1624 increments, and frames to flow keys. Buffers lie at odd places of a
// packet pool's frame, and stay in the first-level cache.

namespace {

using namespace efnet;

// Where an IPv4 header lies behind 128 bytes of headroom and an Ethernet header.
constexpr std::size_t packet_offset = 128 + 14;

std::vector<std::byte> pool(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 + 7);
  return bytes;
}

std::uint16_t naive(std::span<const std::byte> bytes) {
  std::uint32_t sum = 0;
  std::size_t i = 0;
  for (; i + 1 < bytes.size(); i += 2) sum += load16(bytes.data() + i);
  if (i < bytes.size()) sum += std::uint32_t{load8(bytes.data() + i)} << 8;
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

template <class Sum>
void sizes(benchmark::State& state, Sum sum) {
  const auto bytes = pool(16384);
  auto size = static_cast<std::size_t>(state.range(0));
  benchmark::DoNotOptimize(size);
  std::size_t frame = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(sum(std::span(bytes).subspan(packet_offset + frame, size)));
    frame = (frame + 2048) % 8192;
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
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

// 32 frames of one kind. They lie 2,048 + 192 bytes apart: at 2,048, sixteen of them would meet in each set of a 48 KiB
// first-level cache of twelve ways, and the second level would be measured.
class Frames {
 public:
  static constexpr std::size_t count = 32;
  static constexpr std::size_t stride = 2048 + 192;

  Frames(std::size_t tags, bool ipv6, IpProtocol protocol) : bytes_(pool(count * stride)) {
    const std::vector<VlanTag> stack(tags, VlanTag::make(100));
    const std::size_t transport = protocol == IpProtocol::tcp ? 20 : 8;
    for (std::size_t i = 0; i < count; ++i) {
      const auto frame = std::span(bytes_).subspan(i * stride + 128);
      auto left = frame;
      const auto emit = [&](const auto& header) { left = left.subspan(header.emit(left)); };
      emit(EthernetHeader{.type = ipv6 ? EtherType::ipv6 : EtherType::ipv4, .tags = stack});
      const std::size_t payload = 18;
      const auto number = static_cast<std::uint8_t>(i);
      if (ipv6) {
        emit(Ipv6Header{
            .src = Ipv6Address::from_numbers(1, i), .next_header = protocol, .payload_length = transport + payload});
      } else {
        emit(Ipv4Header{.src = {10, 0, 0, number},
                        .dst = {10, 0, 1, 1},
                        .protocol = protocol,
                        .payload_length = transport + payload});
      }
      if (protocol == IpProtocol::tcp) emit(TcpHeader{.src_port = 1024, .dst_port = 80});
      if (protocol == IpProtocol::udp) emit(UdpHeader{.src_port = 1024, .dst_port = 80, .payload_length = payload});
      frames_[i] = frame.first(static_cast<std::size_t>(left.data() - frame.data()) + payload);
      fill_frame(frames_[i]);
      views_[i] = frames_[i];
    }
  }

  std::span<const std::span<std::byte>, count> frames() const { return frames_; }
  std::span<const std::span<const std::byte>, count> views() const { return views_; }

 private:
  std::vector<std::byte> bytes_;
  std::array<std::span<std::byte>, count> frames_;
  std::array<std::span<const std::byte>, count> views_;
};

// All in ns a packet.
template <class Job>
void per_packet(benchmark::State& state, Job job) {
  for (auto _ : state) job();
  state.counters["packet"] = benchmark::Counter(static_cast<double>(state.iterations()) * Frames::count,
                                                benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

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
