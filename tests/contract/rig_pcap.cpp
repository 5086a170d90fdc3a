// pcap: one file is read, another written; the counterpart is libpcap.
#include <gtest/gtest.h>
#include <pcap/pcap.h>

#include <array>
#include <cstdio>
#include <filesystem>

#include "efio/clock.h"
#include "tests/contract/rigs.h"
#include "tests/support/directory.h"

namespace efio::test {

namespace {

class PcapRig final : public Rig {
 public:
  ~PcapRig() override {
    if (dumper_ != nullptr) pcap_dump_close(dumper_);
    if (reader_ != nullptr) pcap_close(reader_);
    pcap_close(format_);
  }

  bool stored() const override { return true; }

  Result<Port> open(std::string_view options, const PortOptions& how) override {
    const auto& file = how.direction == Direction::rx ? in_ : out_;
    if (how.direction == Direction::rx) file_to_read();
    else if (reader_ != nullptr) pcap_close(reader_), reader_ = nullptr;
    return Port::open("pcap:" + file + (options.empty() ? "" : "?") + std::string(options), how);
  }

  bool put_in(std::span<const std::byte> frame, std::size_t) override {
    const auto now = Clock::now();
    pcap_pkthdr header{.ts = {static_cast<time_t>(now / 1'000'000'000), static_cast<suseconds_t>(now % 1'000'000'000)},
                       .caplen = static_cast<bpf_u_int32>(frame.size()),
                       .len = static_cast<bpf_u_int32>(frame.size())};
    pcap_dump(reinterpret_cast<u_char*>(file_to_read()), &header, reinterpret_cast<const u_char*>(frame.data()));
    return pcap_dump_flush(file_to_read()) == 0;
  }

  // What is not in the file now will not come by itself: no patience is needed.
  std::optional<Bytes> take_out(milliseconds) override {
    std::array<char, PCAP_ERRBUF_SIZE> error{};
    if (reader_ == nullptr) reader_ = pcap_open_offline(out_.c_str(), error.data());
    if (reader_ == nullptr) return std::nullopt;
    std::clearerr(pcap_file(reader_));  // the file may have grown since its end was seen
    pcap_pkthdr* header = nullptr;
    const u_char* data = nullptr;
    if (pcap_next_ex(reader_, &header, &data) != 1) return std::nullopt;
    const auto* bytes = reinterpret_cast<const std::byte*>(data);
    return Bytes(bytes, bytes + header->caplen);
  }

 private:
  pcap_dumper_t* file_to_read() {
    if (dumper_ == nullptr) dumper_ = pcap_dump_open(format_, in_.c_str()), pcap_dump_flush(dumper_);
    return dumper_;
  }

  const Directory directory_{"efio_contract"};
  const std::string in_ = directory_.file("in.pcap"), out_ = directory_.file("out.pcap");
  pcap_t* format_ = pcap_open_dead_with_tstamp_precision(DLT_EN10MB, 262144, PCAP_TSTAMP_PRECISION_NANO);
  pcap_dumper_t* dumper_ = nullptr;
  pcap_t* reader_ = nullptr;
};

}  // namespace

std::unique_ptr<Rig> make_pcap_rig() { return std::make_unique<PcapRig>(); }

}  // namespace efio::test
