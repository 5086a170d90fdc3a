// A file that is there whole, as it was before or as it is now, whatever happens while it is written.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "efio/result.h"

namespace efio::tools {

// Written beside the old one, onto the disk, and put in its place. Errors: those of the system.
Result<void> replace_file(const std::string& path, std::span<const std::byte> bytes);

// Nothing where there is no such file. Errors: those of the system.
Result<std::optional<std::vector<std::byte>>> read_file(const std::string& path);

}  // namespace efio::tools
