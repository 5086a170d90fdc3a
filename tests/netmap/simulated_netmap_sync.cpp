// Syncs: what TXSYNC, RXSYNC and poll do with the rings of a descriptor.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "tests/netmap/simulated_netmap_kernel.h"

namespace efio::test {

using namespace netmap;

namespace {
// The genuine kernel would wait for ever; a test shall end.
constexpr auto longest_hang = std::chrono::seconds(3);

void set_event(const Fd& event) {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(event.get(), &one, sizeof one);
}
void clear_event(const Fd& event) {
  std::uint64_t value = 0;
  [[maybe_unused]] const auto got = ::read(event.get(), &value, sizeof value);
}
}  // namespace

// 0: the ring is ours; -1: it is in use, and skipped; otherwise an error.
int SimulatedNetmap::enter(Kring& kring) {
  auto& port = *kring.port;
  if (port.locked) {
    ++offences_.entered_while_down;
    mutex_.unlock();
    const auto until = std::chrono::steady_clock::now() + longest_hang;
    while (port.locked && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    mutex_.lock();
  }
  if (port.zombie) return EIO;
  if (busy_syncs_ > 0) {
    --busy_syncs_;
    return -1;
  }
  return kring.busy.exchange(true) ? -1 : 0;
}

void SimulatedNetmap::leave(Kring& kring) { kring.busy = false; }

int SimulatedNetmap::sync(int fd, unsigned long request) noexcept {
  const Lock lock(mutex_);
  const auto found = opened_.find(fd);
  if (found == opened_.end() || !found->second->port) return errno = ENXIO, -1;
  const auto opened = found->second;
  const auto port = opened->port;
  ++syncs_[request];
  const std::size_t tx = request == txsync_request ? 1 : 0;
  int error = 0;
  for (auto i = opened->first[tx]; i < opened->last[tx]; ++i) {
    Kring& kring = *(tx != 0 ? port->tx : port->rx)[i];
    if (const int got = enter(kring); got != 0) {
      error = got > 0 ? EIO : 0;
      continue;
    }
    if (tx != 0) sync_tx(*opened, kring);
    else sync_rx(*opened, kring);
    leave(kring);
  }
  if (tx == 0) clear_event(opened->rx_event);
  if (error != 0) return errno = error, -1;
  return 0;
}

// head must lie between what the kernel had and tail, cur between head and tail.
bool SimulatedNetmap::prologue_tx(Kring& k) {
  auto& ring = k.ring();
  const auto head = __atomic_load_n(&ring.head, __ATOMIC_ACQUIRE), cur = __atomic_load_n(&ring.cur, __ATOMIC_RELAXED);
  const bool fine = head < k.slots && cur < k.slots && k.distance(k.rhead, head) <= k.distance(k.rhead, k.rtail) &&
                    k.distance(head, cur) <= k.distance(head, k.rtail);
  if (!fine) return false;
  __atomic_store_n(&ring.tail, k.rtail, __ATOMIC_RELEASE);
  k.rhead = head, k.rcur = cur;
  return true;
}

bool SimulatedNetmap::prologue_rx(Kring& k) {
  auto& ring = k.ring();
  k.rcur = __atomic_load_n(&ring.cur, __ATOMIC_RELAXED);
  k.rhead = __atomic_load_n(&ring.head, __ATOMIC_ACQUIRE);
  const bool fine = k.rhead < k.slots && k.rcur < k.slots &&
                    k.distance(k.hwcur, k.rhead) <= k.distance(k.hwcur, k.hwtail) &&
                    k.distance(k.rhead, k.rcur) <= k.distance(k.rhead, k.hwtail);
  if (fine) __atomic_store_n(&ring.tail, k.rtail, __ATOMIC_RELEASE);
  return fine;
}

// What is no index is put right; a head that only moved back is believed.
void SimulatedNetmap::reset(Kring& k) {
  auto& ring = k.ring();
  k.rhead = ring.head, k.rcur = ring.cur, k.rtail = ring.tail;
  for (std::uint32_t i = 0; i < k.slots; ++i)
    if (!k.port->region->is_buffer(k.slot(i).buffer)) k.slot(i).buffer = 0, k.slot(i).length = 0;
  if (ring.head < k.slots && ring.cur < k.slots && ring.tail < k.slots) {
    ++offences_.heads_back;
    return;
  }
  ++offences_.ring_resets;
  ring.cur = k.rcur = k.hwcur;
  __atomic_store_n(&ring.head, k.hwcur, __ATOMIC_RELEASE);
  k.rhead = k.hwcur;
  k.rtail = k.hwtail;
  __atomic_store_n(&ring.tail, k.hwtail, __ATOMIC_RELEASE);
}

void SimulatedNetmap::sync_tx(Opened&, Kring& k) {
  if (!prologue_tx(k)) return reset(k);
  auto& port = *k.port;
  if (k.host) host_tx(port, k);
  else if (k.pipe != nullptr) pipe_tx(k);
  else if (port.kind == Adapter::Kind::switch_port) switch_tx(port, k);
  else if (port.kind == Adapter::Kind::nic) nic_tx(port, k);
  k.rtail = k.hwtail;
  __atomic_store_n(&k.ring().tail, k.hwtail, __ATOMIC_RELEASE);
}

void SimulatedNetmap::sync_rx(Opened& opened, Kring& k) {
  if (!prologue_rx(k)) {
    reset(k);
    if (k.rhead >= k.slots) return;
  }
  auto& port = *k.port;
  if ((k.ring().flags & ring_forward) != 0 && port.host_rings > 0 && !k.host) pass_up(port, k);
  if (k.host) host_rx(opened, port, k);
  else if (k.pipe != nullptr) pipe_rx(k);
  else nic_rx(port, k);
  k.rtail = k.hwtail;
  __atomic_store_n(&k.ring().tail, k.hwtail, __ATOMIC_RELEASE);
  timeval now{};
  ::gettimeofday(&now, nullptr);
  k.ring().seconds = now.tv_sec;
  k.ring().microseconds = now.tv_usec;
}

// --- each kind of port ---

// The frame at `index`, which moves on; fragments are joined where the port knows what they are.
SimulatedNetmap::Bytes SimulatedNetmap::frame_at(Kring& k, std::uint32_t& index, std::uint32_t end, bool join) {
  Bytes frame;
  const auto& region = *k.port->region;
  for (bool more = true; more && index != end;) {
    auto& slot = k.slot(index);
    const bool sound = region.is_buffer(slot.buffer) && slot.length <= region.buffer_size;
    if (!sound) ++offences_.bad_slots;
    const auto* data = region.buffer(sound ? slot.buffer : 0);
    frame.insert(frame.end(), data, data + std::min<std::size_t>(slot.length, region.buffer_size));
    more = join && (slot.flags & more_fragments) != 0;
    take_flags_off(slot, buffer_changed | report);
    index = k.next(index);
  }
  return frame;
}

void SimulatedNetmap::nic_tx(Adapter& port, Kring& k) {
  auto& d = *port.device;
  for (auto i = k.hwcur; i != k.rhead;) {
    const auto from = i;
    auto frame = frame_at(k, i, k.rhead, !d.options.emulated);
    if (!d.options.completes) k.incomplete += k.distance(from, i);
    monitor(k, frame);
    const bool fits = frame.size() <= d.options.mtu + 14U + 8U;
    if (!d.has_carrier() || (d.options.emulated && !fits)) continue;  // it vanishes
    ++d.counts.sent, d.counts.sent_bytes += frame.size();
    d.wire_out.push_back(std::move(frame));
    d.sent.notify_all();
  }
  k.hwcur = k.rhead;
  // Slots that are with the device are behind tail.
  k.hwtail = (k.hwcur + 2 * k.slots - 1 - k.incomplete) % k.slots;
}

void SimulatedNetmap::complete(const std::string& nic, std::size_t frames) {
  const Lock lock(mutex_);
  const auto port = adapters_[nic].lock();
  if (!port) return;
  for (auto& kring : port->tx) {
    const auto done = std::min<std::uint32_t>(kring->incomplete, static_cast<std::uint32_t>(frames));
    kring->incomplete -= done;
    if (done > 0) notify(*kring);
  }
}

bool SimulatedNetmap::import(Kring& k, std::span<const std::byte> frame) {
  const auto& region = *k.port->region;
  const auto pieces = std::max<std::size_t>((frame.size() + region.buffer_size - 1) / region.buffer_size, 1);
  if (k.ring_at == 0 || k.distance(k.hwtail, k.prev(k.hwcur)) < pieces) return false;
  for (std::size_t i = 0; i < pieces; ++i) {
    auto& slot = k.slot(k.hwtail);
    const auto part = frame.subspan(i * region.buffer_size, std::min(region.buffer_size, frame.size() - i * region.buffer_size));
    if (!region.is_buffer(slot.buffer)) ++offences_.bad_slots;
    else std::ranges::copy(part, region.buffer(slot.buffer));
    slot.length = static_cast<std::uint16_t>(part.size());
    slot.flags = i + 1 < pieces ? more_fragments : 0;
    k.hwtail = k.next(k.hwtail);
  }
  return true;
}

void SimulatedNetmap::nic_rx(Adapter&, Kring& k) {
  for (auto i = k.hwcur; i != k.rhead; i = k.next(i)) take_flags_off(k.slot(i), buffer_changed);
  k.hwcur = k.rhead;
  while (!k.queue.empty() && import(k, k.queue.front())) {
    monitor(k, k.queue.front());
    k.queue.pop_front();
  }
}

void SimulatedNetmap::host_tx(Adapter& port, Kring& k) {
  for (auto i = k.hwcur; i != k.rhead; i = k.next(i)) {
    const auto& slot = k.slot(i);
    const auto& region = *port.region;
    if (!region.is_buffer(slot.buffer)) ++offences_.bad_slots;
    else if (slot.length >= 14 && slot.length <= region.buffer_size)
      port.device->host_in.emplace_back(region.buffer(slot.buffer), region.buffer(slot.buffer) + slot.length);
  }
  k.hwcur = k.rhead;
  k.hwtail = k.prev(k.rhead);
}

void SimulatedNetmap::host_rx(Opened& opened, Adapter& port, Kring& k) {
  const bool down = (k.ring().flags & ring_forward) != 0 && opened.forwards_down;
  for (auto i = k.hwcur; down && i != k.rhead; i = k.next(i)) {
    auto& from = k.slot(i);
    if ((from.flags & forward) == 0) continue;
    for (std::size_t r = 0; r < port.tx_rings; ++r) {
      auto& to = port.tx[r]->ring();
      if (to.head == to.tail) continue;
      auto& slot = port.tx[r]->slot(to.head);
      std::swap(slot.buffer, from.buffer);
      slot.length = from.length;
      slot.flags = from.flags = buffer_changed;
      to.head = to.cur = port.tx[r]->next(to.head);
      break;
    }
  }
  k.hwcur = k.rhead;
  while (!k.queue.empty() && import(k, k.queue.front())) k.queue.pop_front();
}

// Slots that were released with `forward`, from a NIC's ring up to its host.
void SimulatedNetmap::pass_up(Adapter& port, Kring& k) {
  const auto& region = *port.region;
  for (auto i = k.hwcur; i != k.rhead; i = k.next(i)) {
    auto& slot = k.slot(i);
    if ((slot.flags & forward) == 0 || slot.length < 14 || slot.length > region.buffer_size) continue;
    take_flags_off(slot, forward);
    port.device->host_in.emplace_back(region.buffer(slot.buffer), region.buffer(slot.buffer) + slot.length);
  }
}

void SimulatedNetmap::pipe_tx(Kring& k) {
  k.hwtail = k.pipe_tail;
  auto complete = k.slots;  // behind the last whole frame; none yet
  auto i = k.hwcur;
  while (i != k.rhead) {
    auto& slot = k.slot(i);
    if (!k.port->region->is_buffer(slot.buffer)) ++offences_.bad_slots;
    else monitor(k, {k.port->region->buffer(slot.buffer), slot.length});
    copy_ring_slot(slot, k.pipe->slot(i));
    const bool more = (slot.flags & more_fragments) != 0;
    take_flags_off(slot, buffer_changed);
    i = k.next(i);
    if (!more) complete = i;
  }
  k.hwcur = i;
  if (complete == k.slots) return;
  k.pipe->pipe_tail = complete;
  notify(*k.pipe);
}

void SimulatedNetmap::pipe_rx(Kring& k) {
  k.hwtail = k.pipe_tail;
  if (k.hwcur == k.rhead) return;
  for (auto i = k.hwcur; i != k.rhead; i = k.next(i)) {
    copy_ring_slot(k.slot(i), k.pipe->slot(i));
    take_flags_off(k.slot(i), buffer_changed);
  }
  k.hwcur = k.rhead;
  k.pipe->pipe_tail = k.prev(k.hwcur);
  notify(*k.pipe);
}

// Every other port of the switch gets a copy, if it has room.
void SimulatedNetmap::switch_tx(Adapter& port, Kring& k) {
  const auto prefix = port.name.substr(0, port.name.find(':') + 1);
  for (auto i = k.hwcur; i != k.rhead;) {
    const auto frame = frame_at(k, i, k.rhead, true);
    monitor(k, frame);
    for (auto& [name, known] : adapters_) {
      const auto other = known.lock();
      if (!other || other.get() == &port || !name.starts_with(prefix)) continue;
      auto& to = *other->rx[std::min(k.index, other->rx_rings - 1)];
      if (to.on() && import(to, frame)) notify(to);
    }
  }
  k.hwcur = k.rhead;
  k.hwtail = k.prev(k.rhead);
}

void SimulatedNetmap::monitor(Kring& k, std::span<const std::byte> frame) {
  for (Kring* watcher : k.monitors)
    if (watcher->queue.size() < watcher->slots) watcher->queue.emplace_back(frame.begin(), frame.end()), notify(*watcher);
}

// --- waiting ---

void SimulatedNetmap::notify(Kring& k) {
  for (Opened* opened : k.bound)
    if (opened->watched[k.tx ? 1 : 0]) set_event(k.tx ? opened->tx_event : opened->rx_event);
}

// As the kernel's poll looks at it, after a sync: cur is not tail.
bool SimulatedNetmap::ready(Opened& opened, bool tx) {
  bool any = false;
  for (auto i = opened.first[tx ? 1 : 0]; i < opened.last[tx ? 1 : 0]; ++i) {
    const Kring& k = *(tx ? opened.port->tx : opened.port->rx)[i];
    any = any || k.rcur != k.rtail;
  }
  return any;
}

int SimulatedNetmap::poll_now(int fd, short events) {
  const Lock lock(mutex_);
  const auto opened = opened_.at(fd);
  const auto port = opened->port;
  if (!port) return POLLERR;
  int revents = 0;
  const auto walk = [&](bool tx) {
    for (auto i = opened->first[tx ? 1 : 0]; i < opened->last[tx ? 1 : 0]; ++i) {
      Kring& kring = *(tx ? port->tx : port->rx)[i];
      if (const int got = enter(kring); got != 0) {
        if (got > 0) revents |= POLLERR;
        continue;
      }
      if (tx) sync_tx(*opened, kring);
      else sync_rx(*opened, kring);
      leave(kring);
    }
  };
  if ((opened->flags & no_tx_poll) == 0 || (events & POLLOUT) != 0) walk(true);
  if ((events & POLLIN) != 0) walk(false);
  if ((events & POLLOUT) != 0 && ready(*opened, true)) revents |= POLLOUT;
  if ((events & POLLIN) != 0 && ready(*opened, false)) revents |= POLLIN;
  return revents;
}

bool SimulatedNetmap::watch(int epoll, int fd, std::uint32_t events) noexcept {
  const Lock lock(mutex_);
  const auto opened = opened_.at(fd);
  const bool tx = (events & EPOLLOUT) != 0;
  const Fd& event = tx ? opened->tx_event : opened->rx_event;
  clear_event(event);
  opened->watched[tx ? 1 : 0] = true;
  if (poll_now(fd, static_cast<short>(events & (EPOLLIN | EPOLLOUT))) != 0) set_event(event);
  epoll_event what{.events = EPOLLIN, .data = {.fd = fd}};
  return ::epoll_ctl(epoll, EPOLL_CTL_ADD, event.get(), &what) == 0;
}

void SimulatedNetmap::unwatch(int epoll, int fd) noexcept {
  const Lock lock(mutex_);
  const auto found = opened_.find(fd);
  if (found == opened_.end()) return;
  auto& opened = *found->second;
  for (const bool tx : {false, true})
    if (std::exchange(opened.watched[tx ? 1 : 0], false))
      ::epoll_ctl(epoll, EPOLL_CTL_DEL, (tx ? opened.tx_event : opened.rx_event).get(), nullptr);
}

}  // namespace efio::test
