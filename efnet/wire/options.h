#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "efnet/wire/bytes.h"

namespace efnet {

// One option of an IPv4 (RFC 791, 3.1) or TCP (RFC 9293, 3.2) header: its kind, and its data without kind and length.
struct HeaderOption {
  std::uint8_t kind;
  std::span<const std::byte> data;
};

// Walks a list of options: kind 0 ends it, kind 1 is padding and passed over, all others have a length.
//
//     for (OptionWalk walk(tcp.options()); auto option = walk.next();) …
class OptionWalk {
 public:
  explicit OptionWalk(std::span<const std::byte> options) noexcept : left_(options) {}

  // Nothing at the end of the list, and at an option that is cut short or has a length below 2: then malformed().
  std::optional<HeaderOption> next() noexcept {
    while (!left_.empty() && load8(left_.data()) == 1) left_ = left_.subspan(1);
    if (left_.empty() || load8(left_.data()) == 0) {
      left_ = {};
      return std::nullopt;
    }
    const std::size_t length = left_.size() < 2 ? 0 : load8(left_.data() + 1);
    if (length < 2 || length > left_.size()) {
      malformed_ = true;
      left_ = {};
      return std::nullopt;
    }
    const HeaderOption option{load8(left_.data()), left_.subspan(2, length - 2)};
    left_ = left_.subspan(length);
    return option;
  }

  bool malformed() const noexcept { return malformed_; }

 private:
  std::span<const std::byte> left_;
  bool malformed_ = false;
};

}  // namespace efnet
