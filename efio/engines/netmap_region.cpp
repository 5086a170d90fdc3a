#include "efio/engines/netmap_region.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>

#include "efio/fail.h"

namespace efio::netmap {

namespace {

// Regions in use, and whether their pools exist. The kernel gives a number to another region only when this one is gone.
std::mutex regions_mutex;
std::map<std::pair<System*, std::uint16_t>, std::weak_ptr<Region>>& regions() {
  static std::map<std::pair<System*, std::uint16_t>, std::weak_ptr<Region>> known;
  return known;
}

Failure explain(int error, const std::string& port, const RegisterBody& wish, const std::string& attempted) {
  const auto why = [&](Error::Kind kind, std::string text) { return Failure(kind, error, attempted, std::move(text)); };
  switch (error) {
    case ENXIO:
      return why(Error::Kind::device, fmt::format("netmap knows no port {}", port)).hint("`ip link` lists interfaces; vale0:a makes a port of a switch, x{{1 a pipe");
    case EBUSY:
      return why(Error::Kind::device, fmt::format("{} is attached to a switch, or another program holds the ring exclusively", port))
          .hint("close it there; `lsof /dev/netmap` tells who has netmap open");
    case ENOMEM:
      return why(Error::Kind::memory, "netmap's memory is too small for these rings")
          .hint("fewer slots= or spares=, or raise the module's parameters ring_size, ring_num and buf_num in "
                "/sys/module/netmap/parameters while no port is open");
    case EIO:
      return why(Error::Kind::device, fmt::format("{} wants virtio headers before its frames, or its device is going away", port));
    case EOPNOTSUPP:
      return why(Error::Kind::unavailable, "this netmap module was built without that kind of port");
    case EINVAL:
      if ((wish.flags & (monitor_rx | monitor_tx)) != 0)
        return why(Error::Kind::device, fmt::format("{} cannot be monitored: nobody has opened it by netmap", port))
            .hint("open the port first, then its monitor");
      if (wish.ring > 0 && (wish.mode == one_nic_ring || wish.mode == one_host_ring))
        return why(Error::Kind::usage, fmt::format("{} has no ring {}", port, wish.ring)).hint("rings count from 0; `ethtool -l` tells how many there are");
      return why(Error::Kind::device, "netmap refused the request")
          .hint("the MTU must fit a buffer (`ip link set {} mtu 1500`, or buf_size in /sys/module/netmap/parameters), a region behind @ must "
                "exist, the module must speak version {}; `dmesg` says more", port, api_version);
    default:
      return Failure(kind_of(error), error, attempted, describe_os_error(error));
  }
}

}  // namespace

Result<Descriptor> Descriptor::bind(const std::string& port, const RegisterBody& wish, const std::string& attempted) {
  Descriptor made;
  made.system_ = &system();
  made.fd_ = made.system_->open();
  if (made.fd_ < 0) {
    if (auto there = made.system_->available(); !there) {
      auto error = there.error();
      error.attempted = attempted;
      return std::unexpected(std::move(error));
    }
    return fail(errno, "{}: {}", attempted, device_path);
  }
  made.got_ = wish;
  RequestHeader request{};
  request.version = api_version;
  request.type = register_port;
  std::memcpy(request.name, port.data(), std::min(port.size(), longest_name));
  request.body = reinterpret_cast<std::uintptr_t>(&made.got_);
  if (made.system_->control(made.fd_, request) != 0) return explain(errno, port, wish, attempted);
  return made;
}

Result<std::shared_ptr<Region>> Region::of(const Descriptor& port, const std::string& attempted) {
  const std::scoped_lock lock(regions_mutex);
  std::erase_if(regions(), [](const auto& known) { return known.second.expired(); });
  auto& known = regions()[{&system(), port.got().memory}];
  if (auto region = known.lock()) return region;

  RegisterBody wish{};
  wish.mode = no_rings;
  wish.memory = port.got().memory;
  auto keeper = Descriptor::bind("efio", wish, attempted);
  if (!keeper) {
    auto error = keeper.error();
    if (error.os == EINVAL) {
      error.why = fmt::format("memory region {} cannot be held without a port", wish.memory);
      error.hint = "the netmap module must be built with its null ports (the default)";
    }
    return std::unexpected(std::move(error));
  }
  std::shared_ptr<Region> region(new Region);
  region->system_ = &system();
  region->number_ = wish.memory;
  region->size_ = keeper->got().memory_size;
  region->keeper_ = std::move(*keeper);
  region->base_ = static_cast<std::byte*>(region->system_->map(region->keeper_.fd(), region->size_));
  if (region->base_ == nullptr) return fail(errno, "{}: map {} bytes of netmap's memory", attempted, region->size_);
  known = region;
  return region;
}

Region::~Region() {
  if (base_ != nullptr) system_->unmap(base_, size_);
}

Ring* Region::ring_at(const Descriptor& port, std::size_t place) const noexcept {
  Interface* const about = interface_of(port);
  const auto offset = reinterpret_cast<const std::int64_t*>(about + 1)[place];
  return offset == 0 ? nullptr : reinterpret_cast<Ring*>(reinterpret_cast<std::byte*>(about) + offset);
}

const Ring* Region::any_ring(const Descriptor& port) const noexcept {
  const Interface& about = *interface_of(port);
  const std::size_t places = about.tx_rings + about.host_tx_rings + about.rx_rings + about.host_rx_rings;
  for (std::size_t i = 0; i < places; ++i)
    if (const Ring* ring = ring_at(port, i)) return ring;
  return nullptr;
}

std::shared_ptr<Pool> Region::pool(const Ring& any) {
  const std::scoped_lock lock(regions_mutex);
  if (auto pool = pool_.lock()) return pool;
  buffer_base_ = const_cast<std::byte*>(reinterpret_cast<const std::byte*>(&any)) + any.buffers_offset;
  buffer_size_ = any.buffer_size;
  buffers_ = static_cast<std::uint64_t>(base_ + size_ - buffer_base_) / buffer_size_;
  const PoolOptions options{.frame_size = buffer_size_, .headroom = 0};
  auto pool = Pool::over(shared_from_this(), buffer_base_, options);
  pool_ = pool;
  return pool;
}

void Region::collect_extra_buffers(const Descriptor& port, Pool& pool, std::size_t wanted) {
  Interface* const about = interface_of(port);
  std::vector<std::uint64_t> came;
  for (std::uint32_t index = about->extra_buffers; is_buffer(index) && came.size() < port.got().extra_buffers;) {
    came.push_back(index);
    std::memcpy(&index, buffer_base_ + index * buffer_size_, sizeof index);
  }
  const auto has = pool.unused();
  const auto taken = std::min(came.size(), wanted > has ? wanted - has : 0);
  const std::span all(came);
  pool.add(all.first(taken));
  about->extra_buffers = chain(all.subspan(taken), 0);
}

// Links free buffers before `next`, as the kernel wants to have them back; the first.
std::uint32_t Region::chain(std::span<const std::uint64_t> frames, std::uint32_t next) noexcept {
  for (const auto frame : frames) {
    std::memcpy(buffer_base_ + frame * buffer_size_, &next, sizeof next);
    next = static_cast<std::uint32_t>(frame);
  }
  return next;
}

void Region::give_back(std::span<const std::uint64_t> frames) noexcept {
  const std::scoped_lock lock(regions_mutex);
  auto& head = interface_of(keeper_)->extra_buffers;
  head = chain(frames, head);
}

}  // namespace efio::netmap
