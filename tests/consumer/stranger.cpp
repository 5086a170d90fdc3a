// A stranger's plugin: passes frames of an even length, and answers each odd one with a frame of its own.
#include <efnet/plugins/plugin.h>

#include <cstring>

namespace {

class Stranger final : public efnet::Plugin {
 public:
  explicit Stranger(unsigned answer) : answer_(answer) {}
  std::string_view name() const noexcept override { return "stranger"; }

  void ingate(efnet::PacketBatch& packets, efnet::Gate& gate) noexcept override {
    for (const std::size_t i : packets) {
      if (packets.length(i) % 2 == 0) continue;
      if (const auto bytes = gate.make(answer_); !bytes.empty()) std::memset(bytes.data(), 7, bytes.size());
      packets.drop(i, efio::DropReason::filtered);
    }
  }

 private:
  unsigned answer_;
};

efio::Result<std::unique_ptr<efnet::Plugin>> create(std::string_view arguments) {
  return std::make_unique<Stranger>(arguments == "long" ? 1000 : 60);
}

}  // namespace

EFNET_PLUGIN("answers odd frames", create);
