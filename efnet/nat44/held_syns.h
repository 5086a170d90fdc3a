#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "efnet/nat44/classify.h"
#include "efnet/tables/time.h"

namespace efnet {

// SYNs that nobody asked for: each is answered after 6 s, unless the inside opens the same connection meanwhile
// (RFC 5382, REQ-4). A bounded number is held; the others go unanswered.
class NatHeldSyns {
 public:
  static constexpr std::size_t places = 256;
  static constexpr Time delay = std::chrono::seconds(6);

  NatHeldSyns() : held_(places) {}

  // False where there is no room. One that is held already is not held twice.
  bool hold(const NatPacket& packet, const FlowKey4& key, Time now) noexcept {
    if (find(key) != nullptr) return true;
    if (count_ == places) return false;
    Held& held = held_[(first_ + count_++) % places];
    held.key = key;
    held.due = now + delay;
    held.packet = packet;
    const std::size_t size = std::min(packet.frame.size(), held.bytes.size());
    std::memcpy(held.bytes.data(), packet.frame.data(), size);
    held.packet.frame = std::span(held.bytes).first(size);
    return true;
  }

  // The inside has opened the connection of SYNs with this key: true where one was held.
  bool forget(const FlowKey4& key) noexcept {
    if (count_ == 0) [[likely]]
      return false;
    Held* held = find(key);
    if (held == nullptr) return false;
    held->key = {};
    return true;
  }

  // Calls answer(packet), whose bytes may be cut, for each that is due.
  template <class Answer>
  void answer_due(Time now, Answer&& answer) {
    while (count_ != 0 && held_[first_].due <= now) {
      if (!(held_[first_].key == FlowKey4{})) answer(held_[first_].packet);
      first_ = (first_ + 1) % places;
      --count_;
    }
  }

 private:
  struct Held {
    FlowKey4 key;
    Time due{};
    NatPacket packet;
    std::array<std::byte, 128> bytes;  // more than tags and all headers
  };

  Held* find(const FlowKey4& key) noexcept {
    for (std::size_t i = 0; i < count_; ++i)
      if (Held& held = held_[(first_ + i) % places]; held.key == key) return &held;
    return nullptr;
  }

  std::vector<Held> held_;
  std::size_t first_ = 0, count_ = 0;
};

}  // namespace efnet
