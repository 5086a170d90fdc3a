#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "efio/port.h"
#include "efnet/plugins/load.h"
#include "efnet/plugins/pipeline.h"
#include "efnet/wire/flow.h"

// Any text as a plugin's name and arguments; any frames through a pipeline of the ready plugins, in and out, after
// which every frame is accounted for. Input: a byte that says which, then the text, or frames, each behind a byte with
// its length in units of two bytes.

namespace {

using namespace efnet;
using namespace std::chrono_literals;

void check(bool holds) {
  if (!holds) std::abort();
}

void by_text(std::string_view text) {
  const std::string_view name = text.substr(0, text.find(':'));
  if (name == "mirror" || name.find('/') != std::string_view::npos) return;  // would open ports and files
  for (const char* much : {"keys=", "sessions=", "pool="})                   // would take as much memory as they say
    if (text.find(much) != std::string_view::npos) return;
  if (const auto made = make_plugin(text)) {
    check(!(*made)->name().empty());
  } else {
    check(!made.error().message().empty());
  }
}

struct Ends {
  efio::Port near = *efio::Port::open("pipe:fuzz/a");
  efio::Port far = *efio::Port::open("pipe:fuzz/b");
};

void balanced(const GateStats& gate) { check(gate.seen == gate.passed + gate.taken + gate.total_dropped()); }

void frames(std::span<const std::uint8_t> input) {
  static Ends ends;
  Pipeline pipeline(&ends.near.tx());
  for (const char* text :
       {"vlan:7", "limit:1M?key=flow&keys=16", "arp:10.0.0.2/24?mac=02:00:00:00:00:02&gateway=10.0.0.1",
        "icmp_echo:10.0.0.2,2001:db8::2", "filter:not port 9?gate=out", "count"})
    check(pipeline.add(text).has_value());
  pipeline.tick(1s);
  for (std::chrono::nanoseconds now = 1s; !input.empty(); now += 300ms) {
    for (int i = 0; i < 64 && !input.empty(); ++i) {
      const std::size_t size = std::min<std::size_t>(input[0] * std::size_t{2}, input.size() - 1);
      check(ends.far.tx().send(std::as_bytes(input.subspan(1, size))));
      input = input.subspan(1 + size);
    }
    ends.far.tx().flush();
    auto batch = ends.near.rx().receive(PacketBatch::capacity);
    RxPackets packets(batch);
    pipeline.ingate(packets, now);
    // What passed goes back out to whom the arp plugin finds.
    for (const std::size_t i : packets)
      if (packets.bytes(i).size() >= 12) std::fill_n(packets.bytes(i).begin(), 12, std::byte{0});
    pipeline.outgate(packets, now);
    forward(packets, ends.near.tx());
    packets.drop_rest(efio::DropReason::not_forwarded);
    packets.finish();
    pipeline.tick(now + 150ms);
    ends.near.tx().flush();
    for (auto sent = ends.far.rx().receive(256); !sent.empty(); sent = ends.far.rx().receive(256)) {
      for (const efio::Slot& slot : sent) parse_flow(slot.bytes());
      sent.finish();
    }
  }
  for (const PluginStats& stats : pipeline.stats()) {
    balanced(stats.in);
    balanced(stats.out);
    check(stats.kept >= stats.released + stats.discarded);
  }
  const auto [rx, tx] = ends.near.stats();
  check(rx.received + rx.made == rx.delivered + rx.waiting + rx.total_dropped());
  check(tx.offered + tx.made == tx.sent + tx.pending + tx.total_dropped());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  if (data[0] % 2 == 0)
    by_text({reinterpret_cast<const char*>(data + 1), size - 1});
  else
    frames({data + 1, size - 1});
  return 0;
}
