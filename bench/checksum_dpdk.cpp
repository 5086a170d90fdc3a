// DPDK's checksums as it builds them (-O3, for this machine), and what a NAT makes of them.
#include <rte_config.h>
#include <rte_ip.h>

#include "bench/checksum_bench.h"
#include "efnet/wire/flow.h"

namespace {

using namespace efnet;
using namespace checksum_bench;

void rte_checksum(benchmark::State& state) {
  sizes(state, [](auto bytes) { return static_cast<std::uint16_t>(~rte_raw_cksum(bytes.data(), bytes.size())); });
}
BENCHMARK(rte_checksum)->Arg(20)->Arg(40)->Arg(64)->Arg(1500)->Arg(9000);

// DPDK has no increments: a NAT on it without hardware sums header and transport again.
void rte_rewrite(benchmark::State& state, IpProtocol protocol, std::size_t checksum_at) {
  const Frames frames(0, false, protocol);
  const FlowKey4 there[2] = {{{198, 51, 100, 1}, {203, 0, 113, 1}, 40000, 443},
                             {{10, 0, 0, 1}, {10, 0, 1, 1}, 1024, 80}};
  unsigned round = 0;
  per_packet(state, [&] {
    const FlowKey4& to = there[++round % 2];
    for (const auto frame : frames.frames()) {
      std::byte* ip = frame.data() + 14;
      const auto header = reinterpret_cast<rte_ipv4_hdr*>(ip);
      const std::size_t length = rte_ipv4_hdr_len(header);
      to.src.store(ip + 12);
      to.dst.store(ip + 16);
      store16(ip + length, to.src_port);
      store16(ip + length + 2, to.dst_port);
      header->hdr_checksum = 0;
      header->hdr_checksum = rte_ipv4_cksum(header);
      store16(ip + length + checksum_at, 0);
      const std::uint16_t sum = rte_ipv4_udptcp_cksum(header, ip + length);
      __builtin_memcpy(ip + length + checksum_at, &sum, sizeof sum);
    }
    benchmark::ClobberMemory();
  });
  for (const auto frame : frames.frames())
    if (verify_frame(frame) != ChecksumState::right) state.SkipWithError("a checksum is wrong");
}
BENCHMARK_CAPTURE(rte_rewrite, ipv4_udp, IpProtocol::udp, 6);
BENCHMARK_CAPTURE(rte_rewrite, ipv4_tcp, IpProtocol::tcp, 16);

}  // namespace
