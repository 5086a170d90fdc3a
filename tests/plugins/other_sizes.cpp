// A plugin whose compiler has another idea of a batch.
#include "efnet/plugins/plugin.h"

extern "C" __attribute__((visibility("default"))) const efnet::PluginModule* efnet_plugin() {
  static const efnet::PluginModule module{.batch_size = sizeof(efnet::PacketBatch) + 8};
  return &module;
}
