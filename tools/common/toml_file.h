// A configuration file in TOML, read key by key. Each mistake is told with its place and with what would be right:
// "gate.toml:7: mtu is 20, out of range; 68 to 65535".
//
//     auto file = TomlFile::read("gate.toml");
//     auto inside = file->root().need_table("inside");
//     settings.port = inside.need_text("port", "\"xdp:eth1\"");
//     settings.mtu = inside.integer("mtu", 1500, 68, 65535);
//     for (auto& route : file->root().tables("route")) …
//     if (auto ok = file->finish(); !ok) return std::unexpected(ok.error());
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "efio/result.h"

namespace efio::tools {

struct TomlDocument;
struct TomlNode;

// A table of the file, or one that is not there: then every key has its default. Reads never fail: the first mistake is
// kept for TomlFile::finish(), and the default returned. A key that is read, or asked for by has(), is a known one.
class TomlTable {
 public:
  bool is_there() const noexcept { return node_ != nullptr; }
  bool has(std::string_view key);

  std::string text(std::string_view key, std::string_view otherwise = {});
  std::string word(std::string_view key);  // text, or an integer as text: a rate is 1000 or "2Gbit"
  std::int64_t integer(std::string_view key, std::int64_t otherwise, std::int64_t least, std::int64_t most);
  double number(std::string_view key, double otherwise, double least, double most);
  bool flag(std::string_view key, bool otherwise);
  // An integer, or text as on the command line: "64Ki", "1.5M".
  std::uint64_t count(std::string_view key, std::uint64_t otherwise, std::uint64_t least, std::uint64_t most);
  // Text such as "300ms", or seconds as a number.
  std::chrono::nanoseconds duration(std::string_view key, std::chrono::nanoseconds otherwise,
                                    std::chrono::nanoseconds least, std::chrono::nanoseconds most);
  std::string choice(std::string_view key, std::initializer_list<std::string_view> values);  // the first is the default

  // One value stands for an array of one.
  std::vector<std::string> texts(std::string_view key);
  std::vector<std::int64_t> integers(std::string_view key, std::int64_t least, std::int64_t most);

  TomlTable table(std::string_view key);                // [key]
  std::vector<TomlTable> tables(std::string_view key);  // [[key]]

  // The same of what must be there; `example` is what could stand behind the = sign.
  std::string need_text(std::string_view key, std::string_view example);
  TomlTable need_table(std::string_view key);

  // As in the file, for tables whose keys are names of the user's.
  std::vector<std::string> keys() const;

  // What only the program can judge: a text that is no address. `key`: in this table; empty: the table itself. `element`:
  // of an array, for its line.
  void refuse(std::string_view key, std::string_view why, std::string_view hint, std::size_t element = SIZE_MAX);
  // "FILE:LINE", of the key where it is there, else of the table.
  std::string where(std::string_view key = {}) const;

 private:
  friend class TomlFile;
  TomlTable(std::shared_ptr<TomlDocument> document, TomlNode* node) : document_(std::move(document)), node_(node) {}
  TomlNode* find(std::string_view key) const;
  TomlNode* ask(std::string_view key);
  void missing(std::string_view key, std::string_view example);

  std::shared_ptr<TomlDocument> document_;
  TomlNode* node_;
};

class TomlFile {
 public:
  // Errors: those of the system, where the file cannot be read; usage for what is no TOML (also a key twice).
  static Result<TomlFile> read(const std::string& path);
  static Result<TomlFile> parse(std::string_view text, std::string path);

  TomlTable root() const { return root_; }

  // After all reads. Errors: usage, the first mistake in the file: one that a read found, a key that nobody asked for
  // (with the nearest that somebody did), at last one that is missing.
  Result<void> finish() const;

 private:
  explicit TomlFile(TomlTable root) : root_(std::move(root)) {}
  TomlTable root_;
};

}  // namespace efio::tools
