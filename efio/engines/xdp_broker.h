// Internal: efio-broker, seen from a program without privileges. It does for one opening of a port what asks for them: it
// attaches the XDP program, binds sockets and hands them over, puts them where frames go, and changes rules. One connection
// is one opening; what was done for it is undone when it ends.
//
// Messages go over a Unix socket of whole packets: a request, with descriptors (SCM_RIGHTS), and one answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "efio/descriptor.h"
#include "efio/engines/link.h"
#include "efio/engines/xdp_bind.h"
#include "efio/engines/xdp_program.h"
#include "efio/result.h"

namespace efio {

enum class BrokerVerb : std::uint32_t { attach = 1, bind, set_socket, clear_socket, set_rules, promiscuous };

struct BrokerRequest {
  static constexpr std::uint32_t right_version = 2;
  std::uint32_t version = right_version;
  BrokerVerb verb = BrokerVerb::attach;
  char device[16] = {};
  std::int32_t interface = 0;
  std::uint32_t queue = 0;
  std::uint32_t attach = 0;     // an XdpAttach
  std::uint32_t fragments = 0, hardware_time = 0;
  std::uint32_t direction = 0;  // a Direction
  std::uint32_t zero_copy = 0;
  std::uint32_t entries = 0, fill = 0, completion = 0;
  std::uint32_t shared = 0;     // 1: the descriptor is a socket whose memory is shared; 0: it is the memory, of size bytes
  std::uint32_t serial = 0;     // its answer says it again
  std::uint64_t size = 0, chunk = 0;
  char rules[4096] = {};
};
static_assert(std::is_trivially_copyable_v<BrokerRequest>);

struct BrokerAnswer {
  std::uint32_t done = 0;
  std::uint32_t serial = 0;  // the request's
  std::uint32_t kind = 0;  // an Error::Kind
  std::int32_t os = 0;
  std::uint32_t attached = 0;  // an XdpAttach
  std::uint32_t fragments = 0, hardware_time = 0;
  char why[512] = {}, hint[512] = {};
};
static_assert(std::is_trivially_copyable_v<BrokerAnswer>);

// One message each, with one descriptor at most; further ones are closed. False: the other side is gone, or what it sent
// is no such message.
bool send_message(int socket, std::span<const std::byte> bytes, int descriptor) noexcept;
bool receive_message(int socket, std::span<std::byte> bytes, Fd& descriptor) noexcept;
// Copies as much as fits, and ends it with a zero.
void put_text(std::span<char> place, std::string_view text) noexcept;
std::string_view get_text(std::span<const char> place) noexcept;

class XdpBroker : public std::enable_shared_from_this<XdpBroker> {
 public:
  // Errors: device (nobody listens there), permission.
  static Result<std::shared_ptr<XdpBroker>> connect(const std::string& path, const std::string& attempted);

  // What XdpProgram::attach, bind_xdp_socket and Link::hold_promiscuous do, done there. Errors: theirs, and permission
  // (its file does not allow it), device (it has ended).
  Result<std::shared_ptr<XdpProgram>> attach(const Link& link, const XdpProgram::Wish& wish, const std::string& attempted);
  Result<Fd> bind(const XdpBindPlan& plan);
  Result<void> hold_promiscuous(const Link& link, const std::string& attempted);

  // False once it has ended: what it attached is gone. Any thread; one system call.
  bool alive() const noexcept;

 private:
  class Program;
  XdpBroker(Fd socket, std::string path) : socket_(std::move(socket)), path_(std::move(path)) {}
  Result<BrokerAnswer> ask(BrokerRequest request, int descriptor, Fd* received, const std::string& attempted);

  Fd socket_;
  std::string path_;
  std::mutex mutex_;
  std::uint32_t asked_ = 0;  // requests
};

}  // namespace efio
