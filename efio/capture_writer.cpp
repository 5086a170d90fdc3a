#include "efio/capture_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "efio/descriptor.h"
#include "efio/fail.h"
#include "efio/version.h"

namespace efio {

namespace {

// As libpcap and Wireshark read it; draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
constexpr std::uint32_t magic_ns = 0xa1b23c4d;
constexpr std::uint32_t link_type_ethernet = 1;
constexpr std::uint32_t largest_snaplen = 262144;
constexpr std::uint32_t section_header = 0x0a0d0d0a, interface_description = 1, enhanced_packet = 6;
constexpr std::uint16_t option_end = 0, option_comment = 1, option_application = 4, option_name = 2, option_description = 3,
                        option_resolution = 9;
constexpr std::size_t record_header = 16, packet_header = 28, trailer = 4;

constexpr std::size_t buffer_size = 256 * 1024;
constexpr std::uint64_t second = 1'000'000'000;

constexpr std::size_t padded(std::size_t length) noexcept { return (length + 3) & ~std::size_t{3}; }

bool is_regular(const Fd& fd) noexcept {
  struct stat about {};
  return ::fstat(fd.get(), &about) == 0 && S_ISREG(about.st_mode);
}

std::uint32_t word_at(const std::byte* from) noexcept {
  std::uint32_t value = 0;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// A pcapng block in the making.
class Block {
 public:
  explicit Block(std::uint32_t type) { word(type), word(0); }
  Block& word(std::uint32_t value) { return raw(&value, sizeof value); }
  Block& option(std::uint16_t code, std::string_view value) {
    value = value.substr(0, UINT16_MAX);
    const auto length = static_cast<std::uint16_t>(value.size());
    raw(&code, sizeof code).raw(&length, sizeof length).raw(value.data(), value.size());
    bytes_.resize(padded(bytes_.size()));
    return *this;
  }
  void append_to(std::vector<std::byte>& file) {
    word(option_end);
    const auto total = static_cast<std::uint32_t>(bytes_.size() + trailer);
    word(total);
    std::memcpy(bytes_.data() + 4, &total, sizeof total);
    file.insert(file.end(), bytes_.begin(), bytes_.end());
  }

 private:
  Block& raw(const void* from, std::size_t n) {
    const auto* bytes = static_cast<const std::byte*>(from);
    bytes_.insert(bytes_.end(), bytes, bytes + n);
    return *this;
  }
  std::vector<std::byte> bytes_;
};

void describe(const CaptureWriter::Interface& interface, std::uint32_t snaplen, std::vector<std::byte>& into) {
  Block block(interface_description);
  block.word(link_type_ethernet).word(snaplen);
  if (!interface.name.empty()) block.option(option_name, interface.name);
  if (!interface.description.empty()) block.option(option_description, interface.description);
  block.option(option_resolution, "\x09").append_to(into);  // 10^-9 s
}

std::vector<std::byte> file_header(const CaptureWriter::Options& options, CaptureWriter::Format format) {
  std::vector<std::byte> bytes;
  if (format == CaptureWriter::Format::pcap) {
    const std::array<std::uint32_t, 6> header = {magic_ns, 2U | 4U << 16, 0, 0,
                                                 options.snaplen == 0 ? largest_snaplen : options.snaplen, link_type_ethernet};
    static_assert(std::endian::native == std::endian::little, "the version is two 16-bit numbers");
    bytes.resize(sizeof header);
    std::memcpy(bytes.data(), header.data(), sizeof header);
    return bytes;
  }
  Block(section_header)
      .word(0x1a2b3c4d)
      .word(1)  // version 1.0
      .word(UINT32_MAX)
      .word(UINT32_MAX)  // the section's length is not known
      .option(option_application, fmt::format("efio {}", version()))
      .append_to(bytes);
  for (const auto& interface : options.interfaces) describe(interface, options.snaplen, bytes);
  return bytes;
}

}  // namespace

struct CaptureWriter::State {
  std::string path;
  Options options;
  Format format = Format::pcap;
  std::vector<std::byte> header;
  Fd fd;
  bool cuttable = false;        // a file of ours alone, that can be cut back
  unsigned number = 0;          // of the rotation
  std::uint64_t file_size = 0;  // whole records
  std::unique_ptr<std::byte[]> buffer;
  std::size_t capacity = 0, used = 0;
  std::uint64_t frames = 0, buffered_frames = 0;
  std::optional<Error> error;
  bool closed = false;

  std::string name() const { return number == 0 ? path : fmt::format("{}.{}", path, number); }

  bool failed(int os) noexcept {
    if (error) return false;
    auto failure = fail(os, "write {}", name());
    error = (os == ENOSPC || os == EDQUOT || os == EFBIG
                 ? std::move(failure).hint("the file ends with its last whole record; make room, or write elsewhere")
                 : std::move(failure))
                .error();
    return false;
  }

  Result<void> open_file() {
    const auto attempted = fmt::format("write {}", name());
    if (path == "-") {
      fd = Fd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0));
      if (!fd) return fail(errno, "{}", attempted);
    } else {
      // Not O_TRUNC: another writer's file must not be emptied. O_NONBLOCK: a FIFO without a reader is no reason to hang.
      fd = Fd(::open(name().c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
      const bool created = static_cast<bool>(fd);
      if (!fd && errno == EEXIST) fd = Fd(::open(name().c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK));
      if (!fd && errno == ENXIO) return fail(errno, "{}", attempted).hint("a FIFO needs its reader first");
      if (!fd) return fail(errno, "{}", attempted);
      ::fcntl(fd.get(), F_SETFL, 0);
      if (is_regular(fd) && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        fd = Fd();
        return fail(Error::Kind::device, attempted, "another writer has it open").hint("another name, or end the other writer");
      }
      if (auto ok = start_file(); !ok) {
        if (created) ::unlink(name().c_str());
        fd = Fd();
        return ok;
      }
      return {};
    }
    return start_file();
  }

  Result<void> start_file() {
    cuttable = path != "-" && is_regular(fd);
    if (cuttable && ::ftruncate(fd.get(), 0) != 0) return fail(errno, "empty {}", name());
    std::size_t done = 0;
    if (!write_all(header.data(), header.size(), done)) return fail(errno, "write {}", name());
    file_size = header.size();
    return {};
  }

  // errno tells why not; `done` bytes are in the file in any case.
  bool write_all(const std::byte* from, std::size_t n, std::size_t& done) noexcept {
    while (done < n) {
      const auto written = ::write(fd.get(), from + done, n - done);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) {
        if (written == 0) errno = ENOSPC;
        return false;
      }
      done += static_cast<std::size_t>(written);
    }
    return true;
  }

  std::size_t record_size(const std::byte* record) const noexcept {
    return format == Format::pcap ? record_header + word_at(record + 8) : word_at(record + 4);
  }

  bool write_out() noexcept {
    if (error) return false;
    std::size_t done = 0;
    if (write_all(buffer.get(), used, done)) {
      file_size += used;
      frames += buffered_frames;
      used = buffered_frames = 0;
      return true;
    }
    const int os = errno;
    std::size_t whole = 0;
    while (whole + record_header <= done) {
      const auto size = record_size(buffer.get() + whole);
      if (whole + size > done) break;
      whole += size;
      ++frames;
    }
    file_size += whole;
    if (cuttable) [[maybe_unused]]
      const int cut = ::ftruncate(fd.get(), static_cast<off_t>(file_size));
    used = buffered_frames = 0;
    return failed(os);
  }

  bool close_file() noexcept {
    return ::close(fd.release()) == 0 || failed(errno);
  }

  bool next_file() noexcept {
    if (!write_out() || !close_file()) return false;
    ++number;
    if (auto ok = open_file(); !ok) {
      error = ok.error();
      return false;
    }
    return true;
  }

  // Room for a record of so many bytes, in the right file.
  bool make_room(std::size_t size) noexcept {
    if (options.rotate != 0 && file_size + used + size > options.rotate && file_size + used > header.size() && !next_file())
      return false;
    if (capacity - used >= size) return true;
    if (!write_out()) return false;
    if (size > capacity) {
      buffer.reset(new (std::nothrow) std::byte[size]);
      capacity = buffer ? size : 0;
      if (!buffer) return failed(ENOMEM);
    }
    return true;
  }
};

CaptureWriter::CaptureWriter(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
CaptureWriter::CaptureWriter(CaptureWriter&&) noexcept = default;
CaptureWriter& CaptureWriter::operator=(CaptureWriter&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}
CaptureWriter::~CaptureWriter() {
  if (state_) (void)close();
}

Result<CaptureWriter> CaptureWriter::create(const std::string& path, Options options) {
  if (path == "-" && options.rotate != 0)
    return fail(Error::Kind::usage, "write -", "standard output cannot be rotated").hint("name a file");
  if (options.interfaces.empty()) options.interfaces.push_back({});
  auto state = std::make_unique<State>();
  state->path = path;
  state->format = options.format.value_or(path.ends_with(".pcapng") ? Format::pcapng : Format::pcap);
  state->options = std::move(options);
  state->header = file_header(state->options, state->format);
  state->buffer.reset(new std::byte[buffer_size]);
  state->capacity = buffer_size;
  if (auto ok = state->open_file(); !ok) return std::unexpected(ok.error());
  return CaptureWriter(std::move(state));
}

std::uint32_t CaptureWriter::add_interface(Interface interface) {
  State& s = *state_;
  if (s.format == Format::pcap) return 0;
  std::vector<std::byte> block;
  describe(interface, s.options.snaplen, block);
  // The file at hand gets it here, and every later one with its header.
  if (!s.error && !s.closed && s.make_room(block.size())) {
    std::ranges::copy(block, s.buffer.get() + s.used);
    s.used += block.size();
  }
  s.options.interfaces.push_back(std::move(interface));
  s.header = file_header(s.options, s.format);
  return static_cast<std::uint32_t>(s.options.interfaces.size() - 1);
}

bool CaptureWriter::append(std::span<const std::byte> frame, const Record& record) noexcept {
  State& s = *state_;
  if (s.error || s.closed) return false;
  const auto given = static_cast<std::uint32_t>(frame.size());
  const std::uint32_t kept = s.options.snaplen == 0 ? given : std::min(given, s.options.snaplen);
  const std::uint32_t length = record.length == 0 ? given : record.length;
  if (s.format == Format::pcap) {
    const std::size_t size = record_header + kept;
    if (!s.make_room(size)) return false;
    std::byte* at = s.buffer.get() + s.used;
    const std::array<std::uint32_t, 4> header = {static_cast<std::uint32_t>(record.time / second),
                                                 static_cast<std::uint32_t>(record.time % second), kept, length};
    std::memcpy(at, header.data(), sizeof header);
    std::copy_n(frame.data(), kept, at + record_header);  // also of no bytes at no address
    s.used += size;
  } else {
    if (record.interface >= s.options.interfaces.size()) return false;
    const auto comment = record.comment.substr(0, UINT16_MAX);
    const std::size_t options = comment.empty() ? 0 : 4 + padded(comment.size()) + 4;
    const std::size_t body = padded(kept);
    const std::size_t size = packet_header + body + options + trailer;
    if (!s.make_room(size)) return false;
    std::byte* at = s.buffer.get() + s.used;
    const auto total = static_cast<std::uint32_t>(size);
    const std::array<std::uint32_t, 7> header = {enhanced_packet, total, record.interface,
                                                 static_cast<std::uint32_t>(record.time >> 32),
                                                 static_cast<std::uint32_t>(record.time), kept, length};
    std::memcpy(at, header.data(), sizeof header);
    std::byte* behind = at + packet_header + body;
    if (body > kept) std::memset(behind - 4, 0, 4);  // the padding lies in the last word
    std::copy_n(frame.data(), kept, at + packet_header);
    if (options != 0) {
      const std::array<std::uint16_t, 2> option = {option_comment, static_cast<std::uint16_t>(comment.size())};
      std::memset(behind, 0, options);  // padding, and the end of the options
      std::memcpy(behind, option.data(), sizeof option);
      std::memcpy(behind + 4, comment.data(), comment.size());
    }
    std::memcpy(at + size - trailer, &total, sizeof total);
    s.used += size;
  }
  ++s.buffered_frames;
  return true;
}

bool CaptureWriter::flush() noexcept { return state_->used == 0 ? !state_->error : state_->write_out(); }

std::uint64_t CaptureWriter::frames() const noexcept { return state_->frames; }
CaptureWriter::Format CaptureWriter::format() const noexcept { return state_->format; }

Result<void> CaptureWriter::status() const {
  if (state_->error) return std::unexpected(*state_->error);
  return {};
}

Result<void> CaptureWriter::close() {
  State& s = *state_;
  if (!s.closed) {
    flush();
    s.closed = true;
    s.close_file();
  }
  return status();
}

}  // namespace efio
