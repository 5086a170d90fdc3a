// Internal: the XDP program on a device, which gives a queue's frames to its AF_XDP socket or leaves them to the host. One
// a device in this process: several openings share it, and it is detached when the last of them is gone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "efio/descriptor.h"
#include "efio/engines/link.h"
#include "efio/engines/xdp_rules.h"
#include "efio/result.h"

namespace efio {

// Where a program runs: native in the driver, before the kernel makes a packet of its own of the frame; generic in the
// stack, with every driver.
enum class XdpAttach : std::uint8_t { automatic, native, generic };
std::string_view name(XdpAttach attach) noexcept;  // "native"

class XdpBroker;

class XdpProgram {
 public:
  struct Wish {
    XdpAttach attach = XdpAttach::automatic;
    bool fragments = false;  // frames longer than a buffer: the program that takes them must be able to
    bool hardware_time = false;  // before each frame's data the device's time, if it can be had: an efio_xdp_time
    std::shared_ptr<XdpBroker> broker = {};  // who attaches it, instead of this process
  };

  // Attaches the program, or shares the one that this process has attached to the interface; in the network namespace of
  // the calling thread. All frames still go to the host. Any thread.
  // Errors: permission, device (another program is there, it says whose; the driver refuses), usage (shared, and attached
  // otherwise than wished), unavailable (a kernel without it).
  static Result<std::shared_ptr<XdpProgram>> attach(const Link& link, const Wish& wish, const std::string& attempted);

  virtual ~XdpProgram() = default;
  XdpProgram(const XdpProgram&) = delete;
  XdpProgram& operator=(const XdpProgram&) = delete;

  // From now on the frames of this receive queue go to the socket, which has its rx ring. Errors: usage (no such queue),
  // device (the queue has a socket already, here or in another program).
  virtual Result<void> set_socket(unsigned queue, int socket, const std::string& attempted) = 0;
  // Which of the queue's frames its socket gets; before this, those of who had the queue last. Replaced at once: no frame
  // meets half of the old rules and half of the new. At any time, also before the socket is set. Errors: usage, memory.
  virtual Result<void> set_rules(unsigned queue, const XdpRules& rules, const std::string& attempted) = 0;
  // The queue is the host's again, and its rules are forgotten. The former is what a socket that is closed does by itself.
  virtual void clear_socket(unsigned queue) noexcept = 0;

  XdpAttach obtained() const noexcept { return obtained_; }  // native or generic
  bool fragments() const noexcept { return fragments_; }
  bool hardware_time() const noexcept { return hardware_time_; }

 protected:
  XdpProgram() = default;

  XdpAttach obtained_ = XdpAttach::automatic;
  bool fragments_ = false, hardware_time_ = false;
};

// Who has put an XDP program on the interface, for an error: "program 17 (xdp_pass) of firewall, pid 4711". Empty: nobody.
std::string xdp_occupant(int interface);

}  // namespace efio
