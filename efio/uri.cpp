#include "efio/uri.h"

#include <algorithm>

#include "efio/fail.h"
#include "efio/text.h"

namespace efio {

namespace {

constexpr std::size_t longest = 4096;

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// "%d", where the kernel puts a number into an interface's name, unless it could be a byte.
bool is_number_mark(std::string_view rest) noexcept {
  return rest.starts_with("%d") && (rest.size() == 2 || hex_digit(rest[2]) < 0);
}

std::optional<std::string> decode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%' || is_number_mark(text.substr(i))) {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0 || high + low == 0) return std::nullopt;  // %00 would end a C string early
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

bool is_scheme(std::string_view text) noexcept {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); });
}

Failure bad(std::string_view uri, std::string why) {
  return {Error::Kind::usage, 0, fmt::format("open {}", uri.substr(0, 100)), std::move(why)};
}

}  // namespace

Result<Uri> Uri::parse(std::string_view text) {
  if (text.empty()) return bad("\"\"", "empty port name").hint("scheme:name?key=value, as packet:eth0");
  if (text.size() > longest) return bad(text, fmt::format("a name of {} bytes", text.size())).hint("at most {}", longest);
  if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }))
    return bad("port", "a control character in its name").hint("write it as %XX");

  Uri uri;
  uri.text_ = text;
  std::string_view rest = text;
  const auto colon = text.find(':');
  const auto scheme = text.substr(0, colon == std::string_view::npos ? 0 : colon);
  if (scheme.starts_with("vale") && is_scheme(scheme)) {
    uri.scheme_ = "netmap";
  } else if (is_scheme(scheme)) {
    uri.scheme_ = scheme;
    rest.remove_prefix(colon + 1);
  } else {
    uri.scheme_ = "auto";
  }

  std::string_view options;
  if (uri.scheme_ == "sim") {
    const auto at = rest.find('@');
    if (at == std::string_view::npos || at + 1 == rest.size())
      return bad(text, "no port behind it").hint("sim:loss=0.001&seed=7@packet:eth0");
    options = rest.substr(0, at);
    uri.inner_ = rest.substr(at + 1);
    uri.name_ = uri.inner_;
  } else {
    const auto question = rest.find('?');
    if (question != std::string_view::npos) options = rest.substr(question + 1);
    auto name = decode(rest.substr(0, question));
    if (!name) return bad(text, "a % without two hexadecimal digits").hint("write % as %25");
    if (name->empty()) return bad(text, "no name behind the scheme").hint("{}:NAME", uri.scheme_);
    uri.name_ = std::move(*name);
  }

  while (!options.empty()) {
    const auto end = std::min(options.find('&'), options.size());
    const auto option = options.substr(0, end);
    options.remove_prefix(std::min(end + 1, options.size()));
    const auto equals = option.find('=');
    if (equals == 0 || equals == std::string_view::npos)
      return bad(text, fmt::format("option \"{}\" has no {}", option, equals == 0 ? "name" : "value")).hint("key=value");
    const auto key = option.substr(0, equals);
    auto value = decode(option.substr(equals + 1));
    if (!value) return bad(text, fmt::format("option {}: a % without two hexadecimal digits", key)).hint("write % as %25");
    if (std::ranges::find(uri.options_, key, &std::pair<std::string, std::string>::first) != uri.options_.end())
      return bad(text, fmt::format("option {} stands twice", key));
    uri.options_.emplace_back(key, std::move(*value));
  }
  return uri;
}

std::optional<std::string_view> Uri::find(std::string_view key) {
  if (std::ranges::find(known_, key) == known_.end()) known_.emplace_back(key);
  for (const auto& [name, value] : options_)
    if (name == key) return value;
  return std::nullopt;
}

void Uri::refuse(std::string_view key, std::string_view value, std::string expected) {
  if (error_) return;
  error_ = bad(text_, fmt::format("{}={} is not possible", key, value)).hint("{}", expected).error();
}

bool Uri::has(std::string_view key) { return find(key).has_value(); }

std::string Uri::text_option(std::string_view key, std::string_view otherwise) {
  return std::string(find(key).value_or(otherwise));
}

std::uint64_t Uri::number(std::string_view key, std::uint64_t otherwise, std::uint64_t least, std::uint64_t most) {
  const auto value = find(key);
  if (!value) return otherwise;
  const auto parsed = parse_count(*value);
  if (parsed && *parsed >= least && *parsed <= most) return *parsed;
  refuse(key, *value, fmt::format("a whole number from {} to {}", least, most));
  return otherwise;
}

double Uri::fraction(std::string_view key, double otherwise, double least, double most) {
  const auto value = find(key);
  if (!value) return otherwise;
  const auto parsed = parse_fraction(*value);
  if (parsed && *parsed >= least && *parsed <= most) return *parsed;
  refuse(key, *value, fmt::format("a number from {} to {}", least, most));
  return otherwise;
}

std::chrono::nanoseconds Uri::duration(std::string_view key, std::chrono::nanoseconds otherwise,
                                       std::chrono::nanoseconds most) {
  const auto value = find(key);
  if (!value) return otherwise;
  const auto parsed = parse_duration(*value);
  if (parsed && *parsed <= most) return *parsed;
  refuse(key, *value,
         fmt::format("a time such as 200ms or 10s, at most {} s", std::chrono::duration<double>(most).count()));
  return otherwise;
}

bool Uri::flag(std::string_view key, bool otherwise) {
  const auto value = find(key);
  if (!value) return otherwise;
  if (*value == "on") return true;
  if (*value != "off") refuse(key, *value, "on or off");
  return false;
}

std::string Uri::choice(std::string_view key, std::initializer_list<std::string_view> values) {
  const auto value = find(key);
  if (!value) return std::string(*values.begin());
  if (std::ranges::find(values, *value) == values.end())
    refuse(key, *value, fmt::format("one of {}", fmt::join(values, ", ")));
  return std::string(*value);
}

Result<void> Uri::finish() const {
  if (error_) return std::unexpected(*error_);
  for (const auto& [key, value] : options_)
    if (std::ranges::find(known_, key) == known_.end())
      return bad(text_, fmt::format("there is no option {}", key))
          .hint("{}: takes {}", scheme_, known_.empty() ? "none" : fmt::format("{}", fmt::join(known_, ", ")));
  return {};
}

}  // namespace efio
