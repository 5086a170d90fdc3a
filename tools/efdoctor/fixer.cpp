#include "tools/efdoctor/fixer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <ranges>

#include "efio/fail.h"
#include "tools/efdoctor/report.h"

namespace efio::doctor {

namespace {

using tools::Json;

constexpr int form = 1;  // of the state file

bool is_of_a_device(const Change& change) { return change.kind != Change::Kind::file; }

// Nothing else is ever entered; a file that says otherwise is not ours.
bool may_be_written(const Change& change) {
  if (is_of_a_device(change)) return true;
  const auto& path = change.target;
  return (path.starts_with("/proc/") || path.starts_with("/sys/")) && path.find("/../") == std::string::npos;
}

Result<Change::Kind> kind_from(const std::string& name) {
  for (const auto kind : {Change::Kind::file, Change::Kind::feature, Change::Kind::ring, Change::Kind::tx_queue_length})
    if (name_of(kind) == name) return kind;
  return fail(Error::Kind::data, "read the state", "there is no kind of setting {}", name);
}

bool same(const std::string& a, const std::string& b) { return shown(a) == shown(b); }

Change turned(Change change) {
  std::swap(change.before, change.after);
  return change;
}

std::string folder_of(const std::string& path) {
  const auto folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

}  // namespace

std::string_view name_of(Outcome::Kind kind) noexcept {
  switch (kind) {
    case Outcome::Kind::done:
      return "done";
    case Outcome::Kind::already:
      return "already so";
    case Outcome::Kind::refused:
      return "refused";
    case Outcome::Kind::left:
      return "left";
    case Outcome::Kind::gone:
      return "gone";
    case Outcome::Kind::waiting:
      return "waiting";
  }
  return "";
}

Result<Fixer> Fixer::open(Host& host, const std::string& state_file) {
  Fixer fixer(host, state_file);
  const auto attempted = "keep the state in " + state_file;
  const auto folder = folder_of(state_file);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail(error.value(), "{}", attempted).hint("--state names another file");
  // The folder's lock, since the file is replaced at each step.
  fixer.lock_ = Fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fixer.lock_) return fail(errno, "{}", attempted);
  if (::flock(fixer.lock_.get(), LOCK_EX | LOCK_NB) != 0)
    return fail(Error::Kind::device, attempted, "another efdoctor is at it").hint("wait for it to end");
  if (auto loaded = fixer.load(); !loaded) return std::unexpected(loaded.error());
  return fixer;
}

Result<void> Fixer::load() {
  const auto attempted = "read the state in " + path_;
  const Fd file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file && errno == ENOENT) return {};
  struct stat about{};
  if (!file || ::fstat(file.get(), &about) != 0) return fail(errno, "{}", attempted);
  // Whoever could write to it could have any setting written by us.
  if (about.st_uid != ::geteuid() || (about.st_mode & (S_IWGRP | S_IWOTH)) != 0 || !S_ISREG(about.st_mode))
    return fail(Error::Kind::permission, attempted, "others may write to it, or own it")
        .hint("remove it, or name another by --state");
  std::string text(static_cast<std::size_t>(about.st_size), '\0');
  if (::read(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail(EIO, "{}", attempted);
  try {
    const auto json = Json::parse(text);
    if (json.at("form").get<int>() != form)
      return fail(Error::Kind::data, attempted, "another version of efdoctor wrote it");
    for (const auto& each : json.at("changes")) {
      const auto kind = kind_from(each.at("kind").get<std::string>());
      if (!kind) return std::unexpected(kind.error());
      Entry entry{.change = {*kind, each.at("target"), each.at("key"), each.at("before"), each.at("after")},
                  .pending = each.at("pending"),
                  .space = each.at("namespace"),
                  .index = each.at("index")};
      if (!may_be_written(entry.change))
        return fail(Error::Kind::data, attempted, "{} is no setting", entry.change.target);
      entries_.push_back(std::move(entry));
    }
  } catch (const Json::exception& error) {
    return fail(Error::Kind::data, attempted, "{}", error.what());
  }
  return {};
}

Result<void> Fixer::save() {
  const auto attempted = "keep the state in " + path_;
  if (entries_.empty()) {
    if (::unlink(path_.c_str()) != 0 && errno != ENOENT) return fail(errno, "{}", attempted);
  } else {
    auto changes = Json::array();
    for (const auto& entry : entries_)
      changes.push_back({{"kind", name_of(entry.change.kind)},
                         {"target", entry.change.target},
                         {"key", entry.change.key},
                         {"before", entry.change.before},
                         {"after", entry.change.after},
                         {"pending", entry.pending},
                         {"namespace", entry.space},
                         {"index", entry.index}});
    const auto text = Json{{"form", form}, {"changes", std::move(changes)}}.dump(2) + "\n";
    const auto fresh = path_ + ".new";
    ::unlink(fresh.c_str());
    const Fd file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
        ::fsync(file.get()) != 0 || ::rename(fresh.c_str(), path_.c_str()) != 0)
      return fail(errno, "{}", attempted);
  }
  if (::fsync(lock_.get()) != 0) return fail(errno, "{}", attempted);
  return {};
}

Result<Outcome> Fixer::make(const Change& change) {
  const auto refused = [&](std::string why) { return Outcome{change, Outcome::Kind::refused, std::move(why)}; };
  if (!may_be_written(change)) return refused("it is no setting of the kernel's");
  const auto now = host_->current(change);
  if (!now) return refused(now.error().message());
  if (same(*now, change.after)) return Outcome{change, Outcome::Kind::already, {}};
  Entry entry{.change = change, .pending = true, .space = {}, .index = 0};
  entry.change.before = *now;
  if (is_of_a_device(change)) {
    const auto device = host_->device(change.target);
    if (!device) return refused(device.error().message());
    entry.space = host_->network_namespace();
    entry.index = device->index;
  }

  // Changed before: what it was at first is what it goes back to.
  auto place = std::ranges::find_if(entries_, [&](const Entry& known) {
    return known.change.same_setting(change) && known.space == entry.space && known.index == entry.index;
  });
  const bool known = place != entries_.end();
  const auto position = place - entries_.begin();
  if (known) {
    place->change.after = change.after;
    place->pending = true;
  } else {
    entries_.push_back(entry);
  }
  if (auto saved = save(); !saved) return std::unexpected(saved.error());

  const auto set = host_->set(change, change.after);
  const auto became = host_->current(change);
  if (!known && (!became || same(*became, entry.change.before))) {
    entries_.pop_back();
  } else {
    auto& kept = entries_[static_cast<std::size_t>(position)];
    kept.pending = !became;
    if (became) kept.change.after = *became;  // drivers may round
  }
  if (auto saved = save(); !saved) return std::unexpected(saved.error());
  if (!set) return refused(set.error().message());
  Outcome outcome{change, Outcome::Kind::done, {}};
  outcome.change.before = entry.change.before;
  if (became) outcome.change.after = *became;
  if (!became || same(*became, entry.change.before)) return refused("it is as it was");
  return outcome;
}

Result<std::vector<Outcome>> Fixer::apply(const std::vector<Change>& changes) {
  std::vector<Outcome> outcomes;
  for (const auto& change : changes) {
    auto outcome = make(change);
    if (!outcome) return std::unexpected(outcome.error());
    outcomes.push_back(std::move(*outcome));
  }
  return outcomes;
}

Result<Outcome> Fixer::put_back(Entry& entry) {
  Outcome outcome{turned(entry.change), Outcome::Kind::done, {}};
  const auto ends = [&](Outcome::Kind kind, std::string why) {
    outcome.kind = kind;
    outcome.why = std::move(why);
    return outcome;
  };
  if (is_of_a_device(entry.change)) {
    if (entry.space != host_->network_namespace())
      return ends(Outcome::Kind::waiting, "it was changed in another network namespace; run `efdoctor --undo` there");
    const auto device = host_->device(entry.change.target);
    if (!device || device->index != entry.index) return ends(Outcome::Kind::gone, "the device is gone");
  }
  const auto now = host_->current(entry.change);
  if (!now) return ends(Outcome::Kind::refused, now.error().message());
  if (*now == entry.change.before) return ends(Outcome::Kind::already, {});
  if (!entry.pending && !same(*now, entry.change.after))
    return ends(Outcome::Kind::left, fmt::format("it is {} by now, which efdoctor did not make it", shown(*now)));
  outcome.change.before = *now;
  entry.pending = true;
  if (auto saved = save(); !saved) return std::unexpected(saved.error());
  if (const auto set = host_->set(entry.change, entry.change.before); !set)
    return ends(Outcome::Kind::refused, set.error().message());
  return outcome;
}

Result<std::vector<Outcome>> Fixer::undo() {
  std::vector<Outcome> outcomes;
  for (std::size_t i = entries_.size(); i-- > 0;) {
    auto outcome = put_back(entries_[i]);
    if (!outcome) return std::unexpected(outcome.error());
    outcomes.push_back(std::move(*outcome));
    const auto kind = outcomes.back().kind;
    if (kind == Outcome::Kind::waiting || kind == Outcome::Kind::refused) continue;
    entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(i));
    if (auto saved = save(); !saved) return std::unexpected(saved.error());
  }
  return outcomes;
}

std::vector<Change> Fixer::recorded() const {
  std::vector<Change> changes;
  for (const auto& entry : entries_ | std::views::reverse) changes.push_back(turned(entry.change));
  return changes;
}

}  // namespace efio::doctor
