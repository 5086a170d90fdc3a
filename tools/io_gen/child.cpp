#include "tools/io_gen/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "efio/clock.h"
#include "efio/fail.h"

namespace efio::io_gen {

namespace {

constexpr std::uint64_t patience_ns = 20'000'000'000;
constexpr std::string_view prefix = "io_gen: ";

// All that comes until the other end closes, `until` has come, or patience is at an end.
std::string read_text(const Fd& fd, std::string_view until = {}) {
  std::string text;
  const std::uint64_t end = Clock::monotonic() + patience_ns;
  while (Clock::monotonic() < end) {
    pollfd waiting{fd.get(), POLLIN, 0};
    if (::poll(&waiting, 1, 100) <= 0) continue;
    std::array<char, 4096> some;
    const auto size = ::read(fd.get(), some.data(), some.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    text.append(some.data(), static_cast<std::size_t>(size));
    if (!until.empty() && text.ends_with(until)) break;
  }
  return text;
}

Result<std::pair<Fd, Fd>> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail(errno, "start a second process");
  return std::pair(Fd(ends[0]), Fd(ends[1]));
}

}  // namespace

Result<Child> Child::start(std::vector<std::string> words) {
  words.insert(words.begin(), "io_gen");
  words.insert(words.end(), {"--json", "--say-ready"});
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  auto output = make_pipe();
  if (!output) return std::unexpected(output.error());
  auto complaints = make_pipe();
  if (!complaints) return std::unexpected(complaints.error());
  Child child;
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, output->second.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, complaints->second.get(), STDERR_FILENO);
  const int error = ::posix_spawn(&child.pid_, "/proc/self/exe", &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return fail(error, "start a second process");
  child.output_ = std::move(output->first);
  child.complaints_ = std::move(complaints->first);
  output->second = Fd();
  complaints->second = Fd();

  auto said = read_text(child.complaints_, "ready\n");
  if (said.ends_with("ready\n")) return child;
  if (said.starts_with(prefix)) said.erase(0, prefix.size());
  while (said.ends_with('\n')) said.pop_back();
  return fail(Error::Kind::device, "in a second process", "{}", said.empty() ? "it does not begin" : said);
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), output_(std::move(other.output_)), complaints_(std::move(other.complaints_)) {}

Child& Child::operator=(Child&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(output_, other.output_);
  std::swap(complaints_, other.complaints_);
  return *this;
}

Child::~Child() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

Result<nlohmann::json> Child::finish() {
  ::kill(pid_, SIGINT);
  auto told = nlohmann::json::parse(read_text(output_), nullptr, false);
  if (told.is_discarded())
    return fail(Error::Kind::device, "in a second process", "it ended without a report: {}", read_text(complaints_));
  return told;
}

}  // namespace efio::io_gen
