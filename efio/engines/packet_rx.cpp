// Receiving through TPACKET_V3 (Documentation/networking/packet_mmap.rst). The ring is an array of blocks in memory that
// the kernel shares with us. It fills one block after the other with frames of any length, each behind a tpacket3_hdr
// that says where the next one lies, and hands a block over as a whole when it is full or `retire` has passed. We read
// it, lend slots that point into it, and hand it back when all of them are finished: blocks go back in order.
//
//   block: tpacket_block_desc | frame | frame | …      frame: tpacket3_hdr … reserve … virtio_net_hdr | data
//                                                             ^ Slot::buffer                            ^ + Slot::offset
//
// A header that has been read is of no more use to anyone, so it serves as headroom. What the kernel keeps out of the
// data is put back: the VLAN tag it has taken off, and the checksum that it leaves to a device (CHECKSUM_PARTIAL); where
// that goes only the virtio_net_hdr says, which is why the socket always has one.
//
// PACKET_STATISTICS counts, since it was last read, tp_packets (stored and dropped) and tp_drops (for want of room).
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/net_tstamp.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "efio/engines/packet.h"
#include "efio/engines/vnet.h"
#include "efio/fail.h"

namespace efio {

namespace {

constexpr unsigned reserve = 48;    // brings the headroom to 128 bytes or more, also with a VLAN tag put back
constexpr std::uint16_t least_headroom = 128;
constexpr unsigned retire_ms = 1;   // the least there is
constexpr std::size_t frames_at_least = 64;  // a call of refill() is worth so many
constexpr std::uint64_t look_interval_ns = 5'000'000;
constexpr std::uint64_t down_interval_ns = 50'000'000;  // between looks at a link that is down
constexpr std::size_t mac_addresses = 12;
constexpr std::size_t vlan_tag = 4;
// Where tpacket_rcv() in af_packet.c puts an Ethernet frame: its header, the sender's address and room for 16 bytes of
// link header, each rounded up to 16; then the reserve and the offload header; there begins the network header.
constexpr std::size_t round_up_16(std::size_t value) { return (value + 15) / 16 * 16; }
constexpr std::size_t usual_offset = round_up_16(round_up_16(sizeof(tpacket3_hdr)) + sizeof(sockaddr_ll) + 16) + reserve +
                                     vnet_header_size - ETH_HLEN;
static_assert(usual_offset >= least_headroom + vlan_tag);

template <class T>
Result<void> set_option(const Fd& socket, int option, const T& value, const char* name, const std::string& attempted) {
  if (::setsockopt(socket.get(), SOL_PACKET, option, &value, sizeof value) == 0) return {};
  return fail(errno, "{}: {}", attempted, name);
}

// The word is shared with the kernel.
std::uint32_t& status_of(std::byte* block) noexcept {
  return reinterpret_cast<tpacket_block_desc*>(block)->hdr.bh1.block_status;
}
bool is_ours(std::byte* block) noexcept {
  return (__atomic_load_n(&status_of(block), __ATOMIC_ACQUIRE) & TP_STATUS_USER) != 0;
}

void put_tag_back(Slot& slot, std::uint16_t protocol, std::uint16_t control) noexcept {
  std::byte* old_start = slot.buffer + slot.offset;
  slot.prepend(vlan_tag);
  std::byte* start = slot.buffer + slot.offset;
  std::memmove(start, old_start, mac_addresses);
  const std::array<std::uint16_t, 2> tag{htons(protocol), htons(control)};
  std::memcpy(start + mac_addresses, tag.data(), sizeof tag);
}

}  // namespace

Result<std::unique_ptr<PacketRx>> PacketRx::create(const PacketSetup& setup, std::string label, std::size_t index) {
  auto queue = std::make_unique<PacketRx>();
  auto socket = open_packet_socket(setup.attempted);
  if (!socket) return std::unexpected(socket.error());
  queue->socket_ = std::move(*socket);
  queue->link_ = setup.link;
  queue->offload_ = setup.offload;
  queue->label_ = std::move(label);
  queue->index_ = index;
  queue->headroom_ = least_headroom;
  queue->capacity_ = setup.capacity;
  queue->packed_ = true;

  const int version = TPACKET_V3;
  const int on = 1;
  const unsigned room = reserve;
  auto set = [&](int option, const auto& value, const char* name) {
    return set_option(queue->socket_, option, value, name, setup.attempted);
  };
  if (auto ok = set(PACKET_VERSION, version, "TPACKET_V3"); !ok) return std::unexpected(ok.error());
  if (auto ok = set(PACKET_RESERVE, room, "PACKET_RESERVE"); !ok) return std::unexpected(ok.error());
  if (auto ok = set(PACKET_VNET_HDR, on, "PACKET_VNET_HDR"); !ok) return std::unexpected(ok.error());
  if (auto ok = set(PACKET_IGNORE_OUTGOING, on, "PACKET_IGNORE_OUTGOING (Linux 4.20)"); !ok) return std::unexpected(ok.error());
  if (setup.hardware_time) {
    const int wanted = SOF_TIMESTAMPING_RAW_HARDWARE;
    if (auto ok = set(PACKET_TIMESTAMP, wanted, "PACKET_TIMESTAMP"); !ok) return std::unexpected(ok.error());
  }

  tpacket_req3 ring{};
  ring.tp_block_size = static_cast<unsigned>(setup.block);
  ring.tp_block_nr = static_cast<unsigned>(setup.blocks);
  ring.tp_frame_size = 2048;  // of no meaning in this version, but checked
  ring.tp_frame_nr = ring.tp_block_size / ring.tp_frame_size * ring.tp_block_nr;
  ring.tp_retire_blk_tov = retire_ms;
  const std::size_t bytes = setup.block * setup.blocks;
  void* memory = MAP_FAILED;
  if (::setsockopt(queue->socket_.get(), SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) == 0)
    memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, queue->socket_.get(), 0);
  if (memory == MAP_FAILED)
    return fail(errno, "{}: a ring of {} blocks of {} bytes", setup.attempted, setup.blocks, setup.block)
        .hint("smaller or fewer: block=, blocks=");
  queue->kernel_ring_ = Mapping(memory, bytes);
  queue->block_size_ = setup.block;
  queue->block_ends_.resize(setup.blocks);

  if (auto spares = setup.pool->reserve(0); !spares) return std::unexpected(spares.error());
  queue->spares_ = setup.pool;
  auto slots = SlotRing::create(setup.slots);
  if (!slots) return std::unexpected(slots.error());
  queue->slots_ = std::move(*slots);
  queue->ring_ = queue->slots_.data();
  queue->mask_ = queue->slots_.mask();
  return queue;
}

PacketRx::~PacketRx() = default;

Result<void> PacketRx::hold(const std::string& attempted) {
  sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
  const sock_fprog program{.len = 1, .filter = &nothing};
  if (::setsockopt(socket_.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0) return {};
  return fail(errno, "{}: SO_ATTACH_FILTER", attempted);
}

Result<void> PacketRx::resume(const std::string& attempted) {
  const int unused = 0;
  if (::setsockopt(socket_.get(), SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused) == 0) return {};
  return fail(errno, "{}: SO_DETACH_FILTER", attempted);
}

Result<void> PacketRx::start(const Link& link, const std::string& attempted) {
  return bind_packet_socket(socket_, link, ETH_P_ALL, attempted);
}

Result<void> PacketRx::join_fanout(std::uint32_t argument, const std::string& attempted) {
  return set_option(socket_, PACKET_FANOUT, argument, "PACKET_FANOUT", attempted);
}

Result<std::uint16_t> PacketRx::fanout_group(const std::string& attempted) const {
  std::uint32_t value = 0;
  socklen_t size = sizeof value;
  if (::getsockopt(socket_.get(), SOL_PACKET, PACKET_FANOUT, &value, &size) != 0) return fail(errno, "{}: PACKET_FANOUT", attempted);
  return static_cast<std::uint16_t>(value & 0xFFFF);
}

void PacketRx::give_back() noexcept {
  while (held_ > 0 && static_cast<std::int32_t>(head_ - block_ends_[oldest_]) >= 0) {
    __atomic_store_n(&status_of(block(oldest_)), TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    oldest_ = oldest_ + 1 == block_ends_.size() ? 0 : oldest_ + 1;
    --held_;
  }
}

bool PacketRx::open_next_block() noexcept {
  if (held_ == block_ends_.size() || !is_ours(block(reading_))) return false;
  const auto& header = reinterpret_cast<const tpacket_block_desc*>(block(reading_))->hdr.bh1;
  left_ = header.num_pkts;
  next_frame_ = block(reading_) + header.offset_to_first_pkt;
  return true;
}

// What most frames have no need of. False: the frame is given up, counted in `losses`.
bool PacketRx::adopt(Slot& slot, const tpacket3_hdr& header, Losses& losses) noexcept {
  const auto status = header.tp_status;
  const auto tag = header.hv1.tp_vlan_tci;
  const auto tag_protocol = (status & TP_STATUS_VLAN_TPID_VALID) != 0 ? header.hv1.tp_vlan_tpid : ETH_P_8021Q;
  const bool tagged = (status & TP_STATUS_VLAN_VALID) != 0;
  // A frame whose offloads no virtio_net_hdr can express is dropped and counted by the kernel, which leaves its place in
  // the block to whatever was there before.
  const auto* place = reinterpret_cast<const std::byte*>(&header);
  const auto space = header.tp_next_offset != 0 ? header.tp_next_offset : static_cast<std::size_t>(block(reading_) + block_size_ - place);
  if (slot.offset < least_headroom + vlan_tag || slot.offset + std::size_t{slot.length} > space) {
    ++losses.unwritten;
    return false;
  }
  // A block that a frame does not fit into holds only its beginning.
  if (header.tp_snaplen != header.tp_len || slot.length + (tagged ? vlan_tag : 0) > capacity_) {
    ++losses.oversize;
    return false;
  }
  auto metadata = read_vnet_header(slot.buffer + slot.offset - vnet_header_size);
  if (!offload_ && metadata.checksum_needed != 0 &&
      !complete_checksum(slot.bytes(), metadata.checksum_start, metadata.checksum_offset)) {
    ++losses.invalid;
    return false;
  }
  if (tagged) {
    put_tag_back(slot, static_cast<std::uint16_t>(tag_protocol), static_cast<std::uint16_t>(tag));
    if (metadata.checksum_needed != 0) metadata.checksum_start = static_cast<std::uint16_t>(metadata.checksum_start + vlan_tag);
    if (metadata.header_length != 0) metadata.header_length = static_cast<std::uint16_t>(metadata.header_length + vlan_tag);
  }
  // Last: it overwrites the header.
  if (offload_ && (metadata.checksum_needed | metadata.checksum_valid | metadata.segment_type) != 0)
    write_metadata(slot, metadata);
  return true;
}

void PacketRx::refill(std::size_t want) noexcept {
  give_back();
  const auto goal = std::min(vacant(), std::max(want, frames_at_least));
  const std::uint32_t special = TP_STATUS_CSUMNOTREADY | TP_STATUS_VLAN_VALID | (offload_ ? TP_STATUS_CSUM_VALID : 0U);
  std::uint32_t filled = 0;
  std::uint64_t taken = 0;
  Losses losses;
  while (filled < goal && (left_ > 0 || open_next_block())) {
    for (; left_ > 0 && filled < goal; --left_) {
      const auto& header = *reinterpret_cast<const tpacket3_hdr*>(next_frame_);
      Slot& slot = slot_at(tail_ + filled);
      slot.buffer = const_cast<std::byte*>(next_frame_);
      slot.length = header.tp_snaplen;
      slot.offset = header.tp_mac;
      const auto status = header.tp_status;
      slot.flags = static_cast<std::uint16_t>((status & TP_STATUS_TS_RAW_HARDWARE) != 0 ? TimeSource::hardware : TimeSource::kernel);
      slot.time = std::uint64_t{header.tp_sec} * 1'000'000'000 + header.tp_nsec;
      slot.frame = no_frame;
      const auto place = header.tp_next_offset;  // 0 for the last of a block
      next_frame_ += place;
      ++taken;
      const bool plain = (status & special) == 0 && slot.offset == usual_offset && slot.length == header.tp_len &&
                         slot.length <= capacity_ && slot.offset + slot.length <= place;
      if (!plain && !adopt(slot, header, losses)) [[unlikely]] continue;
      ++filled;
    }
    if (left_ == 0) {
      block_ends_[reading_] = tail_ + filled;
      ++held_;
      reading_ = reading_ + 1 == block_ends_.size() ? 0 : reading_ + 1;
    }
  }
  taken_ += taken - losses.unwritten;
  if (filled > 0) admit(filled, filled);
  if (losses.oversize + losses.invalid > 0) [[unlikely]] {
    counters_.begin();
    counters_.add_in(leave_backlog(losses.oversize + losses.invalid));
    counters_.add_dropped(DropReason::oversize, losses.oversize);
    counters_.add_dropped(DropReason::invalid, losses.invalid);
    counters_.set_queued(waiting_frames());
    counters_.end();
    give_back();
  }
  if (taken == 0 || reading_ == 0) look_around();
}

void PacketRx::look_around() noexcept {
  const auto now = Clock::monotonic();
  if (now < look_again_) return;
  look_again_ = now + look_interval_ns;
  sample();
  watch_link();
}

void PacketRx::sample() noexcept {
  if (!socket_) return;
  tpacket_stats_v3 since{};
  socklen_t size = sizeof since;
  if (::getsockopt(socket_.get(), SOL_PACKET, PACKET_STATISTICS, &since, &size) != 0) return;
  kernel_stored_ += since.tp_packets - since.tp_drops;
  counters_.begin();
  count_lost(DropReason::kernel_full, since.tp_drops);
  set_backlog(kernel_stored_ > taken_ ? kernel_stored_ - taken_ : 0);
  counters_.set_sampled_at(Clock::now());
  counters_.end();
}

void PacketRx::watch_link() noexcept {
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);  // ENETDOWN is told once; until then epoll wakes for it
  link_->check();
  if (!link_->gone()) return;
  // The block that was being filled is still handed over when its time is up.
  sample();
  if (backlog_ == 0 && tail_ == head_) set_failed(link_->gone_error(label_));
}

Queue::WaitSource PacketRx::wait_source() { return {socket_.get(), EPOLLIN, false}; }

bool PacketRx::has_work() const {
  return tail_ != head_ || left_ > 0 || (kernel_ring_ && held_ < block_ends_.size() && is_ours(block(reading_)));
}

bool PacketRx::arm(std::uint64_t& deadline) {
  if (!kernel_ring_) return true;
  give_back();
  if (has_work()) return true;
  watch_link();
  if (!link_->up()) deadline = std::min(deadline, Clock::monotonic() + down_interval_ns);
  return failed();
}

void PacketRx::close() {
  sample();
  abandon();
  kernel_ring_ = Mapping();
  socket_ = Fd();
}

}  // namespace efio
