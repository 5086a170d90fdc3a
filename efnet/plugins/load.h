#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "efio/export.h"
#include "efio/result.h"
#include "efnet/plugins/plugin.h"

// Plugins by name: the ready ones, and shared objects.

namespace efnet {

struct PluginInfo {
  std::string name;
  std::string arguments;  // "ADDRESS[,ADDRESS…]"
  std::string description;
};

// The ready ones, and each shared object found in plugin_folders() that fits this library.
EFIO_EXPORT std::vector<PluginInfo> plugins();

// NAME[:ARGUMENTS], where NAME is one of the ready ones, or NAME.so lies in one of plugin_folders(), or it is the path
// of a shared object (with a / in it): "filter:udp port 53", "./mine.so:depth=3". A shared object stays loaded as long
// as any plugin of it. Errors: usage (no such plugin, bad arguments, no factory), unavailable (built for another
// version).
EFIO_EXPORT efio::Result<std::shared_ptr<Plugin>> make_plugin(std::string_view text);

// Where shared objects are looked for: the folders of the environment's EFIO_PLUGIN_PATH, with : between them, and the
// one that the library was installed with.
EFIO_EXPORT std::vector<std::string> plugin_folders();

}  // namespace efnet
