// What set-up calls answer with: a value, or an Error that says what was attempted, on what, why it failed, what to try.
#pragma once

#include <expected>
#include <string>
#include <utility>

#include "efio/export.h"

namespace efio {

struct EFIO_EXPORT Error {
  enum class Kind {
    usage,        // the request itself is wrong: unknown option, value out of range
    unavailable,  // the engine or mode is not to be had on this machine
    permission,   // a privilege is missing
    device,       // the device is missing, down, busy or gone
    memory,       // no memory, or a limit on it (RLIMIT_MEMLOCK)
    data,         // a file's content is damaged
    misuse,       // a rule of the library was broken: two threads on one queue
  };

  Kind kind = Kind::device;
  int os = 0;             // errno, 0 where the system was not asked
  std::string attempted;  // "open packet:eth7"
  std::string why;        // "no such interface"
  std::string hint;       // "`ip link` lists them"; may be empty

  // One line, without a line break: "open packet:eth7: no such interface; `ip link` lists them".
  std::string message() const;
};

template <class T>
using Result = std::expected<T, Error>;

}  // namespace efio
