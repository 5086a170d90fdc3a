#include "tools/common/toml_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <optional>
#include <toml++/toml.h>

#include "efio/fail.h"
#include "efio/text.h"

namespace efio::tools {

enum class TomlType : std::uint8_t { text, integer, number, flag, time, array, table };

// A value and where it stands. What toml++ made is turned into these at once, so that nothing else sees its types.
struct TomlNode {
  TomlType type = TomlType::table;
  unsigned line = 1;
  std::string text;
  std::int64_t integer = 0;
  double number = 0;
  bool flag = false;
  std::string key;                 // in the table around it
  std::vector<TomlNode> elements;  // of an array
  std::vector<TomlNode> entries;   // of a table
  std::vector<std::string> known;  // keys of the table that somebody asked for
};

struct TomlDocument {
  std::string path;
  TomlNode root;

  struct Mistake {
    unsigned rank;  // lower goes first, then by line
    unsigned line;
    Error error;
  };
  std::optional<Mistake> mistake;

  enum Rank : unsigned { wrong, absent };  // what is missing may stand there, misspelled: that goes first
  void note(Rank rank, unsigned line, std::string_view why, std::string_view hint) {
    if (mistake && std::pair(mistake->rank, mistake->line) <= std::pair(unsigned{rank}, line)) return;
    mistake = {rank, line, fail(Error::Kind::usage, at(line), "{}", why).hint("{}", hint).error()};
  }
  std::string at(unsigned line) const { return fmt::format("{}:{}", path, line); }
};

namespace {

std::string_view name(TomlType type) {
  switch (type) {
    case TomlType::text: return "text";
    case TomlType::integer: return "an integer";
    case TomlType::number: return "a number";
    case TomlType::flag: return "true or false";
    case TomlType::time: return "a date or time";
    case TomlType::array: return "an array";
    case TomlType::table: return "a table";
  }
  return "";
}

TomlNode convert(const toml::node& from) {
  TomlNode node;
  node.line = std::max(1U, from.source().begin.line);
  if (const auto* text = from.as_string()) {
    node.type = TomlType::text;
    node.text = text->get();
  } else if (const auto* integer = from.as_integer()) {
    node.type = TomlType::integer;
    node.integer = integer->get();
    node.number = static_cast<double>(integer->get());
  } else if (const auto* number = from.as_floating_point()) {
    node.type = TomlType::number;
    node.number = number->get();
  } else if (const auto* flag = from.as_boolean()) {
    node.type = TomlType::flag;
    node.flag = flag->get();
  } else if (const auto* array = from.as_array()) {
    node.type = TomlType::array;
    for (const auto& element : *array) node.elements.push_back(convert(element));
  } else if (const auto* table = from.as_table()) {
    for (const auto& [key, value] : *table) {
      node.entries.push_back(convert(value));
      node.entries.back().key = key.str();
    }
  } else {
    node.type = TomlType::time;
  }
  return node;
}

// How many letters must be changed, added, left out or exchanged with their neighbour to make one word of the other.
std::size_t distance(std::string_view a, std::string_view b) {
  const std::size_t width = b.size() + 1;
  std::vector<std::size_t> cost((a.size() + 1) * width);
  const auto at = [&](std::size_t i, std::size_t j) -> std::size_t& { return cost[i * width + j]; };
  for (std::size_t i = 0; i <= a.size(); ++i) {
    for (std::size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        at(i, j) = i + j;
        continue;
      }
      at(i, j) = std::min({at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        at(i, j) = std::min(at(i, j), at(i - 2, j - 2) + 1);
    }
  }
  return at(a.size(), b.size());
}

std::string hint_for(std::string_view key, const std::vector<std::string>& known) {
  if (known.empty()) return "nothing may stand here";
  if (key.size() > 100) return fmt::format("there are {}", fmt::join(known, ", "));
  const auto nearest = std::ranges::min_element(known, {}, [&](const auto& name) { return distance(key, name); });
  if (distance(key, *nearest) <= std::max<std::size_t>(1, key.size() / 2)) return fmt::format("is {} meant?", *nearest);
  return fmt::format("there are {}", fmt::join(known, ", "));
}

void note_unknown(TomlDocument& document, const TomlNode& table) {
  for (const auto& value : table.entries) {
    if (std::ranges::find(table.known, value.key) == table.known.end()) {
      const std::string_view what = value.type == TomlType::table ? "table" : "key";
      document.note(TomlDocument::wrong, value.line, fmt::format("there is no {} {}", what, value.key),
                    hint_for(value.key, table.known));
      continue;
    }
    if (value.type == TomlType::table) note_unknown(document, value);
    for (const auto& element : value.elements)
      if (element.type == TomlType::table) note_unknown(document, element);
  }
}

// What the parser says, without what it was about; and what would be right, where that can be told.
Error syntax_error(const std::string& path, const toml::parse_error& error) {
  const std::string_view why = error.description();
  const auto says = [&](std::string_view words) { return why.find(words) != std::string_view::npos; };
  const std::string_view hint = says("redefine")                         ? "leave one of the two out"
                                : says("determine value type")           ? "text stands in quotes: key = \"text\""
                                : says("expected digit")                 ? "with a unit it is text, in quotes: \"10s\""
                                : says("end-of-file")                    ? "what is opened is closed: \"…\", […], {…}"
                                                                         : "key = value, [table] or [[table]]";
  return fail(Error::Kind::usage, fmt::format("{}:{}", path, std::max(1U, error.source().begin.line)), "{}", why)
      .hint("{}", hint)
      .error();
}

// How many bytes the character at the front has: 0 for what TOML knows no such character of, a control character for
// instance. toml++ 3.3 runs into assertions of its own at some of them.
std::size_t character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const unsigned first = byte(0);
  if (first < 0x80) return (first >= ' ' && first != 0x7F) || first == '\t' || first == '\n' || first == '\r' ? 1 : 0;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  std::uint32_t value = first & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    value = value << 6 | (byte(i) & 0x3F);
  }
  constexpr std::array<std::uint32_t, 5> least = {0, 0, 0x80, 0x800, 0x10000};  // of a length: else a shorter one does
  const bool is_surrogate = value >= 0xD800 && value < 0xE000;
  return first < 0xF8 && value >= least[length] && value <= 0x10FFFF && !is_surrogate ? length : 0;
}

Result<void> check_characters(std::string_view text, const std::string& path) {
  for (unsigned line = 1; !text.empty();) {
    const std::size_t length = character(text);
    if (length == 0)
      return fail(Error::Kind::usage, fmt::format("{}:{}", path, line), "there is a byte that is no text: {:#04x}",
                  static_cast<unsigned char>(text.front()))
          .hint("a configuration file is UTF-8");
    if (text.front() == '\n') ++line;
    text.remove_prefix(length);
  }
  return {};
}

}  // namespace

Result<TomlFile> TomlFile::read(const std::string& path) {
  const auto refused = [&](int os) { return fail(os, "read {}", path).hint("the path of a configuration file"); };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), std::fclose);
  if (file == nullptr) return refused(errno);
  std::string text;
  std::array<char, 4096> part;
  for (std::size_t n = 0; (n = std::fread(part.data(), 1, part.size(), file.get())) > 0;) text.append(part.data(), n);
  if (std::ferror(file.get()) != 0) return refused(errno);
  return parse(text, path);
}

Result<TomlFile> TomlFile::parse(std::string_view text, std::string path) {
  if (auto ok = check_characters(text, path); !ok) return std::unexpected(std::move(ok.error()));
  auto document = std::make_shared<TomlDocument>();
  try {
    document->root = convert(toml::parse(text, std::string_view(path)));
  } catch (const toml::parse_error& error) {
    return std::unexpected(syntax_error(path, error));
  }
  document->path = std::move(path);
  TomlNode* const root = &document->root;
  return TomlFile(TomlTable(std::move(document), root));
}

Result<void> TomlFile::finish() const {
  note_unknown(*root_.document_, root_.document_->root);
  if (const auto& mistake = root_.document_->mistake) return std::unexpected(mistake->error);
  return {};
}

TomlNode* TomlTable::find(std::string_view key) const {
  if (node_ == nullptr) return nullptr;
  const auto found = std::ranges::find(node_->entries, key, &TomlNode::key);
  return found == node_->entries.end() ? nullptr : &*found;
}

TomlNode* TomlTable::ask(std::string_view key) {
  if (node_ != nullptr && std::ranges::find(node_->known, key) == node_->known.end()) node_->known.emplace_back(key);
  return find(key);
}

bool TomlTable::has(std::string_view key) { return ask(key) != nullptr; }

void TomlTable::refuse(std::string_view key, std::string_view why, std::string_view hint, std::size_t element) {
  if (node_ == nullptr) return;
  const TomlNode* node = key.empty() ? nullptr : find(key);
  if (node == nullptr) node = node_;
  if (element < node->elements.size()) node = &node->elements[element];
  document_->note(TomlDocument::wrong, node->line, key.empty() ? std::string(why) : fmt::format("{} {}", key, why), hint);
}

std::string TomlTable::where(std::string_view key) const {
  const TomlNode* const node = key.empty() ? node_ : find(key);
  return document_->at(node != nullptr ? node->line : node_ != nullptr ? node_->line : 1);
}

std::vector<std::string> TomlTable::keys() const {
  std::vector<std::string> all;
  if (node_ != nullptr)
    for (const auto& value : node_->entries) all.push_back(value.key);
  return all;
}

void TomlTable::missing(std::string_view key, std::string_view example) {
  if (node_ != nullptr)
    document_->note(TomlDocument::absent, node_->line, fmt::format("{} is missing", key), example);
}

// --- values ---

std::string TomlTable::text(std::string_view key, std::string_view otherwise) {
  const TomlNode* const node = ask(key);
  if (node == nullptr) return std::string(otherwise);
  if (node->type == TomlType::text) return node->text;
  refuse(key, fmt::format("is {}, not text", name(node->type)), "in quotes");
  return std::string(otherwise);
}

std::string TomlTable::word(std::string_view key) {
  const TomlNode* const node = ask(key);
  return node != nullptr && node->type == TomlType::integer ? std::to_string(node->integer) : text(key);
}

std::int64_t TomlTable::integer(std::string_view key, std::int64_t otherwise, std::int64_t least, std::int64_t most) {
  const TomlNode* const node = ask(key);
  if (node == nullptr) return otherwise;
  const auto range = fmt::format("{} to {}", least, most);
  if (node->type != TomlType::integer)
    refuse(key, fmt::format("is {}, not an integer", name(node->type)), range);
  else if (node->integer < least || node->integer > most)
    refuse(key, fmt::format("is {}, out of range", node->integer), range);
  else
    return node->integer;
  return otherwise;
}

double TomlTable::number(std::string_view key, double otherwise, double least, double most) {
  const TomlNode* const node = ask(key);
  if (node == nullptr) return otherwise;
  const auto range = fmt::format("{} to {}", least, most);
  if (node->type != TomlType::integer && node->type != TomlType::number)
    refuse(key, fmt::format("is {}, not a number", name(node->type)), range);
  else if (!(node->number >= least && node->number <= most))  // nan is in no range
    refuse(key, fmt::format("is {}, out of range", node->number), range);
  else
    return node->number;
  return otherwise;
}

bool TomlTable::flag(std::string_view key, bool otherwise) {
  const TomlNode* const node = ask(key);
  if (node == nullptr) return otherwise;
  if (node->type == TomlType::flag) return node->flag;
  refuse(key, fmt::format("is {}, not true or false", name(node->type)), fmt::format("{} = true, without quotes", key));
  return otherwise;
}

std::uint64_t TomlTable::count(std::string_view key, std::uint64_t otherwise, std::uint64_t least, std::uint64_t most) {
  const TomlNode* const node = ask(key);
  if (node == nullptr) return otherwise;
  const auto range = fmt::format("{} to {}, or text such as \"64Ki\"", least, most);
  std::optional<std::uint64_t> value;
  if (node->type == TomlType::integer && node->integer >= 0) value = static_cast<std::uint64_t>(node->integer);
  if (node->type == TomlType::text) value = parse_count(node->text);
  if (!value && node->type != TomlType::integer)
    refuse(key, node->type == TomlType::text ? fmt::format("is \"{}\", not a number", node->text)
                                             : fmt::format("is {}, not an integer", name(node->type)), range);
  else if (!value || *value < least || *value > most)
    refuse(key, "is out of range", range);
  else
    return *value;
  return otherwise;
}

std::chrono::nanoseconds TomlTable::duration(std::string_view key, std::chrono::nanoseconds otherwise,
                                             std::chrono::nanoseconds least, std::chrono::nanoseconds most) {
  using seconds = std::chrono::duration<double>;
  const TomlNode* const node = ask(key);
  if (node == nullptr) return otherwise;
  const auto range = fmt::format("\"{}s\" to \"{}s\"", seconds(least).count(), seconds(most).count());
  std::optional<std::chrono::nanoseconds> value;
  if (node->type == TomlType::text) value = parse_duration(node->text);
  if ((node->type == TomlType::integer || node->type == TomlType::number) && std::abs(node->number) < 9.2e9)
    value = std::chrono::nanoseconds(std::llround(node->number * 1e9));
  const bool has_type = node->type == TomlType::text || node->type == TomlType::integer || node->type == TomlType::number;
  if (!has_type || (!value && node->type == TomlType::text))
    refuse(key, has_type ? fmt::format("is \"{}\", not a time", node->text) : fmt::format("is {}, not a time", name(node->type)),
           range);
  else if (!value || *value < least || *value > most)
    refuse(key, "is out of range", range);
  else
    return *value;
  return otherwise;
}

std::string TomlTable::choice(std::string_view key, std::initializer_list<std::string_view> values) {
  const std::string value = text(key, *values.begin());
  if (std::ranges::find(values, value) != values.end()) return value;
  refuse(key, fmt::format("is \"{}\"", value), fmt::format("\"{}\"", fmt::join(values, "\" or \"")));
  return std::string(*values.begin());
}

std::vector<std::string> TomlTable::texts(std::string_view key) {
  const TomlNode* const node = ask(key);
  std::vector<std::string> all;
  if (node == nullptr) return all;
  const auto take = [&](const TomlNode& element, std::size_t i) {
    if (element.type == TomlType::text)
      all.push_back(element.text);
    else
      refuse(key, fmt::format("holds {}, not text", name(element.type)), "[\"one\", \"another\"]", i);
  };
  if (node->type != TomlType::array) take(*node, SIZE_MAX);
  for (std::size_t i = 0; i < node->elements.size(); ++i) take(node->elements[i], i);
  return all;
}

std::vector<std::int64_t> TomlTable::integers(std::string_view key, std::int64_t least, std::int64_t most) {
  const TomlNode* const node = ask(key);
  std::vector<std::int64_t> all;
  if (node == nullptr) return all;
  const auto take = [&](const TomlNode& element, std::size_t i) {
    const auto range = fmt::format("{} to {}", least, most);
    if (element.type != TomlType::integer)
      refuse(key, fmt::format("holds {}, not an integer", name(element.type)), range, i);
    else if (element.integer < least || element.integer > most)
      refuse(key, fmt::format("holds {}, out of range", element.integer), range, i);
    else
      all.push_back(element.integer);
  };
  if (node->type != TomlType::array) take(*node, SIZE_MAX);
  for (std::size_t i = 0; i < node->elements.size(); ++i) take(node->elements[i], i);
  return all;
}

TomlTable TomlTable::table(std::string_view key) {
  TomlNode* const node = ask(key);
  if (node != nullptr && node->type != TomlType::table) {
    refuse(key, fmt::format("is {}, not a table", name(node->type)), fmt::format("[{}]", key));
    return {document_, nullptr};
  }
  return {document_, node};
}

std::vector<TomlTable> TomlTable::tables(std::string_view key) {
  TomlNode* const node = ask(key);
  std::vector<TomlTable> all;
  if (node == nullptr) return all;
  const auto hint = fmt::format("[[{}]], once for each", key);
  if (node->type != TomlType::array) {
    refuse(key, fmt::format("is {}, not an array of tables", name(node->type)), hint);
    return all;
  }
  for (std::size_t i = 0; i < node->elements.size(); ++i) {
    if (node->elements[i].type == TomlType::table)
      all.push_back({document_, &node->elements[i]});
    else
      refuse(key, fmt::format("holds {}, not a table", name(node->elements[i].type)), hint, i);
  }
  return all;
}

std::string TomlTable::need_text(std::string_view key, std::string_view example) {
  if (ask(key) == nullptr) missing(key, fmt::format("{} = {}", key, example));
  return text(key);
}

TomlTable TomlTable::need_table(std::string_view key) {
  if (ask(key) == nullptr) missing(fmt::format("[{}]", key), fmt::format("a table [{}]", key));
  return table(key);
}

}  // namespace efio::tools
