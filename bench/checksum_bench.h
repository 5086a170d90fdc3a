#pragma once

#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "efnet/wire/checksum.h"

// What checksums, ours and DPDK's, are measured on.

namespace checksum_bench {

using namespace efnet;

// Where an IPv4 header lies behind 128 bytes of headroom and an Ethernet header.
constexpr std::size_t packet_offset = 128 + 14;

inline std::vector<std::byte> pool(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 + 7);
  return bytes;
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

}  // namespace checksum_bench
