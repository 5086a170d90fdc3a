#include "tools/efnet/mapping_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fstream>

#include "efio/clock.h"
#include "efio/fail.h"
#include "efnet/wire/format.h"
#include "tools/efnet/state.h"

namespace efio::gate {

namespace {

constexpr auto period = std::chrono::milliseconds(100);
constexpr std::size_t longest_write = 1 << 18;
constexpr std::int64_t second = 1'000'000'000;

constexpr std::array<std::string_view, 4> kinds{"mapped", "unmapped", "block_opened", "block_closed"};
std::string_view kind_name(efnet::NatEvent::Kind kind) { return kinds[static_cast<std::size_t>(kind)]; }

// {"at":…,"time":…,"event":…,"inside":…,"outside":…}; the protocol of a mapping, the ports of a block.
void append_line(std::string& text, const efnet::NatEvent& event, std::int64_t at) {
  const time_t seconds = at / second;
  struct tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 32> time{};
  const auto length = std::strftime(time.data(), time.size(), "%FT%T", &parts);
  auto to = std::back_inserter(text);
  fmt::format_to(to, R"({{"at":{},"time":"{}.{:06}Z","event":"{}",)", at, std::string_view(time.data(), length),
                 at % second / 1000, kind_name(event.kind));
  if (event.kind == efnet::NatEvent::Kind::mapped || event.kind == efnet::NatEvent::Kind::unmapped)
    fmt::format_to(to, R"("protocol":"{}","inside":"{}:{}","outside":"{}:{}"}})", name(event.protocol), event.inside,
                   event.inside_port, event.outside, event.ports.first);
  else
    fmt::format_to(to, R"("inside":"{}","outside":"{}","ports":"{}"}})", event.inside, event.outside, event.ports);
  text += '\n';
}

std::string numbered(const std::string& file, std::size_t number) {
  return number == 0 ? file : fmt::format("{}.{}", file, number);
}

}  // namespace

Result<std::unique_ptr<MappingLog>> MappingLog::open(MappingLogOptions options) {
  Fd file(::open(options.file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640));
  struct stat about{};
  if (!file || ::fstat(file.get(), &about) != 0) return fail(errno, "log to {}", options.file);
  return std::unique_ptr<MappingLog>(
      new MappingLog(std::move(options), std::move(file), static_cast<std::uint64_t>(about.st_size)));
}

MappingLog::MappingLog(MappingLogOptions options, Fd file, std::uint64_t size)
    : options_(std::move(options)), file_(std::move(file)), size_(size), ring_(places) {
  thread_ = std::jthread([this](const std::stop_token& stop) { write_on(stop); });
}

MappingLog::~MappingLog() {
  thread_.request_stop();
  thread_.join();
}

void MappingLog::add(const efnet::NatEvent& event) noexcept {
  if (event.at.count() == 0) return;
  const std::uint32_t tail = tail_.load(std::memory_order_relaxed);
  if (tail - head_.load(std::memory_order_acquire) == places) {
    no_room_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  ring_[tail % places] = event;
  tail_.store(tail + 1, std::memory_order_release);
}

void MappingLog::write_on(const std::stop_token& stop) {
  while (!stop.stop_requested())
    if (!write_some()) std::this_thread::sleep_for(period);
  while (write_some()) {}
}

bool MappingLog::write_some() {
  const std::uint32_t head = head_.load(std::memory_order_relaxed);
  const std::uint32_t tail = tail_.load(std::memory_order_acquire);
  if (head == tail) return false;
  // The events have the time of a clock that does not jump.
  const auto ahead = static_cast<std::int64_t>(Clock::now()) - static_cast<std::int64_t>(Clock::monotonic());
  std::string text;
  std::uint64_t lines = 0;
  for (std::uint32_t at = head; at != tail; ++at) {
    const auto& event = ring_[at % places];
    append_line(text, event, event.at.count() + ahead);
    ++lines;
    if (text.size() >= longest_write || at + 1 == tail) {
      flush(text, lines);
      lines = 0;
      head_.store(at + 1, std::memory_order_release);
    }
  }
  return true;
}

void MappingLog::flush(std::string& text, std::uint64_t lines) {
  if (options_.rotate != 0 && size_ != 0 && size_ + text.size() > options_.rotate) rotate();
  std::string_view left = text;
  while (!left.empty()) {
    const auto n = ::write(file_.get(), left.data(), left.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;  // a full disk: these are lost
    left.remove_prefix(static_cast<std::size_t>(n));
    size_ += static_cast<std::uint64_t>(n);
  }
  (left.empty() ? written_ : unwritten_).fetch_add(lines, std::memory_order_relaxed);
  text.clear();
}

void MappingLog::rotate() {
  for (std::size_t number = options_.keep; number > 0; --number)
    (void)std::rename(numbered(options_.file, number - 1).c_str(), numbered(options_.file, number).c_str());
  if (options_.keep == 0) (void)std::remove(options_.file.c_str());
  Fd file(::open(options_.file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640));
  if (!file) return;  // the old one goes on
  file_ = std::move(file);
  size_ = 0;
}

// ---- Looking back ----

std::optional<std::int64_t> parse_instant(std::string_view text) noexcept {
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error == std::errc() && end == text.data() + text.size())
    return seconds >= 0 && seconds < INT64_MAX / second ? std::optional(seconds * second) : std::nullopt;
  struct tm parts{};
  const std::string whole(text);
  const char* rest = ::strptime(whole.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr) return std::nullopt;
  std::int64_t fraction = 0;
  if (*rest == '.') {
    std::int64_t unit = second;
    for (++rest; *rest >= '0' && *rest <= '9' && unit > 1; ++rest) fraction += (*rest - '0') * (unit /= 10);
  }
  if (std::string_view(rest) != "Z" && *rest != '\0') return std::nullopt;
  return std::int64_t{::timegm(&parts)} * second + fraction;
}

Result<std::optional<std::string>> find_owner(const std::string& file, efnet::IpProtocol protocol,
                                              efnet::Ipv4Address address, std::uint16_t port, std::int64_t at) {
  std::size_t oldest = 0;
  while (::access(numbered(file, oldest + 1).c_str(), R_OK) == 0) ++oldest;
  const std::string end = fmt::format("{}:{}", address, port), own = to_string(address);
  std::optional<std::string> owner;
  for (std::size_t number = oldest + 1; number-- > 0;) {
    std::ifstream lines(numbered(file, number));
    if (!lines) return fail(errno, "read {}", numbered(file, number));
    for (std::string line; std::getline(lines, line);) {
      const Json json = Json::parse(line, nullptr, false);
      if (!json.is_object() || json.value("at", INT64_MAX) > at) continue;
      const std::string event = json.value("event", "");
      if (event == "mapped" || event == "unmapped") {
        if (json.value("outside", "") != end || json.value("protocol", "") != name(protocol)) continue;
      } else {
        const auto ports = efnet::PortRange::parse(json.value("ports", ""));
        if (json.value("outside", "") != own || !ports || !ports->contains(port)) continue;
      }
      if (event == "mapped" || event == "block_opened")
        owner = line;
      else
        owner.reset();
    }
  }
  return owner;
}

}  // namespace efio::gate
