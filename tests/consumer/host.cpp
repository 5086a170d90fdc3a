// A stranger's program that runs a plugin by name:   host PLUGIN
#include <efio/port.h>
#include <efnet/plugins/pipeline.h>

#include <cstdio>
#include <vector>

int main(int argc, char** argv) {
  auto near = efio::Port::open("pipe:host/a");
  auto far = efio::Port::open("pipe:host/b");
  if (argc != 2 || !near || !far) return 2;
  efnet::Pipeline pipeline(&near->tx());
  if (const auto added = pipeline.add(argv[1]); !added) return std::puts(added.error().message().c_str()), 1;
  for (const std::size_t length : {60u, 61u, 62u}) far->tx().send(std::vector<std::byte>(length));
  far->tx().flush();

  auto batch = near->rx().receive(efnet::PacketBatch::capacity);
  efnet::RxPackets packets(batch);
  pipeline.ingate(packets, std::chrono::seconds(1));
  const auto passed = packets.count();
  packets.finish();
  near->tx().flush();
  const auto answers = far->rx().receive(64);
  const auto stats = pipeline.stats();
  std::printf("%s: %zu passed, %zu dropped, %zu answered with %zu bytes\n", stats[0].name.c_str(), passed,
              static_cast<std::size_t>(stats[0].in.total_dropped()), answers.size(),
              answers.empty() ? 0 : answers[0].bytes().size());
  return 0;
}
