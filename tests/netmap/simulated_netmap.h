// A netmap module in this process, behind the engine's seam: the rules and the traps of the genuine one, as its sources
// and runs of it show them. Regions are memfds that every descriptor maps anew; the rings in them are read and written by
// a "kernel" that trusts no one, and only when someone syncs.
//
// What it does as the genuine module does, to whoever is careless:
//   - a sync walks every ring that its descriptor is bound to; poll() sends unless no_tx_poll, and syncs for POLLOUT
//   - TXSYNC answers 0 when it does nothing: a head that moved back, a ring that is busy
//   - tail moves in a sync only; head and cur are checked against what the kernel knows, and reset when they are no indices
//   - ring flags, unsynced slots and heads outlive their writer where the ring does (pipes, veth pairs)
//   - on a link that is administratively down a sync does not come back; deleted, it gives EIO
//   - a mapping keeps its descriptor alive; extra buffers leak unless they are chained again at close
//   - bad indices and lengths give no error: something is sent; fragments are frames of their own on an emulated NIC;
//     what is longer than the MTU vanishes
// What would hang, leak or corrupt a machine is counted in `offences`; a test that is fair to the kernel ends with none.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "efio/engines/netmap_system.h"

namespace efio::test {

struct NicOptions {
  std::size_t rings = 1;
  std::uint32_t slots = 1024;
  std::uint32_t mtu = 1500;
  bool emulated = true;      // through the ordinary driver; else native
  bool completes = true;     // sends at once; else complete() tells when tail may move
  bool counts = true;        // the device counts what it receives
  std::chrono::milliseconds reset{0};  // so long the carrier is away when netmap takes the device, as a PHY's is
};

struct Offences {
  std::uint64_t entered_while_down = 0;  // the thread would have hung
  std::uint64_t bad_slots = 0;           // sent with an index or length that is none
  std::uint64_t bad_frees = 0;           // a buffer was in two places, or in none
  std::uint64_t ring_resets = 0;         // head or cur were no indices (once an opening of a used ring is fair)
  std::uint64_t heads_back = 0;          // head moved back
  std::uint64_t total() const { return entered_while_down + bad_slots + bad_frees + heads_back; }
};

class SimulatedNetmap final : public netmap::System {
 public:
  using Bytes = std::vector<std::byte>;

  SimulatedNetmap();   // in use from here on
  ~SimulatedNetmap() override;

  // --- the machine ---
  void add_nic(const std::string& name, const NicOptions& options = {});
  void add_pair(const std::string& a, const std::string& b, const NicOptions& options = {});  // veth in native mode
  void set_carrier(const std::string& nic, bool up);
  void set_admin(const std::string& nic, bool up);
  void delete_nic(const std::string& nic);
  void set_module_loaded(bool loaded) { loaded_ = loaded; }

  // --- a NIC's wire and host stack ---
  bool deliver(const std::string& nic, std::span<const std::byte> frame, std::size_t ring = 0);  // false: no carrier
  std::optional<Bytes> take(const std::string& nic, std::chrono::milliseconds patience);         // what it sent
  void host_send(const std::string& nic, std::span<const std::byte> frame);
  std::optional<Bytes> host_take(const std::string& nic);
  void complete(const std::string& nic, std::size_t frames);  // where completes is false
  struct NicCounts {
    std::uint64_t received = 0, received_bytes = 0, sent = 0, sent_bytes = 0;
  };
  NicCounts counts(const std::string& nic);
  bool promiscuous(const std::string& nic), offloads_off(const std::string& nic);

  // --- what befalls programs ---
  void be_busy(int syncs) { busy_syncs_ = syncs; }  // so many syncs find the ring in use
  Offences offences();
  std::size_t buffers_in_use(std::uint16_t region);
  std::size_t descriptors();
  std::vector<std::uint64_t> flags();  // with which those were registered that have rings
  std::uint64_t syncs(unsigned long request);

  // poll() of a descriptor, without sleeping.
  int poll_now(int fd, short events);

  // --- System ---
  int open() override;
  void close(int fd) noexcept override;
  int control(int fd, netmap::RequestHeader& request) override;
  int sync(int fd, unsigned long request) noexcept override;
  void* map(int fd, std::size_t size) override;
  void unmap(void* address, std::size_t size) noexcept override;
  bool watch(int epoll, int fd, std::uint32_t events) noexcept override;
  void unwatch(int epoll, int fd) noexcept override;
  bool has_interface(const std::string& name) override;
  Result<std::unique_ptr<netmap::Nic>> nic(const std::string& name, const std::string& attempted) override;
  Result<void> available() override;

  // The kernel's half; simulated_netmap_kernel.h.
  struct Region;
  struct Kring;
  struct Adapter;
  struct Opened;
  struct Device;

 private:
  using Lock = std::unique_lock<std::recursive_mutex>;

  std::shared_ptr<Region> make_region(bool is_private, std::size_t buffers, std::uint32_t most_slots);
  std::shared_ptr<Region> find_region(std::uint16_t number);
  std::shared_ptr<Adapter> find_adapter(const std::string& name, const netmap::RegisterBody& body, int& error);
  std::shared_ptr<Adapter> find_pipe(const std::string& name, std::size_t mark, const netmap::RegisterBody& body, int& error);
  int bind(Opened& opened, netmap::RequestHeader& request);
  void unbind(Opened& opened);
  bool make_rings(Adapter& adapter);
  void drop_rings(Adapter& adapter);
  void notify(Kring& kring);
  int enter(Kring& kring);
  void leave(Kring& kring);
  void sync_tx(Opened& opened, Kring& kring);
  void sync_rx(Opened& opened, Kring& kring);
  bool prologue_tx(Kring& kring);
  bool prologue_rx(Kring& kring);
  void reset(Kring& kring);
  void nic_tx(Adapter& adapter, Kring& kring);
  void nic_rx(Adapter& adapter, Kring& kring);
  void host_tx(Adapter& adapter, Kring& kring);
  void host_rx(Opened& opened, Adapter& adapter, Kring& kring);
  void pipe_tx(Kring& kring);
  void pipe_rx(Kring& kring);
  void switch_tx(Adapter& adapter, Kring& kring);
  void pass_up(Adapter& adapter, Kring& kring);
  bool import(Kring& kring, std::span<const std::byte> frame);
  void monitor(Kring& kring, std::span<const std::byte> frame);
  Bytes frame_at(Kring& kring, std::uint32_t& index, std::uint32_t end, bool join);
  Device& device(const std::string& name);
  bool ready(Opened& opened, bool tx);

  std::recursive_mutex mutex_;
  bool loaded_ = true;
  std::atomic<int> busy_syncs_{0};
  Offences offences_;
  std::map<unsigned long, std::uint64_t> syncs_;
  std::uint16_t next_region_ = 1;
  std::vector<std::weak_ptr<Region>> regions_;
  std::shared_ptr<Region> global_;
  std::map<std::string, std::shared_ptr<Device>> devices_;
  std::map<std::string, std::weak_ptr<Adapter>> adapters_;
  std::map<int, std::shared_ptr<Opened>> opened_;
  std::map<void*, std::shared_ptr<Opened>> mapped_;
};

}  // namespace efio::test
