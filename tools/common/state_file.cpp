#include "tools/common/state_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "efio/descriptor.h"
#include "efio/fail.h"

namespace efio::tools {

Result<void> replace_file(const std::string& path, std::span<const std::byte> bytes) {
  const std::string beside = path + ".new";
  Fd file(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return fail(errno, "write {}", beside);
  const auto give_up = [&](int os) {
    ::unlink(beside.c_str());
    return fail(os, "write {}", beside);
  };
  while (!bytes.empty()) {
    const auto n = ::write(file.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return give_up(errno);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  // What the name will stand for must be on the disk before the name is.
  if (::fsync(file.get()) != 0) return give_up(errno);
  if (::rename(beside.c_str(), path.c_str()) != 0) return give_up(errno);
  const auto parent = std::filesystem::path(path).parent_path();
  const Fd directory(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) return fail(errno, "write {}", path);
  return {};
}

Result<std::optional<std::vector<std::byte>>> read_file(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file && errno == ENOENT) return std::nullopt;
  if (!file) return fail(errno, "read {}", path);
  struct stat about{};
  if (::fstat(file.get(), &about) != 0) return fail(errno, "read {}", path);
  std::vector<std::byte> bytes(static_cast<std::size_t>(about.st_size));
  for (std::size_t at = 0; at < bytes.size();) {
    const auto n = ::read(file.get(), bytes.data() + at, bytes.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(errno, "read {}", path);
    if (n == 0) bytes.resize(at);
    at += static_cast<std::size_t>(n);
  }
  return bytes;
}

}  // namespace efio::tools
