#include "efio/result.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "efio/fail.h"

namespace efio {

std::string Error::message() const {
  std::string text = attempted;
  if (!why.empty()) text += (text.empty() ? "" : ": ") + why;
  if (!hint.empty()) text += "; " + hint;
  std::ranges::replace(text, '\n', ' ');
  return text;
}

Error::Kind kind_of(int os) noexcept {
  switch (os) {
    case EPERM:
    case EACCES: return Error::Kind::permission;
    case ENOMEM:
    case ENOBUFS: return Error::Kind::memory;
    case EOPNOTSUPP:
    case ENOSYS:
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT: return Error::Kind::unavailable;
    case EINVAL:
    case ENAMETOOLONG: return Error::Kind::usage;
    default: return Error::Kind::device;
  }
}

std::string describe_os_error(int os) { return std::generic_category().message(os); }

}  // namespace efio
