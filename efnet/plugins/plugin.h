#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "efio/port.h"
#include "efio/result.h"
#include "efio/stats.h"
#include "efnet/plugins/packets.h"

// A plugin stands between a port and a program, and sees each batch on its way in and on its way out. It is a class in
// the program, or in a shared object that is loaded by name; docs/plugins.md shows both.

namespace efnet {

// Where a plugin is at work: which port, which way, when; and what it may do besides looking at the batch. Void when
// the call that it was given to returns.
class Gate {
 public:
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  virtual ~Gate() = default;

  // What the program says that the time is, best of a clock that does not jump (efio::Clock::monotonic()).
  std::chrono::nanoseconds now() const noexcept { return now_; }
  std::uint32_t port() const noexcept { return port_; }              // as the program numbers its ports
  efio::Direction direction() const noexcept { return direction_; }  // rx: ingate, tx: outgate, both: tick
  bool is_in() const noexcept { return direction_ == efio::Direction::rx; }

  // A frame of the plugin's own, claimed from the port's outgoing queue: `length` bytes to be filled before the next
  // call of make() or release(), or the gate's end. It goes out through the outgates of the plugins before this one,
  // and counts as made. Empty, and counted as such, where the queue is full or the frame too long for it.
  virtual std::span<std::byte> make(std::size_t length) noexcept = 0;

  // A frame that was taken goes out of the port, through the outgates of the plugins before this one. False, and it
  // stays with the plugin, where the queue is full or the frame too long for it.
  virtual bool release(efio::Frame& frame) noexcept = 0;
  // A frame that was taken is given up, and counted under the reason at the port's outgoing queue.
  virtual void discard(efio::Frame frame, efio::DropReason reason) noexcept = 0;

  // A frame that was taken goes on inwards, as if it came in now: through the ingates of the plugins behind this one,
  // and to the program, which fetches it by Pipeline::returned(). False, and it stays with the plugin, where as many
  // wait for that as a batch holds.
  virtual bool release_inwards(efio::Frame& frame) noexcept = 0;

 protected:
  Gate() = default;

  std::chrono::nanoseconds now_{};
  std::uint32_t port_ = 0;
  efio::Direction direction_ = efio::Direction::both;
};

class Plugin {
 public:
  Plugin() = default;
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;
  virtual ~Plugin() = default;

  virtual std::string_view name() const noexcept = 0;  // "filter"; valid as long as the plugin

  // A batch comes in: first plugin to last. What is done to no frame passes.
  virtual void ingate(PacketBatch& packets, Gate& gate) noexcept {
    (void)packets;
    (void)gate;
  }
  // A batch goes out: last plugin to first.
  virtual void outgate(PacketBatch& packets, Gate& gate) noexcept {
    (void)packets;
    (void)gate;
  }
  // Time has passed: what the program calls now and then, also when there is no traffic.
  virtual void tick(Gate& gate) noexcept { (void)gate; }
};

// ---- Shared objects ----

inline constexpr std::uint32_t plugin_abi = 2;  // grows with every change to the layouts and virtual functions above

// What a shared object says of itself. The sizes tell a header of another version, or another compiler's idea of one.
struct PluginModule {
  std::uint32_t abi = plugin_abi;
  std::uint32_t size = sizeof(PluginModule);
  std::uint32_t slot_size = sizeof(efio::Slot);
  std::uint32_t frame_size = sizeof(efio::Frame);
  std::uint32_t batch_size = sizeof(PacketBatch);
  std::uint32_t gate_size = sizeof(Gate);
  std::uint32_t plugin_size = sizeof(Plugin);
  std::uint32_t result_size = sizeof(efio::Result<std::unique_ptr<Plugin>>);
  std::uint32_t drop_reasons = efio::drop_reasons;
  const char* description = "";  // one line, for people
  // A plugin from what followed its name in the text that asked for it ("rate=10k" of "limit:rate=10k").
  efio::Result<std::unique_ptr<Plugin>> (*create)(std::string_view arguments) = nullptr;
};

// The name of the one function that the loader looks for, and its type.
inline constexpr const char* plugin_factory = "efnet_plugin";
using PluginFactory = const PluginModule*();

}  // namespace efnet

// In one source file of a shared object:   EFNET_PLUGIN("counts what it sees", create);
#define EFNET_PLUGIN(description_text, create_function)                                                      \
  extern "C" __attribute__((visibility("default"))) const efnet::PluginModule* efnet_plugin() {              \
    static const efnet::PluginModule module{.description = (description_text), .create = (create_function)}; \
    return &module;                                                                                          \
  }                                                                                                          \
  static_assert(true)
