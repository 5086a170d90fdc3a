// pipe: the port under test is end a, the counterpart is end b, opened for all its queues. sim: the same, with nothing
// impaired: what it promises then is what the port inside does.
#include <gtest/gtest.h>

#include <thread>

#include "efio/clock.h"
#include "tests/contract/rigs.h"

namespace efio::test {

namespace {

class PipeRig final : public Rig {
 public:
  explicit PipeRig(std::string wrapper) : wrapper_(std::move(wrapper)) {}

  Result<Port> open(std::string_view options, const PortOptions& how) override {
    auto port = Port::open(wrapper_ + "pipe:" + name_ + "/a" + (options.empty() ? "" : "?") + std::string(options), how);
    if (port && !far_) far_ = *Port::open("pipe:" + name_ + "/b");
    return port;
  }

  bool put_in(std::span<const std::byte> frame, std::size_t queue) override {
    const auto until = Clock::monotonic() + 5'000'000'000;
    while (!far_->tx(queue).send(frame)) {
      if (Clock::monotonic() > until) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    return far_->tx(queue).flush() == 1;
  }

  std::optional<Bytes> take_out(milliseconds patience) override {
    const auto until = Clock::monotonic() + static_cast<std::uint64_t>(patience.count()) * 1'000'000;
    do {
      for (std::size_t q = 0; q < far_->rx_queues(); ++q) {
        auto batch = far_->rx(q).receive(1);
        if (batch.empty()) continue;
        const auto bytes = batch[0].bytes();
        Bytes frame(bytes.begin(), bytes.end());
        batch.finish();
        return frame;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    } while (Clock::monotonic() < until);
    return std::nullopt;
  }

  void rest() override { far_.reset(); }

  std::optional<DeviceCounts> counts() override {
    const auto [rx, tx] = far_->stats();
    return DeviceCounts{tx.sent, tx.bytes, rx.delivered, rx.bytes};
  }

 private:
  const std::string wrapper_;
  const std::string name_ = unique_name("contract");
  std::optional<Port> far_;
};

}  // namespace

std::unique_ptr<Rig> make_pipe_rig() { return std::make_unique<PipeRig>(""); }
std::unique_ptr<Rig> make_sim_rig() { return std::make_unique<PipeRig>("sim:seed=7@"); }

}  // namespace efio::test
