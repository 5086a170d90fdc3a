// Internal: the two queues of packet:, each a socket of its own (packet_rx.cpp, packet_tx.cpp), and what packet.cpp asks
// them for.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "efio/descriptor.h"
#include "efio/engines/engine.h"
#include "efio/engines/link.h"

struct tpacket3_hdr;

namespace efio {

struct PacketSetup {
  std::string attempted;  // "open packet:eth0", for errors
  std::shared_ptr<Link> link;
  std::shared_ptr<Pool> pool;  // what sends from, what take() copies into
  std::size_t slots = 0;     // of each queue
  std::size_t capacity = 0;  // the longest frame
  std::size_t block = 0, blocks = 0;
  bool offload = false;
  bool bypass = true;        // send past the queueing discipline
  bool hardware_time = false;
};

// An AF_PACKET socket that receives nothing before it is bound. Errors: permission, with what to do about it.
Result<Fd> open_packet_socket(const std::string& attempted);
// protocol: 0, or ETH_P_ALL to receive.
Result<void> bind_packet_socket(const Fd& socket, const Link& link, int protocol, const std::string& attempted);

class PacketRx final : public RxQueue {
 public:
  static Result<std::unique_ptr<PacketRx>> create(const PacketSetup& setup, std::string label, std::size_t index);
  ~PacketRx() override;

  // While held, what arrives is neither received nor counted.
  Result<void> hold(const std::string& attempted);
  Result<void> join_fanout(std::uint32_t argument, const std::string& attempted);  // of PACKET_FANOUT
  Result<std::uint16_t> fanout_group(const std::string& attempted) const;
  Result<void> resume(const std::string& attempted);
  Result<void> start(const Link& link, const std::string& attempted);  // binds: frames come from here on
  void close();

  void sample() noexcept override;
  std::size_t memory() const noexcept { return kernel_ring_.size() + slots_.bytes(); }

 private:
  struct Losses {
    std::uint64_t oversize = 0, invalid = 0;
    std::uint64_t unwritten = 0;  // places in a block that hold no frame
  };

  void refill(std::size_t want) noexcept override;
  WaitSource wait_source() override;
  bool has_work() const override;
  bool arm(std::uint64_t& deadline) override;

  void give_back() noexcept;
  bool open_next_block() noexcept;
  bool adopt(Slot& slot, const tpacket3_hdr& header, Losses& losses) noexcept;
  void look_around() noexcept;
  void watch_link() noexcept;
  std::byte* block(std::size_t number) const noexcept { return kernel_ring_.data() + number * block_size_; }

  std::shared_ptr<Link> link_;
  Fd socket_;
  Mapping kernel_ring_;
  SlotRing slots_;
  bool offload_ = false;
  std::size_t block_size_ = 0;

  std::size_t oldest_ = 0;                   // block that is to be given back first
  std::size_t reading_ = 0;                  // block that is read, or looked at next
  std::size_t held_ = 0;                     // blocks from oldest_ on that are read whole and not given back
  std::uint32_t left_ = 0;                   // frames not yet read of the block that is read
  const std::byte* next_frame_ = nullptr;    // header of the first of them
  std::vector<std::uint32_t> block_ends_;    // position behind the last slot of each block held
  std::uint64_t taken_ = 0;                  // frames read from the kernel's ring
  std::uint64_t kernel_stored_ = 0;          // frames that the kernel has put there
  std::uint64_t look_again_ = 0;             // Clock::monotonic
};

class PacketTx final : public TxQueue {
 public:
  static Result<std::unique_ptr<PacketTx>> create(const PacketSetup& setup, std::string label, std::size_t index);
  void close() { socket_ = Fd(); }
  std::size_t memory() const noexcept {
    return owned_.bytes() + messages_.size() * (sizeof(mmsghdr) + 2 * sizeof(iovec));
  }

 private:
  struct Verdict {
    bool stays = false;  // it is to be sent again,
    bool wait = false;   // but not now
    DropReason reason = DropReason::refused;  // else
  };
  static constexpr int too_short = -1;  // an errno of our own

  void transmit() noexcept override;
  void reclaim() noexcept override;
  WaitSource wait_source() override;
  bool arm(std::uint64_t& deadline) override;

  std::uint32_t prepare(std::uint32_t most) noexcept;
  std::uint32_t frame_slots() const noexcept;
  int send_alone(std::uint32_t slots) noexcept;
  Verdict judge(int error) noexcept;
  bool link_is_down() noexcept;

  std::shared_ptr<Link> link_;
  Fd socket_;
  OwnedRing owned_;
  bool offload_ = false;
  // For each slot the message that sends it; with offload the first of its two parts is the header below.
  std::vector<mmsghdr> messages_;
  std::vector<iovec> parts_;
  std::vector<std::byte> headers_;
  std::uint64_t ask_link_again_ = 0;  // Clock::monotonic
};

}  // namespace efio
