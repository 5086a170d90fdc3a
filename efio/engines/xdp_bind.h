// Internal: making an AF_XDP socket and binding it to a queue, in one step: what asks for a privilege, and what efio-broker
// therefore does for a program without.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "efio/descriptor.h"
#include "efio/port.h"
#include "efio/result.h"

namespace efio {

class XdpBroker;

struct XdpBindPlan {
  std::string attempted;  // "open xdp:eth0", for errors
  std::string device;
  int interface = 0;
  unsigned queue = 0;
  Direction direction = Direction::rx;  // one of the two
  bool zero_copy = false, fragments = false;
  std::uint32_t entries = 0;            // of the ring of descriptors
  std::uint32_t fill = 0, completion = 0;  // of the queue's rings; 0: it has them already
  int shared_with = -1;                 // a socket whose memory it uses, and whose rings too on the same queue
  // Else the memory to register, whole frames of `chunk` bytes, and the descriptor that it is a mapping of.
  std::byte* memory = nullptr;
  std::size_t size = 0, chunk = 0;
  int memfd = -1;
  std::shared_ptr<XdpBroker> broker;    // who does it, instead of this process
};

// The socket is bound, and its rings wait to be mapped. Errors: unavailable, permission, memory (the limit of locked
// memory), device (os EBUSY: the queue is in use), usage.
Result<Fd> bind_xdp_socket(const XdpBindPlan& plan);

// How to get what xdp: needs, for the hints of errors.
std::string xdp_privilege_hint();

// A socket that is not bound. Errors: unavailable, permission.
Result<Fd> open_xdp_socket(const std::string& attempted);

}  // namespace efio
