#include "tools/common/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "efio/fail.h"

namespace efio::tools {

namespace {

Result<sockaddr_un> address_of(const std::string& path, const std::string& attempted) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(Error::Kind::usage, attempted, "too long for a Unix socket's path");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

const sockaddr* generic(const sockaddr_un& address) { return reinterpret_cast<const sockaddr*>(&address); }

}  // namespace

Result<Fd> listen_at(const std::string& path, int type, unsigned permissions) {
  const auto attempted = "listen at " + path;
  const auto address = address_of(path, attempted);
  if (!address) return std::unexpected(address.error());
  Fd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!socket) return fail(errno, "{}", attempted);
  if (::connect(socket.get(), generic(*address), sizeof *address) == 0)
    return fail(Error::Kind::device, attempted, "another program listens there").hint("name another path");
  struct stat about{};
  if (errno == ECONNREFUSED && ::lstat(path.c_str(), &about) == 0 && S_ISSOCK(about.st_mode)) ::unlink(path.c_str());
  if (::bind(socket.get(), generic(*address), sizeof *address) != 0)
    return fail(errno, "{}", attempted).hint("does its directory exist?");
  if (::chmod(path.c_str(), permissions) != 0 || ::listen(socket.get(), 16) != 0) return fail(errno, "{}", attempted);
  return socket;
}

Result<Fd> connect_to(const std::string& path, int type) {
  const auto attempted = "connect to " + path;
  const auto address = address_of(path, attempted);
  if (!address) return std::unexpected(address.error());
  Fd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!socket || ::connect(socket.get(), generic(*address), sizeof *address) != 0) return fail(errno, "{}", attempted);
  return socket;
}

}  // namespace efio::tools
