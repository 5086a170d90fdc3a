#include "efio/version.h"

namespace efio {

std::string_view version() noexcept { return EFIO_VERSION; }

}  // namespace efio
