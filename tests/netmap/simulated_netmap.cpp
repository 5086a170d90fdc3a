// Requests: regions and their memory, which port a name means, binding a descriptor to its rings and letting go of them.
#include "tests/netmap/simulated_netmap.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "efio/fail.h"
#include "tests/netmap/simulated_netmap_kernel.h"

namespace efio::test {

using namespace netmap;

namespace {
constexpr std::size_t page = 4096;
constexpr std::uint32_t global_most_slots = (9 * page - sizeof(Ring)) / sizeof(RingSlot);
constexpr std::size_t global_buffers = 40'000, least_private_buffers = 4098;
constexpr std::uint32_t default_slots = 1024;
}  // namespace

// --- memory ---

SimulatedNetmap::Region::~Region() {
  if (base != nullptr) ::munmap(base, size);
}

std::uint64_t SimulatedNetmap::Region::take_interface() {
  const auto at = std::ranges::find(interface_used, false);
  if (at == interface_used.end()) return 0;
  *at = true;
  return static_cast<std::uint64_t>(at - interface_used.begin()) * interface_size;
}

std::uint64_t SimulatedNetmap::Region::take_ring() {
  const auto at = std::ranges::find(ring_used, false);
  if (at == ring_used.end()) return 0;
  *at = true;
  return interfaces * interface_size + static_cast<std::uint64_t>(at - ring_used.begin()) * ring_size;
}

void SimulatedNetmap::Region::drop_ring(std::uint64_t offset) {
  ring_used[(offset - interfaces * interface_size) / ring_size] = false;
}

std::uint32_t SimulatedNetmap::Region::take_buffer() {
  const auto at = std::ranges::find(buffer_used, false);
  if (at == buffer_used.end()) return 0;
  *at = true;
  return static_cast<std::uint32_t>(at - buffer_used.begin());
}

bool SimulatedNetmap::Region::drop_buffer(std::uint32_t index) {
  if (!is_buffer(index) || !buffer_used[index]) return false;
  buffer_used[index] = false;
  return true;
}

std::shared_ptr<SimulatedNetmap::Region> SimulatedNetmap::make_region(bool is_private, std::size_t buffers,
                                                                      std::uint32_t most_slots) {
  auto region = std::make_shared<Region>();
  region->number = next_region_++;
  region->most_slots = most_slots;
  region->ring_size = (sizeof(Ring) + most_slots * sizeof(RingSlot) + page - 1) / page * page;
  region->rings = is_private ? 16 : 200;
  region->buffers_at = interfaces * interface_size + region->rings * region->ring_size;
  region->size = region->buffers_at + buffers * region->buffer_size;
  region->memory = Fd(::memfd_create("simulated-netmap", MFD_CLOEXEC));
  if (::ftruncate(region->memory.get(), static_cast<off_t>(region->size)) != 0) throw std::bad_alloc();
  void* base = ::mmap(nullptr, region->size, PROT_READ | PROT_WRITE, MAP_SHARED, region->memory.get(), 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  region->base = static_cast<std::byte*>(base);
  region->interface_used.resize(interfaces);
  region->interface_used[0] = true;  // so that offset 0 means none
  region->ring_used.resize(region->rings);
  region->buffer_used.resize(buffers);
  region->buffer_used[0] = region->buffer_used[1] = true;
  std::erase_if(regions_, [](const auto& known) { return known.expired(); });
  regions_.push_back(region);
  return region;
}

std::shared_ptr<SimulatedNetmap::Region> SimulatedNetmap::find_region(std::uint16_t number) {
  for (const auto& known : regions_)
    if (auto region = known.lock(); region && region->number == number) return region;
  return nullptr;
}

// --- the machine ---

SimulatedNetmap::SimulatedNetmap() {
  global_ = make_region(false, global_buffers, global_most_slots);
  use_system(this);
}

SimulatedNetmap::~SimulatedNetmap() {
  use_system(nullptr);
  EXPECT_EQ(opened_.size() + mapped_.size(), 0U) << "a descriptor or mapping of netmap was left";
  EXPECT_EQ(offences_.total(), 0U) << offences_.entered_while_down << " entered while down, " << offences_.bad_slots
                                   << " bad slots, " << offences_.bad_frees << " bad frees, " << offences_.heads_back
                                   << " heads back";
  EXPECT_EQ(buffers_in_use(1), 0U) << "buffers of the common region leaked";
}

void SimulatedNetmap::add_nic(const std::string& name, const NicOptions& options) {
  const Lock lock(mutex_);
  auto device = std::make_shared<Device>();
  device->name = name;
  device->options = options;
  device->mac[4] = static_cast<std::uint8_t>(devices_.size());
  devices_[name] = std::move(device);
}

void SimulatedNetmap::add_pair(const std::string& a, const std::string& b, const NicOptions& options) {
  add_nic(a, options);
  add_nic(b, options);
  device(a).pair = b;
  device(b).pair = a;
}

SimulatedNetmap::Device& SimulatedNetmap::device(const std::string& name) { return *devices_.at(name); }

void SimulatedNetmap::set_carrier(const std::string& nic, bool up) {
  const Lock lock(mutex_);
  auto& d = device(nic);
  if (d.up() && !up) ++d.downs;
  d.carrier = up;
}

void SimulatedNetmap::set_admin(const std::string& nic, bool up) {
  const Lock lock(mutex_);
  auto& d = device(nic);
  if (d.up() && !up) ++d.downs;
  d.admin = up;
  if (auto adapter = adapters_[nic].lock()) adapter->locked = !up;
}

void SimulatedNetmap::delete_nic(const std::string& nic) {
  const Lock lock(mutex_);
  auto& d = device(nic);
  d.gone = true;
  if (auto adapter = adapters_[nic].lock()) adapter->zombie = true, adapter->locked = false;  // nobody is woken
}

Offences SimulatedNetmap::offences() {
  const Lock lock(mutex_);
  return offences_;
}

std::size_t SimulatedNetmap::buffers_in_use(std::uint16_t number) {
  const Lock lock(mutex_);
  const auto region = find_region(number);
  return region ? static_cast<std::size_t>(std::ranges::count(region->buffer_used, true)) - 2 : 0;
}

std::size_t SimulatedNetmap::descriptors() {
  const Lock lock(mutex_);
  return opened_.size();
}

std::vector<std::uint64_t> SimulatedNetmap::flags() {
  const Lock lock(mutex_);
  std::vector<std::uint64_t> all;
  for (const auto& [fd, opened] : opened_)
    if (opened->first[0] != opened->last[0] || opened->first[1] != opened->last[1]) all.push_back(opened->flags);
  return all;
}

std::uint64_t SimulatedNetmap::syncs(unsigned long request) {
  const Lock lock(mutex_);
  return syncs_[request];
}

// --- ports ---

void SimulatedNetmap::Adapter::make_krings(std::uint32_t tx_slots, std::uint32_t rx_slots) {
  for (const bool is_tx : {true, false}) {
    auto& krings = is_tx ? tx : rx;
    const auto nic_rings = is_tx ? tx_rings : rx_rings;
    krings.clear();
    for (std::size_t i = 0; i < nic_rings + host_rings; ++i) {
      auto kring = std::make_unique<Kring>();
      kring->port = this;
      kring->tx = is_tx;
      kring->host = i >= nic_rings;
      kring->index = i;
      kring->slots = is_tx ? tx_slots : rx_slots;
      kring->hwtail = kring->rtail = kring->pipe_tail = is_tx ? kring->slots - 1 : 0;
      krings.push_back(std::move(kring));
    }
  }
}

namespace {
void join(auto& a, auto& b) {
  const auto link = [](auto& own, auto& other) {
    own->pipe = other.get(), other->pipe = own.get();
    other->fake = true;  // the end that comes first has the buffers
  };
  for (std::size_t i = 0; i < a.tx_rings; ++i) link(a.tx[i], b.rx[i]);
  for (std::size_t i = 0; i < a.rx_rings; ++i) link(a.rx[i], b.tx[i]);
}
}  // namespace

std::shared_ptr<SimulatedNetmap::Adapter> SimulatedNetmap::find_pipe(const std::string& name, std::size_t mark,
                                                                     const RegisterBody& body, int& error) {
  auto other = name;
  other[mark] = name[mark] == '{' ? '}' : '{';
  if (auto known = adapters_[name].lock()) return known;
  if (mark == 0 || mark + 1 == name.size() || (body.mode != all_nic_rings && body.mode != one_nic_ring)) {
    error = EINVAL;
    return nullptr;
  }
  const bool of_nic = devices_.contains(name.substr(0, mark));
  const auto slots = body.tx_slots != 0 ? body.tx_slots : default_slots;
  auto region = body.memory != 0 ? find_region(body.memory) : of_nic ? global_
                : make_region(true, std::max(least_private_buffers, std::size_t{4} * slots + 2 + body.extra_buffers), std::max(slots, 1264U));
  if (!region) {
    error = EINVAL;
    return nullptr;
  }
  const auto make = [&](const std::string& end) {
    auto adapter = std::make_shared<Adapter>();
    adapter->name = end;
    adapter->kind = Adapter::Kind::pipe;
    adapter->region = region;
    adapter->tx_rings = adapter->rx_rings = std::max<std::size_t>(body.tx_rings, 1);
    adapter->make_krings(slots, slots);
    return adapter;
  };
  auto here = make(name);
  here->peer_made = make(other);
  here->peer = here->peer_made;
  here->peer_made->peer = here;
  join(*here, *here->peer_made);
  adapters_[name] = here;
  adapters_[other] = here->peer_made;
  return here;
}

// Errors as the kernel's netmap_get_na would have them.
std::shared_ptr<SimulatedNetmap::Adapter> SimulatedNetmap::find_adapter(const std::string& name, const RegisterBody& body, int& error) {
  if (body.memory != 0 && !find_region(body.memory)) return error = EINVAL, nullptr;
  if (body.mode == no_rings) {
    auto adapter = std::make_shared<Adapter>();
    adapter->name = "null:" + name;
    adapter->kind = Adapter::Kind::switch_port;
    adapter->region = find_region(body.memory);
    adapter->tx_rings = adapter->rx_rings = 0;
    if (!adapter->region) return error = EINVAL, nullptr;
    return adapter;
  }
  if ((body.flags & (monitor_rx | monitor_tx)) != 0) {
    RegisterBody plain = body;
    plain.flags &= ~(monitor_rx | monitor_tx | monitor_zero_copy);
    auto parent = find_adapter(name, plain, error);
    if (!parent) return nullptr;
    if (parent->active == 0) return error = EINVAL, nullptr;
    auto adapter = std::make_shared<Adapter>();
    adapter->name = name + "/monitor";
    adapter->kind = Adapter::Kind::monitor;
    adapter->rx_rings = std::max(parent->tx_rings, parent->rx_rings);
    adapter->region = (body.flags & monitor_zero_copy) != 0 ? parent->region : make_region(true, least_private_buffers, 1264);
    adapter->parent = parent;
    adapter->make_krings(default_slots, default_slots);
    return adapter;
  }
  if (const auto mark = name.find_last_of("{}"); mark != std::string::npos) return find_pipe(name, mark, body, error);
  if (auto known = adapters_[name].lock()) return known;

  auto adapter = std::make_shared<Adapter>();
  adapter->name = name;
  if (name.starts_with("vale") && name.find(':') != std::string::npos) {
    const auto slots = body.tx_slots != 0 ? body.tx_slots : default_slots;
    adapter->kind = Adapter::Kind::switch_port;
    adapter->tx_rings = adapter->rx_rings = std::max<std::size_t>(body.tx_rings, 1);
    adapter->region = body.memory != 0 ? find_region(body.memory)
                                       : make_region(true, std::max(least_private_buffers, (2 * adapter->tx_rings + 2) * slots + 2 + body.extra_buffers), std::max(slots, 1264U));
    adapter->make_krings(slots, slots);
  } else {
    const auto found = devices_.find(name);
    if (found == devices_.end() || found->second->gone) return error = ENXIO, nullptr;
    auto& d = *found->second;
    adapter->device = found->second;
    adapter->host_rings = 1;
    adapter->tx_rings = adapter->rx_rings = d.options.rings;
    adapter->region = body.memory != 0 ? find_region(body.memory) : global_;
    adapter->locked = !d.admin;
    adapter->make_krings(d.options.slots, d.options.slots);
    if (!d.pair.empty()) {
      adapter->kind = Adapter::Kind::pair;
      auto& other = device(d.pair);
      adapter->peer_made = std::make_shared<Adapter>();
      auto& peer = *adapter->peer_made;
      peer.name = d.pair;
      peer.kind = Adapter::Kind::pair;
      peer.device = devices_.at(d.pair);
      peer.host_rings = 1;
      peer.tx_rings = peer.rx_rings = d.options.rings;
      peer.region = adapter->region;
      peer.locked = !other.admin;
      peer.make_krings(d.options.slots, d.options.slots);
      peer.peer = adapter;
      adapter->peer = adapter->peer_made;
      join(*adapter, peer);
      adapters_[d.pair] = adapter->peer_made;
    }
  }
  adapters_[name] = adapter;
  return adapter;
}

// --- rings ---

bool SimulatedNetmap::make_rings(Adapter& adapter) {
  for (auto* krings : {&adapter.tx, &adapter.rx}) {
    for (auto& kring : *krings) {
      if (!kring->on() || kring->ring_at != 0) continue;
      auto& region = *adapter.region;
      const auto make = [&](Kring& k) {
        if (k.slots > region.most_slots || (k.ring_at = region.take_ring()) == 0) return false;
        auto& ring = k.ring();
        std::memset(&ring, 0, region.ring_size);
        ring.buffers_offset = static_cast<std::int64_t>(region.buffers_at) - static_cast<std::int64_t>(k.ring_at);
        ring.slots = k.slots;
        ring.buffer_size = static_cast<std::uint32_t>(region.buffer_size);
        ring.number = static_cast<std::uint16_t>(k.index);
        ring.direction = k.tx ? 1 : 0;
        ring.head = k.rhead, ring.cur = k.rcur, ring.tail = k.rtail;
        for (std::uint32_t i = 0; i < k.slots && !k.fake; ++i) {
          if ((k.slot(i).buffer = region.take_buffer()) == 0) return false;
          k.slot(i).length = static_cast<std::uint16_t>(region.buffer_size);
        }
        return true;
      };
      if (!make(*kring)) return false;
      if (kring->pipe == nullptr) continue;
      if (kring->pipe->ring_at == 0 && !make(*kring->pipe)) return false;
      // The end that is bound gives its slots to the other, also where it had none and loses the other's.
      for (std::uint32_t i = 0; i < kring->slots; ++i) {
        if (kring->fake && !kring->pipe->fake) region.drop_buffer(kring->pipe->slot(i).buffer);
        kring->pipe->slot(i) = kring->slot(i);
      }
      kring->fake = kring->pipe->fake = true;
    }
  }
  return true;
}

// Frees rings without users. Those of a pipe go with its last user at either end: then each buffer that the programs own
// stands in one ring only, and what the kernel owns stands in the other as well.
void SimulatedNetmap::drop_rings(Adapter& adapter) {
  auto& region = *adapter.region;
  const auto free_buffers = [&](Kring& k) {
    for (std::uint32_t i = 0; i < k.slots; ++i)
      if (const auto buffer = k.slot(i).buffer; (buffer != 0 || k.pipe == nullptr) && !region.drop_buffer(buffer)) ++offences_.bad_frees;
    region.drop_ring(k.ring_at);
    k.ring_at = 0;
  };
  const auto peer = adapter.peer.lock();
  const bool whole = adapter.active == 0 && (!peer || peer->active == 0);
  for (auto* krings : {&adapter.tx, &adapter.rx}) {
    for (auto& kring : *krings) {
      if (kring->ring_at == 0 || kring->on()) continue;
      if (kring->pipe == nullptr) {
        free_buffers(*kring);
        continue;
      }
      if (!whole) continue;
      for (Kring* k : {kring.get(), kring->pipe}) {
        if (k->ring_at == 0) continue;
        if (!k->tx) k->slot(k->pipe_tail).buffer = 0;
        for (auto i = k->next(k->pipe_tail); i != k->hwcur; i = k->next(i)) k->slot(i).buffer = 0;
      }
      for (Kring* k : {kring.get(), kring->pipe})
        if (k->ring_at != 0) free_buffers(*k);
    }
  }
}

// --- binding ---

int SimulatedNetmap::control(int fd, RequestHeader& request) {
  const Lock lock(mutex_);
  const auto found = opened_.find(fd);
  const int error = found == opened_.end() ? EBADF : bind(*found->second, request);
  errno = error;
  return error == 0 ? 0 : -1;
}

int SimulatedNetmap::bind(Opened& opened, RequestHeader& request) {
  if (request.version < 14 || request.version > 15 || request.reserved != 0 || request.type != register_port) return EINVAL;
  auto& body = *reinterpret_cast<RegisterBody*>(request.body);
  if (opened.port) return EBUSY;
  request.name[sizeof request.name - 1] = 0;
  const std::string name(request.name);
  if ((body.flags & monitor_zero_copy) != 0) body.flags |= monitor_rx | monitor_tx;
  int error = 0;
  auto port = find_adapter(name, body, error);
  if (!port) return error;
  if (port->zombie) return ENXIO;

  // Which rings, [0] rx and [1] tx; a number beyond the last means the first.
  for (const std::size_t tx : {0U, 1U}) {
    const auto rings = tx != 0 ? port->tx_rings : port->rx_rings;
    const auto excluded = tx != 0 ? rx_rings_only : tx_rings_only;
    auto &first = opened.first[tx], &last = opened.last[tx];
    first = last = 0;
    if ((body.flags & excluded) != 0) continue;
    if (body.mode == all_nic_rings || body.mode == no_rings) last = rings;
    else if (body.mode == one_nic_ring) {
      if (body.ring >= port->tx_rings && body.ring >= port->rx_rings) return EINVAL;
      first = body.ring < rings ? body.ring : 0, last = first + 1;
    } else if (body.mode == host_rings || body.mode == nic_and_host_rings || body.mode == one_host_ring) {
      if (port->host_rings == 0 || (body.mode == one_host_ring && body.ring >= port->host_rings)) return EINVAL;
      first = body.mode == nic_and_host_rings ? 0 : rings, last = rings + port->host_rings;
    } else {
      return EINVAL;
    }
  }
  opened.forwards_down = opened.first[1] == 0 && opened.last[1] >= port->tx_rings;
  // The size of what the NIC may deliver is looked at when the first descriptor comes, if it receives.
  if (port->device && port->active == 0 && opened.last[0] > 0 && port->device->options.mtu > port->region->buffer_size) return EINVAL;

  const auto for_each = [&](auto what) {
    for (const std::size_t tx : {0U, 1U})
      for (auto i = opened.first[tx]; i < opened.last[tx]; ++i) what(*(tx != 0 ? port->tx : port->rx)[i]);
  };
  const bool alone = (body.flags & exclusive) != 0;
  bool taken = false;
  for_each([&](Kring& k) { taken = taken || k.held_exclusively || (alone && k.users > 0); });
  if (taken) return EBUSY;
  for_each([&](Kring& k) { ++k.users, k.held_exclusively = alone, k.bound.insert(&opened); });
  if (!make_rings(*port)) {
    for_each([&](Kring& k) { --k.users, k.held_exclusively = false, k.bound.erase(&opened); });
    return ENOMEM;
  }
  if (port->kind == Adapter::Kind::monitor)
    for (const std::size_t tx : {0U, 1U}) {
      if ((body.flags & (tx != 0 ? monitor_tx : monitor_rx)) == 0) continue;
      auto& watched = tx != 0 ? port->parent->tx : port->parent->rx;
      for (auto i = opened.first[0]; i < opened.last[0] && i < watched.size(); ++i) watched[i]->monitors.push_back(port->rx[i].get());
    }
  if (port->peer_made && port->peer_made->active > 0) port->peer_made.reset();  // now each end has users of its own
  if (port->active == 0 && port->device)
    port->device->reset_until =
        (std::chrono::steady_clock::now() + port->device->options.reset).time_since_epoch().count();
  ++port->active;
  opened.port = port;
  opened.flags = body.flags;

  // What the program is told, and finds in memory.
  auto& region = *port->region;
  opened.interface_at = region.take_interface();
  auto& about = *reinterpret_cast<Interface*>(region.base + opened.interface_at);
  std::memset(&about, 0, interface_size);
  std::memcpy(about.name, name.data(), std::min(name.size(), sizeof about.name - 1));
  about.tx_rings = static_cast<std::uint32_t>(port->tx_rings);
  about.rx_rings = static_cast<std::uint32_t>(port->rx_rings);
  about.host_tx_rings = about.host_rx_rings = static_cast<std::uint32_t>(std::max<std::size_t>(port->host_rings, 1));
  auto* offset = reinterpret_cast<std::int64_t*>(&about + 1);
  for (const std::size_t tx : {1U, 0U}) {
    const auto& krings = tx != 0 ? port->tx : port->rx;
    const auto rings = (tx != 0 ? port->tx_rings : port->rx_rings) + about.host_tx_rings;
    for (std::size_t i = 0; i < rings; ++i, ++offset)
      if (i >= opened.first[tx] && i < opened.last[tx])
        *offset = static_cast<std::int64_t>(krings[i]->ring_at) - static_cast<std::int64_t>(opened.interface_at);
  }
  std::uint32_t came = 0;
  for (; came < body.extra_buffers; ++came) {
    const auto buffer = region.take_buffer();
    if (buffer == 0) break;
    std::memcpy(region.buffer(buffer), &about.extra_buffers, sizeof about.extra_buffers);
    about.extra_buffers = buffer;
  }
  body.extra_buffers = came;
  body.offset = opened.interface_at;
  body.memory_size = region.size;
  body.memory = region.number;
  body.tx_rings = static_cast<std::uint16_t>(port->tx_rings);
  body.rx_rings = static_cast<std::uint16_t>(port->rx_rings);
  body.host_tx_rings = body.host_rx_rings = static_cast<std::uint16_t>(port->host_rings);
  body.tx_slots = port->tx.empty() ? 0 : port->tx[0]->slots;
  body.rx_slots = port->rx.empty() ? 0 : port->rx[0]->slots;
  return 0;
}

void SimulatedNetmap::unbind(Opened& opened) {
  if (!opened.port) return;
  auto port = std::exchange(opened.port, nullptr);
  --port->active;
  for (auto* krings : {&port->tx, &port->rx})
    for (auto& kring : *krings)
      if (kring->bound.erase(&opened) > 0) {
        --kring->users;
        if ((opened.flags & exclusive) != 0) kring->held_exclusively = false;
      }
  if (port->kind == Adapter::Kind::monitor)
    for (auto* krings : {&port->parent->tx, &port->parent->rx})
      for (auto& kring : *krings) std::erase_if(kring->monitors, [&](const Kring* k) { return k->port == port.get(); });
  auto& region = *port->region;
  const auto peer = port->peer.lock();
  // The other end goes on: it keeps us, and the rings with them, as they are.
  if (port->active == 0 && peer && peer->active > 0) peer->peer_made = port;
  drop_rings(*port);
  if (port->active == 0 && peer && peer->active == 0) drop_rings(*peer);
  auto& about = *reinterpret_cast<Interface*>(region.base + opened.interface_at);
  for (auto buffer = about.extra_buffers; buffer != 0;) {
    std::uint32_t next = 0;
    if (region.is_buffer(buffer)) std::memcpy(&next, region.buffer(buffer), sizeof next);
    if (!region.drop_buffer(buffer)) {
      ++offences_.bad_frees;
      break;
    }
    buffer = next;
  }
  region.interface_used[opened.interface_at / interface_size] = false;
  if (port->active == 0 && peer && peer->active == 0) peer->peer_made.reset(), port->peer_made.reset();
}

// --- descriptors ---

int SimulatedNetmap::open() {
  const Lock lock(mutex_);
  if (!loaded_) return errno = ENOENT, -1;
  auto opened = std::make_shared<Opened>();
  opened->rx_event = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  opened->tx_event = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const int fd = opened->rx_event.get();
  opened_[fd] = std::move(opened);
  return fd;
}

void SimulatedNetmap::close(int fd) noexcept {
  const Lock lock(mutex_);
  const auto found = opened_.find(fd);
  if (found == opened_.end()) return;
  auto opened = std::move(found->second);
  opened_.erase(found);
  opened->closed = true;
  if (opened->mappings == 0) unbind(*opened);
}

void* SimulatedNetmap::map(int fd, std::size_t size) {
  const Lock lock(mutex_);
  const auto& opened = opened_.at(fd);
  if (!opened->port || size > opened->port->region->size) return errno = EINVAL, nullptr;
  void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, opened->port->region->memory.get(), 0);
  if (address == MAP_FAILED) return nullptr;
  ++opened->mappings;
  mapped_[address] = opened;
  return address;
}

void SimulatedNetmap::unmap(void* address, std::size_t size) noexcept {
  const Lock lock(mutex_);
  const auto found = mapped_.find(address);
  if (found == mapped_.end()) return;
  auto opened = std::move(found->second);
  mapped_.erase(found);
  ::munmap(address, size);
  if (--opened->mappings == 0 && opened->closed) unbind(*opened);
}

bool SimulatedNetmap::has_interface(const std::string& name) {
  const Lock lock(mutex_);
  const auto found = devices_.find(name);
  return found != devices_.end() && !found->second->gone;
}

Result<void> SimulatedNetmap::available() {
  if (loaded_) return {};
  return fail(Error::Kind::unavailable, "open netmap:", "the simulated module is not loaded").hint("set_module_loaded(true)");
}

}  // namespace efio::test
