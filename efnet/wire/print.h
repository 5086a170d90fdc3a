#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "efio/export.h"

namespace efnet {

// One line about a frame, in the manner of `tcpdump -enn`, without a newline:
//
//     02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv4 (0x0800), length 60: 10.0.0.1.1024 > 10.0.0.2.53: UDP, length 18
//     length 18
//
// Any bytes will do; what cannot be read is said in brackets. For people: the text may change from version to version.
EFIO_EXPORT std::string frame_text(std::span<const std::byte> frame);

}  // namespace efnet
