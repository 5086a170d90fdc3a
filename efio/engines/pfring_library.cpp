#include "efio/engines/pfring_library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <mutex>
#include <string_view>

#include "efio/fail.h"

namespace efio::pfring {

namespace {

constexpr const char* names[] = {"libpfring.so", "libpfring.so.9", "libpfring.so.8", "libpfring.so.7"};
constexpr std::string_view how_to_get =
    "install ntop's packages pfring and pfring-dkms (packages.ntop.org), or build both from github.com/ntop/PF_RING; docs/ports.md has "
    "the steps";

template <class Function>
bool find(void* handle, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(handle, name));
  return function != nullptr;
}

}  // namespace

std::uint64_t PacketHeader::time_ns() const noexcept {
  if (const auto ns = read64(24); ns != 0) return ns;
  return read64(0) * 1'000'000'000 + read64(8) * 1'000;
}

bool module_loaded() {
  if (::access("/proc/net/pf_ring", F_OK) == 0) return true;
  std::ifstream modules("/proc/modules");
  for (std::string line; std::getline(modules, line);)
    if (line.starts_with("pf_ring ")) return true;
  return false;
}

Result<const Library*> Library::load(const std::string& path, const std::string& attempted) {
  static std::mutex mutex;
  static std::map<std::string, Library> loaded;
  const std::scoped_lock lock(mutex);
  if (const auto known = loaded.find(path); known != loaded.end()) return &known->second;

  // Lazily: the library has references that only programs with its own libpcap fulfil.
  void* handle = nullptr;
  std::string why;
  const auto attempt = [&](const char* name) {
    if (handle != nullptr) return;
    handle = ::dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    if (const char* text = handle == nullptr ? ::dlerror() : nullptr; text != nullptr && why.empty()) why = text;
  };
  if (!path.empty()) attempt(path.c_str());
  else
    for (const char* name : names) attempt(name);
  if (handle == nullptr)
    return fail(Error::Kind::unavailable, attempted, "libpfring cannot be loaded: {}", why).hint("{}", how_to_get);

  Library library{};
  const bool complete =
      find(handle, "pfring_open", library.open) && find(handle, "pfring_enable_ring", library.enable) &&
      find(handle, "pfring_set_direction", library.set_direction) &&
      find(handle, "pfring_set_socket_mode", library.set_socket_mode) && find(handle, "pfring_recv", library.receive) &&
      find(handle, "pfring_send", library.send) && find(handle, "pfring_poll", library.poll) &&
      find(handle, "pfring_get_selectable_fd", library.descriptor) && find(handle, "pfring_stats", library.statistics) &&
      find(handle, "pfring_close", library.close) && find(handle, "pfring_version", library.version);
  find(handle, "pfring_set_poll_watermark", library.set_watermark);
  if (!complete) {
    ::dlclose(handle);
    return fail(Error::Kind::unavailable, attempted, "{} is no libpfring", path.empty() ? names[0] : path.c_str())
        .hint("{}", how_to_get);
  }
  return &loaded.emplace(path, library).first->second;
}

}  // namespace efio::pfring
