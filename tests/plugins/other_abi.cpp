// A plugin built for a version that is still to come.
#include "efnet/plugins/plugin.h"

extern "C" __attribute__((visibility("default"))) const efnet::PluginModule* efnet_plugin() {
  static const efnet::PluginModule module{.abi = efnet::plugin_abi + 1};
  return &module;
}
