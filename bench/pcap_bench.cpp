// Reading and writing capture files, beside the least that libpcap can do: pcap_loop with a callback that adds up, and
// pcap_dump of one frame over and over. 60-byte frames, files in /dev/shm (else TMPDIR), read from the page cache.
#include <benchmark/benchmark.h>
#include <pcap/pcap.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <string>

#include "efio/port.h"

namespace {

constexpr std::uint32_t frames = 2'000'000;
constexpr std::uint32_t frame_size = 60;
constexpr std::size_t batch_size = 64;

// A directory of its own, gone with the program.
struct Directory {
  Directory() {
    const std::filesystem::path base = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : std::filesystem::temp_directory_path();
    path = base / ("efio_pcap_bench." + std::to_string(::getpid()));
    std::filesystem::create_directory(path);
  }
  ~Directory() { std::filesystem::remove_all(path); }
  std::string file(const std::string& name) const { return path / name; }
  std::filesystem::path path;
};
const Directory& directory() {
  static const Directory made;
  return made;
}

constexpr std::array<std::byte, frame_size> frame = {};

bool write_ours(const std::string& path) {
  auto port = efio::Port::open("pcap:" + path, {.direction = efio::Direction::tx});
  if (!port) return false;
  for (std::uint32_t sent = 0; sent < frames;) {
    auto batch = port->tx().claim(std::min<std::size_t>(batch_size, frames - sent));
    for (auto& slot : batch) std::memcpy(slot.buffer + slot.offset, frame.data(), frame_size), slot.length = frame_size;
    sent += static_cast<std::uint32_t>(batch.commit());
    port->tx().flush();
  }
  return port->close().has_value();
}

bool write_bare(const std::string& path) {
  pcap_t* handle = pcap_open_dead_with_tstamp_precision(DLT_EN10MB, 65535, PCAP_TSTAMP_PRECISION_NANO);
  pcap_dumper_t* dumper = pcap_dump_open(handle, path.c_str());
  if (dumper == nullptr) return false;
  pcap_pkthdr header{.ts = {1, 0}, .caplen = frame_size, .len = frame_size};
  for (std::uint32_t i = 0; i < frames; ++i)
    pcap_dump(reinterpret_cast<u_char*>(dumper), &header, reinterpret_cast<const u_char*>(frame.data()));
  pcap_dump_close(dumper);
  pcap_close(handle);
  return true;
}

std::uint32_t read_ours(const std::string& path) {
  auto port = efio::Port::open("pcap:" + path, {.direction = efio::Direction::rx});
  if (!port) return 0;
  std::uint32_t seen = 0;
  std::uint64_t bytes = 0;
  for (auto batch = port->rx().receive(batch_size); !batch.empty(); batch = port->rx().receive(batch_size)) {
    for (const auto& slot : batch) bytes += slot.length;
    seen += static_cast<std::uint32_t>(batch.finish());
  }
  benchmark::DoNotOptimize(bytes);
  return seen;
}

std::uint32_t read_bare(const std::string& path) {
  struct Sum {
    std::uint32_t seen = 0;
    std::uint64_t bytes = 0;
  } sum;
  std::array<char, PCAP_ERRBUF_SIZE> error{};
  pcap_t* handle = pcap_open_offline_with_tstamp_precision(path.c_str(), PCAP_TSTAMP_PRECISION_NANO, error.data());
  if (handle == nullptr) return 0;
  const auto add = [](u_char* user, const pcap_pkthdr* header, const u_char*) {
    auto& to = *reinterpret_cast<Sum*>(user);
    ++to.seen;
    to.bytes += header->caplen;
  };
  pcap_loop(handle, -1, add, reinterpret_cast<u_char*>(&sum));
  pcap_close(handle);
  benchmark::DoNotOptimize(sum.bytes);
  return sum.seen;
}

void set_rate(benchmark::State& state) {
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * frames);
}

void writing(benchmark::State& state, bool (*write)(const std::string&), const std::string& name) {
  for (auto _ : state)
    if (!write(directory().file(name))) return state.SkipWithError("cannot write");
  set_rate(state);
}

void reading(benchmark::State& state, std::uint32_t (*read)(const std::string&), const std::string& name) {
  if (!write_ours(directory().file(name))) return state.SkipWithError("cannot write");
  for (auto _ : state)
    if (read(directory().file(name)) != frames) return state.SkipWithError("frames are missing");
  set_rate(state);
}

BENCHMARK_CAPTURE(reading, pcap_loop, read_bare, "r.pcap")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(reading, pcap, read_ours, "r.pcap")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(reading, pcap_loop_of_pcapng, read_bare, "r.pcapng")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(reading, pcapng, read_ours, "r.pcapng")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(writing, pcap_dump, write_bare, "w.pcap")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(writing, pcap, write_ours, "w.pcap")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(writing, pcapng, write_ours, "w.pcapng")->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
