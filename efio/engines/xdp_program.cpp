// An XDP program is attached through a bpf link: a descriptor that holds the attachment. When its last copy is closed,
// also by SIGKILL, the kernel detaches the program, so that nothing is left behind. While it lives nobody else can attach
// or replace a program (EBUSY), and neither can we where another is: through a link, or through netlink as `ip link set …
// xdp` does, which stays until it is taken off. A link may put another program in its own place at any time. When the
// interface is deleted the link stays, without one.
#include "efio/engines/xdp_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <vector>

#include "efio/engines/netdev.h"
#include "efio/engines/xdp_bind.h"
#include "efio/engines/xdp_broker.h"
#include "efio/engines/xdp_kernel.h"
#include "efio/fail.h"
#include "efio_xdp_kernel.skel.h"
#include "efio_xdp_kernel_time.skel.h"

namespace efio {

namespace {

constexpr std::uint32_t bound_to_device = 1U << 6;  // BPF_F_XDP_DEV_BOUND_ONLY, Linux 6.3
constexpr std::size_t most_log = 4096;  // of libbpf's complaints, for an error

// libbpf prints its complaints unless told otherwise, for the whole process: they are caught while we call it.
class QuietLibbpf {
 public:
  QuietLibbpf() : before_(libbpf_set_print(keep)) { said().clear(); }
  ~QuietLibbpf() { libbpf_set_print(before_); }
  QuietLibbpf(const QuietLibbpf&) = delete;
  QuietLibbpf& operator=(const QuietLibbpf&) = delete;

  // The last line that it said.
  static std::string last_line() {
    std::string text = said();
    while (!text.empty() && text.back() == '\n') text.pop_back();
    const auto line = text.rfind('\n');
    return line == std::string::npos ? text : text.substr(line + 1);
  }

 private:
  static std::string& said() {
    thread_local std::string text;
    return text;
  }
  [[gnu::format(printf, 2, 0)]] static int keep(libbpf_print_level level, const char* format, va_list arguments) {
    if (level != LIBBPF_WARN) return 0;
    std::array<char, 512> line;
    const int length = std::vsnprintf(line.data(), line.size(), format, arguments);
    if (length > 0 && said().size() < most_log) said() += line.data();
    return length;
  }
  libbpf_print_fn_t before_;
};

// Of a program's skeleton, which bpftool has made of it.
template <class Skeleton>
struct Destroy {
  void operator()(Skeleton* skeleton) const noexcept { Skeleton::destroy(skeleton); }
};

Fd copy_of(int descriptor) { return Fd(descriptor < 0 ? -1 : ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0)); }

Result<void> check_queue(unsigned queue, const std::string& attempted) {
  if (queue < EFIO_XDP_QUEUES) return {};
  return fail(Error::Kind::usage, attempted, "queue {}: the XDP program knows {}", queue, +EFIO_XDP_QUEUES);
}

// "name, pid 17" of a process that holds the program or its link, as far as /proc lets us see.
std::string holder_of(std::uint32_t program) {
  const auto wanted = fmt::format("prog_id:\t{}", program);
  std::error_code error;
  for (const auto& process : std::filesystem::directory_iterator("/proc", error)) {
    const auto pid = process.path().filename().string();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    for (const auto& entry : std::filesystem::directory_iterator(process.path() / "fdinfo", error)) {
      std::ifstream file(entry.path());
      for (std::string line; std::getline(file, line);) {
        if (line != wanted) continue;
        std::string command;
        std::getline(std::ifstream(process.path() / "comm"), command);
        return fmt::format("{}, pid {}", command, pid);
      }
    }
  }
  return {};
}

}  // namespace

std::string_view name(XdpAttach attach) noexcept {
  switch (attach) {
    case XdpAttach::native: return "native";
    case XdpAttach::generic: return "generic";
    case XdpAttach::automatic: break;
  }
  return "auto";
}

std::string xdp_occupant(int interface) {
  bpf_xdp_query_opts found{};
  found.sz = sizeof found;
  if (bpf_xdp_query(interface, 0, &found) != 0) return {};
  std::uint32_t id = found.prog_id;
  for (const auto other : {found.drv_prog_id, found.skb_prog_id, found.hw_prog_id})
    if (id == 0) id = other;
  if (id == 0) return {};
  std::string title = fmt::format("program {}", id);
  if (const Fd program(bpf_prog_get_fd_by_id(id)); program) {  // wants CAP_SYS_ADMIN
    bpf_prog_info info{};
    std::uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(program.get(), &info, &size) == 0 && info.name[0] != 0)
      title += fmt::format(" ({})", info.name);
  }
  const auto holder = holder_of(id);
  return holder.empty() ? title : title + " of " + holder;
}

namespace {

// An interface, whatever becomes of its name; numbers are given once a namespace.
struct Key {
  std::uint64_t network_namespace = 0;
  int interface = 0;
  auto operator<=>(const Key&) const = default;
};

class LocalProgram final : public XdpProgram {
 public:
  Result<void> load(bool fragments, bool hardware_time, const std::string& attempted);
  Result<void> attach_to(const Link& link, const Wish& wish, const std::string& attempted);
  void add_hardware_time(const std::string& attempted);
  Result<void> adjust(const Wish& wish, const std::string& attempted);
  bool attached() const noexcept;

  Result<void> set_socket(unsigned queue, int socket, const std::string& attempted) override;
  Result<void> set_rules(unsigned queue, const XdpRules& rules, const std::string& attempted) override;
  void clear_socket(unsigned queue) noexcept override;

 private:
  template <class Skeleton>
  Result<void> load(bool fragments, int bound_to, const std::string& attempted);

  std::string device_;
  int interface_ = 0;
  Fd program_, sockets_, rule_sets_, link_;
};

// The programs of this process. An entry lives until its program is detached, so that nobody finds the device occupied
// by what is just going.
class Registry {
 public:
  static Registry& get() {
    static Registry* registry = new Registry;  // ports may outlive static objects
    return *registry;
  }

  template <class Make>
  Result<std::shared_ptr<LocalProgram>> find_or_make(const Key& key, Make&& make) {
    std::shared_ptr<LocalProgram> program;  // before the lock, which its end takes too
    std::unique_lock lock(mutex_);
    for (;;) {
      const auto found = programs_.find(key);
      if (found == programs_.end()) break;
      if (program = found->second.lock(); program) {
        if (program->attached()) return program;
        programs_.erase(found);  // the interface was deleted, and its number is another's
        break;
      }
      gone_.wait(lock);
    }
    Result<std::unique_ptr<LocalProgram>> made = make();
    if (!made) return std::unexpected(made.error());
    std::shared_ptr<LocalProgram> fresh(made->release(), [this, key](LocalProgram* last) { forget(key, last); });
    programs_[key] = fresh;
    return fresh;
  }

  std::mutex& mutex() noexcept { return mutex_; }

 private:
  void forget(const Key& key, LocalProgram* last) {
    const std::scoped_lock lock(mutex_);
    delete last;
    if (const auto found = programs_.find(key); found != programs_.end() && found->second.expired()) programs_.erase(found);
    gone_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable gone_;
  std::map<Key, std::weak_ptr<LocalProgram>> programs_;
};

// Loads one of the programs; a second time with the maps that there are.
template <class Skeleton>
Result<void> LocalProgram::load(bool fragments, int bound_to, const std::string& attempted) {
  const QuietLibbpf quiet;
  const std::unique_ptr<Skeleton, Destroy<Skeleton>> skeleton(Skeleton::open());
  if (!skeleton) return fail(errno, "{}: XDP program", attempted);
  bpf_program__set_autoload(skeleton->progs.efio_xdp, !fragments);
  bpf_program__set_autoload(skeleton->progs.efio_xdp_frags, fragments);
  bpf_program* program = fragments ? skeleton->progs.efio_xdp_frags : skeleton->progs.efio_xdp;
  if (bound_to != 0) {
    bpf_program__set_ifindex(program, static_cast<std::uint32_t>(bound_to));
    bpf_program__set_flags(program, bpf_program__flags(program) | bound_to_device);
  }
  if (sockets_ && (bpf_map__reuse_fd(skeleton->maps.efio_sockets, sockets_.get()) != 0 ||
                   bpf_map__reuse_fd(skeleton->maps.efio_rule_sets, rule_sets_.get()) != 0))
    return fail(errno, "{}: XDP maps", attempted);
  const int error = -Skeleton::load(skeleton.get());
  if (error == EPERM)
    return fail(Error::Kind::permission, attempted, "loading an XDP program needs CAP_BPF and CAP_NET_ADMIN")
        .hint("{}", xdp_privilege_hint());
  if (error != 0)
    return fail(Error::Kind::unavailable, attempted, "the kernel does not load our XDP program: {} ({})",
                describe_os_error(error), QuietLibbpf::last_line())
        .hint("Linux 5.18 or later; packet: needs none");
  Fd loaded = copy_of(bpf_program__fd(program));
  if (!sockets_) sockets_ = copy_of(bpf_map__fd(skeleton->maps.efio_sockets));
  if (!rule_sets_) rule_sets_ = copy_of(bpf_map__fd(skeleton->maps.efio_rule_sets));
  if (!loaded || !sockets_ || !rule_sets_) return fail(errno, "{}: XDP program", attempted);
  program_ = std::move(loaded);
  return {};
}

Result<void> LocalProgram::load(bool fragments, bool hardware_time, const std::string& attempted) {
  auto done = hardware_time ? load<efio_xdp_kernel_time>(fragments, interface_, attempted) : load<efio_xdp_kernel>(fragments, 0, attempted);
  if (!done) return done;
  fragments_ = fragments;
  hardware_time_ = hardware_time;
  return {};
}

Result<void> LocalProgram::attach_to(const Link& link, const Wish& wish, const std::string& attempted) {
  device_ = link.name();
  interface_ = link.index();
  if (auto ok = load(wish.fragments, false, attempted); !ok) return ok;
  std::vector<XdpAttach> ways{wish.attach};
  if (wish.attach == XdpAttach::automatic) ways = {XdpAttach::native, XdpAttach::generic};
  int error = 0;
  for (const auto way : ways) {
    bpf_link_create_opts options{};
    options.sz = sizeof options;
    options.flags = way == XdpAttach::native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
    link_ = Fd(bpf_link_create(program_.get(), link.index(), BPF_XDP, &options));
    error = errno;
    if (link_) {
      obtained_ = way;
      return {};
    }
    if (error == EBUSY || error == EPERM) break;
  }
  if (error == EPERM)
    return fail(Error::Kind::permission, attempted, "attaching an XDP program needs CAP_NET_ADMIN").hint("{}", xdp_privilege_hint());
  const auto occupant = xdp_occupant(link.index());
  if (occupant.find("(efio_xdp") != std::string::npos)
    return fail(Error::Kind::device, attempted, "another process has {} open: {}", device_, occupant)
        .hint("end it, or open both with broker=, then each may have queues of its own");
  if (!occupant.empty())
    return fail(Error::Kind::device, attempted, "{} has an XDP program already: {}", device_, occupant)
        .hint("end that program, or `ip link set {0} xdp off; ip link set {0} xdpgeneric off` where none is running", device_);
  if (wish.attach == XdpAttach::native && error == EOPNOTSUPP)
    return fail(Error::Kind::unavailable, attempted, "the driver of {} runs no XDP program", device_).hint("attach=generic");
  auto failure = fail(error, "{}: attach the XDP program to {}", attempted, device_);
  if (wish.fragments) return std::move(failure).hint("a smaller MTU needs no fragments; attach=generic");
  return std::move(failure).hint("the driver may want an MTU below a page (`ip link set {} mtu 1500`); attach=generic", device_);
}

// For a further opening of the same device.
Result<void> LocalProgram::adjust(const Wish& wish, const std::string& attempted) {
  if (wish.attach != XdpAttach::automatic && wish.attach != obtained_)
    return fail(Error::Kind::usage, attempted, "this program has {} open already, with attach={}", device_, name(obtained_))
        .hint("the same attach=, or none");
  if (wish.fragments && !fragments_) {
    auto ok = load(true, hardware_time_, attempted);
    if (!ok) return ok;
    if (bpf_link_update(link_.get(), program_.get(), nullptr) != 0) {
      fragments_ = false;
      return fail(Error::Kind::device, attempted, "{} is open already without fragments, and its driver refuses them", device_)
          .hint("an MTU that a frame of the pool has room for");
    }
  }
  if (wish.hardware_time && !hardware_time_) add_hardware_time(attempted);
  return {};
}

// Puts the program that asks for times in the place of the other, where the driver knows any and takes it.
void LocalProgram::add_hardware_time(const std::string& attempted) {
  if (obtained_ != XdpAttach::native || !has_xdp_hardware_time(interface_)) return;
  Fd before = copy_of(program_.get());
  if (!load(fragments_, true, attempted)) return;
  if (bpf_link_update(link_.get(), program_.get(), nullptr) == 0) return;
  program_ = std::move(before);
  hardware_time_ = false;
}

bool LocalProgram::attached() const noexcept {
  bpf_link_info info{};
  std::uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(link_.get(), &info, &size) == 0 && info.xdp.ifindex != 0;
}

Result<void> LocalProgram::set_socket(unsigned queue, int socket, const std::string& attempted) {
  if (auto ok = check_queue(queue, attempted); !ok) return ok;
  if (bpf_map_update_elem(sockets_.get(), &queue, &socket, BPF_NOEXIST) == 0) return {};
  if (errno == EEXIST)
    return fail(Error::Kind::device, attempted, "queue {} of {} is open for rx already", queue, device_)
        .hint("a queue has one receiver; queue= names another");
  return fail(errno, "{}: queue {}", attempted, queue);
}

Result<void> LocalProgram::set_rules(unsigned queue, const XdpRules& rules, const std::string& attempted) {
  if (auto ok = check_queue(queue, attempted); !ok) return ok;
  if (rules.everything()) {
    if (bpf_map_delete_elem(rule_sets_.get(), &queue) == 0 || errno == ENOENT) return {};
    return fail(errno, "{}: rules of queue {}", attempted, queue);
  }
  // A map of its own, put in place when it is complete.
  auto set = std::make_unique<efio_xdp_rules>();
  set->count = static_cast<std::uint32_t>(rules.rules().size());
  std::ranges::copy(rules.rules(), set->rules);
  const std::uint32_t only = 0;
  const Fd map(bpf_map_create(BPF_MAP_TYPE_ARRAY, "efio_rules", sizeof only, sizeof *set, 1, nullptr));
  const int descriptor = map.get();
  if (!map || bpf_map_update_elem(descriptor, &only, set.get(), BPF_ANY) != 0 ||
      bpf_map_update_elem(rule_sets_.get(), &queue, &descriptor, BPF_ANY) != 0)
    return fail(errno, "{}: rules of queue {}", attempted, queue);
  return {};
}

void LocalProgram::clear_socket(unsigned queue) noexcept {
  (void)bpf_map_delete_elem(sockets_.get(), &queue);
  (void)bpf_map_delete_elem(rule_sets_.get(), &queue);
}

}  // namespace

Result<std::shared_ptr<XdpProgram>> XdpProgram::attach(const Link& link, const Wish& wish, const std::string& attempted) {
  if (wish.broker) return wish.broker->attach(link, wish, attempted);
  struct stat here {};
  if (::stat("/proc/thread-self/ns/net", &here) != 0) return fail(errno, "{}: network namespace", attempted);
  auto& registry = Registry::get();
  auto program = registry.find_or_make({here.st_ino, link.index()}, [&]() -> Result<std::unique_ptr<LocalProgram>> {
    auto made = std::make_unique<LocalProgram>();
    if (auto ok = made->attach_to(link, wish, attempted); !ok) return std::unexpected(ok.error());
    return made;
  });
  if (!program) return std::unexpected(program.error());
  const std::scoped_lock lock(registry.mutex());
  if (auto ok = (*program)->adjust(wish, attempted); !ok) return std::unexpected(ok.error());
  return *program;
}

}  // namespace efio
