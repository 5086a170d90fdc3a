#include "tools/efdoctor/host.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <thread>

#include "efio/descriptor.h"
#include "efio/fail.h"

namespace efio::doctor {

namespace {

constexpr std::size_t longest_file = std::size_t{16} << 20;

struct FileText {
  std::optional<std::string> text;
  int error = 0;
};

FileText read_file(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return {{}, errno};
  std::string text;
  char buffer[16384];
  while (text.size() < longest_file) {
    const auto got = ::read(file.get(), buffer, sizeof buffer);
    if (got < 0) return {{}, errno};
    if (got == 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return {std::move(text), 0};
}

// Into a file that is there: what /proc, /sys and a captured folder are.
Result<void> overwrite_file(const std::string& path, const std::string& text) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
  if (!file) return fail(errno, "write to {}", path);
  // In one call, which is what /proc and /sys take.
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail(errno, "write to {}", path);
  return {};
}

Result<void> make_file(const std::string& path, const std::string& text) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail(errno, "write {}", path);
  return {};
}

std::vector<std::string> names_in(const std::string& path, int* error = nullptr) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
  if (!directory) {
    if (error != nullptr) *error = errno;
    return names;
  }
  while (const dirent* entry = ::readdir(directory.get()))
    if (const std::string name = entry->d_name; name != "." && name != "..") names.push_back(name);
  std::ranges::sort(names);
  return names;
}

std::optional<std::uint32_t> number(const std::string& text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Failure no_such(const Change& change) { return fail(Error::Kind::device, change.what(), "there is no such setting"); }

// What a device's setting is, as text.
Result<std::string> setting_of(const DeviceAnswers& device, const Change& change) {
  switch (change.kind) {
    case Change::Kind::feature:
      if (!device.features.contains(change.key)) return no_such(change);
      return device.is_on(change.key) ? "on" : "off";
    case Change::Kind::ring:
      if (!device.rings) return no_such(change);
      return std::to_string(change.key == "rx" ? device.rings->rx : device.rings->tx);
    case Change::Kind::tx_queue_length:
      return std::to_string(device.tx_queue_length);
    case Change::Kind::file:
      break;
  }
  return no_such(change);
}

// Files below a root; the rest is the kinds' own.
class FileHost : public Host {
 public:
  explicit FileHost(std::string root) : root_(std::move(root)) {}

  std::optional<std::string> read(const std::string& path) override {
    auto [text, error] = read_file(root_ + path);
    if (error == EACCES || error == EPERM) denied_.insert(path);
    return text;
  }
  std::vector<std::string> list(const std::string& path) override {
    int error = 0;
    auto names = names_in(root_ + path, &error);
    if (error == EACCES || error == EPERM) denied_.insert(path);
    return names;
  }

  Result<std::string> current(const Change& change) override {
    if (change.kind != Change::Kind::file) {
      const auto answers = device(change.target);
      if (!answers) return std::unexpected(answers.error());
      return setting_of(*answers, change);
    }
    auto [text, error] = read_file(root_ + change.target);
    if (!text) return fail(error, "read {}", change.target);
    return std::move(*text);
  }
  Result<void> set(const Change& change, const std::string& value) override {
    if (change.kind == Change::Kind::file) return overwrite_file(root_ + change.target, value);
    return set_device(change, value);
  }

 protected:
  virtual Result<void> set_device(const Change& change, const std::string& value) = 0;

  std::string root_;
};

class ThisHost : public FileHost {
 public:
  ThisHost() : FileHost("") {}

  void pause(std::chrono::nanoseconds time) override { std::this_thread::sleep_for(time); }
  std::optional<std::string> read_later(const std::string& path) override { return read(path); }

  std::vector<std::string> devices() override {
    std::vector<std::string> names;
    for (const auto& [name, counts] : tools::device_counts(read_file("/proc/thread-self/net/dev").text.value_or("")))
      names.push_back(name);
    return names;
  }
  Result<DeviceAnswers> device(const std::string& name) override { return ask_device(name); }

  std::string network_namespace() override {
    struct stat about{};
    if (::stat("/proc/thread-self/ns/net", &about) != 0) return {};
    return fmt::format("{}:{}", about.st_dev, about.st_ino);
  }

 protected:
  Result<void> set_device(const Change& change, const std::string& value) override {
    if (change.kind == Change::Kind::feature) return set_feature(change.target, change.key, value == "on");
    const auto wanted = number(value);
    if (!wanted) return no_such(change);
    if (change.kind == Change::Kind::ring) return set_ring(change.target, change.key == "rx", *wanted);
    return set_tx_queue_length(change.target, *wanted);
  }
};

class CapturedHost : public FileHost {
 public:
  explicit CapturedHost(const std::string& directory) : FileHost(directory) {
    const auto unreadable = read_file(root_ + "/efdoctor/unreadable").text.value_or("");
    for (const auto line : tools::lines_of(unreadable)) denied_.emplace(line);
  }

  void pause(std::chrono::nanoseconds) override {}
  std::optional<std::string> read_later(const std::string& path) override {
    return read_file(root_ + "/later" + path).text;
  }

  std::vector<std::string> devices() override {
    constexpr std::string_view ending = ".json";
    auto names = names_in(root_ + "/efdoctor/devices");
    std::erase_if(names, [&](const std::string& name) { return !name.ends_with(ending); });
    for (auto& name : names) name.resize(name.size() - ending.size());
    return names;
  }
  Result<DeviceAnswers> device(const std::string& name) override {
    const auto path = path_of(name);
    const auto file = read_file(path);
    if (name.find('/') != std::string::npos || !file.text)
      return fail(Error::Kind::device, "look at " + name, "{} has no such device", root_);
    return from_json(*file.text, path);
  }
  std::string network_namespace() override { return {}; }

 protected:
  Result<void> set_device(const Change& change, const std::string& value) override {
    auto answers = device(change.target);
    if (!answers) return std::unexpected(answers.error());
    if (auto has = setting_of(*answers, change); !has) return std::unexpected(has.error());
    const auto wanted = number(value);
    if (change.kind == Change::Kind::feature)
      answers->features[change.key].on = value == "on";
    else if (!wanted)
      return no_such(change);
    else if (change.kind == Change::Kind::ring)
      (change.key == "rx" ? answers->rings->rx : answers->rings->tx) = *wanted;
    else
      answers->tx_queue_length = *wanted;
    // Replaced whole: half of it would be no device at all.
    const auto path = path_of(change.target), fresh = path + ".new";
    if (auto made = make_file(fresh, pretty(to_json(*answers))); !made) return made;
    if (::rename(fresh.c_str(), path.c_str()) != 0) return fail(errno, "write {}", path);
    return {};
  }

 private:
  std::string path_of(const std::string& device) const { return root_ + "/efdoctor/devices/" + device + ".json"; }
};

class FileRecorder : public Recorder {
 public:
  FileRecorder(std::unique_ptr<Host> host, std::string directory)
      : host_(std::move(host)), directory_(std::move(directory)) {}

  std::optional<std::string> read(const std::string& path) override { return keep(path, path, host_->read(path)); }
  std::optional<std::string> read_later(const std::string& path) override {
    return keep(path, "/later" + path, host_->read_later(path));
  }
  std::vector<std::string> list(const std::string& path) override {
    auto names = host_->list(path);
    if (host_->denied().contains(path)) denied_.insert(path);
    if (path == "/proc") return names;  // of each process something is read; what else stands there nobody asked for
    for (const auto& name : names)
      if (!std::filesystem::exists(directory_ + path + "/" + name)) save(path + "/" + name, "");
    return names;
  }
  void pause(std::chrono::nanoseconds time) override { host_->pause(time); }
  std::vector<std::string> devices() override { return host_->devices(); }
  Result<DeviceAnswers> device(const std::string& name) override {
    auto answers = host_->device(name);
    if (answers) save("/efdoctor/devices/" + name + ".json", pretty(to_json(*answers)));
    return answers;
  }
  std::string network_namespace() override { return host_->network_namespace(); }
  Result<std::string> current(const Change& change) override { return host_->current(change); }
  Result<void> set(const Change& change, const std::string& value) override { return host_->set(change, value); }

  Result<void> finish() override {
    std::string unreadable;
    for (const auto& path : denied_) unreadable += path + "\n";
    if (!unreadable.empty()) save("/efdoctor/unreadable", unreadable);
    return outcome_;
  }

 private:
  std::optional<std::string> keep(const std::string& path, const std::string& place, std::optional<std::string> text) {
    if (host_->denied().contains(path)) denied_.insert(path);
    if (text) save(place, *text);
    return text;
  }

  // A name that was only listed stands as an empty file until something inside it is read.
  void save(const std::string& place, const std::string& text) {
    if (!outcome_) return;
    const std::filesystem::path path = directory_ + place;
    std::error_code error;
    for (auto folder = path.parent_path(); folder != directory_ && folder.has_relative_path();
         folder = folder.parent_path())
      if (std::filesystem::is_regular_file(folder, error)) std::filesystem::remove(folder, error);
    std::filesystem::create_directories(path.parent_path(), error);
    if (std::filesystem::is_directory(path, error)) return;  // listed again
    outcome_ = make_file(path.string(), text);
  }

  std::unique_ptr<Host> host_;
  std::string directory_;
  Result<void> outcome_;
};

}  // namespace

std::unique_ptr<Host> this_host() { return std::make_unique<ThisHost>(); }

Result<std::unique_ptr<Host>> captured_host(const std::string& directory) {
  std::error_code error;
  if (!std::filesystem::is_directory(directory + "/proc", error))
    return fail(Error::Kind::device, "read " + directory, "there is no folder {}/proc", directory)
        .hint("`efdoctor capture {}` makes one", directory);
  return std::make_unique<CapturedHost>(directory);
}

Result<std::unique_ptr<Recorder>> record(std::unique_ptr<Host> host, const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return fail(error.value(), "make {}", directory);
  if (!std::filesystem::is_empty(directory, error))
    return fail(Error::Kind::usage, "capture into " + directory, "the folder is not empty").hint("name a new one");
  return std::make_unique<FileRecorder>(std::move(host), directory);
}

}  // namespace efio::doctor
