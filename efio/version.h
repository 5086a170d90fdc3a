#pragma once

#include <string_view>

#include "efio/export.h"

namespace efio {

// The version of the library that is running, as SemVer ("0.1.0"); it may be newer than the headers compiled against.
EFIO_EXPORT std::string_view version() noexcept;

}  // namespace efio
