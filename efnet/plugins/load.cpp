// A shared object is asked for one function, efnet_plugin(), whose answer is a table of constants and a function that
// makes plugins. Nothing of it is called before its version and every size in the table are ours: the two would else
// disagree about where things lie.
#include "efnet/plugins/load.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "efio/fail.h"
#include "efnet/plugins/ready.h"

#ifndef EFIO_PLUGIN_DIR
#error "the build says where plugins are installed"
#endif

namespace efnet {

using efio::Error;
using efio::Result;

namespace {

struct Module {
  std::shared_ptr<void> handle;  // of dlopen; closed with its last user
  const PluginModule* table;
};

// What is wrong with a module's table; nothing if it fits.
std::string misfit(const PluginModule& theirs) {
  const PluginModule ours{};
  if (theirs.abi != ours.abi) return fmt::format("built for version {} of the interface, not {}", theirs.abi, ours.abi);
  if (theirs.size != ours.size) return fmt::format("its table has {} bytes, not {}", theirs.size, ours.size);
  const struct {
    const char* what;
    std::uint32_t theirs, ours;
  } sizes[] = {{"slots", theirs.slot_size, ours.slot_size},       {"frames", theirs.frame_size, ours.frame_size},
               {"batches", theirs.batch_size, ours.batch_size},   {"gates", theirs.gate_size, ours.gate_size},
               {"plugins", theirs.plugin_size, ours.plugin_size}, {"results", theirs.result_size, ours.result_size}};
  for (const auto& size : sizes)
    if (size.theirs != size.ours) return fmt::format("its {} have {} bytes, not {}", size.what, size.theirs, size.ours);
  if (theirs.drop_reasons != ours.drop_reasons)
    return fmt::format("it knows {} drop reasons, not {}", theirs.drop_reasons, ours.drop_reasons);
  if (theirs.create == nullptr) return "its table has no create function";
  return {};
}

Result<Module> load(const std::string& path) {
  const std::string attempted = "load plugin " + path;
  void* const opened = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (opened == nullptr) return efio::fail(Error::Kind::usage, attempted, "{}", ::dlerror());
  std::shared_ptr<void> handle(opened, [](void* module) { ::dlclose(module); });
  const auto factory = reinterpret_cast<PluginFactory*>(::dlsym(opened, plugin_factory));
  if (factory == nullptr)
    return efio::fail(Error::Kind::usage, attempted, "it has no function {}()", plugin_factory)
        .hint("EFNET_PLUGIN of efnet/plugins/plugin.h writes one");
  const PluginModule* const table = factory();
  if (table == nullptr) return efio::fail(Error::Kind::usage, attempted, "{}() returns nothing", plugin_factory);
  if (std::string why = misfit(*table); !why.empty())
    return efio::fail(Error::Kind::unavailable, attempted, "{}", why)
        .hint("build it again with this library's headers");
  return Module{std::move(handle), table};
}

// The path of the shared object that `name` means; empty if there is none.
std::string find_module(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  for (const std::string& folder : plugin_folders()) {
    const auto path = std::filesystem::path(folder) / (name + ".so");
    std::error_code none;
    if (std::filesystem::is_regular_file(path, none)) return path;
  }
  return {};
}

std::string known_names() {
  std::string names;
  for (const ReadyPlugin& ready : ready_plugins()) names += (names.empty() ? "" : ", ") + std::string(ready.name);
  return names;
}

}  // namespace

std::vector<std::string> plugin_folders() {
  std::vector<std::string> folders;
  if (const char* path = std::getenv("EFIO_PLUGIN_PATH"))
    for (std::string_view left = path; !left.empty();) {
      const auto colon = left.find(':');
      if (colon != 0) folders.emplace_back(left.substr(0, colon));
      left.remove_prefix(colon == std::string_view::npos ? left.size() : colon + 1);
    }
  folders.emplace_back(EFIO_PLUGIN_DIR);
  return folders;
}

Result<std::shared_ptr<Plugin>> make_plugin(std::string_view text) {
  const auto colon = text.find(':');
  const std::string name(text.substr(0, colon));
  const std::string_view arguments = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);

  for (const ReadyPlugin& ready : ready_plugins())
    if (ready.name == name) {
      auto made = ready.create(arguments);
      if (!made) return std::unexpected(std::move(made.error()));
      return std::shared_ptr<Plugin>(std::move(*made));
    }

  const std::string path = find_module(name);
  if (path.empty())
    return efio::fail(Error::Kind::usage, fmt::format("plugin {}", text), "there is no plugin \"{}\"", name)
        .hint("{}, or the path of a shared object", known_names());
  auto module = load(path);
  if (!module) return std::unexpected(std::move(module.error()));
  auto made = module->table->create(arguments);
  if (!made) return std::unexpected(std::move(made.error()));
  // The code that ends the plugin is the module's: the deleter keeps it, and lets go of it last.
  return std::shared_ptr<Plugin>(made->release(),
                                 [handle = std::move(module->handle)](Plugin* plugin) { delete plugin; });
}

std::vector<PluginInfo> plugins() {
  std::vector<PluginInfo> found;
  for (const ReadyPlugin& ready : ready_plugins())
    found.push_back({std::string(ready.name), std::string(ready.arguments), std::string(ready.description)});
  for (const std::string& folder : plugin_folders()) {
    std::error_code none;
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(folder, none))
      if (entry.path().extension() == ".so") paths.push_back(entry.path());
    std::ranges::sort(paths);
    for (const auto& path : paths)
      if (const auto module = load(path)) found.push_back({path.stem(), "", module->table->description});
  }
  return found;
}

}  // namespace efnet
