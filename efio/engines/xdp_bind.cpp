// The order is the kernel's: memory and rings are set up, then the socket is bound to a queue, and nothing of it can be
// changed later. A socket that shares the memory of another can have no flags of its own.
#include "efio/engines/xdp_bind.h"

#include <linux/if_xdp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "efio/engines/xdp_broker.h"
#include "efio/fail.h"

namespace efio {

namespace {

// Newer than some systems' linux/if_xdp.h; a kernel that does not know it says so.
constexpr std::uint16_t use_fragments = 1 << 4;  // XDP_USE_SG, Linux 6.6

template <class T>
Result<void> set_option(const Fd& socket, int option, const T& value, const char* name, const std::string& attempted) {
  if (::setsockopt(socket.get(), SOL_XDP, option, &value, sizeof value) == 0) return {};
  return fail(errno, "{}: {}", attempted, name);
}

// What a socket that was just closed had locked is given back by a work queue, a moment later; as long we try again.
constexpr int memory_tries = 25;
constexpr auto memory_pause = std::chrono::milliseconds(20);

Result<void> register_memory(const Fd& socket, const XdpBindPlan& plan) {
  xdp_umem_reg memory{};
  memory.addr = reinterpret_cast<std::uint64_t>(plan.memory);
  memory.len = plan.size;
  memory.chunk_size = static_cast<std::uint32_t>(plan.chunk);
  rlimit limit{};
  for (int tries = 1;; ++tries) {
    if (::setsockopt(socket.get(), SOL_XDP, XDP_UMEM_REG, &memory, sizeof memory) == 0) return {};
    const int error = errno;
    if (error != ENOBUFS || ::getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
      return fail(error, "{}: XDP_UMEM_REG", plan.attempted);
    if (plan.size > limit.rlim_cur || tries == memory_tries) break;
    std::this_thread::sleep_for(memory_pause);
  }
  return fail(Error::Kind::memory, plan.attempted, "{} bytes of frames are to be locked in memory, and the user's limit is {}",
              plan.size, limit.rlim_cur)
      .hint("`ulimit -l` of {} or more, CAP_IPC_LOCK, or less memory (frames=, ring=)", (plan.size + 1023) / 1024);
}

Result<void> make_rings(const Fd& socket, const XdpBindPlan& plan) {
  if (plan.fill != 0)
    if (auto ok = set_option(socket, XDP_UMEM_FILL_RING, plan.fill, "XDP_UMEM_FILL_RING", plan.attempted); !ok) return ok;
  if (plan.completion != 0)
    if (auto ok = set_option(socket, XDP_UMEM_COMPLETION_RING, plan.completion, "XDP_UMEM_COMPLETION_RING", plan.attempted); !ok)
      return ok;
  return plan.direction == Direction::rx ? set_option(socket, XDP_RX_RING, plan.entries, "XDP_RX_RING", plan.attempted)
                                         : set_option(socket, XDP_TX_RING, plan.entries, "XDP_TX_RING", plan.attempted);
}

}  // namespace

std::string xdp_privilege_hint() {
  return "run as root, or `sudo setcap cap_net_raw,cap_net_admin,cap_bpf+ep PROGRAM`, or broker= with an efio-broker";
}

Result<Fd> open_xdp_socket(const std::string& attempted) {
  Fd fd(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (fd) return fd;
  if (errno == EAFNOSUPPORT)
    return fail(Error::Kind::unavailable, attempted, "this kernel has no AF_XDP").hint("CONFIG_XDP_SOCKETS, or packet:");
  if (errno == EPERM)
    return fail(Error::Kind::permission, attempted, "AF_XDP needs root or CAP_NET_RAW").hint("{}", xdp_privilege_hint());
  return fail(errno, "{}: AF_XDP", attempted);
}

Result<Fd> bind_xdp_socket(const XdpBindPlan& plan) {
  if (plan.broker) return plan.broker->bind(plan);
  auto opened = open_xdp_socket(plan.attempted);
  if (!opened) return std::unexpected(opened.error());
  const bool registers = plan.shared_with < 0;
  if (registers)
    if (auto ok = register_memory(*opened, plan); !ok) return std::unexpected(ok.error());
  if (auto ok = make_rings(*opened, plan); !ok) return std::unexpected(ok.error());

  sockaddr_xdp address{};
  address.sxdp_family = AF_XDP;
  address.sxdp_flags = XDP_SHARED_UMEM;
  if (registers)
    address.sxdp_flags = static_cast<std::uint16_t>((plan.zero_copy ? XDP_ZEROCOPY : XDP_COPY) | XDP_USE_NEED_WAKEUP |
                                                    (plan.fragments ? use_fragments : 0));
  address.sxdp_ifindex = static_cast<std::uint32_t>(plan.interface);
  address.sxdp_queue_id = plan.queue;
  address.sxdp_shared_umem_fd = static_cast<std::uint32_t>(plan.shared_with);
  if (::bind(opened->get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return opened;
  return fail(errno, "{}: bind to queue {} of {}", plan.attempted, plan.queue, plan.device);
}

}  // namespace efio
