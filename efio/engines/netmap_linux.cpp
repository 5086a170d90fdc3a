// netmap's system calls as they are on Linux, and the interface beside the port: rtnetlink tells of its link (link.h),
// ethtool's ioctls turn its offloads off, a packet socket keeps it promiscuous.
//
// Several ports of one program may be open on an interface. The offloads that the first of them turned off are turned on
// again when the last is closed.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>

#include "efio/engines/ethtool.h"
#include "efio/engines/netmap_system.h"
#include "efio/fail.h"

namespace efio::netmap {

namespace {

std::shared_ptr<OffloadsOff> hold_offloads_off(const std::string& name, int index) {
  static std::mutex mutex;
  static std::map<int, std::weak_ptr<OffloadsOff>> held;
  const std::scoped_lock lock(mutex);
  std::erase_if(held, [](const auto& entry) { return entry.second.expired(); });
  auto& known = held[index];
  auto hold = known.lock();
  if (!hold) known = hold = std::make_shared<OffloadsOff>(name);
  return hold;
}

class LinuxNic final : public Nic {
 public:
  explicit LinuxNic(std::shared_ptr<Link> link) : link_(std::move(link)) {
    about_ = {link_->mtu(), link_->mac(), link_->speed(), link_->ethernet(), link_->kind() == "veth"};
  }

  const About& about() const noexcept override { return about_; }

  Result<void> set_up(bool promiscuous, bool offloads_off, const std::string& attempted) override {
    if (promiscuous) {
      auto held = link_->hold_promiscuous(attempted);
      if (!held) return std::unexpected(held.error());
      promiscuous_ = std::move(*held);
    }
    if (offloads_off) offloads_ = hold_offloads_off(link_->name(), link_->index());
    return {};
  }

  Result<void> wait_ready(const LinkWait& wait, const std::string& attempted) override {
    return link_->wait_ready(wait, attempted);
  }
  void check() noexcept override { link_->check(); }
  bool up() const noexcept override { return link_->up(); }
  bool gone() const noexcept override { return link_->gone(); }
  std::uint64_t downs() const noexcept override { return link_->downs(); }
  Error gone_error(const std::string& label) const override { return link_->gone_error(label); }
  std::uint64_t received() noexcept override { return link_->received(); }

 private:
  std::shared_ptr<Link> link_;
  About about_;
  Fd promiscuous_;
  std::shared_ptr<OffloadsOff> offloads_;
};

class LinuxSystem final : public System {
 public:
  int open() override { return ::open(device_path, O_RDWR | O_CLOEXEC); }
  void close(int fd) noexcept override { ::close(fd); }
  int control(int fd, RequestHeader& request) override { return ::ioctl(fd, control_request, &request); }
  int sync(int fd, unsigned long request) noexcept override { return ::ioctl(fd, request, nullptr); }
  void* map(int fd, std::size_t size) override {
    void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return address == MAP_FAILED ? nullptr : address;
  }
  void unmap(void* address, std::size_t size) noexcept override { ::munmap(address, size); }

  bool watch(int epoll, int fd, std::uint32_t events) noexcept override {
    epoll_event what{.events = events, .data = {.fd = fd}};
    return ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &what) == 0;
  }
  void unwatch(int epoll, int fd) noexcept override { ::epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr); }

  bool has_interface(const std::string& name) override {
    return check_interface_name(name, "").has_value() && Link::open(name, "").has_value();
  }
  Result<std::unique_ptr<Nic>> nic(const std::string& name, const std::string& attempted) override {
    auto link = Link::open(name, attempted);
    if (!link) return std::unexpected(link.error());
    return std::make_unique<LinuxNic>(std::move(*link));
  }

  Result<void> available() override {
    const std::string attempted = "open netmap:";
    const Fd fd(open());
    if (fd) return {};
    if (errno == EACCES || errno == EPERM)
      return fail(Error::Kind::permission, attempted, "{} may not be opened", device_path)
          .hint("run as root, or give the program's group the right: a udev rule KERNEL==\"netmap\", MODE=\"0660\", GROUP=…");
    return fail(Error::Kind::unavailable, attempted, "{}: {}; the netmap module is not loaded", device_path,
                describe_os_error(errno))
        .hint("build it from the sources at github.com/luigirizzo/netmap (./configure && make && make install), then "
              "`modprobe netmap`; docs/ports.md has the steps");
  }
};

std::atomic<System*> chosen{nullptr};

}  // namespace

System& system() noexcept {
  static LinuxSystem real;
  System* const other = chosen.load(std::memory_order_acquire);
  return other != nullptr ? *other : real;
}

void use_system(System* instead) noexcept { chosen.store(instead, std::memory_order_release); }

}  // namespace efio::netmap
