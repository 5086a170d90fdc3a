#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace efnet {

// Packets that the NAT makes or releases itself wait here until the owner of the port takes them: a ring of fixed
// memory.
class NatOutbox {
 public:
  static constexpr std::size_t places = 256;
  static constexpr std::size_t longest = 2048;

  NatOutbox() : bytes_(places * longest), lengths_(places) {}

  // Room for a frame, or none; what was filled in counts from push() on.
  std::span<std::byte> next(std::size_t length) noexcept {
    if (count_ == places || length > longest) return {};
    return {bytes_.data() + place(count_) * longest, length};
  }
  void push(std::size_t length) noexcept {
    lengths_[place(count_)] = static_cast<std::uint16_t>(length);
    ++count_;
  }

  // A copy of the frame; false where there is no room.
  bool add(std::span<const std::byte> frame) noexcept {
    const auto place = next(frame.size());
    if (place.empty()) return false;
    std::memcpy(place.data(), frame.data(), frame.size());
    push(frame.size());
    return true;
  }

  // Calls send(frame) for each in order until it says false.
  template <class Send>
  std::size_t collect(Send&& send) {
    std::size_t sent = 0;
    while (count_ != 0 && send(std::span<const std::byte>(bytes_.data() + first_ * longest, lengths_[first_]))) {
      first_ = (first_ + 1) % places;
      --count_;
      ++sent;
    }
    return sent;
  }
  std::size_t size() const noexcept { return count_; }
  std::size_t room() const noexcept { return places - count_; }

 private:
  std::size_t place(std::size_t after) const noexcept { return (first_ + after) % places; }

  std::vector<std::byte> bytes_;
  std::vector<std::uint16_t> lengths_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
};

}  // namespace efnet
