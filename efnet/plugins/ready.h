// The table of ready plugins.
// Internal: programs go through load.h, or make the plugins of their own headers.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "efio/result.h"
#include "efnet/plugins/plugin.h"

namespace efnet {

struct ReadyPlugin {
  std::string_view name;
  std::string_view arguments;
  std::string_view description;
  efio::Result<std::unique_ptr<Plugin>> (*create)(std::string_view arguments);
};

std::span<const ReadyPlugin> ready_plugins() noexcept;

}  // namespace efnet
