// What stands behind a plugin's name: ARGUMENT?key=value&key=value, as in a port's.
// Internal: for the ready plugins.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "efio/fail.h"
#include "efio/result.h"
#include "efio/uri.h"

namespace efnet {

class PluginArguments {
 public:
  static efio::Result<PluginArguments> parse(std::string_view plugin, std::string_view text) {
    const bool has_none = text.empty() || text.starts_with('?');
    // A URI has a name; where the argument is left out, this is one.
    auto uri = efio::Uri::parse("plugin:" + std::string(has_none ? "-" : "") + std::string(text));
    PluginArguments arguments(plugin, text);
    if (!uri) return std::unexpected(arguments.told(std::move(uri.error())));
    arguments.argument_ = has_none ? "" : uri->name();
    arguments.uri_ = std::move(*uri);
    return arguments;
  }

  const std::string& argument() const noexcept { return argument_; }
  efio::Uri& options() noexcept { return uri_; }

  efio::Result<void> finish() const {
    auto result = uri_.finish();
    if (!result) return std::unexpected(told(std::move(result.error())));
    return {};
  }

  template <class... Args>
  efio::Failure refuse(fmt::format_string<Args...> why, Args&&... args) const {
    return efio::fail(efio::Error::Kind::usage, attempted_, why, std::forward<Args>(args)...);
  }

 private:
  PluginArguments(std::string_view plugin, std::string_view text)
      : attempted_(fmt::format("plugin {}{}{}", plugin, text.empty() ? "" : ":", text)) {}
  efio::Error told(efio::Error error) const {
    error.attempted = attempted_;
    return error;
  }

  std::string attempted_, argument_;
  efio::Uri uri_ = *efio::Uri::parse("plugin:-");
};

// The parts of "A,B,C"; none of "".
inline std::vector<std::string_view> split_list(std::string_view text) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const auto comma = text.find(',');
    parts.push_back(text.substr(0, comma));
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return parts;
}

}  // namespace efnet
