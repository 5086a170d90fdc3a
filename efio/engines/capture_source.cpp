#include "efio/engines/capture_source.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "efio/fail.h"

namespace efio {

namespace {
constexpr std::size_t read_size = 256 * 1024;
}

Result<CaptureSource> CaptureSource::open(const std::string& path, const std::string& attempted) {
  CaptureSource source;
  source.fd_ = Fd(path == "-" ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                              : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!source.fd_) return fail(errno, "{}", attempted);
  struct stat about {};
  if (::fstat(source.fd_.get(), &about) != 0) return fail(errno, "{}", attempted);
  if (S_ISDIR(about.st_mode)) return fail(EISDIR, "{}", attempted);
  source.stream_ = S_ISFIFO(about.st_mode) || S_ISSOCK(about.st_mode) || ::isatty(source.fd_.get()) == 1;
  if (!source.grow(read_size)) return fail(errno, "{}", attempted);
  return source;
}

CaptureSource::Filled CaptureSource::fill(std::size_t wanted) noexcept {
  const auto left = static_cast<std::size_t>(end_ - at_);
  if (wanted > capacity_ && !grow(wanted + read_size)) return Filled::failed;
  std::memmove(buffer_.get(), at_, left);
  at_ = buffer_.get();
  end_ = at_ + left;
  if (stream_) {
    pollfd look{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&look, 1, 0) <= 0) return Filled::nothing;
  }
  for (;;) {
    const auto got = ::read(fd_.get(), buffer_.get() + left, capacity_ - left);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return Filled::nothing;
    if (got < 0) return Filled::failed;
    end_ += got;
    return got == 0 ? Filled::end : Filled::data;
  }
}

bool CaptureSource::rewind() noexcept {
  at_ = end_ = buffer_.get();
  return ::lseek(fd_.get(), 0, SEEK_SET) == 0;
}

bool CaptureSource::grow(std::size_t size) noexcept {
  std::unique_ptr<std::byte[]> larger(new (std::nothrow) std::byte[size]);
  if (!larger) {
    errno = ENOMEM;
    return false;
  }
  const auto left = static_cast<std::size_t>(end_ - at_);
  if (left > 0) std::memcpy(larger.get(), at_, left);
  buffer_ = std::move(larger);
  capacity_ = size;
  at_ = buffer_.get();
  end_ = at_ + left;
  return true;
}

}  // namespace efio
