// Composing an Error in one expression: `return fail(errno, "register {}", name).hint("is the module loaded?");`
// Internal: needs fmt, which users of the library need not have.
#pragma once

#include <fmt/format.h>

#include "efio/result.h"

namespace efio {

class Failure {
 public:
  Failure(Error::Kind kind, int os, std::string attempted, std::string why)
      : error_{kind, os, std::move(attempted), std::move(why), {}} {}

  template <class... Args>
  Failure&& hint(fmt::format_string<Args...> text, Args&&... args) && {
    error_.hint = fmt::format(text, std::forward<Args>(args)...);
    return std::move(*this);
  }

  template <class T>
  operator std::expected<T, Error>() && {  // NOLINT(google-explicit-constructor): `return fail(...)` is the point
    return std::unexpected(std::move(error_));
  }
  operator std::unexpected<Error>() && { return std::unexpected(std::move(error_)); }  // NOLINT
  Error error() && { return std::move(error_); }

 private:
  Error error_;
};

// The kind that goes with an errno, and its text ("Operation not permitted"). Exported for libefnet only.
EFIO_EXPORT Error::Kind kind_of(int os) noexcept;
EFIO_EXPORT std::string describe_os_error(int os);

template <class... Args>
Failure fail(int os, fmt::format_string<Args...> attempted, Args&&... args) {
  return {kind_of(os), os, fmt::format(attempted, std::forward<Args>(args)...), describe_os_error(os)};
}

template <class... Args>
Failure fail(Error::Kind kind, std::string attempted, fmt::format_string<Args...> why, Args&&... args) {
  return {kind, 0, std::move(attempted), fmt::format(why, std::forward<Args>(args)...)};
}

}  // namespace efio
