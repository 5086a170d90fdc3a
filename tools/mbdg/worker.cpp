#include "tools/mbdg/worker.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "efio/clock.h"
#include "efio/forward.h"
#include "efnet/wire/vlan.h"
#include "tools/common/cpus.h"

namespace efio::mbdg {

namespace {

using std::chrono::nanoseconds;

constexpr nanoseconds longest_sleep = std::chrono::milliseconds(100);  // until a stop is seen, and plugins tick
constexpr nanoseconds busy = std::chrono::microseconds(20);            // look so long before sleeping
constexpr std::uint64_t longest_wait_ns = 10'000'000;                  // for frames that cannot stay where they are
constexpr std::size_t room_for_plugins = 8;                           // slots, for frames of their own
constexpr std::uint64_t bit(std::size_t port) noexcept { return std::uint64_t{1} << port; }

bool starts_frame(const RxBatch& batch, std::size_t i) noexcept {
  return !batch[i].has(Slot::moved | Slot::dropped) && (i == 0 || !batch[i - 1].has(Slot::more));
}

// Of all that start in the batch.
std::size_t frames_in(const RxBatch& batch) noexcept {
  std::size_t frames = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) frames += starts_frame(batch, i) ? 1U : 0U;
  return frames;
}

// Of the frame that starts at slot i.
std::size_t slots_of(const RxBatch& batch, std::size_t i) noexcept {
  std::size_t n = 1;
  while (batch[i].has(Slot::more) && ++i < batch.size()) ++n;
  return n;
}

DropReason why_full(const TxQueue& tx) noexcept {
  return tx.failed() ? DropReason::device_gone : DropReason::not_forwarded;
}

}  // namespace

// --- around the work ---

Result<void> Worker::watch_sources() {
  auto poller = Poller::create({.busy_poll = busy});
  if (!poller) return std::unexpected(std::move(poller.error()));
  for (const auto& source : wiring_.sources)
    if (auto ok = poller->add(*source.rx); !ok) return ok;
  const std::scoped_lock lock(poller_mutex_);
  poller_ = std::move(*poller);
  return {};
}

Result<void> Worker::run(const std::vector<int>& cpus, std::size_t index) {
  auto result = tools::pin_thread(cpus, index);
  if (result) result = work();
  failed_.store(!result);
  done_.store(true);
  phase_.store(resting);
  phase_.notify_all();
  return result;
}

Result<void> Worker::work() {
  if (auto ok = watch_sources(); !ok) return ok;
  while (!stop_.load(std::memory_order_relaxed)) {
    if (phase_.load(std::memory_order_acquire) == asked_to_rest) {
      rest_here();
      if (auto ok = watch_sources(); !ok) return ok;
      continue;  // who asked again meanwhile found no poller to wake
    }
    if (round() > 0) continue;
    for (auto* gates : {&wiring_.ingates, &wiring_.outgates})
      for (auto& pipeline : *gates)
        if (pipeline) pipeline->tick(nanoseconds(static_cast<std::int64_t>(now_)));
    for (std::uint16_t port = 0; port < wiring_.ingates.size(); ++port) take_returned(port);
    for (auto* exit : wiring_.exits)
      if (exit != nullptr) exit->flush();
    if (!options_.spin) poller_->wait(longest_sleep);
  }
  return {};
}

void Worker::rest_here() {
  {
    const std::scoped_lock lock(poller_mutex_);
    poller_.reset();
  }
  phase_.store(resting, std::memory_order_release);
  phase_.notify_all();
  phase_.wait(resting);
}

void Worker::wake() noexcept {
  const std::scoped_lock lock(poller_mutex_);
  if (poller_) poller_->wake();
}

void Worker::stop() noexcept {
  stop_.store(true);
  wake();
}

void Worker::rest() noexcept {
  unsigned expected = working;
  if (done_.load() || !phase_.compare_exchange_strong(expected, asked_to_rest)) return;
  wake();
  phase_.wait(asked_to_rest);
}

void Worker::resume() noexcept {
  if (done_.load()) return;
  phase_.store(working, std::memory_order_release);
  phase_.notify_all();
}

// --- the work ---

std::size_t Worker::round() {
  now_ = Clock::monotonic();
  if (wiring_.sources.empty()) return 0;
  std::size_t moved = 0;
  if (budget_ != nullptr) [[unlikely]] {
    for (auto& source : wiring_.sources) moved += step_within_budget(source);
    return moved;
  }
  auto next = look(wiring_.sources.front());
  for (std::size_t i = 0; i < wiring_.sources.size(); ++i) {
    auto batch = std::move(next);
    if (i + 1 < wiring_.sources.size()) next = look(wiring_.sources[i + 1]);
    if (!batch.empty()) moved += handle(wiring_.sources[i], batch);
  }
  return moved;
}

// A switch reads each frame: those of the next source are asked for while those of the one before are worked on.
RxBatch Worker::look(const Source& source) {
  auto batch = source.rx->receive(options_.batch);
  if (bridge_ != nullptr) batch.prefetch();
  return batch;
}

// As many as may still come in; what stays in its queue has not come in yet.
std::size_t Worker::step_within_budget(Source& source) {
  if (source.relay_to != nullptr) {
    auto batch = look(source);
    return batch.empty() ? 0 : handle(source, batch);
  }
  const std::size_t reserved = budget_->reserve(options_.batch);
  if (reserved == 0) return 0;
  auto batch = source.rx->receive(reserved);
  std::array<std::size_t, efnet::Switch::batch> ends;  // frames that are whole behind slot i
  std::size_t frames = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) ends[i] = frames += batch[i].has(Slot::more) ? 0U : 1U;
  const std::size_t left = batch.empty() ? 0 : handle(source, batch);
  budget_->settle(reserved, left == 0 ? 0 : ends[left - 1]);
  return left;
}

std::size_t Worker::handle(Source& source, RxBatch& batch) {
  if (source.relay_to != nullptr) return pass_on(batch, *source.relay_to, source.port);
  return bridge_ != nullptr ? through_switch(batch, source.port) : over_the_wire(batch, source.port);
}

std::size_t Worker::pass_on(RxBatch& batch, TxQueue& tx, std::uint16_t port) {
  const std::size_t before = batch.size();
  forward(batch, tx);
  tx.flush();
  if (!batch.empty()) [[unlikely]] {
    forward(batch, tx);
    tx.flush();
    if (!batch.empty() && (options_.when_full == WhenFull::drop || tx.failed())) {
      for (std::size_t i = 0; i < batch.size(); ++i)
        if (starts_frame(batch, i)) show_dropped(batch, i, port, why_full(tx));
      tx.drop(frames_in(batch), why_full(tx));
      batch.finish();
    }
  }
  return before - batch.size();
}

std::size_t Worker::over_the_wire(RxBatch& batch, std::uint16_t port) {
  const std::uint16_t other = wiring_.across[port];
  TxQueue* const tx = wiring_.exits[other];
  if (tx == nullptr || wiring_.ingates[port] || wiring_.outgates[other] || wiring_.rates[other] != nullptr ||
      dumper_ != nullptr) [[unlikely]]
    return through_gates(batch, port, tx);
  return pass_on(batch, *tx, other);
}

std::size_t Worker::through_gates(RxBatch& batch, std::uint16_t port, TxQueue* tx) {
  const nanoseconds now(static_cast<std::int64_t>(now_));
  const std::size_t size = batch.size();
  const std::uint16_t other = wiring_.across[port];
  efnet::RxPackets packets(batch);
  if (wiring_.ingates[port]) wiring_.ingates[port]->ingate(packets, now);
  if (tx == nullptr) {
    show_dropped(batch, packets, port);
    for (const auto i : packets) show_dropped(batch, i, port, DropReason::device_gone);
    packets.drop_rest(DropReason::device_gone);
  } else {
    if (auto& out = wiring_.outgates[other]) out->outgate(packets, now);
    show_dropped(batch, packets, port);
    for (const auto i : packets) {
      if (is_within_rate(batch, i, other)) continue;
      show_dropped(batch, i, other, DropReason::rate_limit);
      tx->drop(1, DropReason::rate_limit);
      packets.consume(i);
    }
    if (dumper_ != nullptr && dumper_->wants_passed())
      for (const auto i : packets) dumper_->passed(batch, i, port);
    efnet::forward(packets, *tx);
    tx->flush();
    for (std::uint64_t since = 0; !packets.empty() && !tx->failed() && still_waiting(since); tx->flush())
      efnet::forward(packets, *tx);
    for (const auto i : packets) {
      show_dropped(batch, i, other, why_full(*tx));
      tx->drop(1, why_full(*tx));
      packets.consume(i);
    }
  }
  packets.finish();
  take_returned(port);
  return size;
}

// What plugins had kept and hand on inwards: as if it had come in by the port now, in copies. What is dropped is counted
// at a port's outgoing queue, since for the incoming one it had been delivered.
void Worker::take_returned(std::uint16_t port) {
  auto& gates = wiring_.ingates[port];
  if (!gates) return;
  const nanoseconds now(static_cast<std::int64_t>(now_));
  efnet::ReturnedPackets packets;
  while (gates->returned(packets, now)) {
    std::array<efnet::SwitchVerdict, efnet::PacketBatch::capacity> verdicts{};
    if (bridge_ != nullptr)
      bridge_->decide({&packets[0], packets.size()}, port, now, verdicts.data());
    else
      for (auto& verdict : verdicts) verdict.ports = bit(wiring_.across[port]);
    for (const auto i : packets) {
      std::uint64_t counted = 0;  // ports at which it was sent or dropped
      for (auto left = verdicts[i].ports; left != 0; left &= left - 1)
        counted += leave_returned(packets[i], verdicts[i], static_cast<std::uint16_t>(std::countr_zero(left))) ? 1U : 0U;
      if (counted > 1) copied_.store(copied_.load(std::memory_order_relaxed) + counted - 1, std::memory_order_relaxed);
      if (counted == 0 && wiring_.exits[port] != nullptr)
        wiring_.exits[port]->drop(1, verdicts[i].ports == 0 ? verdicts[i].reason : DropReason::device_gone);
    }
    packets.finish();
  }
}

// False: the port is not there, and counts nothing.
bool Worker::leave_returned(const Slot& frame, const efnet::SwitchVerdict& verdict, std::uint16_t port) {
  TxQueue* const tx = wiring_.exits[port];
  if (tx == nullptr) return false;
  auto claimed = tx->claim(room_for_plugins + 1);
  if (claimed.empty()) {
    tx->flush();
    claimed = tx->claim(room_for_plugins + 1);
  }
  if (claimed.empty() || !copy_into(claimed, 0, frame, verdict, port)) {
    tx->drop(1, claimed.empty() ? why_full(*tx) : DropReason::oversize);
    return true;
  }
  efnet::TxPackets packets(claimed, 1);
  const nanoseconds now(static_cast<std::int64_t>(now_));
  if (auto& out = wiring_.outgates[port]) out->outgate(packets, now);
  if (Policer* const rate = wiring_.rates[port]; packets.has(0) && rate != nullptr && !rate->take(packets[0].length, now)) {
    tx->drop(1, DropReason::rate_limit);
    packets.consume(0);
  }
  packets.commit();
  tx->flush();
  return true;
}

// Whether to try once more for frames that cannot stay: with `--full wait` for a bounded time, so that two full ports
// which wait for each other come apart, and somebody who wants the thread to rest gets it.
bool Worker::still_waiting(std::uint64_t& since) const noexcept {
  if (options_.when_full != WhenFull::wait || stop_.load(std::memory_order_relaxed)) return false;
  const std::uint64_t now = Clock::monotonic();
  if (since == 0) since = now;
  return now - since < longest_wait_ns;
}

std::size_t Worker::through_switch(RxBatch& batch, std::uint16_t port) {
  const nanoseconds now(static_cast<std::int64_t>(now_));
  std::optional<efnet::RxPackets> packets;
  if (wiring_.ingates[port]) {
    packets.emplace(batch);
    wiring_.ingates[port]->ingate(*packets, now);
    show_dropped(batch, *packets, port);
  }
  may_stay_ = options_.when_full == WhenFull::wait && !packets && dumper_ == nullptr &&
              std::ranges::none_of(wiring_.outgates, [](const auto& gates) { return gates != nullptr; });
  bridge_->decide({batch.begin(), batch.size()}, port, now, verdicts_.data());

  first_left_ = SIZE_MAX;
  const std::size_t size = batch.size();
  for (std::size_t i = 0; i < size; ++i) {
    const auto& verdict = verdicts_[i];
    if (verdict.reason == DropReason::count_ || (packets && !packets->has(i))) [[unlikely]] continue;
    if (verdict.ports == 0) {
      show_dropped(batch, i, port, verdict.reason);
      batch.drop(i, verdict.reason);
      continue;
    }
    if (dumper_ != nullptr && dumper_->wants_passed()) dumper_->passed(batch, i, port);
    if ((verdict.ports & (verdict.ports - 1)) == 0) {
      const auto to = static_cast<std::size_t>(std::countr_zero(verdict.ports));
      gathered_[to][gathered_count_[to]++] = static_cast<std::uint32_t>(i);
      gathered_ports_ |= verdict.ports;
      continue;
    }
    send_gathered(batch);
    if (first_left_ != SIZE_MAX || !flood(batch, i)) {
      first_left_ = std::min(first_left_, i);
      break;
    }
  }
  send_gathered(batch);
  for (; dirty_ != 0; dirty_ &= dirty_ - 1) wiring_.exits[static_cast<std::size_t>(std::countr_zero(dirty_))]->flush();
  const std::size_t left = batch.finish(std::min(first_left_, size));
  if (packets) [[unlikely]] take_returned(port);
  return left;
}

// As many as find room, in order; their tags are changed, and the port's rate is asked, when there is.
std::size_t Worker::leave_in_bulk(RxBatch& batch, std::span<const std::uint32_t> indices, std::uint16_t port) {
  TxQueue& tx = *wiring_.exits[port];
  dirty_ |= bit(port);
  if (wiring_.outgates[port]) return leave_by_gates(batch, indices, port);
  if (!bridge_->has_vlans() && wiring_.rates[port] == nullptr) [[likely]]
    return forward(batch, indices, tx);
  for (std::size_t k = 0; k < indices.size(); ++k) {
    if (!has_room(port, slots_of(batch, indices[k]))) return k;
    if (!is_within_rate(batch, indices[k], port))
      give_up(batch, indices[k], port, DropReason::rate_limit);
    else if (change_tag(batch, indices[k], port)) forward(batch, indices.subspan(k, 1), tx);
  }
  return indices.size();
}

void Worker::send_gathered(RxBatch& batch) {
  for (; gathered_ports_ != 0; gathered_ports_ &= gathered_ports_ - 1) {
    const auto port = static_cast<std::uint16_t>(std::countr_zero(gathered_ports_));
    std::span<const std::uint32_t> indices(gathered_[port].data(), gathered_count_[port]);
    gathered_count_[port] = 0;
    TxQueue* const tx = wiring_.exits[port];
    if (tx == nullptr) {
      for (const auto i : indices) give_up(batch, i, port, DropReason::device_gone);
      continue;
    }
    indices = indices.subspan(leave_in_bulk(batch, indices, port));
    if (indices.empty()) [[likely]] continue;
    std::uint64_t since = 0;
    do {
      tx->flush();
      indices = indices.subspan(leave_in_bulk(batch, indices, port));
    } while (!indices.empty() && !may_stay_ && !tx->failed() && still_waiting(since));
    if (!indices.empty() && may_stay_ && !tx->failed())
      first_left_ = std::min<std::size_t>(first_left_, indices.front());
    else
      for (const auto i : indices) give_up(batch, i, port, why_full(*tx));
  }
}

// Into slot k, with the tag that the port asks for. False: it is too long.
bool Worker::copy_into(TxBatch& claimed, std::size_t k, const Slot& frame, const efnet::SwitchVerdict& verdict,
                       std::uint16_t port) {
  const auto space = claimed.space(k);
  if (frame.has(Slot::more) || frame.length > space.size()) return false;
  Slot& to = claimed[k];
  std::memcpy(space.data(), frame.bytes().data(), frame.length);
  to.length = frame.length;
  to.stamp(frame.time, frame.time_source());
  if (bridge_ == nullptr || !bridge_->has_vlans()) return true;
  const auto change = bridge_->tag_change(verdict, port);
  if (change == efnet::Switch::TagChange::pop) efnet::strip_vlan(to);
  if (change == efnet::Switch::TagChange::push)
    efnet::insert_vlan(to, efnet::VlanTag::make(verdict.vlan), claimed.queue().room(to).behind);
  return true;
}

// Copied into slots of the port's own, for its plugins to work on; they may add frames, so some room is left for these.
std::size_t Worker::leave_by_gates(RxBatch& batch, std::span<const std::uint32_t> indices, std::uint16_t port) {
  TxQueue& tx = *wiring_.exits[port];
  auto claimed = tx.claim(std::min(indices.size() + room_for_plugins, efnet::PacketBatch::capacity));
  std::array<std::uint32_t, efnet::PacketBatch::capacity> origin;
  std::size_t filled = 0, went = 0;
  for (; went < indices.size() && filled < claimed.size(); ++went) {
    if (!copy_into(claimed, filled, batch[indices[went]], verdicts_[indices[went]], port)) {
      give_up(batch, indices[went], port, DropReason::oversize);
      continue;
    }
    origin[filled++] = indices[went];
  }
  efnet::TxPackets packets(claimed, filled);
  wiring_.outgates[port]->outgate(packets, nanoseconds(static_cast<std::int64_t>(now_)));
  for (std::size_t k = 0; k < filled; ++k)
    if (const auto reason = packets.why_dropped(k); reason != DropReason::count_) show_dropped(batch, origin[k], port, reason);
  for (const auto k : packets) {
    if (is_within_rate(batch, origin[k], port)) continue;
    show_dropped(batch, origin[k], port, DropReason::rate_limit);
    tx.drop(1, DropReason::rate_limit);
    packets.consume(k);
  }
  packets.commit();
  return went;
}

// The frame is counted at the port that could not take it. Where frames may stay and be lent again, it is taken out of
// the batch; if that cannot be, it is counted at the port that it came in by.
void Worker::give_up(RxBatch& batch, std::size_t i, std::uint16_t port, DropReason reason) {
  show_dropped(batch, i, port, reason);
  if (auto* tx = wiring_.exits[port]; tx != nullptr && (!may_stay_ || batch.take(i)))
    tx->drop(1, reason);
  else
    batch.drop(i, reason);
}

// For the dump: with the port that counts it.
void Worker::show_dropped(const RxBatch& batch, std::size_t i, std::uint16_t port, DropReason reason) {
  if (dumper_ != nullptr) [[unlikely]] dumper_->dropped(batch, i, port, reason);
}

// What plugins have dropped.
void Worker::show_dropped(const RxBatch& batch, const efnet::PacketBatch& packets, std::uint16_t port) {
  if (dumper_ == nullptr || dumper_->wants_passed()) [[likely]] return;
  for (std::size_t i = 0; i < packets.size(); ++i)
    if (const auto reason = packets.why_dropped(i); reason != DropReason::count_) dumper_->dropped(batch, i, port, reason);
}

bool Worker::is_within_rate(const RxBatch& batch, std::size_t i, std::uint16_t port) noexcept {
  Policer* const rate = wiring_.rates[port];
  if (rate == nullptr) [[likely]] return true;
  std::uint32_t length = batch[i].length;
  for (; batch[i].has(Slot::more) && i + 1 < batch.size(); ++i) length += batch[i + 1].length;
  return rate->take(length, nanoseconds(static_cast<std::int64_t>(now_)));
}

bool Worker::has_room(std::uint16_t port, std::size_t slots) {
  TxQueue* const tx = wiring_.exits[port];
  if (tx == nullptr || tx->failed()) return tx == nullptr;
  if (tx->claim(slots).size() == slots) return true;
  tx->flush();
  return tx->claim(slots).size() == slots;
}

// A copy for each port but the last, which takes the frame itself. False: a port has no room, and the frame stays.
bool Worker::flood(RxBatch& batch, std::size_t i) {
  std::uint64_t as_is = verdicts_[i].ports, changed = 0;
  for (std::uint64_t left = verdicts_[i].ports; left != 0; left &= left - 1) {
    const auto port = static_cast<std::uint16_t>(std::countr_zero(left));
    const TxQueue* const tx = wiring_.exits[port];
    if (may_stay_ && tx != nullptr && !tx->failed() && !has_room(port, slots_of(batch, i))) return false;
    if (bridge_->has_vlans() && bridge_->tag_change(verdicts_[i], port) != efnet::Switch::TagChange::none &&
        !wiring_.outgates[port]) {
      changed |= bit(port);
      as_is &= ~bit(port);
    }
  }
  const auto index = static_cast<std::uint32_t>(i);
  std::uint64_t copies = 0;
  const auto leave = [&](std::uint64_t& ports, bool last) {
    const auto port = static_cast<std::uint16_t>(std::countr_zero(ports));
    ports &= ports - 1;
    last &= ports == 0;
    if (leave_flooded(batch, index, port, !last) && !last) ++copies;
  };
  while (as_is != 0) leave(as_is, changed == 0);
  if (changed != 0 && change_tag(batch, i, static_cast<std::uint16_t>(std::countr_zero(changed))))
    while (changed != 0) leave(changed, true);
  copied_.store(copied_.load(std::memory_order_relaxed) + copies, std::memory_order_relaxed);
  return true;
}

// False: nothing was made of it at that port, nor counted there.
bool Worker::leave_flooded(RxBatch& batch, std::uint32_t i, std::uint16_t port, bool as_copy) {
  TxQueue* const tx = wiring_.exits[port];
  if (tx == nullptr) {
    if (!as_copy) {
      show_dropped(batch, i, port, DropReason::device_gone);
      batch.drop(i, DropReason::device_gone);
    }
    return false;
  }
  dirty_ |= bit(port);
  if (!wiring_.outgates[port] && !is_within_rate(batch, i, port)) {
    show_dropped(batch, i, port, DropReason::rate_limit);
    tx->drop(1, DropReason::rate_limit);
    return true;
  }
  const std::span<const std::uint32_t> one(&i, 1);
  const auto go = [&] {
    if (wiring_.outgates[port]) return leave_by_gates(batch, one, port) == 1;
    return as_copy ? copy(batch, one, *tx) == 1 : forward(batch, one, *tx) == 1;
  };
  bool gone = go();
  for (std::uint64_t since = 0; !gone && !tx->failed() && (since == 0 || still_waiting(since));) {
    if (since == 0) since = Clock::monotonic();
    tx->flush();
    gone = go();
  }
  if (!gone) {
    show_dropped(batch, i, port, why_full(*tx));
    tx->drop(1, why_full(*tx));
  }
  return true;
}

bool Worker::change_tag(RxBatch& batch, std::size_t i, std::uint16_t port) {
  switch (bridge_->tag_change(verdicts_[i], port)) {
    case efnet::Switch::TagChange::none:
      return true;
    case efnet::Switch::TagChange::pop:
      efnet::strip_vlan(batch[i]);
      return true;
    case efnet::Switch::TagChange::push:
      if (efnet::insert_vlan(batch[i], efnet::VlanTag::make(verdicts_[i].vlan), batch.queue().room(batch[i]).behind))
        return true;
  }
  give_up(batch, i, port, DropReason::oversize);
  return false;
}

}  // namespace efio::mbdg
