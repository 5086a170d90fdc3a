// The interface beside a port: its wire, its host stack, its link as netlink would tell it.
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "efio/clock.h"
#include "efio/fail.h"
#include "tests/netmap/simulated_netmap_kernel.h"

namespace efio::test {

using namespace netmap;

bool SimulatedNetmap::deliver(const std::string& nic, std::span<const std::byte> frame, std::size_t ring) {
  const Lock lock(mutex_);
  auto& d = device(nic);
  if (!d.up()) return false;
  const bool ours = frame.size() >= 6 && (std::to_integer<int>(frame[0]) % 2 == 1 ||
                                          std::ranges::equal(frame.first(6), std::as_bytes(std::span(d.mac))));
  if (!ours && d.promiscuous == 0) return true;  // not even counted
  ++d.counts.received, d.counts.received_bytes += frame.size();
  const auto port = adapters_[nic].lock();
  Kring* const kring = port ? port->rx[ring % port->rx_rings].get() : nullptr;
  if (kring == nullptr || !kring->on()) {
    d.host_in.emplace_back(frame.begin(), frame.end());
    return true;
  }
  // Beyond that, and what a buffer does not hold where the driver is the ordinary one, is lost without a trace.
  if (kring->queue.size() <= kring->slots && (!d.options.emulated || frame.size() <= port->region->buffer_size))
    kring->queue.emplace_back(frame.begin(), frame.end());
  notify(*kring);
  return true;
}

std::optional<SimulatedNetmap::Bytes> SimulatedNetmap::take(const std::string& nic, std::chrono::milliseconds patience) {
  Lock lock(mutex_);
  auto& d = device(nic);
  if (!d.sent.wait_for(lock, patience, [&] { return !d.wire_out.empty(); })) return std::nullopt;
  auto frame = std::move(d.wire_out.front());
  d.wire_out.pop_front();
  return frame;
}

void SimulatedNetmap::host_send(const std::string& nic, std::span<const std::byte> frame) {
  const Lock lock(mutex_);
  auto& d = device(nic);
  if (!d.admin || d.gone) return;
  const auto port = adapters_[nic].lock();
  if (!port || !port->tx[0]->on()) {
    d.wire_out.emplace_back(frame.begin(), frame.end());  // nothing is diverted
    d.sent.notify_all();
    return;
  }
  if (d.offloads_off == 0) return;  // its checksum is still to be filled in: dropped
  Kring& kring = *port->rx[port->rx_rings];
  if (kring.queue.size() + kring.distance(kring.hwcur, kring.hwtail) + 1 < kring.slots)
    kring.queue.emplace_back(frame.begin(), frame.end());
  notify(kring);
}

std::optional<SimulatedNetmap::Bytes> SimulatedNetmap::host_take(const std::string& nic) {
  const Lock lock(mutex_);
  auto& d = device(nic);
  if (d.host_in.empty()) return std::nullopt;
  auto frame = std::move(d.host_in.front());
  d.host_in.pop_front();
  return frame;
}

SimulatedNetmap::NicCounts SimulatedNetmap::counts(const std::string& nic) {
  const Lock lock(mutex_);
  return device(nic).counts;
}

bool SimulatedNetmap::promiscuous(const std::string& nic) {
  const Lock lock(mutex_);
  return device(nic).promiscuous > 0;
}

bool SimulatedNetmap::offloads_off(const std::string& nic) {
  const Lock lock(mutex_);
  return device(nic).offloads_off > 0;
}

namespace {

class SimulatedNic final : public Nic {
 public:
  SimulatedNic(std::recursive_mutex& mutex, std::shared_ptr<SimulatedNetmap::Device> device)
      : mutex_(mutex), device_(std::move(device)) {
    about_ = {device_->options.mtu, device_->mac, 0, true, !device_->pair.empty()};
  }
  ~SimulatedNic() override {
    const std::scoped_lock lock(mutex_);
    device_->promiscuous -= promiscuous_;
    device_->offloads_off -= offloads_off_;
  }

  const About& about() const noexcept override { return about_; }
  Result<void> set_up(bool promiscuous, bool offloads_off, const std::string&) override {
    const std::scoped_lock lock(mutex_);
    promiscuous_ = promiscuous ? 1 : 0, offloads_off_ = offloads_off ? 1 : 0;
    device_->promiscuous += promiscuous_;
    device_->offloads_off += offloads_off_;
    return {};
  }
  Result<void> wait_ready(const LinkWait& wait, const std::string& attempted) override {
    const auto until = Clock::monotonic() + static_cast<std::uint64_t>(wait.up.count());
    auto steady_since = Clock::monotonic();
    for (;;) {
      if (gone()) return fail(Error::Kind::device, attempted, "{} was deleted meanwhile", device_->name);
      const auto now = Clock::monotonic();
      if (!up()) steady_since = now;
      if (up() && now - steady_since >= static_cast<std::uint64_t>(wait.settle.count())) return {};
      if (now >= until) return fail(Error::Kind::device, attempted, "{} stayed down", device_->name).hint("up= waits longer");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  void check() noexcept override {}
  bool up() const noexcept override { return device_->up(); }
  bool gone() const noexcept override { return device_->gone; }
  std::uint64_t downs() const noexcept override { return device_->downs; }
  Error gone_error(const std::string& label) const override {
    return fail(Error::Kind::device, "use " + label, "the interface {} was deleted", device_->name)
        .hint("open it again when it is back")
        .error();
  }
  std::uint64_t received() noexcept override {
    const std::scoped_lock lock(mutex_);
    return device_->options.counts ? device_->counts.received : 0;
  }

 private:
  std::recursive_mutex& mutex_;
  std::shared_ptr<SimulatedNetmap::Device> device_;
  About about_;
  int promiscuous_ = 0, offloads_off_ = 0;
};

}  // namespace

Result<std::unique_ptr<Nic>> SimulatedNetmap::nic(const std::string& name, const std::string& attempted) {
  const Lock lock(mutex_);
  if (!has_interface(name)) return fail(Error::Kind::device, attempted, "there is no interface {}", name).hint("add_nic() makes one");
  return std::make_unique<SimulatedNic>(mutex_, devices_.at(name));
}

}  // namespace efio::test
